"""How an image is best cut into blocks for dask: pieces of the file that read in one go.

Small frames are grouped along the innermost loops, which follow each other in the file; a frame
that is too large is split by rows, which are contiguous too. Channels and samples are interleaved
and stay together.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from xarray_nd2.format.layout import ImageShape

BLOCK_BYTES: Final = 32 * 1024 * 1024
"""Bytes of decoded pixels to aim at for one block."""


def preferred_blocks(layout: ImageShape, block_bytes: int = BLOCK_BYTES) -> dict[str, int]:
    """Block size along each dimension.

    Parameters
    ----------
    layout : ImageShape
        Of the image.
    block_bytes : int
        Bytes to aim at, and to stay below.

    Returns
    -------
    dict of str to int
        Pixels or frames along each dimension of the image.
    """
    blocks = dict(layout.sizes)
    frame_bytes = layout.height * layout.width * layout.pixel_bytes
    frames = max(1, block_bytes // frame_bytes)
    for name, size in reversed(layout.loops):
        # Even parts: 10 frames with room for 8 make blocks of 5.
        blocks[name] = math.ceil(size / math.ceil(size / frames))
        frames = max(1, frames // size)
    if frame_bytes > block_bytes and layout.compression == "none":
        rows = max(1, block_bytes // (layout.width * layout.pixel_bytes))
        blocks["Y"] = math.ceil(layout.height / math.ceil(layout.height / rows))
    return blocks
