"""Regions of an image: a table says where they are, and they are read together."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any, Final, get_args
from uuid import uuid4

import numpy as np
import xarray as xr
from xarray.core import indexing

from xarray_nd2.lazy_chain import find_nd2_array, lazily_kept
from xarray_nd2.sampling.region_array import ImagePart, RegionsArray
from xarray_nd2.sampling.region_table import ROI_DIM, Anchor, Outside, read_table

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd
    from numpy.typing import NDArray

    from xarray_nd2.sampling.region_table import RegionTable

_BLOCK_BYTES: Final = 64 * 1024 * 1024  # of regions of an image of dask, unless told otherwise


def regions(
    image: xr.DataArray,
    table: Mapping[str, Any] | xr.Dataset | pd.DataFrame,
    size: int | Mapping[str, int],
    *,
    anchor: Anchor = "centre",
    outside: Outside = "raise",
    fill: float = 0,
    chunks: int | None = None,
) -> xr.DataArray:
    """Cut regions of one size out of an image.

    Parameters
    ----------
    image : xarray.DataArray
        With the dimensions Y and X. Of a file, as it was opened or after selections along its
        dimensions: each region is then read from its own frame, and nothing else is. Any other
        image, such as one that was computed with, is indexed by xarray.
    table : mapping, xarray.Dataset or pandas.DataFrame
        Where the regions are, one in each row: a column of whole-number positions for each of the
        image's loops (T, P, Z) that varies, and columns Y and X in pixels, which are rounded. Other
        columns become coordinates.
    size : int or mapping of str to int
        Pixels along Y and X, or for each of them; with Z too, regions are boxes.
    anchor : {"centre", "corner"}
        What of a region is at its position: with "centre" it starts ``size // 2`` before, with
        "corner" there.
    outside : {"raise", "pad"}
        What to do with a region that does not lie wholly inside the image along Y, X or the Z of a
        box: refuse the table, or fill. A position outside along any other dimension is refused.
    fill : scalar, default 0
        For what lies outside.
    chunks : int, optional
        Regions of one block of a dask array. Each block is one plan, read where it is needed.
        Without it the regions of a lazy image stay lazy, and those of a dask array are in blocks of
        about 64 MB.

    Returns
    -------
    xarray.DataArray
        With the dimensions ``roi``, then Z of boxes, C, Y, X and S, as far as the image has them;
        dtype as stored. Along ``roi`` are the labels of the table and those of the image at each
        region (T, P, time, …), and ``centre_Y`` and ``centre_X``: where its pixel ``size // 2`` is,
        µm. Y, X and the Z of a box are offsets from the anchor, µm.

    Raises
    ------
    KeyError
        The table lacks a column.
    ValueError
        A region lies outside, or a keyword or the table is not what it may be; the row is named.
    TypeError
        The table or the image is of another kind.

    Examples
    --------
    >>> import numpy as np
    >>> import xarray as xr
    >>> image = xr.DataArray(np.arange(48).reshape(2, 4, 6), dims=("T", "Y", "X"))
    >>> regions(image, {"T": [0, 1], "Y": [1, 2], "X": [1, 3]}, 2).values.tolist()
    [[[0, 1], [6, 7]], [[32, 33], [38, 39]]]
    """
    if not isinstance(image, xr.DataArray):
        raise TypeError(f"image must be a DataArray, not {type(image).__name__}")
    if lacking := {"Y", "X"} - set(image.dims):
        raise ValueError(f"the image has no dimension {sorted(lacking)}: it has {image.dims}")
    if anchor not in get_args(Anchor):
        raise ValueError(f"anchor must be 'centre' or 'corner', not {anchor!r}")
    if outside not in get_args(Outside):
        raise ValueError(f"outside must be 'raise' or 'pad', not {outside!r}")
    if chunks is not None and (isinstance(chunks, bool) or operator.index(chunks) < 1):
        raise ValueError(f"chunks must be a number of regions, not {chunks!r}")
    filled = _fill_of(fill, image.dtype)
    sizes = {str(dim): image.sizes[dim] for dim in image.dims}
    read = read_table(table, size, sizes, anchor, outside)
    part = _part_of_file(image)
    if part is None:
        cut = _cut_by_xarray(image, read, filled)
        cut = cut if chunks is None else cut.chunk({ROI_DIM: chunks})
    else:
        array = RegionsArray(part, read, filled)
        if chunks is None and image.chunks is not None:
            chunks = max(1, _BLOCK_BYTES // max(1, array.nbytes_of_region))
        data = lazily_kept(array) if chunks is None else _in_blocks(array, chunks)
        cut = xr.DataArray(xr.Variable(array.dims, data))
    cut = cut.assign_coords(_labels(image, read, anchor))
    cut.attrs, cut.name = image.attrs, image.name
    return cut


def _fill_of(fill: Any, dtype: np.dtype[Any]) -> Any:
    """What is filled with, in the type of the image."""
    if np.ndim(fill) or np.asarray(fill).dtype.kind not in "biuf":
        raise TypeError(f"fill must be a number, not {fill!r}")
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        if not limits.min <= fill <= limits.max or fill != int(fill):
            raise ValueError(f"the image of {dtype} cannot be filled with {fill}")
    return np.asarray(fill).astype(dtype)[()]


def _part_of_file(image: xr.DataArray) -> ImagePart | None:
    """The part of a file's image that this is; None if it is not only that, under the file's names."""
    if image.chunks is not None:
        from xarray_nd2.dask.selected import selection_of

        found = selection_of(image.data)
        if found is None:
            return None
        array, positions, axes = found
        held = dict(zip(array.dims, positions, strict=True))
        kept = [array.dims[axis] for axis in axes]
    else:
        lazy = find_nd2_array(image)
        if lazy is None or lazy[1] is None or isinstance(lazy[1], indexing.VectorizedIndexer):
            return None
        array, key = lazy
        assert key is not None
        held = {
            dim: int(part) if isinstance(part, (int, np.integer)) else np.arange(size)[part]
            for dim, part, size in zip(array.dims, key.tuple, array.shape, strict=True)
        }
        kept = [dim for dim, along in held.items() if not isinstance(along, int)]
    return ImagePart(array, held) if kept == list(image.dims) else None


def _in_blocks(array: RegionsArray, count: int) -> Any:
    """A dask array with so many regions in each block, which hold their part of the table alone."""
    import dask.array as da
    from dask.base import tokenize

    table, image = array.table, array.part.array
    layout = image.layout
    name = tokenize(
        array.source.identity or uuid4().hex,
        # Which image of the file it is, or level.
        *(
            layout.dims,
            layout.shape,
            layout.offsets.first,
            layout.offsets.start,
            layout.offsets.step,
        ),
        *(array.part.positions, table.loops, table.first, table.size, str(array.fill), count),
        *(image.missing_frames, image.max_gap, image.max_concurrency, repr(image.keeping)),
    )
    blocks = []
    for start in range(0, table.count, count) or [0]:
        block = array.of_rows(slice(start, start + count))
        lazy = xr.Variable(array.dims, indexing.LazilyIndexedArray(block))
        blocks.append(lazy.chunk(name=f"regions-{name}-{start}", inline_array=True).data)
    return da.concatenate(blocks)


def _cut_by_xarray(image: xr.DataArray, table: RegionTable, fill: Any) -> xr.DataArray:
    """Regions of any image, as xarray indexes it."""
    key = {dim: xr.Variable(ROI_DIM, positions) for dim, positions in table.loops.items()}
    valid: Any = True
    for dim, size in table.size.items():
        at = np.add.outer(table.first[dim], np.arange(size))
        there = (at >= 0) & (at < image.sizes[dim])
        key[dim] = xr.Variable((ROI_DIM, f"{dim}_of_region"), np.where(there, at, 0))
        valid = valid & xr.Variable(key[dim].dims, there)
    cut = xr.DataArray(image.variable).isel(key)
    if not valid.values.all():
        cut = xr.where(xr.DataArray(valid), cut, fill).astype(image.dtype)
    cut = cut.rename({f"{dim}_of_region": dim for dim in table.size})
    order = (ROI_DIM, *(dim for dim in ("Z", "C", "Y", "X", "S") if dim in cut.dims))
    return cut.transpose(*order, ...)


def _labels(image: xr.DataArray, table: RegionTable, anchor: Anchor) -> dict[str, Any]:
    """Coordinates of the regions."""
    labels: dict[str, Any] = {}
    along_roi = {dim: xr.Variable(ROI_DIM, positions) for dim, positions in table.loops.items()}
    if "Z" in table.size:
        labels |= _labels_of_planes(image, table, along_roi)
    for name, coordinate in image.coords.items():
        dims = set(coordinate.dims)
        if dims & set(table.size):
            continue  # these are offsets, below
        variable = coordinate.variable.isel({d: p for d, p in along_roi.items() if d in dims})
        labels[str(name)] = variable.to_base_variable()
    for dim, size in table.size.items():
        step, units = _step(image, dim)
        before = size // 2 if anchor == "centre" else 0
        attrs = {"long_name": f"{dim} from the {anchor} of the region"} | units
        labels[dim] = xr.Variable(dim, (np.arange(size) - before) * step, attrs)
        centre = _extrapolated(image, dim, table.first[dim] + size // 2, step)
        attrs = {"long_name": f"{dim} of the centre of the region"} | units
        labels[f"centre_{dim}"] = xr.Variable(ROI_DIM, centre, attrs)
    index = np.arange(table.count) if table.index is None else table.index
    labels[ROI_DIM] = xr.Variable(ROI_DIM, index)
    for name, column in table.others.items():
        if name in labels:
            raise ValueError(
                f"the column {name!r} has the name of a label that the regions have: call it otherwise"
            )
        labels[name] = xr.Variable(ROI_DIM, column)
    return labels


def _labels_of_planes(
    image: xr.DataArray, table: RegionTable, along_roi: Mapping[str, xr.Variable]
) -> dict[str, xr.Variable]:
    """Labels of each plane of boxes, such as heights; without a value outside of the image."""
    planes = np.add.outer(table.first["Z"], np.arange(table.size["Z"]))
    there = (planes >= 0) & (planes < image.sizes["Z"])
    key = {**along_roi, "Z": xr.Variable((ROI_DIM, "Z"), np.where(there, planes, 0))}
    found: dict[str, xr.Variable] = {}
    for name, coordinate in image.coords.items():
        if "Z" not in coordinate.dims or name == "Z" or {"Y", "X"} & set(coordinate.dims):
            continue
        used = {dim: positions for dim, positions in key.items() if dim in coordinate.dims}
        variable = coordinate.variable.isel(used)
        if there.all():
            found[str(name)] = variable
            continue
        nothing = {"f": np.nan, "M": np.datetime64("NaT"), "b": False}.get(variable.dtype.kind)
        if nothing is not None:
            mask = xr.Variable((ROI_DIM, "Z"), there)
            found[str(name)] = variable.where(mask, nothing).astype(variable.dtype)
    return found


def _step(image: xr.DataArray, dim: str) -> tuple[float, dict[str, Any]]:
    """Distance of positions along a dimension, and its units; in positions where labels tell none."""
    if dim not in image.coords:
        return 1, {"units": "1"}
    labels = image[dim].values.astype(np.float64)
    units = {"units": image[dim].attrs["units"]} if "units" in image[dim].attrs else {}
    if len(labels) > 1:
        step = float(labels[-1] - labels[0]) / (len(labels) - 1)
        even = np.allclose(np.diff(labels), step, rtol=1e-3, atol=0)
        return (step, units) if even else (1, {"units": "1"})
    sizes = dict(zip("YX", image.attrs.get("pixel_size_um", ()), strict=False))
    return (sizes[dim], units) if dim in sizes else (1, {"units": "1"})


def _extrapolated(
    image: xr.DataArray, dim: str, positions: NDArray[np.int64], step: float
) -> NDArray[np.float64]:
    """Labels at some positions, which may lie outside."""
    if dim not in image.coords:
        return positions.astype(np.float64)
    labels = image[dim].values.astype(np.float64)
    inside = np.clip(positions, 0, len(labels) - 1)
    beyond: NDArray[np.float64] = labels[inside] + (positions - inside) * step
    return beyond
