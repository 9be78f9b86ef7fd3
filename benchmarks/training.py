"""A training loop over batches of regions: what reading adds to a step that takes as long."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np

from benchmarks._bench import Floor, Group, Row, traffic_of
from benchmarks._clients import open_ours
from benchmarks._files import FRAME_SIDE_PIXELS
from benchmarks._measure import Contender, Times, in_turns
from benchmarks._server import LATENCY_ONLY_NETWORK
from xarray_nd2 import batches, regions

if TYPE_CHECKING:
    import xarray as xr

    from benchmarks._bench import Bench

_EDGE_PIXELS = 64
_REGIONS_PER_BATCH = 64


def run(bench: Bench) -> Group:
    """Loop over batches: only reading, only computing, and both."""
    count = 10 if bench.quick else 60
    server = bench.server(LATENCY_ONLY_NETWORK)
    image = open_ours(server.url(bench.files.frames)).image
    rng = np.random.default_rng(31)
    half = _EDGE_PIXELS // 2
    places = rng.integers(half, FRAME_SIDE_PIXELS - half, (2, count * _REGIONS_PER_BATCH))
    frames = rng.integers(0, bench.files.frame_count, count * _REGIONS_PER_BATCH)
    table = {"T": frames, "Y": places[0], "X": places[1]}
    cells = regions(image, table, _EDGE_PIXELS)
    cache_dir = str(bench.files.folder / "kept-frames")
    kept_image = open_ours(server.url(bench.files.frames), cache_dir=cache_dir).image
    kept_cells = regions(kept_image, table, _EDGE_PIXELS)
    first = traffic_of(server, lambda: _loop(kept_cells, 0))
    later = traffic_of(server, lambda: _loop(kept_cells, 0))
    _loop(cells, 0)  # which tells what the link is like
    began = time.perf_counter()
    _loop(cells, 0)
    step = (time.perf_counter() - began) / count
    times = in_turns(
        {
            "reading": Contender(lambda _: _loop(cells, 0)),
            "computing": Contender(lambda _: _compute(step, count)),
            "both": Contender(lambda _: _loop(cells, step)),
            "from the disk": Contender(lambda _: _loop(kept_cells, 0)),
            "one after the other": Contender(lambda _: _loop(cells, step, prefetch=0)),
        },
        bench.repetitions,
    )
    halves = zip(times["reading"].seconds, times["computing"].seconds, strict=True)
    longer = Times(tuple(max(pair) for pair in halves))
    what = f"{count} batches of {_REGIONS_PER_BATCH} regions"
    delays = LATENCY_ONLY_NETWORK.delays
    return Group(
        "training",
        "A training loop",
        f"`xarray_nd2.batches` of {_REGIONS_PER_BATCH} random regions of {_EDGE_PIXELS}² pixels and two "
        f"channels, over HTTP with {delays} of latency. A step computes for as long as reading a batch "
        "takes, and leaves the processor alone meanwhile, as one on a GPU does. Beside the loop is "
        "the longer of the same loop without a step and of the steps without reading, and the loop "
        "that does not read ahead. With `cache_dir` the loop has no step.",
        [
            Row(
                f"{what}, {delays}",
                "s",
                times["both"].median,
                "the longer of reading and computing",
                longer.median,
                times["both"].per(longer),
                Floor(1.15),
            ),
            Row(
                f"{what}, {delays}",
                "s",
                times["both"].median,
                "prefetch=0",
                times["one after the other"].median,
                times["one after the other"].per(times["both"]),
            ),
            Row(
                f"A later epoch with `cache_dir`, {what}, {delays}",
                "s",
                times["from the disk"].median,
                "without a cache",
                times["reading"].median,
                times["reading"].per(times["from the disk"]),
            ),
            Row(
                "Requests of a later epoch with `cache_dir`",
                "requests",
                later.requests,
                "the first epoch",
                first.requests,
            ),
        ],
    )


def _loop(cells: xr.DataArray, step: float, *, prefetch: int = 2) -> None:
    for _ in batches(cells, _REGIONS_PER_BATCH, seed=0, prefetch=prefetch):
        time.sleep(step)


def _compute(step: float, count: int) -> None:
    for _ in range(count):
        time.sleep(step)
