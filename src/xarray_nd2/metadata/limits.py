"""Whether metadata may be handed to a library that trusts what it reads.

The library follows records within records by recursion, joins texts two bytes at a time, and
inflates whatever is compressed. A file that was damaged or made to harm could so take it minutes
and gigabytes. Here its steps are followed without doing the work, and counted. What else may be
wrong with the metadata is left to the library to find.
"""

from __future__ import annotations

import struct
import zlib
from typing import Final

from xarray_nd2.errors import ND2FormatError

_MAX_SIZE: Final = 2**26  # bytes
_MAX_PARTS: Final = 500_000  # records or elements
_MAX_INFLATED: Final = 2**26  # bytes of one compressed record
_MAX_COPIED: Final = 2**27  # bytes, where records hold records
_COPY_OF_BYTES: Final = 8  # bytes of memory for each of a record of bytes, which becomes a list
_MAX_APPENDED: Final = 2**34  # bytes, where texts are joined; 128 thousand characters in one

# Types of records: of a fixed size, and those that tell their size.
_SIZES: Final = {1: 1, 2: 4, 3: 4, 4: 8, 5: 8, 6: 8, 7: 8}
_TEXT, _BYTES, _LEVEL, _COMPRESSED = 8, 9, 11, 76


def check_metadata(name: bytes, data: bytes) -> None:
    """Refuse metadata that would take its reader unbounded time or memory.

    Parameters
    ----------
    name : bytes
        Of the chunk, for the error.
    data : bytes
        Its data: XML, or records of type, length of the name, name and value.

    Raises
    ------
    ND2FormatError
        It is nested, long or compressed beyond reason, or it is XML that declares entities.

    Examples
    --------
    >>> check_metadata(b"ImageTextInfo!", b"<!DOCTYPE bomb><variant/>")
    Traceback (most recent call last):
    xarray_nd2.errors.ND2FormatError: the metadata in 'ImageTextInfo!' declares a document type
    """
    if len(data) > _MAX_SIZE:
        problem = "is too long"
    elif not data.startswith(b"<"):
        problem = _problem_of_records(data)
    elif "<!DOCTYPE" in data.replace(b"\0", b"").decode("utf-8", "ignore"):
        # In UTF-16 too, and with bytes in between that the library drops.
        problem = "declares a document type"
    else:
        many = data.count(b"<") + data.count(b"=") > _MAX_PARTS
        problem = "has too many elements" if many else ""
    if problem:
        raise ND2FormatError(f"the metadata in {name.decode('ascii', 'replace')!r} {problem}")


def _problem_of_records(data: bytes) -> str:
    """What is wrong with metadata records, '' for nothing."""
    parts = copied = appended = 0
    pending = [(data, 0, len(data), 1)]  # bytes, their part, and how many records to read of it
    while pending:
        data, at, end, count = pending.pop()
        while count > 0 and at + 2 <= end:
            parts += 1
            if data[at] == _COMPRESSED:  # all that is left of these bytes
                data = _inflated(data[at + 12 : end])
                at, end, count = 0, len(data), 1
                copied += end if end < _MAX_INFLATED else _MAX_COPIED
            else:
                inside, stop, items, after = _record(data, at, end)
                copied += (stop - inside) * (_COPY_OF_BYTES if data[at] == _BYTES else 1)
                appended += (after - at) ** 2 // 4 if data[at] == _TEXT else 0
                pending.append((data, after, end, count - 1))
                at, end, count = inside, stop, items
            if copied >= _MAX_COPIED:
                return "is nested too deeply or inflates to too much"
            if parts > _MAX_PARTS or appended > _MAX_APPENDED:
                return "is too long"
    return ""


def _record(data: bytes, at: int, end: int) -> tuple[int, int, int, int]:
    """Part of a record that holds records, how many, and where the next record starts."""
    kind, value = data[at], at + 2 + 2 * data[at + 1]
    after = value + _SIZES.get(kind, 0)
    if kind == _LEVEL and value + 12 <= end:
        items, length = struct.unpack_from("<IQ", data, value)
        inside, stop = value + 12, at + length
        stop = min(stop, end) if stop >= inside else end
        return inside, stop, items, stop + 8 * items  # an offset for each
    if kind == _BYTES and value + 8 <= end:
        (size,) = struct.unpack_from("<Q", data, value)
        inside, stop = value + 8, min(value + 8 + size, end)
        start = data[inside : min(inside + 2, stop)]
        # Records of their own, if they look like it.
        holds = start[:1] == bytes([_COMPRESSED]) or (len(start) == 2 and start[1] > 1)
        return inside, stop, int(holds), stop
    if kind == _TEXT:
        after = _end_of_text(data, value, end)
    return after, after, 0, after


def _end_of_text(data: bytes, start: int, end: int) -> int:
    """Where UTF-16 that ends with a zero ends."""
    at = start
    while True:
        at = data.find(b"\0\0", at, end)
        if at < 0:
            return end
        if (at - start) % 2 == 0:
            return at + 2
        at += 1


def _inflated(stream: bytes) -> bytes:
    """The stream inflated, up to the most that is allowed; nothing if it is none."""
    try:
        return zlib.decompressobj().decompress(stream, _MAX_INFLATED)
    except zlib.error:
        return b""
