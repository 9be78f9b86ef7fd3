"""Where every pixel of an ND2 file is: the shape of the image and the layout of its frames.

A *frame* is one exposure with all of its components, stored (Y, X, component) with a row stride
that may be padded; components are channels times samples. Frames follow the loops of the experiment in
row-major order, and one that is absent from the chunk map is *missing*.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from xarray_nd2.format.container import ChunkMap

MISSING = -1
TIMESTAMP_SIZE = 8  # float64 milliseconds before the pixels
USUAL_DATA_OFFSET = 4096 - TIMESTAMP_SIZE  # from a frame chunk's start to its data
_ALIGNMENT = 4096  # of chunks


@dataclass(frozen=True, eq=False, slots=True)
class FrameTable:
    """One int64 per frame, kept as runs of constant step where that is smaller.

    Frames are written one after another, so the offsets of a million of them are usually a start
    and a step. This is what a dask graph carries.

    Attributes
    ----------
    count : int
        Number of frames.
    first, start, step : ndarray of int64
        Index at which each run begins, its first value and its step; in an irregular table
        `first` is empty and `start` holds every value.
    """

    count: int
    first: NDArray[np.int64]
    start: NDArray[np.int64]
    step: NDArray[np.int64]

    @classmethod
    def from_values(cls, values: NDArray[np.int64]) -> FrameTable:
        """Compress `values`, shape (count,)."""
        values = np.asarray(values, np.int64)
        none = np.empty(0, np.int64)
        if len(values) < 2:
            return cls(len(values), none, values, none)
        steps = np.diff(values)
        first = np.concatenate([[0], np.flatnonzero(np.diff(steps)) + 1])
        if 3 * len(first) >= len(values):
            return cls(len(values), none, values, none)
        return cls(len(values), first, values[first], steps[first])

    def take(self, indices: NDArray[np.int64]) -> NDArray[np.int64]:
        """Values at `indices`, in the shape of `indices`."""
        if not len(self.first):
            return self.start[indices]
        run = np.searchsorted(self.first, indices, side="right") - 1
        return self.start[run] + (indices - self.first[run]) * self.step[run]

    def values(self) -> NDArray[np.int64]:
        """All values, shape (count,)."""
        return self.take(np.arange(self.count))


@dataclass(frozen=True, eq=False, slots=True)
class FrameLayout:
    """Shape of the image and position of its pixels in the file.

    Attributes
    ----------
    loops : tuple of (str, int)
        Name and size of each loop, outermost first.
    channels, height, width, samples : int
        Size of one frame; `samples` is 3 or 4 for RGB(A), otherwise 1.
    dtype : numpy.dtype
        Of one component, little-endian.
    row_stride : int
        Bytes from one row to the next.
    compression : {"none", "lossless"}
        "lossless" is one zlib stream of the whole padded frame.
    offsets : FrameTable
        Byte of the file at which each frame's pixels (or its zlib stream) start; `MISSING` where
        the file has no such frame.
    lengths : FrameTable
        Bytes stored for each frame from there on.
    """

    loops: tuple[tuple[str, int], ...]
    channels: int
    height: int
    width: int
    samples: int
    dtype: np.dtype[np.generic]
    row_stride: int
    compression: Literal["none", "lossless"]
    offsets: FrameTable
    lengths: FrameTable

    @property
    def sizes(self) -> dict[str, int]:
        """Sizes of the image by dimension: loops, then C, Y, X, S; C and S only where above 1."""
        sizes = dict(self.loops)
        if self.channels > 1:
            sizes["C"] = self.channels
        sizes |= {"Y": self.height, "X": self.width}
        if self.samples > 1:
            sizes["S"] = self.samples
        return sizes

    @property
    def dims(self) -> tuple[str, ...]:
        """Names of the dimensions."""
        return tuple(self.sizes)

    @property
    def shape(self) -> tuple[int, ...]:
        """Size of each dimension."""
        return tuple(self.sizes.values())

    @property
    def loop_shape(self) -> tuple[int, ...]:
        """Size of each loop."""
        return tuple(size for _, size in self.loops)

    @property
    def frame_count(self) -> int:
        """Number of frames of the image, missing ones included."""
        return math.prod(self.loop_shape)

    @property
    def pixel_size(self) -> int:
        """Bytes of one pixel, all components."""
        return self.channels * self.samples * self.dtype.itemsize

    @property
    def frame_size(self) -> int:
        """Bytes of one decoded frame, padding included."""
        return self.height * self.row_stride


def usual_length(lengths: NDArray[np.int64]) -> int | None:
    """The most frequent of some lengths, those below 0 left out; None if there is no other."""
    values, times = np.unique(lengths[lengths >= 0], return_counts=True)
    return int(values[times.argmax()]) if len(values) else None


def frame_offsets(
    chunk_map: ChunkMap, count: int, frame_size: int | None, skip: int = USUAL_DATA_OFFSET
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
    frame_size : int or None
        Bytes of one padded frame where it is stored uncompressed, None where frames are compressed.
    skip : int
        Bytes from the start of a frame's chunk to its data.

    Returns
    -------
    data_offset : ndarray of int64, shape (count,)
        Byte of the file at which the data (timestamp, then pixels) of each frame is presumed;
        `MISSING` where the map has no such frame.
    data_length : ndarray of int64, shape (count,)
        Length of that data; of a compressed frame whose length the map does not tell, all the room
        there is; -1 where that is not known either.
    doubtful : ndarray of bool, shape (count,)
        Frames of which the chunk header must be read.
    """
    chunk_offset = np.full(count, MISSING, np.int64)
    data_length = np.full(count, -1, np.int64)
    inside = chunk_map.frame_index < count
    index = chunk_map.frame_index[inside]
    chunk_offset[index] = chunk_map.frame_offset[inside]
    data_length[index] = chunk_map.frame_length[inside]
    present = chunk_offset != MISSING

    room = chunk_map.room(chunk_offset)
    doubtful = np.zeros(count, bool)
    if frame_size is None:
        data_length = np.where(data_length < 0, room - skip, data_length)
    else:
        doubtful |= (data_length >= 0) & (data_length != usual_length(data_length))
        data_length = np.where(present, TIMESTAMP_SIZE + frame_size, -1)
    slack = room - (skip + data_length)
    doubtful |= (slack < 0) | (slack >= _ALIGNMENT) | (data_length < 0)
    doubtful |= (chunk_offset % _ALIGNMENT != 0) | np.isin(chunk_offset, chunk_map.shared)
    numbers, times = np.unique(index, return_counts=True)
    doubtful[numbers[times > 1]] = True
    data_offset = np.where(present, chunk_offset + skip, MISSING)
    return data_offset, data_length, doubtful & present
