"""Decoding the XML of legacy files (version 1) to the tree of named values that nd2 makes of version 2."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final
from xml.etree.ElementTree import ParseError, fromstring

from xarray_nd2.errors import ND2FormatError
from xarray_nd2.metadata.limits import check_metadata

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from xml.etree.ElementTree import Element

_MAX_DEPTH: Final = 64
_READ_VALUE: Final[Mapping[str, Callable[[str], Any]]] = {
    "bool": lambda text: text.lower() in ("true", "1"),
    "lx_int32": int,
    "lx_uint32": int,
    "lx_int64": int,
    "lx_uint64": int,
    "double": float,
    "float": float,
    "CLxByteArray": lambda text: text.encode("utf-8", "replace"),
}
_NAMES_OF_ITEMS: Final = ("no_name", "TextInfoItem")
_NAMES_OF_WRAPPERS: Final = ("variant", "no_name")
_ATTRIBUTES_OF_TYPE: Final = ("runtype", "version", "_VERSION", "_SEQUENCE_INDEX")


def decoded_xml(tag: bytes, data: bytes) -> dict[str, Any]:
    r"""Values of the XML of a box.

    Parameters
    ----------
    tag : bytes
        Of the box, for errors.
    data : bytes
        Its data.

    Returns
    -------
    dict
        Named values below the root; items of lists are called i0000000000, i0000000001…

    Raises
    ------
    ND2FormatError
        It is no XML, or nested or long beyond reason.

    Examples
    --------
    >>> decoded_xml(b"VIMD", b'<a><variant><no_name><b runtype="double" value="2.5"/></no_name></variant></a>')
    {'b': 2.5}
    >>> decoded_xml(b"TINF", b'<TextInfo><TextInfoItem Index="5" Text="x"/></TextInfo>')
    {'i0000000000': {'Index': '5', 'Text': 'x'}}
    """
    shown = tag.decode("ascii", "replace")
    text = data.rstrip(b"\0 \r\n")
    if text.startswith(b"<?"):  # what it says of its encoding is not always so
        text = text.split(b"?>", 1)[-1]
    if not text.lstrip().startswith(b"<"):
        raise ND2FormatError(f"the box {shown} holds no XML")
    check_metadata(tag, text.lstrip())
    try:
        root = fromstring(text.decode("utf-8", "replace"))  # noqa: S314  (it declares no entities)
    except (ParseError, ValueError) as error:
        raise ND2FormatError(f"the box {shown} holds no XML: {error}") from error
    while len(root) == 1 and root[0].tag in _NAMES_OF_WRAPPERS:
        root = root[0]
    value = _value(root, 0, shown)
    return value if isinstance(value, dict) else {}


def _value(node: Element, depth: int, shown: str) -> Any:
    if depth > _MAX_DEPTH:
        raise ND2FormatError(f"the XML of the box {shown} is nested too deeply")
    kind, text = node.get("runtype"), node.get("value")
    if text is not None:
        try:
            return _READ_VALUE.get(kind or "", str)(text)
        except ValueError:
            return text
    values: dict[str, Any] = {
        name: text for name, text in node.items() if name not in _ATTRIBUTES_OF_TYPE
    }
    for number, child in enumerate(node):
        name = child.tag.rpartition("}")[2]
        if name in _NAMES_OF_ITEMS or name in values:
            name = f"i{number:010}"
        values[name] = _value(child, depth + 1, shown)
    return values
