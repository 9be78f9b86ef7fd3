"""When the frames were taken: the file's table of times, and its dates."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from xarray_nd2.metadata.label import rounded

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from xarray_nd2.metadata.label import Coordinate
    from xarray_nd2.metadata.tree import Branch

    Floats = NDArray[np.float64]

_UNIX_EPOCH_JULIAN_DAYS: Final = 2_440_587.5
_SECONDS_PER_DAY: Final = 86_400
_TICK_NANOSECONDS: Final = 100_000  # a Julian date of today is known to 40 µs
# Within datetime64[ns], with a century to spare on either side; a smaller date stands for none.
_JULIAN_DAYS: Final = (2_378_497.0, 2_506_331.0)  # years 1800 to 2149
_MAX_TIME_MILLISECONDS: Final = 100 * 366 * 86_400_000.0  # the century that is to spare


@dataclass(frozen=True, eq=False)
class MeasuredTimes:
    """The file's table of acquisition times.

    Attributes
    ----------
    milliseconds : ndarray of float64, shape (frames,)
        On the clock of the experiment; NaN for frames that it does not tell of, one at least is known.
    first_milliseconds : float
        When the first frame was taken, on the same clock; without that, the first time that is known.
    is_dated : bool
        Whether that is the first frame's own time.
    """

    milliseconds: Floats
    first_milliseconds: float
    is_dated: bool

    @property
    def seconds(self) -> Floats:
        """Seconds since the first frame, shape (frames,)."""
        return rounded((self.milliseconds - self.first_milliseconds) / 1000)

    @property
    def stood_still(self) -> bool:
        """Whether the clock stood still, and so did not tell when frames were taken."""
        return stood_still(self.milliseconds)


def stood_still(times: Floats) -> bool:
    """Whether several times are known, and all the same."""
    known = times[np.isfinite(times)]
    return len(known) > 1 and bool((known == known[0]).all())


def read_times(table: Floats, present: NDArray[np.bool_], picture: Branch) -> MeasuredTimes | None:
    """The measured times of all frames.

    Parameters
    ----------
    table : ndarray of float64
        As stored: ms for each frame; empty where there is none.
    present : ndarray of bool, shape (frames,)
        Which frames the file has.
    picture : Branch
        Metadata of the first frame, which have its time too. It is noted there if the table is odd.

    Returns
    -------
    MeasuredTimes or None
        None where the table tells of no frame. Where a time was not written it is 0: that of a frame
        which is absent, or one after others that were.
    """
    if not len(table):
        return None
    times = np.full(len(present), np.nan)
    times[: len(table)] = table[: len(present)]
    possible = (times >= 0) & (times < _MAX_TIME_MILLISECONDS)
    if not possible[present].all():
        lacking = np.count_nonzero(~possible & present)
        picture.oddities.note(
            f"AcqTimesCache does not tell when {lacking} of the frames were taken"
        )
    times[~possible] = np.nan
    written = np.fmax.accumulate(np.nan_to_num(times)) > 0
    times[(times == 0) & (written | ~present)] = np.nan
    known = times[np.isfinite(times)]
    if not len(known):
        return None
    if math.isfinite(times[0]):
        return MeasuredTimes(times, float(times[0]), is_dated=True)
    first = picture.number("dTimeMSec")
    if first and 0 < first <= known[0]:
        return MeasuredTimes(times, first, is_dated=True)
    return MeasuredTimes(times, float(known[0]), is_dated=False)


def first_frame_date(picture: Branch) -> np.datetime64 | None:
    """When the first frame was taken, UTC, by its picture metadata; None where they do not tell."""
    days = picture.number("dTimeAbsolute")
    if days is None or not _JULIAN_DAYS[0] < days < _JULIAN_DAYS[1]:
        return None
    ticks = round((days - _UNIX_EPOCH_JULIAN_DAYS) * _SECONDS_PER_DAY * 1e9 / _TICK_NANOSECONDS)
    return np.datetime64(ticks * _TICK_NANOSECONDS, "ns")


@dataclass(frozen=True)
class Clock:
    """How times on the clock of the experiment relate to the first frame.

    Attributes
    ----------
    first_milliseconds : float or None
        When the first frame was taken, on that clock; None where the file does not tell.
    first_date : datetime64 or None
        The date of that time, UTC; None where the file does not tell.
    """

    first_milliseconds: float | None
    first_date: np.datetime64 | None

    def seconds_of(self, milliseconds: Floats) -> Floats:
        """Seconds since the first frame; on the clock itself where it is not told when that was."""
        return rounded((milliseconds - (self.first_milliseconds or 0.0)) / 1000)

    def dates_of(self, milliseconds: Floats) -> NDArray[np.datetime64] | None:
        """Dates in UTC, not a time for what is not known or in another century; None if none are known."""
        if self.first_milliseconds is None or self.first_date is None:
            return None
        return self.first_date + _since((milliseconds - self.first_milliseconds) * 1e6)


def read_clock(times: MeasuredTimes | None, picture: Branch) -> Clock:
    """The clock of the experiment: by the table of times, else by the metadata of the first frame.

    Parameters
    ----------
    times : MeasuredTimes or None
        Of all frames.
    picture : Branch
        Metadata of the first frame.
    """
    date = first_frame_date(picture)
    if times is not None and not times.stood_still:
        return Clock(times.first_milliseconds, date if times.is_dated else None)
    first = picture.positive("dTimeMSec")
    known = first is not None and first < _MAX_TIME_MILLISECONDS
    return Clock(first, date) if known else Clock(None, None)


def _since(nanoseconds: Floats) -> NDArray[np.timedelta64]:
    """Durations; not a time where they are not known, or longer than a century."""
    since = np.full(nanoseconds.shape, np.timedelta64("NaT", "ns"), "timedelta64[ns]")
    known = np.abs(nanoseconds) < _MAX_TIME_MILLISECONDS * 1e6  # which NaN is not
    since[known] = np.rint(nanoseconds[known]).astype("timedelta64[ns]")
    return since


def acquired(
    first: np.datetime64 | None, times: MeasuredTimes | None, loops: tuple[tuple[str, int], ...]
) -> Coordinate | None:
    """When each frame was taken, UTC: the first as dated, the others by the table's differences.

    Parameters
    ----------
    first : datetime64 or None
        Date of the first frame.
    times : MeasuredTimes or None
        Of all frames.
    loops : tuple of (str, int)
        Dimension and size of each loop.

    Returns
    -------
    dims, values, attrs or None
        None where the date of the first is not known, or the times of the others are not.
    """
    if first is None:
        return None
    dims, shape = tuple(dim for dim, _ in loops), tuple(size for _, size in loops)
    since = np.zeros(math.prod(shape), "timedelta64[ns]")
    if times is not None and times.is_dated and not times.stood_still:
        since = _since((times.milliseconds - times.first_milliseconds) * 1e6)
    elif len(since) > 1:
        return None
    attrs = {"long_name": "acquisition date", "comment": "UTC"}
    return dims, (first + since).reshape(shape), attrs


def iso_text(date: np.datetime64) -> str:
    """A date as ISO 8601 text, to the millisecond, UTC."""
    half = np.timedelta64(500, "us")
    return f"{(date + half).astype('datetime64[ms]')}Z"
