"""When the frames were taken: the labels along T, and the measured time of each frame."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from xarray_nd2.metadata.label import rounded_steps

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from xarray_nd2.metadata.label import Coordinate


def measured_times(
    times: NDArray[np.float64] | None, loop_shape: tuple[int, ...]
) -> NDArray[np.float64] | None:
    """Times of all frames in seconds, shaped as the loops; NaN past the end of the file's table."""
    if times is None or not len(times):
        return None
    count = math.prod(loop_shape)
    seconds = np.full(count, np.nan)
    seconds[: len(times)] = times[:count] / 1000
    return seconds.reshape(loop_shape)


def first_along(values: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
    """First of the values at each step along `axis`."""
    return np.moveaxis(values, axis, 0).reshape(values.shape[axis], -1)[:, 0]


def time_axis(loop: Any, size: int, measured: NDArray[np.float64] | None) -> Coordinate:
    """Labels along the `size` steps of a time loop, in seconds.

    The nominal times; where the loop has none, those `measured` at each step; else numbers.
    """
    periods = getattr(loop.parameters, "periods", None) or [loop.parameters]
    steps = [_period_ms(period) for period in periods]
    how = "by the average period as run" if any(map(_average_ms, periods)) else "as planned"
    attrs = {"units": "s", "long_name": f"time since the first frame, {how}"}
    if all(0 < step < math.inf for step in steps):
        counts = [getattr(period, "count", size) for period in periods]
        if sum(counts) >= size:
            # One period after another: the next begins a step after the last frame of this one.
            begin = np.concatenate([[0.0], np.cumsum(np.multiply(steps, counts))[:-1]])
            runs = [
                b + np.arange(n) * step for b, n, step in zip(begin, counts, steps, strict=True)
            ]
            return ("T",), rounded_steps(np.concatenate(runs)[:size] / 1000), attrs
    filled = None if measured is None else _without_gaps(measured)
    if filled is not None:
        attrs["long_name"] = "time since the first frame, as measured"
        return ("T",), filled - filled[0], attrs
    attrs = {"units": "1", "long_name": "number of the time point; the file has no timing"}
    return ("T",), np.arange(size, dtype=np.float64), attrs


def _average_ms(period: Any) -> float:
    average = period.periodDiff.avg if period.periodDiff is not None else 0
    return float(average) if average and average > 0 else 0.0


def _period_ms(period: Any) -> float:
    return _average_ms(period) or float(period.periodMs or 0)


def _without_gaps(measured: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """Measured times with those that are lacking in between; None if too few are there, or they lie.

    A frame that was not taken has the time 0, or none.
    """
    steps = np.arange(len(measured))
    known = np.isfinite(measured) & ((measured > 0) | (steps == 0))
    rises = np.diff(measured[known]) / np.diff(steps[known])
    if not len(rises) or not (rises > 0).all():
        return None
    first, last = steps[known][[0, -1]]
    filled = np.interp(steps, steps[known], measured[known])
    outside = np.where(steps < first, steps - first, np.maximum(steps - last, 0))
    times: NDArray[np.float64] = filled + outside * np.median(rises)
    return times
