"""Which byte ranges are worth reading together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    Ints = NDArray[np.int64]
    Ranges = list[tuple[int, int]]

MAX_REQUEST_BYTES: Final = 4 * 1024 * 1024
"""Ranges are split above this, so that one frame uses several connections."""


def coalesce_ranges(
    starts: Ints, stops: Ints, max_gap: int, max_request: int | None = None
) -> Ints:
    """Group sorted byte ranges that are worth reading together.

    Parameters
    ----------
    starts, stops : ndarray of int64, shape (n,)
        Ranges, sorted by `starts`; they may overlap.
    max_gap : int
        Ranges with a gap of up to this many bytes are grouped.
    max_request : int, optional
        A group is broken where it would grow past about this many bytes; a single range that is
        larger stays whole.

    Returns
    -------
    ndarray of int64, shape (groups + 1,)
        Group i holds the ranges from element i up to element i + 1.

    Examples
    --------
    >>> coalesce_ranges(np.array([0, 10, 100]), np.array([8, 20, 110]), max_gap=5)
    array([0, 2, 3])
    """
    if not len(starts):
        return np.zeros(1, np.int64)
    reach = np.maximum.accumulate(stops)
    breaks = starts[1:] - reach[:-1] > max_gap
    bounds = group_bounds(breaks, len(starts))
    if max_request is not None:
        group_start = np.repeat(starts[bounds[:-1]], np.diff(bounds))
        part = (stops - 1 - group_start) // max_request
        bounds = group_bounds(breaks | (np.diff(part) > 0), len(starts))
    return bounds


def group_bounds(breaks: NDArray[np.bool_], count: int) -> NDArray[Any]:
    """Bounds of the groups of `count` things, of which `breaks` tells between which two one ends.

    Examples
    --------
    >>> group_bounds(np.array([False, True, False]), 4)
    array([0, 2, 4])
    """
    return np.concatenate([[0], np.flatnonzero(breaks) + 1, [count]]).astype(np.int64)


def in_batches(ranges: Ranges, max_bytes: int) -> Iterator[Ranges]:
    """Split ranges into runs of no more than `max_bytes`; a larger range is a run of its own.

    Examples
    --------
    >>> list(in_batches([(0, 6), (8, 12), (20, 40)], max_bytes=10))
    [[(0, 6), (8, 12)], [(20, 40)]]
    """
    batch: Ranges = []
    size = 0
    for start, stop in ranges:
        if batch and size + stop - start > max_bytes:
            yield batch
            batch, size = [], 0
        batch.append((start, stop))
        size += stop - start
    if batch:
        yield batch
