"""Which shards an image is written in, and which of them are made of the same pixels; pure.

A task writes the shards of all levels that are made of the same frames: some steps along t and z, and
all rows or a strip of them. It covers all channels and columns, since these are interleaved in the
file, so that no frame is fetched twice.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

SHARD_BYTES: Final = 32 * 1024 * 1024
"""Bytes of pixels to aim at for one shard."""
CHUNK_PIXELS: Final = 512
"""Height and width of chunks."""
SMALLEST_LEVEL_PIXELS: Final = 256
"""Levels are made until the smaller side has no more pixels than these."""


@dataclass(frozen=True)
class Level:
    """The array of one level.

    Attributes
    ----------
    shape, chunks, shards : tuple of int
        In pixels along each axis of the pyramid; chunks divide shards evenly.
    """

    shape: tuple[int, ...]
    chunks: tuple[int, ...]
    shards: tuple[int, ...]


@dataclass(frozen=True)
class Shard:
    """One object to be written.

    Attributes
    ----------
    level : int
        0 for the image itself.
    place : tuple of int
        Number of the shard along each axis.
    region : tuple of slice
        Its pixels in the level.
    """

    level: int
    place: tuple[int, ...]
    region: tuple[slice, ...]

    @property
    def key(self) -> str:
        """Name of the object below the group of the levels."""
        return "/".join([str(self.level), "c", *map(str, self.place)])


@dataclass(frozen=True)
class Pyramid:
    """An image in several sizes.

    Attributes
    ----------
    axes : str
        Of ``tczyx``, those that it has, in this order.
    levels : tuple of Level
        The image itself first, then half its height and width, and so on.
    itemsize : int
        Bytes of one value.
    """

    axes: str
    levels: tuple[Level, ...]
    itemsize: int

    @property
    def grid(self) -> tuple[int, ...]:
        """Tasks along each axis; one along c and x."""
        whole = self.levels[0]
        return tuple(
            math.ceil(size / shard) if axis in "tzy" else 1
            for axis, size, shard in zip(self.axes, whole.shape, whole.shards, strict=True)
        )

    @property
    def task_count(self) -> int:
        """Tasks that write the image."""
        return math.prod(self.grid)

    @property
    def task_bytes(self) -> int:
        """Bytes of the pixels that one task reads at most."""
        whole = self.levels[0]
        return self.itemsize * math.prod(
            min(size, shard) if axis in "tzy" else size
            for axis, size, shard in zip(self.axes, whole.shape, whole.shards, strict=True)
        )

    def blocks(self) -> Iterator[tuple[int, ...]]:
        """Places of the tasks along the axes."""
        return product(*map(range, self.grid))

    def region(self, block: Sequence[int], level: int) -> tuple[slice, ...]:
        """The pixels of a level that a task writes; empty where a strip is too thin for it."""
        array = self.levels[level]
        split = zip(self.axes, block, self.grid, array.shape, array.shards, strict=True)
        return tuple(
            slice(min(size, place * shard), min(size, (place + 1) * shard))
            if tasks > 1 or axis in "tz"
            else slice(0, size)
            for axis, place, tasks, size, shard in split
        )

    def shards(self, block: Sequence[int]) -> Iterator[Shard]:
        """The shards that a task writes, those of the image itself first."""
        for number, array in enumerate(self.levels):
            region = self.region(block, number)
            places = [
                range(part.start // shard, math.ceil(part.stop / shard))
                for part, shard in zip(region, array.shards, strict=True)
            ]
            for place in product(*places):
                yield Shard(
                    number,
                    place,
                    tuple(
                        slice(at * shard, min(size, (at + 1) * shard))
                        for at, shard, size in zip(place, array.shards, array.shape, strict=True)
                    ),
                )

    @property
    def shard_count(self) -> int:
        """Objects of all tasks."""
        return sum(
            math.prod(
                math.ceil(size / shard)
                for size, shard in zip(level.shape, level.shards, strict=True)
            )
            for level in self.levels
        )


def default_level_count(height: int, width: int) -> int:
    """Levels below the image, so that the smaller side of the last has at most 256 pixels."""
    count = 0
    while min(height, width) >> count > SMALLEST_LEVEL_PIXELS:
        count += 1
    return count


def plan_pyramid(
    sizes: Mapping[str, int],
    itemsize: int,
    level_count: int,
    chunks: Mapping[str, int],
    shards: Mapping[str, int],
    *,
    splits_rows: bool,
) -> Pyramid:
    """Plan the arrays of an image.

    Parameters
    ----------
    sizes : mapping of str to int
        Of the image, by axis: of t, c, z, y, x those that it has, in this order.
    itemsize : int
        Bytes of one value.
    level_count : int
        Levels below the image itself.
    chunks, shards : mapping of str to int
        What was asked for, by axis; the rest is as fits. A size of -1 means all of an axis.
    splits_rows : bool
        Whether rows of a frame can be read alone.

    Raises
    ------
    ValueError
        These chunks, shards and levels do not go together.
    """
    _check_whole_numbers(chunks, shards)
    if min(sizes["y"], sizes["x"]) >> level_count < 1:
        raise ValueError(f"{level_count} levels leave no pixel of {sizes['y']} x {sizes['x']}")
    chunk = dict.fromkeys(sizes, 1) | {axis: min(sizes[axis], CHUNK_PIXELS) for axis in "yx"}
    chunk |= {
        axis: min(sizes[axis], sizes[axis] if size == -1 else size)
        for axis, size in chunks.items()
        if axis in sizes
    }
    shard = _default_shards(sizes, itemsize, chunk, level_count, splits_rows=splits_rows)
    for axis, size in shards.items():
        if axis in sizes:
            whole = size == -1 or size >= sizes[axis]
            shard[axis] = _rounded_up(sizes[axis], chunk[axis]) if whole else size
    _check_splits(sizes, chunk, shard, level_count, splits_rows=splits_rows)
    return Pyramid(
        "".join(sizes),
        tuple(_level(sizes, chunk, shard, number) for number in range(level_count + 1)),
        itemsize,
    )


def _check_whole_numbers(*given: Mapping[str, int]) -> None:
    for axis, size in (item for each in given for item in each.items()):
        if type(size) is not int or (size < 1 and size != -1):
            raise ValueError(f"chunks and shards are whole numbers, not {size!r} along {axis}")


def _check_splits(
    sizes: Mapping[str, int],
    chunk: Mapping[str, int],
    shard: Mapping[str, int],
    level_count: int,
    *,
    splits_rows: bool,
) -> None:
    for axis, size in sizes.items():
        split = shard[axis] < size
        if shard[axis] % chunk[axis]:
            raise ValueError(
                f"shards of {shard[axis]} along {axis} do not consist of chunks of {chunk[axis]}"
            )
        if axis in "yx" and split and shard[axis] % 2**level_count:
            raise ValueError(
                f"shards of {shard[axis]} along {axis} cannot be halved {level_count} times for the "
                f"levels: take a multiple of {2**level_count}, or fewer levels"
            )
        if axis == "y" and split and not splits_rows:
            raise ValueError("frames of this file can only be read whole, so y is not split")


def _default_shards(
    sizes: Mapping[str, int],
    itemsize: int,
    chunk: Mapping[str, int],
    level_count: int,
    *,
    splits_rows: bool,
) -> dict[str, int]:
    """All channels of some whole frames, or of a strip of rows where a frame is too large."""
    shard = {axis: _rounded_up(size, chunk[axis]) for axis, size in sizes.items()}
    row_bytes = itemsize * sizes["x"] * sizes.get("c", 1)
    frame_bytes = row_bytes * sizes["y"]
    count = max(1, SHARD_BYTES // frame_bytes)
    for axis in "zt":
        if axis in sizes:
            steps = max(1, count // chunk[axis])  # chunks
            chunks = math.ceil(sizes[axis] / chunk[axis])
            even = math.ceil(chunks / math.ceil(chunks / steps))
            shard[axis] = even * chunk[axis]
            count = max(1, count // shard[axis])
    if frame_bytes > SHARD_BYTES and splits_rows:
        unit = math.lcm(chunk["y"], 2**level_count)
        rows = max(unit, SHARD_BYTES // row_bytes // unit * unit)
        if rows < sizes["y"]:
            shard["y"] = rows
    return shard


def _level(
    sizes: Mapping[str, int], chunk: Mapping[str, int], shard: Mapping[str, int], number: int
) -> Level:
    shape, chunks, shards = [], [], []
    for axis, size in sizes.items():
        if axis not in "yx":
            shape.append(size)
            chunks.append(chunk[axis])
            shards.append(shard[axis])
            continue
        shape.append(size >> number)
        if shard[axis] < size:
            shards.append(shard[axis] >> number)
            chunks.append(math.gcd(chunk[axis], shards[-1]))
        else:
            chunks.append(min(chunk[axis], shape[-1]))
            shards.append(_rounded_up(shape[-1], chunks[-1]))
    return Level(tuple(shape), tuple(chunks), tuple(shards))


def _rounded_up(size: int, unit: int) -> int:
    return math.ceil(size / unit) * unit
