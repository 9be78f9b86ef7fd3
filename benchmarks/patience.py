"""How long it takes to give up a store that hardly answers, and to read from one that is slow."""

from __future__ import annotations

import io
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from multiprocessing import get_context
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from benchmarks._bench import Floor, Group, Row
from xarray_nd2 import ND2SourceError
from xarray_nd2.io.patience import PATIENCE_SECONDS
from xarray_nd2.testing import Fault, RangeServer, S3Server, write_nd2

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

    from benchmarks._bench import Bench

_MAX_SECONDS = 120.0  # without sufficient progress
_KINDS: dict[str, Any] = {
    "silent": "stall",
    "endless `102 Processing`": "informational",
    "a byte a second": "trickle",
    "a byte a second, after the headers": "trickle_body",
    "`503` for ever": 503,
}
_BUSY_SECONDS = 12.0
_SLOW_BYTES_PER_SECOND = 0.3e6
_FRAME_SIDE_PIXELS = 2048


def run(bench: Bench) -> Group:
    """Wait for all of it at once, since there is hardly anything to do meanwhile."""
    patience = 3.0 if bench.quick else PATIENCE_SECONDS
    busy_seconds = 1.0 if bench.quick else _BUSY_SECONDS
    side, count = (256, 2) if bench.quick else (_FRAME_SIDE_PIXELS, 8)
    small, large = _frames(2, 64), _frames(count, side)
    with ExitStack() as stack:
        http, slow = stack.enter_context(RangeServer()), stack.enter_context(RangeServer())
        s3 = stack.enter_context(S3Server())
        s3.create_bucket("bucket")
        for name in [*map(str, _KINDS.values()), "busy"]:
            http.put(name, _content(small))
            s3.put("bucket", name, _content(small))
        slow.put("slow", _content(large))
        pool = stack.enter_context(ThreadPoolExecutor(32))
        waiting: dict[tuple[str, str], list[Future[float]]] = {}

        def opened(url: str, options: dict[str, Any]) -> xr.Dataset:
            return xr.open_dataset(
                url, engine="nd2", patience_seconds=patience, storage_options=options
            )

        slow.bandwidth = _SLOW_BYTES_PER_SECOND
        # In a process of its own, where nothing has to wait for it to make room.
        alone = stack.enter_context(ProcessPoolExecutor(1, mp_context=get_context("spawn")))
        slowly = alone.submit(_read_slowly, slow.url("slow"), patience, int(large.sum()))
        for way, server, at, options in (
            ("HTTP", http, http.url(""), {}),
            ("S3", s3, "s3://bucket/", s3.storage_options),
        ):
            files = {name: opened(f"{at}{name}", options) for name in map(str, _KINDS.values())}
            busy = opened(f"{at}busy", options)
            server.faults = _faults_by_name(time.monotonic() + busy_seconds)
            for what, kind in _KINDS.items():
                read = partial(files[str(kind)].image.isel(T=0).load)
                open_again = partial(opened, f"{at}{kind}", options)
                waiting[way, f"{what}: given up"] = [
                    pool.submit(_seconds, act, fails=True) for act in (read, open_again)
                ]
            waiting[way, f"`503` for {busy_seconds:.0f} s: read"] = [
                pool.submit(_seconds, partial(_check, busy, small))
            ]
        rows = [
            Row(
                f"{way}, {what}",
                "s",
                max(future.result() for future in futures),
                floor=Floor(_MAX_SECONDS),
            )
            for (way, what), futures in waiting.items()
        ]
        what = f"{large.nbytes / 2**20:.0f} MiB at {_SLOW_BYTES_PER_SECOND / 1e6} MB/s: read"
        wire_seconds = large.nbytes / _SLOW_BYTES_PER_SECOND
        rows.append(Row(f"HTTP, {what}", "s", slowly.result(), "the wire", wire_seconds))
    return Group(
        "patience",
        "Patience",
        "Seconds until an error is raised, or until all is read, with "
        f"`patience_seconds={patience:.0f}`; the longer of opening a file and of reading from one "
        "that was opened before.",
        rows,
    )


def _faults_by_name(busy_until: float) -> Callable[..., Fault | None]:
    """Faults of the kind that an object is named for."""
    kinds = {str(kind): Fault(kind) for kind in _KINDS.values()}

    def fault(_number: int, _method: str, path: str, _span: Any) -> Fault | None:
        name = path.rpartition("/")[2]
        if name == "busy":
            return Fault(503) if time.monotonic() < busy_until else None
        return kinds.get(name)

    return fault


def _frames(count: int, side: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 2**16, (count, side, side)).astype("uint16")


def _read_slowly(url: str, patience: float, total: int) -> float:
    """Seconds that it takes to read a file whose pixels have the sum `total`."""
    ds = xr.open_dataset(url, engine="nd2", patience_seconds=patience)
    began = time.monotonic()
    found = int(ds.image.values.sum())
    seconds = time.monotonic() - began
    assert found == total
    return seconds


def _content(frames: np.ndarray) -> bytes:
    file = io.BytesIO()
    write_nd2(file, frames, "TYX")
    return file.getvalue()


def _check(ds: xr.Dataset, frames: np.ndarray) -> None:
    np.testing.assert_array_equal(ds.image.squeeze("C").values, frames)


def _seconds(act: Callable[[], object], *, fails: bool = False) -> float:
    """Time that something takes, which fails if it `fails` and does what it should otherwise."""
    began = time.monotonic()
    try:
        act()
    except ND2SourceError:
        if not fails:
            raise
    else:
        if fails:
            raise AssertionError("it was read")
    return time.monotonic() - began
