"""Limits on metadata that is handed to a library that trusts what it reads.

nd2 follows records within records by recursion, each with a copy of its bytes, joins texts two bytes
at a time, and inflates whatever is compressed. Here its steps are followed without doing the work. What
else may be wrong with the metadata is left to nd2 to find.
"""

from __future__ import annotations

import struct
import zlib
from typing import Final

from xarray_nd2.errors import ND2FormatError

_MAX_CHUNK_BYTES: Final = 2**25
_MAX_INFLATED_BYTES: Final = 2**26  # of one compressed record
_MAX_COPIED_BYTES: Final = 2**27  # where records hold records
_MAX_TEXT_BYTES: Final = 2**18  # nd2 takes the square of that
_MAX_XML_PARTS: Final = 500_000  # elements and their attributes

_SCALAR_BYTES: Final = {1: 1, 2: 4, 3: 4, 4: 8, 5: 8, 6: 8, 7: 8}
_TEXT_RECORD, _BYTES_RECORD, _LEVEL_RECORD, _COMPRESSED_RECORD = (
    8,
    9,
    11,
    76,
)  # types of records of other sizes


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
    problem = ""
    if len(data) > _MAX_CHUNK_BYTES:
        problem = "is too long"
    elif not data.startswith(b"<"):
        problem = _problem_of_records(data)
    elif "<!DOCTYPE" in data.replace(b"\0", b"").decode("utf-8", "ignore"):
        # In UTF-16 too, and with bytes in between that nd2 drops.
        problem = "declares a document type"
    elif data.count(b"<") + data.count(b"=") > _MAX_XML_PARTS:
        problem = "has too many elements"
    if problem:
        raise ND2FormatError(f"the metadata in {name.decode('ascii', 'replace')!r} {problem}")


def _problem_of_records(data: bytes) -> str:
    """What is wrong with metadata records, '' for nothing."""
    copied = 0
    pending = [(data, 0, len(data), 1)]  # bytes, their part, and how many records to read of it
    while pending:
        data, at, end, count = pending.pop()
        if count <= 0 or at + 2 > end:
            continue
        kind, value = data[at], at + 2 + 2 * data[at + 1]
        after = value + _SCALAR_BYTES.get(kind, 0)
        inside = (data, after, after, 0)
        if kind == _COMPRESSED_RECORD:  # all that is left of these bytes
            inflated = _inflated(data[at + 12 : end])
            if len(inflated) == _MAX_INFLATED_BYTES:
                return "inflates to too much"
            inside, after = (inflated, 0, len(inflated), 1), end
        elif kind == _LEVEL_RECORD and value + 12 <= end:
            items, length = struct.unpack_from("<IQ", data, value)
            stop = min(at + length, end) if at + length >= value + 12 else end
            inside, after = (data, value + 12, stop, items), stop + 8 * items  # an offset for each
        elif kind == _BYTES_RECORD and value + 8 <= end:
            (size,) = struct.unpack_from("<Q", data, value)
            after = min(value + 8 + size, end)
            start = data[value + 8 : min(value + 10, after)]
            # Records of their own, if they look like it.
            holds = start[:1] == bytes([_COMPRESSED_RECORD]) or (len(start) == 2 and start[1] > 1)
            inside = data, value + 8, after, int(holds)
        elif kind == _TEXT_RECORD:
            after = _end_of_text(data, value, end)
            if after - value > _MAX_TEXT_BYTES:
                return "is too long"
        copied += inside[2] - inside[1]
        if copied >= _MAX_COPIED_BYTES:
            return "is nested too deeply"
        pending += [(data, after, end, count - 1), inside]
    return ""


def _end_of_text(data: bytes, start: int, end: int) -> int:
    """Where UTF-16 that ends with a zero ends."""
    at = data.find(b"\0\0", start, end)
    while at >= 0 and (at - start) % 2:
        at = data.find(b"\0\0", at + 1, end)
    return end if at < 0 else at + 2


def _inflated(stream: bytes) -> bytes:
    """The stream inflated, up to the most that is allowed; nothing if it is none."""
    try:
        return zlib.decompressobj().decompress(stream, _MAX_INFLATED_BYTES)
    except zlib.error:
        return b""
