"""Which part of a file's image a dask array is, where nothing but crops were made of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from xarray.core import indexing

from xarray_nd2.dask.join_crops import CropChain, crop_chain_of_block
from xarray_nd2.dask.tasks import block_read, held_objects, needs, tasks_by_key, wanted_keys
from xarray_nd2.lazy_chain import find_nd2_array

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from xarray_nd2.array import ND2BackendArray
    from xarray_nd2.dask.tasks import Graph, Key

    Positions = int | NDArray[np.int64]


def selection_of(
    array: Any,
) -> tuple[ND2BackendArray, tuple[Positions, ...], tuple[int, ...]] | None:
    """Find the part of an image that a dask array is.

    Parameters
    ----------
    array : dask.array.Array
        Nothing of it is computed.

    Returns
    -------
    image : ND2BackendArray
        The whole image.
    positions : tuple of int or ndarray of int64
        What is selected along each of its dimensions; an int where the dimension was dropped.
    axes : tuple of int
        Which of its dimensions each axis of the array is.

    None is returned in place of all where the array is more than a selection of one image along
    each dimension.
    """
    if not any(find_nd2_array(held) for held in held_objects(array.dask)):
        return None
    keys = array.__dask_keys__()
    wanted = wanted_keys(keys)
    graph = tasks_by_key(array.dask, wanted)
    chains: dict[Key, CropChain] = {}
    lazy = None
    for key in wanted:
        found = _chain_to(key, graph)
        if found is None or (lazy is not None and found[0] is not lazy):
            return None
        lazy, chains[key] = found
    image_and_key = find_nd2_array(lazy)
    if image_and_key is None or not chains:
        return None
    image, held = image_and_key
    if held is None or isinstance(held, indexing.VectorizedIndexer):
        return None
    block = _joined(array, chains)
    if block is None:
        return None
    kept = [axis for axis, part in enumerate(held.tuple) if not isinstance(part, (int, np.integer))]
    axes = tuple(kept[dim] for dim in next(iter(chains.values())).order if dim is not None)
    remaining = iter(block)
    positions: list[Positions] = []
    for part, size in zip(held.tuple, image.shape, strict=True):
        if isinstance(part, (int, np.integer)):
            positions.append(int(part))
        else:
            chosen = np.arange(size)[part][next(remaining)]
            positions.append(int(chosen) if np.ndim(chosen) == 0 else chosen)
    return image, tuple(positions), axes


def _chain_to(key: Key, graph: Graph) -> tuple[Any, CropChain] | None:
    """The lazy image that a task's result is cropped of, and the chain of crops."""
    steps: list[Any] = []
    while key in graph:
        task = graph[key]
        chain = crop_chain_of_block(task, graph)
        if chain is not None:
            read = block_read(task, graph)
            for step in reversed(steps):
                chain = None if chain is None else chain.followed_by(step)
            return None if read is None or chain is None else (read.array, chain)
        steps.append(task)
        needed = list(needs(task))
        if len(needed) != 1:
            return None
        key = needed[0]
    return None


def _joined(array: Any, chains: dict[Key, CropChain]) -> list[Any] | None:
    """Positions along each dimension of all blocks together; None if they are not an outer product."""
    first = chains[array.name, *(0,) * array.ndim]
    order = first.order
    if None in order or len(order) != array.ndim:
        return None
    along: dict[int, list[Any]] = {}
    for axis, dim in enumerate(order):
        assert dim is not None
        at = [0] * array.ndim
        along[dim] = []
        for number in range(array.numblocks[axis]):
            at[axis] = number
            along[dim].append(np.asarray(chains[array.name, *at].positions[dim]))
    for key, chain in chains.items():
        if chain.order != order:
            return None
        for dim, part in enumerate(chain.positions):
            expected = (
                along[dim][key[1 + order.index(dim)]] if dim in along else first.positions[dim]
            )
            if not np.array_equal(np.asarray(part), np.asarray(expected)):
                return None
    return [
        np.concatenate(along[dim]).astype(np.int64) if dim in along else part
        for dim, part in enumerate(first.positions)
    ]
