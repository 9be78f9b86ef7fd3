"""Where the frames' data is presumed to lie, and which frames' headers must be read to know.

The map gives the chunk of each frame, and the chunk's own header how far into it the data starts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from xarray_nd2.format.container import CHUNK_ALIGNMENT_BYTES
from xarray_nd2.format.layout import MISSING_OFFSET

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from xarray_nd2.format.chunk_map import ChunkMap

TIMESTAMP_BYTES: Final = 8
"""The acquisition time before a frame's pixels: float64, milliseconds."""
USUAL_DATA_OFFSET: Final = CHUNK_ALIGNMENT_BYTES - TIMESTAMP_BYTES
"""Bytes from the start of a frame's chunk to its data in files of NIS-Elements."""


def usual_length(lengths: NDArray[np.int64]) -> int | None:
    """The most frequent of some lengths, those below 0 left out; None if there is no other."""
    values, times = np.unique(lengths[lengths >= 0], return_counts=True)
    return int(values[times.argmax()]) if len(values) else None


def presume_frame_offsets(
    chunk_map: ChunkMap, count: int, frame_bytes: int | None, skip: int = USUAL_DATA_OFFSET
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
    """Presume where the frames' data lies, and check it against the neighbouring chunks.

    The data of all frames starts as many bytes into their chunks as that of one of them. That is
    verified for free: up to the next chunk there must be room for the data and no more than the
    alignment adds. Of several frames that are said to share a place, and of several places for one
    frame, at most one can be right.

    Parameters
    ----------
    chunk_map : ChunkMap
        The index of the file.
    count : int
        Number of frames of the image; frames of the map beyond it are left out.
    frame_bytes : int or None
        Bytes of one padded frame where it is stored uncompressed, None where frames are compressed.
    skip : int
        Bytes from the start of a frame's chunk to its data.

    Returns
    -------
    data_offset : ndarray of int64, shape (count,)
        Byte of the file at which the data (timestamp, then pixels) of each frame is presumed;
        `MISSING_OFFSET` where the map has no such frame.
    data_length : ndarray of int64, shape (count,)
        Length of that data; of a compressed frame whose length the map does not tell, all the room
        there is; -1 where that is not known either.
    doubtful : ndarray of bool, shape (count,)
        Frames of which the chunk header must be read.
    """
    chunk_offset = np.full(count, MISSING_OFFSET, np.int64)
    data_length = np.full(count, -1, np.int64)
    inside = chunk_map.frame_index < count
    index = chunk_map.frame_index[inside]
    chunk_offset[index] = chunk_map.frame_offset[inside]
    data_length[index] = chunk_map.frame_length[inside]
    present = chunk_offset != MISSING_OFFSET

    available = chunk_map.bytes_to_next_chunk(chunk_offset)
    doubtful = np.zeros(count, bool)
    if frame_bytes is None:
        data_length = np.where(data_length < 0, available - skip, data_length)
    else:
        doubtful |= (data_length >= 0) & (data_length != usual_length(data_length))
        data_length = np.where(present, TIMESTAMP_BYTES + frame_bytes, -1)
    slack = available - (skip + data_length)
    doubtful |= (slack < 0) | (slack >= CHUNK_ALIGNMENT_BYTES) | (data_length < 0)
    doubtful |= (chunk_offset % CHUNK_ALIGNMENT_BYTES != 0) | np.isin(
        chunk_offset, chunk_map.shared
    )
    numbers, times = np.unique(index, return_counts=True)
    doubtful[numbers[times > 1]] = True
    data_offset = np.where(present, chunk_offset + skip, MISSING_OFFSET)
    return data_offset, data_length, doubtful & present
