"""Traces of the workers of a cluster: none is counted twice, and the lost are named."""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import xarray as xr
from distributed import Client, LocalCluster

from xarray_nd2 import trace
from xarray_nd2.io.process import this_process
from xarray_nd2.testing import write_nd2

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from xarray_nd2.testing import RangeServer

SIZES = {"T": 20, "C": 2, "Y": 64, "X": 48}


@pytest.fixture(scope="module")
def run(folder: Path) -> Path:
    frames = np.random.default_rng(3).integers(0, 2**16, tuple(SIZES.values())).astype("uint16")
    write_nd2(folder / "traced.nd2", frames, "".join(SIZES))
    return folder / "traced.nd2"


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    with LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0"
    ) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def client(cluster: LocalCluster) -> Iterator[Client]:
    with Client(cluster) as client:
        yield client


def read_frame(url: str, t: int) -> int:
    return int(xr.open_dataset(url, engine="nd2").image.isel(T=t, Y=slice(3, 9)).max())


def read_on(client: Client, workers: list[str], url: str, calls: int) -> None:
    """Read a few frames on each worker."""
    futures = [
        client.submit(read_frame, url, t, workers=[worker], pure=False)
        for worker in workers
        for t in range(calls)
    ]
    client.gather(futures)


def workers_of(client: Client) -> list[str]:
    return list(client.scheduler_info(n_workers=-1)["workers"])


def wait_for_workers(client: Client, count: int) -> list[str]:
    """Wait until there are so many, and give their addresses."""
    while len(workers_of(client)) != count:
        time.sleep(0.02)
    return workers_of(client)


def recording(client: Client) -> dict[str, int]:
    return client.run(lambda: len(this_process().recorders))  # type: ignore[no-any-return]


def test_two_processes(client: Client, run: Path, http: RangeServer) -> None:
    url = http.url(run.name)
    with trace(client) as t:
        ds = xr.open_dataset(url, engine="nd2", chunks={"T": 1})
        read_on(client, workers_of(client), url, 3)
        ds.image.max().compute(scheduler=client)
    assert (t.requests, t.bytes) == (http.log.requests, http.log.bytes)
    assert t.lost == []
    table = t.to_dataframe()
    assert set(table["worker"]) == {"this process", *workers_of(client)}
    assert len(table) == t.requests
    assert all(worker in repr(t) for worker in workers_of(client))
    assert set(recording(client).values()) == {0}
    assert not this_process().recorders


def test_worker_that_is_killed(client: Client, run: Path, http: RangeServer) -> None:
    url = http.url(run.name)
    with trace(client) as t:
        first, second = workers_of(client)
        read_on(client, [first], url, 2)
        pid = client.run(os.getpid, workers=[second])[second]
        kept = http.log.requests
        read_on(client, [second], url, 1)
        os.kill(pid, signal.SIGKILL)
        while second in workers_of(client):
            time.sleep(0.02)
        wait_for_workers(client, 2)
        (new,) = set(workers_of(client)) - {first}  # the nanny started it again
        lost = http.log.requests - kept
        read_on(client, [new], url, 2)
    assert t.lost == [second]
    assert t.requests == http.log.requests - lost
    assert second in repr(t)
    assert second in t._repr_html_()
    assert set(t.to_dataframe()["worker"]) == {first, new}


def test_workers_that_join_late_and_leave(
    client: Client, cluster: LocalCluster, run: Path, http: RangeServer
) -> None:
    url = http.url(run.name)
    before = workers_of(client)
    with trace(client) as t:
        cluster.scale(3)
        (late,) = set(wait_for_workers(client, 3)) - set(before)
        read_on(client, [late], url, 2)
    assert (t.requests, t.bytes) == (http.log.requests, http.log.bytes)
    assert set(t.to_dataframe()["worker"]) == {late}
    assert t.lost == []
    with trace(client) as t:
        cluster.scale(4)
        there = wait_for_workers(client, 4)
        cluster.scale(2)
        left = set(there) - set(wait_for_workers(client, 2))
    assert set(t.lost) == left


def test_threads_are_not_counted_twice(run: Path, http: RangeServer) -> None:
    url = http.url(run.name)
    with (
        LocalCluster(n_workers=2, processes=False, dashboard_address=":0") as cluster,
        Client(cluster) as client,
    ):
        with trace(client) as t:
            read_on(client, workers_of(client), url, 2)
        assert (t.requests, t.bytes) == (http.log.requests, http.log.bytes)
        assert t.lost == []
        assert set(t.to_dataframe()["worker"]) == {"this process"}
        assert not this_process().recorders


def test_nested_with_an_exception(client: Client, run: Path, http: RangeServer) -> None:
    url = http.url(run.name)

    def read_and_fail() -> None:
        read_on(client, workers_of(client), url, 1)
        raise ZeroDivisionError

    with trace(client) as outer:
        inner = trace(client)
        with pytest.raises(ZeroDivisionError), inner:
            read_and_fail()
        assert inner.requests == http.log.requests
        read_on(client, workers_of(client), url, 1)
    assert outer.requests == http.log.requests == 2 * inner.requests
    assert set(recording(client).values()) == {0}


def test_cluster_that_is_gone(run: Path, http: RangeServer) -> None:
    with (
        LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=":0") as cluster,
        Client(cluster) as client,
        trace(client) as t,
    ):
        (worker,) = workers_of(client)
        read_frame(http.url(run.name), 0)
        client.close()
        cluster.close()
    assert t.lost == [worker]
    assert t.requests == http.log.requests
    assert not this_process().recorders


async def test_asynchronous_client() -> None:
    async with (
        LocalCluster(
            n_workers=1, processes=False, asynchronous=True, dashboard_address=":0"
        ) as cluster,
        Client(cluster, asynchronous=True) as client,
    ):
        t: Any = trace(client)
        with pytest.raises(TypeError, match="asynchronous"):
            t.__enter__()
    assert not this_process().recorders
