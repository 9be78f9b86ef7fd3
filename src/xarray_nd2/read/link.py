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
from collections import deque
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import numpy as np

from xarray_nd2.read.coalesce import MAX_REQUEST_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray


_ABOUT_AS_QUICK: Final = 1.15  # times as long is about as quick
_MUCH_SLOWER: Final = 1.3  # times as long is worth a probe
_MAX_BYTES_PER_SECOND: Final = 1.25e9  # 10 Gbit: what seems faster had been waiting in a buffer
_TELLING_SECONDS: Final = 0.04  # in which bytes came; how many came in less is much by chance
_BURST_SECONDS: Final = 0.01  # of a link's bandwidth, which may come at once before it slows down
_LARGE_ANSWER_BYTES: Final = 16_384  # smaller ones arrive at once, be the link slow or fast


@dataclass(frozen=True, slots=True)
class Link:
    """What a connection to a store is like.

    Parameters
    ----------
    latency : float
        Seconds from a request to the first byte of its answer.
    bandwidth : float
        Bytes per second of all connections together.
    overhead : float, default 0.0004
        Seconds of work for one more request, which no concurrency hides.
    request_bytes : int, optional
        Bytes above which ranges are split, so that one frame is read by several requests at once.
    """

    latency: float
    bandwidth: float
    overhead: float = 0.0004
    request_bytes: int = MAX_REQUEST_BYTES

    def seconds(
        self, requests: NDArray[np.int64], size: NDArray[np.int64], concurrency: int
    ) -> NDArray[np.float64]:
        """Estimate the time of `requests` that fetch `size` bytes in all."""
        waves = np.ceil(requests / concurrency)
        return waves * self.latency + requests * self.overhead + size / self.bandwidth

    def best_gap(
        self,
        gaps: NDArray[np.int64],
        counts: NDArray[np.int64],
        needed: int,
        concurrency: int,
        *,
        times_as_long: float = _ABOUT_AS_QUICK,
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
        times_as_long : float
            As the quickest choice, for one that is about as quick.

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
        best = int(np.argmax(seconds <= seconds.min() * times_as_long))
        return int(sizes[best - 1]) if best else 0

    def may_mislead(
        self,
        gap: int,
        gaps: NDArray[np.int64],
        counts: NDArray[np.int64],
        needed: int,
        concurrency: int,
    ) -> bool:
        """Whether to read over `gap` would be much slower than the best if there were more bandwidth.

        The other parameters are those of `best_gap`.
        """
        fastest = replace(self, bandwidth=_MAX_BYTES_PER_SECOND)
        least = fastest.best_gap(gaps, counts, needed, concurrency, times_as_long=_MUCH_SLOWER)
        return least > gap

    def probe(self, sizes: NDArray[np.int64], concurrency: int) -> tuple[int, bool]:
        """Tell what one request of a read should bring so that it tells of the bandwidth.

        It adds no more time than leaves the read about as quick.

        Parameters
        ----------
        sizes : ndarray of int64
            Bytes of each request of the read.
        concurrency : int
            Requests in flight.

        Returns
        -------
        nbytes : int
            0 where the read tells half as much by itself, or so few would tell nothing.
        alone : bool
            Whether there is time to wait for it before the others are made, whose work would hide
            how quickly it comes.

        Examples
        --------
        >>> far, near = Link(0.1, 10e6, overhead=0.001), Link(0.001, 10e6, overhead=0.001)
        >>> far.probe(np.full(200, 500), concurrency=64)
        (800000, False)
        >>> near.probe(np.full(200, 500), concurrency=64)
        (310999, True)
        >>> far.probe(np.full(2, 1_000_000), concurrency=64)
        (0, False)
        """
        # Some more than what may come at once, or nothing would be left to tell.
        least = max(_LARGE_ANSWER_BYTES, 1.25 * _BURST_SECONDS * self.bandwidth)
        told = int(sizes[sizes >= _LARGE_ANSWER_BYTES].sum())
        seconds = float(self.seconds(np.array(len(sizes)), sizes.sum(), concurrency))
        spare = (_ABOUT_AS_QUICK - 1) * seconds
        # Alone it adds a wait of its own, which is hidden among those of others otherwise.
        alone_seconds = spare - self.latency if self.latency < spare / 2 else 0.0
        for seconds, alone in ((alone_seconds, True), (spare, False)):
            nbytes = int(seconds * self.bandwidth)
            if nbytes >= max(least, 2 * told):
                return min(nbytes, int(2 * _TELLING_SECONDS * self.bandwidth)), alone
        return 0, False


# Before anything was observed: an object store in the same region, over one ordinary network.
DEFAULT_LINKS = {
    "http": Link(latency=0.02, bandwidth=100e6, overhead=0.0004),
    "s3": Link(latency=0.03, bandwidth=100e6, overhead=0.001),
    "other": Link(latency=0.03, bandwidth=100e6, overhead=0.0008),
    # In the same building. The system asks for the parts of a request one after the other.
    "share": Link(latency=0.003, bandwidth=100e6, overhead=0.0003, request_bytes=262_144),
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

    The estimate is the best of the last two observations. Delays only ever add to the latency and
    take from the bandwidth, so what was held up once changes nothing, and a link that turned slow
    is known after two reads. That one turned fast is believed at once: what is read for that brings
    many bytes, and soon tells if it was chance. A link that is thought slow is asked for few, which
    tell little.

    Latency is observed as the shortest wait for a first byte. For bandwidth each read gives two
    bounds, from its large answers, and an estimate between them stays::

        at least = (bytes - burst) / seconds in which an answer was due
        at most  = bytes / seconds in which an answer was coming

    An answer is due from the latency after its request, and coming from its first byte, until its
    last one. So neither counts the time in which a read only waits for latency. The burst is what
    a link may let through at once. There is no upper bound where the bytes were few, or came in
    less time than the client's own work and chance may take.

    Parameters
    ----------
    prior : Link
        The estimate until something was observed.
    """

    _REMEMBERED_OBSERVATIONS = 2
    _SMALL_ANSWER_BYTES = 65_536  # bytes of an answer whose only known time is nearly all waiting
    _LEAST_BYTES = 200_000  # of large answers, for an upper bound
    _LEAST_SECONDS = 0.001  # what seems shorter is the clock of the event loop

    def __init__(self, prior: Link) -> None:
        self._link = prior
        self._latencies: deque[float] = deque(maxlen=self._REMEMBERED_OBSERVATIONS)
        self._bandwidths: deque[float] = deque(maxlen=self._REMEMBERED_OBSERVATIONS)
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
        if not waits:
            return
        with self._lock:
            known = self._link
            # One that was seen late may be no longer on its way than others.
            wait = min(known.latency, *waits)
            at_least, at_most = self._bandwidth_bounds(answers, wait, known)
            bandwidth = min(max(known.bandwidth, at_least), at_most)
            self._latencies.append(min(waits))
            if bandwidth > known.bandwidth or at_most < np.inf:
                self._bandwidths.append(bandwidth)
            best = max(self._bandwidths, default=known.bandwidth)
            self._link = replace(known, latency=min(self._latencies), bandwidth=best)

    def _bandwidth_bounds(
        self, answers: Sequence[AnswerTimes], wait: float, known: Link
    ) -> tuple[float, float]:
        large = [
            (answer.asked + wait, answer.first_byte, answer.last_byte, answer.size)
            for answer in answers
            if answer.first_byte is not None and answer.size >= _LARGE_ANSWER_BYTES
        ]
        size = sum(size for *_, size in large)
        due = _covered_seconds((due, last) for due, _, last, _ in large)
        coming = _covered_seconds((first, last) for _, first, last, _ in large)
        lasting = size - _BURST_SECONDS * known.bandwidth
        at_least = min(_MAX_BYTES_PER_SECOND, lasting / max(due, self._LEAST_SECONDS))
        work = len(answers) * known.overhead
        if size < self._LEAST_BYTES or coming - work < _TELLING_SECONDS:
            return at_least, np.inf
        return at_least, max(at_least, size / coming)


def _covered_seconds(spans: Iterable[tuple[float, float]]) -> float:
    """Seconds in any of the spans."""
    covered, until = 0.0, -np.inf
    for start, stop in sorted(spans):
        covered += max(0.0, stop - max(start, until))
        until = max(until, stop)
    return covered
