"""The chunks of a file without a map, such as one whose acquisition was cut short.

Chunks lie one behind the other and each says how long it is, so from the start of the file all of
them are found, header by header. To spare a round trip for each, it is presumed that chunks go on
in the sizes they had since the last one of the same kind. Every header is still read: the first one
that is not where it was presumed ends a batch.

That takes at most two small requests for a chunk and two round trips, but only one for up to
`_MOST_AHEAD` frames of the same size; headers closer than `_GAP` share a request. Nothing is made
up: what is not found is missing.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Final

import numpy as np

from xarray_nd2.errors import ND2FormatError
from xarray_nd2.format.container import (
    CHUNK_ALIGNMENT,
    CHUNK_HEADER,
    CHUNK_MAGIC,
    ChunkExtent,
    ChunkMap,
)
from xarray_nd2.format.layout import MISSING
from xarray_nd2.read.plan import coalesce

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from xarray_nd2.format.layout import FrameLayout

    Fetch = Callable[[list[tuple[int, int]]], list[bytes]]

_MOST_AHEAD: Final = 4096  # headers that are presumed and read at once
_LONGEST_CYCLE: Final = 64  # chunks
_HEADER: Final = 256  # bytes that hold a chunk's header and its name
_GAP: Final = 64 * 1024  # bytes that are read rather than make another request
_AHEAD: Final = 256 * 1024  # bytes read behind a header where the next ones are likely in them
_MAX_REQUEST: Final = 8 * 1024 * 1024
_FRAMES: Final = b"ImageDataSeq"
_NUMBERED: Final = re.compile(rb"(.*)\|(\d{1,12})!", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Chunk:
    """A chunk as its header describes it."""

    name: bytes
    offset: int
    length: int
    """Bytes of data."""
    end: int
    """First byte after the data."""

    @property
    def stop(self) -> int:
        """Where the next chunk starts."""
        return -(-self.end // CHUNK_ALIGNMENT) * CHUNK_ALIGNMENT

    @property
    def kind(self) -> bytes:
        """The name, without the number if it is one of a sequence."""
        numbered = _NUMBERED.fullmatch(self.name)
        return numbered[1] if numbered else self.name


@dataclass(frozen=True, slots=True)
class FoundChunks:
    """What the walk along a file came across.

    Attributes
    ----------
    chunks : list of Chunk
        The complete ones, in their order in the file.
    cut : Chunk or None
        One that the file ends in the middle of.
    stop : int
        Byte at which there is no further complete chunk.
    size : int
        Bytes of the file.
    """

    chunks: list[Chunk]
    cut: Chunk | None
    stop: int
    size: int

    def as_map(self, metadata: Mapping[str, bytes]) -> ChunkMap:
        """The map that the file does not have; of several chunks of one name, the last.

        Parameters
        ----------
        metadata : mapping of str to bytes
            Names of the metadata chunks by what they hold.

        Raises
        ------
        ND2FormatError
            There are no attributes, without which the size of the image is not known, or no frames.
        """
        if all(chunk.name != metadata["attributes"] for chunk in self.chunks):
            raise ND2FormatError(
                f"it cannot be rescued: {self._extent()} there is no "
                f"{metadata['attributes'].decode()!r}, which tells the size of the image"
            )
        chunks: dict[bytes, ChunkExtent] = {}
        frames: dict[int, Chunk] = {}
        for chunk in self.chunks:
            numbered = _NUMBERED.fullmatch(chunk.name)
            if numbered and numbered[1] == _FRAMES:
                frames[int(numbered[2])] = chunk
            elif numbered is None or int(numbered[2]) == 0:
                chunks[chunk.name] = ChunkExtent(chunk.offset, chunk.length, chunk.stop)
        if not frames:
            raise ND2FormatError(f"it cannot be rescued: {self._extent()} no frame is complete")
        return ChunkMap(
            chunks,
            np.array(list(frames), np.int64),
            np.array([chunk.offset for chunk in frames.values()], np.int64),
            np.array([chunk.length for chunk in frames.values()], np.int64),
            boundaries=np.array([*(chunk.offset for chunk in self.chunks), self.stop], np.int64),
            shared=np.empty(0, np.int64),
        )

    def describe(self, layout: FrameLayout, metadata: Mapping[str, bytes]) -> str:
        """What was found and what was lost, in words."""
        names = {chunk.name for chunk in self.chunks}
        lost = [part for part, name in metadata.items() if name not in names]
        present = np.count_nonzero(layout.offsets.values() != MISSING)
        stored = sum(name.startswith(_FRAMES + b"|") for name in names)
        count = f"{present} of {layout.frame_count} frames"
        texts = [f"rescued without a chunk map: {self._extent()} there are {count}"]
        if self.cut is not None:
            texts.append(f"{self.cut.name.decode('ascii', 'replace')!r} is incomplete")
        elif self.stop < self.size:
            texts.append(f"no chunk starts at byte {self.stop}")
        if lost:
            texts.append(f"not found of the metadata: {', '.join(lost)}")
        if "picture" in lost:
            texts.append("so channels have no names and pixels no size")
        if "experiment" in lost and layout.loops:
            texts.append("so frames are numbered along U instead of arranged")
        if stored > present:
            texts.append(f"{stored - present} frames have no place in the experiment")
        return "; ".join(texts)

    def _extent(self) -> str:
        return f"in bytes 0-{min(self.stop, self.size)} of {self.size}"


def find_chunks(fetch: Fetch, size: int, head: bytes) -> FoundChunks:
    """Walk along a file from chunk to chunk.

    Parameters
    ----------
    fetch : callable
        Reads byte ranges.
    size : int
        Bytes of the file.
    head : bytes
        Its first bytes, which need not be read again.

    Returns
    -------
    FoundChunks
    """
    headers = _Headers(fetch, size, head)
    chunks: list[Chunk] = []
    latest: dict[bytes, int] = {}  # number of the last chunk of each kind
    cycle: list[int] = []  # sizes of the chunks that are presumed to follow, over and over
    at, ahead = 0, 1
    while True:
        places = _presumed(at, cycle, ahead, size)
        found = 0
        for place, header in zip(places, headers.read(places), strict=True):
            chunk = _parse(header, place)
            if place != at or chunk is None or chunk.end > size:
                break
            previous = latest.get(chunk.kind, len(chunks))
            latest[chunk.kind] = len(chunks)
            chunks.append(chunk)
            at = chunk.stop
            found += 1
        if not found:
            return FoundChunks(chunks, chunk if places else None, at, size)
        cycle = [c.stop - c.offset for c in chunks[previous + 1 :][:_LONGEST_CYCLE]]
        ahead = min(2 * ahead, _MOST_AHEAD) if found == len(places) else 2


def _presumed(at: int, cycle: list[int], count: int, size: int) -> list[int]:
    """Where the next `count` chunks start, the first of them for certain."""
    places = []
    for number in range(count):
        if at + CHUNK_HEADER.size > size:
            break
        places.append(at)
        if not cycle:
            break
        at += cycle[number % len(cycle)]
    return places


def _parse(header: bytes, place: int) -> Chunk | None:
    """The chunk of which this is the header; None if it is not one."""
    magic, name_length, length = CHUNK_HEADER.unpack_from(header)
    if magic != CHUNK_MAGIC:
        return None
    name, mark, _ = header[CHUNK_HEADER.size :][:name_length].partition(b"!")
    start = place + CHUNK_HEADER.size + name_length
    return Chunk(name + mark, place, length, start + length)


class _Headers:
    """Reads the bytes at many places, and keeps those it read last."""

    def __init__(self, fetch: Fetch, size: int, head: bytes) -> None:
        self._fetch, self._size = fetch, size
        self._starts, self._blocks = [0], [head]
        self._last = 0

    def read(self, places: list[int]) -> list[bytes]:
        """Bytes of the header at each of the places, which ascend."""
        held = {place: header for place in places if (header := self._held(place))}
        missing = np.array([place for place in places if place not in held], np.int64)
        if len(missing):
            stops = missing + _HEADER
            near = missing[-1] - max([self._last, *missing[:-1].tolist()]) < _GAP
            stops[-1] += _AHEAD if near else 0
            stops = np.minimum(stops, self._size)
            bounds = coalesce(missing, stops, _GAP, _MAX_REQUEST)
            ranges = [(int(missing[i]), int(stops[j - 1])) for i, j in pairwise(bounds.tolist())]
            self._starts, self._blocks = [start for start, _ in ranges], self._fetch(ranges)
        self._last = places[-1] if places else self._last
        return [held.get(place) or self._held(place) for place in places]

    def _held(self, place: int) -> bytes:
        """Bytes of a header that are known already, else nothing."""
        number = bisect_right(self._starts, place) - 1
        if number < 0:
            return b""
        begin = place - self._starts[number]
        end = min(begin + _HEADER, self._size - self._starts[number])
        return self._blocks[number][begin:end] if end <= len(self._blocks[number]) else b""
