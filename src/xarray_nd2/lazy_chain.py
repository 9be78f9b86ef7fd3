"""xarray's lazy arrays: the only file with private names of xarray.

xarray puts the array of a backend behind lazy arrays of its own, each of which may hold a key. What
a `DataArray` selects of a file is found by walking through them; and one of them is replaced by
`LazyImage`. Where xarray's names have changed, importing this file fails, and images open with what
xarray documents for backends: `LazilyIndexedArray`, and the kinds of key that `array` is given.

`LazyImage` can be deleted once xarray keeps the arrays of a vectorized key as they were given, and
`find_nd2_array` once it tells which selection of a backend's array a variable is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from xarray.core.indexing import (
    BasicIndexer,
    CopyOnWriteArray,
    ImplicitToExplicitIndexingAdapter,
    LazilyIndexedArray,
    LazilyVectorizedIndexedArray,
    MemoryCachedArray,
    VectorizedIndexer,
)

from xarray_nd2.array import ND2BackendArray, ReadOnDemand, key_as_arrays

if TYPE_CHECKING:
    from xarray.core.indexing import ExplicitIndexer


_WITHOUT_KEY = (ImplicitToExplicitIndexingAdapter, CopyOnWriteArray, MemoryCachedArray)
_WITH_KEY = (LazilyIndexedArray, LazilyVectorizedIndexedArray)

for _kind, _method in (
    (LazilyIndexedArray, "_vindex_get"),
    (LazilyVectorizedIndexedArray, "_updated_key"),
):
    if _method not in vars(_kind):
        raise ImportError(f"xarray's {_kind.__name__} has no method {_method}")


class LazyImage(LazilyIndexedArray):
    """xarray's lazy array, which keeps vectorized keys as small as they were given.

    xarray would broadcast the arrays of the key to the size of the result: for thousands of
    regions, or one transposed frame, that takes longer than reading them.
    """

    __slots__ = ()

    def _vindex_get(self, indexer: VectorizedIndexer) -> LazyPoints:
        asked = key_as_arrays(indexer.tuple, self.shape)
        remaining = iter(asked)
        parts = []
        for held, size in zip(self.key.tuple, self.array.shape, strict=True):
            if isinstance(held, (int, np.integer)):
                parts.append(np.full((1,) * asked[0].ndim, held))
            elif isinstance(held, slice) and range(*held.indices(size)) == range(size):
                parts.append(next(remaining))
            else:
                parts.append(np.arange(size)[held][next(remaining)])
        return LazyPoints(self.array, VectorizedIndexer(tuple(parts)))

    def transpose(self, order: tuple[int, ...]) -> Any:
        """The same with its axes in another order."""
        return LazyPoints(self.array, self.key).transpose(order)  # type: ignore[no-untyped-call]


class LazyPoints(LazilyVectorizedIndexedArray):
    """The same of a vectorized key, when something is selected of what it selects.

    Its arrays have all axes of the result, with the length 1 along those where they do not vary.
    """

    __slots__ = ()

    def _updated_key(self, new_key: ExplicitIndexer) -> VectorizedIndexer:
        shape = self.shape
        if isinstance(new_key, VectorizedIndexer):
            return VectorizedIndexer(tuple(self._at_points(new_key, shape)))
        return VectorizedIndexer(
            tuple(_crop(part, new_key.tuple, shape) for part in self.key.tuple)
        )

    def _at_points(self, key: VectorizedIndexer, shape: tuple[int, ...]) -> list[Any]:
        index = key_as_arrays(key.tuple, shape)
        # Where a part does not vary its one value is taken, in the place of any other.
        return [
            part[
                tuple(
                    along
                    if length != 1 or size == 1
                    else np.zeros_like(along, shape=(1,) * along.ndim)
                    for along, length, size in zip(index, part.shape, shape, strict=True)
                )
            ]
            for part in self.key.tuple
        ]

    def __getitem__(self, indexer: ExplicitIndexer) -> Any:
        made = type(self)(self.array, self._updated_key(indexer))
        if made.ndim:
            return made
        # As xarray does, where one value is left.
        return LazilyIndexedArray(self.array, BasicIndexer(tuple(int(k) for k in made.key.tuple)))


def _crop(part: Any, key: tuple[Any, ...], shape: tuple[int, ...]) -> Any:
    """What an outer key leaves of an array that is to be broadcast to `shape` before it."""
    for axis in reversed(range(part.ndim)):
        index, varies = key[axis], part.shape[axis] == shape[axis]
        if isinstance(index, (int, np.integer)):
            part = part.take(index if varies else 0, axis=axis)
        elif varies:
            part = part[(slice(None),) * axis + (index,)]
    return part


def lazily_kept(array: ReadOnDemand) -> MemoryCachedArray:
    """An array for a variable that reads what it is indexed with, and once it was read whole keeps it."""
    return MemoryCachedArray(LazilyIndexedArray(array))


def find_nd2_array(data: Any) -> tuple[ND2BackendArray, ExplicitIndexer | None] | None:
    """The image of an ND2 file that lazy data selects from, and what it selects.

    As `find_read_on_demand`, but None for masks, regions and what else is read on demand.
    """
    found = find_read_on_demand(data)
    if found is None or not isinstance(found[0], ND2BackendArray):
        return None
    return found[0], found[1]


def find_read_on_demand(data: Any) -> tuple[ReadOnDemand, ExplicitIndexer | None] | None:
    """The array in an ND2 file that lazy data selects from, and what it selects.

    Parameters
    ----------
    data : xarray.DataArray, xarray.Variable, or array of a variable
        Lazy data that nothing was done to but indexing and transposing, or any other object.

    Returns
    -------
    array : ReadOnDemand
        The whole array.
    key : ExplicitIndexer or None
        The selection: a VectorizedIndexer, or one whose parts apply to each dimension alone. None
        where one selection was made of another in a way that xarray does not do by itself.

    None is returned in place of both where the data are in memory, of dask, or of no ND2 file.
    """
    if isinstance(data, (xr.DataArray, xr.Variable)):
        data = getattr(data, "variable", data)._data  # noqa: SLF001
    keys = []
    while isinstance(data, _WITH_KEY + _WITHOUT_KEY):
        keys += [data.key] if isinstance(data, _WITH_KEY) else []
        data = data.array
    if not isinstance(data, ReadOnDemand):
        return None
    return data, keys[0] if len(keys) == 1 else None
