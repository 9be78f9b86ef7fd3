"""Codestreams are looked at before they are decoded."""

from __future__ import annotations

import struct

import numpy as np
import pytest

from xarray_nd2 import ND2FormatError
from xarray_nd2.format.codestream import check_codestream, codestream_size

imagecodecs = pytest.importorskip("imagecodecs")


def encoded(shape: tuple[int, ...], dtype: str = "uint16", **options: object) -> bytearray:
    pixels = np.random.default_rng(0).integers(0, 255, shape).astype(dtype)
    codestream = imagecodecs.jpeg2k_encode(
        pixels, level=0, codecformat="J2K", reversible=True, **options
    )
    return bytearray(codestream)


@pytest.mark.parametrize(
    ("shape", "dtype", "options"),
    [
        ((50, 60), "uint16", {}),
        ((50, 60), "uint8", {}),
        ((50, 60, 3), "uint8", {}),
        ((50, 60), "uint16", {"bitspersample": 12}),
    ],
)
def test_sound(shape: tuple[int, ...], dtype: str, options: dict[str, object]) -> None:
    data = bytes(encoded(shape, dtype, **options))
    size = codestream_size(data)
    components = shape[2] if len(shape) == 3 else 1
    assert (size.height, size.width, size.components) == (*shape[:2], components)
    item = np.dtype(dtype).itemsize
    check_codestream(data, shape[0], shape[1], components, item)
    others: list[tuple[int, int, int, int]] = [
        (shape[0] + 1, shape[1], components, item),
        (shape[0], shape[1] - 1, components, item),
        (shape[0], shape[1], components + 1, item),
        (shape[0], shape[1], components, 3 - item),
    ]
    for other in others:
        with pytest.raises(ND2FormatError, match=f"of {shape[0]} by {shape[1]} pixels"):
            check_codestream(data, *other)


def test_many_tiles_are_refused() -> None:
    data = encoded((1000, 1000))
    struct.pack_into(">II", data, 24, 4, 4)  # width and height of a tile
    with pytest.raises(ND2FormatError, match="62500 tiles"):
        check_codestream(bytes(data), 1000, 1000, 1, 2)


def test_many_packets_are_refused() -> None:
    data = encoded((1000, 1000))
    at = data.index(b"\xff\x52")
    struct.pack_into(">H", data, at + 6, 65535)  # layers
    data[at + 4] |= 1
    with pytest.raises(ND2FormatError, match="packets"):
        check_codestream(bytes(data), 1000, 1000, 1, 2)


def test_packets_of_a_tile_are_looked_at_too() -> None:
    """The header of a tile overrules that of the codestream."""
    data = encoded((1000, 1000))
    at = data.index(b"\xff\x93")
    style = struct.pack(">HHBBHBBBBBB", 0xFF52, 12, 0, 0, 65535, 0, 4, 4, 4, 0, 1)
    with pytest.raises(ND2FormatError, match="packets"):
        check_codestream(bytes(data[:at] + style + data[at:]), 1000, 1000, 1, 2)


def test_parts_without_length_do_not_hang() -> None:
    data = encoded((10, 10))
    at = data.index(b"\xff\x90")
    struct.pack_into(">I", data, at + 6, 3)
    with pytest.raises(ND2FormatError, match="ends before it begins"):
        check_codestream(bytes(data), 10, 10, 1, 2)


@pytest.mark.parametrize("data", [b"", b"\xff\x4f", bytes(100), b"\xff\x4f\xff\x51" + bytes(100)])
def test_no_codestream(data: bytes) -> None:
    with pytest.raises(ND2FormatError, match="no codestream"):
        codestream_size(data)
