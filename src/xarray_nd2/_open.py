"""Opening a file: from a source to its layout and labels in two or three round trips.

Both ends of the file are read at once. The end holds the chunk map, or at least says where it is;
the beginning often holds the largest metadata. What is then still missing is fetched together.
"""

from __future__ import annotations

import math
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from xarray_nd2 import _container as container
from xarray_nd2._layout import MISSING, TIMESTAMP_SIZE, FrameLayout, FrameTable, frame_offsets
from xarray_nd2._metadata import (
    NO_PICTURE,
    TIMES_CHUNK,
    Stored,
    metadata_chunks,
    read_metadata,
)
from xarray_nd2._plan import coalesce
from xarray_nd2._rescue import find_chunks
from xarray_nd2._screen import check_metadata
from xarray_nd2.errors import ND2FormatError, naming

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from xarray_nd2._container import ChunkExtent, ChunkMap
    from xarray_nd2._metadata import ImageFacts, Metadata
    from xarray_nd2._rescue import FoundChunks
    from xarray_nd2._source import ByteSource

END_SIZE = 256 * 1024
"""Bytes read at once from each end of the file."""

_GAP = 64 * 1024  # bytes between metadata chunks that are read over
_MAP_GUESS = 4 * 1024 * 1024  # of a map that is not in the end already read; its header tells more
_NAME_AREA = 2 * container.CHUNK_ALIGNMENT  # of a chunk at most, before its data
_MAX_METADATA = 256 * 1024 * 1024  # bytes of one chunk
_FRAME_HEADER = container.CHUNK_HEADER.size + 32  # and its name


@dataclass(frozen=True, eq=False)
class OpenedFile:
    """A file ready to be read: its pinned source, its layout and what it says of itself.

    Of a file that was rescued, `rescued` tells what was found and what was lost.
    """

    source: ByteSource
    layout: FrameLayout
    metadata: Metadata
    rescued: str = ""


def open_nd2(source: ByteSource, *, rescue: bool = False) -> OpenedFile:
    """Open the file of a source.

    Parameters
    ----------
    source : ByteSource
        Where it is.
    rescue : bool
        Look for the chunks of a file that has no usable map.

    Raises
    ------
    ND2FormatError
        Not an ND2 file, or a truncated or corrupt one.
    ND2UnsupportedError
        An ND2 that cannot be decoded by ranges.
    ND2SourceError
        The file cannot be read.
    """
    with naming(source.name):
        known = _KnownBytes(source)
        version = container.parse_signature(known.head)
        found: FoundChunks | None = None
        try:
            chunk_map = _read_chunk_map(known)
        except ND2FormatError:
            if not rescue:
                raise
            found = find_chunks(known.source.fetch, known.size, known.head)
            chunk_map = found.as_map(metadata_chunks(version))
        skeleton, times = _read_skeleton(known, chunk_map, version, rescued=found is not None)
        stored = _stored(known, chunk_map, rescued=found is not None)
        metadata = read_metadata(skeleton, version, times, stored)
        layout = _read_layout(known, chunk_map, metadata.image)
    names = metadata_chunks(version) | {"times": TIMES_CHUNK}
    rescued = found.describe(layout, names) if found else ""
    return OpenedFile(known.source, layout, metadata, rescued)


class _KnownBytes:
    """The pieces of the file that were read so far."""

    def __init__(self, source: ByteSource) -> None:
        self.source, self.head, tail = source.begin(END_SIZE, END_SIZE)
        self.size = self.source.size
        self.tail = tail
        self._pieces = [(0, self.head)]
        self._add(self.size - len(tail), self.size, tail)  # both ends may overlap

    def get(self, start: int, stop: int) -> bytes:
        """Bytes that `require` has read."""
        for offset, data in self._pieces:
            if offset <= start and stop <= offset + len(data):
                return data[start - offset : stop - offset]
        self.require([(start, stop)])
        return self.get(start, stop)

    def require(self, ranges: Iterable[tuple[int, int]]) -> None:
        """Read, in one round trip, what of the ranges is not known yet."""
        missing = sorted(part for part in map(self._unknown, ranges) if part[0] < part[1])
        if not missing:
            return
        starts, stops = np.array(missing, np.int64).T
        groups = coalesce(starts, stops, _GAP)
        wanted = [(int(starts[i]), int(stops[i:j].max())) for i, j in pairwise(groups.tolist())]
        for (start, stop), data in zip(wanted, self.source.fetch(wanted), strict=True):
            self._add(start, stop, data)

    def _unknown(self, part: tuple[int, int]) -> tuple[int, int]:
        """The part of a range that no piece covers from its start or up to its end."""
        start, stop = part
        for offset, data in self._pieces:
            end = offset + len(data)
            if offset <= start < end:
                start = end
            if offset < stop <= end:
                stop = offset
        return start, stop

    def _add(self, start: int, stop: int, data: bytes) -> None:
        """Join a new piece with those that touch it."""
        apart = []
        for offset, piece in self._pieces:
            if offset + len(piece) < start or stop < offset:
                apart.append((offset, piece))
                continue
            if offset < start:
                data = piece[: start - offset] + data
                start = offset
            if offset + len(piece) > stop:
                data += piece[stop - offset :]
                stop = offset + len(piece)
        self._pieces = [*apart, (start, data)]


def _read_chunk_map(known: _KnownBytes) -> ChunkMap:
    location = container.parse_footer(known.tail, known.size)
    known.require([(location, min(known.size, location + _MAP_GUESS))])
    header = known.get(location, min(known.size, location + container.SIGNATURE_SIZE))
    start, length = container.parse_chunk_header(header, container.MAP_NAME, location)
    begin, end = location + start, location + start + length
    if end > known.size:
        raise ND2FormatError(
            f"the chunk map at byte {location} is said to end at {end} of {known.size}"
        )
    return container.parse_chunk_map(known.get(begin, end), location)


