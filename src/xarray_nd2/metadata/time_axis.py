"""The labels along T: regular where the frames were, and never against the times that were measured."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from xarray_nd2.metadata.label import rounded_steps
from xarray_nd2.metadata.times import stood_still

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from xarray_nd2.metadata.experiment import Loop
    from xarray_nd2.metadata.label import Coordinate

    Floats = NDArray[np.float64]

_MAX_STEP_DEVIATION: Final = 0.1  # of a period, from a regular step
_ARITHMETIC_SECONDS: Final = 2e-9  # by which times that are rounded may be off


def time_axis(loop: Loop, dim: str, size: int, measured: Floats | None) -> Coordinate:
    """Labels along the steps of a time loop: seconds since the first frame.

    Parameters
    ----------
    loop : Loop
        Of times, in one or several phases.
    dim : str
        Its dimension.
    size : int
        Steps; there may be more of them than the loop has.
    measured : ndarray of float64, shape (size, n), or None
        Measured seconds of the n frames of each step, NaN where not known.

    Returns
    -------
    dims, values, attrs
        The average period as run where the measured times agree with it; else these, of the first of
        the frames of each step of which most are known; without them the average, then the plan;
        numbers where nothing tells.
    """
    attrs = {"long_name": "time", "units": "s"}
    average = _regular(loop, size, "dAvgPeriodDiff")
    planned = _regular(loop, size, "dPeriod")
    as_run = (average, "by the average period as run")
    as_planned = (planned, "by the planned period")
    choices: list[tuple[tuple[Floats, Floats] | None, str]] = [as_run, as_planned]
    if measured is not None and size > 1:
        run = measured[:, np.isfinite(measured).sum(axis=0).argmax()]
        filled = _without_gaps(run)
        if filled is not None:
            if average is not None and _agrees(average, measured):
                choices = [as_run]
            else:
                choices = [((filled, filled), "as measured")]
        elif stood_still(run):
            choices = [as_planned, as_run]
    for regular, how in choices:
        if regular is not None:
            values = rounded_steps(regular[0] - regular[0][0])
            return (dim,), values, attrs | {"comment": f"since the first frame, {how}"}
    if size == 1:
        return (dim,), np.zeros(1), attrs | {"comment": "since the first frame"}
    attrs |= {"units": "1", "comment": "number of the time point; the file has no timing"}
    return (dim,), np.arange(size, dtype=np.float64), attrs


def _regular(loop: Loop, size: int, name: str) -> tuple[Floats, Floats] | None:
    """Seconds of each step by the periods of a name, and the period that each step ends.

    A phase of one step ends when the next phase begins; the last phase goes on.
    """
    phases = loop.items or [loop.parameters]
    counts = [phase.whole("uiCount") or 0 for phase in phases] if loop.items else [loop.count]
    periods = [phase.number(name) or 0.0 for phase in phases]
    if name != "dPeriod":
        planned = [phase.number("dPeriod") or 0.0 for phase in phases]
        several = [count > 1 and period > 0 for count, period in zip(counts, periods, strict=True)]
        if not any(several):
            return None
        periods = [
            plan if count == 1 and period <= 0 else period
            for count, period, plan in zip(counts, periods, planned, strict=True)
        ]
    if min(counts) < 0 or sum(counts) > size:
        return None
    counts[-1] += size - sum(counts)
    # The step into a phase is a period of the one before.
    steps = np.repeat(np.array(periods), counts)[: size - 1] / 1000
    times = np.concatenate([[0.0], np.cumsum(steps)])
    if not len(steps) or not (np.diff(times) > 0).all():
        return None
    return times, np.concatenate([steps[:1], steps])


def _agrees(regular: tuple[Floats, Floats], measured: Floats) -> bool:
    """Whether every measured step is within a tenth of a period, and every time within a period.

    Each of the frames of a step is compared with those at the same place of the other steps.
    """
    times, periods = regular
    known = np.isfinite(measured)
    steps = np.arange(len(measured))[:, None]
    apart = measured - times[:, None]
    first = np.take_along_axis(apart, known.argmax(axis=0)[None], axis=0)
    # The step before each that is known, itself for the first of them.
    latest = np.maximum.accumulate(np.where(known, steps, -1), axis=0)
    before = np.vstack([np.full((1, known.shape[1]), -1), latest[:-1]])
    before = np.where(before < 0, steps, before)
    change = apart - np.take_along_axis(apart, before, axis=0)
    limit = periods[:, None]
    step_limit = _MAX_STEP_DEVIATION * limit * (steps - before) + _ARITHMETIC_SECONDS
    is_near = (np.abs(change) <= step_limit) & (np.abs(apart - first) <= limit)
    return bool((is_near | ~known).all())


def _without_gaps(measured: Floats) -> Floats | None:
    """Measured times with those that are lacking in between; None if they do not rise, or one alone."""
    steps = np.arange(len(measured))
    known = np.isfinite(measured)
    rises = np.diff(measured[known]) / np.diff(steps[known])
    if not len(rises) or not (rises > 0).all():
        return None
    first, last = steps[known][[0, -1]]
    filled = np.interp(steps, steps[known], measured[known])
    outside = np.where(steps < first, steps - first, np.maximum(steps - last, 0))
    times: Floats = filled + outside * np.median(rises)
    return times
