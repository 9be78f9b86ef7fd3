"""Where everything is in an ND2 file: its signature, its chunk map, and the metadata skeleton.

Pure functions from bytes to values. An ND2 file is a row of chunks, each of them::

    magic 0x0ABECEDA | name length | data length | name, padded | data

The first chunk carries the format's version; the last 40 bytes give the offset of the *chunk map*,
the list of every chunk's name, offset and data length. A map can hold millions of frames, so it is
parsed in array operations, and the frames stay arrays.

A *skeleton* is the file without its pixels: the metadata chunks written back to back into a small
valid ND2, for a library that reads whole files.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from xarray_nd2.errors import ND2FormatError, ND2UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

CHUNK_MAGIC = 0x0ABECEDA
CHUNK_HEADER = struct.Struct("<IIQ")  # magic, length of the name area, length of the data
CHUNK_ALIGNMENT = 4096
FILE_SIGNATURE = b"ND2 FILE SIGNATURE CHUNK NAME01!"
MAP_NAME = b"ND2 FILEMAP SIGNATURE NAME 0001!"
MAP_SIGNATURE = b"ND2 CHUNK MAP SIGNATURE 0000001!"
FOOTER = struct.Struct("<32sQ")  # map signature, offset of the map
SIGNATURE_SIZE = CHUNK_HEADER.size + len(FILE_SIGNATURE) + 64
JPEG2000_MAGIC = b"\x00\x00\x00\x0c"

_ENTRY_VALUES = 16  # after each name of the map: uint64 offset, uint64 data length
_FRAME_PREFIX = b"ImageDataSeq|"
_MAX_DIGITS = 12


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
    shared : ndarray of int64
        Offsets that the map gives to more than one chunk; there are none in a sound file.
    """

    chunks: Mapping[bytes, ChunkExtent]
    frame_index: NDArray[np.int64]
    frame_offset: NDArray[np.int64]
    frame_length: NDArray[np.int64]
    boundaries: NDArray[np.int64]
    shared: NDArray[np.int64]

    def room(self, offsets: NDArray[np.int64]) -> NDArray[np.int64]:
        """Bytes from each offset to the next chunk, -1 where none follows."""
        following = np.searchsorted(self.boundaries, offsets, side="right")
        known = following < len(self.boundaries)
        nearest = self.boundaries[np.minimum(following, len(self.boundaries) - 1)]
        return np.where(known, nearest - offsets, -1)


def parse_signature(head: bytes) -> tuple[int, int]:
    """Version of the format from the first bytes of a file.

    Parameters
    ----------
    head : bytes
        The file's first `SIGNATURE_SIZE` bytes, or more.

    Returns
    -------
    tuple of int
        (major, minor).

    Raises
    ------
    ND2FormatError
        Not an ND2 file, or cut short.
    ND2UnsupportedError
        A legacy file (version 1.0: JPEG 2000 codestreams).
    """
    if not head:
        raise ND2FormatError("the file is empty")
    if head.startswith(JPEG2000_MAGIC):
        raise ND2UnsupportedError(
            "a legacy ND2 (version 1.0, JPEG 2000 boxes) has no byte ranges to read: "
            "convert it, or read it whole with the nd2 package"
        )
    if not head.startswith(CHUNK_MAGIC.to_bytes(4, "little")):
        raise ND2FormatError(f"not an ND2 file: it starts with {head[:16]!r}")
    if len(head) < SIGNATURE_SIZE:
        raise ND2FormatError(f"truncated: only {len(head)} bytes, no room for the file signature")
    _, name_length, data_length = CHUNK_HEADER.unpack_from(head)
    name = head[CHUNK_HEADER.size : CHUNK_HEADER.size + len(FILE_SIGNATURE)]
    text = head[CHUNK_HEADER.size + len(FILE_SIGNATURE) :][:6]
    if name != FILE_SIGNATURE or name_length != len(FILE_SIGNATURE) or data_length != 64:
        raise ND2FormatError("corrupt file signature at byte 0")
    if text[:3] != b"Ver" or not (text[3:4].isdigit() and text[5:6].isdigit()):
        raise ND2FormatError(f"unknown version {text!r} at byte {SIGNATURE_SIZE - 64}")
    version = int(text[3:4]), int(text[5:6])
    if version[0] not in (2, 3):
        raise ND2UnsupportedError(f"ND2 version {version[0]}.{version[1]} is not known")
    return version


def parse_footer(tail: bytes, size: int) -> int:
    """Offset of the chunk map, from the last bytes of a file of `size` bytes.

    Raises
    ------
    ND2FormatError
        The file does not end as an ND2 does, or the offset lies outside of it.
    """
    signature, location = (
        FOOTER.unpack(tail[-FOOTER.size :]) if len(tail) >= FOOTER.size else (b"", 0)
    )
    if signature != MAP_SIGNATURE:
        raise ND2FormatError(
            f"no chunk map signature in the last {FOOTER.size} of {size} bytes: the file is "
            "truncated or its acquisition was cut short; rescue=True opens what is left of it"
        )
    if not SIGNATURE_SIZE <= location <= size - FOOTER.size - CHUNK_HEADER.size:
        raise ND2FormatError(f"the chunk map is said to be at byte {location} of {size}")
    return int(location)


