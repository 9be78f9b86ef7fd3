"""Stores that refuse, drop, delay and lie: exact pixels, or a clear error in a limited time."""

from __future__ import annotations

import logging
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from multiprocessing import get_context
from typing import TYPE_CHECKING, Any

import dask
import fsspec
import numpy as np
import pytest
import xarray as xr
from distributed import Client, LocalCluster

from xarray_nd2 import (
    ND2ChangedError,
    ND2Error,
    ND2NotFoundError,
    ND2PermissionError,
    ND2SourceError,
)
from xarray_nd2.io import retry
from xarray_nd2.testing import Fault, write_nd2

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from xarray_nd2.testing import RangeServer, S3Server

SIZES = {"T": 12, "C": 2, "Y": 64, "X": 48}
CROP: dict[str, Any] = {"Y": slice(5, 25), "X": slice(3, 40)}  # 20 ranges of a frame
LASTING = 503
SECRET = "hush-hush-9f3c"
BRIEFLY: dict[str, Any] = {"patience_seconds": 0.9}  # three attempts that are silent


def every(step: int, kind: Any) -> Callable[..., Fault | None]:
    return lambda number, *_: Fault(kind) if number % step == 0 else None


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    return np.random.default_rng(3).integers(0, 2**16, tuple(SIZES.values())).astype("uint16")


