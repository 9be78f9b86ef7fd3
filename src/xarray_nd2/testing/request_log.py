"""What a server was asked for: the measure of every reader."""

from __future__ import annotations

import threading
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Request:
    """One request and its answer.

    Attributes
    ----------
    method, path : str
        As they were sent, the path unquoted and without query.
    start, stop : int or None
        Range of bytes that was asked for, from the start of the object and no further than its end;
        None where the request named no range, or no object.
    status : int
        Of the answer; 0 where there was none.
    nbytes : int
        Bytes of body that were sent.
    began, ended : float
        When the request had arrived and when the last bytes of the answer left, in monotonic
        seconds.
    """

    method: str
    path: str
    start: int | None
    stop: int | None
    status: int
    nbytes: int
    began: float
    ended: float


class RequestLog:
    """All requests to a server since it started or the log was cleared; safe for threads.

    A request is in the log before its last byte leaves: a client that has its answer finds it here.
    """

    def __init__(self) -> None:
        self._entries: list[Request] = []
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"<{self.requests} requests, {self.bytes} bytes, {self.round_trips} round trips>"

    def add(self, request: Request) -> None:
        """Append a request."""
        with self._lock:
            self._entries.append(request)

    def clear(self) -> None:
        """Forget all requests."""
        with self._lock:
            self._entries.clear()

    @property
    def entries(self) -> list[Request]:
        """The requests, in the order in which they ended."""
        with self._lock:
            return list(self._entries)

    @property
    def requests(self) -> int:
        """Number of requests."""
        return len(self.entries)

    @property
    def bytes(self) -> int:
        """Bytes of body that were sent."""
        return sum(entry.nbytes for entry in self.entries)

    @property
    def round_trips(self) -> int:
        """Length of the longest chain of requests that waited for each other.

        A request that began after another had ended may have depended on it; only the clock tells.
        So this means something where the latency of the server is longer than a client takes to
        send all that it has to send at once.
        """
        count, last_end = 0, float("-inf")
        for entry in sorted(self.entries, key=lambda entry: entry.ended):
            if entry.began >= last_end:
                count += 1
                last_end = entry.ended
        return count
