"""One task of an export: frames are read, made smaller for the levels, and written as shards."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
import zarr
from zarr.storage import MemoryStore, StorePath

from xarray_nd2.export.downsampling import halved_by_means, halved_by_picking

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    import xarray as xr
    from numpy.typing import NDArray

    from xarray_nd2.export.destination import Destination
    from xarray_nd2.export.shard_plan import Pyramid

_HALVING_METHODS: Final = {"means": halved_by_means, "picking": halved_by_picking}
_DIMS_OF_AXES: Final = {"t": "T", "z": "Z", "y": "Y", "x": "X"}


@dataclass(frozen=True, eq=False)
class Stack:
    """Images of one shape, of which each is written in the same levels.

    Attributes
    ----------
    pyramid : Pyramid
        The arrays of each image.
    documents : tuple of dict
        The metadata of the array of each level, as in its ``zarr.json``.
    pixels : tuple of xarray.Variable
        Lazy pixels of all images: the image itself and the levels that the file has.
    paths : tuple of str
        Group of each image below the root of the export; empty for the root.
    steps : tuple of mapping of str to int
        What each image is of `pixels`, by dimension.
    halving : {"means", "picking"}
        How levels are made that the file has not.
    """

    pyramid: Pyramid
    documents: tuple[dict[str, Any], ...]
    pixels: tuple[xr.Variable, ...]
    paths: tuple[str, ...]
    steps: tuple[Mapping[str, int], ...]
    halving: Literal["means", "picking"]

    def lazy_part(self, image: int, block: tuple[int, ...], level: int) -> xr.Variable:
        """The pixels of a task in a level that the file has; nothing is read."""
        key: dict[str, Any] = dict(self.steps[image])
        region = self.pyramid.region(block, level)
        for axis, part in zip(self.pyramid.axes, region, strict=True):
            if axis in _DIMS_OF_AXES:
                key[_DIMS_OF_AXES[axis]] = part
        return self.pixels[level].isel(key)

    def part(self, image: int, block: tuple[int, ...], level: int) -> NDArray[Any]:
        """Read the pixels of a task in a level that the file has, with the axes of the pyramid."""
        found = self.lazy_part(image, block, level)
        dims = [dim for dim in ("T", "C", "S", "Z", "Y", "X") if dim in found.dims]
        # Transposed in memory, since a lazy transposition makes keys of points.
        values: NDArray[Any] = np.transpose(found.values, [found.get_axis_num(dim) for dim in dims])
        return values.reshape(self._shape(block, level))

    def _shape(self, block: tuple[int, ...], level: int) -> tuple[int, ...]:
        return tuple(part.stop - part.start for part in self.pyramid.region(block, level))


@dataclass(frozen=True, slots=True)
class Task:
    """Shards to be written: those of `levels` and `keys` of a block of an image of a stack."""

    stack: int
    image: int
    block: tuple[int, ...]
    keys: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Export:
    """All that tasks have in common; it pickles."""

    stacks: tuple[Stack, ...]
    destination: Destination

    def write(self, task: Task) -> None:
        """Write the shards of a task.

        Raises
        ------
        ND2Error
            Its frames cannot be read.
        OSError
            A shard cannot be written.
        """
        stack = self.stacks[task.stack]
        halve = _HALVING_METHODS[stack.halving]
        wanted = set(task.keys)
        last = max(int(key.partition("/")[0]) for key in wanted)
        pixels: NDArray[Any] | None = None
        shards = list(stack.pyramid.shards(task.block))
        for level in range(last + 1):
            if level < len(stack.pixels):
                is_needed = level == len(stack.pixels) - 1 or any(
                    shard.level == level and shard.key in wanted for shard in shards
                )
                pixels = stack.part(task.image, task.block, level) if is_needed else None
            else:
                assert pixels is not None
                pixels = _cut(halve(pixels), stack.pyramid.region(task.block, level))
            for shard in shards:
                if shard.level != level or shard.key not in wanted:
                    continue
                assert pixels is not None
                begin = stack.pyramid.region(task.block, level)
                inside = tuple(
                    slice(part.start - whole.start, part.stop - whole.start)
                    for part, whole in zip(shard.region, begin, strict=True)
                )
                data = encoded_shard(stack.documents[level], shard.region, pixels[inside])
                path = "/".join(filter(None, [stack.paths[task.image], shard.key]))
                self.destination.write(path, data)


def remaining_tasks(
    export: Export, existing: Mapping[tuple[int, int], Collection[str]] | None
) -> Iterator[Task]:
    """The tasks of which shards are not there.

    Parameters
    ----------
    export : Export
        What is written.
    existing : mapping of (int, int) to collection of str, or None
        Keys of the shards that are there, by stack and image; None where there are none. It may be
        made as it is asked.
    """
    for number, stack in enumerate(export.stacks):
        for image in range(len(stack.paths)):
            there = existing[number, image] if existing is not None else ()
            for block in stack.pyramid.blocks():
                keys = tuple(s.key for s in stack.pyramid.shards(block) if s.key not in there)
                if keys:
                    yield Task(number, image, block, keys)


def _cut(pixels: NDArray[Any], region: tuple[slice, ...]) -> NDArray[Any]:
    return pixels[tuple(slice(0, part.stop - part.start) for part in region)]


def encoded_shard(
    document: Mapping[str, Any], region: tuple[slice, ...], pixels: NDArray[Any]
) -> memoryview:
    """The bytes of a shard, as zarr writes them.

    It is written to memory first, so that the object in the store is written once and as a whole.
    """
    objects: dict[str, Any] = {}
    array = zarr.Array.from_dict(StorePath(MemoryStore(objects)), dict(document))
    # Chunks of zeros as well: a shard that is missing is one that was not written.
    array.with_config({"write_empty_chunks": True})[region] = pixels
    ((_, data),) = objects.items()
    return memoryview(data.as_numpy_array())


def decoded_region(
    document: Mapping[str, Any], objects: Mapping[str, bytes], region: tuple[slice, ...]
) -> NDArray[Any]:
    """Pixels of an array of which some shards are at hand, by their keys in the array."""
    from zarr.buffer.cpu import Buffer

    held: dict[str, Any] = {key: Buffer.from_bytes(data) for key, data in objects.items()}
    array = zarr.Array.from_dict(StorePath(MemoryStore(held)), dict(document))
    pixels: NDArray[Any] = np.asarray(array[region])
    return pixels


def array_document(pyramid: Pyramid, level: int, dtype: Any, compressors: Any) -> bytes:
    """The ``zarr.json`` of the array of a level."""
    objects: dict[str, Any] = {}
    planned = pyramid.levels[level]
    zarr.create_array(
        MemoryStore(objects),
        shape=planned.shape,
        chunks=planned.chunks,
        shards=planned.shards,
        dtype=dtype,
        compressors=compressors,
        fill_value=0,
        dimension_names=list(pyramid.axes),
        zarr_format=3,
    )
    document: bytes = objects["zarr.json"].to_bytes()
    return document
