"""HTTP over loopback, with all that tests want of a network: a count, delays, a limit and faults.

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
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import TYPE_CHECKING, Literal, Protocol, Self
from urllib.parse import unquote

from xarray_nd2.testing.request_log import Request, RequestLog

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import TracebackType

    FaultOf = Callable[[int, str, str, tuple[int, int] | None], "Fault | None"]

_PIECE = 256 * 1024  # bytes sent at a time where the bandwidth has no limit
_TURN = 0.0005  # seconds that one piece may keep a link of limited bandwidth to itself
_CATCH_UP = 0.01  # seconds for which a link makes up, when the clock woke a sender late
_RANGE = re.compile(r"bytes=(\d*)-(\d*)")
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that goes wrong with one answer.

    Attributes
    ----------
    kind : int or str
        A status code; or "reset" (the connection is dropped before the answer), "short" (it is
        closed after half of the body), "truncate" (a complete answer with half of the range),
        "ignore_range" (the whole object with status 200), "stall" (no answer until the client gives
        up).
    """

    kind: int | Literal["reset", "short", "truncate", "ignore_range", "stall"]


class Body(Protocol):
    """Bytes to send, of which slices are taken one after the other."""

    def __len__(self) -> int: ...
    def __getitem__(self, part: slice, /) -> bytes | memoryview: ...


@dataclass(frozen=True, slots=True)
class Asked:
    """A request as a server sees it: names of headers in lower case, the range made absolute."""

    method: str
    target: str
    path: str
    headers: dict[str, str]
    range: tuple[int, int] | None
    body: bytes


@dataclass(frozen=True, slots=True)
class Answer:
    """A response; `length` only where the body that it speaks of is not sent."""

    status: int
    headers: Iterable[tuple[str, str]] = ()
    body: Body = b""
    length: int | None = None


