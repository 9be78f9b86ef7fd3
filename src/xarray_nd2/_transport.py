"""How one range of bytes is read from each kind of store.

A transport answers three questions about one object: what is it (`stat`), what are these bytes
(`read`), and what are its last bytes (`read_last`, where that is safe to ask before the size is
known). Stores that tell the object's size and entity tag with every answer pass them on. What is
at hand, a local file or an open one, is read directly in the calling thread instead.

Transports live in one process and are never sent to another; only `_source` uses them.
"""

from __future__ import annotations

import asyncio
import functools
import mmap
import os
import re
import stat
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol

import fsspec.asyn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

Bytes = bytes | bytearray | memoryview

_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)")
_READ_THREADS = 64
_SILENCE = 30.0  # seconds without a byte after which a request is given up
# Synchronous filesystems that several threads may use at once; of all others one read at a time.
_THREAD_SAFE = frozenset({"smb", "webdav", "webdavs", "dav", "davs", "webhdfs"})


@dataclass(frozen=True, slots=True)
class ObjectFacts:
    """What a store says of an object: its size in bytes, and a tag that changes with its content."""

    size: int
    etag: str | None


@dataclass(frozen=True, slots=True)
class Part:
    """Bytes of an object, where they start, and what the store said of the object with them."""

    start: int
    data: Bytes
    facts: ObjectFacts | None = None
    first_byte: float | None = None  # when it came, by time.monotonic


class BrokenOffError(OSError):
    """A body broke off; `received` are the bytes of it that did arrive."""

    def __init__(self, received: bytes) -> None:
        super().__init__(f"the connection broke after {len(received)} bytes")
        self.received = received


class StatusError(OSError):
    """The server answered with an HTTP status that is an error."""

    def __init__(self, status: int, reason: object) -> None:
        super().__init__(f"HTTP {status} {reason}")
        self.status = status


class RangeIgnoredError(OSError):
    """The store answers with the whole object whatever range is asked for."""


class Transport(Protocol):
    """One object of one store, read by coroutines on the event loop `loop`."""

    loop: asyncio.AbstractEventLoop
    kind: str  # of link, for a first estimate of what requests cost
    tells_facts: bool  # with every read, so that no `stat` is needed first
    limit: int | None  # reads at a time, where the store allows only so many

    async def stat(self) -> ObjectFacts: ...

    async def read(self, start: int, stop: int) -> Part: ...

    async def read_last(self, count: int) -> Part | None: ...


class LocalFile:
    """A file of this machine, mapped into memory for as long as it is read."""

    def __init__(self, path: str) -> None:
        self._path = Path(path)

    def stat(self) -> ObjectFacts:
        return self._facts(self._path.stat())

    @contextmanager
    def reader(self) -> Iterator[Callable[[int, int], memoryview]]:
        with self._path.open("rb", buffering=0) as file:
            size = self._facts(os.fstat(file.fileno())).size
            # An empty file cannot be mapped. The mapping outlives the file object and goes with
            # the last view of it.
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if size else b""
            view = memoryview(mapped)
        yield lambda start, stop: view[start:stop]

    def _facts(self, status: os.stat_result) -> ObjectFacts:
        if stat.S_ISDIR(status.st_mode):
            raise IsADirectoryError(f"{self._path} is a directory")
        return ObjectFacts(status.st_size, f"{status.st_ino:x}-{status.st_mtime_ns:x}")


class OpenFile:
    """An open binary file-like object; its one position is shared, so reads take turns."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[type[OpenFile], tuple[BinaryIO]]:
        return type(self), (self._file,)

    def stat(self) -> ObjectFacts:
        with self._lock:
            return ObjectFacts(self._file.seek(0, os.SEEK_END), None)

    @contextmanager
    def reader(self) -> Iterator[Callable[[int, int], bytes]]:
        def read(start: int, stop: int) -> bytes:
            self._file.seek(start)
            return self._file.read(stop - start)

        with self._lock:
            yield read


class MemoryFile:
    """A file of fsspec's in-memory filesystem."""

    def __init__(self, fs: Any, path: str) -> None:
        self._fs, self._path = fs, path

    def stat(self) -> ObjectFacts:
        return _facts_of_info(self._fs.info(self._path), self._path)

    @contextmanager
    def reader(self) -> Iterator[Callable[[int, int], bytes]]:
        yield lambda start, stop: self._fs.cat_file(self._path, start, stop)


