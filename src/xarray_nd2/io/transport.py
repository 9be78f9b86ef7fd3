"""How one range of bytes is read: the protocol of transports, and what they have in common.

A transport answers three questions about one object: what is it (`stat`), what are these bytes
(`read`), and what are its last bytes (`read_last`, where that is safe to ask before the size is
known). There is one for each kind of store. Transports live in one process and are never sent to
another.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from xarray_nd2.io.answers import facts_of_info
from xarray_nd2.io.failures import is_transient

if TYPE_CHECKING:
    from collections.abc import Coroutine, Mapping

    from xarray_nd2.io.answers import ObjectFacts, Part

T = TypeVar("T")


class Transport(Protocol):
    """One object of one store, read by coroutines on the event loop `loop`."""

    loop: asyncio.AbstractEventLoop
    kind: str  # of link, for a first estimate of what requests cost
    tells_facts: bool  # with every read, so that no `stat` is needed first

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


class ObjectTransport:
    """An object of a store that tells its size and tag with every answer."""

    kind = "http"
    tells_facts = True
    loop: asyncio.AbstractEventLoop

    async def stat(self) -> ObjectFacts:
        part = await self.read(0, 1)
        if part.facts is None:
            raise OSError("the server tells no size")
        return part.facts

    async def confirm(self) -> ObjectFacts | None:
        return None

    async def read(self, start: int, stop: int, _pinned: ObjectFacts | None = None, /) -> Part:
        return await self._get(f"bytes={start}-{stop - 1}", start, stop - start)

    async def read_last(self, count: int) -> Part | None:
        return await self._get(f"bytes=-{count}", None, count)

    async def _get(self, range_header: str, start: int | None, count: int) -> Part:
        """Answer to a request for `count` bytes from `start`, or the last ones if that is None."""
        raise NotImplementedError


class FileTransport:
    """A file of an fsspec filesystem, which has to be asked apart what the file is."""

    kind = "other"
    tells_facts = False
    loop: asyncio.AbstractEventLoop

    def __init__(self, fs: Any, path: str) -> None:
        self._fs, self._path = fs, path
        self._confirming: asyncio.Task[ObjectFacts] | None = None

    async def stat(self) -> ObjectFacts:
        self._confirming = None
        return await asyncio.shield(unattended_task(self.loop, self._look()))

    async def confirm(self) -> ObjectFacts | None:
        asked = self._confirming
        if asked is None or (asked.done() and (asked.cancelled() or asked.exception())):
            asked = self._confirming = unattended_task(self.loop, self._look())
        try:
            return await asyncio.shield(asked)  # others wait for it as well
        except Exception as error:
            if not is_transient(error):
                raise
            return None  # the next read asks again

    async def read_last(self, count: int) -> Part | None:  # noqa: ARG002
        # Some refuse a suffix range and some answer it with other bytes.
        return None

    async def _look(self) -> ObjectFacts:
        return facts_of_info(await self._info(), self._path)

    async def _info(self) -> Mapping[str, Any]:
        """The filesystem's description of the file as it is now."""
        raise NotImplementedError


def unattended_task(
    loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, T]
) -> asyncio.Task[T]:
    """A task that nobody has to wait for."""
    task = loop.create_task(work)
    task.add_done_callback(lambda done: done.cancelled() or done.exception())
    return task
