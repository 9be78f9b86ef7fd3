"""What is recorded of the requests of a process: counts, and one row for each request.

A recorder only adds up. What is told to it, and when, is the affair of `io.watch`.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple

MAX_TRACED_REQUESTS: Final = 1_000_000  # rows of one process; counts go on

OUTCOME_OK: Final = "ok"
OUTCOME_REDIRECT: Final = "redirect"


class TracedRequest(NamedTuple):
    """One request that has ended.

    Attributes
    ----------
    started_at : float
        Seconds since the epoch, by the clock of its machine.
    seconds : float
        Until all that came of its answer had come.
    name : str
        URL or path of the file, without secrets.
    start, stop : int or None
        Bytes that were asked for, as in a slice: the last hundred are -100 and None. Both are None
        where it was asked what the file is.
    received_bytes : int
        Of the body, those included that were of no use.
    attempt : int
        The first is 1.
    outcome : str
        `OUTCOME_OK`, `OUTCOME_REDIRECT`, or what went wrong.
    """

    started_at: float
    seconds: float
    name: str
    start: int | None
    stop: int | None
    received_bytes: int
    attempt: int
    outcome: str


@dataclass
class Recorded:
    """What one process did while it was recorded.

    Attributes
    ----------
    requests, failed_requests : int
        All that were sent, and those that brought nothing, or not all that was asked for.
    received_bytes, local_bytes : int
        Of bodies, and of what is at hand.
    retries : int
        Attempts after the first.
    wait_seconds, request_seconds : float
        Between attempts, and in requests, each for itself.
    rows : list of TracedRequest
        The first `MAX_TRACED_REQUESTS`, in the order in which they ended.
    """

    requests: int = 0
    failed_requests: int = 0
    received_bytes: int = 0
    local_bytes: int = 0
    retries: int = 0
    wait_seconds: float = 0.0
    request_seconds: float = 0.0
    rows: list[TracedRequest] = field(default_factory=list)


class Recorder:
    """Records for one trace in one process; safe for threads.

    Attributes
    ----------
    users : int
        That have begun to record, and not ended; counted by `Process`.
    """

    def __init__(self) -> None:
        self.users = 0
        self._recorded = Recorded()
        self._ended = False
        self._lock = threading.Lock()

    def add_request(self, request: TracedRequest) -> None:
        """Count a request that has ended."""
        with self._lock:
            if self._ended:
                return
            recorded = self._recorded
            recorded.requests += 1
            recorded.failed_requests += request.outcome not in (OUTCOME_OK, OUTCOME_REDIRECT)
            recorded.received_bytes += request.received_bytes
            recorded.request_seconds += request.seconds
            if len(recorded.rows) < MAX_TRACED_REQUESTS:
                recorded.rows.append(request)

    def add_retry(self, waited_seconds: float) -> None:
        """Count an attempt after the first, and how long it was waited before."""
        with self._lock:
            if not self._ended:
                self._recorded.retries += 1
                self._recorded.wait_seconds += waited_seconds

    def add_local(self, count: int) -> None:
        """Count bytes that took no request."""
        with self._lock:
            if not self._ended:
                self._recorded.local_bytes += count

    def end(self) -> None:
        """Count no more, whatever is still under way."""
        with self._lock:
            self._ended = True

    def recorded(self) -> Recorded:
        """What was recorded up to now; its rows may become more."""
        with self._lock:
            return replace(self._recorded)
