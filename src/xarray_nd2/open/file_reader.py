"""The bytes of a file that were read while opening it, so that none is asked for twice."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Final

import numpy as np

from xarray_nd2.read.plan import coalesce

if TYPE_CHECKING:
    from collections.abc import Iterable

    from xarray_nd2.io.source import ByteSource

END_SIZE: Final = 256 * 1024
"""Bytes read at once from each end of the file."""

MAX_GAP: Final = 64 * 1024
"""Bytes that are read rather than make another request."""


class KnownBytes:
    """The pieces of the file that were read so far."""

    def __init__(self, source: ByteSource) -> None:
        self.source, self.head, tail = source.begin(END_SIZE, END_SIZE)
        self.size = self.source.size
        self.tail = tail
        self._pieces = [(0, self.head)]
        self._add(self.size - len(tail), self.size, tail)  # both ends may overlap

    def get(self, start: int, stop: int) -> bytes:
        """Bytes of the file, from what was read if they are there."""
        if start >= stop:
            return b""
        for offset, data in self._pieces:
            if offset <= start and stop <= offset + len(data):
                return data[start - offset : stop - offset]
        self.require([(start, stop)])
        return self.get(start, stop)

    def require(self, ranges: Iterable[tuple[int, int]]) -> None:
        """Read, in one round trip, what of the ranges is not known yet."""
        missing = sorted(part for part in map(self._unknown, ranges) if part[0] < part[1])
        if not missing:
            return
        starts, stops = np.array(missing, np.int64).T
        groups = coalesce(starts, stops, MAX_GAP)
        wanted = [(int(starts[i]), int(stops[i:j].max())) for i, j in pairwise(groups.tolist())]
        for (start, stop), data in zip(wanted, self.source.fetch(wanted), strict=True):
            self._add(start, stop, data)

    def _unknown(self, part: tuple[int, int]) -> tuple[int, int]:
        """The part of a range that no piece covers from its start or up to its end."""
        start, stop = part
        for offset, data in self._pieces:
            end = offset + len(data)
            if offset <= start < end:
                start = end
            if offset < stop <= end:
                stop = offset
        return start, stop

    def _add(self, start: int, stop: int, data: bytes) -> None:
        """Join a new piece with those that touch it."""
        apart = []
        for offset, piece in self._pieces:
            if offset + len(piece) < start or stop < offset:
                apart.append((offset, piece))
                continue
            if offset < start:
                data = piece[: start - offset] + data
                start = offset
            if offset + len(piece) > stop:
                data += piece[stop - offset :]
                stop = offset + len(piece)
        self._pieces = [*apart, (start, data)]
