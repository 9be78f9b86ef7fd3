"""Which bytes of the file hold a selection, and in how many requests to fetch them.

The question: given the layout of a file and the tiles of a selection, which ranges must be read, and
what of each range belongs where? In steps:

1. the gaps between the needed bytes are listed: between columns, rows and tiles;
2. the largest gap worth reading over is chosen, unless the caller did;
3. the window of every tile becomes *strips*: pieces of the file without a larger gap than that,
   each some whole rows of the window or a part of one row;
4. the strips of all tiles, in the order of the file, are *coalesced* into the ranges to request.

A plan is a value: nothing here reads anything.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from xarray_nd2.errors import ND2FormatError
from xarray_nd2.format.layout import MISSING

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from xarray_nd2.format.layout import FrameLayout
    from xarray_nd2.read.link import Link
    from xarray_nd2.read.selection import Selection

    Ints = NDArray[np.int64]

MAX_REQUEST: Final = 4 * 1024 * 1024
"""Ranges are split above this many bytes, so that one frame uses several connections."""


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


@dataclass(frozen=True, eq=False, slots=True)
class ReadPlan:
    """What to fetch for one selection and where each piece lands.

    Attributes
    ----------
    layout : FrameLayout
        Of the file.
    selection : Selection
        What was asked for.
    missing : ndarray of int64
        Tiles whose frame the file does not have.
    strips : Strips
        In the order of the file.
    starts, stops : ndarray of int64, shape (requests,)
        The byte ranges to request.
    first_strip : ndarray of int64, shape (requests + 1,)
        Range i holds the strips from ``first_strip[i]`` up to ``first_strip[i + 1]``.
    gap : int
        Largest gap in bytes that is read over.
    """

    layout: FrameLayout
    selection: Selection
    missing: Ints
    strips: Strips
    starts: Ints
    stops: Ints
    first_strip: Ints
    gap: int

    @property
    def ranges(self) -> list[tuple[int, int]]:
        """Start and stop of each range to request."""
        return list(zip(self.starts.tolist(), self.stops.tolist(), strict=True))

    @property
    def requests(self) -> int:
        """Number of ranges to request."""
        return len(self.starts)

    @property
    def bytes_fetched(self) -> int:
        """Bytes that will travel."""
        return int((self.stops - self.starts).sum())

    @property
    def bytes_needed(self) -> int:
        """Bytes of the pixels asked for; of compressed frames, all that is stored for them."""
        if self.layout.compression != "none":
            return int((self.strips.stop - self.strips.start).sum())
        tiles, *window = self.selection.shape
        present = tiles - len(self.missing)
        return present * int(np.prod(window, dtype=np.int64)) * self.layout.dtype.itemsize

    def check(self, size: int) -> None:
        """Check that a file of `size` bytes holds every frame of the plan.

        Raises
        ------
        ND2FormatError
            A frame is said to lie outside the file, or its chunk is too short for it.
        """
        layout, strips, frames = self.layout, self.strips, self.selection.frames
        outside = np.flatnonzero((strips.start < 0) | (strips.stop > size))
        if len(outside):
            lost = outside[0]
            raise ND2FormatError(
                f"frame {frames[strips.tile[lost]]} is said to lie at bytes "
                f"{strips.start[lost]}-{strips.stop[lost]} of {size}"
            )
        stored = layout.lengths.take(frames)
        least = layout.frame_size if layout.compression == "none" else 1
        stored[self.missing] = least
        short = np.flatnonzero(stored < least)
        if len(short):
            raise ND2FormatError(
                f"frame {frames[short[0]]} has {max(0, stored[short[0]])} bytes in the file, "
                f"fewer than its {least}"
            )


def plan_read(
    layout: FrameLayout,
    selection: Selection,
    max_gap: int | None,
    link: Link,
    concurrency: int,
) -> ReadPlan:
    """Plan the read of a selection.

    Parameters
    ----------
    layout : FrameLayout
        Of the file.
    selection : Selection
        The pixels to read.
    max_gap : int or None
        Merge ranges that are up to this many bytes apart; 0 fetches exactly the needed bytes, None
        what is estimated to be fastest.
    link : Link
        What the connection to the store is like.
    concurrency : int
        Requests in flight.

    Returns
    -------
    ReadPlan
    """
    offsets = layout.offsets.take(selection.frames)
    present = np.flatnonzero(offsets != MISSING)
    strips, gap = _no_strips(), max_gap or 0
    if selection.size and len(present):
        placed = offsets[present]
        lengths = layout.lengths.take(selection.frames[present])
        if max_gap is None:
            gaps, counts, needed = _gaps(layout, selection, present, placed, lengths)
            gap = link.best_gap(gaps, counts, needed, concurrency)
        strips = _strips(layout, selection, present, placed, gap)
    first = coalesce(strips.start, strips.stop, gap, MAX_REQUEST)
    stops = np.maximum.reduceat(strips.stop, first[:-1]) if len(first) > 1 else first[:0]
    missing = np.flatnonzero(offsets == MISSING)
    return ReadPlan(layout, selection, missing, strips, strips.start[first[:-1]], stops, first, gap)


def _no_strips() -> Strips:
    none = np.empty(0, np.int64)
    return Strips(none, none, none, none, none, none, none)


def _windows(selection: Selection, present: Ints) -> tuple[Ints, Ints]:
    """Rows and columns of the present tiles' windows, or of the one that they share."""
    if selection.shared_window:
        return selection.rows, selection.cols
    return selection.rows[present], selection.cols[present]


