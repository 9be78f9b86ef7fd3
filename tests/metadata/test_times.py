"""T and the measured times."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.metadata.trees import branch, experiment, level, listed
from xarray_nd2.metadata.time_axis import time_axis
from xarray_nd2.metadata.times import (
    Clock,
    acquired,
    first_frame_date,
    iso_text,
    read_clock,
    read_times,
)

NAN = float("nan")
PERIOD, AS_RUN, MEASURED, NUMBERS = (
    "since the first frame, by the planned period",
    "since the first frame, by the average period as run",
    "since the first frame, as measured",
    "number of the time point; the file has no timing",
)


def axis(
    measured: list[float] | None, *phases: tuple[int, float, float], size: int | None = None
) -> tuple[list[float], str, str]:
    """Labels, unit and comment for phases of (steps, planned seconds, average seconds)."""
    written = [
        {"uiCount": n, "dPeriod": 1000 * plan, "dAvgPeriodDiff": 1000 * run}
        for n, plan, run in phases
    ]
    if len(written) == 1:
        root = level(1, **written[0])
    else:
        root = level(
            8,
            pPeriod=listed(*written),
            pPeriodValid=[1] * len(written),
            uiCount=sum(n for n, *_ in phases),
        )
    loop = experiment(root)[0].loops[0]
    table = None if measured is None else np.array(measured, float).reshape(len(measured), -1)
    dims, values, attrs = time_axis(loop, "T", size or loop.count, table)
    assert dims == ("T",)
    assert values.dtype == np.float64
    return values.tolist(), attrs["units"], attrs["comment"]


CASES: dict[str, tuple[Any, ...]] = {
    # name: measured seconds, phases, labels, unit, comment
    "plan alone": (None, [(3, 2.5, 0)], [0, 2.5, 5], "s", PERIOD),
    "average alone": (None, [(3, 2.5, 2.6)], [0, 2.6, 5.2], "s", AS_RUN),
    "average that agrees": ([0, 2.61, 5.19], [(3, 2.5, 2.6)], [0, 2.6, 5.2], "s", AS_RUN),
    "a step a tenth off": ([0, 2.61, 5.6], [(3, 2.5, 2.6)], [0, 2.61, 5.6], "s", MEASURED),
    "a drift of more than a period": (
        [i * 1.09 for i in range(13)],
        [(13, 1, 1)],
        [round(i * 1.09, 9) for i in range(13)],
        "s",
        MEASURED,
    ),
    "a plan without an average": ([0, 2.5, 5.1], [(3, 2.5, 0)], [0, 2.5, 5.1], "s", MEASURED),
    "no delay was planned": ([0, 0.5, 1.01], [(3, 0.001, 0)], [0, 0.5, 1.01], "s", MEASURED),
    "a pause": (
        [0, 1, 2, 602, 603, 604],
        [(3, 1, 1), (3, 1, 1)],
        [0, 1, 2, 602, 603, 604],
        "s",
        MEASURED,
    ),
    "phases one after the other": (
        [0, 1, 2, 3.01, 13, 23],
        [(3, 1, 1), (3, 10, 10)],
        [0, 1, 2, 3, 13, 23],
        "s",
        AS_RUN,
    ),
    "one frame before many": (
        [0, 7, 7.5, 8],
        [(1, 60, 0), (3, 0.5, 0.5)],
        [0, 7, 7.5, 8],
        "s",
        MEASURED,
    ),
    "one frame before many, unmeasured": (
        None,
        [(1, 60, 0), (3, 0.5, 0.5)],
        [0, 60, 60.5, 61],
        "s",
        AS_RUN,
    ),
    "a clock that stood still": ([0, 0, 0], [(3, 2.5, 0)], [0, 2.5, 5], "s", PERIOD),
    "a clock that went back": ([0, 5, 3], [(3, 2.5, 2.6)], [0, 2.6, 5.2], "s", AS_RUN),
    "nothing": (None, [(3, 0, 0)], [0, 1, 2], "1", NUMBERS),
    "a clock that stood still, no plan": ([0, 0, 0], [(3, 0, 0)], [0, 1, 2], "1", NUMBERS),
    "times that lack": ([0, NAN, 22, NAN], [(4, 0, 0)], [0, 11, 22, 33], "s", MEASURED),
    "the first lacks": ([NAN, 11, 22], [(3, 0, 0)], [0, 11, 22], "s", MEASURED),
    "lacking ones agree too": ([0, NAN, 5.21], [(3, 0, 2.6)], [0, 2.6, 5.2], "s", AS_RUN),
    "frames of a step that agree": ([[0, 9], [2.6, 11.6]], [(2, 0, 2.6)], [0, 2.6], "s", AS_RUN),
    "one of them was late": ([[0, 9], [2.6, 12.6]], [(2, 0, 2.5)], [0, 2.6], "s", MEASURED),
    "the first of them lacks": ([[NAN, 9], [NAN, 11.7]], [(2, 0, 2.6)], [0, 2.6], "s", AS_RUN),
    "one frame": ([0], [(1, 0, 0)], [0], "s", "since the first frame"),
}


@pytest.mark.parametrize("name", CASES)
def test_labels_along_time(name: str) -> None:
    measured, phases, labels, unit, comment = CASES[name]
    values, units, told = axis(measured, *phases)
    np.testing.assert_allclose(values, labels, rtol=0, atol=1e-9)
    assert (units, told) == (unit, comment)
    assert values[0] == 0
    assert (np.diff(values) > 0).all()


def test_time_goes_on_beyond_its_loop() -> None:
    assert axis(None, (3, 2.0, 0), size=5)[0] == [0, 2, 4, 6, 8]
    assert axis(None, (2, 1.0, 1.0), (2, 5.0, 5.0), size=6)[0] == [0, 1, 2, 7, 12, 17]
    assert axis([0, 2, 4, 6, 9], (3, 2.0, 2.0), size=5)[0] == [0, 2, 4, 6, 9]


def times(table: list[float], count: int, absent: tuple[int, ...] = ()) -> list[float] | None:
    present = np.ones(count, bool)
    present[list(absent)] = False
    found = read_times(np.array(table), present, branch())
    return None if found is None else found.seconds.tolist()


@pytest.mark.parametrize(
    ("table", "count", "absent", "seconds"),
    [
        ([445.0, 1445.5, 2445.0], 3, (), [0, 1.0005, 2]),
        ([0.0, 0.0, 16.0], 3, (), [0, 0, 0.016]),  # a coarse clock
        ([400.0, 11400.0, 0.0, 33400.0], 4, (2,), [0, 11, NAN, 33]),
        ([400.0, 11400.0, 0.0], 3, (), [0, 11, NAN]),
        ([0.0, 11400.0, 22400.0], 3, (0,), [NAN, 0, 11]),
        ([400.0, 1400.0], 3, (), [0, 1, NAN]),
        ([400.0, 1400.0, 2400.0], 2, (), [0, 1]),
        ([400.0, NAN, float("inf"), -5.0], 4, (), [0, NAN, NAN, NAN]),
        ([0.0], 1, (), [0]),
        ([NAN, NAN], 2, (), None),
        ([], 2, (), None),
    ],
)
def test_measured_times(
    table: list[float], count: int, absent: tuple[int, ...], seconds: list[float] | None
) -> None:
    found = times(table, count, absent)
    if seconds is None:
        assert found is None
    else:
        np.testing.assert_allclose(np.array(found), seconds, rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    ("table", "still"),
    [
        ([0.0, 0.0], True),
        ([445.0, 445.0, 0.0], True),
        ([445.0], False),
        ([445.0, 0.0], False),
        ([445.0, 446.0], False),
    ],
)
def test_a_clock_that_stood_still(table: list[float], still: bool) -> None:
    found = read_times(np.array(table), np.ones(len(table), bool), branch())
    assert found is not None
    assert found.stood_still == still
    if still:
        assert acquired(np.datetime64("2024-05-06", "ns"), found, (("T", len(table)),)) is None


def test_the_first_frame_has_its_time_in_the_picture_too() -> None:
    table, present = np.array([NAN, 6000.0, 7500.0]), np.ones(3, bool)
    found = read_times(table, present, branch(dTimeMSec=5000.0))
    assert found is not None
    np.testing.assert_array_equal(found.seconds, [NAN, 1, 2.5])
    dated = acquired(np.datetime64("2024-05-06", "ns"), found, (("T", 3),))
    assert dated is not None
    assert dated[1][1] == np.datetime64("2024-05-06T00:00:01", "ns")
    for unknown in (0.0, 9000.0, "text"):
        found = read_times(table, present, branch(dTimeMSec=unknown))
        assert found is not None
        np.testing.assert_array_equal(found.seconds, [NAN, 0, 1.5])
        assert acquired(np.datetime64("2024-05-06", "ns"), found, (("T", 3),)) is None


def date_of(days: Any) -> np.datetime64 | None:
    return first_frame_date(branch(dTimeAbsolute=days))


def test_dates_are_julian() -> None:
    # By the definition: JD 2440587.5 is the epoch of Unix, and noon of 2000-01-01 is JD 2451545.
    assert date_of(2_440_587.5) == np.datetime64("1970-01-01", "ns")
    assert date_of(2_451_545.0) == np.datetime64("2000-01-01T12:00:00", "ns")
    assert iso_text(np.datetime64("2000-01-01T12:00:00.0006", "ns")) == "2000-01-01T12:00:00.001Z"
    for none in (0.0, 0.5, -1.0, 1e9, NAN, "text", None):
        assert date_of(none) is None


def test_frames_follow_the_first_by_the_differences_of_the_table() -> None:
    first = np.datetime64("2024-05-06T07:08:09", "ns")
    found = read_times(
        np.array([445.0, 1445.5, 0.0, 3445.0]), np.array([1, 1, 0, 1], bool), branch()
    )
    coordinate = acquired(first, found, (("T", 2), ("Z", 2)))
    assert coordinate is not None
    dims, dates, attrs = coordinate
    assert dims == ("T", "Z")
    assert "units" not in attrs
    assert dates.dtype == "datetime64[ns]"
    assert dates.astype("datetime64[us]").ravel().tolist()[:2] == [
        np.datetime64("2024-05-06T07:08:09.000000").item(),
        np.datetime64("2024-05-06T07:08:10.000500").item(),
    ]
    assert np.isnat(dates[1, 0])
    assert dates[1, 1] == np.datetime64("2024-05-06T07:08:12", "ns")


def test_a_date_without_a_table_is_that_of_a_single_frame() -> None:
    first = np.datetime64("2024-05-06", "ns")
    single = acquired(first, None, ())
    assert single is not None
    assert single[1] == first
    assert acquired(first, None, (("T", 2),)) is None
    assert acquired(None, None, ()) is None


DAY = 2_460_000.5  # Julian, 2023-02-25


@pytest.mark.parametrize(
    ("table", "picture", "first", "dated"),
    [
        ([5.0, 7.0], {"dTimeMSec": 4.0}, 5.0, True),
        ([0.0], {}, 0.0, True),  # a single frame, taken when the clock began
        ([NAN, 7.0], {"dTimeMSec": 4.0}, 4.0, True),
        ([NAN, 7.0], {}, 7.0, False),  # of the second frame
        ([5.0, 5.0], {"dTimeMSec": 4.0}, 4.0, True),  # the table's clock stood still
        ([], {"dTimeMSec": 4.0}, 4.0, True),
        ([], {"dTimeMSec": 0.0}, None, False),
        ([], {"dTimeMSec": 1e29}, None, False),
        ([], {}, None, False),
    ],
)
def test_clock(
    table: list[float], picture: dict[str, float], first: float | None, dated: bool
) -> None:
    values = branch(dTimeAbsolute=DAY, **picture)
    times = read_times(np.array(table), np.ones(max(1, len(table)), bool), values)
    date = np.datetime64("2023-02-25", "ns")
    clock = read_clock(times, values)
    assert clock == Clock(first, date if dated else None)
    at = np.array([(first or 0) + 1500.0, NAN, 1e20])
    np.testing.assert_allclose(clock.seconds_of(at)[:2], [1.5, NAN])
    dates = clock.dates_of(at)
    if not dated:
        assert dates is None
    else:
        assert dates is not None
        assert dates[0] == date + np.timedelta64(1500, "ms")
        assert np.isnat(dates[1:]).all()
