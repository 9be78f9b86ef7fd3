"""An HTTP server on loopback that logs requests, and can be slow, limited or faulty.

What is served is left to subclasses. One thread runs all connections on an event loop of its own,
so that hundreds of requests may be in flight, and works on the sockets themselves, since a faulty
server must decide how a connection ends.
"""

from __future__ import annotations

import asyncio
import logging
import re
import socket
import struct
import threading
import time
from abc import ABC, abstractmethod
from contextlib import suppress
from dataclasses import replace
from http import HTTPStatus
from typing import TYPE_CHECKING, Self
from urllib.parse import unquote

from xarray_nd2.testing.answers import Answer, Asked
from xarray_nd2.testing.faults import altered_answer
from xarray_nd2.testing.request_log import Request, RequestLog

if TYPE_CHECKING:
    from collections.abc import Callable

    from xarray_nd2.testing.answers import Body
    from xarray_nd2.testing.faults import FaultOfRequest

_MAX_PIECE_BYTES = 256 * 1024  # sent at a time; all of it where the bandwidth has no limit
_MIN_PIECE_BYTES = 4096
_MAX_PIECE_SECONDS = 0.0005  # that one piece may keep a link of limited bandwidth to itself
_MAX_CATCH_UP_SECONDS = 0.01  # for which a link makes up, when the clock woke a sender late
_SECONDS_PER_TRICKLED_BYTE = 1.0
_RANGE_HEADER = re.compile(r"bytes=(\d*)-(\d*)")
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER: on, for 0 seconds


