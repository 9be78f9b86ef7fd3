"""A wire to a server: it counts requests, may be long, and can be cut."""

from __future__ import annotations

import asyncio
import re
import threading
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_MAX_PIECE_BYTES = 256 * 1024  # forwarded at a time
# The head of an HTTP request, and that of a message of SMB; others are encrypted.
_REQUEST_HEAD = re.compile(rb"(?:GET|HEAD|POST|OPTIONS|PROPFIND) \S+ HTTP/1\.1\r\n|\xfeSMB@\0")
_MAX_HEAD_BYTES = 4096  # of such a request


class Wire:
    """Forwards connections from a port of its own to that of a server."""

    def __init__(self, to: int) -> None:
        self.port = 0
        self.delay = 0.0  # seconds in each direction
        self.requests = 0
        self.connections = 0
        self.received = 0  # bytes that came from the server
        self.muted = False  # whether what the server says is lost
        self._to = to
        self._loop = asyncio.new_event_loop()
        self._tasks: set[asyncio.Task[None]] = set()

    def clear(self) -> None:
        """Count from zero."""
        self.requests = self.connections = self.received = 0

    def settle(self) -> None:
        """Wait until nothing is asked any more."""
        before = -1
        while before != self.requests:
            before = self.requests
            time.sleep(0.05)

    def cut(self) -> None:
        """Break all connections; new ones can be made."""
        asyncio.run_coroutine_threadsafe(self._cut(), self._loop).result()

    async def _cut(self) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        try:
            with suppress(OSError, asyncio.CancelledError):
                if self.delay:
                    await asyncio.sleep(2 * self.delay)  # the handshake of TCP
                back, forth = await asyncio.open_connection("127.0.0.1", self._to)
                try:
                    await asyncio.gather(
                        self._forward(reader, forth, asked=True),
                        self._forward(back, writer, asked=False),
                    )
                finally:
                    forth.transport.abort()
        finally:
            writer.transport.abort()
            self._tasks.discard(task)

    async def _forward(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, asked: bool
    ) -> None:
        before = b""
        pieces: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

        async def send() -> None:
            while True:
                when, piece = await pieces.get()
                await asyncio.sleep(when - self._loop.time())
                if not piece:
                    break
                writer.write(piece)
                await writer.drain()
            if writer.can_write_eof():
                writer.write_eof()

        sending = asyncio.ensure_future(send())
        try:
            while True:
                piece = await reader.read(_MAX_PIECE_BYTES)
                if asked:
                    text = before + piece
                    found = list(_REQUEST_HEAD.finditer(text))
                    self.requests += len(found)
                    before = text[
                        max(found[-1].end() if found else 0, len(text) - _MAX_HEAD_BYTES) :
                    ]
                else:
                    self.received += len(piece)
                    if self.muted:
                        continue
                pieces.put_nowait((self._loop.time() + self.delay, piece))
                if not piece:
                    break
            await sending
        finally:
            sending.cancel()


@contextmanager
def wire(to: int) -> Iterator[Wire]:
    """Lay a wire to the server on a port."""
    made = Wire(to)
    loop = made._loop
    thread = threading.Thread(target=loop.run_forever, name="wire", daemon=True)
    thread.start()

    async def listen() -> asyncio.Server:
        return await asyncio.start_server(made._connected, "127.0.0.1", 0, backlog=1024)

    async def close() -> None:
        server.close()
        # What was accepted a moment ago becomes a connection only now.
        for _ in range(3):
            await made._cut()
            await asyncio.sleep(0.01)

    server = asyncio.run_coroutine_threadsafe(listen(), loop).result()
    made.port = server.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        asyncio.run_coroutine_threadsafe(close(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
