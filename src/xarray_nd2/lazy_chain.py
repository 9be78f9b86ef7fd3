"""xarray's lazy arrays: the only file with private names of xarray.

xarray puts the array of a backend behind lazy arrays of its own, each of which may hold a key. What
a `DataArray` selects of a file is found by walking through them; and one of them is replaced by
`LazyImage`. Where xarray's names have changed, importing this file fails, and images open with what
xarray documents for backends: `LazilyIndexedArray`, and the kinds of key that `array` is given.

`LazyImage` can be deleted once xarray keeps the arrays of a vectorized key as they were given, and
`find_nd2_array` once it tells which selection of a backend's array a variable is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import xarray as xr
from xarray.core.indexing import (
    CopyOnWriteArray,
    ImplicitToExplicitIndexingAdapter,
    LazilyIndexedArray,
    LazilyVectorizedIndexedArray,
    MemoryCachedArray,
    VectorizedIndexer,
)

from xarray_nd2.array import ND2BackendArray, key_as_arrays
from xarray_nd2.mask_array import ND2MaskArray

if TYPE_CHECKING:
    from xarray.core.indexing import ExplicitIndexer

Found = TypeVar("Found", ND2BackendArray, ND2MaskArray)

_WITHOUT_KEY = (ImplicitToExplicitIndexingAdapter, CopyOnWriteArray, MemoryCachedArray)
_WITH_KEY = (LazilyIndexedArray, LazilyVectorizedIndexedArray)

if "_vindex_get" not in vars(LazilyIndexedArray):
    raise ImportError("xarray's LazilyIndexedArray has no method _vindex_get")


class LazyImage(LazilyIndexedArray):
    """xarray's lazy array, which keeps vectorized keys as small as they were given.

    xarray would broadcast the arrays of the key to the size of the result: for thousands of
    regions that takes as long as reading them.
    """

    __slots__ = ()

    def _vindex_get(self, indexer: VectorizedIndexer) -> LazilyVectorizedIndexedArray:
        asked = key_as_arrays(indexer.tuple, self.shape)
        remaining = iter(asked)
        parts = []
        for held, size in zip(self.key.tuple, self.array.shape, strict=True):
            if isinstance(held, (int, np.integer)):
                parts.append(np.full((1,) * asked[0].ndim, held))
            else:
                parts.append(np.arange(size)[held][next(remaining)])
        return LazilyVectorizedIndexedArray(self.array, VectorizedIndexer(tuple(parts)))


def find_nd2_array(data: Any) -> tuple[ND2BackendArray, ExplicitIndexer | None] | None:
    """The array of an ND2 file that lazy data selects from, and what it selects.

    Parameters
    ----------
    data : xarray.DataArray, xarray.Variable, or array of a variable
        Lazy data that nothing was done to but indexing and transposing, or any other object.

    Returns
    -------
    array : ND2BackendArray
        The whole image.
    key : ExplicitIndexer or None
        The selection: a VectorizedIndexer, or one whose parts apply to each dimension alone. None
        where one selection was made of another in a way that xarray does not do by itself.

    None is returned in place of both where the data are in memory, of dask, or of no ND2 file.
    """
    return _find_array(data, ND2BackendArray)


def find_mask_array(data: Any) -> tuple[ND2MaskArray, ExplicitIndexer | None] | None:
    """The masks of an ND2 file that lazy data selects from, as `find_nd2_array` does for images."""
    return _find_array(data, ND2MaskArray)


def _find_array(data: Any, kind: type[Found]) -> tuple[Found, ExplicitIndexer | None] | None:
    if isinstance(data, (xr.DataArray, xr.Variable)):
        data = getattr(data, "variable", data)._data  # noqa: SLF001
    keys = []
    while isinstance(data, _WITH_KEY + _WITHOUT_KEY):
        keys += [data.key] if isinstance(data, _WITH_KEY) else []
        data = data.array
    if not isinstance(data, kind):
        return None
    return data, keys[0] if len(keys) == 1 else None
