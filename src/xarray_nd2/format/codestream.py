"""What a JPEG 2000 codestream says of itself, looked at before it is decoded.

A decoder believes what it reads: sizes, numbers of tiles, layers and precincts. So a few bytes could
cost any amount of memory or time. Here the markers are walked along, and what they would cost is bounded.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Final

from xarray_nd2.errors import ND2FormatError

if TYPE_CHECKING:
    from collections.abc import Iterator

SIZE_BYTES: Final = 128
"""From the start of a codestream, that tell its size."""

_CODESTREAM_START: Final = b"\xff\x4f"
_SEGMENT_HEADER: Final = struct.Struct(">HH")  # marker, length of what follows with these two bytes
_SIZE_FIELDS: Final = struct.Struct(">HIIIIIIIIH")
_TILE_PART_FIELDS: Final = struct.Struct(
    ">HIBB"
)  # tile, length, number of the part, how many there are
_MAX_TILES: Final = 4096
_MAX_PACKETS: Final = 2**20
_MAX_MARKERS: Final = 2**16
_LARGEST_PRECINCT: Final = 15  # power of 2, where none is given
_MAX_RESOLUTIONS: Final = 33


class _Marker(IntEnum):
    """What the parts of a codestream are."""

    SIZE = 0xFF51
    CODING_STYLE = 0xFF52
    CODING_STYLE_OF_COMPONENT = 0xFF53
    TILE_PART = 0xFF90
    DATA = 0xFF93
    END = 0xFFD9


@dataclass(frozen=True, slots=True)
class CodestreamSize:
    """Pixels of a codestream, its components, their bits, and whether they are unsigned and whole."""

    height: int
    width: int
    components: int
    bits: int
    plain: bool
    tiles: int


def codestream_size(data: bytes) -> CodestreamSize:
    """The size that a codestream tells.

    Parameters
    ----------
    data : bytes
        Its beginning.

    Raises
    ------
    ND2FormatError
        It does not start as a codestream does.
    """
    start = len(_CODESTREAM_START) + _SEGMENT_HEADER.size
    if data[:2] != _CODESTREAM_START or len(data) < start + _SIZE_FIELDS.size:
        raise ND2FormatError(f"no codestream: it starts with {bytes(data[:8])!r}")
    marker, length = _SEGMENT_HEADER.unpack_from(data, len(_CODESTREAM_START))
    _, right, bottom, left, top, tile_width, tile_height, tile_left, tile_top, count = (
        _SIZE_FIELDS.unpack_from(data, start)
    )
    parts = data[start + _SIZE_FIELDS.size : len(_CODESTREAM_START) + 2 + length]
    if marker != _Marker.SIZE or not count or len(parts) != 3 * count:
        raise ND2FormatError("no codestream: it does not tell its size")
    if not (left < right and top < bottom and tile_width and tile_height):
        raise ND2FormatError("a codestream of no pixels")
    across = -(-(right - tile_left) // tile_width)
    down = -(-(bottom - tile_top) // tile_height)
    bits = {parts[at] for at in range(0, len(parts), 3)}
    steps = {*parts[1::3], *parts[2::3]}
    return CodestreamSize(
        bottom - top,
        right - left,
        count,
        (max(bits) & 0x7F) + 1,
        len(bits) == 1 and max(bits) < 0x80 and steps == {1},
        across * down,
    )


def check_codestream(
    data: bytes, height: int, width: int, components: int, item_bytes: int
) -> None:
    """Check that a codestream is of the size that is expected, and takes bounded work to decode.

    Parameters
    ----------
    data : bytes
        The codestream.
    height, width, components, item_bytes : int
        Of the image: pixels, values of a pixel, and bytes of a value.

    Raises
    ------
    ND2FormatError
        It is of another size, or made of more parts than any real one is.
    """
    size = codestream_size(data)
    found = (size.height, size.width, size.components, -(-size.bits // 8))
    if found != (height, width, components, item_bytes) or not size.plain:
        raise ND2FormatError(
            f"a codestream of {size.height} by {size.width} pixels of {size.components} components "
            f"of {size.bits} bits in an image of {height} by {width} of {components} of {8 * item_bytes}"
        )
    if size.tiles > _MAX_TILES:
        raise ND2FormatError(f"a codestream of {size.tiles} tiles")
    for marker, segment in _segments(data):
        packets = 0
        if marker == _Marker.CODING_STYLE and len(segment) >= 10:
            (layers,) = struct.unpack_from(">H", segment, 2)
            packets = layers * _precincts(segment[5:], size, has_own=bool(segment[0] & 1))
        elif marker == _Marker.CODING_STYLE_OF_COMPONENT:
            skip = 1 if size.components < 257 else 2
            styled = segment[skip : skip + 1]
            packets = _precincts(segment[skip + 1 :], size, has_own=bool(styled and styled[0] & 1))
        if packets * size.components > _MAX_PACKETS:
            raise ND2FormatError(f"a codestream of {packets} packets in each component")


def _precincts(coding: bytes, size: CodestreamSize, *, has_own: bool) -> int:
    """Precincts of one component, in all its resolutions, by the coding style."""
    resolutions = (coding[0] if coding else 0) + 1
    if resolutions > _MAX_RESOLUTIONS:
        raise ND2FormatError(f"a codestream of {resolutions} resolutions")
    total = 0
    for number in range(resolutions):
        power = resolutions - 1 - number
        sides = coding[5 + number : 6 + number] if has_own else b""
        across, down = (sides[0] & 15, sides[0] >> 4) if sides else (_LARGEST_PRECINCT,) * 2
        # A tile has one precinct at least, and as many more as tiles and precincts do not align.
        total += (-(-size.width >> (power + across)) + 2) * (-(-size.height >> (power + down)) + 2)
    return total + (size.tiles - 1) * resolutions


def _segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Markers of the headers of a codestream and of its tiles, with what they hold."""
    at = len(_CODESTREAM_START)
    tile_start = tile_length = 0
    for _ in range(_MAX_MARKERS):
        if at + 2 > len(data):
            return  # cut off, which the decoder tells
        (marker,) = struct.unpack_from(">H", data, at)
        if marker == _Marker.END:
            return
        if marker == _Marker.DATA:
            if not tile_length:
                return  # the last one
            at = tile_start + tile_length
            continue
        if at + _SEGMENT_HEADER.size > len(data):
            return
        _, length = _SEGMENT_HEADER.unpack_from(data, at)
        segment = data[at + _SEGMENT_HEADER.size : at + 2 + length]
        if marker == _Marker.TILE_PART and len(segment) >= _TILE_PART_FIELDS.size:
            tile_start = at
            _, tile_length, _, _ = _TILE_PART_FIELDS.unpack_from(segment)
            if 0 < tile_length < _SEGMENT_HEADER.size + _TILE_PART_FIELDS.size:
                raise ND2FormatError(
                    "a codestream with a part of a tile that ends before it begins"
                )
        yield marker, segment
        at += 2 + max(length, 2)
    raise ND2FormatError("a codestream of too many parts")
