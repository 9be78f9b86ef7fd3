"""Many files, opened together as one image."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import xarray as xr

from benchmarks._bench import Floor, Group, Row, faster_row, slower_row, traffic_of
from benchmarks._clients import open_ours
from benchmarks._measure import Contender, in_turns
from benchmarks._server import FAR_NETWORK
from xarray_nd2 import open_many

if TYPE_CHECKING:
    from benchmarks._bench import Bench

_OPENINGS = Floor(15.0, aim=10.0)  # of one file, in the time of which all should be open


def run(bench: Bench) -> Group:
    """Open files one after the other, and all together."""
    server = bench.server(FAR_NETWORK)
    urls = [server.url(path) for path in bench.files.joined]

    def open_one(_: Any) -> None:
        open_ours(urls[0], chunks={})

    def open_all(_: Any) -> None:
        assert open_many(urls, "file").sizes["file"] == len(urls)

    def open_in_a_loop(_: Any) -> None:
        xr.concat(
            [open_ours(url, chunks={}) for url in urls],
            "file",
            coords="different",
            compat="equals",
            join="override",
        )

    open_all(None)  # so that all of them have connected
    one, together = (
        traffic_of(server, lambda: open_one(None)),
        traffic_of(server, lambda: open_all(None)),
    )
    times = in_turns(
        {"one": Contender(open_one), "together": Contender(open_all)}, bench.repetitions
    )
    loop = in_turns(
        {"together": Contender(open_all), "a loop": Contender(open_in_a_loop)}, 1, warm=False
    )
    what = f"{len(urls)} files"
    requests = Floor(len(urls) * one.requests)
    return Group(
        "many",
        "Many files",
        f"Files of six frames of 256² over HTTP with {FAR_NETWORK.delays} of latency and no limit of "
        "bandwidth, joined along a new dimension by `open_many`; beside one of them, opened with "
        "`open_dataset`, and beside a loop of that and `xr.concat`.",
        [
            Row(what, "requests", together.requests, "one", one.requests, floor=requests),
            replace(slower_row(what, times, "together", "one"), floor=_OPENINGS),
            faster_row(what, loop, "together", "a loop"),
        ],
    )
