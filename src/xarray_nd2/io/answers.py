"""What a store answers: parts of an object, and what it says of the object."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

Bytes = bytes | bytearray | memoryview

MAX_OBJECT_BYTES: Final = 2**60


@dataclass(frozen=True, slots=True)
class ObjectFacts:
    """What a store says of an object.

    Attributes
    ----------
    size : int
        Bytes.
    etag : str or None
        A tag that changes with the content, without the mark of a weak one: only whether two are
        equal matters here, and one answer of a store may be marked where another is not.
    modified : str or None
        When it was changed last, in the words of the store.
    """

    size: int
    etag: str | None
    modified: str | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.size < MAX_OBJECT_BYTES:
            raise OSError(f"the store tells an impossible size: {self.size}")

    @property
    def version(self) -> str | None:
        """What tells the content from what was there before and may come after."""
        return self.etag or self.modified

    def agrees(self, other: ObjectFacts) -> bool:
        """Whether both may be of the same content; only what both know is compared."""
        if self.size != other.size:
            return False
        if self.etag and other.etag:
            return self.etag == other.etag
        return not (self.modified and other.modified) or self.modified == other.modified


@dataclass(frozen=True, slots=True)
class Part:
    """Bytes of an object, where they start, and what the store said of the object with them."""

    start: int
    data: Bytes
    facts: ObjectFacts | None = None
    first_byte: float | None = None  # when it came, by time.monotonic


def facts_of_info(info: Mapping[str, Any], path: str) -> ObjectFacts:
    """Facts in the description that a filesystem gives of a file.

    Raises
    ------
    IsADirectoryError
        It is a directory.
    OSError
        The description has no size.
    """
    if info.get("type") == "directory":
        raise IsADirectoryError(f"{path} is a directory")
    size = info.get("size")
    if size is None:
        raise OSError("the store does not tell the size of the file")
    keys = ("ETag", "etag", "md5", "mtime", "modified", "created", "last_modified")
    version = next((str(info[key]) for key in keys if info.get(key)), None)
    return ObjectFacts(int(size), version)


def check_length(data: Bytes, start: int, stop: int) -> None:
    """Check that so many bytes came as were asked for.

    Raises
    ------
    EOFError
        There are more, or fewer.
    """
    if len(data) != stop - start:
        raise EOFError(f"{len(data)} bytes came for {start}-{stop}")
