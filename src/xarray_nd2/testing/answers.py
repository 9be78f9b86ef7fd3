"""What a server on loopback is asked, and what it answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable


class Body(Protocol):
    """Bytes to send, of which slices are taken one after the other."""

    def __len__(self) -> int: ...
    def __getitem__(self, part: slice, /) -> bytes | memoryview: ...


@dataclass(frozen=True, slots=True)
class Asked:
    """A request as a server sees it: names of headers in lower case, the range made absolute."""

    method: str
    target: str
    path: str
    headers: dict[str, str]
    range: tuple[int, int] | None
    body: bytes


@dataclass(frozen=True, slots=True)
class Answer:
    """A response; `length` only where the body that it speaks of is not sent.

    With the header ``Transfer-Encoding: chunked`` no length is told, and the body is one chunk.
    """

    status: int
    headers: Iterable[tuple[str, str]] = ()
    body: Body = b""
    length: int | None = None
