"""The chunks of a file without a map, such as one whose acquisition was cut short.

Chunks lie one behind the other and each says how long it is, so from the start of the file all of
them are found, header by header. To spare a round trip for each, it is presumed that chunks go on
in the sizes they had since the last one of the same kind. Every header is still read: the first one
that is not where it was presumed ends a batch.

That takes at most two small requests for a chunk and two round trips, but only one for up to
`_MAX_PRESUMED_HEADERS` frames of the same size; headers close to each other share a request. Nothing
is made up: what is not found is missing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from xarray_nd2.errors import ND2FormatError
from xarray_nd2.format.chunk_map import ChunkExtent, ChunkMap, NumberedChunks
from xarray_nd2.format.container import (
    CHUNK_ALIGNMENT_BYTES,
    CHUNK_HEADER,
    CHUNK_MAGIC,
    FRAME_SEQUENCE,
    frame_name,
)
from xarray_nd2.format.layout import MISSING_OFFSET
from xarray_nd2.open.file_reader import MAX_GAP_BYTES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from xarray_nd2.format.layout import FrameLayout
    from xarray_nd2.open.file_reader import FileReader

_MAX_PRESUMED_HEADERS: Final = 4096  # headers that are presumed and read at once
_MAX_CYCLE_CHUNKS: Final = 64
_HEADER_BYTES: Final = 256  # that hold a chunk's header and its name
_READ_AHEAD_BYTES: Final = 256 * 1024  # behind a header where the next ones are likely in them
_NUMBERED_NAME: Final = re.compile(rb"(.*)\|(\d{1,12})!", re.DOTALL)


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
        return -(-self.end // CHUNK_ALIGNMENT_BYTES) * CHUNK_ALIGNMENT_BYTES

    @property
    def kind(self) -> bytes:
        """The name, without the number if it is one of a sequence."""
        numbered = _NUMBERED_NAME.fullmatch(self.name)
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
        """The map that the file does not have.

        Of several chunks of one name it has the last, but no frame: one of them is another frame,
        the name of which was damaged.

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
        for chunk in self.chunks:
            numbered = _NUMBERED_NAME.fullmatch(chunk.name)
            if numbered is None or int(numbered[2]) == 0:
                chunks[chunk.name] = ChunkExtent(chunk.offset, chunk.length, chunk.stop)
        frames = {number: same[0] for number, same in self._frames().items() if len(same) == 1}
        if not frames:
            raise ND2FormatError(f"it cannot be rescued: {self._extent()} no frame is complete")
        return ChunkMap(
            chunks,
            np.array(list(frames), np.int64),
            np.array([chunk.offset for chunk in frames.values()], np.int64),
            np.array([chunk.length for chunk in frames.values()], np.int64),
            boundaries=np.array([*(chunk.offset for chunk in self.chunks), self.stop], np.int64),
            contested=np.empty(0, np.int64),
            numbered=NumberedChunks.of(self._numbered()),
        )

    def describe(self, layout: FrameLayout, metadata: Mapping[str, bytes]) -> str:
        """What was found and what was lost, in words."""
        names = {chunk.name for chunk in self.chunks}
        lost = [part for part, name in metadata.items() if name not in names]
        present = np.count_nonzero(layout.offsets.values() != MISSING_OFFSET)
        stored = [len(same) for same in self._frames().values()]
        once = stored.count(1)
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
        if once < len(stored):
            texts.append(f"{sum(stored) - once} frames do not have a number of their own")
        if once > present:
            texts.append(f"{once - present} frames have no place in the experiment")
        return "; ".join(texts)

    def _frames(self) -> dict[int, list[Chunk]]:
        """The frames by their number."""
        frames: dict[int, list[Chunk]] = {}
        for chunk in self.chunks:
            numbered = _NUMBERED_NAME.fullmatch(chunk.name)
            if numbered and chunk.name == frame_name(number := int(numbered[2])):
                frames.setdefault(number, []).append(chunk)
        return frames

    def _numbered(self) -> list[tuple[bytes, int, int, int]]:
        """The chunks of all other sequences, each once."""
        found: dict[bytes, tuple[bytes, int, int, int]] = {}
        for chunk in self.chunks:
            numbered = _NUMBERED_NAME.fullmatch(chunk.name)
            if numbered and numbered[1] != FRAME_SEQUENCE:
                found[chunk.name] = numbered[1], int(numbered[2]), chunk.offset, chunk.length
        return list(found.values())

    def _extent(self) -> str:
        return f"in bytes 0-{min(self.stop, self.size)} of {self.size}"


def find_chunks(reader: FileReader) -> FoundChunks:
    """Walk along a file from chunk to chunk.

    Parameters
    ----------
    reader : FileReader
        Of the file.

    Returns
    -------
    FoundChunks
        All up to the first place where there is no complete chunk.
    """
    chunks: list[Chunk] = []
    latest: dict[bytes, int] = {}  # number of the last chunk of each kind
    cycle: list[int] = []  # sizes of the chunks that are presumed to follow, over and over
    at, ahead, before, last = 0, 1, 0, 0
    while True:
        places = _presumed(at, cycle, ahead, reader.size)
        *_, before, last = before, last, *places  # the two places that are looked at last
        headers = reader.read_scattered(
            np.array(places, np.int64),
            _HEADER_BYTES,
            _READ_AHEAD_BYTES if last - before < MAX_GAP_BYTES else 0,
        )
        found = 0
        chunk: Chunk | None = None
        for place, header in zip(places, headers, strict=True):
            chunk = _parse(header, place)
            if place != at or chunk is None or chunk.end > reader.size:
                break
            previous = latest.get(chunk.kind, len(chunks))
            latest[chunk.kind] = len(chunks)
            chunks.append(chunk)
            at = chunk.stop
            found += 1
        if not found:
            return FoundChunks(chunks, chunk, at, reader.size)
        cycle = [c.stop - c.offset for c in chunks[previous + 1 :][:_MAX_CYCLE_CHUNKS]]
        ahead = min(2 * ahead, _MAX_PRESUMED_HEADERS) if found == len(places) else 2


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
