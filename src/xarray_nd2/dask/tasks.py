"""Dask's tasks in words of this package: the only file with private names of dask.

Dask may rename what describes graphs and tasks in any release. All of it is imported here, at the
top, so that such a release is noticed when this file is imported: the room is then left out, and
crops read more (see `xarray_nd2.guard`).

The room can be deleted once dask itself makes crops before the operations they follow, and joins
them with the reading; ``docs/design.md`` says how far it is from that.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

import numpy as np
from dask._task_spec import (
    Alias,
    DataNode,
    List,
    Task,
    TaskRef,
    _execute_subgraph,
    convert_legacy_graph,
)
from dask.array._shuffle import _getitem as take_positions
from dask.array._shuffle import concatenate_arrays
from dask.array.chunk import astype, getitem
from dask.array.core import Array, getter, getter_inline, getter_nofancy
from dask.blockwise import Blockwise
from dask.core import flatten
from dask.highlevelgraph import HighLevelGraph, MaterializedLayer
from dask.utils import ensure_dict, key_split

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

Key: TypeAlias = Any
Graph: TypeAlias = "dict[Key, Any]"
"""Tasks by key. A task is a call, an alias of another key, or an object."""

GraphArray: Final = Array
"""Dask's class of arrays, other than those of ``array.query-planning``."""

crop_block: Final = getitem
"""The function by which dask indexes a block: ``crop_block(block, index)``."""

convert_block: Final = astype
"""The function by which dask changes the type of a block."""

_READING_FUNCTIONS = (getter, getter_inline, getter_nofancy)


@dataclass(frozen=True, slots=True)
class ResultOf:
    """An argument that is what another task gives."""

    key: Key


class BlockRead(NamedTuple):
    """A task that takes a block out of an array: ``array[index]``."""

    array: Any
    index: Any


class Concatenation(NamedTuple):
    """A task that concatenates what others give, and then brings the positions in an order."""

    parts: Sequence[Key]
    order: Any
    axis: int


def wanted_keys(keys: Any) -> set[Key]:
    """Keys as dask passes them to an optimization: one, or nested lists of them."""
    return set(flatten(keys if isinstance(keys, (list, set)) else [keys]))


def held_objects(dsk: Any) -> Iterator[Any]:
    """Objects that a graph holds under keys of their own or in a layer, such as arrays of blocks.

    Only the graph's layers are looked at, and no tasks are made of them.
    """
    for layer in dsk.layers.values() if isinstance(dsk, HighLevelGraph) else ():
        if isinstance(layer, Blockwise):
            yield from (_constant(held) for held, index in layer.indices if index is None)
        elif isinstance(layer, MaterializedLayer) and len(layer) == 1:
            yield _constant(next(iter(layer.values())))


def tasks_by_key(dsk: Any, wanted: set[Key]) -> Graph:
    """The tasks of a layered graph that `wanted` keys need.

    No key among them is the alias of another unless it is wanted, and lists of positions are taken
    by `crop_block` like any other index: lists and no arrays, which dask would fuse with numbers along
    other axes, and NumPy then pair with these.
    """
    graph = convert_legacy_graph(ensure_dict(dsk.cull(wanted)))
    targets = {key: task.target for key, task in graph.items() if isinstance(task, Alias)}

    def target(key: Key) -> Key:
        while key in targets:
            key = targets[key]
        return key

    result: Graph = {}
    for key, task in graph.items():
        if key in targets and key not in wanted:
            continue
        through = {name: target(name) for name in task.dependencies if name in targets}
        direct = task.substitute(through) if through else task
        if isinstance(direct, Task) and direct.func is take_positions:
            block, index = direct.args
            _, positions = _constant(graph[index.key] if isinstance(index, TaskRef) else index)
            lists = tuple(p.tolist() if isinstance(p, np.ndarray) else p for p in positions)
            direct = Task(key, getitem, block, DataNode(None, lists))
        result[key] = direct
    return result


def needs(task: Any) -> Collection[Key]:
    """Keys of which a task needs the results."""
    dependencies: Collection[Key] = task.dependencies
    return dependencies


def consumers_of(graph: Graph) -> defaultdict[Key, dict[Key, None]]:
    """Keys of the tasks that need each task, as the keys of a dictionary: a set that has an order."""
    consumers: defaultdict[Key, dict[Key, None]] = defaultdict(dict)
    for key, task in graph.items():
        for dependency in needs(task):
            consumers[dependency][key] = None
    return consumers