DirectTransport = LocalFile | OpenFile | MemoryFile
"""What is at hand: ``reader()`` gives a function from (start, stop) to bytes."""


class HTTPTransport:
    """An object of an HTTP server, by the session of fsspec's filesystem.

    The filesystem's own `cat_file` would take a whole file for a range from a server that ignores
    ranges, and says nothing of size and tag, so the response is read here.
    """

    kind = "http"
    tells_facts = True
    limit: int | None = None

    def __init__(self, fs: Any, path: str) -> None:
        self._fs = fs
        self._url = fs.encode_url(path)
        self.loop = fs.loop

    async def stat(self) -> ObjectFacts:
        part = await self.read(0, 1)
        if part.facts is None:
            raise OSError("the server tells no size")
        return part.facts

    async def read(self, start: int, stop: int) -> Part:
        return await self._get(f"bytes={start}-{stop - 1}", start, stop - start)

    async def read_last(self, count: int) -> Part | None:
        return await self._get(f"bytes=-{count}", None, count)

    async def _get(self, range_header: str, start: int | None, count: int) -> Part:
        session = await self._fs.set_session()
        options = dict(self._fs.kwargs)
        # Encoded bytes have no ranges.
        headers = options.pop("headers", {}) | {
            "Range": range_header,
            "Accept-Encoding": "identity",
        }
        if "timeout" not in options and "timeout" not in self._fs.client_kwargs:
            options["timeout"] = _http_timeout()
        received = bytearray()
        try:
            async with session.get(self._url, headers=headers, **options) as response:
                _check_status(response.status, response.reason)
                first_byte = time.monotonic()
                begin, facts = self._placed(response, start, count)
                async for block in response.content.iter_any():
                    received += block
        except _connection_errors() as error:
            if received:
                raise BrokenOffError(bytes(received)) from error
            raise
        return Part(begin, received, facts, first_byte)

    def _placed(self, response: Any, start: int | None, count: int) -> tuple[int, ObjectFacts]:
        """Where the body of a response starts, and the facts its headers tell."""
        etag = response.headers.get("ETag") or response.headers.get("Last-Modified")
        if response.status == 200:
            # The whole object: fine if that is no more than was asked for.
            length = response.content_length
            if length is None or length > count or start not in (0, None):
                raise RangeIgnoredError("the server ignores Range requests")
            return 0, ObjectFacts(length, etag)
        placed = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
        if placed is None or (start is not None and int(placed[1]) != start):
            raise RangeIgnoredError("the server answers with another range than was asked for")
        return int(placed[1]), ObjectFacts(int(placed[3]), etag)


def _check_status(status: int, reason: object) -> None:
    if status in (404, 410):
        raise FileNotFoundError(f"HTTP {status} {reason}")
    if status in (401, 403):
        raise PermissionError(f"HTTP {status} {reason}")
    if status not in (200, 206):
        raise StatusError(status, reason)


@functools.cache
def _http_timeout() -> Any:
    import aiohttp

    # No limit on the whole, since ranges differ in size, but a silent server is given up.
    return aiohttp.ClientTimeout(total=None, sock_connect=_SILENCE, sock_read=_SILENCE)


@functools.cache
def _connection_errors() -> tuple[type[Exception], ...]:
    import aiohttp

    return (
        aiohttp.ClientConnectionError,
        aiohttp.ClientPayloadError,
        ConnectionError,
        TimeoutError,
    )


