"""The two encodings of ND2 metadata: nested names and values to bytes.

An ND2 file keeps its metadata as trees of named, typed values. Version 3 files store a tree as
"lite variant" records, version 2 files store the same tree as variant XML. Both need a type for
every value, which Python's own types do not settle (an ``int`` may be one of four), so the type
follows the Python type and, for integers, the prefix of the name as the vendor uses it: ``ui`` is
unsigned, ``b`` a flag, ``d`` a double, anything else signed.

==============  ====================================  =======================================
Python value    lite variant                          variant XML
==============  ====================================  =======================================
mapping         level of named records                element with named children
sequence        level of records with an empty name   element with ``no_name`` children
`Flags`         byte array of 0 and 1                 element with children ``_00``, ``_01``…
`Typed`         integer of the given type             the same
==============  ====================================  =======================================
"""

from __future__ import annotations

import base64
import re
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from itertools import accumulate
from typing import TypeAlias
from xml.etree import ElementTree as ET

__all__ = [
    "NUMBER_STRUCTS",
    "Flags",
    "Tree",
    "Typed",
    "Value",
    "ValueType",
    "lite_variant",
    "variant_xml",
]


class Flags(tuple[bool, ...]):
    """Whether each item of a list is valid; the two encodings write it differently."""

    __slots__ = ()


class ValueType(IntEnum):
    """Type codes of lite variant records."""

    BOOL = 1
    INT32 = 2
    UINT32 = 3
    INT64 = 4
    UINT64 = 5
    DOUBLE = 6
    STRING = 8
    BYTES = 9
    LEVEL = 11


@dataclass(frozen=True)
class Typed:
    """An integer with a type that its name does not tell."""

    value: int
    type: ValueType


Value: TypeAlias = (
    bool | int | float | str | bytes | Flags | Typed | Mapping[str, "Value"] | Sequence["Value"]
)
Tree: TypeAlias = Mapping[str, Value]

NUMBER_STRUCTS = {
    ValueType.BOOL: struct.Struct("<?"),
    ValueType.INT32: struct.Struct("<i"),
    ValueType.UINT32: struct.Struct("<I"),
    ValueType.INT64: struct.Struct("<q"),
    ValueType.UINT64: struct.Struct("<Q"),
    ValueType.DOUBLE: struct.Struct("<d"),
}
_XML_RUNTYPES = {
    ValueType.BOOL: "bool",
    ValueType.INT32: "lx_int32",
    ValueType.UINT32: "lx_uint32",
    ValueType.INT64: "lx_int64",
    ValueType.UINT64: "lx_uint64",
    ValueType.DOUBLE: "double",
    ValueType.STRING: "CLxStringW",
    ValueType.BYTES: "CLxByteArray",
    ValueType.LEVEL: "CLxListVariant",
}
_TYPE_PREFIX = re.compile(r"(?:m_)?([a-z]*)")
_UNWRITABLE_CHARACTER = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
_MAX_NAME_CHARACTERS = 254


def lite_variant(tree: Tree) -> bytes:
    """Encode a tree as lite variant records, one after another.

    Parameters
    ----------
    tree : mapping of str to value
        Usually one item, named after the vendor's structure, e.g. ``SLxExperiment``.

    Returns
    -------
    bytes

    Raises
    ------
    ValueError
        If an integer does not fit 64 bits, a name is too long or a text has a control
        character.
    TypeError
        If a value is of no type that ND2 metadata has.
    """
    return b"".join(_lite_record(name, value) for name, value in tree.items())


def variant_xml(tree: Tree, root: str = "") -> bytes:
    """Encode a tree as variant XML in UTF-8, with the vendor's root elements.

    Parameters
    ----------
    tree : mapping of str to value
    root : str, optional
        Name of the element that holds the tree.

    Returns
    -------
    bytes

    Raises
    ------
    ValueError
        If an integer does not fit 64 bits or a text has a control character.
    TypeError
        If a value is of no type that ND2 metadata has.
    """
    document = ET.Element("variant", version="1.0")
    document.append(_xml_element(root, tree))
    text: str = ET.tostring(document, encoding="unicode")
    return f'<?xml version="1.0" encoding="UTF-8"?>{text}'.encode()


