"""Thousands of random selections from an unreliable store: exact pixels, and nothing piles up.

It takes about half a minute; ``ND2_SOAK_SECONDS`` makes it longer.
"""

from __future__ import annotations

import errno
import gc
import io
import os
import threading
import time
import warnings
from collections import Counter
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil
import pytest
import xarray as xr

from tests.variants import VARIANTS
from xarray_nd2 import ND2SourceError
from xarray_nd2.io import retry
from xarray_nd2.testing import Fault, write_nd2

if TYPE_CHECKING:
    from tests.servers.fuse import FuseShare
    from xarray_nd2.testing import RangeServer, S3Server

SECONDS = float(os.environ.get("ND2_SOAK_SECONDS", "30"))
THREADS, PROCESSES = 4, 2
FILES = ["time-stack-channels", "positions-time-stack", "rgb", "lossless", "missing-frames", "xml"]
IN_S3 = {"positions-time-stack", "lossless"}
ON_SHARE = {"rgb", "missing-frames"}  # where one can be mounted
PASSING = [500, 503, 429, 408, "reset", "short", "truncate", "early_end"]
LASTING = [400, 403, 404, 416, "ignore_range", "gzip"]
SLOW = ["stall", "informational", "trickle", "trickle_body"]
PATIENCE_SECONDS = 6.0


def random_faults(seed: int) -> Any:
    """One answer in six is wrong in a way that passes, one in 5000 in one that lasts or stalls."""
    rng = np.random.default_rng(seed)
    lock = threading.Lock()

    def fault(*_: Any) -> Fault | None:
        with lock:
            drawn, which = rng.random(), int(rng.integers(0, 1000))
        if drawn < 1 / 6:
            return Fault(PASSING[which % len(PASSING)])  # type: ignore[arg-type]
        if drawn > 1 - 1 / 5000:
            kinds = [*LASTING, *SLOW]
            return Fault(kinds[which % len(kinds)])  # type: ignore[arg-type]
        return None

    return fault


def random_indexers(rng: np.random.Generator, sizes: dict[str, int]) -> dict[str, Any]:
    """Keys for some of the dimensions: a position, a slice or a list each, or points of several."""
    dims = [dim for dim in sizes if rng.random() < 0.7]
    if rng.random() < 0.4:
        shape = tuple(rng.integers(1, 5, rng.integers(1, 3)))
        names = ["points", "more"][: len(shape)]
        return {
            dim: xr.DataArray(rng.integers(-sizes[dim], sizes[dim], shape), dims=names)
            for dim in dims
        }
    indexers: dict[str, Any] = {}
    for dim in dims:
        size, way = sizes[dim], rng.random()
        if way < 0.3:
            indexers[dim] = int(rng.integers(-size, size))
        elif way < 0.8:
            start, stop = (int(i) for i in rng.integers(-size, size + 1, 2))
            step = int(rng.choice([1, 1, 2, 3, -1, -2]))
            indexers[dim] = slice(start, stop, step)
        else:
            indexers[dim] = rng.integers(-size, size, rng.integers(0, 7))
    return indexers


@dataclass
class Usage:
    """What the process at hand holds."""

    memory: int
    handles: int
    threads: int

    @classmethod
    def now(cls) -> Usage:
        gc.collect()
        process = psutil.Process()
        handles = process.num_fds() if hasattr(process, "num_fds") else 0
        return cls(process.memory_info().rss, handles, process.num_threads())

    def assert_not_above(self, before: Usage) -> None:
        # Pools of connections and threads may still fill; what leaks does so with every selection.
        assert self.memory < before.memory + 200 * 2**20
        assert self.handles < before.handles + 300
        assert self.threads < before.threads + 40


