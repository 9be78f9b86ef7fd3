"""All that a process keeps for reading: connections, locks, threads, and what it learnt.

It is one object for each process id, so none of it survives a fork or is sent to another process.
"""

from __future__ import annotations

import asyncio
import functools
import os
import threading
import uuid
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeVar
from weakref import WeakKeyDictionary, finalize

from xarray_nd2.io.kept_maps import KeptMaps
from xarray_nd2.io.recorder import Recorder
from xarray_nd2.read.inflate import FrameCache
from xarray_nd2.read.kept_frames import KeptFrames
from xarray_nd2.read.link import DEFAULT_LINKS, LinkObserver

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator, Mapping

    from xarray_nd2.io.mounts import Mount

T = TypeVar("T")

MAX_CONCURRENCY: Final = 64
"""Requests in flight unless the caller says otherwise."""

MAX_BYTES_IN_FLIGHT: Final = 64 * 1024 * 1024  # several times what any link holds
MAX_CONNECTIONS: Final = 256
MAX_OBSERVED_LINKS: Final = 256
MAX_KNOWN_MOUNTS: Final = 4096  # folders of which it is known where they are mounted
MAX_CACHED_FRAME_BYTES: Final = 128 * 1024 * 1024
MAX_KEPT_FRAME_BYTES: Final = 2 * 1024 * 1024 * 1024  # of all files opened with `cache_bytes`


class Process:
    """What one process keeps.

    Attributes
    ----------
    connections : dict
        Transports by what `connection_key` says of their files; see `keep_connection`.
    connecting : KeyedLocks
        Held for a store while it is connected to, for the first time or again.
    filesystem_turns : mapping
        For each filesystem the semaphore of as many requests as it makes at once; of a synchronous
        one that is 1.
    decode_threads : ThreadPoolExecutor
        For decoding.
    frame_cache : FrameCache
        Inflated frames.
    kept_frames : KeptFrames
        Whole frames of files that were opened with `cache_bytes`.
    reading_frames : KeyedLocks
        Held for a frame while it is read to be kept, so that it is read once, and for a folder of
        frames while bytes are counted.
    maps : KeptMaps
        Of files on disks that were read a moment ago.
    mounts : dict
        Where folders and links are mounted, as far as that is known; see `keep_mount`.
    recorders : mapping of str to Recorder
        Of the traces that are on, by their names; see `start_recording`. It is replaced and never
        changed, so that it can be gone through at any time.
    stuck_locks : set
        Locks between processes that were waited for in vain, and are not waited for again.
    session_traces : mapping
        For each session of aiohttp what sees requests that it sends anew.
    token : str
        Tells this process from all others, on any machine.
    warned_of : set of str
        What was warned of once and is not to be warned of again.
    """

    def __init__(self) -> None:
        self.connections: dict[Hashable, Any] = {}
        self.connecting = KeyedLocks()
        self.filesystem_turns: WeakKeyDictionary[Any, asyncio.Semaphore] = WeakKeyDictionary()
        self.decode_threads = ThreadPoolExecutor(os.cpu_count(), "xarray-nd2-decode")
        self.frame_cache = FrameCache(MAX_CACHED_FRAME_BYTES)
        self.kept_frames = KeptFrames(MAX_KEPT_FRAME_BYTES)
        self.reading_frames = KeyedLocks()
        self.maps = KeptMaps()
        self.mounts: dict[str, Mount] = {}
        self.recorders: Mapping[str, Recorder] = {}
        self.stuck_locks: set[Hashable] = set()
        self.session_traces: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()
        self.token = uuid.uuid4().hex
        self.warned_of: set[str] = set()
        self._beside: dict[int, Any] = {}
        self._slots: WeakKeyDictionary[asyncio.AbstractEventLoop, Slots] = WeakKeyDictionary()
        self._observers = functools.lru_cache(MAX_OBSERVED_LINKS)(_new_observer)
        self._lock = threading.Lock()

    def slots(self, loop: asyncio.AbstractEventLoop) -> Slots:
        """Slots for requests on an event loop; all of fsspec's filesystems share one."""
        return self._slots.setdefault(loop, Slots())

    def observer(self, kind: str, host: str) -> LinkObserver:
        """Observer of the link of some kind to a host."""
        return self._observers(kind, host)

    def kept_beside(self, fs: Any, make: Callable[[], T]) -> T:
        """What goes with one filesystem, made when it is first asked for.

        Only the very same one has it: filesystems are equal that were made by the same arguments, at a
        time of other credentials. It must not hold the filesystem, with which it is let go of.
        """
        key = id(fs)
        with self._lock:
            if key not in self._beside:
                self._beside[key] = make()
                finalize(fs, self._beside.pop, key, None).atexit = False
            kept: T = self._beside[key]
        return kept

    def keep_connection(self, key: Hashable, connection: object) -> None:
        """Keep a connection for the next read, and forget the oldest of too many."""
        self._keep(self.connections, key, connection, MAX_CONNECTIONS)

    def keep_mount(self, path: str, mount: Mount) -> None:
        """Keep where a path is mounted, and forget the oldest of too many."""
        self._keep(self.mounts, path, mount, MAX_KNOWN_MOUNTS)

    def start_recording(self, name: str) -> Recorder:
        """Record for a trace; once, however many of its users are in this process."""
        with self._lock:
            recorder = self.recorders.get(name) or Recorder()
            recorder.users += 1
            self.recorders = {**self.recorders, name: recorder}
        return recorder

    def stop_recording(self, name: str) -> None:
        """Record no more for a trace, once all of its users have said so."""
        with self._lock:
            recorder = self.recorders.get(name)
            if recorder is None:
                return
            recorder.users -= 1
            if not recorder.users:
                recorder.end()
                self.recorders = {
                    other: kept for other, kept in self.recorders.items() if other != name
                }

    def _keep(self, kept: dict[Any, Any], key: Hashable, value: object, limit: int) -> None:
        with self._lock:
            kept[key] = value
            while len(kept) > limit:
                del kept[next(iter(kept))]


