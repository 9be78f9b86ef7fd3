"""Reading ranges of files on mounted shares, by threads of which each waits for one range.

The system reads such a file for us, and a call may wait for the server for as long as that takes. So
nothing that touches the file is done in a thread that somebody needs: one that is stuck stays behind.
Hence each range has a buffer of its own, and is not read to where its pixels belong: what a thread
that was given up reads late would overwrite pixels that were delivered since.
"""

from __future__ import annotations

import errno
import os
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import fsspec.asyn
import numpy as np

from xarray_nd2.io.answers import Part
from xarray_nd2.io.failures import ShareError
from xarray_nd2.io.local import facts_of_status
from xarray_nd2.io.open_while_read import OpenWhileRead
from xarray_nd2.io.process import in_read_thread
from xarray_nd2.io.watch import watch_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from io import FileIO

    from xarray_nd2.io.answers import ObjectFacts
    from xarray_nd2.io.mounts import Mount
    from xarray_nd2.io.patience import Patience
    from xarray_nd2.io.watch import NoWatch

READ_PIECE_BYTES: Final = 128 * 1024
"""Read by one call: as much as Linux asks a server for, and so little that slow is not silent."""

# What the server answered; all other failures may be those of the way to it.
_SERVER_ANSWERS: Final = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError)


class MountedFile:
    """A file on a mounted share.

    Parameters
    ----------
    path : str
        Of the file.
    mount : Mount
        That it is on.
    """

    kind = "share"
    tells_facts = True

    def __init__(self, path: str, mount: Mount) -> None:
        self.loop = fsspec.asyn.get_loop()
        self.mount = mount
        self._file = OpenWhileRead(lambda: _OpenFile(Path(path), keeps_inodes=mount.keeps_inodes))

    async def stat(self, patience: Patience) -> ObjectFacts:
        with _share_errors(), watch_of(patience) as watch:
            watch.begin()
            async with patience.attempt(), self._file.opened() as file:
                return file.facts

    async def confirm(self, patience: Patience) -> ObjectFacts | None:  # noqa: ARG002
        return None

    async def read(
        self,
        start: int,
        stop: int,
        patience: Patience,
        pinned: ObjectFacts | None = None,  # noqa: ARG002
    ) -> Part:
        with watch_of(patience, start, stop) as watch:
            return await self._read(lambda _: (start, stop), patience, watch)

    async def read_last(self, count: int, patience: Patience) -> Part | None:
        with watch_of(patience, -count) as watch:
            return await self._read(lambda size: (max(0, size - count), size), patience, watch)

    async def _read(
        self, place: Callable[[int], tuple[int, int]], patience: Patience, watch: NoWatch
    ) -> Part:
        """Read a range that depends on the size of the file."""
        progress = _Progress()
        watch.begin()
        watch.receives(lambda: progress.received)
        with _share_errors():
            async with patience.attempt(lambda: progress.received), self._file.opened() as file:
                start, stop = place(file.facts.size)
                data = await in_read_thread(file.read, start, stop, progress)
                return Part(start, data, file.facts, progress.first_byte)


class _Progress:
    """How far a thread has come."""

    received = 0  # bytes
    first_byte: float | None = None


class _OpenFile:
    """A file that is open to be read by many threads at once.

    On Windows and old systems of others a handle has one position, so each thread takes one of its
    own; otherwise all of them use the first.
    """

    def __init__(self, path: Path, *, keeps_inodes: bool) -> None:
        self._path, self._keeps_inodes = path, keeps_inodes
        self._closed = False
        self._shares_handle = hasattr(os, "preadv")
        self._facts(path.stat())  # before it is opened, for it may be a pipe
        handle, self.facts = self._open()
        self._unused = [handle]

    def read(self, start: int, stop: int, progress: _Progress) -> memoryview:
        """Bytes of a range; fewer at the end of the file."""
        buffer = np.empty(max(0, stop - start), np.uint8).data
        with self._handle() as handle:
            while progress.received < len(buffer):
                at = progress.received
                piece = buffer[at : at + READ_PIECE_BYTES]
                if self._shares_handle:
                    count = os.preadv(handle.fileno(), [piece], start + at)
                else:
                    handle.seek(start + at)
                    count = handle.readinto(piece) or 0
                if not count:
                    break
                if not at:
                    progress.first_byte = time.monotonic()
                progress.received += count
        return buffer[: progress.received]

    def close(self) -> None:
        self._closed = True
        while self._unused:
            self._unused.pop().close()

    @contextmanager
    def _handle(self) -> Iterator[FileIO]:
        if self._shares_handle:
            yield self._unused[0]
            return
        try:
            handle = self._unused.pop()
        except IndexError:
            handle, facts = self._open()
            if facts != self.facts:
                handle.close()
                raise OSError(errno.ESTALE, "it was replaced while it was read") from None
        try:
            yield handle
        finally:
            self._unused.append(handle)
            if self._closed:  # while this thread was stuck
                self.close()

    def _open(self) -> tuple[FileIO, ObjectFacts]:
        handle = self._path.open("rb", buffering=0)
        try:
            return handle, self._facts(os.fstat(handle.fileno()))
        except BaseException:
            handle.close()
            raise

    def _facts(self, status: os.stat_result) -> ObjectFacts:
        return facts_of_status(status, self._path, keeps_inodes=self._keeps_inodes)


@contextmanager
def _share_errors() -> Iterator[None]:
    """Tell failures of the share, which may pass, from what the server answered."""
    try:
        yield
    except _SERVER_ANSWERS:
        raise
    except OSError as error:
        if error.errno is None:  # it is none of the system
            raise
        raise ShareError(error.errno, error.strerror) from error
