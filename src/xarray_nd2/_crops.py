"""Crops of dask arrays that become reads of less.

Dask reads a block and then crops it. By itself it joins the reading with the first crop that
follows, so that of ``image.sel(C="DAPI").isel(Y=..., X=...)`` only the selection of the channel
would spare any bytes. Here every chain of crops that starts at a block of an ND2 file becomes one
read of what it ends in, also where there are transpositions, new axes and operations on single
elements (``astype``, arithmetic with numbers) in between. A list of positions is one such crop of each block
that it takes from; crops that follow it are made before dask concatenates what it took. Several
crops of one block are read apart when together they are smaller than the block.

Dask calls `optimize` for every graph, by its configuration ``array_optimize``; graphs without
an ND2 file go on to dask's own optimization untouched.
"""

from __future__ import annotations

import math
import operator
from collections import defaultdict
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any, TypeAlias

import dask
import numpy as np
from dask._task_spec import Alias, DataNode, List, Task, TaskRef, convert_legacy_graph
from dask.array import chunk
from dask.array._shuffle import _getitem as take_part
from dask.array._shuffle import concatenate_arrays
from dask.array.chunk import getitem
from dask.array.core import getter, getter_inline, getter_nofancy
from dask.array.optimization import optimize as dask_optimize
from dask.core import flatten
from dask.highlevelgraph import HighLevelGraph, MaterializedLayer
from dask.utils import ensure_dict
from xarray.core.indexing import ImplicitToExplicitIndexingAdapter

from xarray_nd2._array import ND2BackendArray

if TYPE_CHECKING:
    from collections.abc import Mapping

    Graph = dict[Any, Any]

Positions: TypeAlias = "int | range | np.ndarray[Any, np.dtype[np.int64]]"

_GETTERS = (getter, getter_inline, getter_nofancy)
_ELEMENTWISE = frozenset(
    {
        chunk.astype,
        np.clip,
        *(getattr(operator, name) for name in ("add", "sub", "mul", "truediv", "floordiv", "mod")),
        *(getattr(operator, name) for name in ("pow", "neg", "pos", "abs", "and_", "or_", "xor")),
        *(getattr(operator, name) for name in ("invert", "lt", "le", "eq", "ne", "gt", "ge")),
    }
)


class CropOptimization(str):
    """A graph optimization that dask's configuration can hold.

    Dask sends its configuration to other machines as JSON. There this arrives as the empty text,
    which turns it off, where any other callable would not be sent at all.
    """

    __slots__ = ()

    def __bool__(self) -> bool:
        return True

    def __call__(self, dsk: Any, keys: Any, **kwargs: Any) -> Any:
        return optimize(dsk, keys, **kwargs)

    def __reduce__(self) -> tuple[type[CropOptimization], tuple[()]]:
        return type(self), ()


def register() -> None:
    """Have dask optimize graphs with this module, unless its user configured another way."""
    if dask.config.get("array_optimize", None) is None:
        dask.config.set(array_optimize=CropOptimization())


def optimize(dsk: Any, keys: Any, **kwargs: Any) -> Any:
    """Optimize a graph as dask does, after joining crops with the reading of ND2 files."""
    if isinstance(dsk, HighLevelGraph) and any(map(_reads_nd2, dsk.layers.values())):
        wanted = set(flatten(keys if isinstance(keys, (list, set)) else [keys]))
        graph = crop_parts(convert_legacy_graph(ensure_dict(dsk.cull(wanted))), wanted)
        joined = join_crops(graph, wanted)
        if joined:
            return dask_optimize({**graph, **joined}, keys, **kwargs)
    return dask_optimize(dsk, keys, **kwargs)


