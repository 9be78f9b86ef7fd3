"""What is at hand, a file on a local disk or an open one: read directly in the calling thread."""

from __future__ import annotations

import mmap
import os
import stat
import sys
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Final

from xarray_nd2.io.answers import ObjectFacts, facts_of_info
from xarray_nd2.io.process import this_process

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from xarray_nd2.io.answers import Bytes

_KEEPS_OTHERS_OUT: Final = sys.platform == "win32"  # who would delete or shorten what is mapped


def facts_of_status(
    status: os.stat_result, path: str | Path, *, keeps_inodes: bool = True
) -> ObjectFacts:
    """What the system says of a file that is open, or about to be opened.

    Parameters
    ----------
    status : os.stat_result
        What it says.
    path : str or Path
        Of the file, for messages.
    keeps_inodes : bool
        Whether the number of the inode tells the file from others.

    Raises
    ------
    OSError
        It is not an ordinary file.
    """
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(f"{path} is a directory")
    if not stat.S_ISREG(status.st_mode):  # to open a pipe would wait for somebody to write
        raise OSError(f"{path} is not an ordinary file")
    modified = f"{status.st_mtime_ns:x}"
    etag = f"{status.st_ino:x}-{modified}" if keeps_inodes else None
    return ObjectFacts(status.st_size, etag, modified)


class LocalFile:
    """A file on a disk of this machine, mapped into memory while it is read."""

    def __init__(self, path: str) -> None:
        self._path = path

    def stat(self) -> ObjectFacts:
        return facts_of_status(os.stat(self._path), self._path)  # noqa: PTH116

    def kept_map(self) -> tuple[memoryview, ObjectFacts]:
        """As `mapped`, by a map that is kept for the next read, where that is in nobody's way."""
        if _KEEPS_OTHERS_OUT:
            return self.mapped()
        maps, facts = this_process().maps, self.stat()
        # The inode of a file that is mapped cannot become that of another one.
        kept = maps.get((self._path, facts))
        if kept is None:
            kept, facts = self.mapped()
            maps.keep((self._path, facts), kept)
        return kept, facts

    def mapped(self) -> tuple[memoryview, ObjectFacts]:
        """All bytes of the file, and what it is that was mapped."""
        with open(self._path, "rb", buffering=0) as file:  # noqa: PTH123
            facts = facts_of_status(os.fstat(file.fileno()), self._path)
            # An empty file cannot be mapped. The mapping outlives the file object and goes with
            # the last view of it.
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if facts.size else b""
        if len(data) != facts.size:
            raise EOFError(f"{len(data)} bytes came of {facts.size}")
        return memoryview(data), facts

    def read(self, start: int, stop: int) -> tuple[memoryview, ObjectFacts]:
        """Bytes of one range, as many as the system gives in one call, and what was read."""
        with open(self._path, "rb", buffering=0) as file:  # noqa: PTH123
            facts = facts_of_status(os.fstat(file.fileno()), self._path)
            file.seek(start)
            return memoryview(file.read(stop - start)), facts

    @contextmanager
    def reader(self) -> Iterator[Callable[[int, int], Bytes]]:
        view, _ = self.mapped()
        yield lambda start, stop: view[start:stop]


class OpenFile:
    """An open binary file-like object; its one position is shared, so reads take turns.

    The position is put back after each, for the file is its user's.
    """

    def __init__(self, file: Any) -> None:
        self._file = file
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[type[OpenFile], tuple[Any]]:
        return type(self), (self._file,)

    def stat(self) -> ObjectFacts:
        with self._turn():
            self._file.seek(0, os.SEEK_END)
            return ObjectFacts(self._file.tell(), None)

    @contextmanager
    def reader(self) -> Iterator[Callable[[int, int], Bytes]]:
        with self._turn():
            yield self._read

    @contextmanager
    def _turn(self) -> Iterator[None]:
        with self._lock:
            position = self._file.tell()
            try:
                yield
            finally:
                with suppress(OSError, ValueError):  # it was closed meanwhile
                    self._file.seek(position)

    def _read(self, start: int, stop: int) -> bytes:
        self._file.seek(start)
        part = self._file.read(stop - start)
        if isinstance(part, str):  # of a file that does not tell so
            raise TypeError("it is open in text mode")
        data: bytes = part
        while data and len(data) < stop - start:  # a raw file may give less than it has
            more = self._file.read(stop - start - len(data))
            if not more:
                break
            data += more
        return data


class MemoryFile:
    """A file of fsspec's in-memory filesystem."""

    def __init__(self, fs: Any, path: str) -> None:
        self._fs, self._path = fs, path

    def stat(self) -> ObjectFacts:
        return facts_of_info(self._fs.info(self._path), self._path)

    @contextmanager
    def reader(self) -> Iterator[Callable[[int, int], Bytes]]:
        yield lambda start, stop: self._fs.cat_file(self._path, start, stop)


DirectTransport = LocalFile | OpenFile | MemoryFile
"""What is at hand: ``reader()`` gives a function from (start, stop) to bytes."""
