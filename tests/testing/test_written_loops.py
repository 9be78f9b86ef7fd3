"""Loops, times and places of `write_nd2`, as ``nd2`` and the vendor's names tell them."""

from __future__ import annotations

import datetime as dt
import io
from typing import Any

import nd2
import numpy as np
import pytest

from tests.testing.written import (
    CONTAINER_VERSIONS,
    chunks_of,
    frame_of,
    opened,
    outermost_loop_parameters,
    pixels,
    raw_experiment,
    raw_picture,
    written,
)

# ---- time


@pytest.mark.parametrize("version", CONTAINER_VERSIONS)
def test_period_as_planned_and_as_run(version: tuple[int, int]) -> None:
    with opened(pixels(4, 5, 8), "TYX", period=0.25, average_period=0.5, version=version) as read:
        found = outermost_loop_parameters(read)
        assert (found.periodMs, found.durationMs) == (250, 750)
        assert (found.periodDiff.avg, found.periodDiff.min, found.periodDiff.max) == (500,) * 3


def test_periods_as_planned_and_as_run() -> None:
    with opened(pixels(6, 5, 8), "TYX", periods=[(2, 1.0, 1.5), (4, 60)]) as read:
        periods = [
            (p.count, p.periodMs, p.periodDiff.avg) for p in outermost_loop_parameters(read).periods
        ]
    assert periods == [(2, 1000, 1500), (4, 60000, 60000)]


@pytest.mark.parametrize("version", CONTAINER_VERSIONS)
@pytest.mark.parametrize(
    "start",
    [
        "2025-03-26T23:22:34.500",
        "2025-03-26T23:22:34.5Z",
        "2025-03-27T01:22:34.5+02:00",
        dt.datetime(2025, 3, 26, 23, 22, 34, 500_000, dt.UTC),
        dt.datetime.fromisoformat("2025-03-26T23:22:34.5"),
        dt.datetime(2025, 3, 26, 21, 22, 34, 500_000, dt.timezone(dt.timedelta(hours=-2))),
        np.datetime64("2025-03-26T23:22:34.5"),
        np.datetime64("2025-03-26T23:22:34.500000000"),
    ],
    ids=str,
)
def test_start(start: Any, version: tuple[int, int]) -> None:
    file = written(
        pixels(3, 5, 8), "TYX", start=start, timestamps=[4.25, 5, 6], version=version, missing=[0]
    )
    picture = raw_picture(file)
    assert picture["dTimeMSec"] == 4250.0
    # By the definition of the Julian date: 2451545.0 is 2000-01-01 12:00.
    noon = np.datetime64("2000-01-01T12:00")
    days = (np.datetime64("2025-03-26T23:22:34.500") - noon) / np.timedelta64(1, "D")
    assert picture["dTimeAbsolute"] == pytest.approx(2451545.0 + days, abs=1e-9)


def test_a_day_without_a_time_starts_at_midnight() -> None:
    assert (
        raw_picture(written(pixels(5, 8), "YX", start="2000-01-01"))["dTimeAbsolute"] == 2451544.5
    )


def test_no_start() -> None:
    picture = raw_picture(written(pixels(2, 5, 8), "TYX"))
    assert (picture["dTimeAbsolute"], picture["dTimeMSec"]) == (0.0, 0.0)


# ---- Z and the stage


