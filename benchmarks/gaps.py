"""What is read over rather than asked for apart: the automatic choice beside fixed ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks._bench import Group, slower_row, traffic_of
from benchmarks._clients import open_ours
from benchmarks._measure import Contender, in_turns
from benchmarks._server import CLOUD_NETWORK, LAN_NETWORK, WAN_NETWORK
from benchmarks.crops import CROP_EDGE_PIXELS, CROP_WINDOW

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks._bench import Bench, Row
    from benchmarks._server import Network

FIXED_GAPS = {"0": 0, "4k": 4096, "16k": 16_384, "64k": 65_536, "1M": 2**20, "100M": 100_000_000}
MAX_RATIO = 1.35


def run(bench: Bench) -> Group:
    """Crop a large frame over three networks."""
    rows: list[Row] = []
    table: list[Sequence[str]] = []
    for network in (LAN_NETWORK, CLOUD_NETWORK, WAN_NETWORK):
        row, line = _crop(bench, network)
        rows.append(row)
        table.append(line)
    return Group(
        "gaps",
        "Gaps",
        f"A crop of {CROP_EDGE_PIXELS}² pixels from a frame of {bench.files.huge_side}², whose rows are "
        f"{2 * bench.files.huge_side} bytes apart, over HTTP. The automatic choice of `max_gap`, "
        "made after opening the file and learning from each read, beside the best of the fixed ones; "
        "below, the seconds of each, and which fixed ones ask for the same ranges as the automatic "
        "choice.",
        rows,
        [(("network", "automatic", *FIXED_GAPS, "requests", "bytes", "the same"), table)],
    )


def _crop(bench: Bench, network: Network) -> tuple[Row, Sequence[str]]:
    server = bench.server(network)
    url = server.url(bench.files.huge)
    images = {
        name: open_ours(url, max_gap=gap).image
        for name, gap in ({"automatic": None} | FIXED_GAPS).items()
    }
    contenders = {
        name: Contender(lambda _, image=image: image.isel(CROP_WINDOW).values)  # type: ignore[misc]
        for name, image in images.items()
    }
    # What takes milliseconds is repeated more often.
    repetitions = bench.repetitions if bench.quick or network is not LAN_NETWORK else 15
    times = in_turns(contenders, repetitions)
    best = min(FIXED_GAPS, key=lambda name: times[name].median)
    traffics = {
        name: traffic_of(server, lambda image=image: image.isel(CROP_WINDOW).values)  # type: ignore[misc]
        for name, image in images.items()
    }
    traffic = traffics["automatic"]
    same = [name for name in FIXED_GAPS if set(traffics[name].ranges) == set(traffic.ranges)]
    seconds = [f"{times[name].median:.3g}" for name in images]
    counts = str(traffic.requests), f"{traffic.nbytes:,}", ", ".join(same)
    line = (str(network), *seconds, *counts)
    what = f"{network}, best {best}"
    labelled = times | {"best fixed": times[best]}
    return slower_row(what, labelled, "automatic", "best fixed", MAX_RATIO), line
