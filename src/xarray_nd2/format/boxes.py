"""The boxes of legacy files (version 1): where they lie, and the size of the image.

Files from before 2010 are JPEG 2000 files, a row of boxes::

    length, big-endian, header included | type | data

The last 40 bytes tell how far from the end the map of boxes starts: their number, big-endian, then for
each its type, a tag that tells what is in it, and its offset, little-endian.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from xarray_nd2.errors import ND2FormatError
from xarray_nd2.format.container import FILE_FOOTER

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Ints = NDArray[np.int64]

BOX_HEADER: Final = struct.Struct(">I4s")
"""Length of the box, and its type."""
BOX_MAP_SIGNATURE: Final = b"LABORATORY IMAGING ND BOX MAP 00"
BOX_MAP_COUNT: Final = struct.Struct(">I")
"""Before the entries of the map: how many there are."""
BOX_MAP_ENTRY: Final = np.dtype([("type", "S4"), ("tag", "S4"), ("offset", "<u8")])
CODESTREAM_BOX: Final = b"jp2c"
"""Type of the boxes that hold pixels: one channel of one frame."""
HEADER_BOX: Final = b"jp2h"
"""Type of the box that tells the size of the image."""
IMAGE_HEADER: Final = struct.Struct(">I4sIIHBBBB")
"""The box ``ihdr``: rows, columns, components, bits of a component less 1, and more."""

_LEGACY_START: Final = b"\x00\x00\x00\x0cjP  "
_UNTOLD_BITS: Final = 255  # where components differ
_FARTHEST_OFFSET: Final = np.uint64(2**62)


@dataclass(frozen=True, eq=False, slots=True)
class BoxMap:
    """Where the boxes of a file are.

    Attributes
    ----------
    types, tags : ndarray of bytes, shape (n,)
        Of each box.
    offsets, stops : ndarray of int64, shape (n,)
        Where each starts, and where it ends at the latest, since the next one or the map starts there.
    contested : ndarray of bool, shape (n,)
        Whether another box is said to start at the same byte.
    """

    types: NDArray[np.bytes_]
    tags: NDArray[np.bytes_]
    offsets: Ints
    stops: Ints
    contested: NDArray[np.bool_]

    def of_tag(self, tag: bytes) -> Ints:
        """Numbers of the boxes of a tag."""
        return np.flatnonzero(self.tags == tag)

    @property
    def codestreams(self) -> Ints:
        """Numbers of the boxes that hold pixels, in the order of the map."""
        return np.flatnonzero((self.types == CODESTREAM_BOX) & (self.tags == b"LUNK"))

    @property
    def header(self) -> int | None:
        """Number of the box that tells the size of the image."""
        found = np.flatnonzero(self.types == HEADER_BOX)
        return int(found[0]) if len(found) else None

    def extent(self, number: int) -> tuple[int, int]:
        """Start of a box, and where it ends at the latest."""
        return int(self.offsets[number]), int(self.stops[number])


def starts_like_legacy(head: bytes) -> bool:
    """Whether bytes begin as a legacy file does."""
    return head.startswith(_LEGACY_START)


def parse_box_footer(tail: bytes, size: int) -> int:
    """Offset of the map of boxes, from the last bytes of a file of `size` bytes.

    Raises
    ------
    ND2FormatError
        The file does not end as a legacy file does, or the map would lie outside of it.
    """
    signature, distance = (
        FILE_FOOTER.unpack(tail[-FILE_FOOTER.size :]) if len(tail) >= FILE_FOOTER.size else (b"", 0)
    )
    if signature != BOX_MAP_SIGNATURE:
        raise ND2FormatError(
            f"no map of boxes in the last {FILE_FOOTER.size} of {size} bytes: the legacy file is "
            "truncated, or it is a JPEG 2000 file that is no ND2"
        )
    if not FILE_FOOTER.size + BOX_MAP_COUNT.size <= distance <= size - len(_LEGACY_START):
        raise ND2FormatError(f"the map of boxes is said to start {distance} bytes before the end")
    return size - int(distance)


def parse_box_map(data: bytes, location: int) -> BoxMap:
    """Parse the map of boxes.

    Parameters
    ----------
    data : bytes
        From the start of the map to the footer of the file.
    location : int
        Offset of the map in the file.

    Raises
    ------
    ND2FormatError
        It is said to have more entries than there is room for.
    """
    (count,) = BOX_MAP_COUNT.unpack_from(data)
    room = (len(data) - BOX_MAP_COUNT.size) // BOX_MAP_ENTRY.itemsize
    if count > room:
        raise ND2FormatError(
            f"the map of boxes at byte {location} is said to have {count} entries, with room for {room}"
        )
    entries = np.frombuffer(data, BOX_MAP_ENTRY, count, BOX_MAP_COUNT.size)
    offsets = np.minimum(entries["offset"], _FARTHEST_OFFSET).astype(np.int64)
    _, which, times = np.unique(offsets, return_inverse=True, return_counts=True)
    boundaries = np.unique(np.append(offsets[offsets < location], location))
    following = np.minimum(np.searchsorted(boundaries, offsets, "right"), len(boundaries) - 1)
    stops = np.where(offsets < location, boundaries[following], offsets)  # no box is in the map
    return BoxMap(entries["type"], entries["tag"], offsets, stops, times[which] > 1)


def box_data(data: bytes, offset: int, kind: bytes | None = None) -> bytes:
    """Data of the box that starts some bytes.

    Parameters
    ----------
    data : bytes
        From the start of the box to where it ends at the latest.
    offset : int
        Where in the file that is, for the error.
    kind : bytes, optional
        What its type must be.

    Raises
    ------
    ND2FormatError
        It is of another type, or longer than that.
    """
    if len(data) < BOX_HEADER.size:
        raise ND2FormatError(f"there is no room for a box at byte {offset}")
    length, found = BOX_HEADER.unpack_from(data)
    if kind is not None and found != kind:
        raise ND2FormatError(f"expected a box {kind!r} at byte {offset}, found {found!r}")
    if not BOX_HEADER.size <= length <= len(data):
        raise ND2FormatError(
            f"the box {found!r} at byte {offset} is said to have {length} bytes, with room for {len(data)}"
        )
    return data[BOX_HEADER.size : length]


@dataclass(frozen=True, slots=True)
class ImageHeader:
    """Size of the image by the box ``ihdr``: pixels, components of a codestream, and their bits."""

    height: int
    width: int
    components: int
    bits: int


def parse_image_header(data: bytes, offset: int) -> ImageHeader:
    """Size of the image, from the box that starts some bytes.

    Raises
    ------
    ND2FormatError
        It is not the box of the image's size.
    """
    inside = box_data(data, offset, HEADER_BOX)
    if len(inside) < IMAGE_HEADER.size:
        raise ND2FormatError(f"truncated at byte {offset + len(inside)}, in the size of the image")
    _, kind, height, width, components, bits, *_ = IMAGE_HEADER.unpack_from(inside)
    if kind != b"ihdr":
        raise ND2FormatError(
            f"expected a box b'ihdr' at byte {offset + BOX_HEADER.size}, found {kind!r}"
        )
    if bits == _UNTOLD_BITS:
        raise ND2FormatError(f"the image at byte {offset} is said to have components that differ")
    return ImageHeader(height, width, components, bits + 1)
