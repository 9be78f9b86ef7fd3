"""Crops that come late: what is read when something lies between the file and the selection."""

from __future__ import annotations

import importlib.util
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from dask.base import compute as compute_together

from benchmarks._bench import Group, traffic_of
from benchmarks._clients import open_ours
from benchmarks._files import CHANNEL_NAMES, FRAME_ROW_BYTES, FRAME_SIDE_PIXELS
from benchmarks._server import LOOPBACK_NETWORK
from benchmarks._worker import worker_process
from benchmarks.crops import CROP_EDGE_PIXELS, CROP_ROWS, CROP_WINDOW

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from benchmarks._bench import Bench

_CROP_TIME = 10
_CROP_INDEXERS: dict[str, Any] = {"T": _CROP_TIME, **CROP_WINDOW}
_MAX_GAP_BYTES = FRAME_ROW_BYTES  # the rows of a crop are read together, frames are not
_CROP_SPAN_BYTES = FRAME_ROW_BYTES * (CROP_EDGE_PIXELS - 1) + (
    FRAME_ROW_BYTES * CROP_EDGE_PIXELS // FRAME_SIDE_PIXELS
)


def _two_crops(image: Any) -> None:
    first, second = (
        image.isel(_CROP_INDEXERS),
        image.isel(T=_CROP_TIME - 1, Y=CROP_ROWS, X=slice(0, CROP_EDGE_PIXELS)),
    )
    compute_together(first, second) if image.chunks else (first.load(), second.load())


def _ones_like_frame(image: Any) -> Any:
    """An array of a frame's shape."""
    shape = {dim: image.sizes[dim] for dim in ("Y", "X")}
    return xr.DataArray(np.ones(tuple(shape.values())), dims=tuple(shape))


LATE_CROPS: dict[str, tuple[Callable[[Any], Any], int]] = {
    "crop": (lambda image: image.isel(_CROP_INDEXERS).compute(), 1),
    "crop of a crop": (
        lambda image: (
            image.isel(Y=slice(50, 800), X=slice(100, 900))
            .isel(
                T=_CROP_TIME,
                Y=slice(50, 50 + CROP_EDGE_PIXELS),
                X=slice(200, 200 + CROP_EDGE_PIXELS),
            )
            .compute()
        ),
        1,
    ),
    "channel by label, then crop": (
        lambda image: image.sel(C=CHANNEL_NAMES[-1]).isel(_CROP_INDEXERS).compute(),
        1,
    ),
    "`astype`, then crop": (
        lambda image: image.astype("float32").isel(_CROP_INDEXERS).compute(),
        1,
    ),
    "`x * 2 + 1`, then crop": (lambda image: (image * 2 + 1).isel(_CROP_INDEXERS).compute(), 1),
    "`(x - dark) / flat`, then crop": (
        lambda image: (
            ((image - _ones_like_frame(image)) / _ones_like_frame(image))
            .isel(_CROP_INDEXERS)
            .compute()
        ),
        1,
    ),
    "`where` in time, then crop": (
        lambda image: image.where(image["T"] > 0).isel(_CROP_INDEXERS).compute(),
        1,
    ),
    "ratio of two channels, then crop": (
        lambda image: (image.isel(C=0) / image.isel(C=1)).isel(_CROP_INDEXERS).compute(),
        1,
    ),
    "`concat` along a new axis, then crop": (
        lambda image: xr.concat([image, image], "run").isel({"run": 1, **_CROP_INDEXERS}).compute(),
        1,
    ),
    "`transpose`, then crop": (
        lambda image: image.transpose("X", "Y", "C", "T").isel(_CROP_INDEXERS).compute(),
        1,
    ),
    "list of times, then crop": (
        lambda image: image.isel(T=[3, _CROP_TIME + 1, _CROP_TIME]).isel(CROP_WINDOW).compute(),
        3,
    ),
    "two crops of one block": (_two_crops, 2),
    "`chunk`, then crop": (lambda image: image.chunk({"T": 1}).isel(_CROP_INDEXERS).compute(), 1),
    "`persist` of a crop, then crop": (
        lambda image: image.isel(CROP_WINDOW).persist().isel(T=_CROP_TIME).compute(),
        0,  # of every frame
    ),
    "`max` over T of a crop": (lambda image: image.isel(CROP_WINDOW).max("T").compute(), 0),
}
"""What is done with an image, and how many frames it needs the crop of; 0 for all."""


def run(bench: Bench) -> Group:
    """Count the bytes of each case, with dask and without."""
    server = bench.server(LOOPBACK_NETWORK)
    url = server.url(bench.files.few_frames)
    count = bench.files.few_count
    missing = "" if importlib.util.find_spec("dask_array") else "not installed"
    lines: list[Sequence[str]] = []
    with worker_process(_start_computing, url, not missing) as compute:
        for name, (apply, frames) in LATE_CROPS.items():
            needed = _CROP_SPAN_BYTES * (frames or count)
            images = (
                open_ours(url, max_gap=_MAX_GAP_BYTES).image,
                open_ours(url, max_gap=_MAX_GAP_BYTES, chunks={}).image,
            )
            read = [traffic_of(server, lambda: apply(image)).nbytes for image in images]  # noqa: B023
            texts = [f"{nbytes / 1e6:.2f}" for nbytes in read]
            if not missing:
                texts.append(_megabytes_with_dask_array(server, compute, name))
            lines.append((name, f"{needed / 1e6:.2f}", *texts))
    columns = ["", "needed", "lazy", "dask"] + ([] if missing else ["dask-array"])
    return Group(
        "late",
        "Crops that come late",
        f"Megabytes read of {count} frames of two channels for a crop of "
        f"{CROP_EDGE_PIXELS}² pixels with both channels, beside what the rows of the crop "
        "span in the frames that are needed: with `chunks=None` (lazy), with `chunks={}` (dask), and with the package dask-array in the place "
        "of `dask.array`"
        + (f", which is {missing} here." if missing else ".")
        + " Without dask, whatever computes does so at once and with all pixels.",
        tables=[(columns, lines)],
    )


def _megabytes_with_dask_array(server: Any, compute: Any, name: str) -> str:
    server.clear()
    try:
        compute(name)
    except RuntimeError as error:
        return str(error).strip().splitlines()[-1].partition(":")[0]
    return f"{server.traffic().nbytes / 1e6:.2f}"


def _start_computing(url: str, with_dask_array: bool) -> Callable[[str], None]:
    warnings.simplefilter("ignore")
    if with_dask_array:
        from dask_array.xarray import register

        register()
    image = open_ours(url, max_gap=_MAX_GAP_BYTES, chunks={}).image

    def compute(name: str) -> None:
        LATE_CROPS[name][0](image)

    return compute
