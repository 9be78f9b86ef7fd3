"""A server of files and objects over HTTP on loopback, with byte ranges and versions."""

from __future__ import annotations

import hashlib
import stat
import time
from dataclasses import dataclass
from email.utils import formatdate
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING
from urllib.parse import quote

from xarray_nd2.testing.answers import Answer
from xarray_nd2.testing.loopback import Loopback

if TYPE_CHECKING:
    import os

    from xarray_nd2.testing.answers import Asked
    from xarray_nd2.testing.faults import FaultOfRequest


class RangeServer(Loopback):
    """Serve the files of a folder, and objects put into memory, over HTTP on loopback.

    Parameters
    ----------
    folder : path, optional
        Files to serve; without it only what `put` adds.
    latency : float
        Seconds before each answer.
    bandwidth : float or None
        Bytes per second, shared by all connections; None for no limit.
    faults : callable, optional
        ``faults(number, method, path, range)`` gives the `Fault` of a request, or None; numbers
        count from 1 since the attribute was set last.

    Examples
    --------
    >>> import urllib.request
    >>> with RangeServer() as server:
    ...     server.put("run.nd2", b"0123456789")
    ...     request = urllib.request.Request(server.url("run.nd2"), headers={"Range": "bytes=2-4"})
    ...     with urllib.request.urlopen(request) as response:
    ...         print(response.read(), server.log.requests, server.log.bytes)
    b'234' 1 3
    """

    def __init__(
        self,
        folder: str | os.PathLike[str] | None = None,
        *,
        latency: float = 0.0,
        bandwidth: float | None = None,
        faults: FaultOfRequest | None = None,
    ) -> None:
        super().__init__(latency=latency, bandwidth=bandwidth, faults=faults)
        self._folder = None if folder is None else Path(folder)
        self._objects: dict[str, _ServedObject] = {}

    def url(self, name: str) -> str:
        """URL of a file or object."""
        return f"{self.endpoint_url}/{quote(name)}"

    def put(self, name: str, data: bytes) -> None:
        """Serve `data` under a name; it replaces an object or hides a file of that name."""
        tag = hashlib.sha256(data).hexdigest()[:32]
        self._objects[name] = _ServedObject(memoryview(data), f'"{tag}"', time.time())

    def size_of(self, path: str) -> int | None:
        """Bytes of the object at a path; None if there is none."""
        found = self._find_object(path)
        return None if found is None else len(found.content)

    def answer(self, asked: Asked) -> Answer:
        """Answer GET and HEAD: 200, 206, 404, 412 (another version than asked for) or 416."""
        if asked.method not in ("GET", "HEAD"):
            return Answer(405, [("Allow", "GET, HEAD")])
        found = self._find_object(asked.path)
        if found is None:
            return Answer(404)
        size = len(found.content)
        headers = [
            ("Accept-Ranges", "bytes"),
            ("ETag", found.etag),
            ("Last-Modified", formatdate(found.modified, usegmt=True)),
        ]
        if asked.headers.get("if-match", "*") not in ("*", found.etag):
            return Answer(412, headers)
        if asked.range is None:
            return Answer(200, headers, found.content)
        start, stop = asked.range
        if start >= size:
            return Answer(416, [*headers, ("Content-Range", f"bytes */{size}")])
        headers.append(("Content-Range", f"bytes {start}-{stop - 1}/{size}"))
        content = found.content
        body = (
            content[start:stop]
            if isinstance(content, memoryview)
            else content.subrange(start, stop)
        )
        return Answer(206, headers, body)

    def _find_object(self, path: str) -> _ServedObject | None:
        """Object or regular file at a path; None if there is none, or outside the folder."""
        name = path.lstrip("/")
        if name in self._objects:
            return self._objects[name]
        if self._folder is None or ".." in PurePosixPath(name).parts:
            return None
        file = self._folder / name
        try:
            status = file.stat()
        except (OSError, ValueError):
            return None
        if not stat.S_ISREG(status.st_mode):
            return None
        tag = f'"{status.st_size:x}-{status.st_mtime_ns:x}"'
        return _ServedObject(_FilePart(file, 0, status.st_size), tag, status.st_mtime)


@dataclass(frozen=True, slots=True)
class _ServedObject:
    """What is under a name: its bytes, its version, and seconds since the epoch."""

    content: memoryview | _FilePart
    etag: str
    modified: float


@dataclass(frozen=True, slots=True)
class _FilePart:
    """Bytes of a file, read as slices are taken.

    A memory map would be shorter, and end the process when somebody else shortens the file.
    """

    path: Path
    start: int
    stop: int

    def subrange(self, start: int, stop: int) -> _FilePart:
        """The bytes from `start` to `stop` of this part, still unread."""
        return _FilePart(self.path, self.start + start, self.start + stop)

    def __len__(self) -> int:
        return self.stop - self.start

    def __getitem__(self, part: slice, /) -> bytes:
        start, stop, _ = part.indices(len(self))
        with self.path.open("rb", buffering=0) as file:
            file.seek(self.start + start)
            data = file.read(stop - start)
        if len(data) != stop - start:
            raise ConnectionError(f"{self.path} has become shorter")
        return data