def parse_chunk_header(buffer: bytes, name: bytes, offset: int) -> tuple[int, int]:
    """Check the header of the chunk `name` at the start of `buffer`.

    Parameters
    ----------
    buffer : bytes
        Bytes of the file from `offset` on, at least header and name.
    name : bytes
        The chunk's name, with its final ``!``.
    offset : int
        Where in the file the chunk starts, for the error.

    Returns
    -------
    tuple of int
        Bytes from the chunk's start to its data, and the length of the data.

    Raises
    ------
    ND2FormatError
        There is no such chunk here.
    """
    if len(buffer) < CHUNK_HEADER.size + len(name):
        raise ND2FormatError(f"truncated at byte {offset + len(buffer)} in {name.decode()!r}")
    magic, name_length, data_length = CHUNK_HEADER.unpack_from(buffer)
    found = bytes(buffer[CHUNK_HEADER.size : CHUNK_HEADER.size + len(name)])
    if magic != CHUNK_MAGIC or name_length < len(name) or found != name:
        raise ND2FormatError(
            f"expected the chunk {name.decode('ascii', 'replace')!r} at byte {offset}, found {bytes(buffer[:48])!r}"
        )
    return CHUNK_HEADER.size + name_length, data_length


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
    starts = np.concatenate([[0], ends[:-1] + 1 + _ENTRY_VALUES])[: len(ends)]
    signed = np.flatnonzero(ends - starts + 1 == len(MAP_SIGNATURE))
    last = next((i for i in signed if data[starts[i] : ends[i] + 1] == MAP_SIGNATURE), None)
    if last is None:
        raise damaged
    starts, ends = starts[:last], ends[:last]

    values = sliding_window_view(buffer, _ENTRY_VALUES)[ends + 1].view("<u8")
    # An offset past 2**63 is a lie; clipped, it still lies outside any file.
    offsets, lengths = np.minimum(values, np.uint64(2**62)).astype(np.int64).T
    lengths = np.where(lengths == offsets, -1, lengths)

    number, bar = _sequence_number(buffer, starts, ends)
    prefix = sliding_window_view(buffer, len(_FRAME_PREFIX))[starts]
    is_frame = (prefix == np.frombuffer(_FRAME_PREFIX, np.uint8)).all(axis=1)
    is_frame &= bar == starts + len(_FRAME_PREFIX) - 1

    boundaries, times = np.unique(np.append(offsets, location), return_counts=True)
    single = np.flatnonzero((bar < 0) | ((number == 0) & ~is_frame))
    following = np.searchsorted(boundaries, offsets[single], side="right")
    stops = np.append(boundaries, location)[following]
    columns = (starts, ends + 1, offsets, lengths)
    chunks = {
        data[start:end]: ChunkExtent(offset, length if length >= 0 else None, stop)
        for start, end, offset, length, stop in zip(
            *(column[single].tolist() for column in columns), stops.tolist(), strict=True
        )
    }
    return ChunkMap(
        chunks,
        number[is_frame],
        offsets[is_frame],
        lengths[is_frame],
        boundaries,
        boundaries[times > 1],
    )


def _entry_ends(buffer: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Positions of the ``!`` that end the entries' names, up to the end of the buffer."""
    marks = np.flatnonzero(buffer == ord("!"))
    follows = np.searchsorted(marks, marks + 1 + _ENTRY_VALUES).tolist()
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
    for _ in range(_MAX_DIGITS):
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


def build_skeleton(signature: bytes, chunks: Mapping[bytes, bytes]) -> bytes:
    """Write chunks back to back into a small valid ND2 file.

    Parameters
    ----------
    signature : bytes
        The first `SIGNATURE_SIZE` bytes of the original file.
    chunks : mapping of bytes to bytes
        Data of each chunk by name, the name with its final ``!``.

    Returns
    -------
    bytes
        The file: signature, chunks, chunk map.
    """
    parts = [_padded(signature[:SIGNATURE_SIZE])]
    position = len(parts[0])
    entries = []
    for name, data in chunks.items():
        parts.append(_padded(CHUNK_HEADER.pack(CHUNK_MAGIC, len(name), len(data)) + name + data))
        entries.append(name + struct.pack("<QQ", position, len(data)))
        position += len(parts[-1])
    entries.append(FOOTER.pack(MAP_SIGNATURE, position))
    entry_data = b"".join(entries)
    header = CHUNK_HEADER.pack(CHUNK_MAGIC, len(MAP_NAME), len(entry_data))
    return b"".join([*parts, header, MAP_NAME, entry_data])


def _padded(chunk: bytes) -> bytes:
    return chunk + bytes(-len(chunk) % CHUNK_ALIGNMENT)