@pytest.fixture(scope="module")
def content(pixels: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("faults") / "run.nd2"
    write_nd2(path, pixels, "".join(SIZES))
    return path.read_bytes()


@pytest.fixture
def url(content: bytes, http: RangeServer) -> str:
    http.put("run.nd2", content)
    return http.url("run.nd2")


@pytest.fixture
def stores(
    content: bytes, url: str, http: RangeServer, s3: S3Server
) -> Iterator[dict[str, tuple[Any, str, dict[str, Any]]]]:
    s3.put("bucket", "faults.nd2", content)
    s3.faults = None
    s3.log.clear()
    silent = {"config_kwargs": {"read_timeout": 0.3}}
    options = {"storage_options": s3.storage_options | silent}
    yield {"http": (http, url, {}), "s3": (s3, "s3://bucket/faults.nd2", options)}
    s3.faults = None


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with (
        LocalCluster(n_workers=2, threads_per_worker=2, dashboard_address="127.0.0.1:0") as cluster,
        Client(cluster) as client,
    ):
        yield client


@pytest.mark.parametrize("step", [7, 3])
@pytest.mark.parametrize("kind", [503, 500, 429, "reset", "short", "truncate", "early_end", "gzip"])
@pytest.mark.parametrize("way", ["http", "s3"])
def test_exact_pixels(
    way: str,
    kind: Any,
    step: int,
    stores: dict[str, tuple[Any, str, dict[str, Any]]],
    pixels: np.ndarray,
    client: Client,
) -> None:
    server, target, options = stores[way]
    expected = pixels[..., CROP["Y"], CROP["X"]]
    server.faults = every(step, kind)
    lazy = xr.open_dataset(target, engine="nd2", max_gap=0, **options)
    np.testing.assert_array_equal(lazy.image.isel(CROP).values, expected)
    blocks = xr.open_dataset(target, engine="nd2", chunks={"T": 3}, **options)
    for scheduler in ("threads", client):
        result = blocks.image.isel(CROP).compute(scheduler=scheduler)
        np.testing.assert_array_equal(result.values, expected)


@pytest.mark.parametrize("way", ["http", "s3"])
@pytest.mark.parametrize(
    ("status", "error"),
    [(404, ND2NotFoundError), (403, ND2PermissionError), (416, ND2ChangedError)],
)
def test_lasting_failures_are_not_tried_again(
    way: str,
    status: int,
    error: type[Exception],
    stores: dict[str, tuple[Any, str, dict[str, Any]]],
) -> None:
    server, target, options = stores[way]
    ds = xr.open_dataset(target, engine="nd2", **options)
    server.log.clear()
    server.faults = lambda *_: Fault(status)
    with pytest.raises(error, match=re.escape(target)):
        ds.image.isel(T=3).load()
    assert server.log.requests == 1
    if status != 416:
        with pytest.raises(error, match=re.escape(target)):
            xr.open_dataset(target, engine="nd2", **options)
        assert server.log.requests <= 3  # both ends of the file were asked for


@pytest.mark.parametrize("way", ["http", "s3"])
def test_lasting_refusal_is_given_up(
    way: str, stores: dict[str, tuple[Any, str, dict[str, Any]]]
) -> None:
    server, target, options = stores[way]
    ds = xr.open_dataset(target, engine="nd2", **BRIEFLY, **options)
    server.log.clear()
    server.faults = lambda *_: Fault(503)
    with pytest.raises(ND2SourceError, match=rf"{target}: bytes \d+-\d+: ") as caught:
        ds.image.isel(T=3).load()
    assert re.search("503|Service Unavailable", str(caught.value))
    assert server.log.requests > 3
    assert f"given up after {server.log.requests} attempts and 0." in str(caught.value)


@pytest.mark.parametrize("kind", ["stall", "informational", "trickle", "trickle_body"])
@pytest.mark.parametrize("way", ["http", "s3"])
def test_what_hardly_comes_is_given_up(
    way: str,
    kind: Any,
    stores: dict[str, tuple[Any, str, dict[str, Any]]],
    pixels: np.ndarray,
) -> None:
    server, target, options = stores[way]
    ds = xr.open_dataset(target, engine="nd2", max_gap=0, **BRIEFLY, **options)
    server.faults = every(25, kind)
    np.testing.assert_array_equal(ds.image.isel(CROP).values, pixels[..., CROP["Y"], CROP["X"]])
    server.faults = lambda *_: Fault(kind)
    server.log.clear()
    with pytest.raises(
        ND2SourceError, match=rf"{target}: bytes \d+-\d+: .* in 0.\d+ s.*, given up"
    ):
        ds.image.isel(T=3, C=0, Y=3).load()
    assert 3 <= server.log.requests <= 5
    with pytest.raises(ND2SourceError, match=f"{target}: opening: .* given up"):
        xr.open_dataset(target, engine="nd2", **BRIEFLY, **options)


@pytest.mark.parametrize("way", ["http", "s3"])
def test_slow_but_sure(
    way: str,
    stores: dict[str, tuple[Any, str, dict[str, Any]]],
    pixels: np.ndarray,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A read that takes longer than the patience, in which bytes come all the time."""
    server, target, options = stores[way]
    ds = xr.open_dataset(target, engine="nd2", **BRIEFLY, **options)
    monkeypatch.setattr(server, "bandwidth", 60_000)
    server.log.clear()
    began = time.monotonic()
    np.testing.assert_array_equal(ds.image.values, pixels)
    assert time.monotonic() - began > 1
    assert {request.status for request in server.log.entries} == {206}
    assert server.log.bytes <= pixels.nbytes + 12 * 4096


def test_broken_bodies_are_continued(http: RangeServer) -> None:
    """Half of what is missing comes each time, and no byte comes twice."""
    frame = np.random.default_rng(5).integers(0, 2**16, (1, 1024, 1024)).astype("uint16")
    import io

    file = io.BytesIO()
    write_nd2(file, frame, "CYX")
    http.put("broken-bodies.nd2", file.getvalue())
    ds = xr.open_dataset(http.url("broken-bodies.nd2"), engine="nd2")
    for kind in ("short", "truncate"):
        http.log.clear()
        http.faults = lambda number, *_, kind=kind: Fault(kind) if number <= 12 else None
        np.testing.assert_array_equal(ds.image.values, frame)
        assert http.log.requests == 13
        assert http.log.bytes <= frame.nbytes + 13
        ds = xr.open_dataset(http.url("broken-bodies.nd2"), engine="nd2")


def test_no_credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for options in ({}, {"profile": "nobody"}):
        with pytest.raises(ND2PermissionError, match="s3://bucket/run.nd2: access was refused"):
            xr.open_dataset("s3://bucket/run.nd2", engine="nd2", storage_options=options)


@pytest.mark.parametrize("step", [1, 2, 5])
def test_ignored_ranges_are_never_wrong_pixels(
    step: int,
    url: str,
    http: RangeServer,
    pixels: np.ndarray,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(retry, "FIRST_PAUSE_SECONDS", 0.001)
    ds = xr.open_dataset(url, engine="nd2", max_gap=0, **BRIEFLY)
    for target in (ds, None):
        http.faults = every(step, "ignore_range")
        try:
            found = target or xr.open_dataset(url, engine="nd2", max_gap=0, **BRIEFLY)
            values = found.image.isel(CROP).values
        except ND2SourceError as error:
            assert url in str(error)  # noqa: PT017
        else:
            np.testing.assert_array_equal(values, pixels[..., CROP["Y"], CROP["X"]])


def shown(error: BaseException) -> str:
    """All that a user might see of an error."""
    return "".join(traceback.format_exception(error)) + repr(error) + str(error.__dict__)


@pytest.mark.parametrize("kind", [400, 403, 404, 416, 503, "reset", "short", "truncate", "stall"])
def test_secrets_are_not_shown(
    kind: Any,
    url: str,
    http: RangeServer,
    client: Client,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(retry, "FIRST_PAUSE_SECONDS", 0.001)
    caplog.set_level(logging.DEBUG, logger="xarray_nd2")
    signed = f"{url}?X-Amz-Credential=me&X-Amz-Signature={SECRET}"
    ds = xr.open_dataset(signed, engine="nd2", **BRIEFLY, chunks={"T": 6})
    lazy = xr.open_dataset(signed, engine="nd2", **BRIEFLY)
    texts = [repr(ds), ds._repr_html_(), repr(lazy), str(ds.attrs), str(ds.image.attrs)]
    texts += [str(ds.encoding), str(ds.image.encoding), repr(lazy.image.variable._data)]
    texts += [str(list(ds.__dask_graph__())), repr(ds.image.data), str(ds.image.data.name)]
    http.faults = lambda *_: Fault(kind)
    for action in (
        lambda: lazy.image.isel(T=1).load(),
        lambda: ds.image.isel(T=1).compute(scheduler="threads"),
        lambda: ds.image.isel(T=1).compute(scheduler=client) if kind == 404 else lazy.image.load(),
        lambda: xr.open_dataset(signed, engine="nd2", **BRIEFLY),
    ):
        if kind == "truncate":
            action()
            continue
        with pytest.raises(ND2Error) as caught:
            action()
        texts.append(shown(caught.value))
    records = [record for record in caplog.records if record.name.startswith("xarray_nd2")]
    texts += [record.getMessage() for record in records]
    assert not [text for text in texts if SECRET in text]


def test_secrets_are_not_shown_when_there_is_no_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """The client's error has the whole URL when it waited for a connection in vain."""
    with socket.socket() as full, ExitStack() as stack:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for _ in range(8):  # more than the queue holds
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())
        url = f"http://127.0.0.1:{full.getsockname()[1]}/run.nd2?sig={SECRET}"
        with pytest.raises(ND2SourceError, match="opening: ") as caught:
            xr.open_dataset(url, engine="nd2", **BRIEFLY)
    assert SECRET not in shown(caught.value)


@pytest.mark.parametrize(
    ("url", "options"),
    [
        (f"sftp://me:{SECRET}#more@127.0.0.1:1/run.nd2", {}),
        (f"ftp://me:{SECRET}/more@127.0.0.1:1/run.nd2", {}),
        (f"webhdfs://127.0.0.1:1/run.nd2?sv=1&sig={SECRET}", {}),
        ("webhdfs://127.0.0.1:1/run.nd2", {"token": SECRET}),
        ("abfs://box/run.nd2", {"account_name": "lab", "account_key": SECRET + "="}),
        (f"simplecache::https://127.0.0.1:1/run.nd2?sig={SECRET}", {}),
    ],
)
def test_secrets_are_not_shown_by_any_client(url: str, options: dict[str, Any]) -> None:
    if url.startswith("abfs"):
        pytest.importorskip("adlfs")
    with pytest.raises(ND2SourceError) as caught:
        xr.open_dataset(url, engine="nd2", storage_options=options)
    assert SECRET not in shown(caught.value)


def test_secrets_are_not_shown_of_what_is_no_file() -> None:
    packed = fsspec.open(f"http://127.0.0.1:1/run.nd2?sig={SECRET}", compression="gzip")
    with pytest.raises(ValueError, match="through a compression") as caught:
        xr.open_dataset(packed, engine="nd2")
    assert SECRET not in shown(caught.value)


async def test_inside_a_running_loop(url: str, http: RangeServer, pixels: np.ndarray) -> None:
    """As in a notebook, where the code of a cell runs on an event loop."""
    http.faults = every(5, 503)
    ds = xr.open_dataset(url, engine="nd2", chunks={"T": 4})
    np.testing.assert_array_equal(ds.image.values, pixels)
    lazy = xr.open_dataset(url, engine="nd2")
    np.testing.assert_array_equal(lazy.image.isel(T=2).values, pixels[2])
    loaded = await xr.open_dataset(url, engine="nd2").load_async()
    np.testing.assert_array_equal(loaded.image.values, pixels)


def _sum_of(ds: xr.Dataset) -> int:
    return int(ds.image.isel(CROP).astype("int64").sum())


@pytest.mark.parametrize("method", ["spawn", "fork"])
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
async def test_processes_of_a_running_loop(
    method: str, url: str, http: RangeServer, pixels: np.ndarray
) -> None:
    ds = xr.open_dataset(url, engine="nd2")
    expected = int(pixels[..., CROP["Y"], CROP["X"]].astype("int64").sum())
    assert _sum_of(ds) == expected
    http.faults = every(3, "reset")
    with ProcessPoolExecutor(2, mp_context=get_context(method)) as pool:
        fresh = xr.open_dataset(url, engine="nd2")
        assert list(pool.map(_sum_of, [fresh] * 4, timeout=120)) == [expected] * 4


def test_worker_is_killed(url: str, http: RangeServer, pixels: np.ndarray) -> None:
    ds = xr.open_dataset(url, engine="nd2", chunks={"T": 1}, max_gap=0)
    with (
        dask.config.set({"distributed.deploy.lost-worker-timeout": "1s"}),
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address="127.0.0.1:0") as cluster,
        Client(cluster) as client,
    ):
        http.latency = 0.1
        http.log.clear()
        future = client.compute(ds.image.isel(CROP).astype("float64"))
        while http.log.requests < 4:
            time.sleep(0.01)
        os.kill(next(iter(cluster.workers.values())).pid, signal.SIGKILL)
        http.latency = 0.0
        result = future.result(timeout=120)
    np.testing.assert_array_equal(result.values, pixels[..., CROP["Y"], CROP["X"]])


