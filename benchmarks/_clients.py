"""The ways to read that are compared."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import fsspec
import nd2
import xarray as xr

if TYPE_CHECKING:
    from collections.abc import Sequence

CONCURRENCY = 64
"""Requests in flight of xarray-nd2, and so of the others that can choose."""


def open_ours(target: str, **options: Any) -> xr.Dataset:
    """Open with xarray-nd2: lazily, or with ``chunks={}`` as dask."""
    return xr.open_dataset(target, engine="nd2", **options)


def open_nd2(target: str) -> Any:
    """Open with the nd2 package, and read what it would otherwise read with the first frame."""
    file = nd2.ND2File(target)
    assert file.sizes
    assert file.metadata
    return file


def open_zarr(url: str) -> xr.Dataset:
    """Open a Zarr copy, lazily."""
    # Zeros are pixels too.
    dataset: xr.Dataset = xr.open_zarr(
        url, chunks=None, consolidated=True, zarr_format=2, mask_and_scale=False
    )
    return dataset


def fetch_bare(url: str, ranges: Sequence[tuple[int, int]]) -> int:
    """Fetch byte ranges with fsspec and do nothing with them."""
    fs, path = fsspec.url_to_fs(url)
    starts, stops = zip(*ranges, strict=True)
    paths = [path] * len(ranges)
    parts = fs.cat_ranges(paths, list(starts), list(stops), batch_size=CONCURRENCY)
    size = sum(map(len, parts))
    assert size == sum(stops) - sum(starts)
    return size
