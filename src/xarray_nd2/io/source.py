"""Where a file is, and the reading of its bytes.

A `ByteSource` is a value: a location, the options of its filesystem, and once it is open the size
and entity tag by which the object is recognised. It pickles, so that a worker reads for itself;
connections are made in each process when they are first needed, and kept.
"""

from __future__ import annotations

import asyncio
import math
import os
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import starmap
from typing import TYPE_CHECKING, Any

from xarray_nd2.errors import (
    ND2ChangedError,
    ND2Error,
    ND2NotFoundError,
    ND2PermissionError,
    ND2SourceError,
)
from xarray_nd2.io.process import (
    MAX_CONCURRENCY,
    connect,
    connection_key,
    decode_threads,
    observer,
    slots,
    wait_for,
)
from xarray_nd2.io.retry import causes, header_of, is_refusal, read_fully, status_of
from xarray_nd2.io.targets import named_target
from xarray_nd2.io.transport import (
    DirectTransport,
    LocalFile,
    ObjectFacts,
    OpenFile,
    Part,
    RangeIgnoredError,
)
from xarray_nd2.io.urls import host_of, public_text, without_secrets
from xarray_nd2.read.link import DEFAULT_LINKS, Answer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from xarray_nd2.io.transport import Bytes, Transport
    from xarray_nd2.read.link import Link, LinkObserver

    Deliver = Callable[[int, Bytes], None]
    Ranges = Iterable[tuple[int, int]]

_SHARES = 32  # of the ranges of a local file, for the threads to take up one after the other
_INLINE = 1 << 16  # bytes that are decoded on the event loop itself; more goes to a thread


