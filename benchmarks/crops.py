"""Crops of one frame: bytes and time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks._bench import Floor, Group, Row, faster_row, slower_row, traffic_of
from benchmarks._clients import fetch_bare, open_nd2, open_ours, open_zarr, our_contenders
from benchmarks._files import CHANNEL_NAMES, FRAME_SIDE_PIXELS
from benchmarks._measure import Contender, in_turns
from benchmarks._server import CLOUD_NETWORK, LATENCY_ONLY_NETWORK

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks._bench import Bench
    from benchmarks._server import Server

CROP_EDGE_PIXELS = 256
CROP_ROWS, CROP_COLUMNS = slice(100, 100 + CROP_EDGE_PIXELS), slice(300, 300 + CROP_EDGE_PIXELS)
CROP_WINDOW = {"Y": CROP_ROWS, "X": CROP_COLUMNS}
_MAX_SHARE_OF_ROWS = 1.025  # of the bytes of whole rows


def run(bench: Bench) -> Group:
    """Crop a frame of two channels, and a large one."""
    server = bench.server(LATENCY_ONLY_NETWORK)
    files = bench.files
    small = {"T": files.middle, **CROP_WINDOW}
    large = CROP_WINDOW
    tiles = {"Zarr, tiles of 256²": server.url(files.frames_tiles)}
    planes = {"Zarr, a chunk a plane": server.url(files.frames_planes)}
    large_tiles = {"Zarr, tiles of 256²": server.url(files.huge_tiles)}
    what = f"{CROP_EDGE_PIXELS}² of {FRAME_SIDE_PIXELS}², two channels"
    of_large = f"{CROP_EDGE_PIXELS}² of {files.huge_side}²"
    return Group(
        "crops",
        "Crops",
        f"A crop of {CROP_EDGE_PIXELS}² pixels from one frame, over HTTP with "
        f"{LATENCY_ONLY_NETWORK.delays} of latency and no limit of bandwidth. nd2 reads "
        "the frame with `read_frame` and crops it, "
        "which is its fastest way, and has read its metadata before. *Lazy* is xarray-nd2 without "
        "dask, *dask* is with `chunks={}`, *label* selects a channel by its name before cropping. "
        "Files are open already. The last rows are of a network with less bandwidth.",
        [
            *_count_bytes(server, files.frames, small, what, 4 * FRAME_SIDE_PIXELS),
            *_time_crops(bench, server, files.frames, small, what, tiles | planes),
            *_count_bytes(server, files.huge, large, of_large, 2 * files.huge_side),
            *_time_crops(bench, server, files.huge, large, of_large, large_tiles),
            *_time_in_cloud(bench, files.frames, small, what),
            *_time_in_cloud(bench, files.huge, large, of_large),
        ],
    )


def _count_bytes(
    server: Server, path: Path, crop: dict[str, Any], what: str, row_bytes: int
) -> list[Row]:
    url = server.url(path)
    read_by_nd2 = traffic_of(server, lambda: None)
    with open_nd2(url) as file:
        read_by_nd2 = traffic_of(server, lambda: crop_by_nd2(file, crop))
    needed = (
        CROP_EDGE_PIXELS
        * CROP_EDGE_PIXELS
        * row_bytes
        // (FRAME_SIDE_PIXELS if "T" in crop else row_bytes // 2)
    )
    rows = []
    for gap, most in ((None, CROP_EDGE_PIXELS * row_bytes * _MAX_SHARE_OF_ROWS), (0, needed)):
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


def _time_crops(
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
        **our_contenders(lambda image: image.isel(crop).values, lambda: url),
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
        faster_row(f"{what}, lazy", times, "lazy", "nd2"),
        faster_row(f"{what}, dask", times, "dask", "nd2"),
        *(faster_row(f"{what}, lazy", times, "lazy", name) for name in copies),
        slower_row(f"{what}, lazy", times, "lazy", "fsspec, same ranges"),
    ]
    if "T" in crop:
        by_label = {
            **our_contenders(lambda image: crop_by_label(image, crop), lambda: url),
            "nd2": Contender(
                lambda file: np.ascontiguousarray(crop_by_nd2(file, crop)[-1]),
                lambda: open_nd2(url),
            ),
        }
        times = in_turns(by_label, bench.repetitions)
        rows.append(faster_row(f"{what}, lazy, label", times, "lazy", "nd2"))
        rows.append(faster_row(f"{what}, dask, label", times, "dask", "nd2"))
    return rows


def _time_in_cloud(bench: Bench, path: Path, crop: dict[str, Any], what: str) -> list[Row]:
    """The same where bytes take time as well."""
    url = bench.server(CLOUD_NETWORK).url(path)
    times = in_turns(
        {
            **our_contenders(lambda image: image.isel(crop).values, lambda: url),
            "nd2": Contender(lambda file: crop_by_nd2(file, crop), lambda: open_nd2(url)),
        },
        bench.repetitions,
    )
    headline = f"Crop {what}, {CLOUD_NETWORK.delays}"
    return [
        faster_row(f"{what}, lazy, {CLOUD_NETWORK}", times, "lazy", "nd2", headline=headline),
        faster_row(f"{what}, dask, {CLOUD_NETWORK}", times, "dask", "nd2"),
    ]


def crop_by_nd2(file: Any, crop: dict[str, Any]) -> Any:
    """Read a frame with nd2 and copy a crop of it, along C too where there is one channel."""
    frame = file.read_frame(crop.get("T", 0))
    return frame.reshape(-1, *frame.shape[-2:])[:, crop["Y"], crop["X"]].copy()


def crop_by_label(image: Any, crop: dict[str, Any]) -> Any:
    """Select a channel, then crop."""
    return image.sel(C=CHANNEL_NAMES[-1]).isel(crop).values
