"""How one range of bytes is read: the protocol of transports, and what they have in common.

A transport answers three questions about one object: what is it (`stat`), what are these bytes
(`read`), and what are its last bytes (`read_last`, where that is safe to ask before the size is
known). There is one for each kind of store. Transports live in one process and are never sent to
another.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeVar

from xarray_nd2.io.answers import Part, facts_of_info
from xarray_nd2.io.failures import BrokenOffError, RangeIgnoredError, is_transient
from xarray_nd2.io.process import this_process
from xarray_nd2.io.range_response import NO_ENCODINGS, ReceivedBody, parse_range_response
from xarray_nd2.io.watch import watch_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, Awaitable, Callable, Coroutine, Mapping
    from contextlib import AbstractAsyncContextManager

    from xarray_nd2.io.answers import Bytes, ObjectFacts
    from xarray_nd2.io.patience import Patience
    from xarray_nd2.io.range_response import BodyExtent
    from xarray_nd2.io.watch import NoWatch

T = TypeVar("T")


class Transport(Protocol):
    """One object of one store, read by coroutines on the event loop `loop`.

    Each method that asks the store does so once, in an attempt of the `Patience` that it is given,
    which begins when it is its turn.
    """

    loop: asyncio.AbstractEventLoop
    kind: str  # of link, for a first estimate of what requests cost
    tells_facts: bool  # with every read, so that no `stat` is needed first

    async def stat(self, patience: Patience) -> ObjectFacts:
        """Ask what the object is; the file is being opened, now or again."""

    async def read(
        self, start: int, stop: int, patience: Patience, pinned: ObjectFacts | None = None
    ) -> Part:
        """Read a range that is not empty, of the object that was opened if it is `pinned`."""

    async def read_last(self, count: int, patience: Patience) -> Part | None:
        """Read the end; None where that is not safe."""

    async def confirm(self, patience: Patience) -> ObjectFacts | None:
        """Facts to compare before pixels are read; None where every answer tells them.

        The store is asked once in each process and opening of a file, by the first of its reads.
        """


class ObjectTransport:
    """An object of a store that tells its size and tag with every answer."""

    kind = "http"
    tells_facts = True
    encodings: ClassVar[frozenset[str]] = NO_ENCODINGS  # that say nothing of the body
    loop: asyncio.AbstractEventLoop

    def __init__(self) -> None:
        self._ranges_seen = False

    async def stat(self, patience: Patience) -> ObjectFacts:
        part = await self.read(0, 1, patience)
        if part.facts is None:
            raise OSError("the server tells no size")
        return part.facts

    async def confirm(self, patience: Patience) -> ObjectFacts | None:  # noqa: ARG002
        return None

    async def read(
        self,
        start: int,
        stop: int,
        patience: Patience,
        pinned: ObjectFacts | None = None,  # noqa: ARG002
    ) -> Part:
        return await self._get(f"bytes={start}-{stop - 1}", start, stop - start, patience)

    async def read_last(self, count: int, patience: Patience) -> Part | None:
        return await self._get(f"bytes=-{count}", None, count, patience)

    async def _get(
        self, range_header: str, start: int | None, count: int, patience: Patience
    ) -> Part:
        """Answer to a request for `count` bytes from `start`, or the last ones if that is None."""
        raise NotImplementedError

    def _extent(
        self, status: int, headers: Mapping[str, str], start: int | None, count: int
    ) -> BodyExtent:
        """Where the body of an answer lies in the object.

        Raises
        ------
        RangeIgnoredError
            The answer is not the range; in passing, if others were.
        """
        try:
            extent = parse_range_response(status, headers, start, count, self.encodings)
        except RangeIgnoredError as error:
            # Then one answer went wrong, such as that of a cache in between.
            error.passing = self._ranges_seen
            raise
        self._ranges_seen |= status == 206
        return extent


class StreamedAnswer:
    """An answer over HTTP of which the body is still to come.

    Parameters
    ----------
    status : int
        Of the answer, 200 or 206.
    headers : mapping
        Of the answer.
    blocks : async iterable of bytes
        The body.
    close : callable
        Coroutine function to call in the end.

    Attributes
    ----------
    received : int
        Bytes of the body that were taken.
    """

    __slots__ = ("blocks", "close", "headers", "received", "status")

    def __init__(
        self,
        status: int,
        headers: Mapping[str, str],
        blocks: AsyncIterable[Bytes],
        close: Callable[[], Awaitable[object]],
    ) -> None:
        self.status, self.headers = status, headers
        self.blocks, self.close = blocks, close
        self.received = 0


class StreamTransport(ObjectTransport):
    """An object that is read by a client over HTTP, of whose answers the body is streamed."""

    def __init__(self, fs: Any) -> None:
        super().__init__()
        self._fs = fs
        self.loop = fs.loop
        self._turns: AbstractAsyncContextManager[Any] | None = None

    async def _get(
        self, range_header: str, start: int | None, count: int, patience: Patience
    ) -> Part:
        if self._turns is None:
            # To wait for one of the client's connections is no fault of the store.
            limit = asyncio.Semaphore(await self._max_connections())
            self._turns = this_process().filesystem_turns.setdefault(self._fs, limit)
        with watch_of(patience, *slice_of(start, count)) as watch:
            return await self._get_watched(range_header, start, count, patience, watch)

    async def _get_watched(
        self,
        range_header: str,
        start: int | None,
        count: int,
        patience: Patience,
        watch: NoWatch,
    ) -> Part:
        assert self._turns is not None
        body = ReceivedBody(count)
        extent: BodyExtent | None = None
        answer: StreamedAnswer | None = None
        try:
            async with self._turns, patience.attempt(lambda: answer.received if answer else 0):
                asked = time.monotonic()
                answer = await self._ask(range_header, watch)
                first_byte = time.monotonic()
                try:
                    extent = self._extent(answer.status, answer.headers, start, count)
                    async for block in answer.blocks:
                        answer.received += len(block)
                        body.add(block)
                        if body.is_over(extent):
                            break
                except RangeIgnoredError as error:
                    instead = None
                    if not error.passing:
                        instead = await self._instead(answer, asked, start, count)
                    if instead is None:
                        raise
                    return instead
                finally:
                    await answer.close()
        except Exception as error:
            if extent is not None and body.size and is_transient(error):
                raise BrokenOffError(body.as_part(extent), str(error)) from error
            raise
        body.check(extent)
        return body.as_part(extent, first_byte)

    async def _max_connections(self) -> int:
        """Requests that the client makes at once."""
        raise NotImplementedError

    async def _ask(self, range_header: str, watch: NoWatch) -> StreamedAnswer:
        """Answer to a request for a range, of which `watch` is told."""
        raise NotImplementedError

    async def _instead(
        self,
        answer: StreamedAnswer,  # noqa: ARG002
        asked: float,  # noqa: ARG002
        start: int | None,  # noqa: ARG002
        count: int,  # noqa: ARG002
    ) -> Part | None:
        """The range, from an answer to a request made at `asked` that is not it; None if it cannot."""
        return None


class FileTransport:
    """A file of an fsspec filesystem, which has to be asked apart what the file is."""

    kind = "other"
    tells_facts = False
    loop: asyncio.AbstractEventLoop

    def __init__(self, fs: Any, path: str) -> None:
        self._fs, self._path = fs, path
        self._confirming: asyncio.Task[ObjectFacts] | None = None

    async def stat(self, patience: Patience) -> ObjectFacts:
        self._confirming = None
        return await asyncio.shield(unattended_task(self.loop, self._look(patience)))

    async def confirm(self, patience: Patience) -> ObjectFacts | None:
        asked = self._confirming
        if asked is None or (asked.done() and (asked.cancelled() or asked.exception())):
            asked = self._confirming = unattended_task(self.loop, self._look(patience))
        try:
            return await asyncio.shield(asked)  # others wait for it as well
        except Exception as error:
            if not is_transient(error):
                raise
            return None  # the next read asks again

    async def read(
        self,
        start: int,
        stop: int,
        patience: Patience,
        pinned: ObjectFacts | None = None,  # noqa: ARG002
    ) -> Part:
        return Part(start, await self._read(start, stop, patience))

    async def _read(self, start: int, stop: int, patience: Patience) -> Bytes:
        """Bytes of a range that is not empty."""
        raise NotImplementedError

    async def read_last(self, count: int, patience: Patience) -> Part | None:  # noqa: ARG002
        # Some refuse a suffix range and some answer it with other bytes.
        return None

    async def _look(self, patience: Patience) -> ObjectFacts:
        return facts_of_info(await self._info(patience), self._path)

    async def _info(self, patience: Patience) -> Mapping[str, Any]:
        """The filesystem's description of the file as it is now."""
        raise NotImplementedError


def slice_of(start: int | None, count: int) -> tuple[int, int | None]:
    """Bounds of `count` bytes from `start`, or of the last ones if that is None, as of a slice."""
    return (-count, None) if start is None else (start, start + count)


def unattended_task(
    loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, T]
) -> asyncio.Task[T]:
    """A task that nobody has to wait for."""
    task = loop.create_task(work)
    task.add_done_callback(lambda done: done.cancelled() or done.exception())
    return task
