"""Crops of dask arrays made before what they come after.

``((image - dark) / flat)[crop]`` is ``(image[crop] - dark[crop]) / flat[crop]``. Here the tasks of a graph
are put in that order, so that the crops of an image come to follow directly on its reading. A *crop*
is an index or a transposition. It changes places with operations on the elements of one array or
several, and with the concatenation of what a list of positions takes from several blocks, where
nothing but crops needs the result of those.

An array of the operation may have fewer axes than the result, or a length of 1 along some of them: of
that array a crop keeps what it has.
"""

from __future__ import annotations

import operator
from collections import defaultdict
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from dask._task_spec import Alias, DataNode, List, Task, TaskRef
from dask.array import chunk
from dask.array._shuffle import _getitem as take_part
from dask.array._shuffle import concatenate_arrays
from dask.array.chunk import getitem

if TYPE_CHECKING:
    from collections.abc import Sequence

    Graph = dict[Any, Any]

_FEW: Final = 8  # crops of one result; more of them may overlap, and an operation be repeated

_ELEMENTWISE = frozenset(
    {
        chunk.astype,
        np.clip,
        np.where,
        *(getattr(operator, name) for name in ("add", "sub", "mul", "truediv", "floordiv", "mod")),
        *(getattr(operator, name) for name in ("pow", "neg", "pos", "abs", "and_", "or_", "xor")),
        *(getattr(operator, name) for name in ("invert", "lt", "le", "eq", "ne", "gt", "ge")),
    }
)


def crop_earlier(graph: Graph, keys: set[Any]) -> Graph:
    """Let crops change places with what they come after, as far as that goes.

    Parameters
    ----------
    graph : dict
        Dask's tasks by key.
    keys : set
        Keys that are asked for.

    Returns
    -------
    dict
        The graph in the new order.
    """
    graph = _uniform(graph, keys)
    consumers = consumers_of(graph)
    pending = list(graph)
    while pending:
        key = pending.pop()
        crops = consumers[key]
        if key not in graph or key in keys or not 0 < len(crops) <= _FEW:
            continue
        task = graph[key]
        moved = [tasks for crop in crops if (tasks := _exchanged(task, graph[crop])) is not None]
        if len(moved) < len(crops):
            continue
        for tasks in moved:
            graph |= tasks
            for name, one in tasks.items():
                for dependency in one.dependencies:
                    consumers[dependency][name] = None
        for dependency in task.dependencies:
            del consumers[dependency][key]
        del graph[key], consumers[key]
        pending += [*task.dependencies, *crops]
    return graph


def consumers_of(graph: Graph) -> defaultdict[Any, dict[Any, None]]:
    """Keys of the tasks that need each task, as the keys of a dictionary: a set that has an order."""
    consumers: defaultdict[Any, dict[Any, None]] = defaultdict(dict)
    for key, task in graph.items():
        for dependency in task.dependencies:
            consumers[dependency][key] = None
    return consumers


def cropped(block: Any, index: tuple[Any, ...], ndim: int) -> Any:
    """Crop a block that is broadcast to `ndim` axes, and do not broadcast it."""
    block = _broadcast(block, ndim)
    return block[fitted(index, block.shape)]


def turned(block: Any, axes: tuple[int, ...]) -> Any:
    """Transpose a block that is broadcast to as many axes."""
    return np.transpose(_broadcast(block, len(axes)), axes)


def _broadcast(block: Any, ndim: int) -> Any:
    """The block with as many axes; those that it did not have are the first ones, of length 1."""
    if not hasattr(block, "ndim"):  # a number that some other task computed
        block = np.asarray(block)
    return block[(None,) * (ndim - block.ndim)]


def fitted(index: tuple[Any, ...], shape: Sequence[int]) -> tuple[Any, ...]:
    """An index of a broadcast array as one of the array itself."""
    sizes = iter(shape)
    parts: list[Any] = []
    for part in index:
        if part is None or next(sizes) != 1:
            parts.append(part)
        elif isinstance(part, slice):
            parts.append(slice(None))
        else:
            parts.append(np.zeros_like(part)[()])
    return tuple(parts)


def plain(value: Any) -> Any:
    """An argument of a task without dask's wrapper."""
    return value.value if isinstance(value, DataNode) else value


def transposed_axes(task: Task) -> tuple[int, ...] | None:
    """Axes of a transposition; None if the task is none, or does not tell."""
    if task.func is turned:
        axes = plain(task.args[1])
    elif task.func is np.transpose:
        axes = plain(task.kwargs.get("axes", task.args[1] if len(task.args) > 1 else None))
    else:
        return None
    return None if axes is None else tuple(axes)


def index_of(task: Task) -> tuple[Any, ...] | None:
    """The index by which a task crops; None if it does not, or in another way than each axis alone."""
    if task.func not in (getitem, cropped) or len(task.args) < 2 or task.kwargs:
        return None
    return axis_by_axis(plain(task.args[1]))


