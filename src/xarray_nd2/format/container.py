"""The records of the ND2 container: the file's signature and footer, and the headers of its chunks.

An ND2 file is a row of chunks, each of them::

    magic 0x0ABECEDA | name length | data length | name, padded | data

The first chunk carries the format's version; the last 40 bytes give the offset of the chunk map.
"""

from __future__ import annotations

import struct
from typing import Final

from xarray_nd2.errors import ND2FormatError, ND2UnsupportedError

CHUNK_MAGIC: Final = 0x0ABECEDA
CHUNK_HEADER: Final = struct.Struct("<IIQ")
"""Magic, length of the name area, length of the data."""
CHUNK_ALIGNMENT_BYTES: Final = 4096
"""Bytes of which every chunk's offset is a multiple."""
FILE_SIGNATURE: Final = b"ND2 FILE SIGNATURE CHUNK NAME01!"
MAP_NAME: Final = b"ND2 FILEMAP SIGNATURE NAME 0001!"
MAP_SIGNATURE: Final = b"ND2 CHUNK MAP SIGNATURE 0000001!"
FILE_FOOTER: Final = struct.Struct("<32sQ")
"""Signature of the map, offset of the map."""
FRAME_SEQUENCE: Final = b"ImageDataSeq"
"""Name of the chunks of frames, before the bar and the sequence index."""

_VERSION_TEXT_BYTES: Final = 64
SIGNATURE_BYTES: Final = CHUNK_HEADER.size + len(FILE_SIGNATURE) + _VERSION_TEXT_BYTES
"""Bytes of the first chunk."""


def frame_name(sequence_index: int) -> bytes:
    """Name of the chunk of a frame.

    Examples
    --------
    >>> frame_name(12)
    b'ImageDataSeq|12!'
    """
    return b"%s|%d!" % (FRAME_SEQUENCE, sequence_index)


def starts_like_chunk(head: bytes) -> bool:
    """Whether bytes begin as every chunk does, and so every ND2 file from version 2 on."""
    return head[:4] == CHUNK_MAGIC.to_bytes(4, "little")


def parse_signature(head: bytes) -> tuple[int, int]:
    """Version of the format from the first bytes of a file.

    Parameters
    ----------
    head : bytes
        The file's first `SIGNATURE_BYTES` bytes, or more.

    Returns
    -------
    tuple of int
        (major, minor).

    Raises
    ------
    ND2FormatError
        Not an ND2 file, or cut short.
    ND2UnsupportedError
        It is of a version that is not known.
    """
    if not head:
        raise ND2FormatError("the file is empty")
    if not starts_like_chunk(head):
        raise ND2FormatError(f"not an ND2 file: it starts with {head[:16]!r}")
    if len(head) < SIGNATURE_BYTES:
        raise ND2FormatError(f"truncated: only {len(head)} bytes, no room for the file signature")
    _, name_length, data_length = CHUNK_HEADER.unpack_from(head)
    name = head[CHUNK_HEADER.size : CHUNK_HEADER.size + len(FILE_SIGNATURE)]
    text = head[CHUNK_HEADER.size + len(FILE_SIGNATURE) :][:6]
    if (
        name != FILE_SIGNATURE
        or name_length != len(FILE_SIGNATURE)
        or data_length != _VERSION_TEXT_BYTES
    ):
        raise ND2FormatError("corrupt file signature at byte 0")
    if text[:3] != b"Ver" or not (text[3:4].isdigit() and text[5:6].isdigit()):
        raise ND2FormatError(
            f"unknown version {text!r} at byte {SIGNATURE_BYTES - _VERSION_TEXT_BYTES}"
        )
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
        FILE_FOOTER.unpack(tail[-FILE_FOOTER.size :]) if len(tail) >= FILE_FOOTER.size else (b"", 0)
    )
    if signature != MAP_SIGNATURE:
        raise ND2FormatError(
            f"no chunk map signature in the last {FILE_FOOTER.size} of {size} bytes: the file is "
            "truncated or its acquisition was cut short; rescue=True opens what is left of it"
        )
    if not SIGNATURE_BYTES <= location <= size - FILE_FOOTER.size - CHUNK_HEADER.size:
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
