"""The counting servers themselves."""

from __future__ import annotations

import hashlib
import http.client
import threading
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import fsspec
import numpy as np
import pytest

from xarray_nd2.testing import Fault, RangeServer, S3Server

if TYPE_CHECKING:
    from pathlib import Path

DATA = np.random.default_rng(0).bytes(100_000)


def get(url: str, method: str = "GET", **headers: str) -> tuple[int, bytes, dict[str, str]]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    try:
        with urllib.request.urlopen(
            urllib.request.Request(url, headers=named, method=method), timeout=10
        ) as response:
            return response.status, response.read(), dict(response.headers)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read(), dict(error.headers)


@pytest.mark.parametrize(
    ("asked", "start", "stop"),
    [("bytes=0-9", 0, 10), ("bytes=99990-", 99_990, 100_000), ("bytes=-7", 99_993, 100_000),
     ("bytes=99990-200000", 99_990, 100_000), ("bytes=-200000", 0, 100_000)],
)  # fmt: skip
def test_ranges(asked: str, start: int, stop: int) -> None:
    with RangeServer() as server:
        server.put("a file.nd2", DATA)
        status, body, headers = get(server.url("a file.nd2"), Range=asked)
        assert (status, body) == (206, DATA[start:stop])
        assert headers["Content-Range"] == f"bytes {start}-{stop - 1}/100000"
        (entry,) = server.log.entries
        assert (entry.start, entry.stop, entry.nbytes) == (start, stop, stop - start)


def test_whole_head_missing_and_past_the_end() -> None:
    with RangeServer() as server:
        server.put("run.nd2", DATA)
        assert get(server.url("run.nd2"))[:2] == (200, DATA)
        status, body, headers = get(server.url("run.nd2"), "HEAD")
        assert (status, body, headers["Content-Length"]) == (200, b"", "100000")
        assert get(server.url("no.nd2"))[0] == 404
        assert get(server.url("run.nd2"), Range="bytes=100000-")[0] == 416
        assert [entry.status for entry in server.log.entries] == [200, 200, 404, 416]
        assert server.log.bytes == 100_000


def test_tags_change_with_the_content(tmp_path: Path) -> None:
    (tmp_path / "run.nd2").write_bytes(DATA)
    with RangeServer(tmp_path) as server:
        first = get(server.url("run.nd2"))[2]["ETag"]
        assert get(server.url("run.nd2"), If_Match=first)[0] == 200
        (tmp_path / "run.nd2").write_bytes(DATA[::-1])
        status, _, headers = get(server.url("run.nd2"), If_Match=first)
        assert status == 412
        assert headers["ETag"] != first


def test_round_trips() -> None:
    with RangeServer(latency=0.05) as server:
        server.put("run.nd2", DATA)
        for _ in range(3):
            get(server.url("run.nd2"))
        assert server.log.round_trips == 3
        server.log.clear()
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(get, [server.url("run.nd2")] * 8))
        assert (server.log.requests, server.log.round_trips) == (8, 1)


def test_bandwidth_is_shared() -> None:
    with RangeServer(bandwidth=2e6) as server:
        server.put("run.nd2", DATA)
        began = time.monotonic()
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(get, [server.url("run.nd2")] * 8))
        assert time.monotonic() - began >= 0.39  # 800 kB at 2 MB/s


@pytest.mark.parametrize("status", [403, 429, 500, 503])
def test_status_faults(status: int) -> None:
    with RangeServer(faults=lambda number, *_: Fault(status) if number % 2 else None) as server:
        server.put("run.nd2", DATA)
        assert [get(server.url("run.nd2"))[0] for _ in range(4)] == [status, 200] * 2


def test_broken_connections() -> None:
    with RangeServer() as server:
        server.put("run.nd2", DATA)
        server.faults = lambda *_: Fault("reset")
        with pytest.raises((ConnectionError, http.client.RemoteDisconnected)):
            get(server.url("run.nd2"))
        server.faults = lambda *_: Fault("short")
        with pytest.raises(http.client.IncompleteRead):
            get(server.url("run.nd2"))
        server.faults = lambda *_: Fault("truncate")
        assert get(server.url("run.nd2"), Range="bytes=0-9")[1] == DATA[:5]
        server.faults = lambda *_: Fault("ignore_range")
        assert get(server.url("run.nd2"), Range="bytes=0-9")[:2] == (200, DATA)
        server.faults = lambda *_: Fault("stall")
        with pytest.raises(TimeoutError):
            urllib.request.urlopen(server.url("run.nd2"), timeout=0.2)


def test_s3(tmp_path: Path) -> None:
    (tmp_path / "run.nd2").write_bytes(DATA)
    with S3Server() as server:
        server.create_bucket("bucket")
        server.upload(tmp_path / "run.nd2", "bucket", "day 1/run.nd2")
        fs = fsspec.filesystem("s3", **server.storage_options, skip_instance_cache=True)
        info = fs.info("bucket/day 1/run.nd2")
        assert info["size"] == 100_000
        assert info["ETag"] == f'"{hashlib.md5(DATA).hexdigest()}"'
        server.log.clear()
        starts = list(range(0, 64_000, 1000))
        parts = fs.cat_ranges(
            ["bucket/day 1/run.nd2"] * 64, starts, [s + 500 for s in starts], on_error="raise"
        )
        assert parts == [DATA[s : s + 500] for s in starts]
        assert (server.log.requests, server.log.bytes) == (64, 32_000)
        for missing in ("bucket/no.nd2", "nobucket/no.nd2"):
            with pytest.raises(FileNotFoundError):
                fs.cat_file(missing, start=0, end=10)
        anonymous = fsspec.filesystem(
            "s3", anon=True, endpoint_url=server.endpoint_url, skip_instance_cache=True
        )
        assert anonymous.cat_file("bucket/day 1/run.nd2", start=5, end=9) == DATA[5:9]


def test_nothing_is_left() -> None:
    before = set(threading.enumerate())
    with RangeServer() as server, S3Server() as s3:
        server.put("run.nd2", DATA)
        get(server.url("run.nd2"))
        s3.create_bucket("bucket")
    left = [thread for thread in set(threading.enumerate()) - before if not thread.daemon]
    assert not left
    with pytest.raises(urllib.error.URLError):
        get(server.url("run.nd2"))
