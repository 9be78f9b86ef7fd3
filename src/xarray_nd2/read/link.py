"""How long a set of requests takes, and so which ranges are worth merging.

The estimate is a straight line in three numbers of the link: requests go out in waves of as many as
may be in flight, each wave costs the latency; each request costs the client some work; and every
byte, needed or not, takes its share of the bandwidth::

    seconds = waves * latency + requests * overhead + bytes / bandwidth

Merging two ranges saves a request and pays for the gap, so for a given set of ranges there is one
best size of gap to merge, found by trying each that occurs.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


_ABOUT_AS_QUICK: Final = 1.15  # times as long is about as quick


@dataclass(frozen=True, slots=True)
class Link:
    """What a connection to a store is like.

    Attributes
    ----------
    latency : float
        Seconds from a request to the first byte of its answer.
    bandwidth : float
        Bytes per second of all connections together.
    overhead : float
        Seconds of work for one more request, which no concurrency hides.
    """

    latency: float
    bandwidth: float
    overhead: float

    def seconds(
        self, requests: NDArray[np.int64], size: NDArray[np.int64], concurrency: int
    ) -> NDArray[np.float64]:
        """Estimate the time of `requests` that fetch `size` bytes in all."""
        waves = np.ceil(requests / concurrency)
        return waves * self.latency + requests * self.overhead + size / self.bandwidth

    def best_gap(
        self, gaps: NDArray[np.int64], counts: NDArray[np.int64], needed: int, concurrency: int
    ) -> int:
        """Largest gap worth reading over.

        Of choices that are about as quick it is that of the fewest bytes, which may cost money and
        the patience of others.

        Parameters
        ----------
        gaps, counts : ndarray of int64, shape (n,)
            Sizes of the gaps between needed ranges in bytes, and how often each occurs; those of
            0 or less are none.
        needed : int
            Bytes that are needed.
        concurrency : int
            Requests in flight.

        Returns
        -------
        int
            0, or the size of one of the gaps, in bytes.

        Examples
        --------
        >>> near = Link(latency=0.001, bandwidth=1e9, overhead=0.001)
        >>> near.best_gap(np.array([500, 10_000_000]), np.array([99, 9]), 5000, concurrency=64)
        500
        """
        sizes, where = np.unique(gaps[gaps > 0], return_inverse=True)
        if not len(sizes):
            return 0
        times = np.bincount(where, weights=counts[gaps > 0]).astype(np.int64)
        # The candidates: merge nothing, all gaps of the smallest size, those of the next as well.
        merged = np.concatenate([[0], np.cumsum(times)])
        read_over = np.concatenate([[0], np.cumsum(times * sizes)])
        requests = merged[-1] + 1 - merged
        seconds = self.seconds(requests, needed + read_over, concurrency)
        best = int(np.argmax(seconds <= seconds.min() * _ABOUT_AS_QUICK))
        return int(sizes[best - 1]) if best else 0


# Before anything was observed: an object store in the same region, over one ordinary network.
DEFAULT_LINKS = {
    "http": Link(latency=0.02, bandwidth=100e6, overhead=0.0004),
    "s3": Link(latency=0.03, bandwidth=100e6, overhead=0.001),
    "other": Link(latency=0.03, bandwidth=100e6, overhead=0.0008),
    # At hand: nothing travels, so a gap costs nothing but the bytes that are copied over it.
    "direct": Link(latency=0.0, bandwidth=2e9, overhead=0.00002),
}


@dataclass(frozen=True, slots=True)
class AnswerTimes:
    """Times of one answered request, in seconds of one clock, and the bytes it brought.

    Where the arrival of the first byte is not known it is None.
    """

    asked: float
    first_byte: float | None
    last_byte: float
    size: int


class LinkObserver:
    """Learns what a link is like from the requests that a process makes over it.

    Latency is the shortest wait for a first byte, for delays only ever add to it. Bandwidth is what
    came in between the first byte of a batch and its last. Where that is not long, much of it is
    chance: then it only tells that there is more bandwidth than was thought.

    Parameters
    ----------
    prior : Link
        The estimate until something was observed.
    """

    _NEW_WEIGHT = 0.3  # of a new observation against all before it
    _SMALL_ANSWER_BYTES = 65_536  # bytes of an answer whose only known time is nearly all waiting
    _LEAST_BYTES = 200_000
    _LEAST_SECONDS = 0.001
    _TELLING_SECONDS = 0.04
    # 10 Gbit: what seems faster had been waiting in a buffer.
    _MAX_BYTES_PER_SECOND = 1.25e9

    def __init__(self, prior: Link) -> None:
        self._link = prior
        self._latency_seen = self._bandwidth_seen = False
        self._lock = threading.Lock()

    @property
    def link(self) -> Link:
        """The present estimate."""
        return self._link

    def observe(self, answers: Sequence[AnswerTimes]) -> None:
        """Take note of a batch of requests that were made at once."""
        waits = [
            (answer.first_byte or answer.last_byte) - answer.asked
            for answer in answers
            if answer.first_byte is not None or answer.size <= self._SMALL_ANSWER_BYTES
        ]
        first = min((a.first_byte for a in answers if a.first_byte is not None), default=None)
        size = sum(answer.size for answer in answers)
        with self._lock:
            latency, bandwidth = self._link.latency, self._link.bandwidth
            if waits:
                latency = self._mix(latency, min(waits), fresh=not self._latency_seen)
                self._latency_seen = True
            if first is not None and size >= self._LEAST_BYTES:
                seconds = max(answer.last_byte for answer in answers) - first
                rate = min(self._MAX_BYTES_PER_SECOND, size / max(seconds, self._LEAST_SECONDS))
                if seconds >= self._TELLING_SECONDS or rate > bandwidth:
                    bandwidth = self._mix(bandwidth, rate, fresh=not self._bandwidth_seen)
                    self._bandwidth_seen = True
            self._link = Link(latency, bandwidth, self._link.overhead)

    def _mix(self, known: float, seen: float, *, fresh: bool) -> float:
        return seen if fresh else known + self._NEW_WEIGHT * (seen - known)
