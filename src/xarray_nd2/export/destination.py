"""Where a file is exported to: objects that are written whole or not at all, on any fsspec store."""

from __future__ import annotations

import os
import uuid
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem

from xarray_nd2.io.secrets import public_text, public_url, without_secrets

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_PARTIAL_SUFFIX: Final = ".partial"  # of what is still being written
# Stores that show an object only when all of it has arrived.
_WHOLE_OBJECT_PROTOCOLS: Final = frozenset(
    {"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "adl", "oss", "memory"}
)


@dataclass(frozen=True)
class Destination:
    """A folder, or what stands for one in an object store.

    Attributes
    ----------
    name : str
        Path or URL to show, without credentials.
    filesystem : fsspec.AbstractFileSystem
        The store; never shown.
    root : str
        The folder in it.
    url, options : str and mapping
        As given, to find secrets in the texts of errors; never shown.
    """

    name: str
    filesystem: Any = field(repr=False)
    root: str
    url: str = field(repr=False)
    options: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @classmethod
    def of(
        cls, target: str | os.PathLike[str], options: Mapping[str, Any] | None = None
    ) -> Destination:
        """The folder of a path or URL.

        Raises
        ------
        TypeError, ValueError
            It is none, or no filesystem has its protocol.
        OSError
            The store cannot be connected.
        """
        if not isinstance(target, (str, os.PathLike)):
            raise TypeError(f"expected a path or a URL to write to, not {type(target).__name__}")
        url, given = os.fspath(target), dict(options or {})
        if not url:
            raise ValueError("the destination is an empty text, which names no folder to write to")
        name = public_url(url)
        with _clear_errors(name, url, given, "connecting"):
            filesystem, root = url_to_fs(url, **given)
        if isinstance(filesystem, LocalFileSystem):
            root = str(Path(root).absolute())
        root = root.rstrip("/")
        if not root:
            raise ValueError(f"{name} names no folder to write to")
        return cls(name, filesystem, root, url, given)

    @property
    def is_shared_by_processes(self) -> bool:
        """Whether other processes see what this one writes."""
        return "memory" not in self._protocols

    @property
    def _protocols(self) -> set[str]:
        protocol = self.filesystem.protocol
        return {protocol} if isinstance(protocol, str) else set(protocol)

    def write(self, path: str, data: bytes | memoryview) -> None:
        """Write an object below the root; it is there as a whole or not at all.

        Raises
        ------
        OSError
            It cannot be written.
        """
        full = f"{self.root}/{path}"
        with self._clear_errors(f"writing {path}"):
            if self._protocols & _WHOLE_OBJECT_PROTOCOLS:
                self.filesystem.pipe_file(full, bytes(data))
                return
            partial = f"{full}.{uuid.uuid4().hex[:8]}{_PARTIAL_SUFFIX}"
            try:
                self._write_partial(partial, data)
                if isinstance(self.filesystem, LocalFileSystem):
                    Path(partial).replace(full)
                else:
                    self.filesystem.mv(partial, full)
            except BaseException:
                with suppress(Exception):
                    self.filesystem.rm_file(partial)
                raise

    def _write_partial(self, partial: str, data: bytes | memoryview) -> None:
        if isinstance(self.filesystem, LocalFileSystem):
            path = Path(partial)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        else:
            self.filesystem.makedirs(partial.rpartition("/")[0], exist_ok=True)
            self.filesystem.pipe_file(partial, bytes(data))

    def read(self, path: str) -> bytes | None:
        """Bytes of an object below the root; None where there is none.

        Raises
        ------
        OSError
            It cannot be read.
        """
        with self._clear_errors(f"reading {path}"):
            try:
                data: bytes = self.filesystem.cat_file(f"{self.root}/{path}")
            except (FileNotFoundError, NotADirectoryError):
                return None
        return data

    def is_empty(self) -> bool:
        """Whether there is nothing at the root."""
        with self._clear_errors("looking"):
            self.filesystem.invalidate_cache()
            if self.filesystem.isfile(self.root):
                return False
            try:
                return not self.filesystem.ls(self.root, detail=False)
            except FileNotFoundError:
                return True

    def existing(self, folder: str) -> set[str]:
        """Names of the objects in a folder below the root, and in the folders in it."""
        base = f"{self.root}/{folder}" if folder else self.root
        with self._clear_errors(f"listing {folder}"):
            self.filesystem.invalidate_cache()
            try:
                found = self.filesystem.find(base)
            except FileNotFoundError:
                return set()
        return {path[len(base) + 1 :] for path in found}

    def remove_partial(self) -> int:
        """Remove what an export that was killed had not finished writing, and count it."""
        if self._protocols & _WHOLE_OBJECT_PROTOCOLS:
            return 0
        count = 0
        with self._clear_errors("removing what was not finished"):
            for folder, _, names in self.filesystem.walk(self.root):
                for name in names:
                    if name.endswith(_PARTIAL_SUFFIX):
                        self.filesystem.rm_file(f"{folder}/{name}")
                        count += 1
        return count

    def remove_all(self) -> None:
        """Remove the folder and all that is in it."""
        with self._clear_errors("removing what is there"):
            self.filesystem.rm(self.root, recursive=True)
            self.filesystem.invalidate_cache()

    def _clear_errors(self, doing: str) -> Any:
        return _clear_errors(self.name, self.url, self.options, doing)


@contextmanager
def _clear_errors(name: str, url: str, options: Mapping[str, Any], doing: str) -> Iterator[None]:
    """Make errors that name the destination and hold no secret of what clients raise."""
    try:
        yield
    except Exception as error:  # noqa: BLE001
        text = public_text(without_secrets(f"{type(error).__name__}: {error}", url, options))
        kind = next(
            (kind for kind in (PermissionError, FileNotFoundError) if isinstance(error, kind)),
            ValueError if isinstance(error, (ValueError, ImportError)) else OSError,
        )
        raise kind(f"{name}: {doing} failed: {text}") from None
