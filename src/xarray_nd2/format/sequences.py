"""Sequences of chunks that hold one frame each: that of the image, and those of its embedded levels.

They differ in their names, in what lies before the pixels, and in where the vendor's writers let the
data of a chunk start.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from xarray_nd2.format.container import CHUNK_ALIGNMENT_BYTES, CHUNK_HEADER, FRAME_SEQUENCE

if TYPE_CHECKING:
    from numpy.typing import NDArray

TIMESTAMP_BYTES: Final = 8
"""The acquisition time before the pixels of the image: float64, milliseconds."""
USUAL_NAME_AREA_BYTES: Final = CHUNK_ALIGNMENT_BYTES - TIMESTAMP_BYTES - CHUNK_HEADER.size
"""Name area of the image's frames: their pixels start on the second page of the chunk."""

_NUMBER_BYTES: Final = 20  # of the longest number behind a name, with bar and end, and some more
_LEAST_RESERVE_BYTES: Final = 20  # that the vendor's writers leave behind a name


@dataclass(frozen=True, slots=True)
class FrameSequence:
    """Chunks that hold one frame each.

    Attributes
    ----------
    name : bytes
        Of the chunks, before the bar and the number.
    bytes_before_pixels : int
        Of the data of a chunk.
    usual_area_bytes : int
        Area for the name in files of the vendor's writers, where the name is short.
    """

    name: bytes
    bytes_before_pixels: int
    usual_area_bytes: int

    @property
    def header_bytes(self) -> int:
        """Bytes of a chunk that are read as its header: they hold the longest name."""
        return CHUNK_HEADER.size + len(self.name) + _NUMBER_BYTES

    def chunk_name(self, number: int) -> bytes:
        """Name of the chunk of a frame."""
        return b"%s|%d!" % (self.name, number)

    def areas(self, area_bytes: int, name_bytes: NDArray[np.int64]) -> NDArray[np.int64]:
        """Areas for names of some lengths in a file whose short names have this one.

        The usual area grows by whole pages, any other one is as long as the name where that is longer.
        """
        if area_bytes != self.usual_area_bytes:
            return np.maximum(area_bytes, name_bytes)
        lack = np.maximum(name_bytes + _LEAST_RESERVE_BYTES - area_bytes, 0)
        return area_bytes + -(-lack // CHUNK_ALIGNMENT_BYTES) * CHUNK_ALIGNMENT_BYTES


IMAGE_FRAMES: Final = FrameSequence(FRAME_SEQUENCE, TIMESTAMP_BYTES, USUAL_NAME_AREA_BYTES)
"""The frames of the image."""


def frames_ending_on_pages(name: bytes, frame_bytes: int) -> FrameSequence:
    """A sequence whose frames have nothing before their pixels, and end where a page does.

    Parameters
    ----------
    name : bytes
        Of the chunks, before the bar and the number.
    frame_bytes : int
        Of each frame.
    """
    shortest = CHUNK_HEADER.size + len(name) + len(b"|0!") + _LEAST_RESERVE_BYTES
    pages = -(-(shortest + frame_bytes) // CHUNK_ALIGNMENT_BYTES)
    area = pages * CHUNK_ALIGNMENT_BYTES - frame_bytes - CHUNK_HEADER.size
    return FrameSequence(name, 0, area)
