"""A file that is open for as long as reads of it overlap in time."""

from __future__ import annotations

import asyncio
import threading
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from xarray_nd2.io.process import in_read_thread

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable


class Closable(Protocol):
    """What is open and can be closed."""

    def close(self) -> object: ...


F = TypeVar("F", bound=Closable)


@dataclass(eq=False, slots=True)
class _Opened(Generic[F]):
    file: asyncio.Future[F]
    users: int = 0


class OpenWhileRead(Generic[F]):
    """A file that is opened once for all reads that overlap in time.

    To open and close it for each range would be asked of the server apart; one that stayed open for
    longer could not be deleted by others.

    Parameters
    ----------
    open_file : callable
        Opens the file; called in a thread, and what it gives is closed in one.
    """

    def __init__(self, open_file: Callable[[], F]) -> None:
        self._open_file = open_file
        self._opened: _Opened[F] | None = None

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[F]:
        """The file, open; after a failure inside, the next read opens it anew."""
        if self._opened is None:
            self._opened = _Opened(asyncio.ensure_future(in_read_thread(self._open_file)))
        opened = self._opened
        opened.users += 1
        try:
            yield await asyncio.shield(opened.file)
        except BaseException:
            if self._opened is opened:
                self._opened = None
            raise
        finally:
            opened.users -= 1
            if not opened.users:
                if self._opened is opened:
                    self._opened = None
                opened.file.add_done_callback(_close)


def _close(opened: asyncio.Future[F]) -> None:
    if not opened.cancelled() and opened.exception() is None:
        threading.Thread(target=_close_file, args=(opened.result(),), daemon=True).start()


def _close_file(file: Closable) -> None:
    with suppress(Exception):  # the connection was lost, and the file with it
        file.close()
