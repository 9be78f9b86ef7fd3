"""What a process keeps of its stores: through cancelled reads, forks, and stores that do not answer."""

from __future__ import annotations

import asyncio
import io
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

import fsspec
import numpy as np
import pytest
import xarray as xr
from fsspec.core import OpenFile
from fsspec.implementations.dirfs import DirFileSystem
from fsspec.implementations.local import LocalFileSystem
from fsspec.implementations.memory import MemoryFileSystem

from xarray_nd2 import ND2ChangedError, ND2NotFoundError
from xarray_nd2.io.answers import ObjectFacts
from xarray_nd2.io.filesystems import QueueTransport
from xarray_nd2.io.process import KeyedLocks, Slots, in_read_thread, this_process
from xarray_nd2.io.source import ByteSource
from xarray_nd2.testing import write_nd2

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from xarray_nd2.testing import RangeServer

FRAMES = np.arange(8 * 32 * 32, dtype="uint16").reshape(8, 1, 32, 32)


def stored(frames: np.ndarray) -> bytes:
    file = io.BytesIO()
    write_nd2(file, frames, "TCYX")
    return file.getvalue()


class Deaf(MemoryFileSystem):  # type: ignore[misc]
    """A store that does not say that it cannot be reached before it may."""

    protocol = "deaf"
    cachable = False
    asked = threading.Event()
    may = threading.Event()

    def __init__(self, *args: Any, **options: Any) -> None:
        self.asked.set()
        self.may.wait(60)
        raise OSError("no route to host")


class Slow(fsspec.AbstractFileSystem):  # type: ignore[misc]
    """A synchronous store of one file, in which everything takes its time."""

    protocol = "slow"
    cachable = False
    content: ClassVar[bytes] = b""
    changed: ClassVar[int] = 1
    lost: ClassVar[bool] = False
    pause: ClassVar[float] = 0.1
    busy: ClassVar[list[int]] = []
    most: ClassVar[int] = 0

    @contextmanager
    def working(self) -> Iterator[None]:
        self.busy.append(1)
        type(self).most = max(self.most, len(self.busy))
        time.sleep(self.pause)
        self.busy.pop()
        yield

    def info(self, path: str, **options: Any) -> dict[str, Any]:
        with self.working():
            if self.lost:
                raise FileNotFoundError(path)
            return {"name": path, "size": len(self.content), "type": "file", "mtime": self.changed}

    def open(self, path: str, mode: str = "rb", **options: Any) -> Any:
        outer = self

        class File(io.BytesIO):
            def read(self, size: int | None = -1, /) -> bytes:
                with outer.working():
                    return super().read(size)

        return File(self.content)


class Unreachable(MemoryFileSystem):  # type: ignore[misc]
    """Stores that take their time to refuse a connection."""

    protocol = "unreachable"
    cachable = False
    attempts: ClassVar[Counter[str]] = Counter()
    most: ClassVar[Counter[str]] = Counter()
    counting = threading.Lock()

    def __init__(self, *args: Any, **options: Any) -> None:
        stores = (options["host"], "all")
        with self.counting:
            self.attempts.update(stores)
            type(self).most |= self.attempts
        time.sleep(0.03)
        with self.counting:
            self.attempts.subtract(stores)
        raise OSError("no route to host")

    @staticmethod
    def _get_kwargs_from_urls(path: str) -> dict[str, str]:
        return {"host": path.partition("://")[2].partition("/")[0]}


fsspec.register_implementation("deaf", Deaf)
fsspec.register_implementation("unreachable", Unreachable)
fsspec.register_implementation("slow", Slow)


@pytest.fixture
def slow() -> type[Slow]:
    Slow.content, Slow.changed, Slow.lost, Slow.pause, Slow.most = stored(FRAMES), 1, False, 0.1, 0
    return Slow


@pytest.fixture
def run(http: RangeServer) -> str:
    http.put("run.nd2", stored(FRAMES))
    return http.url("run.nd2")


@contextmanager
def connecting_in_vain() -> Iterator[None]:
    """While a thread waits for a connection, which it must still do in the end."""

    def work() -> None:
        with pytest.raises(OSError, match="no route to host"):
            xr.open_dataset("deaf://host/run.nd2", engine="nd2")

    Deaf.asked.clear()
    Deaf.may.clear()
    thread = threading.Thread(target=work)
    thread.start()
    assert Deaf.asked.wait(60)
    try:
        yield
        assert thread.is_alive()
    finally:
        Deaf.may.set()
        thread.join()


