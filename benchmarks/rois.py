"""Many small regions of interest in one vectorised selection."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from benchmarks._bench import Floor, Group, Row, slower_row, traffic_of
from benchmarks._clients import fetch_bare, open_nd2, open_ours
from benchmarks._files import FRAME_ROW_BYTES, FRAME_SIDE_PIXELS
from benchmarks._measure import Contender, in_turns
from benchmarks._server import LATENCY_ONLY_NETWORK

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from benchmarks._bench import Bench

REGION_EDGE_PIXELS = 64


def run(bench: Bench) -> Group:
    """Read regions at random places of random frames."""
    server = bench.server(LATENCY_ONLY_NETWORK)
    url = server.url(bench.files.frames)
    count, sample = (100, 10) if bench.quick else (500, 40)
    rng = np.random.default_rng(11)
    frames = rng.integers(0, bench.files.frame_count, count)
    tops, lefts = rng.integers(0, FRAME_SIDE_PIXELS - REGION_EDGE_PIXELS, (2, count))
    steps = np.arange(REGION_EDGE_PIXELS)
    indexers = {
        "T": xr.DataArray(frames, dims="roi"),
        "Y": xr.DataArray(tops[:, None] + steps, dims=("roi", "y")),
        "X": xr.DataArray(lefts[:, None] + steps, dims=("roi", "x")),
    }

    def read_at_once(image: Any) -> Any:
        return image.isel(indexers).transpose("roi", "C", "y", "x").values

    def read_one_by_one(file: Any) -> NDArray[np.uint16]:
        return np.stack(
            [
                file.read_frame(t)[:, y : y + REGION_EDGE_PIXELS, x : x + REGION_EDGE_PIXELS]
                for t, y, x in zip(
                    frames[:sample].tolist(), tops.tolist(), lefts.tolist(), strict=False
                )
            ]
        )

    image = open_ours(url).image
    _check_same_pixels(read_at_once, read_one_by_one, url, sample)
    traffic = traffic_of(server, lambda: read_at_once(image))
    with open_nd2(url) as file:
        by_nd2 = traffic_of(server, lambda: read_one_by_one(file))
    times = in_turns(
        {
            "lazy": Contender(lambda image: [read_at_once(image)], lambda: open_ours(url).image),
            "fsspec, same ranges": Contender(lambda _: fetch_bare(url, traffic.ranges)),
            "nd2": Contender(lambda file: [read_one_by_one(file)], lambda: open_nd2(url)),
        },
        min(3, bench.repetitions),
    )
    what = f"{count} of {REGION_EDGE_PIXELS}²"
    ratio = times["nd2"].per(times["lazy"])
    scale = count / sample
    rate = Row(
        what,
        "ROIs/s",
        count / times["lazy"].median,
        "nd2",
        sample / times["nd2"].median,
        type(ratio)(ratio.median * scale, ratio.low * scale, ratio.high * scale),
        Floor(10.0, "least", aim=30.0),
        headline=f"{count} random regions of {REGION_EDGE_PIXELS}², {LATENCY_ONLY_NETWORK.delays}",
    )
    spans = count * REGION_EDGE_PIXELS * FRAME_ROW_BYTES
    return Group(
        "rois",
        "Regions of interest",
        f"{count} random regions of {REGION_EDGE_PIXELS}² pixels from {bench.files.frame_count} "
        f"frames of {FRAME_SIDE_PIXELS}² and two channels, in one vectorised selection, over HTTP with "
        f"{LATENCY_ONLY_NETWORK.delays} of latency and no limit of bandwidth. nd2 reads the frame "
        f"of each and crops it, for {sample} of them; its rate is compared. The regions take "
        f"{spans * REGION_EDGE_PIXELS // FRAME_SIDE_PIXELS:,} bytes, their whole rows {spans:,}.",
        [
            rate,
            Row(what, "B", traffic.nbytes, "nd2", by_nd2.nbytes * scale, None, Floor(spans)),
            Row(what, "requests", traffic.requests, "nd2", by_nd2.requests * scale),
            slower_row(what, times, "lazy", "fsspec, same ranges"),
        ],
    )


def _check_same_pixels(read_at_once: Any, read_one_by_one: Any, url: str, sample: int) -> None:
    with open_nd2(url) as file:
        expected = read_one_by_one(file)
    assert np.array_equal(read_at_once(open_ours(url).image)[:sample], expected)
