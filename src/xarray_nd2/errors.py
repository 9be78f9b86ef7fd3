"""The exceptions this package raises.

Grouped by what a caller would do about them, each also a built-in exception of the same meaning::

    ND2Error
    ├── ND2FormatError(ValueError)              the bytes are not a readable ND2: check the file
    ├── ND2UnsupportedError(NotImplementedError)  a valid ND2 that no open reader can decode
    └── ND2SourceError(OSError)                 the bytes could not be read: check the store, retry
        ├── ND2NotFoundError(FileNotFoundError)
        ├── ND2PermissionError(PermissionError)
        └── ND2ChangedError                     the object is not the one that was opened: reopen

Every one of them pickles, so a dask worker can send it to the client.
"""

from __future__ import annotations

import pickle
from contextlib import contextmanager
from typing import TYPE_CHECKING

from xarray_nd2.io.urls import public_text

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "ND2ChangedError",
    "ND2Error",
    "ND2FormatError",
    "ND2NotFoundError",
    "ND2PermissionError",
    "ND2SourceError",
    "ND2UnsupportedError",
]


class ND2Error(Exception):
    """Base class of every error this package raises on purpose.

    Parameters
    ----------
    message : str
        What went wrong and where.
    url : str, optional
        The file, with credentials removed.
    """

    def __init__(self, message: str, url: str | None = None) -> None:
        self.message = message
        self.url = url
        super().__init__(message if url is None else f"{url}: {message}")

    def __str__(self) -> str:
        # OSError would print its arguments its own way.
        return self.message if self.url is None else f"{self.url}: {self.message}"

    def __reduce__(self) -> tuple[type[ND2Error], tuple[str, str | None]]:
        # With tblib, which dask's cluster loads, errors take along what caused them. Those of many
        # a store's library do not pickle; the message tells of them.
        for name in ("__cause__", "__context__"):
            if not _pickles(getattr(self, name)):
                setattr(self, name, None)
        return type(self), (self.message, self.url)


class ND2FormatError(ND2Error, ValueError):
    """The bytes are not a readable ND2 file: another format, truncated or corrupt."""


class ND2UnsupportedError(ND2Error, NotImplementedError):
    """A valid ND2 file that this package cannot decode, such as one with lossy frames."""


class ND2SourceError(ND2Error, OSError):
    """The bytes could not be read from where the file is stored."""


class ND2NotFoundError(ND2SourceError, FileNotFoundError):
    """There is no file of that name."""


class ND2PermissionError(ND2SourceError, PermissionError):
    """The store refused access to the file."""


class ND2ChangedError(ND2SourceError):
    """The object is no longer the one that was opened."""


_SILENT = {"builtins", "isal", "numpy", "xarray_nd2", "zlib"}
"""Packages whose errors hold no more than their text says."""


def _pickles(error: BaseException | None) -> bool:
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301  (made in this line)
    except Exception:  # noqa: BLE001  (whatever a library raises here)
        return False
    return True


@contextmanager
def naming(url: str) -> Iterator[None]:
    """Give the errors raised inside the name of the file, where they have none.

    What caused them is left out where it may tell a secret, such as a signed URL: an error of a
    store's library may hold the request with all of its headers.
    """
    try:
        yield
    except ND2Error as error:
        error.url = error.url or url
        if _tells_secret(error.__cause__ or error.__context__):
            error.__cause__ = error.__context__ = None
        raise


def _tells_secret(error: BaseException | None) -> bool:
    seen: list[BaseException] = []
    while error is not None and error not in seen:
        if type(error).__module__.partition(".")[0] not in _SILENT or (
            public_text(repr(error)) != repr(error)
        ):
            return True
        seen.append(error)
        error = error.__cause__ or error.__context__
    return False
