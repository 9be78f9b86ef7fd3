"""Many whole frames: throughput."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks._bench import Group, faster_row, slower_row, traffic_of
from benchmarks._clients import fetch_bare, open_nd2, open_ours, open_zarr, our_contenders
from benchmarks._files import FRAME_BYTES
from benchmarks._measure import Contender, in_turns
from benchmarks._server import LATENCY_ONLY_NETWORK

if TYPE_CHECKING:
    from benchmarks._bench import Bench


def run(bench: Bench) -> Group:
    """Read about 200 MB of whole frames."""
    server = bench.server(LATENCY_ONLY_NETWORK)
    url = server.url(bench.files.frames)
    copy = server.url(bench.files.frames_planes)
    count = min(50, bench.files.frame_count)
    part = slice(0, count)
    image = open_ours(url).image
    ranges = traffic_of(server, lambda: image.isel(T=part).values).ranges
    times = in_turns(
        {
            **our_contenders(lambda image: image.isel(T=part).values, lambda: url),
            "fsspec, same ranges": Contender(lambda _: fetch_bare(url, ranges)),
            "nd2, dask": Contender(
                lambda file: file.to_xarray().isel(T=part).data.compute(scheduler="threads"),
                lambda: open_nd2(url),
            ),
            "Zarr, a chunk a plane": Contender(
                lambda image: image.isel(T=part).values, lambda: open_zarr(copy).image
            ),
        },
        min(3, bench.repetitions),
    )
    size = f"{count * FRAME_BYTES / 1e6:.0f} MB of frames"
    headline = f"Read {size}, {LATENCY_ONLY_NETWORK.delays}"
    bare, zarr = "fsspec, same ranges", "Zarr, a chunk a plane"
    return Group(
        "frames",
        "Whole frames",
        f"{count} frames of two channels, over HTTP with {LATENCY_ONLY_NETWORK.delays} of latency "
        f"and no limit of bandwidth. The bare transport fetches the {len(ranges)} ranges that "
        "xarray-nd2 asks for with as many requests in flight, and does nothing with them; "
        "xarray-nd2 also separates the channels, which the file interleaves.",
        [
            slower_row(f"{size}, lazy", times, "lazy", bare, 1.3),
            slower_row(f"{size}, dask", times, "dask", bare, 1.8),
            faster_row(f"{size}, lazy", times, "lazy", "nd2, dask", 4.0, headline=headline),
            faster_row(
                f"{size}, dask", times, "dask", "nd2, dask", 3.0, headline=f"{headline}, dask"
            ),
            faster_row(f"{size}, lazy", times, "lazy", zarr),
        ],
    )
