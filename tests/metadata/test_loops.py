"""From an experiment and the number of frames to dimensions; no frame is dropped."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.metadata.trees import branch, experiment, level, listed
from xarray_nd2.metadata.experiment import Experiment, read_experiment
from xarray_nd2.metadata.loops import StoredFrames, loop_dimensions
from xarray_nd2.metadata.tree import Oddities


def time(count: Any, *inner: dict[str, Any], kind: Any = 1) -> dict[str, Any]:
    return level(kind, *inner, uiCount=count)


def stack(count: Any, *inner: dict[str, Any]) -> dict[str, Any]:
    return level(4, *inner, uiCount=count)


def points(count: int, *inner: dict[str, Any], valid: Any = None) -> dict[str, Any]:
    root = level(2, *inner, uiCount=count, Points=listed(*({"dPosX": i} for i in range(count))))
    return root if valid is None else root | {"pItemValid": valid}


def channels(*inner: dict[str, Any]) -> dict[str, Any]:
    return level(6, *inner, uiCount=2)


def dimensions(
    root: dict[str, Any], frames: int, *, planned: int = 0, rescue: bool = False
) -> tuple[dict[str, int], str]:
    """Sizes of the dimensions, and what was odd."""
    found, oddities = experiment(root)
    stored = StoredFrames(0, 0, np.arange(frames), rescue)
    made = loop_dimensions(found, stored, planned, oddities)
    return {each.name: each.size for each in made}, str(oddities)


@pytest.mark.parametrize(
    ("root", "frames", "sizes"),
    [
        ({}, 1, {}),
        (time(3), 3, {"T": 3}),
        (time(1), 1, {"T": 1}),
        (time(3, stack(2)), 6, {"T": 3, "Z": 2}),
        (points(2, time(3, stack(2, channels()))), 12, {"P": 2, "T": 3, "Z": 2}),
        (channels(time(3)), 3, {"T": 3}),
        (points(3, valid=[1, 0, 1]), 2, {"P": 2}),
        (points(3, valid={"_00": True, "_01": False, "_02": True}), 2, {"P": 2}),
        (points(3, valid=[]), 3, {"P": 3}),
        (points(3, valid=[1, 1]), 3, {"P": 3}),
        (time(0, stack(4)), 4, {"Z": 4}),
        (points(4, points(3)), 12, {"P": 4, "P2": 3}),
        (time(2, stack(3, time(4))), 24, {"T": 2, "Z": 3, "T2": 4}),
        (time(5, kind=7), 5, {"U": 5}),
        (time(2, time(5, kind=7)), 10, {"T": 2, "U": 5}),
        (time(2, kind=7) | {"ppNextLevelEx": listed(time(3, kind=7))}, 6, {"U": 2, "U2": 3}),
    ],
)
def test_loops_become_dimensions(root: dict[str, Any], frames: int, sizes: dict[str, int]) -> None:
    root.pop("uiNextLevelCount", None)
    assert dimensions(root, frames) == (sizes, "")


def test_phases_are_one_loop() -> None:
    phases = listed({"uiCount": 3}, {"uiCount": 9}, {"uiCount": 2}, {"uiCount": 0})
    root = level(8, pPeriod=phases, pPeriodValid=[1, 0, 1, 1], uiCount=14)
    assert dimensions(root, 5) == ({"T": 5}, "")
    found, _ = experiment(root)
    assert [phase.whole("uiCount") for phase in found.loops[0].items] == [3, 2]


def test_phases_with_loops_of_their_own() -> None:
    inside = {"SLxExperiment": stack(4)}
    root = level(8, pPeriod=listed({"uiCount": 3}), pPeriodValid=[1], uiCount=3)
    root["uLoopPars"]["pSubLoops"] = listed({"ppNextLevelEx": listed(inside)})
    assert dimensions(root, 12) == ({"T": 3, "Z": 4}, "")


def test_of_experiments_on_one_level_the_longest_counts() -> None:
    assert dimensions(time(3, stack(2), stack(5)), 15) == ({"T": 3, "Z": 5}, "")


def test_parameters_in_a_list_of_one() -> None:
    root = {"eType": 1, "uLoopPars": listed({"uiCount": 3})}
    assert dimensions(root, 3) == ({"T": 3}, "")


def test_points_of_old_files_are_lists_of_their_values() -> None:
    names = {"_0": "A", "_1": "B", "_2": "C"}
    root = level(
        2, dPosX=dict.fromkeys(names, 1.0), dPosY=dict.fromkeys(names, 2.0), pPosName=names
    )
    root |= {"pItemValid": {"_00": True, "_01": False, "_02": True}}
    found, oddities = experiment(root)
    assert [point.text("dPosName") for point in found.loops[0].items] == ["A", "C"]
    assert not oddities


@pytest.mark.parametrize(
    ("root", "frames", "sizes", "steps"),
    [
        (time(3, stack(2)), 8, {"T": 4, "Z": 2}, "3 to 4"),
        (time(3, stack(2)), 7, {"T": 4, "Z": 2}, "3 to 4"),
        (points(26, time(35)), 944, {"P": 27, "T": 35}, "26 to 27"),
        (stack(2), 3, {"Z": 3}, "2 to 3"),
    ],
)
def test_the_outermost_loop_goes_on(
    root: dict[str, Any], frames: int, sizes: dict[str, int], steps: str
) -> None:
    found, odd = dimensions(root, frames)
    assert found == sizes
    assert f"there are {frames} frames" in odd
    assert f"goes on from {steps} steps" in odd


def test_fewer_frames_than_planned_leave_the_loops() -> None:
    assert dimensions(time(3, stack(2)), 5) == ({"T": 3, "Z": 2}, "")


@pytest.mark.parametrize("kind", [0, 3, 5, 9, 99, -1, None, "1", 2**40])
def test_a_loop_of_an_unknown_kind_is_u(kind: Any) -> None:
    sizes, odd = dimensions(time(4, stack(2), kind=kind), 8)
    assert sizes == {"U": 4, "Z": 2}
    assert odd


DAMAGED: dict[str, dict[str, Any]] = {
    "no count": level(1, stack(2)),
    "a count that is text": time("3", stack(2)),
    "a negative count": time(-3, stack(2)),
    "no parameters": {"eType": 1, "ppNextLevelEx": listed(stack(2))},
    "no level inside": {"eType": 1, "uLoopPars": {"uiCount": 3}, "uiNextLevelCount": 1},
    "a level inside that is text": time(3, stack(2)) | {"ppNextLevelEx": "text"},
    "levels without end": time(3),
    "phases that are text": level(8, stack(2), pPeriod="text", uiCount=7),
    "a phase without a count": level(8, stack(2), pPeriod=listed({}), uiCount=7),
    "points that are text": level(2, stack(2), Points="text", uiCount=7),
    "validity that is text": points(7, stack(2), valid="text"),
}


def deepened(root: dict[str, Any], depth: int) -> dict[str, Any]:
    for _ in range(depth):
        root = time(1, root)
    return root


@pytest.mark.parametrize("name", DAMAGED)
def test_frames_of_a_damaged_experiment_are_numbered(name: str) -> None:
    root = DAMAGED[name]
    if name == "levels without end":
        root = deepened(root, 40)
    sizes, odd = dimensions(root, 6)
    assert sizes == {"U": 6}
    assert "numbered along U" in odd


def test_what_is_left_counts_if_it_comes_to_the_frames() -> None:
    assert dimensions(DAMAGED["points that are text"], 14)[0] == {"P": 7, "Z": 2}
    assert dimensions(DAMAGED["validity that is text"], 14)[0] == {"P": 7, "Z": 2}
    assert dimensions(DAMAGED["phases that are text"], 14)[0] == {"T": 7, "Z": 2}


def test_frames_without_an_experiment_are_numbered() -> None:
    assert dimensions({}, 5) == (
        {"U": 5},
        "no loop arranges the frames, so they are numbered along U",
    )
    # The last frames may be lost where a file is rescued.
    assert dimensions({}, 5, planned=9)[0] == {"U": 5}
    assert dimensions({}, 5, planned=9, rescue=True)[0] == {"U": 9}


def test_numbers_of_frames_count_not_their_amount() -> None:
    stored = StoredFrames(0, 0, np.array([0, 7]))
    loops = read_experiment(branch(eType=1, uLoopPars={"uiCount": 4}))
    made = loop_dimensions(loops, stored, 0, Oddities())
    assert [(each.name, each.size) for each in made] == [("T", 8)]
    assert stored.present(8).nonzero()[0].tolist() == [0, 7]
    assert stored.present(4).nonzero()[0].tolist() == [0]
    assert (
        loop_dimensions(Experiment((), True), StoredFrames(0, 0, np.arange(0)), 0, Oddities()) == []
    )
