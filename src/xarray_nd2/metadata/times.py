"""When the frames were taken: the labels along T, and the measured time of each frame."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from xarray_nd2.metadata.label import rounded, rounded_steps

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from xarray_nd2.metadata.experiment import Loop
    from xarray_nd2.metadata.label import Coordinate
    from xarray_nd2.metadata.tree import Branch

    Floats = NDArray[np.float64]

_UNIX_EPOCH_JULIAN_DAYS: Final = 2_440_587.5
_SECONDS_PER_DAY: Final = 86_400
_TICK_NANOSECONDS: Final = 100_000  # a Julian date of today is known to 40 µs
# Within datetime64[ns], with a century to spare on either side; a smaller date stands for none.
_JULIAN_DAYS: Final = (2_378_497.0, 2_506_331.0)  # years 1800 to 2149
_MAX_TIME_MILLISECONDS: Final = 100 * 366 * 86_400_000.0  # the century that is to spare
_MAX_STEP_DEVIATION: Final = 0.1  # of a period, from a regular step


@dataclass(frozen=True, eq=False)
class MeasuredTimes:
    """The file's table of acquisition times.

    Attributes
    ----------
    milliseconds : ndarray of float64, shape (frames,)
        On the clock of the experiment; NaN for frames that it does not tell of, one at least is known.
    """

    milliseconds: Floats

    @property
    def seconds(self) -> Floats:
        """Seconds since the first frame of which the time is known, shape (frames,)."""
        known = self.milliseconds[np.isfinite(self.milliseconds)]
        return rounded((self.milliseconds - known[0]) / 1000)

    @property
    def stood_still(self) -> bool:
        """Whether the clock stood still, and so did not tell when frames were taken."""
        known = self.milliseconds[np.isfinite(self.milliseconds)]
        return len(known) > 1 and bool((known == known[0]).all())


def read_times(table: Floats, frame_count: int, present: NDArray[np.bool_]) -> MeasuredTimes | None:
    """The measured times of all frames.

    Parameters
    ----------
    table : ndarray of float64
        As stored: ms for each frame; empty where there is none.
    frame_count : int
        Frames of the image.
    present : ndarray of bool, shape (frame_count,)
        Which of them the file has.

    Returns
    -------
    MeasuredTimes or None
        None where the table tells of no frame. Where a time was not written it is 0: that of a frame
        which is absent, or one after others that were.
    """
    times = np.full(frame_count, np.nan)
    times[: len(table)] = table[:frame_count]
    times[~((times >= 0) & (times < _MAX_TIME_MILLISECONDS))] = np.nan
    written = np.fmax.accumulate(np.nan_to_num(times)) > 0
    times[(times == 0) & (written | ~present)] = np.nan
    return MeasuredTimes(times) if np.isfinite(times).any() else None


def first_frame_date(picture: Branch) -> np.datetime64 | None:
    """When the first frame was taken, UTC, by its picture metadata; None where they do not tell."""
    days = picture.number("dTimeAbsolute")
    if days is None or not _JULIAN_DAYS[0] < days < _JULIAN_DAYS[1]:
        return None
    ticks = round((days - _UNIX_EPOCH_JULIAN_DAYS) * _SECONDS_PER_DAY * 1e9 / _TICK_NANOSECONDS)
    return np.datetime64(ticks * _TICK_NANOSECONDS, "ns")


def acquired(
    first: np.datetime64 | None, times: MeasuredTimes | None, loops: tuple[tuple[str, int], ...]
) -> Coordinate | None:
    """When each frame was taken, UTC: the first as dated, the others by the table's differences.

    None where the date of the first is not known, or the times of the others are not.
    """
    if first is None:
        return None
    dims, shape = tuple(dim for dim, _ in loops), tuple(size for _, size in loops)
    since = np.zeros(math.prod(shape), "timedelta64[ns]")
    if times is not None and math.isfinite(times.milliseconds[0]) and not times.stood_still:
        apart = (times.milliseconds - times.milliseconds[0]) * 1e6
        since[:] = np.timedelta64("NaT")
        known = np.isfinite(apart)
        since[known] = np.rint(apart[known]).astype("timedelta64[ns]")
    elif len(since) > 1:
        return None
    attrs = {"long_name": "acquisition date", "comment": "UTC"}
    return dims, (first + since).reshape(shape), attrs


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
    measured : ndarray of float64, shape (size,), or None
        Measured seconds of the first frame of each step, NaN where not known.

    Returns
    -------
    dims, values, attrs
        The average period as run where the measured times agree with it; else these; without them
        the average, then the plan; numbers where nothing tells.
    """
    attrs = {"long_name": "time", "units": "s"}
    average = _regular(loop, size, "dAvgPeriodDiff")
    planned = _regular(loop, size, "dPeriod")
    as_run = (average, "by the average period as run")
    as_planned = (planned, "by the planned period")
    choices: list[tuple[tuple[Floats, Floats] | None, str]] = [as_run, as_planned]
    if measured is not None and size > 1:
        filled = _without_gaps(measured)
        if filled is not None:
            if average is not None and _agrees(average, measured):
                choices = [as_run]
            else:
                choices = [((filled, filled), "as measured")]
        elif MeasuredTimes(measured).stood_still:
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
    counts[-1] += max(0, size - sum(counts))
    # The step into a phase is a period of the one before.
    steps = np.repeat(np.array(periods), counts)[: size - 1] / 1000
    if len(steps) != size - 1 or not (steps > 0).all() or not len(steps):
        return None
    return np.concatenate([[0.0], np.cumsum(steps)]), np.concatenate([steps[:1], steps])


def _agrees(regular: tuple[Floats, Floats], measured: Floats) -> bool:
    """Whether every measured step is within a tenth of a period, and every time within a period."""
    times, periods = regular
    known = np.flatnonzero(np.isfinite(measured))
    apart = measured[known] - measured[known[0]] - (times[known] - times[known[0]])
    limit = periods[known]
    within = np.abs(np.diff(apart)) <= _MAX_STEP_DEVIATION * limit[1:] * np.diff(known)
    return bool(within.all() and (np.abs(apart) <= limit).all())


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


def first_along(values: NDArray[Any], axis: int) -> NDArray[Any]:
    """First of the values at each step along `axis`."""
    return np.moveaxis(values, axis, 0).reshape(values.shape[axis], -1)[:, 0]


def iso_text(date: np.datetime64) -> str:
    """A date as ISO 8601 text, to the millisecond, UTC."""
    half = np.timedelta64(500, "us")
    return f"{(date + half).astype('datetime64[ms]')}Z"