class Loopback(ABC):
    """An HTTP server on a port of `address` that the system chooses, while its context is entered.

    Parameters
    ----------
    latency : float
        Seconds before each answer.
    bandwidth : float or None
        Bytes per second, shared by all connections; None for no limit.
    faults : callable, optional
        ``faults(number, method, path, range)`` gives the `Fault` of a request, or None; numbers
        count from 1 since the attribute was set last.
    """

    address = "127.0.0.1"

    def __init__(
        self,
        *,
        latency: float = 0.0,
        bandwidth: float | None = None,
        faults: FaultOfRequest | None = None,
    ) -> None:
        self.log = RequestLog()
        self.latency = latency
        self.bandwidth = bandwidth
        self.faults = faults
        self.port = 0
        self._link_free_at = 0.0
        self._connection_tasks: set[asyncio.Task[None]] = set()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} at {self.endpoint_url}: {self.log!r}>"

    @property
    def endpoint_url(self) -> str:
        """Where the server is."""
        host = f"[{self.address}]" if ":" in self.address else self.address
        return f"http://{host}:{self.port}"

    @property
    def faults(self) -> FaultOfRequest | None:
        """What goes wrong with which request."""
        return self._faults

    @faults.setter
    def faults(self, faults: FaultOfRequest | None) -> None:
        self._faults, self._request_number = faults, 0

    def __enter__(self) -> Self:
        family = socket.AF_INET6 if ":" in self.address else socket.AF_INET
        self._listener = socket.create_server((self.address, 0), family=family, backlog=1024)
        self._listener.setblocking(False)
        self.port = self._listener.getsockname()[1]
        started = threading.Event()
        self._thread = threading.Thread(
            target=self._run_event_loop, args=(started,), name=type(self).__name__, daemon=True
        )
        self._thread.start()
        started.wait()
        return self

    def __exit__(self, *exception: object) -> None:
        self._loop.call_soon_threadsafe(self._stopped.set)
        self._thread.join()
        self._listener.close()

    @abstractmethod
    def size_of(self, path: str) -> int | None:
        """Bytes of the object at a path; None if there is none."""

    @abstractmethod
    def answer(self, asked: Asked) -> Answer:
        """The answer of a server without faults."""

    def _run_event_loop(self, started: threading.Event) -> None:
        async def serve() -> None:
            self._loop = asyncio.get_running_loop()
            self._stopped = asyncio.Event()
            self._loop.add_reader(self._listener, self._accept_connection)
            started.set()
            await self._stopped.wait()
            self._loop.remove_reader(self._listener)

        # The runner cancels all conversations in the end.
        with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
            runner.run(serve())

    def _accept_connection(self) -> None:
        # Not with `loop.sock_accept`, which loses a connection if it is cancelled at that moment.
        with suppress(OSError):
            connection, _ = self._listener.accept()
            connection.setblocking(False)
            task = self._loop.create_task(self._serve_connection(connection))
            self._connection_tasks.add(task)
            task.add_done_callback(self._connection_tasks.discard)
            task.add_done_callback(lambda _: connection.close())

    async def _serve_connection(self, connection: socket.socket) -> None:
        # A client that leaves, or does not speak HTTP, is hung up on.
        with suppress(OSError, EOFError, ValueError):
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            received = _ReceivedBytes(connection)
            while await self._answer_next_request(connection, received):
                pass

    async def _answer_next_request(
        self, connection: socket.socket, received: _ReceivedBytes
    ) -> bool:
        """Answer one request; False when the connection is over."""
        head = (await received.until(b"\r\n\r\n")).decode("latin-1")
        began = time.monotonic()
        line, *fields = head[:-4].split("\r\n")
        method, target, protocol = line.split(" ")
        pairs = (field.partition(":") for field in fields)
        headers = {name.lower(): value.strip() for name, _, value in pairs}
        path = unquote(target.partition("?")[0])
        body = await self._receive_body(connection, received, headers)
        # Even without latency, requests that have arrived by now begin before this one ends.
        await asyncio.sleep(self.latency)
        span = _parse_range_header(headers.get("range"), self.size_of(path))
        asked = Asked(method, target, path, headers, span, body)
        fault, answer = self._answer_and_fault(asked)
        start, stop = span or (None, None)

        def record(status: int, nbytes: int) -> None:
            ended = time.monotonic()
            self.log.add(Request(method, path, start, stop, status, nbytes, began, ended))

        if fault == "stall":
            record(0, 0)
            while True:  # until the client hangs up
                await received.more()
        if fault == "informational":
            record(0, 0)
            while True:
                await self._loop.sock_sendall(connection, b"HTTP/1.1 102 Processing\r\n\r\n")
                await asyncio.sleep(_SECONDS_PER_TRICKLED_BYTE)
        if fault == "reset":
            record(0, 0)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            return False
        content = b"" if method == "HEAD" else answer.body
        if fault == "short":
            content = content[: len(content) // 2]
        keep = fault != "short" and protocol == "HTTP/1.1" and headers.get("connection") != "close"
        chunked = ("Transfer-Encoding", "chunked") in answer.headers
        response_head = _response_head(answer, keep=keep, chunked=chunked)
        if chunked:
            content = b"%x\r\n%b\r\n0\r\n\r\n" % (len(content), bytes(content[:]))
        if fault in ("trickle", "trickle_body"):
            record(answer.status, 0)
            await self._trickle(connection, response_head, content, whole=fault == "trickle")
        await self._send_answer(
            connection, response_head, content, lambda nbytes: record(answer.status, nbytes)
        )
        return keep

    def _answer_and_fault(self, asked: Asked) -> tuple[int | str | None, Answer]:
        """Kind of the fault or None, and the answer as far as the fault lets it through."""
        try:
            self._request_number += 1
            found = self._faults and self._faults(
                self._request_number, asked.method, asked.path, asked.range
            )
            fault = found.kind if found else None
            if fault in ("reset", "stall", "informational"):
                return fault, Answer(0)
            if isinstance(fault, int):
                return fault, Answer(fault)
            if fault == "ignore_range":
                headers = {name: value for name, value in asked.headers.items() if name != "range"}
                asked = replace(asked, headers=headers, range=None)
            answer = self.answer(asked)
        except Exception:
            logging.getLogger(__name__).exception("%s %s failed", asked.method, asked.path)
            return 500, Answer(500)
        return fault, altered_answer(answer, fault)

    async def _receive_body(
        self, connection: socket.socket, received: _ReceivedBytes, headers: dict[str, str]
    ) -> bytes:
        """The body of a request; a client that expects it is told to continue first."""
        if headers.get("expect", "").lower() == "100-continue":
            await self._loop.sock_sendall(connection, b"HTTP/1.1 100 Continue\r\n\r\n")
        if headers.get("transfer-encoding", "").lower() != "chunked":
            return await received.exactly(int(headers.get("content-length", 0)))
        parts = []
        while size := int((await received.until(b"\r\n")).partition(b";")[0], 16):
            parts.append(await received.exactly(size))
            await received.exactly(2)
        while await received.until(b"\r\n") != b"\r\n":
            pass  # trailing headers
        return b"".join(parts)

    async def _send_answer(
        self,
        connection: socket.socket,
        head: bytes,
        body: Body,
        record: Callable[[int], None],
    ) -> None:
        """Send an answer in pieces; `record` gets the number of bytes of body."""
        limit = self.bandwidth
        size = _MAX_PIECE_BYTES
        if limit:
            size = max(_MIN_PIECE_BYTES, min(size, int(limit * _MAX_PIECE_SECONDS)))
        sent = 0
        try:
            while True:
                piece = body[sent : sent + size]
                await self._wait_for_link(len(piece))
                if sent + len(piece) == len(body):
                    break
                await self._loop.sock_sendall(connection, head + piece)
                head, sent = b"", sent + len(piece)
            sent = len(body)
        finally:
            record(sent)  # before the last bytes leave: see RequestLog
        await self._loop.sock_sendall(connection, head + piece)

    async def _trickle(
        self, connection: socket.socket, head: bytes, body: Body, *, whole: bool
    ) -> None:
        """Send an answer, or the body of one, a byte a second; no client is meant to wait for it."""
        if not whole:
            await self._loop.sock_sendall(connection, head)
        for byte in (head if whole else b"") + bytes(body[:]):
            await self._loop.sock_sendall(connection, bytes([byte]))
            await asyncio.sleep(_SECONDS_PER_TRICKLED_BYTE)

    async def _wait_for_link(self, nbytes: int) -> None:
        """Wait until the link has sent the pieces of other connections that came before."""
        if self.bandwidth:
            now = time.monotonic()
            starts_at = max(self._link_free_at, now - _MAX_CATCH_UP_SECONDS)
            self._link_free_at = starts_at + nbytes / self.bandwidth
            if self._link_free_at > now:
                await asyncio.sleep(self._link_free_at - now)


class _ReceivedBytes:
    """What arrives on a connection, taken up to a mark or by number of bytes.

    All methods raise `EOFError` where the connection ends before.
    """

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._loop = asyncio.get_running_loop()
        self._buffer = bytearray()

    async def until(self, mark: bytes) -> bytes:
        """Bytes up to a mark, the mark included."""
        while (at := self._buffer.find(mark)) < 0:
            await self.more()
        return self._take(at + len(mark))

    async def exactly(self, size: int) -> bytes:
        """The next `size` bytes."""
        while len(self._buffer) < size:
            await self.more()
        return self._take(size)

    async def more(self) -> None:
        """Wait for bytes, and keep them."""
        data = await self._loop.sock_recv(self._connection, 65536)
        if not data:
            raise EOFError
        self._buffer += data

    def _take(self, size: int) -> bytes:
        taken = bytes(self._buffer[:size])
        del self._buffer[:size]
        return taken


def _parse_range_header(header: str | None, size: int | None) -> tuple[int, int] | None:
    """Start and stop that a Range header asks for; None unless it has one range of an object."""
    match = _RANGE_HEADER.fullmatch(header or "")
    if match is None or size is None:
        return None
    first, last = match.groups()
    if not first:
        return (max(0, size - int(last)), size) if last else None
    start, stop = int(first), int(last) + 1 if last else size
    if last and stop <= start:
        return None
    return start, max(start, min(stop, size))


def _response_head(answer: Answer, *, keep: bool, chunked: bool) -> bytes:
    """Status line and headers of an answer, which closes the connection unless told to `keep` it."""
    length = len(answer.body) if answer.length is None else answer.length
    lines = [
        f"HTTP/1.1 {answer.status} {HTTPStatus(answer.status).phrase}",
        *([] if chunked else [f"Content-Length: {length}"]),
        *(f"{name}: {value}" for name, value in answer.headers),
        *([] if keep else ["Connection: close"]),
        "\r\n",
    ]
    return "\r\n".join(lines).encode("latin-1")
