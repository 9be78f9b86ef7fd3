"""The shape of an image: from the image attributes to an `ImageShape`.

This is what a file cannot be read without, so here alone is a file refused for its metadata. Sizes are
judged by what the file holds, since a file can claim anything.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import numpy as np

from xarray_nd2.errors import ND2FormatError, ND2UnsupportedError
from xarray_nd2.format.layout import ImageShape

if TYPE_CHECKING:
    from collections.abc import Sequence

    from xarray_nd2.format.layout import Compression
    from xarray_nd2.metadata.loops import Dimension, StoredFrames
    from xarray_nd2.metadata.picture_planes import Components
    from xarray_nd2.metadata.tree import Branch

_MAX_COMPONENTS: Final = 4096
_MAX_SIDE_PIXELS: Final = 2**24
_MAX_ABSENT_FRAMES: Final = 1_000_000
# What a codestream may hold: images of one value take few bytes, so the size of all is limited too.
_MAX_JPEG2000_RATIO: Final = 2**17
_MAX_JPEG2000_BYTES: Final = 2**30
_MAX_INFLATION_RATIO: Final = 1032  # of zlib (https://zlib.net/zlib_tech.html)

# `ePixelType` of the attributes: signed, unsigned, real (Laboratory Imaging's limnd2).
_KIND_OF_PIXEL_TYPE: Final = {0: "i", 1: "u", 2: "f"}
_COMPRESSION_OF_CODE: Final[dict[int, Compression]] = {0: "lossless", 2: "none"}
_LOSSY_CODE: Final = 1


def component_count(attributes: Branch) -> int:
    """Values of a stored pixel.

    Parameters
    ----------
    attributes : Branch
        The image attributes.

    Raises
    ------
    ND2FormatError
        There are none, or impossibly many.
    """
    components = _needed(attributes, "uiComp")
    if not 0 < components <= _MAX_COMPONENTS:
        raise ND2FormatError(f"impossible frames: {components} components")
    return components


def read_image_shape(
    attributes: Branch,
    components: Components,
    dimensions: Sequence[Dimension],
    stored: StoredFrames,
    compression: Compression | None = None,
) -> ImageShape:
    """Shape and encoding of the image.

    Parameters
    ----------
    attributes : Branch
        The image attributes.
    components : Components
        How the components of a pixel are delivered.
    dimensions : sequence of Dimension
        Of the loops.
    stored : StoredFrames
        What the file holds.
    compression : {"none", "lossless", "jpeg2000"}, optional
        Of the frames; by the attributes unless given.

    Returns
    -------
    ImageShape

    Raises
    ------
    ND2FormatError
        The sizes are impossible, or more than the file can hold.
    ND2UnsupportedError
        The frames are compressed in a lossy way, or are of an unknown pixel type.
    """
    dtype = _dtype(attributes)
    width, height = _needed(attributes, "uiWidth"), _needed(attributes, "uiHeight")
    count = components.channels * components.samples
    row = width * count * dtype.itemsize
    row_stride_bytes = _needed(attributes, "uiWidthBytes") or row
    if (
        not (0 < height <= _MAX_SIDE_PIXELS and 0 < width <= _MAX_SIDE_PIXELS)
        or row_stride_bytes < row
    ):
        raise ND2FormatError(
            f"impossible frames: {width} by {height} pixels of {count} components, "
            f"{row_stride_bytes} bytes a row"
        )
    compression = compression or _compression(attributes)
    most = {
        "none": stored.file_bytes,
        "lossless": stored.largest_frame_bytes * _MAX_INFLATION_RATIO,
        "jpeg2000": min(stored.largest_frame_bytes * _MAX_JPEG2000_RATIO, _MAX_JPEG2000_BYTES),
    }[compression]
    if height * row_stride_bytes > most:
        raise ND2FormatError(
            f"a frame is said to take {height * row_stride_bytes} bytes, of which there can be {most}"
        )
    loops = tuple((dimension.name, dimension.size) for dimension in dimensions)
    absent = math.prod(size for _, size in loops) - stored.count
    if absent > _MAX_ABSENT_FRAMES:
        raise ND2FormatError(
            f"an impossible number of frames: {dict(loops)}, of which the file has {stored.count}"
        )
    return ImageShape(
        loops,
        components.channels,
        height,
        width,
        components.samples,
        dtype,
        row_stride_bytes,
        compression,
        components.channel_order,
        components.sample_order,
    )


def _dtype(attributes: Branch) -> np.dtype[np.generic]:
    bits = _needed(attributes, "uiBpcInMemory")
    # Files that do not say have floats of 32 bits, and unsigned integers of any other size.
    presumed = "f" if bits == 32 else "u"
    code = _needed(attributes, "ePixelType") if "ePixelType" in attributes else -1
    kind = _KIND_OF_PIXEL_TYPE.get(code, presumed)
    if bits not in ((16, 32, 64) if kind == "f" else (8, 16, 32)):
        raise ND2UnsupportedError(f"pixels of {bits} bits of kind {kind!r} are not known")
    return np.dtype(f"<{kind}{bits // 8}")


def _compression(attributes: Branch) -> Compression:
    code = _needed(attributes, "eCompression") if "eCompression" in attributes else None
    if code == _LOSSY_CODE:
        raise ND2UnsupportedError("its frames are compressed in a lossy way")
    return _COMPRESSION_OF_CODE.get(2 if code is None else code, "none")


def _needed(attributes: Branch, name: str) -> int:
    value = attributes.whole(name)
    if value is None:
        raise ND2FormatError(f"the image attributes have no number {name!r}")
    return value