@dataclass(frozen=True, eq=False, slots=True)
class Chain:
    """What was done to a block, one task after another.

    Attributes
    ----------
    positions : tuple of int, range or ndarray
        What is left of each dimension of the image; an int where it was dropped.
    order : tuple of (int or None)
        The dimensions that are left, in their present order; None for a new one of length 1.
    operations : tuple of Task
        Those on single elements.
    """

    positions: tuple[Positions, ...]
    order: tuple[int | None, ...]
    operations: tuple[Task, ...] = ()

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(1 if isinstance(part, int) else len(part) for part in self.positions)

    def extended(self, task: Any) -> Chain | None:
        """The chain with one more task; None if that is nothing of the kind."""
        if isinstance(task, Alias):
            return self
        if not isinstance(task, Task):
            return None
        if task.func is getitem and len(task.args) == 2:
            return self._cropped(_plain(task.args[1]))
        if task.func is np.transpose:
            axes = _plain(task.kwargs.get("axes", task.args[1] if len(task.args) > 1 else None))
            axes = reversed(range(len(self.order))) if axes is None else axes
            return replace(self, order=tuple(self.order[axis] for axis in axes))
        if _is_elementwise(task):
            return replace(self, operations=(*self.operations, task))
        return None

    def _cropped(self, index: Any) -> Chain | None:
        index = index if isinstance(index, tuple) else (index,)
        lists = [part for part in index if isinstance(part, (list, np.ndarray))]
        if sum(part is not None for part in index) > len(self.order) or len(lists) > 1:
            return None
        positions, order = list(self.positions), list[int | None]()
        remaining = iter(self.order)
        for crop in index:
            dim = None if crop is None else next(remaining)
            held = range(1) if dim is None else positions[dim]
            assert not isinstance(held, int)
            left: Positions
            if crop is None:
                left = held
            elif isinstance(crop, (int, np.integer)) and not lists:
                left = int(held[crop])
            elif isinstance(crop, slice):
                left = held[crop]
            elif isinstance(crop, (list, np.ndarray)) and _is_positions(crop):
                left = np.asarray(held)[np.asarray(crop)]
            else:  # or NumPy pairs an integer with the list, and moves axes
                return None
            if dim is not None:
                positions[dim] = left
            elif not isinstance(left, int) and len(left) != 1:
                return None
            if not isinstance(left, int):
                order.append(dim)
        return replace(self, positions=tuple(positions), order=(*order, *remaining))

    def tasks(self, key: Any, read: Task) -> Graph:
        """Tasks that give the end of the chain under `key`, by a read like `read`."""
        dims = [dim for dim in self.order if dim is not None]
        axes = tuple(sorted(dims).index(dim) for dim in dims)
        turned, grown = axes != tuple(sorted(axes)), len(dims) < len(self.order)
        count = 1 + turned + grown + len(self.operations)
        names = [(f"crop-{number}-{key[0]}", *key[1:]) for number in range(1, count)] + [key]
        index = DataNode(None, tuple(_as_index(part) for part in self.positions))
        graph: Graph = {
            names[0]: Task(names[0], read.func, read.args[0], index, *read.args[2:], **read.kwargs)
        }
        following = pairwise(names)
        if turned:
            before, name = next(following)
            graph[name] = Task(name, np.transpose, TaskRef(before), axes=axes)
        if grown:
            before, name = next(following)
            new = DataNode(None, tuple(None if dim is None else slice(None) for dim in self.order))
            graph[name] = Task(name, getitem, TaskRef(before), new)
        for operation, (before, name) in zip(self.operations, following, strict=True):
            (was,) = operation.dependencies
            graph[name] = operation.substitute({was: before}, key=name)
        return graph


def crop_parts(graph: Graph, keys: set[Any]) -> Graph:
    """Crop the parts that dask takes for a list of positions, instead of what it makes of them.

    Parameters
    ----------
    graph : dict
        Dask's tasks by key.
    keys : set
        Keys that are asked for.

    Returns
    -------
    dict
        The graph, in which that is done.
    """
    graph = {key: _as_crop(key, task, graph) for key, task in graph.items()}
    consumers = _consumers(graph)
    pending = [key for key, task in graph.items() if _concatenates(task)]
    while pending:
        whole = pending.pop()
        parts, sorter, axis = graph[whole].args
        crops = [key for key in consumers[whole] if _crops_beside(graph[key], axis)]
        for key in crops:
            index = graph[key].args[1]
            names = [(f"part-{number}-{key[0]}", *key[1:]) for number in range(len(parts.args))]
            graph |= {
                name: Task(name, getitem, part, index)
                for name, part in zip(names, parts.args, strict=True)
            }
            dropped = sum(isinstance(part, (int, np.integer)) for part in _plain(index)[:axis])
            cropped = List(*map(TaskRef, names))
            graph[key] = Task(key, concatenate_arrays, cropped, sorter, axis - dropped)
        pending += crops
        if len(crops) == len(consumers[whole]) and whole not in keys:
            del graph[whole]
    return graph


