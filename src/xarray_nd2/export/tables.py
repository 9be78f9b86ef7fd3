"""Tables of an export: text with commas, in groups as ngio lays them out."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import xarray as xr

from xarray_nd2.export.documents import group_document

if TYPE_CHECKING:
    from collections.abc import Mapping

    from xarray_nd2.export.images import Images

_FRAMES_TABLE: Final = "frames"
_LABELS_OF_FRAMES: Final = (
    *("time", "acquired", "stage_x", "stage_y", "stage_z", "position_name", "well"),
    *("well_row", "well_column", "frame_valid"),
)
_OBJECT_GROUPS: Final = {"rois": "roi", "events": "event"}  # with the dimension of each


def table_documents(
    dataset: xr.Dataset, groups: Mapping[str, xr.Dataset], images: Images
) -> dict[str, bytes]:
    """The objects of all tables, by their paths.

    Parameters
    ----------
    dataset : xarray.Dataset
        The image and its labels.
    groups : mapping of str to xarray.Dataset
        What else the file has; ``recorded``, ``rois`` and ``events`` become tables.
    images : Images
        Each has a table of its frames; the others are of the root.
    """
    columns = _columns_of_frames(dataset, groups.get("recorded"))
    of_group: dict[str, dict[str, bytes]] = {}
    for path, step in zip(images.paths, images.steps, strict=True):
        here = columns.isel({dim: at for dim, at in step.items() if dim in columns.dims})
        loops = [dim for dim in dataset["image"].dims if dim in ("T", "Z")]
        of_group.setdefault(path, {})[_FRAMES_TABLE] = _csv(here, [str(dim) for dim in loops])
    for name, dim in _OBJECT_GROUPS.items():
        if name in groups:
            of_group.setdefault("", {}).update(_object_tables(name, dim, groups[name]))
    documents: dict[str, bytes] = {}
    for path, tables in of_group.items():
        base = f"{path}/tables" if path else "tables"
        documents[f"{base}/zarr.json"] = group_document(attributes={"tables": list(tables)})
        for name, text in tables.items():
            attributes = {
                "type": "generic_table",
                "table_version": "1",
                "backend": "csv",
                "index_key": "index",
                "index_type": "int",
            }
            documents[f"{base}/{name}/zarr.json"] = group_document(attributes=attributes)
            documents[f"{base}/{name}/table.csv"] = text
    return documents


def _columns_of_frames(dataset: xr.Dataset, recorded: xr.Dataset | None) -> xr.Dataset:
    """What is known of each frame: its labels, and what was recorded of it."""
    loops = {dim for dim in dataset["image"].dims if dim not in ("C", "Y", "X", "S")}
    if "frame_valid" in dataset.coords and "C" in dataset["frame_valid"].dims:
        # A frame is there if all of its channels are.
        dataset = dataset.assign_coords(frame_valid=dataset["frame_valid"].all("C"))
    columns: dict[str, Any] = {
        str(name): (dataset[name].dims, dataset[name].values)
        for name in (*sorted(map(str, loops & set(dataset.coords))), *_LABELS_OF_FRAMES)
        if name in dataset.coords and set(dataset[name].dims) <= loops
    }
    sizes = dataset["image"].sizes
    for name, column in {} if recorded is None else recorded.data_vars.items():
        if all(sizes.get(dim) == size for dim, size in column.sizes.items()):
            columns.setdefault(str(name), (column.dims, column.values))
    numbered = {f"{str(dim).lower()}_index": ((dim,), np.arange(sizes[dim])) for dim in loops}
    renamed = {f"{name}_label" if name in loops else name: each for name, each in columns.items()}
    return xr.Dataset(numbered | renamed)


def _object_tables(name: str, dim: str, group: xr.Dataset) -> dict[str, bytes]:
    """A table of objects, and one more for each of the axes that some of its values have."""
    by_dims: dict[tuple[str, ...], list[str]] = {}
    for variable, values in group.data_vars.items():
        by_dims.setdefault(tuple(map(str, values.dims)), []).append(str(variable))
    tables = {}
    for dims, variables in by_dims.items():
        if dim in dims:
            parts = [each for each in dims if each != dim]
            found = group[variables].reset_coords()
            kept = found[[v for v in found.data_vars if set(found[v].dims) <= set(dims)]]
            tables["_".join([name, *parts])] = _csv(kept, list(dims), drop_empty=bool(parts))
    return tables


def _csv(dataset: xr.Dataset, dims: list[str], *, drop_empty: bool = False) -> bytes:
    """A row for each place along some dimensions, with numbers of rows as the index."""
    import pandas as pd

    sizes = {dim: dataset.sizes[dim] for dim in dims}
    count = math.prod(sizes.values())
    rows = {
        str(name): values.variable.set_dims(sizes).transpose(*dims).values.ravel()
        for name, values in dataset.data_vars.items()
        if set(values.dims) <= set(dims)
    }
    if not any(name.endswith("_index") for name in rows):
        places = np.indices(tuple(sizes.values())).reshape(len(sizes), count)
        rows = {f"{dim}_index": along for dim, along in zip(sizes, places, strict=True)} | rows
    frame = pd.DataFrame(rows, index=pd.RangeIndex(count, name="index"))
    if drop_empty:
        told = [name for name in rows if not name.endswith("_index")]
        frame = frame.dropna(subset=told, how="all").reset_index(drop=True)
        frame.index.name = "index"
    text: str = frame.to_csv(date_format="%Y-%m-%dT%H:%M:%S.%fZ", lineterminator="\n")
    return text.encode()
