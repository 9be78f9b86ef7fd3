"""A few rows of a losslessly compressed frame."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks._bench import Floor, Group, Row, exactly, faster, traffic_of
from benchmarks._clients import open_nd2, open_ours
from benchmarks._files import SIDE
from benchmarks._measure import Contender, in_turns
from benchmarks._server import LATENCY

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks._bench import Bench
    from benchmarks._measure import Times

_ROWS = slice(10, 110)


def run(bench: Bench) -> Group:
    """Read rows near the top and near the bottom of a frame."""
    server = bench.server(LATENCY)
    file = bench.files.lossless

    def new_url() -> str:
        return server.url(bench.files.renamed(file))

    image = open_ours(new_url()).image
    stored = traffic_of(server, lambda: image.isel(T=1).values).nbytes
    rows: list[Row] = []
    for part, floor in (
        (_ROWS, Floor(0.4, aim=0.2)),
        (slice(SIDE - _ROWS.stop, SIDE - _ROWS.start), None),
    ):
        image = open_ours(new_url()).image
        nbytes = traffic_of(server, lambda: image.isel(T=1, Y=part).values).nbytes  # noqa: B023
        what = f"rows {part.start} to {part.stop} of {SIDE}"
        rows.append(
            Row(what, "B", nbytes, "the frame as stored", stored, exactly(nbytes / stored), floor)
        )
    for what, crop in (
        (f"rows {_ROWS.start} to {_ROWS.stop} of {SIDE}", {"T": 1, "Y": _ROWS}),
        ("8 frames", {"T": slice(8)}),
    ):
        times = _time(new_url, crop, bench.repetitions)
        rows.append(faster(f"{what}, lazy", times, "lazy", "nd2"))
        rows.append(faster(f"{what}, dask", times, "dask", "nd2"))
    return Group(
        "lossless",
        "Lossless compression",
        f"Frames of {SIDE}² pixels with the noise of a camera, each one zlib stream, over HTTP with "
        f"{LATENCY.latency * 1e3:.0f} ms of latency and no limit of bandwidth. Each time the file has "
        "another name, so that nothing of it is known yet.",
        rows,
    )


def _time(new_url: Callable[[], str], crop: dict[str, Any], repetitions: int) -> dict[str, Times]:
    return in_turns(
        {
            "lazy": Contender(
                lambda image: image.isel(crop).values, lambda: open_ours(new_url()).image
            ),
            "dask": Contender(
                lambda image: image.isel(crop).values,
                lambda: open_ours(new_url(), chunks={}).image,
            ),
            "nd2": Contender(lambda file: _read_by_nd2(file, crop), lambda: open_nd2(new_url())),
        },
        repetitions,
    )


def _read_by_nd2(file: Any, crop: dict[str, Any]) -> Any:
    if "Y" in crop:
        return file.read_frame(crop["T"])[crop["Y"]].copy()
    return np.stack([file.read_frame(t) for t in range(crop["T"].stop)])
