"""From the bytes of a range to the pixels of the result.

Uncompressed pixels are never converted on the way: a strided view is laid over the bytes, padding
and unwanted components and columns are stepped over, and what remains is copied to its place.
Lossless frames are inflated first, in as many rounds of reading as that takes; codestreams of legacy
files are decoded whole.
"""

from __future__ import annotations

from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from xarray_nd2.errors import ND2FormatError
from xarray_nd2.read.coalesce import MAX_REQUEST_BYTES, coalesce_ranges
from xarray_nd2.read.codestreams import CodestreamFrame, jpeg2000_decoder
from xarray_nd2.read.inflate import FrameStream
from xarray_nd2.read.spacing import as_slice, parts_to_copy, stored_places

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator

    from numpy.typing import NDArray

    from xarray_nd2.format.layout import FrameLayout
    from xarray_nd2.read.inflate import FrameCache
    from xarray_nd2.read.mapped import MappedTiles
    from xarray_nd2.read.plan import ReadPlan

    Bytes = bytes | bytearray | memoryview
    Round = tuple[list[tuple[int, int]], Callable[[int, Bytes], None]]


_MAX_INFLATING_BYTES: Final = 256 * 1024 * 1024  # bytes of frames at a time
_MAX_CODESTREAM_REQUEST_BYTES: Final = 512 * 1024  # each is decoded in a thread of its own
_MAX_OPEN_STREAMS: Final = 4096  # at a time; each takes some kilobytes however small it is


def empty_pixels(plan: ReadPlan | MappedTiles) -> NDArray[Any]:
    """Array for the pixels of a plan or of tiles, zero where a frame is missing.

    Its shape is (tiles, C, Y, X, S), its order in memory that of the file, (tiles, Y, X, C, S): so
    most pixels are copied as they lie.
    """
    tiles, channels, rows, cols, samples = plan.selection.shape
    shape = (tiles, rows, cols, channels, samples)
    if not len(plan.missing):
        return np.empty(shape, plan.layout.dtype).transpose(0, 3, 1, 2, 4)
    try:
        # Zeros take no memory until they are written to, or copied.
        return np.zeros(shape, plan.layout.dtype).transpose(0, 3, 1, 2, 4)
    except MemoryError:
        raise ND2FormatError(
            f"{len(plan.missing)} of the {tiles} frames asked for are not in the file, and zeros "
            "for all of them do not fit into memory"
        ) from None


def rounds(
    plan: ReadPlan, pixels: NDArray[Any], cache: FrameCache | None = None, file: Hashable = None
) -> Iterator[Round]:
    """Rounds of reading that carry out a plan.

    Parameters
    ----------
    plan : ReadPlan
        Of the read.
    pixels : ndarray
        Where to write, as `empty_pixels` makes it. Every range writes its own part of it, so
        several threads may deliver at once.
    cache : FrameCache, optional
        Of inflated frames.
    file : hashable, optional
        The file's key in the cache.

    Yields
    ------
    ranges : list of (int, int)
        To be read.
    deliver : callable
        To be called with the number of a range and its bytes. All of a round must be delivered
        before the next one is asked for.

    Raises
    ------
    ND2FormatError
        A compressed frame does not inflate to its pixels.
    """
    if plan.layout.compression != "none":
        if plan.layout.compression == "jpeg2000" and plan.requests:
            jpeg2000_decoder()  # nothing is fetched that cannot be decoded
        yield from _compressed_rounds(plan, pixels, cache, file)
        return
    alone = int(plan.first_alone)
    if alone:
        yield plan.ranges[:alone], partial(_decode_range, plan, pixels, 0)
    yield plan.ranges[alone:], partial(_decode_range, plan, pixels, alone)


def request_bytes_of(layout: FrameLayout) -> int:
    """Bytes above which ranges of compressed frames are not read together."""
    is_slow = layout.compression == "jpeg2000"
    return _MAX_CODESTREAM_REQUEST_BYTES if is_slow else MAX_REQUEST_BYTES


def _decode_range(
    plan: ReadPlan, pixels: NDArray[Any], before: int, number: int, data: Bytes
) -> None:
    """Write the pixels that one range holds into the result.

    It is the `number`-th of its round; so many are in rounds `before`.
    """
    index = before + number
    view = memoryview(data)
    base = int(plan.starts[index])
    first, last = int(plan.first_strip[index]), int(plan.first_strip[index + 1])
    if last - first > 1 and _is_regular(plan, first, last):
        step = int(plan.strips.start[first + 1] - plan.strips.start[first])
        _copy(plan, pixels, first, view, int(plan.strips.start[first]) - base, last - first, step)
        return
    for strip in range(first, last):
        _copy(plan, pixels, strip, view, int(plan.strips.start[strip]) - base)


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


