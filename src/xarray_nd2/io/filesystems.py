"""Reading ranges of files by fsspec's filesystems, where nothing better is known of the store.

Answers to reads tell nothing of the file there, so the filesystem is asked for that apart.
"""

from __future__ import annotations

import asyncio
import os
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar

import fsspec.asyn
from fsspec.archive import AbstractArchiveFileSystem
from fsspec.implementations.cached import CachingFileSystem

from xarray_nd2.io.open_while_read import OpenWhileRead
from xarray_nd2.io.patience import Patience
from xarray_nd2.io.process import in_read_thread, this_process
from xarray_nd2.io.transport import FileTransport, unattended_task
from xarray_nd2.io.watch import watch_of
from xarray_nd2.read.coalesce import in_batches

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from xarray_nd2.io.watch import NoWatch

T = TypeVar("T")

MAX_RECONNECTIONS: Final = 3  # in a row, for other threads may just have made one more
MAX_QUEUED_READ_BYTES: Final = 8 * 1024 * 1024  # asked for at once by a queue of reads
MAX_SHARE_READ_BYTES: Final = 1024 * 1024  # of one request to a Windows share


class AsyncTransport(FileTransport):
    """A file of an asynchronous filesystem."""

    def __init__(self, fs: Any, path: str) -> None:
        super().__init__(fs, path)
        self.loop = fs.loop

    # The coroutines of fsspec's interface for asynchronous filesystems have underscores; each is
    # documented for use on the filesystem's own loop, where `cat_file` and `info` would block.

    async def _read(self, start: int, stop: int, patience: Patience) -> bytes:
        with watch_of(patience, start, stop) as watch:
            async with patience.attempt(unseen_bytes=stop - start):
                watch.begin()
                data: bytes = await self._fs._cat_file(  # noqa: SLF001
                    self._path, start=start, end=stop
                )
                watch.receives(lambda: len(data))
        return data

    async def _info(self, patience: Patience) -> Any:
        self._fs.invalidate_cache(self._path)
        with watch_of(patience) as watch:
            async with patience.attempt():
                watch.begin()
                return await self._fs._info(self._path)  # noqa: SLF001


class _BlockingTransport(FileTransport):
    """A file of a filesystem that blocks, which is used in threads and may lose its connection."""

    def __init__(self, fs: Any, path: str) -> None:
        super().__init__(fs, path)
        self.loop = fsspec.asyn.get_loop()

    def _connected(self, function: Callable[[], T]) -> T:
        """Call a function of the filesystem, again if its connection was lost.

        fsspec keeps a filesystem for as long as the process runs, and servers close connections
        that are idle.
        """
        for _ in range(MAX_RECONNECTIONS):
            try:
                return function()
            except Exception as error:
                answer = _builtin_error(error)
                if answer is not None:
                    raise answer from error
                with this_process().connecting.holding(self._fs):
                    connected = self._connect_again(error)
                if not connected or isinstance(error, TimeoutError):
                    raise  # who asked for it tries again, if there is time after a silence
        return function()

    def _connect_again(self, error: Exception) -> bool:  # noqa: ARG002
        """Connect again if the connection was lost, and tell whether it was."""
        return False


def _builtin_error(error: Exception) -> OSError | None:
    """The built-in error for an error number, where a library has one class for all numbers."""
    if not isinstance(error, OSError):
        return None
    builtin = OSError(error.errno or 0, error.strerror)
    return None if type(builtin) is OSError or isinstance(error, type(builtin)) else builtin


@dataclass(eq=False, slots=True)
class _Asked:
    """A read that waits in a queue for its turn."""

    start: int
    stop: int
    result: asyncio.Future[bytes | Exception]
    watch: NoWatch
    began: float = 0.0  # when it was its turn


