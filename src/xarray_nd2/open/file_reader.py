"""Reading a file that is being opened: few requests, and no byte twice.

The one place that coalesces ranges, fetches them, and slices what was asked for out of what came.
"""

from __future__ import annotations

from bisect import bisect_right
from itertools import pairwise
from typing import TYPE_CHECKING, Final

import numpy as np

from xarray_nd2.read.coalesce import MAX_REQUEST_BYTES, coalesce_ranges, in_batches

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from numpy.typing import NDArray

    Ranges = list[tuple[int, int]]
    Block = tuple[int, bytes]  # offset in the file, bytes

MAX_GAP_BYTES: Final = 64 * 1024
"""What is read over rather than make another request."""
_MAX_SCATTERED_BYTES: Final = 64 * 1024 * 1024  # of one round trip for pieces at many places


class FileReader:
    """Reads bytes of a file by few requests, and holds what it read.

    Parameters
    ----------
    fetch : callable
        From a list of (start, stop) to the bytes of each, in one round trip.
    size : int
        Bytes of the file.
    head, tail : bytes
        Its first and last bytes, which were read already; they may overlap.
    """

    def __init__(
        self, fetch: Callable[[Ranges], list[bytes]], size: int, head: bytes, tail: bytes = b""
    ) -> None:
        self.size, self.head, self.tail = size, head, tail
        self._fetch = fetch
        self._kept: list[Block] = []
        self._latest: list[Block] = []  # of the last scattered read, by offset
        self._keep(0, head)
        self._keep(size - len(tail), tail)

    def read(self, start: int, stop: int) -> bytes:
        """Bytes of the file from `start` to `stop`, without a request where they are held."""
        data = self.held(start, stop) if start < stop else b""
        if data is None:
            self.prefetch([(start, stop)])
            return self.read(start, stop)
        return data

    def prefetch(self, ranges: Iterable[tuple[int, int]]) -> None:
        """Read, in one round trip, what of the ranges is not held yet, and keep it."""
        missing = sorted(part for part in map(self._not_kept, ranges) if part[0] < part[1])
        if not missing:
            return
        starts, stops = np.array(missing, np.int64).T
        wanted = _coalesced(starts, stops, None)
        for (start, _), data in zip(wanted, self._fetch(wanted), strict=True):
            self._keep(start, data)

    def read_scattered(
        self, places: NDArray[np.int64], length: int, read_ahead: int = 0
    ) -> Iterator[bytes]:
        """Read small pieces at many places, in as few round trips as memory allows.

        What came is held until the next call, and not kept.

        Parameters
        ----------
        places : ndarray of int64, shape (n,)
            Offsets in the file, ascending.
        length : int
            Bytes of each piece; less at the end of the file.
        read_ahead : int
            Bytes to read behind the last piece.

        Yields
        ------
        bytes
            The piece at each place.
        """
        stops = np.minimum(places + length, self.size)
        pieces = [self.held(*piece) for piece in zip(places.tolist(), stops.tolist(), strict=True)]
        missing = np.array([piece is None for piece in pieces], bool)
        starts, ends = places[missing], stops[missing]
        ends[-1:] = np.minimum(ends[-1:] + read_ahead, self.size)
        batches = in_batches(_coalesced(starts, ends, MAX_REQUEST_BYTES), _MAX_SCATTERED_BYTES)
        for place, stop, piece in zip(places.tolist(), stops.tolist(), pieces, strict=True):
            data = piece
            while data is None and (data := self.held(place, stop)) is None:
                batch = next(batches)
                fetched = zip(batch, self._fetch(batch), strict=True)
                self._latest = [(start, block) for (start, _), block in fetched]
            yield data

    def held(self, start: int, stop: int) -> bytes | None:
        """Bytes of the file without a request; None where no block has them all."""
        number = bisect_right(self._latest, start, key=lambda block: block[0])
        for offset, data in (*self._kept, *self._latest[max(0, number - 1) : number]):
            if offset <= start and stop <= offset + len(data):
                return data[start - offset : stop - offset]
        return None

    def _not_kept(self, part: tuple[int, int]) -> tuple[int, int]:
        """The part of a range that no kept block covers from its start or up to its end."""
        start, stop = part
        for offset, data in self._kept:
            end = offset + len(data)
            if offset <= start < end:
                start = end
            if offset < stop <= end:
                stop = offset
        return start, stop

    def _keep(self, start: int, data: bytes) -> None:
        """Keep a new block, joined with those that touch it."""
        stop = start + len(data)
        apart = []
        for offset, block in self._kept:
            end = offset + len(block)
            if end < start or stop < offset:
                apart.append((offset, block))
                continue
            if offset < start:
                data, start = block[: start - offset] + data, offset
            if end > stop:
                data, stop = data + block[stop - offset :], end
        self._kept = [*apart, (start, data)]


def _coalesced(
    starts: NDArray[np.int64], stops: NDArray[np.int64], max_request: int | None
) -> Ranges:
    """Ranges to request for sorted ranges that are needed."""
    bounds = coalesce_ranges(starts, stops, MAX_GAP_BYTES, max_request)
    return [(int(starts[i]), int(stops[i:j].max())) for i, j in pairwise(bounds.tolist())]
