"""Chains of crops of dask arrays become reads of less.

Dask reads a block and then crops it. By itself it joins the reading with the first crop that
follows, so that of ``image.sel(C="DAPI").isel(Y=..., X=...)`` only the selection of the channel
would spare any bytes. Here every chain of crops that starts at a block of an ND2 file becomes one
read of what it ends in, after `push_crops` made crops come as early as possible. Several crops of one
block are read apart when together they are smaller than the block.
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from xarray.core import indexing

from xarray_nd2.dask.push_crops import (
    broadcast_crop,
    crop_index,
    index_before_broadcast,
    index_of_each_axis,
    push_crops,
    transposed_axes,
)
from xarray_nd2.dask.tasks import (
    ResultOf,
    alias,
    arguments_of,
    block_read,
    call,
    called_function,
    consumers_of,
    crop_block,
    held_objects,
    is_alias,
    read_another_part,
    tasks_by_key,
    wanted_keys,
)
from xarray_nd2.lazy_chain import find_read_on_demand

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Mapping

    from xarray_nd2.dask.tasks import Graph, Key

IntArray: TypeAlias = np.ndarray[Any, np.dtype[np.int64]]
Positions: TypeAlias = "int | range | IntArray"


def join_crops(dsk: Any, keys: Any) -> Graph | None:
    """Join crops with the reading of the blocks of ND2 files that they are of.

    Parameters
    ----------
    dsk : HighLevelGraph or dict
        A graph of dask; it is not changed.
    keys : list
        Keys that are asked for, nested as dask does.

    Returns
    -------
    dict or None
        Tasks that give the same and read less; None if there are none.
    """
    if not any(find_read_on_demand(held) for held in held_objects(dsk)):
        return None
    wanted = wanted_keys(keys)
    graph = push_crops(tasks_by_key(dsk, wanted), wanted)
    consumers = consumers_of(graph)
    joined: Graph = {}
    for key, task in graph.items():
        block = crop_chain_of_block(task, graph)
        if block is not None:
            for read in chains_to_join(key, block, graph, consumers, wanted):
                joined |= _tasks_of_read(read, block, task)
    return {**graph, **joined} if joined else None


def chains_to_join(
    key: Key,
    block: CropChain,
    graph: Graph,
    consumers: Mapping[Key, Iterable[Key]],
    wanted: set[Key],
) -> list[dict[Key, CropChain]]:
    """What is to be read in place of a block, where that is less.

    Parameters
    ----------
    key : hashable
        Of the task that reads the block.
    block : CropChain
        What it reads.
    graph : dict
        All tasks.
    consumers : mapping
        Keys of the tasks that need each task.
    wanted : set
        Keys that are asked for.

    Returns
    -------
    list of dict
        For each read the chains of crops that end in the same pixels, by the keys of their ends;
        empty where the block is read whole, and then cropped.
    """
    if key in wanted:
        return []
    reads: defaultdict[Hashable, dict[Key, CropChain]] = defaultdict(dict)
    for end, chain in _ends_of_chains(key, block, graph, consumers, wanted).items():
        reads[chain.pixels][end] = chain
    less = sum(next(iter(read.values())).size for read in reads.values()) < block.size
    return list(reads.values()) if less else []


@dataclass(frozen=True, eq=False, slots=True)
class CropChain:
    """What is left of a block after some crops.

    Attributes
    ----------
    positions : tuple of int, range or ndarray
        What is left of each dimension of the image; an int where it was dropped.
    order : tuple of (int or None)
        The dimensions that are left, in their present order; None for a new one of length 1.
    interleaved : frozenset of int
        Dimensions of which the file has all positions together: channels and samples of a pixel.
    """

    positions: tuple[Positions, ...]
    order: tuple[int | None, ...]
    interleaved: frozenset[int]

    @property
    def shape(self) -> tuple[int, ...]:
        """Length of each axis."""
        return tuple(len(self._positions_along(dim)) for dim in self.order)

    @property
    def size(self) -> int:
        """Number of pixels, with all of their channels and samples."""
        lengths = [1 if isinstance(part, int) else len(part) for part in self.positions]
        return math.prod(n for dim, n in enumerate(lengths) if dim not in self.interleaved)

    @property
    def pixels(self) -> tuple[Hashable, ...]:
        """What tells whether two chains end in the same pixels, of whatever channels."""
        return tuple(
            part.tobytes() if isinstance(part, np.ndarray) else part
            for dim, part in enumerate(self.positions)
            if dim not in self.interleaved
        )

    def followed_by(self, task: Any) -> CropChain | None:
        """The chain with one more task; None if that is no crop."""
        if is_alias(task):
            return self
        axes, index = transposed_axes(task), crop_index(task)
        if axes is not None:
            order = self._broadcast_to(len(axes)).order
            return replace(self, order=tuple(order[axis] for axis in axes))
        if index is None:
            return None
        if called_function(task) is not broadcast_crop:
            return self.cropped_by(index)
        chain = self._broadcast_to(arguments_of(task)[0][2])
        return chain.cropped_by(index_before_broadcast(index, chain.shape))

    def cropped_by(self, index: tuple[Any, ...]) -> CropChain | None:
        """The chain with one more index; None where that leaves nothing of a new axis."""
        positions, order = list(self.positions), list[int | None]()
        remaining = iter(self.order)
        for crop in index:
            if crop is None:
                order.append(None)
                continue
            dim = next(remaining)
            held = self._positions_along(dim)
            left: Positions
            if isinstance(crop, (int, np.integer)):
                left = int(held[crop])
            elif isinstance(crop, slice):
                left = held[crop]
            else:
                left = np.asarray(held)[np.asarray(crop)]
            if dim is not None:
                positions[dim] = left
            elif not isinstance(left, int) and len(left) != 1:
                return None
            if not isinstance(left, int):
                order.append(dim)
        return replace(self, positions=tuple(positions), order=(*order, *remaining))

    def tasks(self, key: Key, read: CropChain, read_key: Key) -> Graph:
        """Tasks that give the end of the chain under `key`, from what was read under `read_key`."""
        kept = [dim for dim, part in enumerate(read.positions) if not isinstance(part, int)]
        steps: list[tuple[Any, Any]] = []
        for at, dim in reversed(list(enumerate(kept))):  # so that what is dropped moves no other
            part = self.positions[dim]
            if dim in self.interleaved and part is not read.positions[dim]:
                index = _places_among(part, read._positions_along(dim))
                steps.append((take_of_read, ((slice(None),) * at + (index,))))
        dims = [dim for dim in self.order if dim is not None]
        axes = tuple(sorted(dims).index(dim) for dim in dims)
        if axes != tuple(sorted(axes)):
            steps.append((np.transpose, axes))
        if len(dims) < len(self.order):
            new = tuple(None if dim is None else slice(None) for dim in self.order)
            steps.append((crop_block, new))
        if not steps:
            return {key: alias(key, read_key)}
        graph: Graph = {}
        before = read_key
        for number, (function, how) in enumerate(steps, start=1):
            after = key if number == len(steps) else (f"step-{number}-{key[0]}", *key[1:])
            graph[after] = call(after, function, ResultOf(before), how)
            before = after
        return graph

    def _positions_along(self, dim: int | None) -> range | IntArray:
        held = range(1) if dim is None else self.positions[dim]
        assert not isinstance(held, int)
        return held

    def _broadcast_to(self, ndim: int) -> CropChain:
        return replace(self, order=(None,) * (ndim - len(self.order)) + self.order)


def _tasks_of_read(ends: dict[Key, CropChain], block: CropChain, task: Any) -> Graph:
    """Tasks for chains that end in the same pixels: they are read once, by a task like `task`."""
    first, read = next(iter(ends.items()))
    if len(ends) > 1:  # they may be of different channels
        positions = [
            block.positions[dim] if dim in read.interleaved else part
            for dim, part in enumerate(read.positions)
        ]
        read = replace(read, positions=tuple(positions))
    key = (f"read-{first[0]}", *first[1:])
    index = tuple(map(_as_index, read.positions))
    graph: Graph = {key: read_another_part(key, task, index)}
    for end, chain in ends.items():
        graph |= chain.tasks(end, read, key)
    return graph


def _ends_of_chains(
    key: Key,
    block: CropChain,
    graph: Graph,
    consumers: Mapping[Key, Iterable[Key]],
    wanted: set[Key],
) -> dict[Key, CropChain]:
    """The ends of all chains that start at a block; none if anything else needs all of it."""
    ends: dict[Key, CropChain] = {}
    pending = [(key, block)]
    while pending:
        at, chain = pending.pop()
        longer = {consumer: chain.followed_by(graph[consumer]) for consumer in consumers[at]}
        if at in wanted or not longer or None in longer.values():
            if at == key or not isinstance(at, tuple):
                return {}
            ends[at] = chain
        pending.extend((consumer, c) for consumer, c in longer.items() if c is not None)
    return ends


def crop_chain_of_block(task: Any, graph: Graph) -> CropChain | None:
    """What a task reads of an ND2 file, if that is all it does."""
    read = block_read(task, graph)
    if read is None or (dims := _dims_of_nd2(read.array)) is None:
        return None
    shape = read.array.shape
    interleaved = frozenset(axis for axis, dim in enumerate(dims) if dim in ("C", "S"))
    whole = CropChain(tuple(map(range, shape)), tuple(range(len(shape))), interleaved)
    index = index_of_each_axis(read.index)
    return None if index is None else whole.cropped_by(index)


def _dims_of_nd2(array: Any) -> list[str] | None:
    """Dimensions of an array that is read on demand; None if it is of no ND2 file.

    They are unknown, and the list empty, where they were indexed by arrays that belong together
    before they were cut into blocks.
    """
    found = find_read_on_demand(array)
    if found is None:
        return None
    in_file, key = found
    if key is None or isinstance(key, indexing.VectorizedIndexer):
        return []
    parts = zip(in_file.dims, key.tuple, strict=True)
    return [dim for dim, part in parts if not isinstance(part, (int, np.integer))]


def take_of_read(block: Any, index: tuple[Any, ...]) -> Any:
    """What an index takes of what was read.

    It is no `crop_block`, which dask would fuse with the reading: that knows no lists.
    """
    return block[index]


def _places_among(part: Positions, read: Iterable[int]) -> int | list[int]:
    """Where positions are among those that were read."""
    place = {position: number for number, position in enumerate(read)}
    if isinstance(part, int):
        return place[part]
    return [place[position] for position in part]


def _as_index(part: Positions) -> Any:
    """Positions as an index of the whole array."""
    if not isinstance(part, range):
        return part
    if not len(part):
        return slice(0, 0)
    # A stop below zero would count from the end.
    return slice(part.start, part.stop if part.stop >= 0 else None, part.step)
