"""Where the frames' data is presumed to lie, and which frames' headers must be read to know.

The map gives the chunk of each frame, the name area of the frames how far into it the data starts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from xarray_nd2.format.container import CHUNK_ALIGNMENT_BYTES
from xarray_nd2.format.layout import MISSING_OFFSET
from xarray_nd2.format.name_areas import data_starts
from xarray_nd2.format.sequences import IMAGE_FRAMES

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from xarray_nd2.format.chunk_map import ChunkMap
    from xarray_nd2.format.sequences import FrameSequence


def usual_length(lengths: NDArray[np.int64]) -> int | None:
    """The most frequent of some lengths, those below 0 left out; None if there is no other."""
    values, times = np.unique(lengths[lengths >= 0], return_counts=True)
    return int(values[times.argmax()]) if len(values) else None


def presume_frame_offsets(
    chunk_map: ChunkMap,
    count: int,
    frame_bytes: int | None,
    name_area_bytes: int | None = None,
    sequence: FrameSequence = IMAGE_FRAMES,
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
    """Presume where the frames' data lies, and check it against the neighbouring chunks.

    All frames have the same name area. That is verified for free: up to the next chunk there must
    be room for the data and no more than the alignment adds. Of several frames that are said to share a place, and of several places for one
    frame, at most one can be right.

    Parameters
    ----------
    chunk_map : ChunkMap
        The index of the file.
    count : int
        Number of frames of the image; frames of the map beyond it are left out.
    frame_bytes : int or None
        Bytes of one padded frame where it is stored uncompressed, None where frames are compressed.
    name_area_bytes : int, optional
        Of the frames' chunks, or the length of the name where that is longer; the usual one unless
        given.
    sequence : FrameSequence, optional
        That the frames of the map are; those of the image unless given.

    Returns
    -------
    data_offset : ndarray of int64, shape (count,)
        Byte of the file at which the data (of the image a timestamp, then pixels) of each frame is presumed;
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
    area_bytes = sequence.usual_area_bytes if name_area_bytes is None else name_area_bytes
    skip = data_starts(area_bytes, count, sequence)

    available = chunk_map.bytes_to_next_chunk(chunk_offset)
    doubtful = np.zeros(count, bool)
    if frame_bytes is None:
        data_length = np.where(data_length < 0, available - skip, data_length)
    else:
        doubtful |= (data_length >= 0) & (data_length != usual_length(data_length))
        data_length = np.where(present, sequence.bytes_before_pixels + frame_bytes, -1)
    slack = available - (skip + data_length)
    doubtful |= (slack < 0) | (slack >= CHUNK_ALIGNMENT_BYTES) | (data_length < 0)
    # Chunks start on pages, and the first page is that of the file's signature.
    doubtful |= (chunk_offset % CHUNK_ALIGNMENT_BYTES != 0) | (chunk_offset == 0)
    doubtful |= np.isin(chunk_offset, chunk_map.contested)
    numbers, times = np.unique(index, return_counts=True)
    doubtful[numbers[times > 1]] = True
    if sequence != IMAGE_FRAMES:  # these may be very many, and to look at all takes long
        doubtful |= _out_of_order(chunk_offset)
    data_offset = np.where(present, chunk_offset + skip, MISSING_OFFSET)
    return data_offset, data_length, doubtful & present


def _out_of_order(chunk_offset: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Frames that lie behind one of a higher number, or before one of a lower."""
    present = np.flatnonzero(chunk_offset != MISSING_OFFSET)
    numbers = present[chunk_offset[present].argsort(kind="stable")]
    highest_before = np.maximum.accumulate(numbers)
    lowest_behind = np.minimum.accumulate(numbers[::-1])[::-1]
    found = np.zeros(len(chunk_offset), bool)
    found[numbers[(numbers < highest_before) | (numbers > lowest_behind)]] = True
    return found