def is_alias(task: Any) -> bool:
    """Whether a task only passes on what another gives."""
    return isinstance(task, Alias)


def called_function(task: Any) -> Callable[..., Any] | None:
    """The function that a task calls; None if it calls none."""
    return task.func if isinstance(task, Task) else None


def arguments_of(task: Any) -> tuple[list[Any], dict[str, Any]]:
    """Arguments of a call by position and by name: `ResultOf` other tasks, or constants."""
    named = task.kwargs
    by_name = {name: _argument(named[name]) for name in named} if named else {}
    return [_argument(value) for value in task.args], by_name


def block_read(task: Any, graph: Graph) -> BlockRead | None:
    """What a task takes out of an array, if it does only that and the array is no other's result."""
    if called_function(task) not in _READING_FUNCTIONS:
        return None
    source, index = task.args[:2]
    node = graph.get(source.key) if isinstance(source, TaskRef) else source
    return BlockRead(_constant(node), _constant(index))


def all_block_reads(dsk: Any) -> Iterator[BlockRead]:
    """What the tasks of an optimized graph take out of arrays, those fused into others included."""
    graph = convert_legacy_graph(ensure_dict(dsk))
    for task in graph.values():
        yield from _block_reads_within(task, graph)


def _block_reads_within(task: Any, scope: Mapping[Key, Any]) -> Iterator[BlockRead]:
    """What a task takes out of arrays, and all tasks that it holds; `scope` has what these need."""
    if not isinstance(task, Task):
        return
    if task.func is _execute_subgraph:
        held, _, names, *given = task.args
        through = {name: _resolved(one, scope) for name, one in zip(names, given, strict=True)}
        inner = {**held, **through}
        for one in held.values():
            yield from _block_reads_within(one, inner)
        return
    if task.func in _READING_FUNCTIONS:
        array, index = (_resolved(argument, scope) for argument in task.args[:2])
        yield BlockRead(array, index)
    for argument in task.args:
        yield from _block_reads_within(argument, scope)


def _resolved(argument: Any, scope: Mapping[Key, Any]) -> Any:
    """A constant that a task is given, by itself or through others; the task where it is no constant."""
    while isinstance(argument, (TaskRef, Alias)):
        key = argument.key if isinstance(argument, TaskRef) else argument.target
        if key not in scope:
            break
        argument = scope[key]
    return _constant(argument)


def operation_name(key: Key) -> str:
    """Name of the operation that a task is part of, without what tells it from others of its kind."""
    return str(key_split(key))


def concatenation(task: Any) -> Concatenation | None:
    """What a task concatenates, after a list of positions was taken from several blocks."""
    if called_function(task) is not concatenate_arrays:
        return None
    parts, order, axis = task.args
    return Concatenation([part.key for part in parts.args], order, _constant(axis))


def call(key: Key, function: Callable[..., Any], *arguments: Any) -> Any:
    """A task that calls a function with `ResultOf` other tasks and with constants."""
    return Task(key, function, *map(_node, arguments))


def alias(key: Key, target: Key) -> Any:
    """A task that passes on what another gives."""
    return Alias(key, target)


def read_another_part(key: Key, read: Any, index: Any) -> Any:
    """A task that takes another part out of the array of the task `read`, in the same way."""
    return Task(key, read.func, read.args[0], _node(index), *read.args[2:], **read.kwargs)


def concatenate(key: Key, parts: Concatenation) -> Any:
    """A task that concatenates."""
    refs = List(*map(TaskRef, parts.parts))
    return Task(key, concatenate_arrays, refs, parts.order, parts.axis)


def with_other_inputs(key: Key, task: Any, names: Mapping[Key, Key]) -> Any:
    """The task under a new key, with the results of other tasks in place of those it needs."""
    return task.substitute(names, key=key)


def _constant(value: Any) -> Any:
    return value.value if isinstance(value, DataNode) else value


def _argument(value: Any) -> Any:
    return ResultOf(value.key) if isinstance(value, TaskRef) else _constant(value)


def _node(argument: Any) -> Any:
    return TaskRef(argument.key) if isinstance(argument, ResultOf) else DataNode(None, argument)
