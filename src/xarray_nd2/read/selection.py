"""What an indexing key asks for: which frames, which window of each, and in what arrangement.

xarray has two kinds of key. An *outer* key selects along each dimension alone; a *vectorized* one
holds arrays that are broadcast against each other, so that every region of interest can come from
another frame and place. Both become the same thing: *tiles*, each one frame and one window of it,
and the arrangement of the pixels of all tiles in the result.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from xarray_nd2.format.layout import ImageShape

    Ints = NDArray[np.int64]
    Key = Sequence[int | np.integer[Any] | slice | NDArray[np.integer[Any]]]


@dataclass(frozen=True, eq=False, slots=True)
class Arrangement:
    """How the pixels of the tiles become the array that was asked for.

    Attributes
    ----------
    shape : tuple of int
        The tiles' pixels, of shape (tiles, C, Y, X, S), are first reshaped to this,
    orders : tuple of (slice or int or ndarray)
        then each axis is indexed with one of these (an int drops it),
    transpose : tuple of int or None
        then the axes are brought into this order.
    """

    shape: tuple[int, ...]
    orders: tuple[slice | int | Ints, ...]
    transpose: tuple[int, ...] | None = None

    def apply(self, pixels: NDArray[Any]) -> NDArray[Any]:
        """Arrange the pixels of the tiles, without a copy where NumPy needs none."""
        pixels = pixels.reshape(self.shape)
        for axis, order in enumerate(self.orders):
            if isinstance(order, np.ndarray):
                pixels = np.take(pixels, order, axis=axis)
        basic = tuple(slice(None) if isinstance(o, np.ndarray) else o for o in self.orders)
        pixels = pixels[basic]
        return pixels if self.transpose is None else pixels.transpose(self.transpose)


@dataclass(frozen=True, eq=False, slots=True)
class Selection:
    """The pixels to read.

    Attributes
    ----------
    frames : ndarray of int64, shape (tiles,)
        Sequence index of the frame of each tile.
    rows, cols : ndarray of int64, shape (windows, height) and (windows, width)
        Positions of each window's pixels; one window for all tiles, or one for each.
    channels, samples : ndarray of int64, shape (windows, n)
        Positions along C and S, likewise.
    arrangement : Arrangement
        Of the tiles in the result.
    """

    frames: Ints
    rows: Ints
    cols: Ints
    channels: Ints
    samples: Ints
    arrangement: Arrangement

    @property
    def shape(self) -> tuple[int, int, int, int, int]:
        """Shape (tiles, C, Y, X, S) of the pixels of all tiles."""
        parts = (self.channels, self.rows, self.cols, self.samples)
        channels, height, width, samples = (part.shape[1] for part in parts)
        return len(self.frames), channels, height, width, samples

    @property
    def size(self) -> int:
        """Number of values, a pixel of several components counting as several."""
        return math.prod(self.shape)

    @property
    def shared_window(self) -> bool:
        """Whether all tiles have the same window."""
        return len(self.rows) == 1


def select_outer(layout: ImageShape, key: Key) -> Selection:
    """Selection of an outer key.

    Parameters
    ----------
    layout : ImageShape
        Of the image.
    key : sequence of int, slice or ndarray of int, shape (n,)
        One for each dimension of the image.

    Raises
    ------
    IndexError
        An index is out of bounds.
    """
    given = dict(zip(layout.dims, key, strict=True))
    # S, where the image does not have it, has one position, which is dropped.
    axes = {dim: _axis(given.get(dim, 0), size) for dim, size in _all_sizes(layout).items()}
    loops = [axes[name][0] for name, _ in layout.loops]
    if loops:
        frames = np.ravel_multi_index(np.ix_(*loops), layout.loop_shape).ravel()
    else:
        frames = np.zeros(1, np.int64)
    channels, rows, cols, samples = (axes[dim][0][None] for dim in layout.frame_dims)
    shape = tuple(len(positions) for positions, _ in axes.values())
    arrangement = Arrangement(shape, tuple(order for _, order in axes.values()))
    return Selection(frames.astype(np.int64), rows, cols, channels, samples, arrangement)


def select_points(layout: ImageShape, key: Sequence[NDArray[np.integer[Any]]]) -> Selection:
    """Selection of a vectorized key, given as arrays that broadcast against each other.

    An axis of the result along which only the row changes is an axis of windows, and so for
    columns, channels and samples; along all others there is a tile for each position.

    Parameters
    ----------
    layout : ImageShape
        Of the image.
    key : sequence of ndarray of int
        One for each dimension of the image.

    Raises
    ------
    IndexError
        An index is out of bounds.
    """
    sizes = _all_sizes(layout)
    shape = np.broadcast_shapes(*(part.shape for part in key))
    ndim = len(shape)
    # xarray hands over arrays of the full shape; without their repeats they are small again.
    arrays = {
        dim: _in_bounds(_without_repeats(part, ndim), sizes[dim])
        for dim, part in zip(layout.dims, key, strict=True)
    }
    for dim in layout.frame_dims:
        arrays.setdefault(dim, np.zeros((1,) * ndim, np.int64))

    window_axes: dict[str, list[int]] = {dim: [] for dim in layout.frame_dims}
    tile_axes: list[int] = []
    axes_of: dict[str, list[int]] = {dim: [] for dim in arrays}
    for axis in range(ndim):
        varies = [dim for dim, part in arrays.items() if part.shape[axis] > 1]
        alone = varies[0] if len(varies) == 1 else ""
        window_axes.get(alone, tile_axes).append(axis)
        for dim in varies:
            axes_of[dim].append(axis)
    varying = [axis for axes in axes_of.values() for axis in axes]
    long_axes = [axis for axis in range(ndim) if shape[axis] != 1]
    if sorted(varying) == long_axes and all(len(axes) < 2 for axes in axes_of.values()):
        return _select_product(layout, arrays, shape, {d: a[0] for d, a in axes_of.items() if a})

    tile_shape = tuple(shape[axis] for axis in tile_axes)
    parts = []
    for dim in layout.frame_dims:
        axes = window_axes[dim]
        moved = arrays[dim].transpose([*tile_axes, *axes, *_others(ndim, tile_axes, axes)])
        window_shape = tuple(shape[axis] for axis in axes)
        moved = moved.reshape(moved.shape[: len(tile_axes) + len(axes)])
        moved = np.broadcast_to(moved, tile_shape + window_shape)
        parts.append(moved.reshape(math.prod(tile_shape), math.prod(window_shape)))
    frames = _frames(layout, arrays, tile_axes, tile_shape)

    order = tile_axes + [axis for dim in layout.frame_dims for axis in window_axes[dim]]
    arrangement = Arrangement(
        tuple(shape[axis] for axis in order),
        (slice(None),) * ndim,
        tuple(np.argsort(order).tolist()),
    )
    channels, rows, cols, samples = parts
    return Selection(frames, rows, cols, channels, samples, arrangement)


def _select_product(
    layout: ImageShape, arrays: dict[str, Ints], shape: tuple[int, ...], axis_of: dict[str, int]
) -> Selection:
    """Selection of arrays that are an outer key, if the axes of its result are brought in order.

    Such are the keys of lazy transpositions.

    Parameters
    ----------
    arrays : dict of str to ndarray of int64
        By dimension.
    shape : tuple of int
        Of the result.
    axis_of : dict of str to int
        Axis of the result along which the array of a dimension varies; each has one of its own.
    """
    key = {
        dim: part.ravel() if dim in axis_of else int(part.flat[0]) for dim, part in arrays.items()
    }
    outer = select_outer(layout, [key[dim] for dim in layout.dims])
    made = outer.arrangement
    # Axes along which nothing varies are put behind the others, then each goes to its place.
    others = [axis for axis in range(len(shape)) if axis not in axis_of.values()]
    order = [axis_of[dim] for dim in layout.dims if dim in axis_of] + others
    ones = len(others)
    arrangement = Arrangement(
        made.shape + (1,) * ones,
        made.orders + (slice(None),) * ones,
        tuple(np.argsort(order).tolist()),
    )
    return replace(outer, arrangement=arrangement)


def select_frames(layout: ImageShape, frames: Ints) -> Selection:
    """Selection of whole frames; its result has the shape (frames, C, Y, X, S).

    Parameters
    ----------
    layout : ImageShape
        Of the image.
    frames : ndarray of int64, shape (frames,)
        Sequence index of each.
    """
    sizes = (layout.channels, layout.height, layout.width, layout.samples)
    channels, rows, cols, samples = (np.arange(size)[None] for size in sizes)
    arrangement = Arrangement((len(frames), *sizes), (slice(None),) * 5)
    return Selection(frames, rows, cols, channels, samples, arrangement)


def select_windows(
    layout: ImageShape, exposures: Ints, rows: Ints, cols: Ints, channels: Ints, samples: Ints
) -> Selection:
    """Selection of windows of one size; its result has the shape (windows, C, Y, X, S).

    Parameters
    ----------
    layout : ImageShape
        Of the image.
    exposures : ndarray of int64, shape (windows,)
        Sequence index of the frame of each window, all channels counting as one.
    rows, cols : ndarray of int64, shape (windows, height) and (windows, width)
        Positions of the pixels of each window, inside of the frame.
    channels, samples : ndarray of int64, shape (n,)
        Of every window.
    """
    shape = (len(exposures), len(channels), rows.shape[1], cols.shape[1], len(samples))
    frames = exposures
    if layout.frame_dims[0] != "C":
        frames = (exposures[:, None] * layout.channels_apart + channels).ravel()
        rows, cols = (np.repeat(part, len(channels), axis=0) for part in (rows, cols))
        channels = np.zeros(1, np.int64)
    count = len(frames)
    return Selection(
        frames,
        rows,
        cols,
        np.broadcast_to(channels, (count, len(channels))),
        np.broadcast_to(samples, (count, len(samples))),
        Arrangement(shape, (slice(None),) * len(shape)),
    )


def _all_sizes(layout: ImageShape) -> dict[str, int]:
    frame = (layout.channels, layout.height, layout.width, layout.samples)
    return dict(layout.loops) | dict(zip(layout.frame_dims, frame, strict=True))


def _axis(
    key: int | np.integer[Any] | slice | NDArray[np.integer[Any]], size: int
) -> tuple[Ints, slice | int | Ints]:
    """Sorted distinct positions along a dimension, and the index that gives what was asked for."""
    if isinstance(key, slice):
        steps = range(*key.indices(size))
        positions = np.arange(steps.start, steps.stop, steps.step, dtype=np.int64)
        if steps.step < 0:
            return positions[::-1], slice(None, None, -1)
        return positions, slice(None)
    asked = _in_bounds(np.asarray(key), size)
    if asked.ndim == 0:
        return asked.reshape(1), 0
    apart = np.diff(asked)
    if (apart > 0).all():
        return asked, slice(None)
    if (apart < 0).all():
        return asked[::-1], slice(None, None, -1)
    positions, order = np.unique(asked, return_inverse=True)
    return positions, order.astype(np.int64)


def _in_bounds(asked: NDArray[np.integer[Any]], size: int) -> Ints:
    positions: Ints = np.asarray(asked, np.int64)
    least, most = (positions.min(), positions.max()) if positions.size else (0, 0)
    if least < -size or most >= size:
        outside = most if most >= size else least
        raise IndexError(f"index {outside} is out of bounds for a dimension of size {size}")
    return positions if least >= 0 else np.where(positions < 0, positions + size, positions)


def _without_repeats(part: NDArray[np.integer[Any]], ndim: int) -> NDArray[np.integer[Any]]:
    """The array with length 1 along the axes on which it does not change."""
    part = part.reshape((1,) * (ndim - part.ndim) + part.shape)
    for axis in reversed(range(ndim)):
        if part.shape[axis] > 1:
            first, last = part.take([0], axis=axis), part.take([-1], axis=axis)
            # The ends tell most axes apart without a look at all of a large array.
            if (first == last).all() and (part == first).all():
                part = first
    return part


def _others(ndim: int, *groups: list[int]) -> list[int]:
    return [axis for axis in range(ndim) if not any(axis in group for group in groups)]


def _frames(
    layout: ImageShape, arrays: dict[str, Ints], tile_axes: list[int], tile_shape: tuple[int, ...]
) -> Ints:
    """Sequence index of the frame of each tile."""
    count = math.prod(tile_shape)
    if not layout.loops:
        return np.zeros(count, np.int64)
    ndim = next(iter(arrays.values())).ndim
    loops = []
    for name, _ in layout.loops:
        moved = arrays[name].transpose([*tile_axes, *_others(ndim, tile_axes)])
        moved = moved.reshape(moved.shape[: len(tile_axes)])
        loops.append(np.broadcast_to(moved, tile_shape).ravel())
    return np.ravel_multi_index(loops, layout.loop_shape).astype(np.int64)
