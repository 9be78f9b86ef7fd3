"""The exceptions this package raises.

Grouped by what a caller would do about them, each also a built-in exception of the same meaning::

    ND2Error
    ├── ND2FormatError(ValueError)              the bytes are not a readable ND2: check the file
    ├── ND2UnsupportedError(NotImplementedError)  a valid ND2 that no open reader can decode
    └── ND2SourceError(OSError)                 the bytes could not be read: check the store, retry
        ├── ND2NotFoundError(FileNotFoundError)
        ├── ND2PermissionError(PermissionError)
        └── ND2ChangedError                     the object is not the one that was opened: reopen

Every one of them can be copied and pickled, so a dask worker can send it to the client.
"""

from __future__ import annotations


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
        super().__init__(str(self))

    def name_file(self, url: str) -> None:
        """Give the error the name of the file, where it has none."""
        if self.url is None:
            self.url = url
            self.args = (str(self),)

    def __str__(self) -> str:
        # OSError would print its arguments its own way.
        return self.message if self.url is None else f"{self.url}: {self.message}"

    def __reduce__(self) -> tuple[type[ND2Error], tuple[str, str | None], dict[str, object]]:
        # Not the arguments of Exception, which are the two in one text. Notes are attributes too.
        return type(self), (self.message, self.url), self.__dict__


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
