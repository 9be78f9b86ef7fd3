"""The ways to read that are compared."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import fsspec
import nd2
import xarray as xr

from benchmarks._measure import Contender

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

MAX_REQUESTS_IN_FLIGHT = 64
"""Of xarray-nd2, and so of the others that can choose."""


def open_ours(target: str, **options: Any) -> xr.Dataset:
    """Open with xarray-nd2: lazily, or with ``chunks={}`` as dask."""
    return xr.open_dataset(target, engine="nd2", **options)


def our_contenders(
    read: Callable[[Any], Any], new_target: Callable[[], str]
) -> dict[str, Contender]:
    """Contenders that read the image of a file with xarray-nd2, without dask and with it.

    Parameters
    ----------
    read : callable
        Reads pixels of an image.
    new_target : callable
        Gives the path or URL of the file, which is opened before each run and outside the time.

    Returns
    -------
    dict of str to Contender
        ``"lazy"`` and ``"dask"``.
    """
    return {
        "lazy": Contender(read, lambda: open_ours(new_target()).image),
        "dask": Contender(read, lambda: open_ours(new_target(), chunks={}).image),
    }


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
    parts = fs.cat_ranges(paths, list(starts), list(stops), batch_size=MAX_REQUESTS_IN_FLIGHT)
    size = sum(map(len, parts))
    assert size == sum(stops) - sum(starts)
    return size