def test_no_store_waits_for_another(run: str) -> None:
    ds = xr.open_dataset(run, engine="nd2", cache=False)

    async def read() -> Any:
        return (await ds.image.isel(T=1).load_async()).values

    with connecting_in_vain():
        np.testing.assert_array_equal(asyncio.run(read()), FRAMES[1])
        np.testing.assert_array_equal(ds.image.isel(T=2).values, FRAMES[2])


def in_fork(read: Callable[[], np.ndarray], expected: np.ndarray) -> bool:
    """Whether a child process reads what is expected within half a minute."""
    child = os.fork()
    if not child:
        signal.alarm(30)
        os._exit(0 if np.array_equal(read(), expected) else 1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_forks(run: str) -> None:
    datasets = [
        xr.open_dataset(what, engine="nd2", cache=False) for what in (run, fsspec.open(run))
    ]
    for ds in datasets:
        ds.image.isel(T=0).load()
    with connecting_in_vain():
        for ds in datasets:
            assert in_fork(lambda ds=ds: ds.image.isel(T=1).values, FRAMES[1])  # type: ignore[misc]


def test_one_attempt_to_connect_to_a_store_at_a_time() -> None:
    Unreachable.attempts, Unreachable.most = Counter(), Counter()

    def work(number: int) -> None:
        # One after the other, so that there are newcomers while others wait.
        for store in ("one" if number else "two", "one", "one"):
            with pytest.raises(OSError, match="no route to host"):
                xr.open_dataset(f"unreachable://{store}/{number}.nd2", engine="nd2")

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(work, range(8)))
    assert Unreachable.most == {"one": 1, "two": 1, "all": 2}  # neither store waits for the other
    assert len(this_process().connecting) == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_fork_has_nothing_of_its_parent() -> None:
    kept = this_process()
    assert kept is this_process()
    with connecting_in_vain():
        assert len(kept.connecting) == 1

        def read() -> Any:
            own = this_process()
            with own.connecting.holding(("deaf://host", "")):
                return [own is kept, len(own.connecting), len(own.connections)]

        assert in_fork(read, np.array([0, 1, 0]))


def test_locks_are_there_while_they_are_used() -> None:
    locks = KeyedLocks()
    with locks.holding("one"), locks.holding("two"):
        assert len(locks) == 2
    with pytest.raises(ZeroDivisionError), locks.holding("one"):
        raise ZeroDivisionError
    assert len(locks) == 0


def test_no_store_waits_for_another_that_connects_again() -> None:
    begun, may = threading.Event(), threading.Event()

    class Lost(QueueTransport):
        """A file of a store whose connection is lost, and which takes its time to connect again."""

        lost = True

        def _connect_again(self, error: Exception) -> bool:
            if self._path == "slow":
                begun.set()
                assert may.wait(60)
            self.lost = False
            return True

        def answer(self) -> str:
            if self.lost:
                raise ConnectionResetError
            return self._path

    slow, quick = Lost(MemoryFileSystem(), "slow"), Lost(LocalFileSystem(), "quick")
    with ThreadPoolExecutor(2) as threads:
        waits = threads.submit(slow._connected, slow.answer)
        assert begun.wait(60)
        assert quick._connected(quick.answer) == "quick"
        assert not waits.done()
        may.set()
        assert waits.result(60) == "slow"
    assert not len(this_process().connecting)


def test_a_cancelled_read_takes_no_other_along(slow: type[Slow]) -> None:
    ds = xr.open_dataset("slow://run.nd2", engine="nd2", cache=False)
    ds.image.isel(T=0).load()
    slow.most = 0

    async def read() -> Any:
        first = asyncio.create_task(ds.image.isel(T=7).load_async())
        await asyncio.sleep(0.03)
        # Both queue up behind the first one, and what they want is read in one go.
        cancelled = asyncio.create_task(ds.image.isel(T=[0, 2, 4]).load_async())
        await asyncio.sleep(0.03)
        other = asyncio.create_task(ds.image.isel(T=[1, 3]).load_async())
        await first
        await asyncio.sleep(0.05)
        cancelled.cancel()
        return (await asyncio.wait_for(other, 20)).values

    np.testing.assert_array_equal(asyncio.run(read()), FRAMES[[1, 3]])
    assert slow.most == 1


