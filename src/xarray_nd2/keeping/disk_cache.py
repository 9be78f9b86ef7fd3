"""Frames that were fetched, kept as files on a disk of this machine for all of its processes.

Each frame is one file, `<folder>/nd2-frames/<name of the object>/<where it lies in the object>`. It is
written under another name and renamed when it is complete, and it is never written to after that, so
that whoever reads it needs no lock. How many bytes there are stands in one small file; what adds to it
holds a lock, and deletes what was used longest ago before there are more than the limit. What is being
written counts in full from the beginning, and is not deleted.
"""

from __future__ import annotations

import os
import re
import tempfile
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from filelock import FileLock, Timeout

from xarray_nd2.guard import warn_user
from xarray_nd2.io.process import this_process
from xarray_nd2.read.frame_file import are_sound, frame_file_parts, header_bytes, read_checksums

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from io import FileIO

    from numpy.typing import NDArray

    from xarray_nd2.format.layout import ImageShape

DEFAULT_DISK_CACHE_BYTES: Final = 64 * 1024**3
"""Bytes in a folder unless the user says otherwise."""

_FRAMES_FOLDER: Final = "nd2-frames"  # all that is ever deleted is in there
_LOCK_NAME: Final = "lock"
_TOTAL_NAME: Final = "total-bytes"
_UNFINISHED_PREFIX: Final = "unfinished-"
_UNFINISHED_KEPT_SECONDS: Final = 120.0  # then whoever wrote it is gone, or writes it again
_LOCK_SECONDS: Final = 30.0
_LOCK_POLL_SECONDS: Final = 0.005
_USE_NOTED_SECONDS: Final = 60.0  # a file used again within it keeps its time
_ROOM_MADE: Final = (
    0.1  # share of the limit that is freed at a time, so that folders are listed seldom
)
_NOT_KEPT: Final = (OSError, Timeout, NotImplementedError)  # the last of a disk without locks
_OBJECT_FOLDER: Final = re.compile(r"[0-9a-f]{40}")
_FRAME_NAME: Final = re.compile(r"[0-9]+")


