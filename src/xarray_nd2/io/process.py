"""What a process keeps of the stores it reads from: connections, threads, and what it learnt.

None of it is ever sent to another process, and none of it survives a fork: everything is kept by
process id and made anew when it is first needed.
"""

from __future__ import annotations

import asyncio
import functools
import os
import threading
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, TypeVar

import fsspec
import fsspec.utils

from xarray_nd2.io.transport import DirectTransport, LocalFile, OpenFile, transport_for
from xarray_nd2.io.urls import host_of, is_local, local_path
from xarray_nd2.read.inflate import FrameCache
from xarray_nd2.read.link import DEFAULT_LINKS, LinkObserver

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine, Mapping

    from xarray_nd2.io.transport import Transport

T = TypeVar("T")

MAX_CONCURRENCY = 64
"""Requests in flight unless the caller says otherwise."""

_IN_FLIGHT = 64 * 1024 * 1024  # bytes asked for at a time: several times what any link holds
_MOST_CONNECTIONS = 256
_FRAME_CACHE = 128 * 1024 * 1024  # bytes


@functools.lru_cache(maxsize=256)
def observer(pid: int, kind: str, host: str) -> LinkObserver:  # noqa: ARG001  (each its own)
    """What this process has learnt of the link to a host."""
    return LinkObserver(DEFAULT_LINKS[kind])


@functools.cache
def frame_cache(pid: int) -> FrameCache:  # noqa: ARG001  (each its own)
    """Inflated frames that this process keeps."""
    return FrameCache(_FRAME_CACHE)


@functools.cache
def slots(pid: int, loop: asyncio.AbstractEventLoop) -> Slots:  # noqa: ARG001  (each its own)
    """Requests in flight on one event loop; all of fsspec's filesystems share one."""
    return Slots()


class Slots:
    """Bounds the requests in flight, and the bytes that they may bring.

    The limit on requests is the caller's: whoever allows fewer waits until fewer are in flight.
    """

    def __init__(self) -> None:
        self._taken = 0
        self._bytes = 0
        self._waiting: deque[asyncio.Future[None]] = deque()

    @asynccontextmanager
    async def one(self, limit: int, size: int = 0) -> AsyncIterator[None]:
        """Hold a slot for `size` bytes, once fewer than `limit` are taken and the bytes fit."""
        while self._taken >= limit or (self._taken and self._bytes + size > _IN_FLIGHT):
            turn = asyncio.get_running_loop().create_future()
            self._waiting.append(turn)
            try:
                await turn
            except asyncio.CancelledError:
                if not turn.cancelled():
                    self._wake()  # it was this one's turn: pass it on
                raise
        self._taken += 1
        self._bytes += size
        self._wake()  # there may be room for more than one
        try:
            yield
        finally:
            self._taken -= 1
            self._bytes -= size
            self._wake()

    def _wake(self) -> None:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return


@functools.cache
def decode_threads(pid: int) -> ThreadPoolExecutor:  # noqa: ARG001  (a fork has none of its threads)
    """Threads that decode."""
    return ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="xarray-nd2-decode")


_connections: dict[Any, Transport | DirectTransport] = {}
_connecting: dict[Any, threading.Lock] = {}  # one for each store, so that none waits for another

if hasattr(os, "register_at_fork"):
    # What a thread of the parent held is never released here.
    os.register_at_fork(after_in_child=_connecting.clear)


def connect(
    target: str | tuple[Any, str] | OpenFile, storage_options: Mapping[str, Any]
) -> Transport | DirectTransport:
    """Transport of a target, one for each process and file."""
    if isinstance(target, OpenFile):
        return target
    if isinstance(target, str) and is_local(target):
        return LocalFile(local_path(target))
    key = connection_key(target, storage_options)
    connected = _connections.get(key)
    if connected is None:
        store = (host_of(target) if isinstance(target, str) else target[0], *key[2:])
        with _connecting.setdefault(store, threading.Lock()):
            try:
                connected = _connections.get(key) or _new_connection(target, storage_options)
            finally:
                _connecting.pop(store, None)
            _connections[key] = connected
        with suppress(RuntimeError):  # another thread connected just then
            while len(_connections) > _MOST_CONNECTIONS:
                _connections.pop(next(iter(_connections)), None)
    return connected


def connection_key(
    target: str | tuple[Any, str], storage_options: Mapping[str, Any]
) -> tuple[Any, ...]:
    """What tells a file and the way to it from all others, in this process."""
    if isinstance(target, tuple):
        return os.getpid(), *target
    return os.getpid(), target, fsspec.utils.tokenize(storage_options)


def _new_connection(
    target: str | tuple[Any, str], storage_options: Mapping[str, Any]
) -> Transport | DirectTransport:
    if isinstance(target, tuple):
        fs, path = target
        if getattr(fs, "_pid", os.getpid()) != os.getpid() or getattr(fs, "asynchronous", False):
            # It belongs to the process that this one was forked from, or to its user's event loop.
            options = fs.storage_options | ({"asynchronous": False} if fs.async_impl else {})
            fs = type(fs)(*fs.storage_args, **options)
        return transport_for(fs, path)
    fs, path = fsspec.core.url_to_fs(target, **_with_connections(target, storage_options))
    if isinstance(getattr(fs, "retries", None), int):
        fs.retries = 1  # s3fs; who calls it tries again, and not for minutes
    return transport_for(fs, path)


def _with_connections(url: str, storage_options: Mapping[str, Any]) -> dict[str, Any]:
    """Options for S3: as many connections as requests, where botocore's default would allow 10.

    Its client makes one attempt unless the user says otherwise, since who calls it tries again.
    """
    options = dict(storage_options)
    if url.startswith(("s3://", "s3a://")):
        ours = {"max_pool_connections": MAX_CONCURRENCY, "retries": {"total_max_attempts": 1}}
        options["config_kwargs"] = ours | options.get("config_kwargs", {})
    return options


def wait_for(loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine on the I/O loop of another thread and wait for it."""
    with suppress(RuntimeError):
        if asyncio.get_running_loop() is loop:
            work.close()
            raise AssertionError("a blocking read on the event loop that would have to do it")
    future = asyncio.run_coroutine_threadsafe(work, loop)
    try:
        return future.result()
    finally:
        future.cancel()  # when this thread was interrupted while it waited
