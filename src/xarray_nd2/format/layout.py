"""The shape of an image, and where each of its frames lies in the file.

A *frame* is one exposure with all of its components, stored (Y, X, component) with a row stride
that may be padded; components are channels times samples. Frames follow the loops of the experiment in
row-major order, and one that is absent from the chunk map is *missing*.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Final, Literal

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

Compression = Literal["none", "lossless", "jpeg2000"]
MISSING_OFFSET: Final = -1
"""Offset of a frame that the file does not have."""
MAX_SURPLUS_BYTES: Final = 4096
"""What a stored frame may have more than its rows."""


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

    def value(self, index: int) -> int:
        """The value at one index, which is not below 0."""
        if not len(self.first):
            return int(self.start[index])
        run = int(np.searchsorted(self.first, index, side="right")) - 1
        return int(self.start[run]) + (index - int(self.first[run])) * int(self.step[run])

    def values(self) -> NDArray[np.int64]:
        """All values, shape (count,)."""
        return self.take(np.arange(self.count))


@dataclass(frozen=True, eq=False, slots=True)
class ImageShape:
    """Shape and encoding of an image.

    Attributes
    ----------
    loops : tuple of (str, int)
        Dimension and size of each loop of the experiment, outermost first. Where channels are stored
        apart, they are the innermost loop, and each frame has one.
    channels, height, width, samples : int
        Size of one frame; `samples` is 3 or 4 for RGB(A), otherwise 1.
    dtype : numpy.dtype
        Of one component, little-endian.
    row_stride_bytes : int
        Bytes from one row to the next.
    compression : {"none", "lossless", "jpeg2000"}
        "lossless" is one zlib stream of the whole padded frame, "jpeg2000" a box with a codestream.
    channel_order, sample_order : tuple of int
        Where a stored pixel has each channel, and each channel its samples: files have blue before
        green and red. Empty where they are in order.
    """

    loops: tuple[tuple[str, int], ...]
    channels: int
    height: int
    width: int
    samples: int
    dtype: np.dtype[np.generic]
    row_stride_bytes: int
    compression: Compression
    channel_order: tuple[int, ...] = ()
    sample_order: tuple[int, ...] = ()

    @property
    def sizes(self) -> dict[str, int]:
        """Sizes of the image by dimension: loops, then C, Y, X, and S of colour."""
        sizes = dict(self.loops)
        sizes.setdefault("C", self.channels)
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
    def channels_apart(self) -> int:
        """Number of channels that are frames of their own; 1 where a frame has all of them."""
        return self.loops[-1][1] if self.loops and self.loops[-1][0] == "C" else 1

    @property
    def frame_dims(self) -> tuple[str, str, str, str]:
        """Names of the axes of a stored frame; its only channel has one, too, where C is a loop."""
        apart = bool(self.loops) and self.loops[-1][0] == "C"
        return "only channel" if apart else "C", "Y", "X", "S"

    def name_of(self, frame: int) -> str:
        """How a frame is called in errors."""
        exposure, channel = divmod(frame, self.channels_apart)
        return (
            f"channel {channel} of frame {exposure}"
            if self.channels_apart > 1
            else f"frame {frame}"
        )

    def with_channels_apart(self) -> ImageShape:
        """The shape of the same image, of which each channel is stored as a frame of its own."""
        return replace(
            self,
            loops=(*self.loops, ("C", self.channels)),
            channels=1,
            row_stride_bytes=self.width * self.samples * self.dtype.itemsize,
        )

    @property
    def frame_count(self) -> int:
        """Number of frames of the image, missing ones included."""
        return math.prod(self.loop_shape)

    @property
    def pixel_bytes(self) -> int:
        """Bytes of one pixel, all components."""
        return self.channels * self.samples * self.dtype.itemsize

    @property
    def frame_bytes(self) -> int:
        """Bytes of one decoded frame, padding included."""
        return self.height * self.row_stride_bytes


@dataclass(frozen=True, eq=False, slots=True)
class FrameLayout(ImageShape):
    """Shape of the image and position of its pixels in the file.

    Attributes
    ----------
    offsets : FrameTable
        Byte of the file at which each frame's pixels (or its zlib stream) start; `MISSING_OFFSET`
        where the file has no such frame.
    lengths : FrameTable
        Bytes stored for each frame from there on; 0 where its place is not certain.
    """

    offsets: FrameTable = field(kw_only=True)
    lengths: FrameTable = field(kw_only=True)

    @classmethod
    def of(cls, image: ImageShape, offsets: FrameTable, lengths: FrameTable) -> FrameLayout:
        """Layout of an image whose frames lie at `offsets`."""
        shape = {each.name: getattr(image, each.name) for each in fields(ImageShape)}
        return cls(**shape, offsets=offsets, lengths=lengths)
