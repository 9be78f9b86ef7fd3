"""The dimensions of an image: from the image attributes and the experiment to an `ImageShape`.

Sizes are judged by what the file holds, since a file can claim anything.
"""

from __future__ import annotations

import math
import operator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np

from xarray_nd2.errors import ND2FormatError, ND2UnsupportedError
from xarray_nd2.format.layout import ImageShape

if TYPE_CHECKING:
    from collections.abc import Mapping

    import nd2

MAX_COMPONENTS: Final = 4096
_MAX_SIDE_PIXELS: Final = 2**24
_MAX_LOOPS: Final = 16
_MAX_PLANNED_FRAMES: Final = 1_000_000  # of an experiment, however few of them were written
_MAX_INFLATION_RATIO: Final = 1032  # of zlib (https://zlib.net/zlib_tech.html)

_DIM_OF_LOOP: Final = {"TimeLoop": "T", "NETimeLoop": "T", "XYPosLoop": "P", "ZStackLoop": "Z"}
# `ePixelType` of the attributes: signed, unsigned, real (Laboratory Imaging's limnd2).
_KIND_OF_PIXEL_TYPE: Final = {0: "i", 1: "u", 2: "f"}


@dataclass(frozen=True, slots=True)
class StoredFrames:
    """What the file holds, by which is judged what it says of its sizes.

    Attributes
    ----------
    file_bytes : int
        Size of the file.
    frames : int
        Frames in it.
    largest_frame_bytes : int
        Size of the largest of them, as far as its map tells.
    numbered : int
        One more than the highest number of a frame.
    rescue : bool
        Whether to make the best of it where something is lost.
    """

    file_bytes: int
    frames: int
    largest_frame_bytes: int
    numbered: int
    rescue: bool = False


def read_image_shape(file: nd2.ND2File, raw: Mapping[str, Any], stored: StoredFrames) -> ImageShape:
    """Shape and encoding of the image.

    Parameters
    ----------
    file : nd2.ND2File
        The open skeleton.
    raw : mapping
        The image attributes, as stored.
    stored : StoredFrames
        What the file holds.

    Raises
    ------
    ND2FormatError
        The sizes are impossible, or more than the file can hold.
    ND2UnsupportedError
        The frames are compressed in a lossy way, or are of an unknown pixel type.
    """
    attributes = file.attributes
    if attributes.compressionType == "lossy":
        raise ND2UnsupportedError("its frames are compressed in a lossy way")
    bits = operator.index(attributes.bitsPerComponentInMemory)
    components = operator.index(attributes.componentCount)
    kind = _KIND_OF_PIXEL_TYPE.get(raw.get("ePixelType", -1), attributes.pixelDataType[0])
    if bits not in ((16, 32, 64) if kind == "f" else (8, 16, 32)):
        raise ND2UnsupportedError(f"pixels of {bits} bits of kind {kind!r} are not known")
    dtype = np.dtype(f"<{kind}{bits // 8}")
    height = operator.index(attributes.heightPx)
    width = operator.index(attributes.widthPx or 0)
    channels = operator.index(attributes.channelCount or components)
    samples = components // channels
    # Colour is three or four components in one channel; any other number is channels.
    if channels * samples != components or samples not in (1, 3, 4):
        channels, samples = components, 1
    row = width * components * dtype.itemsize
    row_stride_bytes = operator.index(attributes.widthBytes or row)
    if (
        not (0 < height <= _MAX_SIDE_PIXELS and 0 < width <= _MAX_SIDE_PIXELS)
        or not 0 < components <= MAX_COMPONENTS
        or row_stride_bytes < row
    ):
        raise ND2FormatError(
            f"impossible frames: {width} by {height} pixels of {components} components, "
            f"{row_stride_bytes} bytes a row"
        )
    compression: Literal["none", "lossless"] = (
        "lossless" if attributes.compressionType == "lossless" else "none"
    )
    most = (
        stored.file_bytes
        if compression == "none"
        else stored.largest_frame_bytes * _MAX_INFLATION_RATIO
    )
    if height * row_stride_bytes > most:
        raise ND2FormatError(
            f"a frame is said to take {height * row_stride_bytes} bytes, of which there can be {most}"
        )
    return ImageShape(
        _loops(file, stored), channels, height, width, samples, dtype, row_stride_bytes, compression
    )


def _loops(file: nd2.ND2File, stored: StoredFrames) -> tuple[tuple[str, int], ...]:
    loops: dict[str, int] = {}
    for loop in file.experiment:
        dim = _DIM_OF_LOOP.get(loop.type, "U")
        loops[dim if dim not in loops else f"{dim}{len(loops)}"] = operator.index(loop.count)
    if len(loops) > _MAX_LOOPS:
        raise ND2FormatError(f"an impossible number of loops: {len(loops)}")
    numbered = stored.numbered
    if stored.rescue:  # the last frames may be lost
        numbered = max(numbered, operator.index(file.attributes.sequenceCount))
    if not loops and numbered > 1:
        if not stored.rescue:
            raise ND2FormatError(
                f"there are {stored.frames} frames, but no experiment that arranges them; "
                "rescue=True numbers them"
            )
        loops["U"] = numbered
    most = max(_MAX_PLANNED_FRAMES, 100 * stored.frames)
    if math.prod(loops.values()) > most or min(loops.values(), default=1) < 1:
        raise ND2FormatError(
            f"an impossible number of frames: {loops}, of which the file has {stored.frames}"
        )
    return tuple(loops.items())
