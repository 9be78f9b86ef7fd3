"""An HTTP server on loopback that counts what it is asked for, and can be slow or faulty.

It serves byte ranges as object stores do, and nothing else. One thread runs all connections on an
event loop of its own, so that hundreds of requests may be in flight.
"""

from __future__ import annotations

import asyncio
import hashlib
import mmap
import re
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from email.utils import formatdate
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self
from urllib.parse import quote, unquote, urlsplit

from xarray_nd2.testing._log import Request, RequestLog

if TYPE_CHECKING:
    import os
    from collections.abc import Callable
    from types import TracebackType

    FaultOf = Callable[[int, str, str, tuple[int, int] | None], "Fault | None"]

_RANGE = re.compile(r"bytes=(\d*)-(\d*)")
_PIECE = 256 * 1024  # bytes sent between looks at the clock and the connection


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that goes wrong with one answer.

    Attributes
    ----------
    kind : int or str
        A status code; or "reset" (the connection is dropped before the answer), "short" (after half
        of the body), "truncate" (a complete answer with half of the range), "ignore_range" (the
        whole object with status 200), "stall" (no answer until the client gives up).
    """

    kind: int | Literal["reset", "short", "truncate", "ignore_range", "stall"]


@dataclass(frozen=True, slots=True)
class _Object:
    data: memoryview
    etag: str
    modified: float


class RangeServer:
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
        faults: FaultOf | None = None,
    ) -> None:
        self.log = RequestLog()
        self.latency = latency
        self.bandwidth = bandwidth
        self._faults = faults
        self._number = 0
        self._folder = None if folder is None else Path(folder)
        self._objects: dict[str, _Object] = {}
        self._link_free = 0.0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="range-server")
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()
        self.port = 0

    @property
    def faults(self) -> FaultOf | None:
        """What goes wrong with which request."""
        return self._faults

    @faults.setter
    def faults(self, faults: FaultOf | None) -> None:
        self._faults, self._number = faults, 0

    def __enter__(self) -> Self:
        self._thread.start()
        self._server = asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result()
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def url(self, name: str) -> str:
        """URL of a file or object."""
        return f"http://127.0.0.1:{self.port}/{quote(name)}"

    def put(self, name: str, data: bytes) -> None:
        """Serve `data` under a name, instead of what was there."""
        tag = hashlib.sha256(data).hexdigest()[:32]
        self._objects[name] = _Object(memoryview(data), f'"{tag}"', time.time())

    async def _listen(self) -> asyncio.Server:
        return await asyncio.start_server(
            self._connected, "127.0.0.1", 0, backlog=1024, limit=65_536
        )

    async def _close(self) -> None:
        assert self._server is not None
        self._server.close()
        for connection in list(self._connections):
            connection.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)
        await self._server.wait_closed()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
                while await self._answer(reader, writer):
                    pass
        finally:
            self._connections.discard(task)
            writer.transport.abort()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Answer one request; False when the connection is over."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin1").split("\r\n")
        began = time.monotonic()
        method, target, _ = head[0].split(" ", 2)
        headers = {
            name.lower(): value.strip()
            for name, _, value in (line.partition(":") for line in head[1:])
        }
        path = unquote(urlsplit(target).path)
        found = self._find(path.lstrip("/"))
        asked = _asked_range(headers.get("range"), len(found.data)) if found else None
        self._number += 1
        fault = self._faults(self._number, method, path, asked) if self._faults else None
        if self.latency:
            await asyncio.sleep(self.latency)
        if fault and fault.kind == "stall":
            await asyncio.sleep(3600)
        if fault and fault.kind == "reset":
            self.log.add(Request(method, path, None, None, 0, 0, began, time.monotonic()))
            return False

        status, body, extra = _response(found, asked, headers, fault)
        length = len(body)
        lines = [
            f"HTTP/1.1 {status} {HTTPStatus(status).phrase}",
            f"Content-Length: {length}",
            *extra,
        ]
        head_bytes = "\r\n".join([*lines, "", ""]).encode("latin1")
        cut = length // 2 if fault and fault.kind == "short" else length
        body = body[: 0 if method == "HEAD" else cut]
        start, stop = asked if status == 206 and asked else (None, None)
        for at in range(0, len(body) or 1, _PIECE):
            piece = body[at : at + _PIECE]
            if self.bandwidth:
                # All connections queue for one link.
                now = time.monotonic()
                self._link_free = max(now, self._link_free) + len(piece) / self.bandwidth
                await asyncio.sleep(self._link_free - now)
            if at + _PIECE >= len(body):
                # Before the last bytes leave: a client that has them may look at the log.
                ended = time.monotonic()
                self.log.add(Request(method, path, start, stop, status, len(body), began, ended))
            writer.write(head_bytes)
            writer.write(piece)
            head_bytes = b""
            await writer.drain()
        return cut == length

    def _find(self, name: str) -> _Object | None:
        if name in self._objects:
            return self._objects[name]
        path = None if self._folder is None else self._folder / name
        if path is None or not path.is_file():
            return None
        status = path.stat()
        tag = f'"{status.st_size:x}-{status.st_mtime_ns:x}"'
        with path.open("rb") as file:
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if status.st_size else b""
        return _Object(memoryview(data), tag, status.st_mtime)


def _asked_range(header: str | None, size: int) -> tuple[int, int] | None:
    """Start and stop of a Range header; None where there is none that can be understood."""
    match = _RANGE.fullmatch(header or "")
    if match is None or match.groups() == ("", ""):
        return None
    first, last = match.groups()
    if not first:
        return max(0, size - int(last)), size
    return int(first), min(size, int(last) + 1) if last else size


def _response(
    found: _Object | None,
    asked: tuple[int, int] | None,
    headers: dict[str, str],
    fault: Fault | None,
) -> tuple[int, memoryview, list[str]]:
    """Status, body and headers of an answer."""
    nothing = memoryview(b"")
    if fault and isinstance(fault.kind, int):
        return fault.kind, nothing, []
    if found is None:
        return 404, nothing, []
    extra = [
        "Accept-Ranges: bytes",
        f"ETag: {found.etag}",
        f"Last-Modified: {formatdate(found.modified, usegmt=True)}",
    ]
    if headers.get("if-match", found.etag) not in (found.etag, "*"):
        return 412, nothing, extra
    if asked is None or (fault and fault.kind == "ignore_range"):
        return 200, found.data, extra
    start, stop = asked
    if start >= len(found.data):
        return 416, nothing, [*extra, f"Content-Range: bytes */{len(found.data)}"]
    if fault and fault.kind == "truncate":
        stop = start + (stop - start + 1) // 2
    extra.append(f"Content-Range: bytes {start}-{stop - 1}/{len(found.data)}")
    return 206, found.data[start:stop], extra
