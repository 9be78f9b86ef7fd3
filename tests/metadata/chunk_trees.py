"""Metadata chunks as trees of which one value can be changed, everything else staying as it was.

Nothing is interpreted: of every record the type, the name and the bytes of its value are kept, in
their order, so that an unchanged tree gives the bytes it was read from.
"""

from __future__ import annotations

import base64
import copy
import struct
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate
from typing import TYPE_CHECKING, TypeAlias
from xml.etree import ElementTree as ET

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

Path: TypeAlias = tuple[int, ...]
"""Where a key is: its number in its level, after that of the level in its own level."""

TEXT, BYTES, LEVEL, COMPRESSED = 8, 9, 11, 76
BYTES_OF_NUMBER = {1: 1, 2: 4, 3: 4, 4: 8, 5: 8, 6: 8, 7: 8}
NUMBER_FORMATS = {1: "<B", 2: "<i", 3: "<I", 4: "<q", 5: "<Q", 6: "<d", 7: "<Q"}
LEVEL_HEAD = struct.Struct("<IQ")  # how many records, and where the offsets of them are


@dataclass(frozen=True)
class Record:
    """One record of the encoding of version 3 files."""

    kind: int
    name: bytes
    """As stored: UTF-16 that ends in a zero, or nothing at all."""
    value: bytes = b""
    """As stored; of a level nothing, of a compressed record all that follows its type."""
    items: tuple[Record, ...] = ()
    order: tuple[int, ...] | None = ()
    """Of a level, which of its records each offset points to; None where the offsets are zeros."""

    @property
    def key(self) -> str:
        return self.name.decode("utf-16-le", "surrogatepass").removesuffix("\0")

    @cached_property
    def encoded(self) -> bytes:
        if self.kind == COMPRESSED:
            return bytes([COMPRESSED]) + self.value
        head = bytes([self.kind, len(self.name) // 2]) + self.name
        if self.kind != LEVEL:
            return head + self.value
        records = [item.encoded for item in self.items]
        # The length and the offsets count from the first byte of the level's own record.
        *starts, end = accumulate(map(len, records), initial=len(head) + LEVEL_HEAD.size)
        offsets = [0] * len(records) if self.order is None else [starts[i] for i in self.order]
        packed = struct.pack(f"<{len(offsets)}Q", *offsets)
        return head + LEVEL_HEAD.pack(len(records), end) + b"".join(records) + packed


def level(name: bytes, items: Sequence[Record], *, offsets: bool = True) -> Record:
    """A level whose offsets are sorted by name, or zeros."""
    order = sorted(range(len(items)), key=lambda i: items[i].key) if offsets else None
    return Record(LEVEL, name, b"", tuple(items), None if order is None else tuple(order))


def stored_name(key: str) -> bytes:
    """A name as it is stored."""
    return (key + "\0").encode("utf-16-le")


# What a value is replaced by; levels are made for themselves.
LITE_VALUES: dict[str, tuple[int, bytes]] = {
    "text": (TEXT, stored_name("damaged")),
    "empty text": (TEXT, stored_name("")),
    "negative": (2, struct.pack("<i", -7)),
    "zero": (3, struct.pack("<I", 0)),
    "huge": (5, struct.pack("<Q", 2**63 + 5)),
    "NaN": (6, struct.pack("<d", float("nan"))),
    "infinity": (6, struct.pack("<d", float("inf"))),
    "enormous": (6, struct.pack("<d", 1e300)),
    "bool": (1, b"\1"),
    "bytes": (BYTES, struct.pack("<Q", 5) + b"\0\1\xff\x0b\2"),
}
XML_VALUES: dict[str, tuple[str | None, str | None]] = {
    "text": ("CLxStringW", "damaged"),
    "empty text": ("CLxStringW", ""),
    "negative": ("lx_int32", "-7"),
    "zero": ("lx_uint32", "0"),
    "huge": ("lx_uint64", str(2**63 + 5)),
    "NaN": ("double", "nan"),
    "infinity": ("double", "inf"),
    "enormous": ("double", "1e300"),
    "bool": ("bool", "true"),
    "bytes": ("CLxByteArray", base64.b64encode(b"\0\1\xff\x0b\2").decode()),
    "no value": ("lx_uint32", None),
    "no type": (None, "3"),
    "unknown type": ("lx_int128", "3"),
    "number that is none": ("lx_uint32", "3 or 4"),
}
LEVELS = ("empty level", "level of levels")


@dataclass(frozen=True)
class LiteTree:
    """A chunk of a version 3 file: records one after another, to the end of the chunk."""

    records: tuple[Record, ...]
    replacements = (*LITE_VALUES, *LEVELS)

    def encoded(self) -> bytes:
        return b"".join(record.encoded for record in self.records)

    def paths(self) -> Iterator[Path]:
        """Where its keys are, the root's first."""
        yield from _record_paths(self.records)

    def keys(self, path: Path) -> list[str]:
        """Names from the root's to that of the key itself."""
        names, records = [], self.records
        for number in path:
            names.append(records[number].key)
            records = records[number].items
        return names

    def without(self, path: Path) -> bytes:
        return LiteTree(_with_record(self.records, path, None)).encoded()

    def with_value(self, path: Path, replacement: str) -> bytes:
        """The chunk with another value under one key, of the kind that `replacement` names."""
        old = _record_at(self.records, path)
        if replacement in LITE_VALUES:
            new = Record(LITE_VALUES[replacement][0], old.name, LITE_VALUES[replacement][1])
        elif replacement == "empty level":
            new = level(old.name, [])
        else:
            three = Record(3, stored_name("uiCount"), struct.pack("<I", 3))
            new = level(old.name, [level(stored_name("a0"), [three]), level(b"\0\0", [])])
        return LiteTree(_with_record(self.records, path, new)).encoded()

    def number(self, key: str) -> float:
        """The number under a key, at whatever depth."""
        for path in self.paths():
            record = _record_at(self.records, path)
            if record.key == key and record.kind in NUMBER_FORMATS:
                number: float = struct.unpack(NUMBER_FORMATS[record.kind], record.value)[0]
                return number
        raise KeyError(key)


@dataclass(frozen=True)
class XmlTree:
    """A chunk of XML whose root, ``variant``, is no key."""

    prolog: bytes
    root: ET.Element
    spaced: bool
    """Whether elements end in " />" or in "/>"."""
    replacements = (*XML_VALUES, *LEVELS)

    def encoded(self) -> bytes:
        text: str = ET.tostring(self.root, encoding="unicode")
        return self.prolog + (text if self.spaced else text.replace(" />", "/>")).encode()

    def paths(self) -> Iterator[Path]:
        """Where its keys are, the root's first."""
        yield from _element_paths(self.root)

    def keys(self, path: Path) -> list[str]:
        """Names from the root's to that of the key itself."""
        return [_element_at(self.root, path[: i + 1]).tag for i in range(len(path))]

    def without(self, path: Path) -> bytes:
        root = copy.deepcopy(self.root)
        del _element_at(root, path[:-1])[path[-1]]
        return replace(self, root=root).encoded()

    def with_value(self, path: Path, replacement: str) -> bytes:
        """The chunk with another value under one key, of the kind that `replacement` names."""
        root = copy.deepcopy(self.root)
        element = _element_at(root, path)
        name = element.tag
        element.clear()
        element.tag = name
        runtype, value = XML_VALUES.get(replacement, ("CLxListVariant", None))
        if runtype is not None:
            element.set("runtype", runtype)
        if value is not None:
            element.set("value", value)
        if replacement == "level of levels":
            first = ET.SubElement(element, "a0", runtype="CLxListVariant")
            ET.SubElement(first, "uiCount", runtype="lx_uint32", value="3")
            ET.SubElement(element, "no_name", runtype="CLxListVariant")
        return replace(self, root=root).encoded()

    def number(self, key: str) -> float:
        """The number under a key, at whatever depth."""
        element = self.root.find(f".//{key}")
        if element is None:
            raise KeyError(key)
        return float(element.get("value", ""))


ChunkTree: TypeAlias = LiteTree | XmlTree


def decoded(chunk: bytes) -> ChunkTree:
    """The tree of a chunk of either encoding.

    Raises
    ------
    ValueError
        It is of neither, or not encoded the way that this module encodes.
    """
    if chunk.startswith(b"<"):
        start = chunk.index(b"<variant")
        return XmlTree(chunk[:start], ET.fromstring(chunk[start:].decode()), b" />" in chunk)
    records, at = [], 0
    while at < len(chunk):
        record, at = _record(chunk, at, len(chunk))
        records.append(record)
    return LiteTree(tuple(records))


def _record(chunk: bytes, at: int, end: int) -> tuple[Record, int]:
    """The record that starts at a byte, and where it ends."""
    kind = chunk[at]
    if kind == COMPRESSED:
        return Record(COMPRESSED, b"", chunk[at + 1 : end]), end
    value = at + 2 + 2 * chunk[at + 1]
    name = chunk[at + 2 : value]
    if kind == LEVEL:
        return _level_record(chunk, at, value, name)
    if kind == TEXT:
        after = value
        while chunk[after : after + 2] != b"\0\0":
            after += 2
        after += 2
    elif kind == BYTES:
        after = value + 8 + int.from_bytes(chunk[value : value + 8], "little")
    elif kind in BYTES_OF_NUMBER:
        after = value + BYTES_OF_NUMBER[kind]
    else:
        raise ValueError(f"a record of type {kind} at byte {at}")
    if after > end:
        raise ValueError(f"the record at byte {at} ends at {after} of {end}")
    return Record(kind, name, chunk[value:after]), after


def _level_record(chunk: bytes, at: int, value: int, name: bytes) -> tuple[Record, int]:
    count, length = LEVEL_HEAD.unpack_from(chunk, value)
    items, starts = [], []
    place = value + LEVEL_HEAD.size
    while place < at + length:
        starts.append(place - at)
        record, place = _record(chunk, place, at + length)
        items.append(record)
    if count != len(items) or place != at + length:
        raise ValueError(f"the level at byte {at} has {len(items)} records of {count}")
    offsets = struct.unpack_from(f"<{count}Q", chunk, place)
    order = tuple(map(starts.index, offsets)) if any(offsets) else None
    return Record(LEVEL, name, b"", tuple(items), order if items else ()), place + 8 * count


def _record_paths(records: tuple[Record, ...]) -> Iterator[Path]:
    for number, record in enumerate(records):
        yield (number,)
        yield from ((number, *path) for path in _record_paths(record.items))


def _record_at(records: tuple[Record, ...], path: Path) -> Record:
    for number in path[:-1]:
        records = records[number].items
    return records[path[-1]]


def _with_record(records: tuple[Record, ...], path: Path, new: Record | None) -> tuple[Record, ...]:
    """The records with one of them, or of their items, replaced or left out."""
    number = path[0]
    before, old, after = records[:number], records[number], records[number + 1 :]
    if len(path) == 1:
        return before + (() if new is None else (new,)) + after
    items = _with_record(old.items, path[1:], new)
    if len(items) == len(old.items):  # under the same names
        return (*before, replace(old, items=items), *after)
    return (*before, level(old.name, items, offsets=old.order is not None), *after)


def _element_paths(element: ET.Element) -> Iterator[Path]:
    for number, child in enumerate(element):
        yield (number,)
        yield from ((number, *path) for path in _element_paths(child))


def _element_at(root: ET.Element, path: Path) -> ET.Element:
    for number in path:
        root = root[number]
    return root