def _read_skeleton(
    known: _KnownBytes, chunk_map: ChunkMap, version: tuple[int, int], *, rescued: bool
) -> tuple[bytes, NDArray[np.float64] | None]:
    """Fetch the metadata chunks; the times of the frames are only numbers and stay apart."""
    names = metadata_chunks(version)
    for part in ("attributes", "picture"):
        if names[part] not in chunk_map.chunks and not rescued:
            raise ND2FormatError(
                f"the chunk map has no {names[part].decode()!r}: the {part} of the image are missing"
            )
    wanted = [name for name in (*names.values(), TIMES_CHUNK) if name in chunk_map.chunks]
    extents = {name: chunk_map.chunks[name] for name in wanted}
    known.require(_chunk_range(name, extent, known.size) for name, extent in extents.items())
    chunks = {name: _chunk_data(known, name, extent) for name, extent in extents.items()}
    times = chunks.pop(TIMES_CHUNK, None)
    for name, data in chunks.items():
        check_metadata(name, data)
    chunks.setdefault(names["picture"], NO_PICTURE)  # where the file was rescued
    skeleton = container.build_skeleton(known.get(0, container.SIGNATURE_SIZE), chunks)
    if times is None:
        return skeleton, None
    return skeleton, np.frombuffer(times[: len(times) // 8 * 8], "<f8")


def _chunk_range(name: bytes, extent: ChunkExtent, size: int) -> tuple[int, int]:
    """Bytes that hold a chunk, as far as the map tells."""
    stop = min(extent.stop, size)
    if extent.length is not None:
        stop = min(stop, extent.offset + container.CHUNK_HEADER.size + _NAME_AREA + extent.length)
    if not 0 < extent.offset < stop or stop - extent.offset > _MAX_METADATA:
        raise ND2FormatError(
            f"the chunk {name.decode('ascii', 'replace')!r} is said to lie at bytes "
            f"{extent.offset}-{stop} of {size}"
        )
    return extent.offset, stop


def _chunk_data(known: _KnownBytes, name: bytes, extent: ChunkExtent) -> bytes:
    start, stop = _chunk_range(name, extent, known.size)
    skip, length = container.parse_chunk_header(known.get(start, stop), name, start)
    begin, end = start + skip, start + skip + length
    if end > known.size or length > _MAX_METADATA:
        raise ND2FormatError(
            f"the chunk {name.decode('ascii', 'replace')!r} at byte {start} is said to end at "
            f"{end} of {known.size}"
        )
    return known.get(begin, end)


def _stored(known: _KnownBytes, chunk_map: ChunkMap, *, rescued: bool) -> Stored:
    lengths = chunk_map.frame_length
    told = len(lengths) > 0 and lengths.min() >= 0
    largest = min(known.size, int(lengths.max())) if told else known.size
    numbered = int(chunk_map.frame_index.max(initial=0)) + 1 if rescued else 0
    return Stored(known.size, len(lengths), largest, numbered)


def _read_layout(known: _KnownBytes, chunk_map: ChunkMap, image: ImageFacts) -> FrameLayout:
    count = math.prod(size for _, size in image.loops)
    frame_size = image.height * image.row_stride if image.compression == "none" else None
    offset, length, doubtful = frame_offsets(chunk_map, count, frame_size)
    if doubtful.any():
        _settle_doubts(known, chunk_map, offset, length, np.flatnonzero(doubtful))
    present = offset != MISSING
    return FrameLayout(
        image.loops,
        image.channels,
        image.height,
        image.width,
        image.samples,
        image.dtype,
        image.row_stride,
        image.compression,
        FrameTable.from_values(np.where(present, offset + TIMESTAMP_SIZE, MISSING)),
        FrameTable.from_values(np.where(present, length - TIMESTAMP_SIZE, 0)),
    )


def _settle_doubts(
    known: _KnownBytes,
    chunk_map: ChunkMap,
    data_offset: NDArray[np.int64],
    data_length: NDArray[np.int64],
    frames: NDArray[np.int64],
) -> None:
    """Read, in one batch, the headers of frames whose place in their chunk is not certain.

    A frame that has no valid header is left without a byte, which its reading will tell: the
    others can still be read.
    """
    chunk_offset = np.zeros(len(data_offset), np.int64)
    inside = chunk_map.frame_index < len(chunk_offset)
    chunk_offset[chunk_map.frame_index[inside]] = chunk_map.frame_offset[inside]
    starts = chunk_offset[frames]
    stops = starts + _FRAME_HEADER
    data_length[frames] = TIMESTAMP_SIZE
    readable = (starts >= 0) & (stops <= known.size)
    if not readable.any() and len(frames) == np.count_nonzero(data_offset != MISSING):
        raise ND2FormatError(
            f"every frame is said to lie outside the {known.size} bytes of the file, "
            f"the first at byte {starts[0]}"
        )
    ranges = list(zip(starts[readable].tolist(), stops[readable].tolist(), strict=True))
    headers = known.source.fetch(ranges)
    for frame, (start, _), header in zip(frames[readable].tolist(), ranges, headers, strict=True):
        with suppress(ND2FormatError):
            skip, length = container.parse_chunk_header(header, b"ImageDataSeq|%d!" % frame, start)
            if start + skip + length <= known.size:
                data_offset[frame], data_length[frame] = start + skip, length
