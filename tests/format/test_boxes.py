"""The map of boxes of legacy files."""

from __future__ import annotations

import struct

import pytest

from xarray_nd2 import ND2FormatError
from xarray_nd2.format.boxes import (
    BOX_MAP_SIGNATURE,
    box_data,
    parse_box_footer,
    parse_box_map,
    parse_image_header,
)


def entries(*boxes: tuple[bytes, bytes, int]) -> bytes:
    return struct.pack(">I", len(boxes)) + b"".join(struct.pack("<4s4sQ", *box) for box in boxes)


def test_map() -> None:
    data = entries(
        (b"jp2h", b"LUNK", 40),
        (b"jp2c", b"LUNK", 300),
        (b"jp2c", b"LUNK", 100),
        (b"xml ", b"VIMD", 900),
    )
    boxes = parse_box_map(data, 1000)
    assert boxes.header == 0
    assert boxes.codestreams.tolist() == [1, 2]  # in the order of the map
    assert boxes.stops.tolist() == [100, 900, 300, 1000]
    assert boxes.of_tag(b"VIMD").tolist() == [3]
    assert not boxes.contested.any()


def test_map_with_lies() -> None:
    boxes = parse_box_map(
        entries((b"jp2c", b"LUNK", 100), (b"jp2c", b"LUNK", 100), (b"jp2c", b"LUNK", 2**64 - 1)),
        500,
    )
    assert boxes.contested.tolist() == [True, True, False]
    assert (boxes.stops - boxes.offsets).tolist() == [400, 400, 0]
    with pytest.raises(ND2FormatError, match="4294967295 entries, with room for 1"):
        parse_box_map(b"\xff" * 4 + entries((b"jp2c", b"LUNK", 1))[4:], 500)
    assert not len(parse_box_map(entries(), 500).codestreams)


@pytest.mark.parametrize("distance", [0, 43, 995, 2**64 - 1])
def test_footer_outside_of_the_file(distance: int) -> None:
    tail = struct.pack("<32sQ", BOX_MAP_SIGNATURE, distance)
    with pytest.raises(ND2FormatError, match=f"start {distance} bytes before the end"):
        parse_box_footer(tail, 1000)


def test_no_footer() -> None:
    with pytest.raises(ND2FormatError, match="no map of boxes in the last 40 of 30 bytes"):
        parse_box_footer(bytes(30), 30)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\0\0\0\x09jp2", "no room for a box at byte 7"),
        (b"\0\0\0\x0axml ab", "expected a box b'jp2c' at byte 7, found b'xml '"),
        (b"\0\0\0\x0bjp2cab", "11 bytes, with room for 10"),
        (b"\0\0\0\x01jp2cab", "1 bytes, with room for 10"),
    ],
)
def test_box_refused(data: bytes, message: str) -> None:
    with pytest.raises(ND2FormatError, match=message):
        box_data(data, 7, b"jp2c")


def test_image_header() -> None:
    inside = struct.pack(">I4sIIHBBBB", 22, b"ihdr", 512, 640, 3, 11, 7, 0, 0)
    header = parse_image_header(struct.pack(">I4s", 30, b"jp2h") + inside, 0)
    assert (header.height, header.width, header.components, header.bits) == (512, 640, 3, 12)
    with pytest.raises(ND2FormatError, match="truncated at byte 110"):
        parse_image_header(struct.pack(">I4s", 18, b"jp2h") + inside[:10], 100)
    with pytest.raises(ND2FormatError, match="found b'colr'"):
        parse_image_header(struct.pack(">I4s", 30, b"jp2h") + inside.replace(b"ihdr", b"colr"), 0)