class QueueTransport(_BlockingTransport):
    """A file of a synchronous filesystem, used by one thread at a time.

    Hardly any of them may be used by two threads: SFTP's hangs, those of archives and caches share
    one position. So reads queue, and what has queued up is read in one go from one open file.
    """

    def __init__(self, fs: Any, path: str) -> None:
        super().__init__(fs, path)
        self._turn = this_process().filesystem_turns.setdefault(fs, asyncio.Semaphore(1))
        self._queue: list[_Asked] = []
        self._draining: asyncio.Task[None] | None = None
        self._described = False
        self._max_silence_seconds = Patience().attempt_seconds

    async def _read(self, start: int, stop: int, patience: Patience) -> bytes:
        # No attempt is begun here: a cache may have all of a large file to download.
        self._max_silence_seconds = patience.attempt_seconds
        with watch_of(patience, start, stop) as watch:
            asked = _Asked(start, stop, self.loop.create_future(), watch)
            self._queue.append(asked)
            if self._draining is None or self._draining.done():
                self._draining = unattended_task(self.loop, self._drain())
            result = await asked.result
            if isinstance(result, Exception):
                patience.spend(time.monotonic() - asked.began)
                raise result
            watch.receives(lambda: len(result))
            return result

    async def _drain(self) -> None:
        # No reader does it, for one that is cancelled must not take others along.
        while self._queue:
            async with self._turn:
                await asyncio.sleep(0)  # for those to queue up that are asked at the same time
                queue, self._queue = self._queue, []
                await self._answer(sorted(queue, key=lambda asked: asked.start))

    async def _answer(self, queue: list[_Asked]) -> None:
        ranges = [(asked.start, asked.stop) for asked in queue]
        for asked in queue:
            asked.began = time.monotonic()
            asked.watch.begin()
        results: list[bytes | Exception]
        try:
            results = await in_read_thread(
                self._connected, lambda: list(self._read_in_order(ranges))
            )
        except Exception as error:  # noqa: BLE001  (raised where each is waited for)
            results = [error] * len(queue)
        for asked, result in zip(queue, results, strict=True):
            if not asked.result.done():  # nobody waits any more
                asked.result.set_result(result)

    def _read_in_order(self, ranges: list[tuple[int, int]]) -> Iterator[bytes]:
        with self._open() as file:
            if hasattr(file, "readv"):
                for batch in in_batches(ranges, MAX_QUEUED_READ_BYTES):
                    # SFTP: sends all requests before it waits for the first answer.
                    yield from file.readv([(start, stop - start) for start, stop in batch])
            else:
                for start, stop in ranges:
                    file.seek(start)
                    yield file.read(stop - start)

    @contextmanager
    def _open(self) -> Iterator[Any]:
        """The file, open; what goes wrong behind a cache is told by the store."""
        opened = False
        try:
            with self._fs.open(self._path, "rb") as file:
                opened = True
                yield file
        except Exception as error:
            if not issubclass(type(self._fs), CachingFileSystem):
                raise
            with suppress(Exception):
                # A cache of blocks counts one that it could not fetch as there, full of zeros.
                self._fs.pop_from_cache(self._path)
            self._fs.fs.info(self._path)
            if isinstance(error, OSError) or not opened:
                raise
            # Of whatever kind: it takes an error that it was given for bytes.
            raise ConnectionError(f"the cache could not fetch a part: {error}") from error

    def _connected(self, function: Callable[[], T]) -> T:
        def in_limited_silence() -> T:
            if hasattr(self._fs, "ftp"):  # as SFTP has it
                self._fs.ftp.get_channel().settimeout(self._max_silence_seconds)
            return function()

        return super()._connected(in_limited_silence)

    async def _info(self, patience: Patience) -> Any:
        async with self._turn:
            began = time.monotonic()
            try:
                with watch_of(patience) as watch:
                    watch.begin()
                    return await in_read_thread(self._connected, self._describe)
            except Exception:
                patience.spend(time.monotonic() - began)
                raise

    def _describe(self) -> Any:
        if issubclass(type(self._fs), AbstractArchiveFileSystem):
            if self._described:
                # It was read when the filesystem was made, which is not made again by itself.
                self._fs = type(self._fs)(*self._fs.storage_args, **self._fs.storage_options)
            self._described = True
            info = self._fs.info(self._path)
            return {**info, "etag": info.get("CRC")}
        if issubclass(type(self._fs), CachingFileSystem):
            # What is in the cache, rather than what is in the store by now; a cache of blocks
            # tells of the object that it takes them from.
            with self._open() as file:
                details = getattr(file, "details", None) or {}
                return {**details, "size": file.seek(0, os.SEEK_END)}
        return self._fs.info(self._path)

    def _connect_again(self, error: Exception) -> bool:
        ssh: Any = getattr(self._fs, "client", None)
        if not hasattr(ssh, "get_transport"):
            return False
        connection = ssh.get_transport()
        if isinstance(error, TimeoutError) and connection is not None:
            connection.close()  # what it was about to say would be taken for the next answer
        elif connection is not None and connection.is_active():
            return False
        # Until fsspec has a public way to connect again.
        self._fs._connect()  # noqa: SLF001
        return True


class SMBTransport(_BlockingTransport):
    """A file of a Windows share: reads in threads, from one open file.

    Opening and closing it for each range would take three requests instead of one.
    """

    def __init__(self, fs: Any, path: str) -> None:
        super().__init__(fs, path)
        self._file = OpenWhileRead(lambda: self._connected(self._open))

    async def _read(self, start: int, stop: int, patience: Patience) -> bytes:
        with watch_of(patience, start, stop) as watch:
            async with patience.attempt(unseen_bytes=stop - start), self._file.opened() as file:
                watch.begin()
                data = await in_read_thread(_read_share, file, start, stop)
                watch.receives(lambda: len(data))
        return data

    def _open(self) -> Any:
        # Unless told otherwise, others may read, write and delete it meanwhile: without that, a
        # second handle is refused, even to another thread or worker that reads.
        share_access = self._fs.share_access or "rwd"
        return self._fs.open(self._path, "rb", block_size=0, share_access=share_access)

    async def _info(self, patience: Patience) -> Any:
        with watch_of(patience) as watch:
            async with patience.attempt():
                watch.begin()
                return await in_read_thread(self._connected, lambda: self._fs.info(self._path))

    def _connect_again(self, error: Exception) -> bool:
        from smbprotocol.exceptions import SMBException, SMBOSError, SMBResponseException

        if isinstance(error, (SMBOSError, SMBResponseException)):
            return False  # an answer of the server
        if not isinstance(error, (SMBException, OSError)):
            return False
        # Until fsspec has a public way to connect again.
        self._fs._connect()  # noqa: SLF001
        return True


def _read_share(file: Any, start: int, stop: int) -> bytes:
    from smbprotocol.exceptions import EndOfFile, SMBException

    handle, data = file.fd, bytearray()
    while start + len(data) < stop:
        at = start + len(data)
        size = min(MAX_SHARE_READ_BYTES, handle.connection.max_read_size, stop - at)
        try:
            data += handle.read(at, size)
        except EndOfFile:
            break
        except SMBException as error:
            # The server bounds what is under way; it allows more when that has arrived.
            if "credits are available" not in str(error):
                raise
            time.sleep(0.005)
    return bytes(data)
