"""Files of runs of one plan, small ones."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from xarray_nd2.testing import Channel, write_nd2

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

SIZES = {"T": 3, "Z": 2, "C": 2, "Y": 8, "X": 10}
CHANNELS = [
    Channel("DAPI", emission=450, exposure=50, color="#0000ff"),
    Channel("GFP", emission=520, exposure=20, color="#00ff00"),
]


def pixels(name: str, sizes: dict[str, int]) -> NDArray[np.uint16]:
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    return rng.integers(0, 2**16, tuple(sizes.values()), np.uint16)


def write_run(path: Path, sizes: dict[str, int] | None = None, **options: Any) -> Path:
    """A run that started at 9:30, of one frame a second, unless told otherwise."""
    sizes = SIZES if sizes is None else sizes
    loops = {dim: size for dim, size in sizes.items() if dim in "TPZ"}
    period = options.get("average_period", options.get("period", 1.0))
    seconds = np.zeros(tuple(loops.values()))
    for axis, dim in enumerate(loops):
        step = period if dim == "T" else 0.01
        shape = [-1 if at == axis else 1 for at in range(len(loops))]
        seconds = seconds + step * np.arange(loops[dim]).reshape(shape)
    defaults: dict[str, Any] = {"start": "2026-01-15T09:30:00", "timestamps": seconds.ravel()}
    if "C" in sizes and "channels" not in options:
        defaults["channels"] = CHANNELS
    write_nd2(path, pixels(path.name, sizes), "".join(sizes), **defaults | options)
    return path


def opened(path: Path) -> xr.Dataset:
    """The file on its own, in memory."""
    return xr.open_dataset(path, engine="nd2").load()
