"""Memory at its highest while reading a file over HTTP."""

from __future__ import annotations

import os
import re
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks._bench import Floor, Group, Row
from benchmarks._clients import open_nd2, open_ours
from benchmarks._files import FRAME_SIZE
from benchmarks._server import LOOPBACK
from benchmarks._worker import worker

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks._bench import Bench

_TIMES_SIZE = 1.3
_MORE = 100e6
_STATUS = Path("/proc/self/status")


def run(bench: Bench) -> Group:
    """Read a whole file in new processes."""
    url = bench.server(LOOPBACK).url(bench.files.frames)
    size = bench.files.frame_count * FRAME_SIZE
    peaks = {}
    for way in ("lazy", "dask", "nd2") if bench.quick else ("lazy", "dask", "nd2", "nd2, dask"):
        with worker(_reader, url, way) as read:
            peaks[way] = read()
    floor = Floor(_TIMES_SIZE * size + _MORE)
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


def _reader(url: str, way: str) -> Callable[[], int]:
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
        before = peak_memory()
        pixels = read_all()
        after = peak_memory()
        assert pixels.nbytes > 0
        return after - before

    return read


def peak_memory() -> int:
    """Highest resident memory of this process so far, in bytes.

    On Linux ``getrusage`` counts what the parent process had when it started this one, so the
    number of the memory map is taken where there is one.
    """
    if _STATUS.exists():
        found = re.search(r"VmHWM:\s+(\d+) kB", _STATUS.read_text())
        if found:
            return int(found[1]) * 1024
    if os.name == "nt":
        import psutil

        return int(psutil.Process().memory_info().peak_wset)
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak) * (1 if sys.platform == "darwin" else 1024)
