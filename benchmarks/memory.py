"""Memory at its highest while reading a file over HTTP."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

from benchmarks._bench import Floor, Group, Row
from benchmarks._clients import open_nd2, open_ours
from benchmarks._files import FRAME_BYTES
from benchmarks._peak_memory import peak_memory_bytes
from benchmarks._server import LOOPBACK_NETWORK
from benchmarks._worker import worker_process

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks._bench import Bench

_MAX_PEAK_PER_FILE = 1.3
_MAX_PEAK_MORE_BYTES = 100e6


def run(bench: Bench) -> Group:
    """Read a whole file in new processes."""
    url = bench.server(LOOPBACK_NETWORK).url(bench.files.frames)
    size = bench.files.frame_count * FRAME_BYTES
    peaks = {}
    for way in ("lazy", "dask", "nd2") if bench.quick else ("lazy", "dask", "nd2", "nd2, dask"):
        with worker_process(_start_reader, url, way) as read:
            peaks[way] = read()
    floor = Floor(_MAX_PEAK_PER_FILE * size + _MAX_PEAK_MORE_BYTES)
    what, other = f"{size / 1e6:.0f} MB", "nd2" if bench.quick else "nd2, dask"
    return Group(
        "memory",
        "Memory",
        "The highest resident memory while all pixels are read over HTTP without latency, above "
        "what the process had after opening and reading a little; each in a new process.",
        [
            Row(f"{what}, lazy", "B", peaks["lazy"], "nd2", peaks["nd2"], None, floor),
            Row(f"{what}, dask", "B", peaks["dask"], other, peaks[other], None, floor),
        ],
    )


def _start_reader(url: str, way: str) -> Callable[[], int]:
    """Open a file one way; what it returns reads all and gives the bytes by which memory peaked."""
    warnings.simplefilter("ignore")
    file = open_nd2(url) if way.startswith("nd2") else None
    image = open_ours(url, chunks={} if way == "dask" else None).image if file is None else None

    def read_all() -> Any:
        if image is not None:
            return image.values
        assert file is not None
        return file.to_xarray().values if way.endswith("dask") else file.asarray()

    if image is not None:
        image.isel(T=0, Y=slice(0, 8)).values  # noqa: B018
    elif file is not None:
        file.read_frame(0)

    def read() -> int:
        before = peak_memory_bytes()
        pixels = read_all()
        after = peak_memory_bytes()
        assert pixels.nbytes > 0
        return after - before

    return read