@dataclass(frozen=True, eq=False)
class ByteSource:
    """One file in some store.

    Attributes
    ----------
    name : str
        URL or path to show, with credentials removed.
    target : str or (filesystem, str) or OpenFile
        A local path or URL; a path on an fsspec filesystem; or an open file.
    storage_options : mapping
        Options of a URL's filesystem; never shown.
    facts : ObjectFacts or None
        Size and entity tag of the object that was opened.
    """

    name: str
    target: str | tuple[Any, str] | OpenFile = field(repr=False)
    storage_options: Mapping[str, Any] = field(default_factory=dict, repr=False)
    facts: ObjectFacts | None = None

    @classmethod
    def of(cls, obj: Any, storage_options: Mapping[str, Any] | None = None) -> ByteSource:
        """Source for anything that names a file, as `named_target` takes it.

        The options are for the filesystem of a URL.
        """
        name, target = named_target(obj)
        options = dict(storage_options or {}) if isinstance(target, str) else {}
        return cls(name, target, options)

    @property
    def size(self) -> int:
        """Bytes of the object that was opened."""
        assert self.facts is not None, "the source was never opened"
        return self.facts.size

    @property
    def identity(self) -> tuple[Any, ...] | None:
        """What tells this object from all others, and from what it may become; None if nothing.

        It may hold secrets, and does not leave the process.
        """
        if self.facts is None or self.facts.version is None or isinstance(self.target, OpenFile):
            return None
        where = connection_key(self.target, self.storage_options)
        return *where, self.facts.size, self.facts.version

    @property
    def link(self) -> Link:
        """What is known in this process of the connection to the store."""
        transport = self._transport()
        if isinstance(transport, DirectTransport):
            return DEFAULT_LINKS["direct"]
        return self._observer(transport).link

    def begin(self, head: int, tail: int) -> tuple[ByteSource, bytes, bytes]:
        """Pin the object and read both of its ends, in as few round trips as the store allows.

        Parameters
        ----------
        head, tail : int
            Bytes to read from the beginning and from the end.

        Returns
        -------
        source : ByteSource
            This one, with the object's `facts`.
        head, tail : bytes
            What was read; less where the file is smaller.

        Raises
        ------
        ND2SourceError
            The file cannot be read.
        """
        try:
            transport = self._transport()
            if isinstance(transport, DirectTransport):
                facts = transport.stat()
                with transport.reader() as read:
                    first, last = read(0, head), read(max(0, facts.size - tail), facts.size)
            else:
                facts, first, last = wait_for(transport.loop, self._begin(transport, head, tail))
            if (len(first), len(last)) != (min(head, facts.size), min(tail, facts.size)):
                raise EOFError(f"{len(first)} and {len(last)} bytes at the ends of {facts.size}")  # noqa: TRY301
        except Exception as error:
            raise self._error(error, "opening") from error
        return replace(self, facts=facts), bytes(first), bytes(last)

    async def _begin(
        self, transport: Transport, head: int, tail: int
    ) -> tuple[ObjectFacts, Bytes, Bytes]:
        """Size, first and last bytes of an object, asked for at once where that is possible."""
        asked = time.monotonic()
        try:
            if transport.tells_facts:
                first, last = await asyncio.gather(
                    read_fully(transport, 0, head), _read_last(transport, tail)
                )
                facts = first.facts or await transport.stat()
            else:
                first, facts = await asyncio.gather(
                    read_fully(transport, 0, head), transport.stat()
                )
                last = None
        except Exception as error:
            if status_of(error) == 416 and _is_empty(error):  # no byte 0
                return ObjectFacts(0, None), b"", b""
            raise
        self._observer(transport).observe([_answer(asked, part) for part in (first, last) if part])
        end = max(0, facts.size - tail)
        if last is None or (last.start, len(last.data), last.facts) != (
            end,
            facts.size - end,
            facts,
        ):
            last = await read_fully(transport, end, facts.size, facts) if facts.size else first
            _check(facts, last.facts, self.name)
        return facts, first.data, last.data

    def fetch(self, ranges: Ranges) -> list[bytes]:
        """Read some ranges of a file that is being opened, and return their bytes.

        Raises
        ------
        ND2SourceError
            A range cannot be read, or the object has changed.
        """
        ranges = list(ranges)
        parts = [b""] * len(ranges)

        def keep(index: int, data: Bytes) -> None:
            parts[index] = bytes(data)

        self._read(ranges, keep, MAX_CONCURRENCY, opening=True)
        return parts

    def read(
        self, ranges: Ranges, deliver: Deliver, max_concurrency: int = MAX_CONCURRENCY
    ) -> None:
        """Read ranges concurrently, handing over each as it arrives.

        Parameters
        ----------
        ranges : iterable of (int, int)
            Start and stop of each, bytes of the file.
        deliver : callable
            Called with the number of a range and its bytes, from any thread and in any order.
        max_concurrency : int
            Requests in flight.

        Raises
        ------
        ND2SourceError
            A range cannot be read, or the object has changed.
        """
        self._read(ranges, deliver, max_concurrency, opening=False)

    def _read(
        self, ranges: Ranges, deliver: Deliver, max_concurrency: int, *, opening: bool
    ) -> None:
        transport = self._transport()
        if isinstance(transport, DirectTransport):
            self._read_directly(transport, ranges, deliver)
        else:
            work = self._read_all(transport, ranges, deliver, max_concurrency, opening=opening)
            wait_for(transport.loop, work)

    async def aread(
        self, ranges: Ranges, deliver: Deliver, max_concurrency: int = MAX_CONCURRENCY
    ) -> None:
        """Do what `read` does, without blocking the event loop of the caller."""
        transport = self._transport()
        if isinstance(transport, DirectTransport):
            await asyncio.to_thread(self._read_directly, transport, ranges, deliver)
        else:
            reading = self._read_all(transport, ranges, deliver, max_concurrency)
            await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(reading, transport.loop))

    def _read_directly(self, transport: DirectTransport, ranges: Ranges, deliver: Deliver) -> None:
        with ExitStack() as stack:
            try:
                _check(self.facts, transport.stat(), self.name)
                read = stack.enter_context(transport.reader())
            except Exception as error:
                raise self._error(error, "opening again") from error

            def read_one(index: int, start: int, stop: int) -> None:
                try:
                    data = read(start, stop)
                    _check_length(data, start, stop)
                except Exception as error:
                    raise self._error(error, f"bytes {start}-{stop}") from error
                deliver(index, data)

            work = [(index, start, stop) for index, (start, stop) in enumerate(ranges)]
            if isinstance(transport, LocalFile) and len(work) > 1:
                # Copying out of a mapping is as quick as the processor.
                some = math.ceil(len(work) / _SHARES)
                shares = [work[at : at + some] for at in range(0, len(work), some)]
                list(
                    decode_threads(os.getpid()).map(lambda part: [*starmap(read_one, part)], shares)
                )
            else:
                for one in work:
                    read_one(*one)

    async def _confirm(self, transport: Transport) -> None:
        try:
            _check(self.facts, await transport.confirm(), self.name)
        except Exception as error:
            raise self._error(error, "looking at the file") from error

    async def _read_all(
        self,
        transport: Transport,
        ranges: Ranges,
        deliver: Deliver,
        max_concurrency: int,
        *,
        opening: bool = False,
    ) -> None:
        remaining = enumerate(ranges)
        answers: list[Answer] = []
        in_flight = slots(os.getpid(), transport.loop)

        async def read_in_turn() -> None:
            # The tasks share one iterator: as many ranges are in flight as there are tasks.
            for index, (start, stop) in remaining:
                # Held until the bytes are decoded: that bounds the memory for what arrives.
                async with in_flight.one(max_concurrency, stop - start):
                    asked = time.monotonic()
                    part = await self._read_one(transport, start, stop)
                    answers.append(_answer(asked, part))
                    if len(part.data) <= _INLINE:
                        deliver(index, part.data)
                    else:
                        threads = decode_threads(os.getpid())
                        decoding = partial(deliver, index, part.data)
                        await transport.loop.run_in_executor(threads, decoding)

        failed = None
        try:
            async with asyncio.TaskGroup() as group:
                if not opening:
                    group.create_task(self._confirm(transport))
                for _ in range(min(max_concurrency, transport.limit or max_concurrency)):
                    group.create_task(read_in_turn())
        except ExceptionGroup as all_failed:
            failed = all_failed.exceptions[0]
        if failed is not None:
            raise failed  # not in the handler: its context would be the group that holds it
        self._observer(transport).observe(answers)

    async def _read_one(self, transport: Transport, start: int, stop: int) -> Part:
        try:
            part = await read_fully(transport, start, stop, self.facts)
            _check(self.facts, part.facts, self.name)
            _check_length(part.data, start, stop)
        except Exception as error:
            raise self._error(error, f"bytes {start}-{stop}") from error
        return part

    def _observer(self, transport: Transport) -> LinkObserver:
        return observer(os.getpid(), transport.kind, host_of(self.name))

    def _error(self, error: Exception, where: str) -> ND2Error:
        """The error of the tree for whatever went wrong in reading."""
        if isinstance(error, ND2Error):
            error.url = error.url or self.name
            raise error  # here, for one that was its own cause could not be pickled
        cause = public_text(self._without_secrets(error)) or type(error).__name__
        for part in causes(error):
            told = self._without_secrets(part)
            if told != str(part):
                part.args = (told,)
        if isinstance(error, FileNotFoundError) or status_of(error) in (404, 410):
            return ND2NotFoundError(f"there is no such file: {cause}", self.name)
        if is_refusal(error):
            return ND2PermissionError(f"access was refused: {cause}", self.name)
        if status_of(error) == 416 and self.facts is not None:
            return ND2ChangedError("the object is smaller than when it was opened", self.name)
        if isinstance(error, EOFError):
            return ND2SourceError(f"short read, {where}: {cause}", self.name)
        if isinstance(error, RangeIgnoredError):
            return ND2SourceError(f"{cause}: no part of the file can be read from it", self.name)
        return ND2SourceError(f"{where}: {type(error).__name__}: {cause}", self.name)

    def _without_secrets(self, error: BaseException) -> str:
        return without_secrets(str(error), self.target, self.storage_options)

    def _transport(self) -> Transport | DirectTransport:
        try:
            return connect(self.target, self.storage_options)
        except Exception as error:
            raise self._error(error, "connecting") from error


def _answer(asked: float, part: Part) -> Answer:
    return Answer(asked, part.first_byte, time.monotonic(), len(part.data))


async def _read_last(transport: Transport, count: int) -> Part | None:
    with suppress(Exception):  # whatever it is, an absolute range is read instead
        return await transport.read_last(count)
    return None


def _is_empty(error: Exception) -> bool:
    """Whether a store that has no byte 0 to give does not say that there are some."""
    return header_of(error, "content-range").rpartition("/")[2] in ("", "0")


def _check(pinned: ObjectFacts | None, facts: ObjectFacts | None, name: str) -> None:
    """Check that an answer is of the object that was opened, as far as both tell."""
    if pinned is not None and facts is not None and not pinned.agrees(facts):
        raise ND2ChangedError(
            f"the object has changed since it was opened, from {pinned.size} bytes tagged "
            f"{pinned.version} to {facts.size} tagged {facts.version}: open it again",
            name,
        )


def _check_length(data: Bytes, start: int, stop: int) -> None:
    if len(data) != stop - start:
        raise EOFError(f"{len(data)} bytes came for {start}-{stop}")
