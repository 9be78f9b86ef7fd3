"""Where a file is, and the reading of its bytes.

A `ByteSource` is a value: a location, the options of its filesystem, and once it is open the size
and entity tag by which the object is recognised. It pickles, so that a worker reads for itself;
connections are made in each process when they are first needed, and kept.
"""

from __future__ import annotations

import asyncio
import math
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from xarray_nd2.io.answers import ObjectFacts, Part, check_length
from xarray_nd2.io.choose import connect, connection_key
from xarray_nd2.io.failures import check_unchanged, is_of_empty_object, nd2_errors
from xarray_nd2.io.local import DirectTransport, LocalFile, OpenFile
from xarray_nd2.io.mounted import MountedFile
from xarray_nd2.io.patience import PATIENCE_SECONDS, Patience
from xarray_nd2.io.process import MAX_CONCURRENCY, this_process
from xarray_nd2.io.retry import persistently, read_fully
from xarray_nd2.io.secrets import public_text, without_secrets
from xarray_nd2.io.targets import named_target
from xarray_nd2.io.urls import host_of
from xarray_nd2.io.waiting import together, wait_for
from xarray_nd2.io.watch import count_local
from xarray_nd2.read.link import DEFAULT_LINKS, AnswerTimes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from xarray_nd2.io.answers import Bytes
    from xarray_nd2.io.transport import Transport
    from xarray_nd2.read.link import Link, LinkObserver

    Deliver = Callable[[int, Bytes], None]
    Ranges = Iterable[tuple[int, int]]

