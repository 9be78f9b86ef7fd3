"""Crops of dask arrays made before the operations they follow.

``((image - dark) / flat)[crop]`` is ``(image[crop] - dark[crop]) / flat[crop]``. Here the tasks of a
graph are put in that order, so that the crops of an image come to follow directly on its reading. A
*crop* is an index or a transposition. It changes places with operations on the elements of one array
or several, and with the concatenation of what a list of positions takes from several blocks, where
nothing but crops needs the result of those.

An array of the operation may have fewer axes than the result, or a length of 1 along some of them: of
that array a crop keeps what it has.
"""

from __future__ import annotations

import operator
from collections.abc import Hashable
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from xarray_nd2.dask.tasks import (
    Concatenation,
    ResultOf,
    arguments_of,
    call,
    called_function,
    concatenate,
    concatenation,
    consumers_of,
    convert_block,
    crop_block,
    needs,
    with_other_inputs,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from xarray_nd2.dask.tasks import Graph, Key

MAX_CROPS_PER_RESULT: Final = 8
"""An operation with more crops of its result stays: they may overlap, and it would be repeated."""

_ELEMENTWISE_FUNCTIONS = frozenset(
    {
        convert_block,
        np.clip,
        np.where,
        *(getattr(operator, name) for name in ("add", "sub", "mul", "truediv", "floordiv", "mod")),
        *(getattr(operator, name) for name in ("pow", "neg", "pos", "abs", "and_", "or_", "xor")),
        *(getattr(operator, name) for name in ("invert", "lt", "le", "eq", "ne", "gt", "ge")),
    }
)


def push_crops(graph: Graph, wanted: set[Key]) -> Graph:
    """Let crops change places with the operations they follow, as far as that goes.

    Parameters
    ----------
    graph : dict
        Tasks by key; it is changed.
    wanted : set
        Keys that are asked for.

    Returns
    -------
    dict
        The tasks in the new order.
    """
    consumers = consumers_of(graph)
    pending = list(graph)
    while pending:
        key = pending.pop()
        crops = consumers[key]
        if key not in graph or key in wanted or not 0 < len(crops) <= MAX_CROPS_PER_RESULT:
            continue
        task = graph[key]
        moved = [
            tasks
            for crop in crops
            if (tasks := _crop_before_operation(key, task, crop, graph[crop])) is not None
        ]
        if len(moved) < len(crops):
            continue
        for tasks in moved:
            graph |= tasks
            for name, one in tasks.items():
                for dependency in needs(one):
                    consumers[dependency][name] = None
        for dependency in needs(task):
            del consumers[dependency][key]
        del graph[key], consumers[key]
        pending += [*needs(task), *crops]
    return graph


def broadcast_crop(block: Any, index: tuple[Any, ...], ndim: int) -> Any:
    """What a crop keeps of a block, where the index is that of the block broadcast to `ndim` axes."""
    block = _with_leading_axes(block, ndim)
    return block[index_before_broadcast(index, block.shape)]


def broadcast_transpose(block: Any, axes: tuple[int, ...]) -> Any:
    """The transpose of a block that is broadcast to as many axes."""
    return np.transpose(_with_leading_axes(block, len(axes)), axes)


_CROPPING_FUNCTIONS = (crop_block, broadcast_crop, np.transpose, broadcast_transpose)


def _with_leading_axes(block: Any, ndim: int) -> Any:
    if not hasattr(block, "ndim"):  # a number that some other task computed
        block = np.asarray(block)
    return block[(None,) * (ndim - block.ndim)]


def index_before_broadcast(index: tuple[Any, ...], shape: Sequence[int]) -> tuple[Any, ...]:
    """An index of a broadcast array as one of the array itself, which has length 1 where it was."""
    sizes = iter(shape)
    parts: list[Any] = []
    for part in index:
        if part is None or next(sizes) != 1:
            parts.append(part)
        elif isinstance(part, slice):
            parts.append(slice(None))
        else:
            parts.append([0] * len(part) if isinstance(part, (list, np.ndarray)) else 0)
    return tuple(parts)


def transposed_axes(task: Any) -> tuple[int, ...] | None:
    """Axes of a transposition; None if the task is none, or does not tell."""
    if called_function(task) not in (broadcast_transpose, np.transpose):
        return None
    arguments, by_name = arguments_of(task)
    axes = by_name.get("axes", arguments[1] if len(arguments) > 1 else None)
    return None if axes is None else tuple(axes)


def crop_index(task: Any) -> tuple[Any, ...] | None:
    """The index by which a task crops; None if it does not, or not `index_of_each_axis`."""
    if called_function(task) not in (crop_block, broadcast_crop):
        return None
    arguments, by_name = arguments_of(task)
    return None if len(arguments) < 2 or by_name else index_of_each_axis(arguments[1])


def index_of_each_axis(index: Any) -> tuple[Any, ...] | None:
    """An index as a tuple; None if it is more than one of each axis alone."""
    parts: tuple[Any, ...] = index if isinstance(index, tuple) else (index,)
    lists = sum(isinstance(part, (list, np.ndarray)) for part in parts)
    numbers = any(isinstance(part, (int, np.integer)) for part in parts)
    # NumPy pairs lists with each other and with numbers, and moves axes.
    if lists > 1 or (lists and numbers) or not all(map(_is_index_of_one_axis, parts)):
        return None
    return parts


def _is_index_of_one_axis(part: Any) -> bool:
    if isinstance(part, (list, np.ndarray)):
        array = np.asarray(part)
        return array.ndim == 1 and array.dtype.kind in "iu"
    return part is None or isinstance(part, (int, np.integer, slice))


def _crop_before_operation(key: Key, task: Any, crop_key: Key, crop: Any) -> Graph | None:
    """Tasks that crop first what the task under `key` needs; None where that is not the same."""
    if not (isinstance(key, tuple) and isinstance(crop_key, tuple)):
        return None
    function = called_function(crop)
    if function not in _CROPPING_FUNCTIONS:
        return None
    index = crop_index(crop)
    ndim = block_ndim = len(key) - 1  # unless the block was cropped before
    if index is not None and function is broadcast_crop:
        ndim = arguments_of(crop)[0][2]
    how: tuple[Any, ...]
    if (parts := concatenation(task)) is not None:
        if index is None or ndim != block_ndim:
            return None
        how = (function, *arguments_of(crop)[0][1:])
        return _crop_before_concatenation(parts, crop_key, index, how)
    inputs = _elementwise_inputs(task)
    if inputs is None:
        return None
    if (axes := transposed_axes(crop)) is not None:
        how = broadcast_transpose, axes
    elif index is not None and not any(map(_is_empty_slice, index)):
        how = broadcast_crop, index, ndim
    else:
        return None
    names = {need: _key_of_part(number, crop_key) for number, need in enumerate(inputs)}
    cropped = {name: call(name, how[0], ResultOf(need), *how[1:]) for need, name in names.items()}
    return {**cropped, crop_key: with_other_inputs(crop_key, task, names)}


def _crop_before_concatenation(
    whole: Concatenation, crop_key: Key, index: tuple[Any, ...], how: tuple[Any, ...]
) -> Graph | None:
    """Tasks that crop what is concatenated by `how`; None where the crop is along that axis."""
    axis = whole.axis
    if not all(isinstance(part, (int, np.integer, slice)) for part in index):
        return None
    if index[axis : axis + 1] not in ((), (slice(None),)):
        return None
    names = [_key_of_part(number, crop_key) for number in range(len(whole.parts))]
    dropped = sum(isinstance(part, (int, np.integer)) for part in index[:axis])
    cropped: Graph = {
        name: call(name, how[0], ResultOf(part), *how[1:])
        for name, part in zip(names, whole.parts, strict=True)
    }
    joined = Concatenation(names, whole.order, axis - dropped)
    return {**cropped, crop_key: concatenate(crop_key, joined)}


def _key_of_part(number: int, key: tuple[Any, ...]) -> tuple[Any, ...]:
    """Key of the crop of one array, before the operation that is now called `key`."""
    return f"crop-{number}-{key[0]}", *key[1:]


def _is_empty_slice(part: Any) -> bool:
    """Whether an index is a slice that is empty, whatever it is of."""
    if not isinstance(part, slice) or part.stop is None or part.stop < 0:
        return False
    if (part.step or 1) > 0:
        return bool(0 <= part.stop <= (part.start or 0))
    return part.start is not None and 0 <= part.start <= part.stop


def _elementwise_inputs(task: Any) -> list[Key] | None:
    """Keys of the arrays of which a task works on each element alone; None if it does not."""
    function = called_function(task)
    if isinstance(function, np.ufunc):
        if function.nout > 1 or function.signature is not None:  # such as matmul
            return None
    elif not isinstance(function, Hashable) or function not in _ELEMENTWISE_FUNCTIONS:
        return None
    arguments, by_name = arguments_of(task)
    inputs: dict[Key, None] = {}
    for argument in (*arguments, *by_name.values()):
        if isinstance(argument, ResultOf):
            inputs[argument.key] = None
        elif not isinstance(argument, (np.dtype, str, type(None))) and np.ndim(argument):
            return None
    return list(inputs) if inputs.keys() == needs(task) else None