_processes: dict[int, Process] = {}


def this_process() -> Process:
    """What this process keeps; nothing at first, also after a fork."""
    pid = os.getpid()
    # What is a parent's stays where it is: to let go of it would close its connections.
    return _processes.get(pid) or _processes.setdefault(pid, Process())


def _new_observer(kind: str, host: str) -> LinkObserver:  # noqa: ARG001  (each host has its own)
    return LinkObserver(DEFAULT_LINKS[kind])


async def in_read_thread(function: Callable[..., T], *args: Any) -> T:
    """Run a blocking function in a thread of its own, as `start_read_thread` does."""
    return await asyncio.wrap_future(start_read_thread(function, *args))


def start_read_thread(function: Callable[..., T], *args: Any) -> Future[T]:
    """Begin to run a blocking function in a thread of its own.

    Threads of a pool would be used up by servers that never answer, and the end of the process
    would wait for them. How many there are is bounded by the requests in flight.
    """
    done: Future[T] = Future()

    def run() -> None:
        if done.set_running_or_notify_cancel():
            try:
                done.set_result(function(*args))
            except BaseException as error:  # noqa: BLE001  (raised where it is waited for)
                done.set_exception(error)

    threading.Thread(target=run, name="xarray-nd2-read", daemon=True).start()
    return done


@dataclass(eq=False, slots=True)
class _CountedLock:
    lock: threading.Lock = field(default_factory=threading.Lock)
    users: int = 0  # that hold it or wait for it


class KeyedLocks:
    """A lock for each key, there for as long as somebody holds it or waits for it."""

    def __init__(self) -> None:
        self._locks: dict[Hashable, _CountedLock] = {}
        self._guard = threading.Lock()

    def __len__(self) -> int:
        return len(self._locks)

    @contextmanager
    def holding(self, key: Hashable) -> Iterator[None]:
        """Hold the lock of a key."""
        with self._guard:
            counted = self._locks.setdefault(key, _CountedLock())
            counted.users += 1
        try:
            with counted.lock:
                yield
        finally:
            with self._guard:
                counted.users -= 1
                if not counted.users:
                    del self._locks[key]


class Slots:
    """Bounds the requests in flight, and the bytes that they may bring.

    The limit on requests is the caller's: whoever allows fewer waits until fewer are in flight.
    """

    def __init__(self) -> None:
        self._taken = 0
        self._bytes = 0
        self._waiting: deque[asyncio.Future[None]] = deque()

    def one(self, limit: int, size: int = 0) -> _Slot:
        """Context that holds a slot for `size` bytes, once fewer than `limit` are taken and they fit."""
        return _Slot(self, limit, size)

    async def take(self, limit: int, size: int) -> None:
        """Wait for a slot, and take it."""
        while self._taken >= limit or (self._taken and self._bytes + size > MAX_BYTES_IN_FLIGHT):
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

    def give_back(self, size: int) -> None:
        """Let others have a slot that was taken."""
        self._taken -= 1
        self._bytes -= size
        self._wake()

    def _wake(self) -> None:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return


class _Slot:
    """A slot, held inside of the context: one for every request, so no generator."""

    __slots__ = ("_limit", "_size", "_slots")

    def __init__(self, slots: Slots, limit: int, size: int) -> None:
        self._slots, self._limit, self._size = slots, limit, size

    async def __aenter__(self) -> None:
        await self._slots.take(self._limit, self._size)

    async def __aexit__(self, *_: object) -> None:
        self._slots.give_back(self._size)
