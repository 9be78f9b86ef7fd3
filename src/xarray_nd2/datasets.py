"""From what was opened to the datasets of xarray: the image, the root, and the groups."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import xarray as xr
from xarray.core import indexing

from xarray_nd2.array import ND2BackendArray
from xarray_nd2.format.layout import MISSING_OFFSET, FrameLayout
from xarray_nd2.format.mask_planes import MaskPlanes
from xarray_nd2.guard import REGIONS_ARE_SLOW, going_on_without, warn_user
from xarray_nd2.io.urls import file_name
from xarray_nd2.mask_array import ND2MaskArray
from xarray_nd2.read.blocks import preferred_blocks

if TYPE_CHECKING:
    from xarray_nd2.metadata.group import Group
    from xarray_nd2.metadata.label import Coordinate
    from xarray_nd2.open.opening import OpenedFile

MissingFrames = Literal["zeros", "raise"]


@dataclass(frozen=True)
class ReadOptions:
    """How pixels are read, as `ND2BackendArray` takes it."""

    max_gap: int | None
    max_concurrency: int
    missing_frames: MissingFrames


def image_dataset(opened: OpenedFile, options: ReadOptions) -> xr.Dataset:
    """The image under its labels, with the attributes of the file.

    Warns
    -----
    UserWarning
        Frames are missing, the file was rescued, or some of its metadata is odd.
    """
    layout, metadata = opened.layout, opened.metadata
    coordinates = metadata.coordinates | _validity(opened, options, layout, "frames")
    if opened.rescued:
        warn_user(f"{opened.source.name}: {opened.rescued}")
    if opened.oddities:
        warn_user(f"{opened.source.name}: some of the metadata is odd: {opened.oddities}")
    image = (layout.dims, layout, metadata.image_attrs)
    return _dataset(opened, options, {"image": image}, coordinates, file_attrs(opened))


def root_dataset(opened: OpenedFile, options: ReadOptions) -> xr.Dataset:
    """The attributes of the file and nothing else."""
    return _dataset(opened, options, {}, {}, file_attrs(opened))


def group_dataset(opened: OpenedFile, options: ReadOptions, name: str, group: Group) -> xr.Dataset:
    """A group; what of it is not read on demand is in memory.

    Warns
    -----
    UserWarning
        Some of it is odd, or frames of it are missing.
    """
    if group.oddities:
        warn_user(f"{opened.source.name}: some of the group {name} is odd: {group.oddities}")
    coordinates = dict(group.coordinates)
    for _, values, _ in group.variables.values():
        if isinstance(values, FrameLayout):
            coordinates |= _validity(opened, options, values, f"frames of the group {name}")
    return _dataset(opened, options, group.variables, coordinates, group.attrs)


def file_attrs(opened: OpenedFile) -> dict[str, Any]:
    """The attributes of the file."""
    name = opened.source.name
    attrs: dict[str, Any] = {
        "title": file_name(name),
        "source": name,
        "file_bytes": opened.source.size,
    }
    if opened.rescued:
        attrs["rescued"] = opened.rescued
    return attrs | opened.metadata.file_attrs


def _validity(
    opened: OpenedFile, options: ReadOptions, layout: FrameLayout, what: str
) -> dict[str, Coordinate]:
    """The coordinate that tells which frames there are, and a warning, where some are missing."""
    missing = layout.offsets.values() == MISSING_OFFSET
    if not missing.any():
        return {}
    how = "read as zeros" if options.missing_frames == "zeros" else "cannot be read"
    warn_user(
        f"{opened.source.name}: {np.count_nonzero(missing)} of {layout.frame_count} {what} are "
        f"not in the file and {how}; see the coordinate frame_valid",
    )
    dims = tuple(name for name, _ in layout.loops)
    attrs = {"long_name": "whether the file has the frame"}
    return {"frame_valid": (dims, ~missing.reshape(layout.loop_shape), attrs)}


def _dataset(
    opened: OpenedFile,
    options: ReadOptions,
    variables: dict[str, Coordinate],
    coordinates: dict[str, Coordinate],
    attrs: dict[str, Any],
) -> xr.Dataset:
    made = {name: _variable(opened, options, *given) for name, given in variables.items()}
    dataset = xr.Dataset(made, coords=coordinates, attrs=attrs)
    # Set here so that xarray does not put a signed URL there.
    dataset.encoding["source"] = opened.source.name
    return dataset


def _variable(
    opened: OpenedFile,
    options: ReadOptions,
    dims: tuple[str, ...],
    values: Any,
    attrs: dict[str, Any],
) -> xr.Variable:
    """A variable of values, or of pixels that are read on demand where they are a layout or planes."""
    if isinstance(values, MaskPlanes):
        blocks = preferred_blocks(values.grid)
        encoding = {"preferred_chunks": {dim: blocks[dim] for dim in dims}}
        masks = ND2MaskArray(opened.source, values, options.max_concurrency)
        return xr.Variable(dims, _lazy(masks), attrs, encoding)
    if not isinstance(values, FrameLayout):
        return xr.Variable(dims, values, attrs)
    array = ND2BackendArray(
        opened.source, values, options.max_gap, options.max_concurrency, options.missing_frames
    )
    encoding = {"preferred_chunks": preferred_blocks(values)}
    return xr.Variable(dims, _lazy(array), attrs, encoding)


def _lazy(array: ND2BackendArray | ND2MaskArray) -> indexing.LazilyIndexedArray:
    lazy = indexing.LazilyIndexedArray
    with going_on_without(REGIONS_ARE_SLOW):
        from xarray_nd2.lazy_chain import LazyImage as lazy  # noqa: N813
    return lazy(array)