def test_a_first_read_that_comes_to_nothing_leaves_the_check_to_the_next(slow: type[Slow]) -> None:
    ds = xr.open_dataset("slow://run.nd2", engine="nd2", cache=False)
    slow.content, slow.changed = stored(FRAMES + 1), 2

    async def cancel() -> None:
        reading = asyncio.create_task(ds.image.load_async())
        await asyncio.sleep(0.05)
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)

    asyncio.run(cancel())
    with pytest.raises(ND2ChangedError):
        ds.image.load()

    slow.content, slow.changed = stored(FRAMES), 1
    ds = xr.open_dataset("slow://run.nd2", engine="nd2", cache=False)
    slow.lost = True
    with pytest.raises(ND2NotFoundError):
        ds.image.load()
    slow.content, slow.changed, slow.lost = stored(FRAMES + 1), 2, False
    with pytest.raises(ND2ChangedError):
        ds.image.load()


def test_folders_and_filesystems_of_another_loop(run: str, tmp_path: Path) -> None:
    (tmp_path / "run.nd2").write_bytes(stored(FRAMES))
    web = fsspec.filesystem("http", asynchronous=True, skip_instance_cache=True)
    for fs, path in (
        (DirFileSystem(str(tmp_path), fs=LocalFileSystem()), "run.nd2"),
        (DirFileSystem(run.rpartition("/")[0], fs=fsspec.filesystem("http")), "run.nd2"),
        (web, run),
    ):
        ds = xr.open_dataset(OpenFile(fs, path), engine="nd2")
        np.testing.assert_array_equal(ds.image.values, FRAMES)


def test_files_behind_one_path_are_told_apart() -> None:
    facts = ObjectFacts(4096, None, "Mon, 05 Oct 2026 10:00:00 GMT")
    url = "https://data.example.org/run?id={}"
    sources = [
        replace(ByteSource.of(url.format(number), {"headers": {"user": user}}), facts=facts)
        for number in (1, 2)
        for user in ("me", "you")
    ]
    assert len({source.identity for source in sources}) == 4
    assert sources[0].identity == replace(sources[0]).identity


async def test_slots_are_shared_by_all_callers() -> None:
    slots = Slots()
    taken: list[int] = []
    now = 0

    async def work(limit: int) -> None:
        nonlocal now
        async with slots.one(limit):
            now += 1
            taken.append(now)
            assert now <= limit
            await asyncio.sleep(0.001)
            now -= 1

    await asyncio.gather(*(work(5) for _ in range(40)), *(work(3) for _ in range(20)))
    assert max(taken) == 5
    assert now == 0


async def test_bytes_in_flight_are_bounded() -> None:
    slots = Slots()
    now = most = 0

    async def work(size: int) -> None:
        nonlocal now, most
        async with slots.one(64, size):
            now += size
            most = max(most, now)
            await asyncio.sleep(0.001)
            now -= size

    megabyte = 2**20
    await asyncio.gather(*(work(size * megabyte) for size in [3, 10, 1, 25] * 10), work(2**30))
    assert now == 0
    assert 32 * megabyte < most <= 2**30  # more than is allowed goes alone


async def test_slot_of_a_cancelled_caller_is_free_again() -> None:
    slots = Slots()

    async def hold() -> None:
        async with slots.one(1):
            await asyncio.sleep(60)

    tasks = [asyncio.create_task(hold()) for _ in range(3)]
    await asyncio.sleep(0)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    async with asyncio.timeout(1), slots.one(1):
        pass


async def test_threads_that_never_end_hold_up_no_other() -> None:
    stuck = threading.Event()
    waiting = [asyncio.ensure_future(in_read_thread(stuck.wait)) for _ in range(200)]
    assert await asyncio.wait_for(in_read_thread(lambda: 7), 60) == 7
    with pytest.raises(KeyError, match="which it raised"):
        await in_read_thread({}.__getitem__, "which it raised")
    stuck.set()
    assert all(await asyncio.gather(*waiting))


STUCK = """
import asyncio, threading
import fsspec.asyn
from xarray_nd2.io.process import in_read_thread

started = threading.Event()

def wait():
    started.set()
    threading.Event().wait()

asyncio.run_coroutine_threadsafe(in_read_thread(wait), fsspec.asyn.get_loop())
started.wait()
print("over")
"""


def test_threads_that_never_end_do_not_hold_up_the_end() -> None:
    done = subprocess.run(
        [sys.executable, "-c", STUCK], capture_output=True, text=True, timeout=120
    )
    assert (done.stdout, done.stderr, done.returncode) == ("over\n", "", 0)