class Reader:
    """Reads random selections of all files and compares them with NumPy's."""

    def __init__(self, urls: dict[str, str], of_s3: dict[str, Any]) -> None:
        self.urls, self.of_s3 = urls, of_s3
        self.expected = {
            name: xr.DataArray(VARIANTS[name].expected(), dims=VARIANTS[name].delivered_dims)
            for name in urls
        }
        self.opened: dict[tuple[str, int | None], xr.DataArray] = {}

    def image(self, rng: np.random.Generator, name: str) -> xr.DataArray:
        """One that is open already, or once in a while opened again."""
        key = name, [None, 0, 1000][int(rng.integers(0, 3))]
        if key not in self.opened or rng.random() < 0.03:
            chunks = {"T": 1} if rng.random() < 0.1 else None
            self.opened[key] = xr.open_dataset(
                self.urls[name],
                engine="nd2",
                storage_options=self.of_s3 if self.urls[name].startswith("s3") else None,
                patience_seconds=PATIENCE_SECONDS,
                max_gap=key[1],
                chunks=chunks,
            ).image
        return self.opened[key]

    def read(self, seed: int, until: float) -> Counter[str]:
        rng = np.random.default_rng(seed)
        counts: Counter[str] = Counter()
        while time.monotonic() < until:
            name = FILES[int(rng.integers(0, len(FILES)))]
            expected = self.expected[name]
            indexers = random_indexers(rng, {str(k): v for k, v in expected.sizes.items()})
            try:
                found = self.image(rng, name).isel(indexers).compute(scheduler="threads")
            except ND2SourceError as error:
                assert self.urls[name] in str(error)  # noqa: PT017
                counts["refused"] += 1
                continue
            wanted = expected.isel(indexers)
            assert found.dims == wanted.dims, indexers
            np.testing.assert_array_equal(found.values, wanted.values, str(indexers))
            counts["vectorized" if "points" in found.dims else "outer"] += 1
        return counts


def soak(
    urls: dict[str, str], of_s3: dict[str, Any], seconds: float, seed: int, threads: int
) -> Counter[str]:
    """Read in some threads of this process, and see that it holds no more than after a while."""
    retry.FIRST_PAUSE_SECONDS = 0.002  # type: ignore[misc]
    reader = Reader(urls, of_s3)
    counts: Counter[str] = Counter()
    with warnings.catch_warnings(), ThreadPoolExecutor(threads) as pool:
        warnings.filterwarnings("ignore", ".*frames are not in the file|The specified chunks")
        for share in (0.3, 0.7):  # to warm up, and to compare with
            before = Usage.now()
            until = time.monotonic() + share * seconds
            reading = [pool.submit(reader.read, seed + i, until) for i in range(threads)]
            counts += sum((future.result() for future in reading), Counter())
            seed += 1000
        Usage.now().assert_not_above(before)
    return counts


@pytest.fixture
def failing_share(request: pytest.FixtureRequest) -> FuseShare | None:
    """A share of which one call in six fails; None where none can be mounted."""
    try:
        share: FuseShare = request.getfixturevalue("share")
    except pytest.skip.Exception:
        return None
    share.behave("read", "open", errno=errno.EIO, every=6)
    return share


def test_soak(
    http: RangeServer,
    s3: S3Server,
    failing_share: FuseShare | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(retry, "FIRST_PAUSE_SECONDS", retry.FIRST_PAUSE_SECONDS)  # to restore it
    urls, of_s3 = {}, s3.storage_options
    for name in FILES:
        variant, file = VARIANTS[name], io.BytesIO()
        write_nd2(file, variant.pixels(), variant.dims, **variant.options)
        if name in IN_S3:
            s3.put("bucket", f"soak-{name}.nd2", file.getvalue())
            urls[name] = f"s3://bucket/soak-{name}.nd2"
        elif name in ON_SHARE and failing_share is not None:
            failing_share.put(f"soak-{name}.nd2", file.getvalue())
            urls[name] = str(failing_share.path / f"soak-{name}.nd2")
        else:
            http.put(f"soak-{name}.nd2", file.getvalue())
            urls[name] = http.url(f"soak-{name}.nd2")
    http.faults = random_faults(8)
    monkeypatch.setattr(s3, "faults", random_faults(9))
    with ProcessPoolExecutor(PROCESSES, mp_context=get_context("spawn")) as pool:
        elsewhere = [pool.submit(soak, urls, of_s3, SECONDS, 100 + i, 2) for i in range(PROCESSES)]
        counts = soak(urls, of_s3, SECONDS, 1, THREADS)
        for future in elsewhere:
            counts += future.result(timeout=SECONDS + 300)
    done = counts["outer"] + counts["vectorized"]
    print(f"{dict(counts)} in {SECONDS} s, {http.log.requests} + {s3.log.requests} requests")
    assert min(counts["outer"], counts["vectorized"]) > SECONDS
    assert counts["refused"] < 0.1 * done
