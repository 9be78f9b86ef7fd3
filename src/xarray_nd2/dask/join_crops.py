"""Crops of dask arrays that become reads of less.

Dask reads a block and then crops it. By itself it joins the reading with the first crop that
follows, so that of ``image.sel(C="DAPI").isel(Y=..., X=...)`` only the selection of the channel
would spare any bytes. Here crops are made before the operations that they come after, as far as that
is possible (`_crops_earlier`), and every chain of crops that then starts at a block of an ND2 file
becomes one read of what it ends in. Several crops of one block are read apart when together they are
smaller than the block.

Dask calls `optimize` for every graph, by its configuration ``array_optimize``; graphs without
an ND2 file go on to dask's own optimization untouched.
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeAlias

import dask
import numpy as np
from dask._task_spec import Alias, DataNode, Task, TaskRef, convert_legacy_graph
from dask.array.chunk import getitem
from dask.array.core import getter, getter_inline, getter_nofancy
from dask.array.optimization import optimize as dask_optimize
from dask.core import flatten
from dask.highlevelgraph import HighLevelGraph, MaterializedLayer
from dask.utils import ensure_dict
from xarray.core.indexing import ImplicitToExplicitIndexingAdapter

from xarray_nd2.array import LazyImage, ND2BackendArray
from xarray_nd2.dask.push_crops import (
    axis_by_axis,
    consumers_of,
    crop_earlier,
    fitted,
    index_of,
    plain,
    transposed_axes,
)

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Mapping

    from xarray_nd2.dask.push_crops import Graph

Positions: TypeAlias = "int | range | np.ndarray[Any, np.dtype[np.int64]]"

_GETTERS = (getter, getter_inline, getter_nofancy)


class CropOptimization(str):
    """A graph optimization that dask's configuration can hold.

    Dask sends its configuration to other machines as JSON. There this arrives as the empty text,
    which turns it off, where any other callable would not be sent at all.
    """

    __slots__ = ()

    def __bool__(self) -> bool:
        return True

    def __call__(self, dsk: Any, keys: Any, **kwargs: Any) -> Any:
        """Optimize a graph."""
        return optimize(dsk, keys, **kwargs)

    def __reduce__(self) -> tuple[type[CropOptimization], tuple[()]]:
        return type(self), ()


def register() -> None:
    """Have dask optimize graphs with this module, unless its user configured another way.

    The empty text is what arrives of it in a worker that takes over the configuration.
    """
    if dask.config.get("array_optimize", None) in (None, ""):
        dask.config.set(array_optimize=CropOptimization())


def optimize(dsk: Any, keys: Any, **kwargs: Any) -> Any:
    """Optimize a graph as dask does, after joining crops with the reading of ND2 files."""
    if isinstance(dsk, HighLevelGraph) and any(map(_reads_nd2, dsk.layers.values())):
        wanted = set(flatten(keys if isinstance(keys, (list, set)) else [keys]))
        tasks = convert_legacy_graph(ensure_dict(dsk.cull(wanted)))
        graph = crop_earlier(tasks, wanted)
        joined = join_crops(graph, wanted)
        if joined:
            return dask_optimize({**graph, **joined}, keys, **kwargs)
    return dask_optimize(dsk, keys, **kwargs)


@dataclass(frozen=True, eq=False, slots=True)
class Chain:
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
        return tuple(len(self._held(dim)) for dim in self.order)

    @property
    def size(self) -> int:
        """Number of pixels, with all of their channels and samples."""
        lengths = [1 if isinstance(part, int) else len(part) for part in self.positions]
        return math.prod(n for dim, n in enumerate(lengths) if dim not in self.interleaved)

    @property
    def place(self) -> tuple[Hashable, ...]:
        """The pixels."""
        return tuple(
            part.tobytes() if isinstance(part, np.ndarray) else part
            for dim, part in enumerate(self.positions)
            if dim not in self.interleaved
        )

    def extended(self, task: Any) -> Chain | None:
        """The chain with one more task; None if that is no crop."""
        if isinstance(task, Alias):
            return self
        if not isinstance(task, Task):
            return None
        axes, index = transposed_axes(task), index_of(task)
        if axes is not None:
            order = self._broadcast(len(axes)).order
            return replace(self, order=tuple(order[axis] for axis in axes))
        if index is None:
            return None
        if task.func is getitem:
            return self.cropped(index)
        chain = self._broadcast(task.args[2])
        return chain.cropped(fitted(index, chain.shape))

    def cropped(self, index: tuple[Any, ...]) -> Chain | None:
        """The chain with one more index; None where that leaves nothing of a new axis."""
        positions, order = list(self.positions), list[int | None]()
        remaining = iter(self.order)
        for crop in index:
            if crop is None:
                order.append(None)
                continue
            dim = next(remaining)
            held = self._held(dim)
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

    def tasks(self, key: Any, read: Chain, name: Any) -> Graph:
        """Tasks that give the end of the chain under `key`, from what was read under `name`."""
        kept = [dim for dim, part in enumerate(read.positions) if not isinstance(part, int)]
        steps: list[tuple[Any, ...]] = []
        for at, dim in reversed(list(enumerate(kept))):  # so that what is dropped moves no other
            part = self.positions[dim]
            if dim in self.interleaved and part is not read.positions[dim]:
                steps.append((getitem, ((slice(None),) * at + (_among(part, read._held(dim)),))))
        dims = [dim for dim in self.order if dim is not None]
        axes = tuple(sorted(dims).index(dim) for dim in dims)
        if axes != tuple(sorted(axes)):
            steps.append((np.transpose, axes))
        if len(dims) < len(self.order):
            new = tuple(None if dim is None else slice(None) for dim in self.order)
            steps.append((getitem, new))
        if not steps:
            return {key: Alias(key, name)}
        graph: Graph = {}
        for number, (func, how) in enumerate(steps, start=1):
            after = key if number == len(steps) else (f"step-{number}-{key[0]}", *key[1:])
            graph[after] = Task(after, func, TaskRef(name), DataNode(None, how))
            name = after
        return graph

    def _held(self, dim: int | None) -> range | np.ndarray[Any, np.dtype[np.int64]]:
        held = range(1) if dim is None else self.positions[dim]
        assert not isinstance(held, int)
        return held

    def _broadcast(self, ndim: int) -> Chain:
        return replace(self, order=(None,) * (ndim - len(self.order)) + self.order)


def join_crops(graph: Graph, keys: set[Any]) -> Graph:
    """Find crops of blocks that can be reads of their own, where less is read than before.

    Parameters
    ----------
    graph : dict
        Dask's tasks by key.
    keys : set
        Keys that are asked for.

    Returns
    -------
    dict
        Tasks to take the place of those of the same key, and new ones.
    """
    consumers = consumers_of(graph)
    joined: Graph = {}
    for key, task in graph.items():
        block = _block(task, graph)
        if block is None or key in keys:
            continue
        ends = _ends(key, block, graph, consumers, keys)
        reads: defaultdict[Hashable, dict[Any, Chain]] = defaultdict(dict)
        for end, chain in ends.items():
            reads[chain.place][end] = chain
        if ends and sum(next(iter(read.values())).size for read in reads.values()) < block.size:
            for read in reads.values():
                joined |= _tasks_of_read(read, block, task)
    return joined


def _tasks_of_read(ends: dict[Any, Chain], block: Chain, task: Task) -> Graph:
    """Tasks for chains that end in the same pixels: they are read once, by a task like `task`."""
    chains = list(ends.values())
    read = chains[0]
    if len(chains) > 1:  # they may be of different channels
        positions = [
            block.positions[dim] if dim in read.interleaved else part
            for dim, part in enumerate(read.positions)
        ]
        read = replace(read, positions=tuple(positions))
    first = next(iter(ends))
    name = (f"read-{first[0]}", *first[1:])
    index = DataNode(None, tuple(map(_as_index, read.positions)))
    graph: Graph = {name: Task(name, task.func, task.args[0], index, *task.args[2:], **task.kwargs)}
    for end, chain in ends.items():
        graph |= chain.tasks(end, read, name)
    return graph


def _ends(
    key: Any, block: Chain, graph: Graph, consumers: Mapping[Any, Iterable[Any]], keys: set[Any]
) -> dict[Any, Chain]:
    """The ends of all chains that start at a block; none if anything else needs all of it."""
    ends: dict[Any, Chain] = {}
    pending = [(key, block)]
    while pending:
        at, chain = pending.pop()
        longer = {consumer: chain.extended(graph[consumer]) for consumer in consumers[at]}
        if at in keys or not longer or None in longer.values():
            if at == key or not isinstance(at, tuple):
                return {}
            ends[at] = chain
        pending.extend((consumer, c) for consumer, c in longer.items() if c is not None)
    return ends


def _reads_nd2(layer: Any) -> bool:
    if not isinstance(layer, MaterializedLayer) or len(layer) != 1:
        return False
    return _dims(next(iter(layer.values()))) is not None


def _dims(node: Any) -> list[str] | None:
    """Dimensions of an array of ours behind the wrappers of xarray and dask; None if it is none.

    They are unknown, and the list empty, where the array was indexed by other arrays before it was
    cut into blocks.
    """
    array = plain(node)
    if not isinstance(array, ImplicitToExplicitIndexingAdapter):
        return None
    keys = []
    while hasattr(array, "array"):
        keys += [array.key.tuple] if hasattr(array, "key") else []
        plainly = isinstance(array, LazyImage)
        array = array.array
    if not isinstance(array, ND2BackendArray):
        return None
    if not plainly or len(keys) != 1:
        return []
    parts = zip(array.layout.dims, keys[0], strict=True)
    return [dim for dim, part in parts if not isinstance(part, (int, np.integer))]


def _block(task: Any, graph: Graph) -> Chain | None:
    """What a task reads of an ND2 file, if that is all it does."""
    if not isinstance(task, Task) or task.func not in _GETTERS:
        return None
    source = task.args[0]
    node = graph.get(source.key) if isinstance(source, TaskRef) else source
    dims = _dims(node)
    if dims is None:
        return None
    shape = plain(node).shape
    interleaved = frozenset(axis for axis, dim in enumerate(dims) if dim in ("C", "S"))
    whole = Chain(tuple(map(range, shape)), tuple(range(len(shape))), interleaved)
    index = axis_by_axis(plain(task.args[1]))
    return None if index is None else whole.cropped(index)


def _among(part: Positions, held: Iterable[int]) -> int | np.ndarray[Any, np.dtype[np.int64]]:
    """Where positions are among those that were read."""
    place = {position: number for number, position in enumerate(held)}
    if isinstance(part, int):
        return place[part]
    return np.array([place[position] for position in part], np.int64)


def _as_index(part: Positions) -> Any:
    """Positions as an index of the whole array."""
    if not isinstance(part, range):
        return part
    if not len(part):
        return slice(0, 0)
    # A stop below zero would count from the end.
    return slice(part.start, part.stop if part.stop >= 0 else None, part.step)
