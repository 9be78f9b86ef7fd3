"""What a request costs the client: on S3, beside the same request over plain HTTP."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks._bench import Floor, Group, Row, faster_row, traffic_of
from benchmarks._clients import open_ours
from benchmarks._files import FRAME_BYTES
from benchmarks._measure import Contender, in_turns
from benchmarks._server import LOOPBACK_NETWORK

if TYPE_CHECKING:
    from benchmarks._bench import Bench

_BUCKET = "bucket"
_NARROW_CROP = {"X": slice(100, 132)}  # of each row of a frame
_REPETITIONS_PER_BENCH = 3  # so many more than elsewhere, since each is short


def run(bench: Bench) -> Group:
    """Read a file by its URL, and as an object of the very same server."""
    folder = bench.files.folder / _BUCKET
    folder.mkdir()
    (folder / "run.nd2").hardlink_to(bench.files.frames)
    server = bench.server(LOOPBACK_NETWORK)
    endpoint = server.url(Path("/"))
    options = {"key": "key", "secret": "secret", "endpoint_url": endpoint}
    # Which only the client of S3 can honour.
    of_client: dict[str, Any] = options | {"config_kwargs": {"user_agent_extra": "benchmark"}}
    s3 = f"s3://{_BUCKET}/run.nd2"
    images = {
        "S3": open_ours(s3, storage_options=options, max_gap=0).image,
        "HTTP": open_ours(f"{endpoint}{_BUCKET}/run.nd2", max_gap=0).image,
        "S3, by s3fs": open_ours(s3, storage_options=of_client, max_gap=0).image,
    }
    count = min(50, bench.files.frame_count)
    narrow: dict[str, Any] = {"T": bench.files.middle, **_NARROW_CROP}
    frames: dict[str, Any] = {"T": slice(count)}
    small, large = (
        traffic_of(server, partial(_read, part, images["S3"])).requests for part in (narrow, frames)
    )
    rows = []
    for part, what, floor in (
        (narrow, f"{small:,} requests of 128 bytes", Floor(2.0, aim=1.3)),
        (frames, f"{count * FRAME_BYTES / 1e6:.0f} MB of frames", Floor(1.4)),
    ):
        times = in_turns(
            {name: _contender(part, image) for name, image in images.items()},
            _REPETITIONS_PER_BENCH * bench.repetitions,
            clock=time.process_time,
        )
        ours, http = times["S3"], times["HTTP"]
        rows += [
            Row(what, "s", ours.median, "HTTP", http.median, ours.per(http), floor),
            faster_row(what, times, "S3", "S3, by s3fs"),
        ]
    return Group(
        "stores",
        "S3 beside HTTP",
        "Seconds of the processor in the client, decoding included, for a file that is read from one "
        "server as an object of S3, by its URL over HTTP, and as an object by s3fs, whose client "
        "builds and signs every request. The first rows read 32 pixels of each row of a frame, each "
        f"by its own request; the others whole frames, in {large} requests.",
        rows,
    )


def _read(part: dict[str, Any], image: Any) -> Any:
    return image.isel(part).values


def _contender(part: dict[str, Any], image: Any) -> Contender:
    return Contender(lambda _: _read(part, image))
