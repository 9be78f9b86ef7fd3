"""What metadata is refused before nd2 reads it, and what is just not."""

from __future__ import annotations

import struct
import zlib

import pytest

from xarray_nd2.errors import ND2FormatError
from xarray_nd2.metadata.limits import check_metadata

MEGABYTE = 2**20


def level(inside: bytes, count: int = 1) -> bytes:
    """A record that holds `count` others."""
    return (
        bytes([11, 1, 0, 0])
        + struct.pack("<IQ", count, 16 + len(inside))
        + inside
        + bytes(8 * count)
    )


def array(inside: bytes) -> bytes:
    return bytes([9, 1, 0, 0]) + struct.pack("<Q", len(inside)) + inside


def text(characters: int) -> bytes:
    return bytes([8, 1, 0, 0]) + b"a\0" * characters + b"\0\0"


def compressed(inside: bytes) -> bytes:
    return bytes([76, 0]) + bytes(10) + zlib.compress(inside)


TRUE = bytes([1, 1, 0, 0, 1])


def nested(depth: int) -> bytes:
    inside = bytes(MEGABYTE)
    for _ in range(depth):
        inside = level(inside)
    return inside


DAMAGED = compressed(bytes(MEGABYTE))[:-1] + b"!"
ENTITIES = '<!DOCTYPE a [<!ENTITY e "ha">]><a>&e;</a>'

REFUSED: dict[str, tuple[bytes, str]] = {
    "long": (level(bytes(2**25)), "is too long"),
    "records": (level(TRUE * 500_001, 500_001), "has too many records"),
    "records in a small stream": (
        compressed(level(TRUE * 4_000_000, 4_000_000)),
        "has too many records",
    ),
    "a text": (level(text(131_100)), "has too long a text"),
    "texts": (level(text(65_600) * 5, 5), "has too long a text"),
    "an array": (array(bytes(15 * MEGABYTE)), "has too long an array"),
    "an array in a small stream": (
        compressed(array(bytes(15 * MEGABYTE))),
        "has too long an array",
    ),
    "levels": (nested(130), "is nested too deeply"),
    "a bomb": (compressed(bytes(2**26)), "inflates to too much"),
    "a bomb in a stream": (compressed(compressed(bytes(2**26))), "inflates to too much"),
    "a damaged stream": (level(DAMAGED), "is compressed wrongly"),
    "entities": (ENTITIES.encode(), "declares a document type"),
    "entities in UTF-16": (("<a/>" + ENTITIES).encode("utf-16-le"), "declares a document type"),
    "elements": (b"<a>" + b"<b/>" * 500_000 + b"</a>", "has too many elements"),
    "a tag and its children": (
        b"<v><" + b"x" * 1000 + b">" + b"<a/>" * 1000 + b"</v>",
        "too long a name",
    ),
}

TAKEN: dict[str, bytes] = {
    "nothing": b"",
    "records": level(TRUE * 490_000, 490_000),
    "a text": level(text(130_900)),
    "texts": level(text(60_000) * 4, 4),
    "an array": array(bytes(14 * MEGABYTE)),
    "levels": nested(120),
    "a stream": compressed(bytes(2**26 - 1)),
    "no record": bytes([99, 3]),
    "cut short": level(text(9))[:-12],
    "elements": b"<a>" + b"<b/>" * 490_000 + b"</a>",
    "a tag": b"<" + b"x" * 990 + b"/>",
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    data, problem = REFUSED[name]
    with pytest.raises(ND2FormatError, match=f"'ImageTextInfoLV!' .*{problem}"):
        check_metadata(b"ImageTextInfoLV!", data)


@pytest.mark.parametrize("name", TAKEN)
def test_taken(name: str) -> None:
    check_metadata(b"ImageTextInfoLV!", TAKEN[name])