@dataclass(frozen=True)
class DiskCache:
    """A folder of frames, shared by the processes of a machine.

    Nothing here raises for what the disk does: what cannot be read is not there, and what cannot be
    written is not kept, with one warning.

    Attributes
    ----------
    folder : str
        Where; ``~`` is the home of whoever reads.
    limit_bytes : int
        Bytes of all frames in it.
    """

    folder: str
    limit_bytes: int = DEFAULT_DISK_CACHE_BYTES

    @classmethod
    def at(cls, folder: str | os.PathLike[str], limit_bytes: int) -> DiskCache:
        """Cache in a folder.

        Raises
        ------
        TypeError
            `folder` is no path.
        ValueError
            No folder can have such a name.
        """
        if not isinstance(folder, (str, os.PathLike)):
            raise TypeError(f"cache_dir must be a path, not {type(folder).__name__}")
        path = os.fspath(folder)
        if "\0" in path:
            raise ValueError(f"cache_dir must be a path, not {path!r}")
        # It stays the same folder in a process that is elsewhere, but for who has another home.
        return cls(path if path.startswith("~") else str(Path(path).absolute()), limit_bytes)

    def fits(self, frame: ImageShape) -> bool:
        """Whether a frame of an image of such a shape is small enough to be kept."""
        return _file_bytes(frame) <= self.limit_bytes

    def missing(self, name: str, offsets: Iterable[int]) -> list[int]:
        """Those frames that are not there; others may be damaged, or deleted in the next moment."""
        try:
            folder = str(self._root / name)
        except OSError:
            return list(offsets)
        return [at for at in offsets if not os.path.exists(f"{folder}/{at}")]  # noqa: PTH110

    @contextmanager
    def opened(self, name: str, offset: int, frame: ImageShape) -> Iterator[FrameFile | None]:
        """A frame of an object, open for reading; None if there is none, or a damaged one.

        Parameters
        ----------
        name : str
            Of the object, by `object_name`.
        offset : int
            Where the frame lies in it.
        frame : ImageShape
            Of the image.
        """
        try:
            path = self._path(name, offset)
            file = path.open("rb", buffering=0)
        except OSError:
            yield None
            return
        with file:
            yield _frame_file(file, path, frame)

    def put(self, name: str, offset: int, pixels: NDArray[Any]) -> Exception | None:
        """Keep a frame of an object, an array of shape (C, Y, X, S); returns why it is not kept."""
        header, rows = frame_file_parts(pixels)
        for last_try in (False, True):
            try:
                path = self._path(name, offset)
                unfinished = self._reserved(path, len(header) + len(rows))
                if unfinished:
                    self._write_whole(path, unfinished, header, rows)
                break
            except _NOT_KEPT as error:
                # The folder may be deleted at any time, and is then made anew.
                if last_try or not isinstance(error, FileNotFoundError):
                    return error
        return None

    def warn_once(self, error: Exception) -> None:
        """Warn in this process, once of each folder, that frames are not kept."""
        process, what = this_process(), f"disk cache {self.folder}"
        with process.reading_frames.holding(what):
            known = what in process.warned_of
            process.warned_of.add(what)
        if not known:
            warn_user(f"frames are not kept in {self.folder}: {error}; reading goes on without it")

    @property
    def _root(self) -> Path:
        try:
            return Path(self.folder).expanduser() / _FRAMES_FOLDER
        except RuntimeError as error:  # who reads has no home, or there is no such user
            raise OSError(str(error)) from None

    def _path(self, name: str, offset: int) -> Path:
        return self._root / name / str(offset)

    def _reserved(self, path: Path, size: int) -> Path | None:
        """An unfinished file of so many bytes to write a frame to; None if there is no room.

        It is counted, and has its size from the beginning, so that whoever counts anew finds it.
        """
        self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
        counter = self._root / _TOTAL_NAME
        with self._locked():
            try:
                total = int(counter.read_text())
            except (OSError, ValueError):
                total = self._delete_oldest(self.limit_bytes - size)
            if total + size > self.limit_bytes:
                spare = int(_ROOM_MADE * self.limit_bytes)
                total = self._delete_oldest(max(0, self.limit_bytes - size - spare))
            has_room = total + size <= self.limit_bytes  # not where it is all being written to
            counter.write_text(str(total + size if has_room else total))
            if not has_room:
                return None
            path.parent.mkdir(mode=0o700, exist_ok=True)
            descriptor, unfinished = tempfile.mkstemp(prefix=_UNFINISHED_PREFIX, dir=path.parent)
            with open(descriptor, "wb") as file:  # noqa: PTH123  (of a descriptor)
                file.truncate(size)
        return Path(unfinished)

    def _write_whole(self, path: Path, unfinished: Path, *parts: bytes | memoryview) -> None:
        """Write a file that nobody sees before it is complete."""
        try:
            with unfinished.open("r+b", buffering=0) as file:
                for part in parts:
                    view = memoryview(part)
                    while view:
                        view = view[file.write(view) :]
            with self._locked():  # or who counts at this moment might see neither name
                unfinished.replace(path)
        except BaseException:
            with suppress(OSError):
                unfinished.unlink()
            raise

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Hold the lock of the folder.

        Who holds it may have been stopped. After a wait in vain this process does not wait for it
        again, until it finds it free.
        """
        process, key = this_process(), ("disk cache", str(self._root))
        # The lock between processes is waited for by trying again and again, one thread at a time.
        with process.reading_frames.holding(key):
            seconds = 0.0 if key in process.stuck_locks else _LOCK_SECONDS
            lock = FileLock(self._root / _LOCK_NAME, seconds, poll_interval=_LOCK_POLL_SECONDS)
            try:
                lock.acquire()
            except Timeout:
                process.stuck_locks.add(key)
                raise
            process.stuck_locks.discard(key)
            try:
                yield
            finally:
                lock.release()

    def _delete_oldest(self, limit: int) -> int:
        """Delete the frames used longest ago, down to so many bytes; returns how many are left.

        Those left are of frames and of unfinished files, which others write to.
        """
        kept: list[tuple[float, int, Path]] = []
        total = 0
        now = time.time()
        for folder in _entries(self._root):
            if not (_OBJECT_FOLDER.fullmatch(folder.name) and folder.is_dir(follow_symlinks=False)):
                continue
            for entry in _entries(folder.path):
                with suppress(OSError):  # another process has deleted it
                    told, path = entry.stat(follow_symlinks=False), Path(entry.path)
                    if entry.name.startswith(_UNFINISHED_PREFIX):
                        if abs(now - told.st_mtime) > _UNFINISHED_KEPT_SECONDS:
                            path.unlink()
                        else:
                            total += told.st_size
                    elif _FRAME_NAME.fullmatch(entry.name):
                        total += told.st_size
                        kept.append((told.st_mtime, told.st_size, path))
        for _, size, path in sorted(kept):
            if total <= limit:
                break
            with suppress(OSError):  # Windows keeps what is open
                path.unlink()
                total -= size
            with suppress(OSError):  # there are others in it
                path.parent.rmdir()
        return total


class FrameFile:
    """A frame in a file that is open, and that nobody else reads from.

    Parameters
    ----------
    file : FileIO
        Its file.
    checksums : ndarray of uint32, shape (Y,)
        Of its rows.
    frame : ImageShape
        Of the image.
    """

    def __init__(self, file: FileIO, checksums: NDArray[np.uint32], frame: ImageShape) -> None:
        self._file, self._checksums, self._frame = file, checksums, frame

    def read(self, rows: range) -> NDArray[Any] | None:
        """Consecutive rows, shape (C, rows, X, S); None if they are damaged or lost."""
        frame = self._frame
        pixels = np.empty((len(rows), frame.width, frame.channels, frame.samples), frame.dtype)
        by_row = pixels.reshape(len(rows), -1).view(np.uint8)
        start = header_bytes(frame.height) + rows.start * by_row.shape[1]
        checksums = self._checksums[rows.start : rows.stop]
        try:
            whole = _read_into(self._file, start, by_row.reshape(-1).data)
        except OSError:
            return None
        if not whole or not are_sound(by_row, checksums):
            return None
        return pixels.transpose(2, 0, 1, 3)


def _file_bytes(frame: ImageShape) -> int:
    return header_bytes(frame.height) + frame.height * frame.width * frame.pixel_bytes


def _frame_file(file: FileIO, path: Path, frame: ImageShape) -> FrameFile | None:
    try:
        told = os.fstat(file.fileno())
        if told.st_size != _file_bytes(frame):
            return None
        if abs(time.time() - told.st_mtime) > _USE_NOTED_SECONDS:
            with suppress(OSError):  # it can be read all the same
                os.utime(path)
        checksums = read_checksums(file.read(header_bytes(frame.height)) or b"", frame.height)
    except OSError:
        return None
    return None if checksums is None else FrameFile(file, checksums, frame)


def _read_into(file: FileIO, at: int, view: memoryview) -> bool:
    """Fill a view with the bytes of a file from `at` on; whether there were so many."""
    file.seek(at)
    while view:
        read = file.readinto(view)
        if not read:
            return False
        view = view[read:]
    return True


def _entries(folder: str | Path) -> list[os.DirEntry[str]]:
    """What is in a folder; nothing if there is no such folder."""
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError:
        return []