def _as_crop(key: Any, task: Any, graph: Graph) -> Any:
    """A task of a list of positions like that of any other crop."""
    if not isinstance(task, Task) or task.func is not take_part:
        return task
    block, index = task.args
    _, positions = _plain(graph[index.key] if isinstance(index, TaskRef) else index)
    return Task(key, getitem, block, DataNode(None, positions))


def _concatenates(task: Any) -> bool:
    return isinstance(task, Task) and task.func is concatenate_arrays


def _crops_beside(task: Any, axis: int) -> bool:
    """Whether a task crops other axes than this one, by positions and slices."""
    if not isinstance(task, Task) or task.func is not getitem or not isinstance(task.key, tuple):
        return False
    index = _plain(task.args[1])
    return (
        isinstance(index, tuple)
        and all(isinstance(part, (int, np.integer, slice)) for part in index)
        and index[axis : axis + 1] in ((), (slice(None),))
    )


def _consumers(graph: Graph) -> defaultdict[Any, list[Any]]:
    consumers: defaultdict[Any, list[Any]] = defaultdict(list)
    for key, task in graph.items():
        for dependency in task.dependencies:
            consumers[dependency].append(key)
    return consumers


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
    consumers = _consumers(graph)
    joined: Graph = {}
    for key, task in graph.items():
        block = _block(task, graph)
        if block is None or key in keys:
            continue
        ends = _ends(key, block, graph, consumers, keys)
        if ends and sum(chain.size for chain in ends.values()) < block.size:
            for end, chain in ends.items():
                joined |= chain.tasks(end, task)
    return joined


def _ends(
    key: Any, block: Chain, graph: Graph, consumers: Mapping[Any, list[Any]], keys: set[Any]
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
    return _is_nd2(next(iter(layer.values())))


def _is_nd2(node: Any) -> bool:
    """Whether an array of ours is behind the wrappers that xarray and dask put around it."""
    array = _plain(node)
    if not isinstance(array, ImplicitToExplicitIndexingAdapter):
        return False
    while hasattr(array, "array"):
        array = array.array
    return isinstance(array, ND2BackendArray)


def _block(task: Any, graph: Graph) -> Chain | None:
    """What a task reads of an ND2 file, if that is all it does."""
    if not isinstance(task, Task) or task.func not in _GETTERS:
        return None
    source = task.args[0]
    node = graph.get(source.key) if isinstance(source, TaskRef) else source
    if not _is_nd2(node):
        return None
    shape = _plain(node).shape
    whole = Chain(tuple(range(size) for size in shape), tuple(range(len(shape))))
    return whole._cropped(_plain(task.args[1]))  # noqa: SLF001


def _is_elementwise(task: Task) -> bool:
    """Whether a task works on each element of one array alone."""
    func = task.func
    known = func in _ELEMENTWISE or (isinstance(func, np.ufunc) and func.nout == 1)
    others = [_plain(arg) for arg in (*task.args, *task.kwargs.values())]
    arrays = sum(isinstance(arg, TaskRef) for arg in others)
    return bool(
        known
        and arrays == 1
        and len(task.dependencies) == 1
        and all(
            isinstance(arg, (TaskRef, np.dtype, str, type(None))) or np.ndim(arg) == 0
            for arg in others
        )
    )


def _is_positions(crop: Any) -> bool:
    array = np.asarray(crop)
    return array.ndim == 1 and array.dtype.kind in "iu"


def _plain(value: Any) -> Any:
    return value.value if isinstance(value, DataNode) else value


def _as_index(part: Positions) -> Any:
    """Positions as an index of the whole array."""
    if not isinstance(part, range):
        return part
    if not len(part):
        return slice(0, 0)
    # A stop below zero would count from the end.
    return slice(part.start, part.stop if part.stop >= 0 else None, part.step)