def _gaps(
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
    pixel, stride = layout.pixel_size, layout.row_stride
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


def _strips(
    layout: FrameLayout, selection: Selection, present: Ints, offsets: Ints, gap: int
) -> Strips:
    """Strips of all present tiles, in the order of the file."""
    window = _window_strips(layout, *_windows(selection, present), gap)
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


def _window_strips(layout: FrameLayout, rows: Ints, cols: Ints, gap: int) -> Strips:
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
    pixel, stride = layout.pixel_size, layout.row_stride
    if windows == 1 and (np.diff(cols) > 0).all():
        col_bounds = _bounds((np.diff(cols[0]) - 1) * pixel > gap, width)
        if len(col_bounds) > 2:  # every strip is a part of one row
            return _row_parts(rows[0], cols[0], col_bounds, pixel, stride)
    left, right = cols.min(axis=1), cols.max(axis=1) + 1
    breaks = np.ones((windows, height), bool)
    step = np.diff(rows)
    per_strip = max(1, MAX_REQUEST // stride)
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


def _bounds(breaks: NDArray[np.bool_], count: int) -> Ints:
    """Bounds of the groups of `count` things that `breaks`, between two each, separate."""
    return np.concatenate([[0], np.flatnonzero(breaks) + 1, [count]]).astype(np.int64)


def coalesce(starts: Ints, stops: Ints, max_gap: int, max_size: int | None = None) -> Ints:
    """Group sorted byte ranges that are worth reading together.

    Parameters
    ----------
    starts, stops : ndarray of int64, shape (n,)
        Ranges, sorted by `starts`; they may overlap.
    max_gap : int
        Ranges with a gap of up to this many bytes are grouped.
    max_size : int, optional
        A group is broken where it would grow past about this many bytes; a single range that is
        larger stays whole.

    Returns
    -------
    ndarray of int64, shape (groups + 1,)
        Group i holds the ranges from element i up to element i + 1.

    Examples
    --------
    >>> coalesce(np.array([0, 10, 100]), np.array([8, 20, 110]), max_gap=5)
    array([0, 2, 3])
    """
    if not len(starts):
        return np.zeros(1, np.int64)
    reach = np.maximum.accumulate(stops)
    breaks = starts[1:] - reach[:-1] > max_gap
    bounds = _bounds(breaks, len(starts))
    if max_size is not None:
        group_start = np.repeat(starts[bounds[:-1]], np.diff(bounds))
        part = (stops - 1 - group_start) // max_size
        bounds = _bounds(breaks | (np.diff(part) > 0), len(starts))
    return bounds
