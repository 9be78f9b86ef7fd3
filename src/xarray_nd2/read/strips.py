"""Strips: the pieces of the file that hold the windows of a selection.

The window of every tile becomes strips, each some whole rows of the window or a part of one row,
between which the file has no larger gap than is worth reading over.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from xarray_nd2.read.coalesce import group_bounds

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from xarray_nd2.format.layout import FrameLayout
    from xarray_nd2.read.selection import Selection

    Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False, slots=True)
class Strips:
    """Pieces of tiles that are read in one go, one element of each array per strip.

    Attributes
    ----------
    tile : ndarray of int64
        Which tile it belongs to.
    row0, row1, col0, col1 : ndarray of int64
        The part of the tile's rows and columns it covers, as indices into the plan's positions.
    start, stop : ndarray of int64
        Bytes of the file.
    """

    tile: Ints
    row0: Ints
    row1: Ints
    col0: Ints
    col1: Ints
    start: Ints
    stop: Ints

    def take(self, index: NDArray[Any]) -> Strips:
        """Some of the strips, in the order of `index`."""
        return Strips(
            self.tile[index],
            self.row0[index],
            self.row1[index],
            self.col0[index],
            self.col1[index],
            self.start[index],
            self.stop[index],
        )


def no_strips() -> Strips:
    """Strips of nothing."""
    none = np.empty(0, np.int64)
    return Strips(none, none, none, none, none, none, none)


def _windows(selection: Selection, present: Ints) -> tuple[Ints, Ints]:
    """Rows and columns of the present tiles' windows, or of the one that they share."""
    if selection.shared_window:
        return selection.rows, selection.cols
    return selection.rows[present], selection.cols[present]


def gaps_between(
    layout: FrameLayout, selection: Selection, present: Ints, offsets: Ints, lengths: Ints
) -> tuple[Ints, Ints, int]:
    """Sizes of the gaps between needed bytes, how often each occurs, and the needed bytes.

    Gaps inside a window that all tiles share are listed once; a gap between overlapping or adjacent
    tiles is none.
    """
    tiles = len(offsets)
    if layout.compression != "none":
        begin, first = np.unique(offsets, return_index=True)
        end = begin + lengths[first]
        apart = begin[1:] - end[:-1]
        return apart, np.ones(len(apart), np.int64), int((end - begin).sum())
    pixel, stride = layout.pixel_bytes, layout.row_stride_bytes
    rows, cols = (np.sort(part) for part in _windows(selection, present))
    span = (cols[:, -1] + 1 - cols[:, 0]) * pixel
    row_gaps = np.diff(rows) * stride - span[:, None]
    col_gaps = (np.diff(cols) - 1) * pixel
    repeats = tiles if selection.shared_window else 1
    begin = offsets + rows[:, 0] * stride + cols[:, 0] * pixel
    end = offsets + rows[:, -1] * stride + (cols[:, -1] + 1) * pixel
    order = np.argsort(begin)
    tile_gaps = begin[order][1:] - np.maximum.accumulate(end[order])[:-1]
    gaps = np.concatenate([row_gaps.ravel(), col_gaps.ravel(), tile_gaps])
    counts = np.concatenate(
        [
            np.full(row_gaps.size, repeats),
            np.full(col_gaps.size, repeats * rows.shape[1]),
            np.ones(len(tile_gaps), np.int64),
        ]
    )
    needed = int((span - np.maximum(col_gaps, 0).sum(axis=1)).sum()) * rows.shape[1] * repeats
    return gaps, counts, needed


def strips_of_tiles(
    layout: FrameLayout,
    selection: Selection,
    present: Ints,
    offsets: Ints,
    gap: int,
    request_bytes: int,
) -> Strips:
    """Strips of all present tiles, in the order of the file, of about `request_bytes` at most."""
    window = _window_strips(layout, *_windows(selection, present), gap, request_bytes)
    if selection.shared_window:
        shape = (len(present), len(window.tile))
        strips = Strips(
            np.broadcast_to(present[:, None], shape).ravel(),
            np.broadcast_to(window.row0, shape).ravel(),
            np.broadcast_to(window.row1, shape).ravel(),
            np.broadcast_to(window.col0, shape).ravel(),
            np.broadcast_to(window.col1, shape).ravel(),
            (offsets[:, None] + window.start).ravel(),
            (offsets[:, None] + window.stop).ravel(),
        )
    else:
        strips = Strips(
            present[window.tile],
            window.row0,
            window.row1,
            window.col0,
            window.col1,
            offsets[window.tile] + window.start,
            offsets[window.tile] + window.stop,
        )
    if layout.compression != "none":
        # The pixels are in one zlib stream, which starts where they would.
        tile_offsets = layout.offsets.take(selection.frames[strips.tile])
        lengths = layout.lengths.take(selection.frames[strips.tile])
        strips = replace(strips, start=tile_offsets, stop=tile_offsets + lengths)
    if (np.diff(strips.start) < 0).any():
        strips = strips.take(np.argsort(strips.start, kind="stable"))
    return strips


def _window_strips(
    layout: FrameLayout, rows: Ints, cols: Ints, gap: int, request_bytes: int
) -> Strips:
    """Strips of windows, their bytes relative to the first pixel of the frame.

    Parameters
    ----------
    rows, cols : ndarray of int64, shape (windows, n)
        Positions of the pixels; the `tile` of a strip is the number of its window.
    """
    windows, height = rows.shape
    width = cols.shape[1]
    if layout.compression != "none":
        # One zlib stream holds all rows of the frame: a tile is one strip.
        number = np.arange(windows)
        zero = np.zeros(windows, np.int64)
        return Strips(number, zero, zero + height, zero, zero + width, zero, zero)
    pixel, stride = layout.pixel_bytes, layout.row_stride_bytes
    if windows == 1 and (np.diff(cols) > 0).all():
        col_bounds = group_bounds((np.diff(cols[0]) - 1) * pixel > gap, width)
        if len(col_bounds) > 2:  # every strip is a part of one row
            return _row_parts(rows[0], cols[0], col_bounds, pixel, stride)
    left, right = cols.min(axis=1), cols.max(axis=1) + 1
    breaks = np.ones((windows, height), bool)
    step = np.diff(rows)
    per_strip = max(1, request_bytes // stride)
    # Rows that do not ascend are read one by one.
    breaks[:, 1:] = step * stride - ((right - left) * pixel)[:, None] > gap
    breaks[:, 1:] |= (step <= 0) | (np.diff(rows // per_strip) != 0)
    first = np.flatnonzero(breaks)
    tile, row0 = np.divmod(first, height)
    row1 = row0 + np.diff(np.append(first, breaks.size))
    start = rows[tile, row0] * stride + left[tile] * pixel
    stop = rows[tile, row1 - 1] * stride + right[tile] * pixel
    zero = np.zeros(len(tile), np.int64)
    return Strips(tile, row0, row1, zero, zero + width, start, stop)


def _row_parts(rows: Ints, cols: Ints, col_bounds: Ints, pixel: int, stride: int) -> Strips:
    """A strip for each run of columns in each row of one window."""
    row, run = (
        part.ravel()
        for part in np.meshgrid(np.arange(len(rows)), np.arange(len(col_bounds) - 1), indexing="ij")
    )
    col0, col1 = col_bounds[run], col_bounds[run + 1]
    start = rows[row] * stride + cols[col0] * pixel
    stop = rows[row] * stride + (cols[col1 - 1] + 1) * pixel
    return Strips(np.zeros(len(row), np.int64), row, row + 1, col0, col1, start, stop)