class Loopback(ABC):
    """An HTTP server on a port of 127.0.0.1 that the system chooses, while its context is entered.

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

    def __init__(
        self,
        *,
        latency: float = 0.0,
        bandwidth: float | None = None,
        faults: FaultOf | None = None,
    ) -> None:
        self.log = RequestLog()
        self.latency = latency
        self.bandwidth = bandwidth
        self.faults = faults
        self.port = 0
        self._link_free = 0.0
        self._conversations: set[asyncio.Task[None]] = set()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} at {self.endpoint_url}: {self.log!r}>"

    @property
    def endpoint_url(self) -> str:
        """Where the server is."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def faults(self) -> FaultOf | None:
        """What goes wrong with which request."""
        return self._faults

    @faults.setter
    def faults(self, faults: FaultOf | None) -> None:
        self._faults, self._number = faults, 0

    def __enter__(self) -> Self:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self._listener.setblocking(False)
        self.port = self._listener.getsockname()[1]
        started = threading.Event()
        self._thread = threading.Thread(
            target=self._run, args=(started,), name=type(self).__name__, daemon=True
        )
        self._thread.start()
        started.wait()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._loop.call_soon_threadsafe(self._stopped.set)
        self._thread.join()
        self._listener.close()

    @abstractmethod
    def size_of(self, path: str) -> int | None:
        """Bytes of the object at a path; None if there is none."""

    @abstractmethod
    def answer(self, asked: Asked) -> Answer:
        """The answer of a server without faults."""

    def _run(self, started: threading.Event) -> None:
        async def serve() -> None:
            self._loop = asyncio.get_running_loop()
            self._stopped = asyncio.Event()
            self._loop.add_reader(self._listener, self._accept)
            started.set()
            await self._stopped.wait()
            self._loop.remove_reader(self._listener)

        # The runner cancels all conversations in the end.
        with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
            runner.run(serve())

    def _accept(self) -> None:
        # Not with `loop.sock_accept`, which loses a connection if it is cancelled at that moment.
        with suppress(OSError):
            connection, _ = self._listener.accept()
            connection.setblocking(False)
            conversation = self._loop.create_task(self._converse(connection))
            self._conversations.add(conversation)
            conversation.add_done_callback(self._conversations.discard)
            conversation.add_done_callback(lambda _: connection.close())

    async def _converse(self, connection: socket.socket) -> None:
        # A client that leaves, or does not speak HTTP, is hung up on.
        with suppress(OSError, EOFError, ValueError):
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            received = _Received(connection)
            while await self._exchange(connection, received):
                pass

    async def _exchange(self, connection: socket.socket, received: _Received) -> bool:
        """Answer one request; False when the connection is over."""
        head = (await received.until(b"\r\n\r\n")).decode("latin-1")
        began = time.monotonic()
        line, *fields = head[:-4].split("\r\n")
        method, target, protocol = line.split(" ")
        pairs = (field.partition(":") for field in fields)
        headers = {name.lower(): value.strip() for name, _, value in pairs}
        path = unquote(target.partition("?")[0])
        body = await self._body(connection, received, headers)
        # Even without latency, requests that have arrived by now begin before this one ends.
        await asyncio.sleep(self.latency)
        span = _span(headers.get("range"), self.size_of(path))
        asked = Asked(method, target, path, headers, span, body)
        fault, answer = self._decide(asked)
        start, stop = span or (None, None)

        def record(status: int, nbytes: int) -> None:
            ended = time.monotonic()
            self.log.add(Request(method, path, start, stop, status, nbytes, began, ended))

        if fault == "stall":
            record(0, 0)
            while True:  # until the client hangs up
                await received.more()
        if fault == "reset":
            record(0, 0)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            return False
        content = b"" if method == "HEAD" else answer.body
        if fault == "short":
            content = content[: len(content) // 2]
        keep = fault != "short" and protocol == "HTTP/1.1" and headers.get("connection") != "close"
        top = _head(answer, keep=keep)
        await self._send(connection, top, content, lambda nbytes: record(answer.status, nbytes))
        return keep

    def _decide(self, asked: Asked) -> tuple[int | str | None, Answer]:
        """What goes wrong, and the answer as far as that lets it through."""
        try:
            self._number += 1
            found = self._faults and self._faults(
                self._number, asked.method, asked.path, asked.range
            )
            fault = found.kind if found else None
            if fault in ("reset", "stall"):
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
        return fault, _truncated(answer) if fault == "truncate" else answer

    async def _body(
        self, connection: socket.socket, received: _Received, headers: dict[str, str]
    ) -> bytes:
        """The body of a request, for which a client may wait to be asked."""
        if headers.get("expect", "").lower() == "100-continue":
            await self._loop.sock_sendall(connection, b"HTTP/1.1 100 Continue\r\n\r\n")
        if headers.get("transfer-encoding", "").lower() != "chunked":
            return await received.exactly(int(headers.get("content-length", 0)))
        chunks = []
        while size := int((await received.until(b"\r\n")).partition(b";")[0], 16):
            chunks.append(await received.exactly(size))
            await received.exactly(2)
        while await received.until(b"\r\n") != b"\r\n":
            pass  # trailing headers
        return b"".join(chunks)

    async def _send(
        self,
        connection: socket.socket,
        head: bytes,
        body: Body,
        record: Callable[[int], None],
    ) -> None:
        limit = self.bandwidth
        size = max(4096, min(_PIECE, int(limit * _TURN))) if limit else _PIECE
        sent = 0
        try:
            while True:
                piece = body[sent : sent + size]
                await self._turn(len(piece))
                if sent + len(piece) == len(body):
                    break
                await self._loop.sock_sendall(connection, head + piece)
                head, sent = b"", sent + len(piece)
            sent = len(body)
        finally:
            record(sent)  # before the last bytes leave: see RequestLog
        await self._loop.sock_sendall(connection, head + piece)

    async def _turn(self, nbytes: int) -> None:
        """Wait for a turn on the link, for which all connections queue with a piece each."""
        if self.bandwidth:
            now = time.monotonic()
            self._link_free = max(self._link_free, now - _CATCH_UP) + nbytes / self.bandwidth
            if self._link_free > now:
                await asyncio.sleep(self._link_free - now)


class _Received:
    """What arrives on a connection, up to a mark or so many bytes of it."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._loop = asyncio.get_running_loop()
        self._buffer = bytearray()

    async def until(self, mark: bytes) -> bytes:
        while (at := self._buffer.find(mark)) < 0:
            await self.more()
        return self._take(at + len(mark))

    async def exactly(self, size: int) -> bytes:
        while len(self._buffer) < size:
            await self.more()
        return self._take(size)

    async def more(self) -> None:
        data = await self._loop.sock_recv(self._connection, 65536)
        if not data:
            raise EOFError
        self._buffer += data

    def _take(self, size: int) -> bytes:
        taken = bytes(self._buffer[:size])
        del self._buffer[:size]
        return taken


def _span(header: str | None, size: int | None) -> tuple[int, int] | None:
    """Start and stop that a Range header asks for; None if there is none to be understood."""
    match = _RANGE.fullmatch(header or "")
    if match is None or size is None:
        return None
    first, last = match.groups()
    if not first:
        return (max(0, size - int(last)), size) if last else None
    start, stop = int(first), int(last) + 1 if last else size
    if last and stop <= start:
        return None
    return start, max(start, min(stop, size))


def _truncated(answer: Answer) -> Answer:
    """Half of an answer, as if the object ended there."""
    half = (len(answer.body) + 1) // 2
    headers = [
        (name, re.sub(r"(\d+)-\d+", lambda span: f"{span[1]}-{int(span[1]) + half - 1}", value))
        if name.lower() == "content-range"
        else (name, value)
        for name, value in answer.headers
    ]
    return Answer(answer.status, headers, answer.body[:half])


def _head(answer: Answer, *, keep: bool) -> bytes:
    length = len(answer.body) if answer.length is None else answer.length
    lines = [
        f"HTTP/1.1 {answer.status} {HTTPStatus(answer.status).phrase}",
        f"Content-Length: {length}",
        *(f"{name}: {value}" for name, value in answer.headers),
        *([] if keep else ["Connection: close"]),
        "\r\n",
    ]
    return "\r\n".join(lines).encode("latin-1")