def _value_type(name: str, value: Value) -> ValueType:
    """Type of a value, by its Python type and for integers by its name."""
    if isinstance(value, Typed):
        return value.type
    if isinstance(value, bool):
        return ValueType.BOOL
    if isinstance(value, int):
        return _integer_type(name, value)
    for type_, python in (
        (ValueType.DOUBLE, float),
        (ValueType.STRING, str),
        (ValueType.BYTES, bytes),
        (ValueType.LEVEL, Mapping | Sequence),
    ):
        if isinstance(value, python):
            return type_
    raise TypeError(f"{name!r}: ND2 metadata has no type for {type(value).__name__}")


def _integer_type(name: str, value: int) -> ValueType:
    match = _TYPE_PREFIX.match(name)
    prefix = match[1] if match else ""
    if prefix == "d":
        return ValueType.DOUBLE
    if prefix == "b":
        return ValueType.BOOL
    unsigned = prefix == "ui"
    for bits, types in (
        (32, (ValueType.INT32, ValueType.UINT32)),
        (64, (ValueType.INT64, ValueType.UINT64)),
    ):
        low, high = (0, 2**bits) if unsigned else (-(2 ** (bits - 1)), 2 ** (bits - 1))
        if low <= value < high:
            return types[unsigned]
    raise ValueError(f"{name!r}: {value} is out of the range of its type")


def _named_children(value: Mapping[str, Value] | Sequence[Value]) -> list[tuple[str, Value]]:
    if isinstance(value, Mapping):
        return list(value.items())
    return [("", item) for item in value]


def _checked_text(name: str, text: str) -> str:
    """The text; raises a ValueError if ND2 metadata cannot hold it."""
    if _UNWRITABLE_CHARACTER.search(text):
        raise ValueError(f"{name!r}: {text!r} has a character that ND2 metadata cannot hold")
    return text


def _lite_record(name: str, value: Value) -> bytes:
    """One lite variant record: type, length of the name with its NUL, name, value."""
    if isinstance(value, Flags):
        value = bytes(value)
    encoded = name.encode("utf-16-le")
    if len(encoded) // 2 > _MAX_NAME_CHARACTERS:
        raise ValueError(
            f"the name {name[:20]!r}... has more than {_MAX_NAME_CHARACTERS} characters"
        )
    type_ = _value_type(name, value)
    value = value.value if isinstance(value, Typed) else value
    head = bytes([type_, len(encoded) // 2 + 1]) + encoded + b"\0\0"
    if isinstance(value, str):
        return head + _checked_text(name, value).encode("utf-16-le") + b"\0\0"
    if isinstance(value, bytes):
        return head + struct.pack("<Q", len(value)) + value
    if isinstance(value, (Mapping, Sequence)):
        return head + _level_body(len(head), value)
    return head + NUMBER_STRUCTS[type_].pack(value)


def _level_body(head: int, value: Mapping[str, Value] | Sequence[Value]) -> bytes:
    """Body of a level: how many, how long, the records, then their offsets sorted by name."""
    children = _named_children(value)
    records = [_lite_record(name, child) for name, child in children]
    # The length and the offsets count from the first byte of the level's own record.
    *starts, end = accumulate(map(len, records), initial=head + struct.calcsize("<IQ"))
    by_name = sorted(range(len(children)), key=lambda i: children[i][0])
    offsets = struct.pack(f"<{len(starts)}Q", *(starts[i] for i in by_name))
    return struct.pack("<IQ", len(records), end) + b"".join(records) + offsets


def _xml_element(name: str, value: Value) -> ET.Element:
    if isinstance(value, Flags):
        value = {f"_{i:02}": flag for i, flag in enumerate(value)}
    type_ = _value_type(name, value)
    value = value.value if isinstance(value, Typed) else value
    element = ET.Element(name or "no_name", runtype=_XML_RUNTYPES[type_])
    if isinstance(value, str):
        element.set("value", _checked_text(name, value))
    elif isinstance(value, bytes):
        element.set("value", base64.b64encode(value).decode("ascii"))
    elif isinstance(value, (Mapping, Sequence)):
        element.extend([_xml_element(*child) for child in _named_children(value)])
    else:
        element.set("value", _xml_number(type_, value))
    return element


def _xml_number(type_: ValueType, value: float) -> str:
    if type_ is ValueType.BOOL:
        return "true" if value else "false"
    return repr(float(value)) if type_ is ValueType.DOUBLE else str(value)