def axis_by_axis(index: Any) -> tuple[Any, ...] | None:
    """An index as a tuple; None if it is more than one of each axis alone."""
    parts: tuple[Any, ...] = index if isinstance(index, tuple) else (index,)
    lists = sum(isinstance(part, (list, np.ndarray)) for part in parts)
    numbers = any(isinstance(part, (int, np.integer)) for part in parts)
    # NumPy pairs lists with each other and with numbers, and moves axes.
    if lists > 1 or (lists and numbers) or not all(map(_is_part, parts)):
        return None
    return parts


def _is_part(part: Any) -> bool:
    if isinstance(part, (list, np.ndarray)):
        array = np.asarray(part)
        return array.ndim == 1 and array.dtype.kind in "iu"
    return part is None or isinstance(part, (int, np.integer, slice))


def _uniform(graph: Graph, keys: set[Any]) -> Graph:
    """The graph without aliases between its tasks, and lists of positions as any other index."""
    targets = {key: task.target for key, task in graph.items() if isinstance(task, Alias)}

    def target(key: Any) -> Any:
        while key in targets:
            key = targets[key]
        return key

    result: Graph = {}
    for key, task in graph.items():
        if key in targets and key not in keys:
            continue
        through = {name: target(name) for name in task.dependencies if name in targets}
        direct = task.substitute(through) if through else task
        if isinstance(direct, Task) and direct.func is take_part:
            block, index = direct.args
            _, positions = plain(graph[index.key] if isinstance(index, TaskRef) else index)
            direct = Task(key, getitem, block, DataNode(None, positions))
        result[key] = direct
    return result


def _exchanged(task: Any, crop: Any) -> Graph | None:
    """Tasks that crop first what `task` needs; None where that is not the same."""
    if not (isinstance(task, Task) and isinstance(crop, Task)):
        return None
    if not (isinstance(task.key, tuple) and isinstance(crop.key, tuple)):
        return None
    if task.func is concatenate_arrays:
        return _concatenated_later(task, crop)
    if not _is_elementwise(task):
        return None
    axes, index = transposed_axes(crop), index_of(crop)
    ndim = len(task.key) - 1  # of a block of an array, unless it was cropped before
    if axes is not None:
        how: tuple[Any, ...] = turned, DataNode(None, axes)
    elif index is not None and not any(map(_is_empty, index)):
        ndim = crop.args[2] if crop.func is cropped else ndim
        how = cropped, DataNode(None, index), ndim
    else:
        return None
    refs = dict.fromkeys(arg.key for arg in _arguments(task) if isinstance(arg, TaskRef))
    names: Graph = {key: _name(number, crop.key) for number, key in enumerate(refs)}
    func, *rest = how
    parts = {name: Task(name, func, TaskRef(key), *rest) for key, name in names.items()}
    return {**parts, crop.key: task.substitute(names, key=crop.key)}


def _concatenated_later(task: Any, crop: Any) -> Graph | None:
    parts, sorter, axis = task.args
    index = index_of(crop)
    if (
        index is None
        or not all(isinstance(part, (int, np.integer, slice)) for part in index)
        or index[axis : axis + 1] not in ((), (slice(None),))
        or (crop.func is cropped and crop.args[2] != len(task.key) - 1)
    ):
        return None
    names = [_name(number, crop.key) for number in range(len(parts.args))]
    tasks: Graph = {
        name: Task(name, crop.func, part, *crop.args[1:])
        for name, part in zip(names, parts.args, strict=True)
    }
    dropped = sum(isinstance(part, (int, np.integer)) for part in index[:axis])
    whole = List(*map(TaskRef, names))
    joined = Task(crop.key, concatenate_arrays, whole, sorter, axis - dropped)
    return {**tasks, crop.key: joined}


def _name(number: int, key: tuple[Any, ...]) -> tuple[Any, ...]:
    """Key of the crop of one array, before the operation that is now called `key`."""
    return f"crop-{number}-{key[0]}", *key[1:]


def _is_empty(part: Any) -> bool:
    """Whether a slice is empty, whatever it is of."""
    if not isinstance(part, slice) or part.stop is None or part.stop < 0:
        return False
    if (part.step or 1) > 0:
        return bool(0 <= part.stop <= (part.start or 0))
    return part.start is not None and 0 <= part.start <= part.stop


def _arguments(task: Task) -> list[Any]:
    return [*task.args, *task.kwargs.values()]


def _is_elementwise(task: Task) -> bool:
    """Whether a task works on each element of its arrays alone."""
    func = task.func
    if isinstance(func, np.ufunc):
        if func.nout > 1 or func.signature is not None:  # such as matmul
            return False
    elif func not in _ELEMENTWISE:
        return False
    arguments = [plain(arg) for arg in _arguments(task)]
    refs = {arg.key for arg in arguments if isinstance(arg, TaskRef)}
    return refs == task.dependencies and all(
        isinstance(arg, (TaskRef, np.dtype, str, type(None))) or np.ndim(arg) == 0
        for arg in arguments
    )
