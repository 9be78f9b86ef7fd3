"""Crops of dask arrays that become reads of less.

Dask reads a block and then crops it. By itself it joins the reading with the first crop that
follows, so that of ``image.sel(C="DAPI").isel(Y=..., X=...)`` only the selection of the channel
would spare any bytes. Here every chain of crops that starts at a block of an ND2 file becomes one
read of what it ends in. Two crops of one block are read apart when together they are smaller
than the block.

Dask calls `optimize` for every graph, by its configuration ``array_optimize``; graphs without
an ND2 file go on to dask's own optimization untouched.
"""

from __future__ import annotations

import math
from collections import defaultdict
from typing import TYPE_CHECKING, Any, TypeAlias

import dask
import numpy as np
from dask._task_spec import DataNode, Task, TaskRef, convert_legacy_graph
from dask.array.chunk import getitem
from dask.array.core import getter, getter_inline, getter_nofancy
from dask.array.optimization import optimize as dask_optimize
from dask.blockwise import fuse_roots, optimize_blockwise
from dask.core import flatten
from dask.highlevelgraph import HighLevelGraph, MaterializedLayer
from dask.utils import ensure_dict
from xarray.core.indexing import ImplicitToExplicitIndexingAdapter

from xarray_nd2._array import ND2BackendArray

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping

    Graph = dict[Any, Any]

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
        wanted = list(flatten(keys if isinstance(keys, (list, set)) else [keys]))
        dsk = fuse_roots(optimize_blockwise(dsk, keys=wanted), keys=wanted)
        dsk = convert_legacy_graph(ensure_dict(dsk.cull(set(wanted))))
        dsk = join_crops(dsk, set(wanted))
    return dask_optimize(dsk, keys, **kwargs)


def join_crops(graph: Graph, keys: set[Hashable]) -> Graph:
    """Replace crops of blocks by reads of their own, where no more is read than before.

    Parameters
    ----------
    graph : dict
        Dask's tasks by key.
    keys : set
        Keys that are asked for.

    Returns
    -------
    dict
        The same with some tasks replaced; those that are not needed any more may still be there.
    """
    consumers: defaultdict[Hashable, list[Hashable]] = defaultdict(list)
    for key, task in graph.items():
        for dependency in task.dependencies:
            consumers[dependency].append(key)
    joined = dict(graph)
    for key, task in graph.items():
        block = _block_positions(task, graph)
        if block is None or key in keys:
            continue
        crops = _crops_of(key, block, graph, consumers, keys)
        if crops and sum(map(_size, crops.values())) <= _size(block):
            for crop, positions in crops.items():
                index = tuple(_as_index(part) for part in positions)
                joined[crop] = Task(
                    crop, task.func, task.args[0], DataNode(None, index), *task.args[2:]
                )
    return joined


def _reads_nd2(layer: Any) -> bool:
    if not isinstance(layer, MaterializedLayer) or len(layer) != 1:
        return False
    return _nd2_array(next(iter(layer.values()))) is not None


def _nd2_array(node: Any) -> ND2BackendArray | None:
    """The array behind the wrappers that xarray and dask put around it."""
    array = node.value if isinstance(node, DataNode) else node
    if not isinstance(array, ImplicitToExplicitIndexingAdapter):
        return None
    while hasattr(array, "array"):
        array = array.array
    return array if isinstance(array, ND2BackendArray) else None


def _block_positions(task: Any, graph: Graph) -> tuple[Positions, ...] | None:
    """What a task reads of an ND2 file, if that is all it does."""
    if not isinstance(task, Task) or task.func not in _GETTERS:
        return None
    source = task.args[0]
    node = graph.get(source.key) if isinstance(source, TaskRef) else source
    adapter: Any = node.value if isinstance(node, DataNode) else node
    if _nd2_array(adapter) is None:
        return None
    whole = tuple(range(size) for size in adapter.shape)
    return _cropped(whole, _plain(task.args[1]))


def _crops_of(
    key: Hashable,
    positions: tuple[Positions, ...],
    graph: Graph,
    consumers: Mapping[Hashable, list[Hashable]],
    keys: set[Hashable],
) -> dict[Hashable, tuple[Positions, ...]]:
    """The last crops of all chains that start at `key`; empty if anything else needs the block."""
    last: dict[Hashable, tuple[Positions, ...]] = {}
    pending = [(key, positions)]
    while pending:
        at, held = pending.pop()
        for consumer in consumers[at]:
            task = graph[consumer]
            cropped = None
            if isinstance(task, Task) and task.func is getitem and len(task.args) == 2:
                cropped = _cropped(held, _plain(task.args[1]))
            if cropped is not None:
                ends = consumer in keys or not consumers[consumer]
                pending.append((consumer, cropped))
                if ends:
                    last[consumer] = cropped
            elif at == key:
                return {}
            else:
                last[at] = held
    return last


def _plain(index: Any) -> Any:
    return index.value if isinstance(index, DataNode) else index


def _cropped(held: tuple[Positions, ...], index: Any) -> tuple[Positions, ...] | None:
    """Positions after one more crop; None if it is more than a crop."""
    if not isinstance(index, tuple):
        index = (index,)
    lists = [part for part in index if isinstance(part, (list, np.ndarray))]
    numbers = [part for part in index if isinstance(part, (int, np.integer))]
    if len(lists) > 1 or (lists and numbers):
        return None  # NumPy pairs them, or moves axes
    remaining = list(index)
    result: list[Positions] = []
    for part in held:
        if isinstance(part, int) or not remaining:
            result.append(part)
            continue
        crop = remaining.pop(0)
        if isinstance(crop, (int, np.integer)):
            result.append(int(part[crop]))
        elif isinstance(crop, slice):
            result.append(part[crop])
        elif isinstance(crop, (list, np.ndarray)) and np.asarray(crop).dtype.kind == "i":
            if np.ndim(crop) != 1:
                return None
            result.append(np.asarray(part)[np.asarray(crop)])
        else:
            return None
    return None if remaining else tuple(result)


def _size(positions: tuple[Positions, ...]) -> int:
    return math.prod(1 if isinstance(part, int) else len(part) for part in positions)


def _as_index(part: Positions) -> Any:
    """Positions as an index of the whole array."""
    if not isinstance(part, range):
        return part
    if not len(part):
        return slice(0, 0)
    # A stop below zero would count from the end.
    return slice(part.start, part.stop if part.stop >= 0 else None, part.step)
