"""From the bytes of a range to the pixels of the result.

Uncompressed pixels are never converted on the way: a strided view is laid over the bytes, padding
and unwanted components and columns are stepped over, and what remains is copied to its place.
"""

from __future__ import annotations

import zlib
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from xarray_nd2.errors import ND2FormatError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from xarray_nd2._plan import ReadPlan

    Bytes = bytes | bytearray | memoryview


def decode_range(plan: ReadPlan, pixels: NDArray[Any], index: int, data: Bytes) -> None:
    """Write the pixels that one fetched range holds into the result.

    Parameters
    ----------
    plan : ReadPlan
        Of the read.
    pixels : ndarray, shape `plan.selection.shape`
        Where to write; every range writes its own part, so threads may share it.
    index : int
        Number of the range in the plan.
    data : bytes-like
        Its bytes.

    Raises
    ------
    ND2FormatError
        A compressed frame does not inflate to its pixels.
    """
    data = memoryview(data)
    base = int(plan.starts[index])
    first, last = int(plan.first_strip[index]), int(plan.first_strip[index + 1])
    if plan.layout.compression != "none":
        # Strips of one frame have one stream; it is inflated once.
        bounds = np.flatnonzero(np.diff(plan.strips.start[first:last], prepend=-1, append=-1))
        for begin, end in pairwise((first + bounds).tolist()):
            stream = data[
                int(plan.strips.start[begin]) - base : int(plan.strips.stop[begin]) - base
            ]
            _decode_lossless(plan, begin, end, stream, pixels)
    elif last - first > 1 and _is_regular(plan, first, last):
        _copy_strips(plan, first, last - first, data, base, pixels)
    else:
        for strip in range(first, last):
            _copy_strips(plan, strip, 1, data, base, pixels)


def _is_regular(plan: ReadPlan, first: int, last: int) -> bool:
    """Whether the strips are the same part of consecutive tiles at equal distances."""
    if not plan.selection.shared_window:
        return False
    strips = plan.strips
    same = (strips.row0, strips.row1, strips.col0, strips.col1)
    return bool(
        (np.diff(strips.tile[first:last]) == 1).all()
        and all((part[first:last] == part[first]).all() for part in same)
        and (np.diff(strips.start[first:last], n=2) == 0).all()
    )


def _copy_strips(
    plan: ReadPlan, first: int, count: int, data: memoryview, base: int, pixels: NDArray[Any]
) -> None:
    """Copy `count` regular strips, the first being number `first`."""
    start = plan.strips.start
    step = int(start[first + 1] - start[first]) if count > 1 else 0
    view, place = _window(plan, first, data, int(start[first]) - base, count, step)
    pixels[place] = view


def _decode_lossless(
    plan: ReadPlan, first: int, last: int, data: memoryview, pixels: NDArray[Any]
) -> None:
    """Inflate one frame and copy the windows of the tiles that come from it."""
    layout, selection = plan.layout, plan.selection
    tiles = plan.strips.tile[first:last]
    windows = [0] if selection.shared_window else tiles
    lowest, rightmost = selection.rows[windows].max(), selection.cols[windows].max()
    needed = int(lowest * layout.row_stride + (rightmost + 1) * layout.pixel_size)
    frame = int(selection.frames[tiles[0]])
    try:
        # Inflating stops at the last pixel that is needed, and a bomb never gets past it.
        inflated = zlib.decompressobj().decompress(data, needed)
    except zlib.error as error:
        raise ND2FormatError(f"frame {frame} does not inflate: {error}") from error
    if len(inflated) < needed:
        raise ND2FormatError(
            f"frame {frame} inflates to {len(inflated)} bytes, fewer than the {needed} needed"
        )
    for strip in range(first, last):
        rows, cols = _positions(plan, strip)
        at = int(rows.min()) * layout.row_stride + int(cols.min()) * layout.pixel_size
        view, place = _window(plan, strip, memoryview(inflated), at, count=1, step=0)
        pixels[place] = view


def _positions(plan: ReadPlan, strip: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows and columns of the frame that a strip covers."""
    strips, selection = plan.strips, plan.selection
    window = 0 if selection.shared_window else strips.tile[strip]
    return (
        selection.rows[window, strips.row0[strip] : strips.row1[strip]],
        selection.cols[window, strips.col0[strip] : strips.col1[strip]],
    )


def _window(
    plan: ReadPlan, strip: int, data: memoryview, at: int, count: int, step: int
) -> tuple[NDArray[Any], tuple[slice, ...]]:
    """View of the wanted pixels of `count` strips, and where they go in the result.

    The view has shape (count, channels, rows, columns, samples).
    """
    layout, strips, selection = plan.layout, plan.strips, plan.selection
    rows, cols = _positions(plan, strip)
    tile = int(strips.tile[strip])
    window = 0 if selection.shared_window else tile
    top, left = rows.min(), cols.min()
    item = layout.dtype.itemsize
    view: NDArray[Any] = np.ndarray(
        (
            count,
            int(rows.max() - top) + 1,
            int(cols.max() - left) + 1,
            layout.channels,
            layout.samples,
        ),
        layout.dtype,
        data,
        at,
        (step, layout.row_stride, layout.pixel_size, layout.samples * item, item),
    )
    wanted = (rows - top, cols - left, selection.channels[window], selection.samples[window])
    for axis, positions in enumerate(wanted, start=1):
        view = view[(slice(None),) * axis + (_as_slice(positions),)]
    place = (
        slice(tile, tile + count),
        slice(None),
        slice(int(strips.row0[strip]), int(strips.row1[strip])),
        slice(int(strips.col0[strip]), int(strips.col1[strip])),
    )
    return view.transpose(0, 3, 1, 2, 4), place


def _as_slice(positions: NDArray[np.int64]) -> slice | NDArray[np.int64]:
    """Positions as a slice where they ascend evenly: a view instead of a copy."""
    step = int(positions[1] - positions[0]) if len(positions) > 1 else 1
    if step > 0 and (np.diff(positions) == step).all():
        return slice(int(positions[0]), int(positions[-1]) + 1, step)
    return positions
