"""Pixels out of a file that is mapped into memory: no ranges, no requests, only strided views.

Where nothing has to travel there is nothing to weigh, and a plan would take longer than the reading.
What is evenly spaced in the file is copied by few calls of NumPy: `StridedWindow` is one window of
one frame, `MappedTiles` are windows of equal shape, be they ever so many.

Only what is in order is read like this. For all else, and for what the file does not hold as it says,
the functions here give None: `plan` knows what to do with it, or what is wrong.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from xarray_nd2.format.layout import MISSING_OFFSET
from xarray_nd2.read.coalesce import MAX_REQUEST_BYTES
from xarray_nd2.read.spacing import as_slice, common_step, parts_to_copy, stored_places

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from xarray_nd2.format.layout import FrameLayout
    from xarray_nd2.read.selection import Key, Selection

    Ints = NDArray[np.int64]

MAX_TILE_BYTES: Final = MAX_REQUEST_BYTES
"""Larger windows are planned, and so copied by several threads."""
MAX_SPAN_BYTES: Final = 1 << 20
"""Larger parts of the file are mapped: the system would copy what lies between rows."""
_BATCH_BYTES: Final = 1 << 18  # gathered at a time, so that they are still in the processor's cache


@dataclass(frozen=True, slots=True)
class StridedWindow:
    """Evenly spaced values of one frame, as NumPy lays them over the bytes of the file.

    Attributes
    ----------
    start, stop : int
        Bytes of the file that have all of them.
    at : int
        Byte of the first value, from `start` on.
    shape, strides : tuple of int
        Of the view; the strides in bytes.
    dtype : numpy.dtype
        Of a value.
    """

    start: int
    stop: int
    at: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: np.dtype[np.generic]

    def copied(self, data: memoryview) -> NDArray[Any]:
        """The values in the bytes from `start` to `stop`, in memory in the order of the file."""
        view: NDArray[Any] = np.ndarray(self.shape, self.dtype, data, self.at, self.strides)
        return view.copy(order="K")


def strided_window(layout: FrameLayout, key: Key, file_bytes: int) -> StridedWindow | None:
    """The window that a key of numbers and slices selects of one frame.

    Parameters
    ----------
    layout : FrameLayout
        Of the image.
    key : sequence of int, slice or ndarray of int
        One for each dimension of the image.
    file_bytes : int
        Size of the file.

    Returns
    -------
    StridedWindow or None
        None where it is not of one frame, not even, large, or not in the file as a whole.

    """
    if layout.compression != "none":
        return None
    *loop_parts, channel, row, col = key[: len(layout.loops) + 3]
    frame = 0
    for part, (_, size) in zip(loop_parts, layout.loops, strict=True):
        if not isinstance(part, (int, np.integer)) or not -size <= part < size:
            return None
        frame = frame * size + int(part) % size
    item, pixel = layout.dtype.itemsize, layout.pixel_bytes
    sample = key[-1] if layout.samples > 1 else 0
    first = at = 0
    last = item
    shape, strides = [], []
    for part, size, apart, order in (
        (channel, layout.channels, layout.samples * item, layout.channel_order),
        (row, layout.height, layout.row_stride_bytes, ()),
        (col, layout.width, pixel, ()),
        (sample, layout.samples, item, layout.sample_order),
    ):
        places = _places(part, size, order)
        if not places:
            return None
        at += places[0] * apart
        first += min(places[0], places[-1]) * apart
        last += max(places[0], places[-1]) * apart
        if isinstance(part, slice):
            shape.append(len(places))
            strides.append(places.step * apart)
    stored = layout.lengths.value(frame)
    offset = layout.offsets.value(frame)
    # A frame that is as long as it must be and in the file holds every window of it.
    whole = 0 <= offset <= file_bytes - layout.frame_bytes and stored >= layout.frame_bytes
    if not whole or last - first > MAX_SPAN_BYTES:
        return None
    return StridedWindow(
        offset + first, offset + last, at - first, tuple(shape), tuple(strides), layout.dtype
    )


def _places(part: Any, size: int, order: tuple[int, ...]) -> range | None:
    """Where a frame has the positions of a part of a key, if that is evenly."""
    if isinstance(part, slice):
        positions = range(*part.indices(size))
    elif isinstance(part, (int, np.integer)) and -size <= part < size:
        positions = range(int(part) % size, int(part) % size + 1)
    else:
        return None
    if not order or not positions:
        return positions
    stored = [order[position] for position in positions]
    step = stored[1] - stored[0] if len(stored) > 1 else 1
    even = range(stored[0], stored[0] + step * len(stored), step)
    return even if list(even) == stored else None


@dataclass(frozen=True, eq=False, slots=True)
class MappedTiles:
    """Tiles of equal shape, each evenly spaced pixels of its frame.

    Attributes
    ----------
    layout : FrameLayout
        Of the file.
    selection : Selection
        What was asked for.
    present, missing : ndarray of int64
        Tiles whose frame the file has, and those whose it has not.
    starts : ndarray of int64
        Byte at which the first pixel of each present tile starts, all components.
    row_step, col_step : int
        From one row or column of a window to the next.
    """

    layout: FrameLayout
    selection: Selection
    present: Ints
    missing: Ints
    starts: Ints
    row_step: int
    col_step: int

    @property
    def batches(self) -> list[slice]:
        """Parts of the present tiles to copy one after the other, or each in a thread."""
        count = self._batch_count
        return [slice(at, at + count) for at in range(0, len(self.starts), count)]

    @property
    def are_many(self) -> bool:
        """Whether small tiles make several batches, as when thousands of regions are read."""
        return 1 < self._batch_count < len(self.starts)

    @property
    def _batch_count(self) -> int:
        return max(1, _BATCH_BYTES // _tile_bytes(self.layout, self.selection))

    def gathered(self, file: memoryview) -> NDArray[Any] | None:
        """Pixels of many small tiles at once, as `empty_pixels` has them, or None for `copy`.

        That is so where none is missing and components are stored in order: NumPy makes the array
        while it copies, and nothing is copied twice.
        """
        if self._batch_count == 1 or len(self.missing) or not len(self.starts):
            return None
        index, views = self._views(file, self.starts)
        if len(views) > 1 or isinstance(index, slice):
            return None
        tiles, channels, height, width, samples = self.selection.shape
        found = np.ascontiguousarray(views[0][1][index]).view(self.layout.dtype)
        return found.reshape(tiles, height, width, channels, samples).transpose(0, 3, 1, 2, 4)

    def copy(self, file: memoryview, pixels: NDArray[Any], batch: slice) -> None:
        """Copy a batch of tiles out of the file into an array, as `empty_pixels` makes it."""
        index, views = self._views(file, self.starts[batch])
        tiles = batch if not len(self.missing) else self.present[batch]
        target = pixels.transpose(0, 2, 3, 1, 4)  # as it lies in memory
        for part, view in views:
            if part is None:
                rows = target.reshape(*target.shape[:2], -1).view(view.dtype)
                rows[..., 0][tiles] = view[index]
            else:
                target[..., part[0], part[1]][tiles] = view[index]

    def _views(
        self, file: memoryview, starts: Ints
    ) -> tuple[slice | Ints, list[tuple[tuple[Any, Any] | None, NDArray[Any]]]]:
        """Views of windows in the file, and at which of them some tiles are.

        There is one view for each part of the components; None stands for all of them, in one view
        of whole rows: they are copied as one value each, of so many bytes.
        """
        layout, selection = self.layout, self.selection
        first = int(starts.min())
        # With as large steps as there may be, values are aligned in the view if they are in memory.
        step = int(np.gcd.reduce(starts - first)) or 1
        places = (starts - first) // step
        index = as_slice(places)  # a view, where the tiles are at equal distances
        count = int(places.max()) + 1
        _, _, height, width, _ = selection.shape
        row = self.row_step * layout.row_stride_bytes
        channels = stored_places(layout.channel_order, selection.channels[0])
        samples = stored_places(layout.sample_order, selection.samples[0])
        in_order = _is_all(channels, layout.channels) and _is_all(samples, layout.samples)
        if self.col_step == 1 and in_order:
            whole_row = np.dtype((np.void, width * layout.pixel_bytes))
            rows = np.ndarray((count, height), whole_row, file, first, (step, row))
            return index, [(None, rows)]
        item = layout.dtype.itemsize
        view: NDArray[Any] = np.ndarray(
            (count, height, width, layout.channels, layout.samples),
            layout.dtype,
            file,
            first,
            (step, row, self.col_step * layout.pixel_bytes, layout.samples * item, item),
        )
        return index, [
            ((to, number), view[..., channel, sample])
            for to, channel in parts_to_copy(channels)
            for number, sample in parts_to_copy(samples)
        ]


def mapped_tiles(layout: FrameLayout, selection: Selection, file_bytes: int) -> MappedTiles | None:
    """The tiles of a selection, if all of them can be read by strided views of a map of the file.

    Parameters
    ----------
    layout : FrameLayout
        Of the image.
    selection : Selection
        The pixels to read.
    file_bytes : int
        Size of the file.

    Returns
    -------
    MappedTiles or None
        None where the tiles are compressed, not even, or large, and where the file does not hold
        one of them as a whole. Frames that are absent from it are noted.
    """
    if layout.compression != "none" or not selection.size:
        return None
    row_step, col_step = common_step(selection.rows), common_step(selection.cols)
    same = all((part == part[0]).all() for part in (selection.channels, selection.samples))
    too_large = _tile_bytes(layout, selection) > MAX_TILE_BYTES
    if row_step is None or col_step is None or not same or too_large:
        return None
    offsets = layout.offsets.take(selection.frames)
    starts = offsets + selection.rows[:, 0] * layout.row_stride_bytes
    starts += selection.cols[:, 0] * layout.pixel_bytes
    _, _, height, width, _ = selection.shape
    last_row, last_col = row_step * (height - 1), col_step * (width - 1)
    span = last_row * layout.row_stride_bytes + (last_col + 1) * layout.pixel_bytes
    lost = offsets == MISSING_OFFSET
    sound = (starts >= 0) & (starts <= file_bytes - span)
    sound &= layout.lengths.take(selection.frames) >= layout.frame_bytes
    if not (sound | lost).all():
        return None
    present = np.flatnonzero(~lost)
    return MappedTiles(
        layout, selection, present, np.flatnonzero(lost), starts[present], row_step, col_step
    )


def _tile_bytes(layout: FrameLayout, selection: Selection) -> int:
    return selection.size // len(selection.frames) * layout.dtype.itemsize


def _is_all(places: Ints, count: int) -> bool:
    """Whether places are all that there are, in order."""
    return len(places) == count and bool((places == np.arange(count)).all())
