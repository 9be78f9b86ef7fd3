"""How one range of bytes is read from each kind of store.

A transport answers three questions about one object: what is it (`stat`), what are these bytes
(`read`), and what are its last bytes (`read_last`, where that is safe to ask before the size is
known). Stores that tell the object's size and entity tag with every answer pass them on; the others are asked for them apart.

This module has what is common to all transports, and those for what is at hand: a local file or an
open one is read directly in the calling thread. The others are in `_transport_http`,
`_transport_cloud` and `_transport_files`.

Transports live in one process and are never sent to another; only `_source` uses them.
"""

from __future__ import annotations

import mmap
import os
import stat
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol

import fsspec.asyn
from fsspec.implementations.dirfs import DirFileSystem

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterator, Mapping

Bytes = bytes | bytearray | memoryview

_MOST_BYTES = 2**60  # in an object


@dataclass(frozen=True, slots=True)
class ObjectFacts:
    """What a store says of an object.

    Attributes
    ----------
    size : int
        Bytes.
    etag : str or None
        A tag that changes with the content, without the mark of a weak one: only whether two are
        equal matters here, and one answer of a store may be marked where another is not.
    modified : str or None
        When it was changed last, in the words of the store.
    """

    size: int
    etag: str | None
    modified: str | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.size < _MOST_BYTES:
            raise OSError(f"the store tells an impossible size: {self.size}")

    @property
    def version(self) -> str | None:
        """What tells the content from what was there before and may come after."""
        return self.etag or self.modified

    def agrees(self, other: ObjectFacts) -> bool:
        """Whether both may be of the same content; only what both know is compared."""
        if self.size != other.size:
            return False
        if self.etag and other.etag:
            return self.etag == other.etag
        return not (self.modified and other.modified) or self.modified == other.modified


@dataclass(frozen=True, slots=True)
class Part:
    """Bytes of an object, where they start, and what the store said of the object with them."""

    start: int
    data: Bytes
    facts: ObjectFacts | None = None
    first_byte: float | None = None  # when it came, by time.monotonic


class BrokenOffError(OSError):
    """A body broke off; `received` is the part of it that did arrive."""

    def __init__(self, received: Part) -> None:
        super().__init__(f"the connection broke after {len(received.data)} bytes")
        self.received = received


class StatusError(OSError):
    """The server answered with an HTTP status that is an error.

    Parameters
    ----------
    status : int
        Of the answer.
    reason : object
        The server's words.
    headers : mapping
        Of the answer.
    """

    def __init__(
        self, status: int, reason: object, headers: Mapping[str, str] = MappingProxyType({})
    ) -> None:
        super().__init__(f"HTTP {status} {reason}")
        self.status = status
        self.headers = headers


class RangeIgnoredError(OSError):
    """The store answers with something else than the range that was asked for.

    Parameters
    ----------
    message : str
        What it answers with.
    passing : bool
        Whether it answered with ranges before, so that this may be one answer that went wrong.
    """

    def __init__(self, message: str, *, passing: bool = False) -> None:
        super().__init__(message)
        self.passing = passing


class Transport(Protocol):
    """One object of one store, read by coroutines on the event loop `loop`."""

    loop: asyncio.AbstractEventLoop
    kind: str  # of link, for a first estimate of what requests cost
    tells_facts: bool  # with every read, so that no `stat` is needed first
    limit: int | None  # reads at a time, where the store allows only so many

    async def stat(self) -> ObjectFacts:
        """Ask what the object is; the file is being opened, now or again."""

    async def read(self, start: int, stop: int, pinned: ObjectFacts | None = None, /) -> Part:
        """Read a range that is not empty, of the object that was opened if it is `pinned`."""

    async def read_last(self, count: int) -> Part | None:
        """Read the end; None where that is not safe."""

    async def confirm(self) -> ObjectFacts | None:
        """Facts to compare before pixels are read; None where every answer tells them.

        The store is asked once in each process and opening of a file, by the first of its reads.
        """


