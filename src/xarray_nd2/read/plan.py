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

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from xarray_nd2.errors import ND2FormatError
from xarray_nd2.format.layout import MISSING_OFFSET
from xarray_nd2.read.coalesce import MAX_REQUEST_BYTES, coalesce_ranges
from xarray_nd2.read.strips import gaps_between, no_strips, strips_of_tiles

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from xarray_nd2.format.layout import FrameLayout
    from xarray_nd2.read.link import Link
    from xarray_nd2.read.selection import Selection
    from xarray_nd2.read.strips import Strips

    Ints = NDArray[np.int64]


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
        Largest gap in bytes that is read over, but for those of a first range that probes the link.
    first_alone : bool
        Whether to wait for the first range before the others are requested.
    """

    layout: FrameLayout
    selection: Selection
    missing: Ints
    strips: Strips
    starts: Ints
    stops: Ints
    first_strip: Ints
    gap: int
    first_alone: bool = False

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
            A frame is said to lie outside the file, its chunk is too short for it, or the header of
            its chunk does not tell where its pixels are.
        """
        layout, strips, frames = self.layout, self.strips, self.selection.frames
        outside = np.flatnonzero((strips.start < 0) | (strips.stop > size))
        if len(outside):
            lost = outside[0]
            raise ND2FormatError(
                f"{layout.name_of(int(frames[strips.tile[lost]]))} is said to lie at bytes "
                f"{strips.start[lost]}-{strips.stop[lost]} of {size}"
            )
        stored = layout.lengths.take(frames)
        least = layout.frame_bytes if layout.compression == "none" else 1
        stored[self.missing] = least
        short = np.flatnonzero(stored < least)
        if len(short):
            frame, length = layout.name_of(int(frames[short[0]])), max(0, stored[short[0]])
            raise ND2FormatError(
                f"{frame} has {length} bytes in the file, fewer than its {least}"
                if length
                else f"{frame} cannot be read: where it is said to be, no header of a chunk "
                "tells where its pixels are"
            )


def plan_read(
    layout: FrameLayout,
    selection: Selection,
    max_gap: int | None,
    link: Link,
    concurrency: int,
    *,
    probing: bool = False,
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
    probing : bool
        Where little would be read for want of bandwidth, let the first request read over some
        gaps, so that the read tells whether the link still is as slow. Not with a `max_gap`, nor of
        compressed frames, which are fetched as they are inflated.

    Returns
    -------
    ReadPlan
    """
    offsets = layout.offsets.take(selection.frames)
    present = np.flatnonzero(offsets != MISSING_OFFSET)
    strips, gap = no_strips(), max_gap or 0
    probing &= max_gap is None and layout.compression == "none"
    if selection.size and len(present):
        placed = offsets[present]
        lengths = layout.lengths.take(selection.frames[present])
        if max_gap is None:
            gaps, counts, needed = gaps_between(layout, selection, present, placed, lengths)
            gap = link.best_gap(gaps, counts, needed, concurrency)
            probing = probing and link.may_mislead(gap, gaps, counts, needed, concurrency)
        strips = strips_of_tiles(layout, selection, present, placed, gap, link.request_bytes)
    first = coalesce_ranges(strips.start, strips.stop, gap, link.request_bytes)
    alone = False
    if probing and len(first) > 1:
        first, alone = _with_probe(strips, first, link, concurrency)
    starts, stops = strips.start[first[:-1]], _stops(strips, first)
    missing = np.flatnonzero(offsets == MISSING_OFFSET)
    return ReadPlan(layout, selection, missing, strips, starts, stops, first, gap, alone)


def _stops(strips: Strips, first: Ints) -> Ints:
    """Where the ranges end that begin with the strips `first`."""
    return np.maximum.reduceat(strips.stop, first[:-1]) if len(first) > 1 else first[:0]


def _with_probe(strips: Strips, first: Ints, link: Link, concurrency: int) -> tuple[Ints, bool]:
    """Join the first of some ranges into one that tells of the link's bandwidth.

    Returns
    -------
    first : ndarray of int64
        Strips with which the ranges begin; the same if the first gaps are too large for that.
    alone : bool
        Whether to wait for the joined range before the others are requested.
    """
    stops = _stops(strips, first)
    nbytes, alone = link.probe(stops - strips.start[first[:-1]], concurrency)
    end = strips.start[0] + min(nbytes, MAX_REQUEST_BYTES)
    count = int(np.searchsorted(np.maximum.accumulate(stops), end, "right"))
    joined = np.delete(first, slice(1, count))
    return joined, alone and 2 < len(joined) < len(first)
