"""The chunk map: the index of an ND2 file, with the name, offset and data length of every chunk.

A map can hold millions of frames, so it is parsed in array operations, and the frames stay arrays.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from xarray_nd2.errors import ND2FormatError
from xarray_nd2.format.container import CHUNK_HEADER, FRAME_SEQUENCE, MAP_SIGNATURE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

_ENTRY_VALUE_BYTES: Final = 16  # after each name: uint64 offset, uint64 data length
_MAX_SEQUENCE_DIGITS: Final = 12


@dataclass(frozen=True, slots=True)
class ChunkExtent:
    """Where one chunk lies.

    Attributes
    ----------
    offset : int
        Byte of the file at which the chunk's header starts.
    length : int or None
        Bytes of data after header and name area; None where the map does not say.
    stop : int
        Where the next chunk starts; this one ends at or before it.
    """

    offset: int
    length: int | None
    stop: int


@dataclass(frozen=True, eq=False, slots=True)
class NumberedChunks:
    """Chunks of sequences other than the frames, such as masks: one for each of some frames.

    Attributes
    ----------
    names : bytes
        Holds the name of each chunk up to its bar.
    start, bar : ndarray of int64, shape (n,)
        Where in `names` each name starts, and where its bar is.
    number, offset, length : ndarray of int64, shape (n,)
        Number behind the bar, chunk offset and data length (-1 where unknown).
    """

    names: bytes
    start: NDArray[np.int64]
    bar: NDArray[np.int64]
    number: NDArray[np.int64]
    offset: NDArray[np.int64]
    length: NDArray[np.int64]

    @classmethod
    def of(cls, chunks: Sequence[tuple[bytes, int, int, int]]) -> NumberedChunks:
        """Chunks by the name of their sequence, number, chunk offset and data length."""
        sizes = np.array([len(name) for name, *_ in chunks], np.int64)
        bars = np.cumsum(sizes)
        columns = np.array([values for _, *values in chunks], np.int64).reshape(-1, 3).T
        return cls(b"".join(name for name, *_ in chunks), bars - sizes, bars, *columns)

    def of_sequence(self, name: bytes) -> NumberedChunks:
        """Those of one sequence, without the bar in its name."""
        same = np.flatnonzero(self.bar - self.start == len(name))
        if len(same) and name:
            found = sliding_window_view(np.frombuffer(self.names, np.uint8), len(name))
            matches = found[self.start[same]] == np.frombuffer(name, np.uint8)
            same = same[matches.all(axis=1)]
        columns = (self.start, self.bar, self.number, self.offset, self.length)
        return NumberedChunks(self.names, *(column[same] for column in columns))


@dataclass(frozen=True, eq=False, slots=True)
class ChunkMap:
    """The index of an ND2 file.

    Attributes
    ----------
    chunks : mapping of bytes to ChunkExtent
        The chunks that are not one of a sequence, and number 0 of each sequence, by name.
    frame_index, frame_offset, frame_length : ndarray of int64, shape (n,)
        Sequence index, chunk offset and data length (-1 where unknown) of every frame, in the
        order of the map.
    boundaries : ndarray of int64
        Sorted offsets of all chunks, the map's own last.
    contested : ndarray of int64
        Offsets that the map gives to more than one chunk, or to one within the data of another;
        there are none in a sound file.
    numbered : NumberedChunks
        The chunks of all other sequences.
    """

    chunks: Mapping[bytes, ChunkExtent]
    frame_index: NDArray[np.int64]
    frame_offset: NDArray[np.int64]
    frame_length: NDArray[np.int64]
    boundaries: NDArray[np.int64]
    contested: NDArray[np.int64]
    numbered: NumberedChunks

    def with_frames(self, name: bytes) -> ChunkMap:
        """The map with the chunks of another sequence for frames."""
        found = self.numbered.of_sequence(name)
        return replace(
            self, frame_index=found.number, frame_offset=found.offset, frame_length=found.length
        )

    def bytes_to_next_chunk(self, offsets: NDArray[np.int64]) -> NDArray[np.int64]:
        """Bytes from each offset to the next chunk, -1 where none follows."""
        following = np.searchsorted(self.boundaries, offsets, side="right")
        known = following < len(self.boundaries)
        nearest = self.boundaries[np.minimum(following, len(self.boundaries) - 1)]
        return np.where(known, nearest - offsets, -1)


def map_of_chunks(chunks: Mapping[bytes, ChunkExtent]) -> ChunkMap:
    """A map of some chunks, none of them numbered."""
    none = np.empty(0, np.int64)
    return ChunkMap(chunks, none, none, none, none, none, NumberedChunks.of([]))


def parse_chunk_map(data: bytes, location: int) -> ChunkMap:
    """Parse the data of the chunk map.

    Entries have no fixed size: a name up to and with ``!``, then 16 binary bytes which may contain
    ``!`` too. So every ``!`` is found at once, each is linked to the first one that lies after its
    entry's 16 bytes, and the chain from the first is followed; all else is array arithmetic.

    Parameters
    ----------
    data : bytes
        The data of the map's chunk.
    location : int
        Offset of the map's chunk in the file.

    Returns
    -------
    ChunkMap

    Raises
    ------
    ND2FormatError
        The map is not a list that ends with its signature.
    """
    damaged = ND2FormatError(f"the chunk map at byte {location} ends without its signature")
    if data.count(b"!") > len(data) // 3:  # an entry has one name and few bytes that look so
        raise damaged
    buffer = np.frombuffer(data, np.uint8)
    ends = _entry_ends(buffer)
    starts = np.concatenate([[0], ends[:-1] + 1 + _ENTRY_VALUE_BYTES])[: len(ends)]
    signed = np.flatnonzero(ends - starts + 1 == len(MAP_SIGNATURE))
    last = next((i for i in signed if data[starts[i] : ends[i] + 1] == MAP_SIGNATURE), None)
    if last is None:
        raise damaged
    starts, ends = starts[:last], ends[:last]

    values = sliding_window_view(buffer, _ENTRY_VALUE_BYTES)[ends + 1].view("<u8")
    # An offset past 2**63 is a lie; clipped, it still lies outside any file.
    offsets, lengths = np.minimum(values, np.uint64(2**62)).astype(np.int64).T
    lengths = np.where(lengths == offsets, -1, lengths)

    number, bar = _sequence_number(buffer, starts, ends)
    prefix = sliding_window_view(buffer, len(FRAME_SEQUENCE))[starts]
    is_frame = (prefix == np.frombuffer(FRAME_SEQUENCE, np.uint8)).all(axis=1)
    is_frame &= bar == starts + len(FRAME_SEQUENCE)

    boundaries, times = np.unique(np.append(offsets, location), return_counts=True)
    following = np.searchsorted(boundaries, offsets, side="right")
    stops = np.append(boundaries, location)[following]
    overrun = lengths > stops - offsets - CHUNK_HEADER.size - (ends + 1 - starts)
    overrun &= following < len(boundaries)
    single = np.flatnonzero((bar < 0) | ((number == 0) & ~is_frame))
    columns = (starts, ends + 1, offsets, lengths, stops)
    others = np.flatnonzero((bar >= 0) & ~is_frame)
    chunks = {
        data[start:end]: ChunkExtent(offset, length if length >= 0 else None, stop)
        for start, end, offset, length, stop in zip(
            *(column[single].tolist() for column in columns), strict=True
        )
    }
    return ChunkMap(
        chunks,
        number[is_frame],
        offsets[is_frame],
        lengths[is_frame],
        boundaries,
        np.append(boundaries[times > 1], boundaries[following[overrun]]),
        NumberedChunks(data, *(each[others] for each in (starts, bar, number, offsets, lengths))),
    )


def _entry_ends(buffer: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Positions of the ``!`` that end the entries' names, up to the end of the buffer."""
    marks = np.flatnonzero(buffer == ord("!"))
    follows = np.searchsorted(marks, marks + 1 + _ENTRY_VALUE_BYTES).tolist()
    chain = []
    at = 0
    while at < len(follows):
        chain.append(at)
        at = follows[at]
    ends: NDArray[np.int64] = marks[chain].astype(np.int64)
    return ends


def _sequence_number(
    buffer: NDArray[np.uint8], starts: NDArray[np.int64], ends: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Number in names that end in ``|<number>!``, and where the bar is (-1 in other names)."""
    number = np.zeros(len(starts), np.int64)
    at = ends - 1
    running = np.ones(len(starts), bool)
    scale = 1
    for _ in range(_MAX_SEQUENCE_DIGITS):
        digit = buffer[np.maximum(at, 0)].astype(np.int64) - ord("0")
        running &= (digit >= 0) & (digit <= 9) & (at > starts)
        if not running.any():
            break
        number += np.where(running, digit * scale, 0)
        at = np.where(running, at - 1, at)
        scale *= 10
    # Nobody writes a number with zeros before it; it is one that was damaged.
    digits = ends - 1 - at
    plain = (digits == 1) | (number >= 10 ** np.maximum(digits - 1, 0))
    numbered = (digits > 0) & plain & (buffer[np.maximum(at, 0)] == ord("|"))
    return np.where(numbered, number, -1), np.where(numbered, at, -1)
