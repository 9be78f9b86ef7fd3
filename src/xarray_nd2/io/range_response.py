"""What an answer over HTTP says of its body, and the body as it comes.

Nothing is believed that contradicts itself: a body is the range that was asked for, not encoded, and
as long as it is said to be, or it is an error.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from xarray_nd2.io.answers import ObjectFacts, Part
from xarray_nd2.io.failures import RangeIgnoredError, StatusError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from xarray_nd2.io.answers import Bytes

_CONTENT_RANGE = re.compile(r"bytes +(\d+)-(\d+)/(\d+)", re.IGNORECASE)
NO_ENCODINGS: Final = frozenset({"identity"})
"""Values of ``Content-Encoding`` under which a body is bytes of the object."""


@dataclass(frozen=True, slots=True)
class BodyExtent:
    """What headers say of a body.

    Attributes
    ----------
    start, size : int
        First byte of the object that it has, and how many.
    facts : ObjectFacts
        Of the object.
    is_measured : bool
        Whether ``Content-Length`` says the same size, so that the client sees where the body ends.
    """

    start: int
    size: int
    facts: ObjectFacts
    is_measured: bool = True


def check_status(status: int, reason: object, headers: Mapping[str, str]) -> None:
    """Check that an answer has a body to read.

    Raises
    ------
    FileNotFoundError, PermissionError, StatusError
        It has none, for the reason that its status tells.
    """
    if status in (404, 410):
        raise FileNotFoundError(f"HTTP {status} {reason}")
    if status in (401, 403):
        raise PermissionError(f"HTTP {status} {reason}")
    if status not in (200, 206):
        raise StatusError(status, reason, headers)


def parse_range_response(
    status: int,
    headers: Mapping[str, str],
    start: int | None,
    count: int,
    encodings: frozenset[str] = NO_ENCODINGS,
) -> BodyExtent:
    """Tell where the body of an answer lies, and what its headers say of the object.

    Parameters
    ----------
    status : int
        Of the answer, 200 or 206. A range may come with either.
    headers : mapping
        Of the answer.
    start : int or None
        First byte that was asked for; None if the last `count` bytes were.
    count : int
        Bytes that were asked for.
    encodings : set of str
        Values of ``Content-Encoding``, in lower case, that say nothing of the body.

    Returns
    -------
    BodyExtent

    Raises
    ------
    RangeIgnoredError
        The answer is not the range.
    ConnectionError
        The answer contradicts itself.
    """
    headers = _joined_headers(headers)
    encoding = headers.get("content-encoding", "")
    if encoding and not encodings.issuperset(filter(None, re.split(r"[\s,]+", encoding.lower()))):
        raise RangeIgnoredError(f"the server sends {encoding} instead of bytes of the file")
    told = headers.get("content-range")
    length = headers.get("content-length", "")
    if status == 200 and told is None:
        # The whole object: fine if that is no more than was asked for.
        if not length.isdecimal() or int(length) > count or start not in (0, None):
            raise RangeIgnoredError("the server ignores Range requests")
        return BodyExtent(0, int(length), _facts_of_headers(int(length), headers))
    place = _CONTENT_RANGE.fullmatch(told.strip()) if told else None
    if place is None:
        raise RangeIgnoredError(
            f"the server tells {told or 'nothing'!r} of the range it sends, not where it is in a "
            "file of what size"
        )
    first, last, size = map(int, place.groups())
    if (start is not None and first != start) or not first <= last < size:
        raise RangeIgnoredError(f"the server sends {told!r}, another range than was asked for")
    expected = last + 1 - first
    if length and length != str(expected):
        raise ConnectionError(f"a body said to be {expected} bytes has {length}")
    return BodyExtent(first, expected, _facts_of_headers(size, headers), is_measured=bool(length))


def _joined_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Headers by their names in lower case; values of one that is repeated are joined by commas."""
    joined: dict[str, str] = {}
    for name, value in headers.items():
        key = name.lower()
        joined[key] = f"{joined[key]}, {value}" if key in joined else value
    return joined


def _facts_of_headers(size: int, headers: Mapping[str, str]) -> ObjectFacts:
    """What headers, their names in lower case, say of an object of `size` bytes."""
    tag = headers.get("etag") or headers.get("x-goog-generation")
    return ObjectFacts(size, tag and tag.removeprefix("W/"), headers.get("last-modified"))


class ReceivedBody:
    """The body of an answer as it comes, up to the bytes that were asked for.

    Parameters
    ----------
    count : int
        Bytes that were asked for.
    """

    __slots__ = ("_received", "size", "surplus")

    def __init__(self, count: int) -> None:
        # Filled in place: a bytearray that grows would be copied again and again.
        self._received = memoryview(bytearray(count))
        self.size = self.surplus = 0  # bytes that were taken, and that came beyond them

    def add(self, block: Bytes) -> None:
        """Take the next bytes; a range may go on for longer than was asked for."""
        end = min(self.size + len(block), len(self._received))
        self.surplus += self.size + len(block) - end
        self._received[self.size : end] = block[: end - self.size]
        self.size = end

    def as_part(self, extent: BodyExtent, first_byte: float | None = None) -> Part:
        """What came, which lies at `extent`; `first_byte` is when it came, by time.monotonic."""
        return Part(extent.start, self._received[: self.size], extent.facts, first_byte)

    def is_over(self, extent: BodyExtent) -> bool:
        """Whether all that was asked for is there, and nothing can contradict it any more."""
        full = self.size == len(self._received)
        return full and (extent.is_measured or extent.size > self.size)

    def check(self, extent: BodyExtent) -> None:
        """Check that a body that ended by itself is as long as it was said to be.

        Raises
        ------
        ConnectionError
            It is not, so there is no telling which bytes are missing, or too many.
        """
        expected = min(extent.size, len(self._received))
        came = self.size + self.surplus
        if self.size < expected or came > extent.size:
            raise ConnectionError(f"a body said to be {extent.size} bytes has {came}")