@pytest.mark.parametrize("version", CONTAINER_VERSIONS)
@pytest.mark.parametrize("count", [1, 2, 5, 6])
@pytest.mark.parametrize("step", [0.3, -0.3])
def test_home_plane(count: int, step: float, version: tuple[int, int]) -> None:
    for home in (None, *range(count)):
        expected = (count - 1) // 2 if home is None else home
        data = pixels(count, 5, 8)
        options = {"timestamps": np.arange(count), "version": version}
        file = written(data, "ZYX", z_step=step, z_home=home, **options)
        with nd2.ND2File(io.BytesIO(file)) as read:
            found = outermost_loop_parameters(read)
            assert (found.homeIndex, found.bottomToTop) == (expected, step > 0)
            assert found.stepUm == abs(step)
        raw = raw_experiment(file)["uLoopPars"]
        raw = raw.get("i0000000000", raw)
        assert raw["iType"] in ((0, 2) if step > 0 else (4, 6))
        assert raw["iType"] == (0 if expected == (count - 1) // 2 else 2) + (0 if step > 0 else 4)
        # The home plane in µm above the lowest, whichever way the stage moved.
        first = raw["dZLow"] if step > 0 else raw["dZHigh"]
        assert raw["dZHome"] == pytest.approx(first + expected * step)
        assert raw["dZHigh"] - raw["dZLow"] == pytest.approx((count - 1) * abs(step))


@pytest.mark.parametrize(("step", "first"), [(2.0, 6.0), (-2.0, 14.0)])
@pytest.mark.parametrize("dims", ["ZYX", "PZYX"])
def test_the_picture_is_of_the_first_plane(dims: str, step: float, first: float) -> None:
    data = pixels(*([1] * ("P" in dims)), 6, 5, 8)
    file = written(data, dims, stage_positions=[(1, 2, 10)], z_step=step, z_home=2)
    picture = raw_picture(file)
    assert [picture[f"d{axis}Pos"] for axis in "XYZ"] == [1, 2, first]
    if "P" in dims:
        with nd2.ND2File(io.BytesIO(file)) as read:
            (point,) = outermost_loop_parameters(read).points
        assert tuple(point.stagePositionUm) == (1, 2, 10)


@pytest.mark.parametrize("version", CONTAINER_VERSIONS)
def test_points_that_do_not_set_z(version: tuple[int, int]) -> None:
    stage = [(1, 2, 3), (4, 5, 6)]
    file = written(
        pixels(2, 5, 8), "PYX", stage_positions=stage, use_point_z=False, version=version
    )
    with nd2.ND2File(io.BytesIO(file)) as read:
        found = outermost_loop_parameters(read)
    assert found.isSettingZ is False
    assert [tuple(point.stagePositionUm) for point in found.points] == [(1, 2, 0), (4, 5, 0)]
    assert raw_picture(file)["dZPos"] == 3


@pytest.mark.parametrize("version", CONTAINER_VERSIONS)
def test_points_that_were_skipped(version: tuple[int, int]) -> None:
    data = pixels(2, 5, 8)
    options: dict[str, Any] = {
        "positions": ["a", "b", "c", "d"],
        "stage_positions": [(i, 10 * i, 0) for i in range(4)],
        "skipped_points": [0, 2],
    }
    file = written(data, "PYX", version=version, **options)
    with nd2.ND2File(io.BytesIO(file)) as read:
        assert dict(read.sizes) == {"P": 2, "Y": 5, "X": 8}
        points = outermost_loop_parameters(read).points
        assert [(p.name, p.stagePositionUm.x) for p in points] == [("b", 1), ("d", 3)]
        np.testing.assert_array_equal(read.asarray(), data)
    raw = raw_experiment(file)
    parameters = raw["uLoopPars"].get("i0000000000", raw["uLoopPars"])
    assert len(parameters["Points"]) == parameters["uiCount"] == 4
    valid = raw["pItemValid"]
    flags = valid if isinstance(valid, list) else list(valid.values())
    assert [bool(flag) for flag in flags] == [False, True, False, True]
    assert [raw_picture(file)[f"d{axis}Pos"] for axis in "XY"] == [1, 10]


# ---- kinds of loops


def nested(experiment: Any) -> list[tuple[int, int]]:
    """Type code and count of each loop, the outermost first."""
    parameters = experiment["uLoopPars"]
    parameters = parameters.get("i0000000000", parameters)
    found = [(experiment["eType"], parameters["uiCount"])]
    if experiment["uiNextLevelCount"]:
        found += nested(next(iter(experiment["ppNextLevelEx"].values())))
    return found


@pytest.mark.parametrize("version", CONTAINER_VERSIONS)
def test_second_loops_of_a_kind(version: tuple[int, int]) -> None:
    dims = ("T", "P", "P2", "Z", "T2", "C", "Y", "X")
    data = pixels(2, 3, 2, 4, 5, 2, 5, 8)
    file = written(
        data,
        dims,
        version=version,
        period={"T": 60, "T2": 0.5},
        positions={"P": ["A1", "A2", "A3"], "P2": ["left", "right"]},
        stage_positions={"P2": [(1, 2, 3), (4, 5, 6)]},
    )
    assert nested(raw_experiment(file)) == [(1, 2), (2, 3), (2, 2), (4, 4), (1, 5)]
    with nd2.ND2File(io.BytesIO(file)) as read:
        t, p, p2, _, t2 = (loop.parameters for loop in read.experiment)
        levels = [loop.nestingLevel for loop in read.experiment]
    assert levels == [0, 1, 2, 3, 4]
    assert (t.periodMs, t2.periodMs) == (60_000, 500)  # type: ignore[union-attr]
    assert [point.name for point in p.points] == ["A1", "A2", "A3"]  # type: ignore[union-attr]
    assert p.isSettingZ is False  # type: ignore[union-attr]
    places = [(q.name, tuple(q.stagePositionUm)) for q in p2.points]  # type: ignore[union-attr]
    assert places == [("left", (1, 2, 3)), ("right", (4, 5, 6))]
    frames = data.reshape(-1, 2, 5, 8)
    for i in (0, 1, 5, 119, 239):
        found = frame_of(file, i, "u2", 32, 5, 8, 2)
        np.testing.assert_array_equal(found, frames[i].transpose(1, 2, 0))
    assert len([name for name in chunks_of(file) if name.startswith("ImageDataSeq")]) == 240


def test_what_is_said_of_the_first_loop_is_not_said_of_the_second() -> None:
    data = pixels(2, 3, 2, 4, 5, 8)
    dims = ["Z", "P", "Z2", "P2", "Y", "X"]
    with opened(data, dims, z_step=-3, z_home=1, positions=["a", "b", "c"]) as read:
        z, p, z2, p2 = (loop.parameters for loop in read.experiment)
    assert (z.stepUm, z.homeIndex, z.bottomToTop) == (3, 1, False)  # type: ignore[union-attr]
    assert (z2.stepUm, z2.homeIndex, z2.bottomToTop) == (1, 0, True)  # type: ignore[union-attr]
    assert [point.name for point in p.points] == ["a", "b", "c"]  # type: ignore[union-attr]
    assert [point.name for point in p2.points] == [None] * 4  # type: ignore[union-attr]


@pytest.mark.parametrize("version", CONTAINER_VERSIONS)
def test_a_loop_of_a_custom_kind(version: tuple[int, int]) -> None:
    data = pixels(2, 3, 5, 8)
    file = written(data, "UZYX", version=version)
    assert nested(raw_experiment(file)) == [(7, 2), (4, 3)]
    with nd2.ND2File(io.BytesIO(file)) as read:
        assert [loop.type for loop in read.experiment] == ["CustomLoop", "ZStackLoop"]
        assert dict(read.sizes) == {"U": 2, "Z": 3, "Y": 5, "X": 8}
        np.testing.assert_array_equal(read.asarray(), data)


@pytest.mark.parametrize("kind", [3, 5, 9, 10, 99])
def test_a_loop_of_any_kind(kind: int) -> None:
    file = written(pixels(2, 3, 4, 5, 8), "TPZYX", loop_kinds={"P": kind})
    raw = chunks_of(file)["ImageMetadataLV!"].data
    decoded = nd2._parse._clx_lite.json_from_clx_lite_variant(raw, strip_prefix=False)
    assert nested(decoded["SLxExperiment"]) == [(1, 2), (kind, 3), (4, 4)]
    (inner,) = decoded["SLxExperiment"]["ppNextLevelEx"].values()
    assert inner["uLoopPars"] == {"uiCount": 3}
    assert "pItemValid" not in inner


# ---- loops that are not of the size of the data


@pytest.mark.parametrize("planned", [{"T": 2}, {"T": 9, "Z": 1}, {"P": 0}, {"P": 4}])
def test_loops_of_another_size(planned: dict[str, int]) -> None:
    data = pixels(3, 2, 2, 5, 8)
    file = written(data, "TPZYX", planned=planned)
    counts = {"T": 3, "P": 2, "Z": 2} | planned
    assert nested(raw_experiment(file)) == [(1, counts["T"]), (2, counts["P"]), (4, counts["Z"])]
    with nd2.ND2File(io.BytesIO(file)) as read:
        assert read.attributes.sequenceCount == 12
        lasting = [n for n in counts.values() if n]
        if 0 not in counts.values():
            assert [loop.count for loop in read.experiment] == lasting
    frames = data.reshape(12, 5, 8)
    for i in range(12):
        np.testing.assert_array_equal(frame_of(file, i, "u2", 16, 5, 8, 1)[..., 0], frames[i])


def test_what_is_said_of_a_loop_is_of_its_planned_size() -> None:
    file = written(
        pixels(3, 5, 8),
        "PYX",
        planned={"P": 2},
        positions=["a", "b"],
        stage_positions=[(1, 2, 3), (4, 5, 6)],
    )
    with nd2.ND2File(io.BytesIO(file)) as read:
        assert [point.name for point in outermost_loop_parameters(read).points] == ["a", "b"]
    with pytest.raises(ValueError, match="3 names, P is 2"):
        written(pixels(3, 5, 8), "PYX", planned={"P": 2}, positions=["a", "b", "c"])
    with pytest.raises(ValueError, match=r"periods have \[3\] times, T is 2"):
        written(pixels(3, 5, 8), "TYX", planned={"T": 2}, periods=[(3, 1)])
