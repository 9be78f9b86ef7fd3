"""Opening files: round trips, requests, bytes and time."""

from __future__ import annotations

import io
import struct
from typing import TYPE_CHECKING, Any

import nd2
import numpy as np
from nd2._parse._chunk_decode import get_chunkmap

from benchmarks._bench import Floor, Group, Row, faster_row, traffic_of
from benchmarks._clients import open_ours, open_zarr
from benchmarks._measure import Contender, in_turns
from benchmarks._server import FAR_NETWORK
from xarray_nd2.format import chunk_map, container

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks._bench import Bench
    from benchmarks._server import Server

_MIN_RATIO = 3.0
_MAX_MAP_SECONDS = 2.0


def run(bench: Bench) -> Group:
    """Open three files over a slow network, and parse a long chunk map."""
    server = bench.server(FAR_NETWORK)
    files = bench.files
    size = f"{bench.files.frames.stat().st_size / 1e6:.0f} MB"
    rows = [
        *_measure_opening(
            bench, server, files.frames, f"{size} of {files.frame_count} frames", 1e6
        ),
        *_measure_opening(bench, server, files.huge, f"one frame of {files.huge_side}²", 1e6),
        *_measure_opening(
            bench, server, files.small, f"{files.small_count:,} frames of 16²", 2.5e6
        ),
        _time_opening_zarr(bench, server),
        _time_map_parsing(bench),
    ]
    return Group(
        "opening",
        "Opening",
        f"Over HTTP with {FAR_NETWORK.delays} of latency and no limit of bandwidth. nd2 opens "
        "the file and makes its `to_xarray()`; xarray-nd2 opens it with `chunks={}`. The Zarr copy "
        "has consolidated metadata and a chunk for each plane, and is opened without dask.",
        rows,
    )


def _measure_opening(
    bench: Bench, server: Server, path: Path, what: str, most_bytes: float
) -> list[Row]:
    url = server.url(path)

    def open_with_nd2() -> None:
        with nd2.ND2File(url) as file:
            file.to_xarray()

    def open_with_ours() -> None:
        open_ours(url, chunks={})

    # Not the first: connecting is not what is measured.
    open_with_ours()
    ours = traffic_of(server, open_with_ours)
    theirs = traffic_of(server, open_with_nd2)
    times = in_turns(
        {
            "xarray-nd2": Contender(lambda _: open_with_ours()),
            "nd2": Contender(lambda _: open_with_nd2()),
        },
        bench.repetitions,
    )
    trips = (ours.round_trips, "nd2", theirs.round_trips)
    requests = (ours.requests, "nd2", theirs.requests)
    headline = f"Open {what}, {FAR_NETWORK.delays}"
    return [
        Row(what, "round trips", *trips, floor=Floor(4)),
        Row(what, "requests", *requests, floor=Floor(8)),
        Row(what, "B", ours.nbytes, "nd2", theirs.nbytes, floor=Floor(most_bytes)),
        faster_row(what, times, "xarray-nd2", "nd2", _MIN_RATIO, headline=headline),
    ]


def _time_opening_zarr(bench: Bench, server: Server) -> Row:
    url, copy = server.url(bench.files.frames), server.url(bench.files.frames_planes)
    times = in_turns(
        {
            "xarray-nd2": Contender(lambda _: open_ours(url, chunks={}) and None),
            "Zarr": Contender(lambda _: open_zarr(copy) and None),
        },
        bench.repetitions,
    )
    return faster_row(f"{bench.files.frame_count} frames", times, "xarray-nd2", "Zarr")


def _time_map_parsing(bench: Bench) -> Row:
    count = 50_000 if bench.quick else 1_000_000
    data = chunk_map_data(count)
    header = container.CHUNK_HEADER.pack(container.CHUNK_MAGIC, len(container.MAP_NAME), len(data))
    whole = io.BytesIO(header + container.MAP_NAME + data)

    def parse_with_ours(_: Any) -> None:
        assert len(chunk_map.parse_chunk_map(data, 0).frame_index) == count

    def parse_with_nd2(_: Any) -> None:
        assert len(get_chunkmap(whole)) == count

    times = in_turns(
        {"xarray-nd2": Contender(parse_with_ours), "nd2": Contender(parse_with_nd2)},
        2,
        warm=False,
    )
    what = f"parse a chunk map of {count:,} entries"
    ours, theirs = times["xarray-nd2"], times["nd2"]
    seconds = Floor(_MAX_MAP_SECONDS)
    return Row(what, "s", ours.median, "nd2", theirs.median, floor=seconds)


def chunk_map_data(count: int) -> bytes:
    """Data of a chunk map of so many frames, in the order in which microscopes write it."""
    names = sorted((b"ImageDataSeq|%d!" % i for i in range(count)), reverse=True)
    offsets = (np.arange(count) * 8192 + 4096).tolist()
    entries = [name + struct.pack("<QQ", offsets[int(name[13:-1])], 520) for name in names]
    return b"".join([*entries, container.FILE_FOOTER.pack(container.MAP_SIGNATURE, 0)])
