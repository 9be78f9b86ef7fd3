"""What an ND2 file says of its frames and in its texts, as trees of the vendor's names and values."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from xarray_nd2.testing.variant import Tree

__all__ = ["attributes", "text_info"]

_COMPRESSION_CODES = {"lossless": 0, "lossy": 1, None: 2}
_PIXEL_TYPE_CODES = {"i": 0, "u": 1, "f": 2}
_TEXT_INFO_NAMES = (
    "imageId",
    "type",
    "group",
    "sampleId",
    "author",
    "description",
    "capturing",
    "sampling",
    "location",
    "date",
    "conclusion",
    "info1",
    "info2",
    "optics",
    "appVersion",
)


def attributes(
    *,
    shape: tuple[int, int, int],
    kind: str,
    bits: int,
    bits_significant: int,
    row_stride: int,
    frames: int,
    compression: str | None,
    compression_level: int,
) -> Tree:
    """How a frame is stored.

    Parameters
    ----------
    shape : (int, int, int)
        Height, width and components.
    kind : {"u", "i", "f"}
        Unsigned, signed or floating, as in `numpy.dtype.kind`.
    bits, bits_significant : int
        Of a component in memory, and those that carry a value.
    row_stride : int
        Bytes from one row to the next.
    frames : int
        Frames of the experiment, missing ones too.
    compression : {"lossless", "lossy"} or None
        How frames are compressed.
    compression_level : int
        0 to 9; written only with a compression.
    """
    height, width, components = shape
    return {
        "uiWidth": width,
        "uiWidthBytes": row_stride,
        "uiHeight": height,
        "uiComp": components,
        "uiBpcInMemory": bits,
        "uiBpcSignificant": bits_significant,
        "uiSequenceCount": frames,
        "uiTileWidth": width,
        "uiTileHeight": height,
        "eCompression": _COMPRESSION_CODES[compression],
        "dCompressionParam": 0.0 if compression is None else float(compression_level),
        "ePixelType": _PIXEL_TYPE_CODES[kind],
        "uiVirtualComponents": components,
    }


def text_info(texts: Mapping[str, str]) -> Tree:
    """Free texts under the names that ``nd2`` gives them.

    Raises
    ------
    ValueError
        If ND2 files have no text of one of the names.
    """
    if unknown := sorted(set(texts) - set(_TEXT_INFO_NAMES)):
        raise ValueError(f"text_info has no {unknown}; the names are {list(_TEXT_INFO_NAMES)}")
    return {f"TextInfoItem_{i}": texts.get(name, "") for i, name in enumerate(_TEXT_INFO_NAMES)}
