"""How many regions a second reach a training: by one process, by four workers, by a cluster."""

from __future__ import annotations

import os
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from multiprocessing import get_context
from typing import TYPE_CHECKING

import numpy as np
from dask.distributed import Client, LocalCluster

from benchmarks._bench import Group, Row
from benchmarks._clients import open_ours
from benchmarks._files import FRAME_SIDE_PIXELS
from benchmarks._measure import Contender, in_turns
from benchmarks._server import LATENCY_ONLY_NETWORK
from xarray_nd2 import batches, regions

if TYPE_CHECKING:
    import xarray as xr

    from benchmarks._bench import Bench

_EDGE_PIXELS = 64
_REGIONS_PER_BATCH = 64
_WORKER_COUNT = 4


def run(bench: Bench) -> Group:
    """Loop over batches in one process, in the workers of a loader, and of blocks on a cluster."""
    count = (8 if bench.quick else 64) * _REGIONS_PER_BATCH
    image = open_ours(bench.server(LATENCY_ONLY_NETWORK).url(bench.files.frames)).image
    rng = np.random.default_rng(37)
    half = _EDGE_PIXELS // 2
    places = rng.integers(half, FRAME_SIDE_PIXELS - half, (2, count))
    frames = rng.integers(0, bench.files.frame_count, count)
    table = {"T": frames, "Y": places[0], "X": places[1]}
    cells = regions(image, table, _EDGE_PIXELS)
    blocks = regions(image, table, _EDGE_PIXELS, chunks=_REGIONS_PER_BATCH)
    with ExitStack() as stack:
        spawn = get_context("spawn")
        workers = stack.enter_context(ProcessPoolExecutor(_WORKER_COUNT, mp_context=spawn))
        cluster = stack.enter_context(
            LocalCluster(n_workers=_WORKER_COUNT, threads_per_worker=2, dashboard_address=None)
        )
        client = stack.enter_context(Client(cluster, set_as_default=False))

        def by_workers(_: object) -> None:
            parts = [workers.submit(loop, cells, number) for number in range(_WORKER_COUNT)]
            assert sum(part.result() for part in parts) == count

        times = in_turns(
            {
                "one process": Contender(lambda _: loop(cells)),
                "four workers": Contender(by_workers),
                "a cluster": Contender(lambda _: client.compute(blocks.data).result()),
            },
            bench.repetitions,
        )
    alone = times["one process"]
    return Group(
        "loaders",
        "Loaders",
        f"{count:,} random regions of {_EDGE_PIXELS}² pixels and two channels in batches of "
        f"{_REGIONS_PER_BATCH}, over HTTP with {LATENCY_ONLY_NETWORK.delays} of latency: by "
        f"`xarray_nd2.batches` in one process, in {_WORKER_COUNT} worker processes as those of a "
        f"`DataLoader`, and as blocks on a dask cluster of {_WORKER_COUNT} workers, gathered. The "
        f"machine has {os.cpu_count()} processors, which serve the file too.",
        [
            Row(
                name,
                "ROIs/s",
                count / times[name].median,
                "one process" if name != "one process" else "",
                count / alone.median if name != "one process" else None,
                alone.per(times[name]) if name != "one process" else None,
            )
            for name in times
        ],
    )


def loop(cells: xr.DataArray, number: int | None = None) -> int:
    """Read all batches, or those of one worker; returns how many regions they had."""
    worker = None if number is None else (number, _WORKER_COUNT)
    each = batches(cells, _REGIONS_PER_BATCH, seed=0, worker=worker)
    return sum(int(batch.sizes["roi"]) for batch in each)
