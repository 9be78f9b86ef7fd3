"""Limits on metadata that is handed to a library that trusts what it reads.

nd2 follows records within records by recursion, each with a copy of its bytes, makes a list of every
array of bytes, joins texts two bytes at a time, and inflates whatever is compressed. Here the records
are walked along without that work, and what it would take is added up. What else may be wrong with
the metadata is left to nd2 to find.
"""

from __future__ import annotations

import re
import struct
import zlib
from enum import IntEnum
from typing import Final, TypeAlias

from xarray_nd2.errors import ND2FormatError

_MAX_CHUNK_BYTES: Final = 2**25
_MAX_RECORDS: Final = 500_000
_MAX_INFLATED_BYTES: Final = 2**26  # of one compressed record
_MAX_COPIED_BYTES: Final = 2**27  # where records hold records
_MAX_SQUARED_TEXT_BYTES: Final = 2**36  # joining a text takes the square of its length
_MAX_XML_PARTS: Final = 500_000  # elements and their attributes
# nd2 puts the tag of an element into a text for each child whose name was there before.
_LONG_XML_TAG: Final = re.compile(rb"<[^\s/>]{1000}")

_LONE_SURROGATE: Final = re.compile("[\ud800-\udfff]")

_SCALAR_BYTES: Final = {1: 1, 2: 4, 3: 4, 4: 8, 5: 8, 6: 8, 7: 8}


class _Record(IntEnum):
    """Types of records that are no scalars."""

    TEXT = 8
    BYTES = 9
    LEVEL = 11
    COMPRESSED = 76


_KNOWN_TYPES: Final = {*_SCALAR_BYTES, *map(int, _Record)}
# An array of bytes becomes a list, of 8 bytes for each.
_COPIES_OF_RECORD: Final = {int(_Record.BYTES): 9}
# Bytes, where a part of them starts and stops, how many records it has, and whether it is certain that
# these are records.
_Part: TypeAlias = tuple[bytes, int, int, int, bool]


def check_metadata(name: bytes, data: bytes) -> bool:
    """Refuse metadata that would take its reader unbounded time or memory.

    Parameters
    ----------
    name : bytes
        Of the chunk, for the error.
    data : bytes
        Its data: XML, or records of type, length of the name, name and value.

    Returns
    -------
    bool
        Whether it is complete: no record is of an unknown type, or runs past the end. XML is not looked
        at for that.

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
    problem, complete = "", True
    if len(data) > _MAX_CHUNK_BYTES:
        problem = "is too long"
    elif not data.startswith(b"<"):
        problem, complete = _problem_of_records(data)
    elif "<!DOCTYPE" in data.replace(b"\0", b"").decode("utf-8", "ignore"):
        # In UTF-16 too, and with bytes in between that nd2 drops.
        problem = "declares a document type"
    elif data.count(b"<") + data.count(b"=") > _MAX_XML_PARTS:
        problem = "has too many elements"
    elif _LONG_XML_TAG.search(data.replace(b"\0", b"")):
        problem = "has an element with too long a name"
    if problem:
        raise ND2FormatError(f"the metadata in {name.decode('ascii', 'replace')!r} {problem}")
    return complete


def without_lone_surrogates(data: bytes) -> bytes:
    """Records in which texts have a replacement character for each half of a pair in UTF-16.

    A library that decodes texts strictly would give up all of the records for one such half.

    Parameters
    ----------
    data : bytes
        Records that `check_metadata` has found bounded.
    """
    cleaned = bytearray(data)
    pending: list[_Part] = [(data, 0, len(data), 1, True)]
    while pending:
        part, at, end, count, certain = pending.pop()
        if count <= 0 or at + 2 > end:
            continue
        inside, after = _split_record(part, at, end, certain)
        if inside is None:
            continue
        if part is data and part[at] == _Record.TEXT:
            start = at + 2 + 2 * part[at + 1]
            value = slice(start, start + (min(after, end) - start) // 2 * 2)
            text = part[value].decode("utf-16-le", "surrogatepass")
            whole = _LONE_SURROGATE.sub("\ufffd", text).encode("utf-16-le")
            cleaned[value] = whole
        pending += [(part, min(after, end), end, count - 1, certain), inside]
    return bytes(cleaned)


def _problem_of_records(data: bytes) -> tuple[str, bool]:
    """What is wrong with metadata records, '' for nothing, and whether all of them are complete."""
    records = copied = squared_text = 0
    complete = True
    pending: list[_Part] = [(data, 0, len(data), 1, True)]
    while pending:
        data, at, end, count, certain = pending.pop()
        if count <= 0 or at + 2 > end:
            complete &= count <= 0 or not certain
            continue
        inside, after = _split_record(data, at, end, certain)
        if inside is None:
            return "is compressed wrongly, or inflates to too much", False
        complete &= not certain or (data[at] in _KNOWN_TYPES and after <= end)
        after = min(after, end)
        records += 1
        copied += (inside[2] - inside[1]) * _COPIES_OF_RECORD.get(data[at], 1)
        squared_text += (after - at) ** 2 if data[at] == _Record.TEXT else 0
        if records > _MAX_RECORDS:
            return "has too many records", False
        if squared_text > _MAX_SQUARED_TEXT_BYTES:
            return "has too long a text", False
        if copied >= _MAX_COPIED_BYTES:
            return "is nested too deeply, or has too long an array", False
        pending += [(data, after, end, count - 1, certain), inside]
    return "", complete


def _split_record(data: bytes, at: int, end: int, certain: bool) -> tuple[_Part | None, int]:
    """The part of a record that holds records, and where it says that the next record starts.

    The part is None where it does not inflate to what may be looked at.
    """
    kind, value = data[at], at + 2 + 2 * data[at + 1]
    after = value + _SCALAR_BYTES.get(kind, 0)
    if kind == _Record.COMPRESSED:  # all that is left of these bytes
        inflated = _inflated(data[at + 12 : end])
        return None if inflated is None else (inflated, 0, len(inflated), 1, certain), end
    if kind == _Record.LEVEL:
        if value + 12 > end:
            return (data, end, end, 0, certain), end + 1
        items, length = struct.unpack_from("<IQ", data, value)
        said = at + length if at + length >= value + 12 else end + 1
        stop = min(said, end)
        return (data, value + 12, stop, items, certain), max(said, stop + 8 * items)
    if kind == _Record.BYTES:
        if value + 8 > end:
            return (data, end, end, 0, certain), end + 1
        (size,) = struct.unpack_from("<Q", data, value)
        after = value + 8 + size
        stop = min(after, end)
        start = data[value + 8 : min(value + 10, stop)]
        # Records of their own, if they look like it.
        holds = start[:1] == bytes([_Record.COMPRESSED]) or (len(start) == 2 and start[1] > 1)
        return (data, value + 8, stop, int(holds), False), after
    if kind == _Record.TEXT:
        after = _end_of_text(data, value, end)
    stop = min(after, end)
    return (data, stop, stop, 0, certain), after


def _end_of_text(data: bytes, start: int, end: int) -> int:
    """Where UTF-16 that ends with a zero ends, past the end if it does not."""
    at = data.find(b"\0\0", start, end)
    while at >= 0 and (at - start) % 2:
        at = data.find(b"\0\0", at + 1, end)
    return end + 1 if at < 0 else at + 2


def _inflated(stream: bytes) -> bytes | None:
    """The stream inflated; None if it is damaged, or too large to be."""
    try:
        inflated = zlib.decompressobj().decompress(stream, _MAX_INFLATED_BYTES)
    except zlib.error:
        return None
    return inflated if len(inflated) < _MAX_INFLATED_BYTES else None