class S3Transport:
    """An object of an S3 store, by s3fs; every answer tells the object's size and entity tag."""

    kind = "s3"
    tells_facts = True
    limit: int | None = None

    def __init__(self, fs: Any, path: str) -> None:
        self._fs = fs
        self._bucket, self._key, self._version = fs.split_path(path)
        self.loop = fs.loop

    async def stat(self) -> ObjectFacts:
        part = await self.read(0, 1)
        assert part.facts is not None
        return part.facts

    async def read(self, start: int, stop: int) -> Part:
        return await self._get(f"bytes={start}-{stop - 1}", stop - start)

    async def read_last(self, count: int) -> Part | None:
        return await self._get(f"bytes=-{count}", count)

    async def _get(self, range_header: str, count: int) -> Part:
        version = {"VersionId": self._version} if self._version else {}
        response = await self._fs._call_s3(  # noqa: SLF001  (its cat_file drops the headers)
            "get_object", Bucket=self._bucket, Key=self._key, Range=range_header, **version
        )
        first_byte = time.monotonic()
        placed = _CONTENT_RANGE.fullmatch(response.get("ContentRange", ""))
        total = int(placed[3]) if placed else int(response["ContentLength"])
        async with response["Body"] as body:
            if not placed and total > count:
                raise RangeIgnoredError("the store ignores Range requests")
            data = await body.read()
        facts = ObjectFacts(total, response.get("ETag"))
        return Part(int(placed[1]) if placed else 0, data, facts, first_byte)


class AsyncTransport:
    """A file of any other asynchronous fsspec filesystem."""

    kind = "other"
    tells_facts = False
    limit: int | None = None

    def __init__(self, fs: Any, path: str) -> None:
        self._fs, self._path = fs, path
        self.loop = fs.loop

    async def stat(self) -> ObjectFacts:
        return _facts_of_info(await self._fs._info(self._path), self._path)  # noqa: SLF001

    async def read(self, start: int, stop: int) -> Part:
        return Part(start, await self._fs._cat_file(self._path, start=start, end=stop))  # noqa: SLF001

    async def read_last(self, count: int) -> Part | None:  # noqa: ARG002
        # Some refuse a suffix range and some answer it with other bytes.
        return None


class ThreadTransport:
    """A file of a synchronous fsspec filesystem, read in threads."""

    kind = "other"
    tells_facts = False

    def __init__(self, fs: Any, path: str) -> None:
        self._fs, self._path = fs, path
        self.loop = fsspec.asyn.get_loop()
        protocol = {fs.protocol} if isinstance(fs.protocol, str) else set(fs.protocol)
        self.limit: int | None = None if protocol & _THREAD_SAFE else 1
        self._turn = asyncio.Semaphore(self.limit or _READ_THREADS)

    async def stat(self) -> ObjectFacts:
        return _facts_of_info(await self._run(self._fs.info, self._path), self._path)

    async def read(self, start: int, stop: int) -> Part:
        return Part(start, await self._run(self._fs.cat_file, self._path, start, stop))

    async def read_last(self, count: int) -> Part | None:  # noqa: ARG002
        return None

    async def _run(self, function: Callable[..., Any], *args: Any) -> Any:
        async with self._turn:
            return await self.loop.run_in_executor(_read_threads(os.getpid()), function, *args)


@functools.cache
def _read_threads(pid: int) -> ThreadPoolExecutor:  # noqa: ARG001  (a fork has none of its threads)
    return ThreadPoolExecutor(_READ_THREADS, thread_name_prefix="xarray-nd2-read")


def _facts_of_info(info: Mapping[str, Any], path: str) -> ObjectFacts:
    if info.get("type") == "directory":
        raise IsADirectoryError(f"{path} is a directory")
    size = info.get("size")
    if size is None:
        raise OSError("the store does not tell the size of the file")
    for key in ("ETag", "etag", "md5", "content_md5", "mtime", "created", "last_modified"):
        if info.get(key):
            return ObjectFacts(int(size), str(info[key]))
    return ObjectFacts(int(size), None)


def transport_for(fs: Any, path: str) -> Transport | DirectTransport:
    """Choose how to read `path` of an fsspec filesystem."""
    protocols = {fs.protocol} if isinstance(fs.protocol, str) else set(fs.protocol)
    # Not isinstance: a caching filesystem passes for the one it caches.
    kind = type(fs)
    if "file" in protocols and not protocols & {"simplecache", "filecache", "blockcache"}:
        return LocalFile(path)
    if "memory" in protocols:
        return MemoryFile(fs, path)
    if not issubclass(kind, fsspec.asyn.AsyncFileSystem):
        return ThreadTransport(fs, path)
    if "http" in protocols:
        return HTTPTransport(fs, path)
    if "s3" in protocols:
        return S3Transport(fs, path)
    return AsyncTransport(fs, path)
