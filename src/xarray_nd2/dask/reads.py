"""What a dask graph will read of ND2 files, and which blocks it reads whole though it crops them later."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import dask

from xarray_nd2.dask.join_crops import chains_to_join, crop_chain_of_block
from xarray_nd2.dask.push_crops import crop_index, push_crops, transposed_axes
from xarray_nd2.dask.tasks import (
    all_block_reads,
    block_read,
    consumers_of,
    held_objects,
    is_alias,
    needs,
    operation_name,
    tasks_by_key,
    wanted_keys,
)
from xarray_nd2.lazy_chain import find_read_on_demand

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from xarray_nd2.dask.tasks import BlockRead, Graph, Key

_CROPPING_OPERATIONS: Final = frozenset({"getitem", "vindex-slice", "shuffle-split", "blocks"})


@dataclass(frozen=True)
class WholeBlock:
    """A block that is read whole, though only a part of it comes to be used.

    Attributes
    ----------
    operation : str
        What is done to all of it before the crop.
    selected : object
        The block as a lazy selection of an image.
    """

    operation: str
    selected: Any


def reads_of(arrays: Sequence[Any]) -> Iterator[Any]:
    """Lazy selections of images that the optimized graph of dask arrays reads.

    Parameters
    ----------
    arrays : sequence of dask.array.Array
        Nothing of them is computed.
    """
    # They have one graph together.
    optimized = dask.optimize(*arrays)[0]  # type: ignore[attr-defined, no-untyped-call]
    for read in all_block_reads(optimized.__dask_graph__()):
        if find_read_on_demand(read.array):
            yield _selected(read)


def blocks_read_whole(collection: Any) -> Iterator[WholeBlock]:
    """Blocks of images that are read whole, and what is done to them before they are cropped.

    Parameters
    ----------
    collection : dask collection
        Nothing of it is computed.
    """
    dsk = collection.__dask_graph__()
    if not any(find_read_on_demand(held) for held in held_objects(dsk)):
        return
    wanted = wanted_keys(collection.__dask_keys__())
    graph = push_crops(tasks_by_key(dsk, wanted), wanted)
    consumers = consumers_of(graph)
    cropped_later = _needed_by_crops(graph)
    for key, task in graph.items():
        block = crop_chain_of_block(task, graph)
        if block is None or key not in cropped_later:
            continue
        if chains_to_join(key, block, graph, consumers, wanted):
            continue
        read = block_read(task, graph)
        operation = _first_operation(key, graph, consumers, cropped_later)
        if read is not None and operation is not None:
            yield WholeBlock(operation_name(operation), _selected(read))


def _selected(read: BlockRead) -> Any:
    """What a task takes out of an array, as a lazy selection; new axes take nothing."""
    index = read.index if isinstance(read.index, tuple) else (read.index,)
    return read.array[tuple(part for part in index if part is not None)]  # which xarray does lazily


def _needed_by_crops(graph: Graph) -> set[Key]:
    """Keys that crops need, through whatever other tasks."""
    found: set[Key] = set()
    pending = [need for key, task in graph.items() if _is_crop(key, task) for need in needs(task)]
    while pending:
        key = pending.pop()
        if key in graph and key not in found:
            found.add(key)
            pending += needs(graph[key])
    return found


def _is_crop(key: Key, task: Any) -> bool:
    index = crop_index(task)
    if index is not None:
        return not all(part is None or _is_whole(part) for part in index)
    return operation_name(key) in _CROPPING_OPERATIONS and not is_alias(task)


def _is_whole(part: Any) -> bool:
    return isinstance(part, slice) and part == slice(None)


def _first_operation(
    key: Key, graph: Graph, consumers: Mapping[Key, Mapping[Key, None]], cropped_later: set[Key]
) -> Key | None:
    """The first task that follows a block and does more than to crop it, before a crop or as one."""
    pending = list(consumers[key])
    while pending:
        at = pending.pop(0)
        task = graph[at]
        simple = is_alias(task) or transposed_axes(task) is not None or crop_index(task) is not None
        if simple:
            pending += consumers[at]
        elif at in cropped_later or _is_crop(at, task):
            return at
    return None