LOCAL_READ_SHARES: Final = 32  # of the ranges, for the threads to take up one after the other
MAX_INLINE_DECODE_BYTES: Final = 1 << 16  # on the event loop itself; more goes to a thread


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
    patience_seconds : float
        Without sufficient progress after which a range is given up.
    """

    name: str
    target: str | tuple[Any, str] | OpenFile = field(repr=False)
    storage_options: Mapping[str, Any] = field(default_factory=dict, repr=False)
    facts: ObjectFacts | None = None
    patience_seconds: float = PATIENCE_SECONDS

    @classmethod
    def of(
        cls,
        obj: Any,
        storage_options: Mapping[str, Any] | None = None,
        patience_seconds: float = PATIENCE_SECONDS,
    ) -> ByteSource:
        """Source for anything that names a file, as `named_target` takes it.

        The options are for the filesystem of a URL.
        """
        name, target = named_target(obj)
        options = dict(storage_options or {}) if isinstance(target, str) else {}
        return cls(name, target, options, patience_seconds=patience_seconds)

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

    @property
    def is_mapped(self) -> bool:
        """Whether the file is mapped into memory for reading: one on a disk of this machine."""
        return isinstance(self._transport(), LocalFile)

    def mapped(self, *, keep: bool = False) -> memoryview | None:
        """All bytes of the file, mapped into memory; None where `is_mapped` is false.

        With `keep` the map is kept for a moment, for the next read.

        Raises
        ------
        ND2SourceError
            The file cannot be read, or has changed.
        """
        return self._on_disk(LocalFile.kept_map if keep else LocalFile.mapped)

    def read_on_disk(self, start: int, stop: int) -> memoryview | None:
        """Bytes of one range where `is_mapped` is true, for few of them sooner than by a map.

        There are less of them where the system gives less. Raises what `mapped` does.
        """
        return self._on_disk(lambda file: file.read(start, stop))

    def _on_disk(
        self, read: Callable[[LocalFile], tuple[memoryview, ObjectFacts]]
    ) -> memoryview | None:
        transport = self._transport()
        if not isinstance(transport, LocalFile):
            return None
        with self._reading("opening again"):
            check_unchanged(self.facts, transport.stat())
            data, facts = read(transport)
            check_unchanged(self.facts, facts)
        return data

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
        transport = self._transport()
        with self._reading("opening"):
            if isinstance(transport, DirectTransport):
                facts = transport.stat()
                with transport.reader() as read:
                    first, last = read(0, head), read(max(0, facts.size - tail), facts.size)
                count_local(((0, len(first)), (0, len(last))))
            else:
                facts, first, last = wait_for(transport.loop, self._begin(transport, head, tail))
            if (len(first), len(last)) != (min(head, facts.size), min(tail, facts.size)):
                raise EOFError(f"{len(first)} and {len(last)} bytes at the ends of {facts.size}")
        return replace(self, facts=facts), bytes(first), bytes(last)

    async def _begin(
        self, transport: Transport, head: int, tail: int
    ) -> tuple[ObjectFacts, Bytes, Bytes]:
        """Size, first and last bytes of an object, asked for at once where that is possible."""
        asked = time.monotonic()
        try:
            last: Part | None = None
            beginning = read_fully(transport, 0, head, self._patience())
            if transport.tells_facts:
                end_at_once = _read_last(transport, tail, self._patience())
                first, last = await together(beginning, end_at_once)
                told = first.facts
                if told is None:
                    told = await persistently(transport.stat, self._patience())
                facts: ObjectFacts = told
            else:
                asking = persistently(transport.stat, self._patience())
                first, facts = await together(beginning, asking)
        except Exception as error:
            if is_of_empty_object(error):
                return ObjectFacts(0, None), b"", b""
            raise
        self._observer(transport).observe(
            [_times_of(asked, part) for part in (first, last) if part]
        )
        end = max(0, facts.size - tail)
        if last is None or (last.start, len(last.data), last.facts) != (
            end,
            facts.size - end,
            facts,
        ):
            last = first
            if facts.size:
                last = await read_fully(transport, end, facts.size, self._patience(), facts)
            check_unchanged(facts, last.facts)
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
        self,
        ranges: Ranges,
        deliver: Deliver,
        max_concurrency: int = MAX_CONCURRENCY,
        max_inline_bytes: int = MAX_INLINE_DECODE_BYTES,
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
        max_inline_bytes : int
            Ranges up to here are handed over on the event loop itself, all others in threads.

        Raises
        ------
        ND2SourceError
            A range cannot be read, or the object has changed.
        """
        self._read(ranges, deliver, max_concurrency, max_inline_bytes)

    def _read(
        self,
        ranges: Ranges,
        deliver: Deliver,
        max_concurrency: int,
        max_inline_bytes: int = MAX_INLINE_DECODE_BYTES,
        *,
        opening: bool = False,
    ) -> None:
        transport = self._transport()
        if isinstance(transport, DirectTransport):
            self._read_directly(transport, ranges, deliver)
        else:
            work = self._read_all(
                transport, ranges, deliver, max_concurrency, max_inline_bytes, opening=opening
            )
            wait_for(transport.loop, work)

    async def aread(
        self,
        ranges: Ranges,
        deliver: Deliver,
        max_concurrency: int = MAX_CONCURRENCY,
        max_inline_bytes: int = MAX_INLINE_DECODE_BYTES,
    ) -> None:
        """Do what `read` does, without blocking the event loop of the caller."""
        transport = self._transport()
        if isinstance(transport, DirectTransport):
            await asyncio.to_thread(self._read_directly, transport, ranges, deliver)
        else:
            work = self._read_all(transport, ranges, deliver, max_concurrency, max_inline_bytes)
            await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, transport.loop))

    def _read_directly(self, transport: DirectTransport, ranges: Ranges, deliver: Deliver) -> None:
        with ExitStack() as stack:
            with self._reading("opening again"):
                check_unchanged(self.facts, transport.stat())
                read = stack.enter_context(transport.reader())

            def read_in_order(share: list[tuple[int, tuple[int, int]]]) -> None:
                for index, (start, stop) in share:
                    with self._reading((start, stop)):
                        data = read(start, stop)
                        check_length(data, start, stop)
                    deliver(index, data)

            work = list(enumerate(ranges))
            if isinstance(transport, LocalFile) and len(work) > 1:
                # Copying out of a mapping is as quick as the processor.
                size = math.ceil(len(work) / LOCAL_READ_SHARES)
                shares = [work[at : at + size] for at in range(0, len(work), size)]
                list(this_process().decode_threads.map(read_in_order, shares))
            else:
                read_in_order(work)
            count_local(place for _, place in work)

    async def _confirm(self, transport: Transport) -> None:
        with self._reading("looking at the file"):
            check_unchanged(self.facts, await transport.confirm(self._patience()))

    async def _read_all(
        self,
        transport: Transport,
        ranges: Ranges,
        deliver: Deliver,
        max_concurrency: int,
        max_inline_bytes: int,
        *,
        opening: bool = False,
    ) -> None:
        remaining = enumerate(ranges)
        answers: list[AnswerTimes] = []
        process = this_process()
        in_flight = process.slots(transport.loop)

        async def read_in_turn() -> None:
            # The tasks share one iterator: as many ranges are in flight as there are tasks.
            for index, (start, stop) in remaining:
                # Held until the bytes are decoded: that bounds the memory for what arrives.
                async with in_flight.one(max_concurrency, stop - start):
                    asked = time.monotonic()
                    part = await self._read_one(transport, start, stop)
                    answers.append(_times_of(asked, part))
                    if len(part.data) <= max_inline_bytes:
                        deliver(index, part.data)
                    else:
                        decode = partial(deliver, index, part.data)
                        await transport.loop.run_in_executor(process.decode_threads, decode)

        failed = None
        try:
            async with asyncio.TaskGroup() as group:
                if not opening:
                    group.create_task(self._confirm(transport))
                for _ in range(max_concurrency):
                    group.create_task(read_in_turn())
        except ExceptionGroup as all_failed:
            failed = all_failed.exceptions[0]
        if failed is not None:
            raise failed  # not in the handler: its context would be the group that holds it
        self._observer(transport).observe(answers)

    async def _read_one(self, transport: Transport, start: int, stop: int) -> Part:
        with self._reading((start, stop)):
            part = await read_fully(transport, start, stop, self._patience(), self.facts)
            check_unchanged(self.facts, part.facts)
            check_length(part.data, start, stop)
        return part

    def _patience(self) -> Patience:
        return Patience(self.patience_seconds, self)

    def _transport(self) -> Transport | DirectTransport:
        with self._reading("connecting"):
            return connect(self.target, self.storage_options)

    def _observer(self, transport: Transport) -> LinkObserver:
        if isinstance(transport, MountedFile):
            return this_process().observer(transport.kind, transport.mount.point)
        return this_process().observer(transport.kind, host_of(self.name))

    def _reading(self, where: str | tuple[int, int]) -> nd2_errors:
        """Context that makes errors of this file of whatever goes wrong."""
        return nd2_errors(self.name, where, self.hide, opened=self.facts is not None)

    def hide(self, text: str) -> str:
        """Remove from a text what may be a secret."""
        return public_text(without_secrets(text, self.target, self.storage_options))


def _times_of(asked: float, part: Part) -> AnswerTimes:
    return AnswerTimes(asked, part.first_byte, time.monotonic(), len(part.data))


async def _read_last(transport: Transport, count: int, patience: Patience) -> Part | None:
    with suppress(Exception):  # whatever it is, an absolute range is read instead
        return await transport.read_last(count, patience)
    return None