class LocalFile:
    """A file of this machine, mapped into memory for as long as it is read."""

    def __init__(self, path: str) -> None:
        self._path = Path(path)

    def stat(self) -> ObjectFacts:
        return self._facts(self._path.stat())

    @contextmanager
    def reader(self) -> Iterator[Callable[[int, int], Bytes]]:
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
        if not stat.S_ISREG(status.st_mode):  # to open a pipe would wait for somebody to write
            raise OSError(f"{self._path} is not an ordinary file")
        return ObjectFacts(status.st_size, f"{status.st_ino:x}-{status.st_mtime_ns:x}")


class OpenFile:
    """An open binary file-like object; its one position is shared, so reads take turns."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[type[OpenFile], tuple[Any]]:
        return type(self), (self._file,)

    def stat(self) -> ObjectFacts:
        with self._lock:
            self._file.seek(0, os.SEEK_END)
            return ObjectFacts(self._file.tell(), None)

    @contextmanager
    def reader(self) -> Iterator[Callable[[int, int], Bytes]]:
        def read(start: int, stop: int) -> bytes:
            self._file.seek(start)
            part = self._file.read(stop - start)
            if isinstance(part, str):  # of a file that does not tell so
                raise TypeError("it is open in text mode")
            data: bytes = part
            while data and len(data) < stop - start:  # a raw file may give less than it has
                more = self._file.read(stop - start - len(data))
                if not more:
                    break
                data += more
            return data

        with self._lock:
            yield read


class MemoryFile:
    """A file of fsspec's in-memory filesystem."""

    def __init__(self, fs: Any, path: str) -> None:
        self._fs, self._path = fs, path

    def stat(self) -> ObjectFacts:
        return facts_of_info(self._fs.info(self._path), self._path)

    @contextmanager
    def reader(self) -> Iterator[Callable[[int, int], Bytes]]:
        yield lambda start, stop: self._fs.cat_file(self._path, start, stop)


DirectTransport = LocalFile | OpenFile | MemoryFile
"""What is at hand: ``reader()`` gives a function from (start, stop) to bytes."""


def facts_of_info(info: Mapping[str, Any], path: str) -> ObjectFacts:
    """Facts in the description that a filesystem gives of a file."""
    if info.get("type") == "directory":
        raise IsADirectoryError(f"{path} is a directory")
    size = info.get("size")
    if size is None:
        raise OSError("the store does not tell the size of the file")
    keys = ("ETag", "etag", "md5", "mtime", "modified", "created", "last_modified")
    version = next((str(info[key]) for key in keys if info.get(key)), None)
    return ObjectFacts(int(size), version)


def transport_for(fs: Any, path: str) -> Transport | DirectTransport:
    """Choose how to read `path` of an fsspec filesystem."""
    # Here, for they take their words from this module, and none is needed for a local file.
    from xarray_nd2.io import cloud, http
    from xarray_nd2.io import filesystems as files

    if type(fs) is DirFileSystem:
        return transport_for(fs.fs, fs._join(path))  # noqa: SLF001
    protocols = {fs.protocol} if isinstance(fs.protocol, str) else set(fs.protocol)
    # Not isinstance: a caching filesystem passes for the one it caches.
    if issubclass(type(fs), fsspec.asyn.AsyncFileSystem):
        known: dict[str, Callable[[Any, str], Transport | DirectTransport]] = {
            "http": http.HTTPTransport,
            "s3": cloud.S3Transport,
            "gs": cloud.GCSTransport,
            "abfs": cloud.AzureTransport,
        }
        other: Callable[[Any, str], Transport] = files.AsyncTransport
    else:
        known = {
            "file": lambda _, path: LocalFile(path),
            "memory": MemoryFile,
            "smb": files.SMBTransport,
            "webdav": http.WebDAVTransport,
        }
        other = files.QueueTransport
    kinds = [kind for protocol, kind in known.items() if protocol in protocols]
    return (kinds or [other])[0](fs, path)
