"""A few rows of a losslessly compressed frame."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks._bench import Floor, Group, Row, constant_ratio, faster_row, traffic_of
from benchmarks._clients import open_nd2, open_ours, our_contenders
from benchmarks._files import FRAME_SIDE_PIXELS
from benchmarks._measure import Contender, in_turns
from benchmarks._server import LATENCY_ONLY_NETWORK

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks._bench import Bench
    from benchmarks._measure import Times

_TOP_ROWS = slice(10, 110)


def run(bench: Bench) -> Group:
    """Read rows near the top and near the bottom of a frame."""
    server = bench.server(LATENCY_ONLY_NETWORK)
    file = bench.files.lossless

    def new_url() -> str:
        return server.url(bench.files.renamed(file))

    image = open_ours(new_url()).image
    stored = traffic_of(server, lambda: image.isel(T=1).values).nbytes
    rows: list[Row] = []
    for part, floor in (
        (_TOP_ROWS, Floor(0.4, aim=0.2)),
        (slice(FRAME_SIDE_PIXELS - _TOP_ROWS.stop, FRAME_SIDE_PIXELS - _TOP_ROWS.start), None),
    ):
        image = open_ours(new_url()).image
        nbytes = traffic_of(server, lambda: image.isel(T=1, Y=part).values).nbytes  # noqa: B023
        what = f"rows {part.start} to {part.stop} of {FRAME_SIDE_PIXELS}"
        rows.append(
            Row(
                what,
                "B",
                nbytes,
                "the frame as stored",
                stored,
                constant_ratio(nbytes / stored),
                floor,
            )
        )
    for what, crop in (
        (
            f"rows {_TOP_ROWS.start} to {_TOP_ROWS.stop} of {FRAME_SIDE_PIXELS}",
            {"T": 1, "Y": _TOP_ROWS},
        ),
        ("8 frames", {"T": slice(8)}),
    ):
        times = _time_reading(new_url, crop, bench.repetitions)
        rows.append(faster_row(f"{what}, lazy", times, "lazy", "nd2"))
        rows.append(faster_row(f"{what}, dask", times, "dask", "nd2"))
    return Group(
        "lossless",
        "Lossless compression",
        f"Frames of {FRAME_SIDE_PIXELS}² pixels with the noise of a camera, each one zlib stream, over "
        f"HTTP with {LATENCY_ONLY_NETWORK.delays} of latency and no limit of bandwidth. Each time the file has "
        "another name, so that nothing of it is known yet.",
        rows,
    )


def _time_reading(
    new_url: Callable[[], str], crop: dict[str, Any], repetitions: int
) -> dict[str, Times]:
    return in_turns(
        {
            **our_contenders(lambda image: image.isel(crop).values, new_url),
            "nd2": Contender(lambda file: _read_by_nd2(file, crop), lambda: open_nd2(new_url())),
        },
        repetitions,
    )


def _read_by_nd2(file: Any, crop: dict[str, Any]) -> Any:
    if "Y" in crop:
        return file.read_frame(crop["T"])[None, crop["Y"]].copy()
    return np.stack([file.read_frame(t)[None] for t in range(crop["T"].stop)])
