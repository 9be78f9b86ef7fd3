"""Links that change: the third read after it, beside the best fixed choice of what to read over."""

from __future__ import annotations

import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks._bench import Group, slower_row
from benchmarks._clients import open_ours
from benchmarks._measure import Times
from benchmarks._server import WAN_NETWORK, Network, serving
from benchmarks.gaps import FIXED_GAPS, MAX_RATIO

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks._bench import Bench, Row
    from benchmarks._server import Server

_FAST_NETWORK = Network("fast", WAN_NETWORK.latency, 1e9)
_CHANGES = ((_FAST_NETWORK, WAN_NETWORK), (WAN_NETWORK, _FAST_NETWORK))
_CROP_EDGES = (256, 1024)  # pixels
_READS = ("first", "second", "third")
_COMPARED_GAPS = ("0", "16k")  # the only gap there is, from row to row, is between them


def run(bench: Bench) -> Group:
    """Crop a large frame before and after its link changes."""
    rows: list[Row] = []
    table: list[Sequence[str]] = []
    with ExitStack() as stack:
        for before, after in _CHANGES:
            for edge in _CROP_EDGES:
                row, line = _crop(bench, stack, before, after, edge)
                rows.append(row)
                table.append(line)
    return Group(
        "changes",
        "Links that change",
        f"Crops of a frame of {bench.files.huge_side}², over HTTP. The file is opened and "
        "the crop read once, then the bandwidth changes a hundredfold. The third read after that, "
        "with the automatic choice of `max_gap`, beside the best of the fixed ones; below, the "
        "seconds of the first three, and of the fixed ones.",
        rows,
        [(("crop", *_READS, *_COMPARED_GAPS), table)],
    )


def _crop(
    bench: Bench, stack: ExitStack, before: Network, after: Network, edge: int
) -> tuple[Row, Sequence[str]]:
    runs: list[dict[str, float]] = []
    for _ in range(bench.repetitions):
        # Each is another host, of which nothing was learnt; it stays so that none gets its port.
        server = stack.enter_context(serving(bench.files.folder, before))
        runs.append(_seconds_after_change(bench, server, after, edge))
    times = {name: Times(tuple(run[name] for run in runs)) for name in runs[0]}
    best = min(_COMPARED_GAPS, key=lambda name: times[name].median)
    what = f"{edge}², {before} to {after}"
    row = slower_row(what, times | {"best fixed": times[best]}, "third", "best fixed", MAX_RATIO)
    return row, (what, *(f"{times[name].median:.3g}" for name in times))


def _seconds_after_change(
    bench: Bench, server: Server, after: Network, edge: int
) -> dict[str, float]:
    url = server.url(bench.files.huge)
    window = {"Y": slice(100, 100 + edge), "X": slice(300, 300 + edge)}
    image = open_ours(url).image
    expected = image.isel(window).values
    server.become(after)
    seconds = {read: _seconds_to_read(image, window, expected) for read in _READS}
    # Only now, since these reads are observed too; the first of each makes connections.
    for name in _COMPARED_GAPS:
        fixed = open_ours(url, max_gap=FIXED_GAPS[name]).image
        seconds[name] = min(_seconds_to_read(fixed, window, expected) for _ in range(2))
    return seconds


def _seconds_to_read(image: Any, window: dict[str, slice], expected: Any) -> float:
    began = time.perf_counter()
    values = image.isel(window).values
    seconds = time.perf_counter() - began
    assert np.array_equal(values, expected), "other pixels were read"
    return seconds