def test_workers_come_and_go(url: str, http: RangeServer, pixels: np.ndarray) -> None:
    ds = xr.open_dataset(url, engine="nd2", chunks={"T": 1}, max_gap=0)
    with (
        LocalCluster(n_workers=0, threads_per_worker=1, dashboard_address="127.0.0.1:0") as cluster,
        Client(cluster) as client,
    ):
        cluster.adapt(minimum=0, maximum=2, interval="100ms", wait_count=1)
        http.latency = 0.02
        for _ in range(2):
            result = ds.image.isel(CROP).max("T").compute(scheduler=client)
            np.testing.assert_array_equal(
                result.values, pixels[..., CROP["Y"], CROP["X"]].max(axis=0)
            )
            deadline = time.monotonic() + 60
            while cluster.workers and time.monotonic() < deadline:
                time.sleep(0.05)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_commands_of_their_own(folder: Path, http: RangeServer) -> None:
    """A cluster of `dask scheduler` and two `dask worker` fetches a crop with the same budget."""
    frame = np.random.default_rng(2).integers(0, 2**16, (2, 1024, 1024)).astype("uint16")

    def numbered(index: int) -> np.ndarray:
        frame[:, 400:404, 400:404] = index
        return frame

    sizes = {"T": 100, "C": 2, "Y": 1024, "X": 1024}
    write_nd2(folder / "commands.nd2", numbered, "TCYX", sizes=sizes, dtype="uint16")
    crop = {"Y": slice(300, 556), "X": slice(300, 556)}
    address = f"tcp://127.0.0.1:{free_port()}"
    host, port = address.removeprefix("tcp://").split(":")
    scheduler = ["scheduler", "--host", host, "--port", port, "--no-dashboard"]
    worker = ["worker", address, "--nworkers", "1", "--nthreads", "2", "--no-dashboard"]
    quiet: Any = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    started = [
        subprocess.Popen([sys.executable, "-m", "dask", *command], **quiet)
        for command in (scheduler, worker, worker)
    ]
    try:
        with Client(address, timeout=60) as client:
            client.wait_for_workers(2, timeout=60)
            ds = xr.open_dataset(http.url("commands.nd2"), engine="nd2", chunks={})
            http.log.clear()
            result = ds.image.isel(crop).max("T").compute(scheduler=client)
    finally:
        for process in reversed(started):
            process.terminate()
        for process in started:
            process.wait(30)
    assert http.log.requests <= 110
    assert http.log.bytes <= 100 * 256 * 4096  # the row spans
    expected = frame[:, 300:556, 300:556].copy()
    expected[:, 100:104, 100:104] = 99
    np.testing.assert_array_equal(result.values, expected)


def test_many_threads_with_faults(url: str, http: RangeServer, pixels: np.ndarray) -> None:
    ds = xr.open_dataset(url, engine="nd2", max_gap=0)
    http.faults = every(4, "short")
    wrong = []

    def read(t: int) -> None:
        if not (ds.image.isel(T=t).isel(CROP).values == pixels[t, :, CROP["Y"], CROP["X"]]).all():
            wrong.append(t)

    threads = [threading.Thread(target=read, args=[t]) for t in range(SIZES["T"])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert not any(thread.is_alive() for thread in threads)
    assert not wrong
