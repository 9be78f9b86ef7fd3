"""The levels of an embedded pyramid: which there may be, and how their frames are stored."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Final

from xarray_nd2.format.layout import ImageShape
from xarray_nd2.format.sequences import FrameSequence, frames_ending_on_pages

ROW_ALIGNMENT_BYTES: Final = 4
"""Of which the row stride of a level is a multiple."""


@dataclass(frozen=True, slots=True)
class Level:
    """A level of a pyramid.

    Attributes
    ----------
    number : int
        1 for the largest; it has one pixel for every 2**number of the image's along Y and X.
    image : ImageShape
        Shape and encoding of its frames.
    sequence : FrameSequence
        Of its chunks.
    """

    number: int
    image: ImageShape
    sequence: FrameSequence


def level_size(height: int, width: int, number: int) -> int:
    """The number by which the chunks of a level are called.

    It is the power of two that holds the image, halved for each level.

    Examples
    --------
    >>> level_size(1100, 1300, 1)
    1024
    """
    return 1 << max(max(height, width) - 1, 0).bit_length() >> number


def level_sequence_name(size: int) -> bytes:
    """Name of the chunks of a level, before the bar and the number of the frame."""
    return b"CustomDataSeq|DownsampledColorData_%d" % size


def possible_levels(image: ImageShape) -> list[Level]:
    """The levels that a file with an image of this shape may have, the largest first.

    The vendor's writers store no level below a size, but not all of them have the same one, so here
    are all that have a pixel.
    """
    shape = ImageShape(**{each.name: getattr(image, each.name) for each in fields(ImageShape)})
    levels = []
    number = 1
    while min(height := image.height >> number, width := image.width >> number):
        stride = -(-width * image.pixel_bytes // ROW_ALIGNMENT_BYTES) * ROW_ALIGNMENT_BYTES
        # Levels are stored raw where frames are compressed, too.
        smaller = replace(
            shape, height=height, width=width, row_stride_bytes=stride, compression="none"
        )
        name = level_sequence_name(level_size(image.height, image.width, number))
        levels.append(Level(number, smaller, frames_ending_on_pages(name, smaller.frame_bytes)))
        number += 1
    return levels