def _compressed_rounds(
    plan: ReadPlan, pixels: NDArray[Any], cache: FrameCache | None, file: Hashable
) -> Iterator[Round]:
    if file is None:
        cache = None
    streams = frame_streams(plan, cache)
    while True:
        unfinished: list[FrameStream | CodestreamFrame] = []
        strips_of: dict[int, range] = {}
        inflating = 0
        for strips, stream, needed in streams:
            kept = cache.get((file, stream.frame), needed) if cache else None
            if kept is not None:
                _copy_frame(plan, pixels, strips, kept, 0)
                continue
            unfinished.append(stream)
            strips_of[stream.start] = strips
            inflating += needed
            if inflating >= _MAX_INFLATING_BYTES or len(unfinished) >= _MAX_OPEN_STREAMS:
                break  # the others when these are done
        if not unfinished:
            return

        def finish(
            stream: FrameStream | CodestreamFrame, strips_of: dict[int, range] = strips_of
        ) -> None:
            frame = stream.take()
            _copy_frame(plan, pixels, strips_of[stream.start], frame, stream.first)
            if cache and stream.first == 0:
                cache.put((file, stream.frame), frame)

        while unfinished:
            wanted = [(stream, stream.fetch_to) for stream in unfinished]
            starts = np.array([stream.at for stream, _ in wanted], np.int64)
            stops = np.array([stop for _, stop in wanted], np.int64)
            bounds = coalesce_ranges(starts, stops, plan.gap, request_bytes_of(plan.layout))
            groups = [wanted[i:j] for i, j in pairwise(bounds.tolist())]
            ranges = [(group[0][0].at, max(stop for _, stop in group)) for group in groups]
            yield ranges, partial(_feed, groups, finish)
            unfinished = [stream for stream in unfinished if not stream.finished]


def _feed(
    groups: list[list[tuple[FrameStream | CodestreamFrame, int]]],
    finish: Callable[[FrameStream | CodestreamFrame], None],
    index: int,
    data: Bytes,
) -> None:
    """Feed the streams that one range holds bytes of."""
    base = groups[index][0][0].at
    view = memoryview(data)
    # All are fed from where they stand, which feeding moves on.
    places = [(stream, stream.at - base, stop - base) for stream, stop in groups[index]]
    for stream, start, stop in places:
        stream.feed(view[start:stop])
        if stream.finished:
            finish(stream)


def frame_streams(
    plan: ReadPlan, cache: FrameCache | None
) -> Iterator[tuple[range, FrameStream | CodestreamFrame, int]]:
    """The strips that come from each compressed frame, its stream, and how much of it they need."""
    layout, selection, strips = plan.layout, plan.selection, plan.strips
    bounds = np.flatnonzero(np.diff(strips.start, prepend=-1, append=-1))
    for first, last in pairwise(bounds.tolist()):
        tiles = strips.tile[first:last]
        frame, start = int(selection.frames[tiles[0]]), int(strips.start[first])
        stop = start + layout.lengths.value(frame)
        if layout.compression == "jpeg2000":
            whole = CodestreamFrame(layout, frame, start, stop)
            yield range(first, last), whole, layout.frame_bytes
            continue
        windows = [0] if selection.shared_window else tiles
        rows = selection.rows[windows]
        rightmost = selection.cols[windows].max()
        needed = int(rows.max() * layout.row_stride_bytes + (rightmost + 1) * layout.pixel_bytes)
        if rows.max() == layout.height - 1:
            needed = layout.frame_bytes  # then its checksum can be checked
        # What is above the first row is kept for later only where that is little.
        keep_from = 0 if cache and cache.fits(needed) else int(rows.min()) * layout.row_stride_bytes
        yield (
            range(first, last),
            FrameStream(frame, start, stop, keep_from, needed, layout.frame_bytes),
            needed,
        )


def _copy_frame(
    plan: ReadPlan, pixels: NDArray[Any], strips: range, frame: bytes, first: int
) -> None:
    """Copy the pixels of strips from a frame, of which the bytes from `first` on are given."""
    layout = plan.layout
    for strip in strips:
        rows, cols = _positions(plan, strip)
        at = int(rows.min()) * layout.row_stride_bytes + int(cols.min()) * layout.pixel_bytes
        _copy(plan, pixels, strip, memoryview(frame), at - first)


def _positions(plan: ReadPlan, strip: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows and columns of the frame that a strip covers."""
    strips, selection = plan.strips, plan.selection
    window = 0 if selection.shared_window else strips.tile[strip]
    return (
        selection.rows[window, strips.row0[strip] : strips.row1[strip]],
        selection.cols[window, strips.col0[strip] : strips.col1[strip]],
    )


def _copy(
    plan: ReadPlan,
    pixels: NDArray[Any],
    strip: int,
    data: memoryview,
    at: int,
    count: int = 1,
    step: int = 0,
) -> None:
    """Copy the wanted pixels of a strip, or of `count` regular ones that are `step` bytes apart."""
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
        (step, layout.row_stride_bytes, layout.pixel_bytes, layout.samples * item, item),
    )
    channels = stored_places(layout.channel_order, selection.channels[window])
    samples = stored_places(layout.sample_order, selection.samples[window])
    for axis, positions in enumerate((rows - top, cols - left), start=1):
        view = view[(slice(None),) * axis + (as_slice(positions),)]
    target = pixels[
        tile : tile + count,
        :,
        int(strips.row0[strip]) : int(strips.row1[strip]),
        int(strips.col0[strip]) : int(strips.col1[strip]),
    ]
    view = view.transpose(0, 3, 1, 2, 4)
    for to, channel in parts_to_copy(channels):
        for number, sample in parts_to_copy(samples):
            target[:, to, ..., number] = view[:, channel, ..., sample]
