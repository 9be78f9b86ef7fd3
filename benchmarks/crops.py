"""Crops of one frame: bytes and time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks._bench import Floor, Group, Row, faster, slower, traffic_of
from benchmarks._clients import fetch_bare, open_nd2, open_ours, open_zarr
from benchmarks._files import CHANNELS, SIDE
from benchmarks._measure import Contender, in_turns
from benchmarks._server import CLOUD, LATENCY

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks._bench import Bench
    from benchmarks._server import Server

EDGE = 256
ROWS, COLUMNS = slice(100, 100 + EDGE), slice(300, 300 + EDGE)
_ROOM = 1.025  # of the bytes of whole rows


def run(bench: Bench) -> Group:
    """Crop a frame of two channels, and a large one."""
    server = bench.server(LATENCY)
    files = bench.files
    small = {"T": files.middle, "Y": ROWS, "X": COLUMNS}
    large = {"Y": ROWS, "X": COLUMNS}
    tiles = {"Zarr, tiles of 256²": server.url(files.frames_tiles)}
    planes = {"Zarr, a chunk a plane": server.url(files.frames_planes)}
    large_tiles = {"Zarr, tiles of 256²": server.url(files.huge_tiles)}
    what, of_large = f"{EDGE}² of {SIDE}², two channels", f"{EDGE}² of {files.huge_side}²"
    return Group(
        "crops",
        "Crops",
        f"A crop of {EDGE}² pixels from one frame, over HTTP with {LATENCY.latency * 1e3:.0f} ms of "
        "latency and no limit of bandwidth. nd2 reads the frame with `read_frame` and crops it, "
        "which is its fastest way, and has read its metadata before. *Lazy* is xarray-nd2 without "
        "dask, *dask* is with `chunks={}`, *label* selects a channel by its name before cropping. "
        "Files are open already. The last rows are of a network with less bandwidth.",
        [
            *_count(server, files.frames, small, what, 4 * SIDE),
            *_time(bench, server, files.frames, small, what, tiles | planes),
            *_count(server, files.huge, large, of_large, 2 * files.huge_side),
            *_time(bench, server, files.huge, large, of_large, large_tiles),
            *_time_in_cloud(bench, files.frames, small, what),
            *_time_in_cloud(bench, files.huge, large, of_large),
        ],
    )


def _count(
    server: Server, path: Path, crop: dict[str, Any], what: str, row_bytes: int
) -> list[Row]:
    url = server.url(path)
    read_by_nd2 = traffic_of(server, lambda: None)
    with open_nd2(url) as file:
        read_by_nd2 = traffic_of(server, lambda: crop_by_nd2(file, crop))
    needed = EDGE * EDGE * row_bytes // (SIDE if "T" in crop else row_bytes // 2)
    rows = []
    for gap, most in ((None, EDGE * row_bytes * _ROOM), (0, needed)):
        way = "automatic" if gap is None else f"max_gap={gap}"
        for name, chunks in (("lazy", None), ("dask", {})):
            image = open_ours(url, max_gap=gap, chunks=chunks).image
            traffic = traffic_of(server, lambda: image.isel(crop).values)  # noqa: B023  (called here)
            case = f"{what}, {name}, {way}"
            rows.append(
                Row(case, "B", traffic.nbytes, "nd2", read_by_nd2.nbytes, None, Floor(most))
            )
    if "T" in crop:
        for name, chunks in (("lazy", None), ("dask", {})):
            image = open_ours(url, max_gap=0, chunks=chunks).image
            traffic = traffic_of(server, lambda: crop_by_label(image, crop))  # noqa: B023
            case = f"{what}, {name}, label, max_gap=0"
            rows.append(
                Row(case, "B", traffic.nbytes, "nd2", read_by_nd2.nbytes, None, Floor(needed))
            )
    return rows


def _time(
    bench: Bench,
    server: Server,
    path: Path,
    crop: dict[str, Any],
    what: str,
    copies: dict[str, str],
) -> list[Row]:
    url = server.url(path)
    image = open_ours(url).image
    ranges = traffic_of(server, lambda: image.isel(crop).values).ranges
    contenders = {
        "lazy": Contender(lambda image: image.isel(crop).values, lambda: open_ours(url).image),
        "dask": Contender(
            lambda image: image.isel(crop).values, lambda: open_ours(url, chunks={}).image
        ),
        # A new file each time, since it keeps what it read last.
        "nd2": Contender(lambda file: crop_by_nd2(file, crop), lambda: open_nd2(url)),
        "fsspec, same ranges": Contender(lambda _: fetch_bare(url, ranges)),
    }
    for name, copy in copies.items():
        contenders[name] = Contender(
            lambda image: image.isel(crop).values,
            lambda copy=copy: open_zarr(copy).image,  # type: ignore[misc]
        )
    times = in_turns(contenders, bench.repetitions)
    rows = [
        faster(f"{what}, lazy", times, "lazy", "nd2"),
        faster(f"{what}, dask", times, "dask", "nd2"),
        *(faster(f"{what}, lazy", times, "lazy", name) for name in copies),
        slower(f"{what}, lazy", times, "lazy", "fsspec, same ranges"),
    ]
    if "T" in crop:
        by_label = {
            "lazy": Contender(
                lambda image: crop_by_label(image, crop), lambda: open_ours(url).image
            ),
            "dask": Contender(
                lambda image: crop_by_label(image, crop), lambda: open_ours(url, chunks={}).image
            ),
            "nd2": Contender(
                lambda file: np.ascontiguousarray(crop_by_nd2(file, crop)[-1]),
                lambda: open_nd2(url),
            ),
        }
        times = in_turns(by_label, bench.repetitions)
        rows.append(faster(f"{what}, lazy, label", times, "lazy", "nd2"))
        rows.append(faster(f"{what}, dask, label", times, "dask", "nd2"))
    return rows


def _time_in_cloud(bench: Bench, path: Path, crop: dict[str, Any], what: str) -> list[Row]:
    """The same where bytes take time as well."""
    url = bench.server(CLOUD).url(path)
    times = in_turns(
        {
            "lazy": Contender(lambda image: image.isel(crop).values, lambda: open_ours(url).image),
            "dask": Contender(
                lambda image: image.isel(crop).values, lambda: open_ours(url, chunks={}).image
            ),
            "nd2": Contender(lambda file: crop_by_nd2(file, crop), lambda: open_nd2(url)),
        },
        bench.repetitions,
    )
    headline = f"Crop {what}, {CLOUD.delays}"
    return [
        faster(f"{what}, lazy, {CLOUD}", times, "lazy", "nd2", headline=headline),
        faster(f"{what}, dask, {CLOUD}", times, "dask", "nd2"),
    ]


def crop_by_nd2(file: Any, crop: dict[str, Any]) -> Any:
    """Read a frame with nd2 and copy a crop of it."""
    return file.read_frame(crop.get("T", 0))[..., crop["Y"], crop["X"]].copy()


def crop_by_label(image: Any, crop: dict[str, Any]) -> Any:
    """Select a channel, then crop."""
    return image.sel(C=CHANNELS[-1]).isel(crop).values
