"""Z, Y, X, points, and positions of the stage."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import pytest

from tests.metadata.trees import branch, experiment, level, listed
from xarray_nd2.metadata.focus import recorded_heights, stage_heights, z_axis
from xarray_nd2.metadata.loops import Dimension
from xarray_nd2.metadata.picture_planes import PicturePlane
from xarray_nd2.metadata.space import camera_to_stage, pixel_size_um, position_axis

NAN = float("nan")


def stack(count: int, **parameters: Any) -> Any:
    return experiment(level(4, uiCount=count, **parameters))[0].loops[0]


def heights(count: int, recorded: list[float] | None = None, **parameters: Any) -> Any:
    table = None if recorded is None else np.array(recorded, float)
    return z_axis(stack(count, **parameters), "Z", count if table is None else len(table), table)


FIXED = {"dZLow": 140.0, "dZHigh": 200.0, "dZHome": 170.0, "dZStep": 6.0}


@pytest.mark.parametrize(
    ("parameters", "count", "labels", "home", "upwards"),
    [
        # The two real stacks, of which the heights were recorded or are in the metadata.
        (FIXED | {"iType": 2, "bZInverted": True}, 11, [-30, -24, -18], 5, True),
        ({"dZStep": 0.5, "iType": 0}, 10, [-2, -1.5, -1], 4, True),
        (FIXED | {"iType": 6}, 11, [30, 24, 18], 5, False),
        (FIXED | {"iType": 3, "dZHome": 152.0}, 11, [-12, -6, 0], 2, True),
        (FIXED | {"iType": 3, "dZHome": 152.0, "bZInverted": True}, 11, [-48, -42, -36], 8, True),
        (FIXED | {"iType": 7, "dZHome": 152.0}, 11, [48, 42, 36], 8, False),
        ({"dZStep": 1.5, "iType": 4}, 3, [1.5, 0, -1.5], 1, False),
        ({"dZStep": 0.0, "dZLow": 0.0, "dZHigh": 4.0, "iType": 0}, 3, [-2, 0, 2], 1, True),
        ({"dZStep": 0.1, "iType": 0}, 4, [-0.1, 0, 0.1], 1, True),
        ({"dZStep": 2.0, "iType": 0}, 1, [0], 0, True),
        ({"dZStep": 2.0, "iType": 3, "dZLow": "x"}, 3, [-2, 0, 2], 1, True),
    ],
)
def test_z_is_signed_about_the_home_plane(
    parameters: dict[str, Any], count: int, labels: list[float], home: int, upwards: bool
) -> None:
    dims, values, attrs = heights(count, **parameters)
    assert dims == ("Z",)
    assert values[:3].tolist() == labels
    assert values[home] == 0
    assert attrs["home_index"] == home
    assert attrs["direction"] == ("bottom to top" if upwards else "top to bottom")
    assert attrs["units"] == "µm"


def test_recorded_heights_tell_the_direction() -> None:
    parameters = {"dZStep": 2.0, "iType": 0}
    assert heights(3, [30.0, 28.0, 26.0], **parameters)[1].tolist() == [2, 0, -2]
    assert heights(3, [30.0, 32.0, 34.0], **parameters)[1].tolist() == [-2, 0, 2]
    fixed = {"dZStep": 2.0, "iType": 3, "dZLow": 0.0, "dZHigh": 8.0, "dZHome": 2.0}
    assert heights(5, [30.0, 32, 34, 36, 38], **fixed)[1].tolist() == [-2, 0, 2, 4, 6]
    assert heights(5, [38.0, 36, 34, 32, 30], **fixed)[1].tolist() == [6, 4, 2, 0, -2]
    # A drive that did not move the stage, or one that does not tell, says nothing.
    assert heights(3, [30.0, 30.0, 30.0], **parameters)[1].tolist() == [-2, 0, 2]
    assert heights(3, [30.0, NAN, NAN], **parameters)[1].tolist() == [-2, 0, 2]


def test_planes_beyond_the_loop_go_on() -> None:
    assert z_axis(stack(3, dZStep=2.0, iType=0), "Z", 5, None)[1].tolist() == [-2, 0, 2, 4, 6]


@pytest.mark.parametrize("step", [0.0, NAN, float("inf"), "text", None])
def test_planes_without_a_step_are_numbered(step: Any) -> None:
    _, values, attrs = heights(3, dZStep=step, iType=0)
    assert values.tolist() == [0, 1, 2]
    assert attrs["units"] == "1"


def recorded(
    loops: tuple[tuple[str, int], ...], z: list[float], x: list[float], absent: Any = ()
) -> Any:
    present = np.ones(int(np.prod([size for _, size in loops])), bool)
    present[list(absent)] = False
    columns = {"x": np.array(x, float), "z": np.array(z, float)}
    return recorded_heights(columns, loops, present)


def test_heights_are_those_of_the_first_time_point() -> None:
    table = [float(number) for number in range(100, 124)]
    found = recorded((("T", 2), ("P", 3), ("Z", 4)), table, [1.0])
    assert found.ravel().tolist() == table[:12]
    assert found.shape == (1, 3, 4)
    found = recorded((("P", 3), ("T", 2), ("Z", 4)), table, [1.0])
    assert found.ravel().tolist() == [*range(100, 104), *range(108, 112), *range(116, 120)]
    assert recorded((("T", 24),), table, [1.0]).tolist() == [100]
    assert recorded((), [5.0], []).tolist() == 5


def test_heights_that_are_not_known() -> None:
    found = recorded((("Z", 4),), [5.0, 0.0, float("inf"), 8.0], [1.0], absent=[1])
    np.testing.assert_array_equal(found, [5, NAN, NAN, 8])
    np.testing.assert_array_equal(recorded((("Z", 3),), [5.0, 6.0], []), [5, 6, NAN])


def test_zeros_everywhere_stand_for_nothing() -> None:
    assert recorded((("Z", 2),), [0.0, 0.0], [0.0, 0.0]) is None
    assert recorded((("Z", 2),), [0.0, 0.0], []) is None
    assert recorded((("Z", 2),), [0.0, 0.0], [1.0, 1.0]).tolist() == [0, 0]
    assert recorded_heights({"x": np.ones(2)}, (("Z", 2),), np.ones(2, bool)) is None


AXES: dict[str, Any] = {
    "Z": (("Z",), np.array([-1.0, 0.0, 1.0]), {"units": "µm"}),
    "P": (("P",), np.array(["A", "B"]), {}),
}


def stage(*dims: str, use_z: bool = False, table: Any = None, z: Any = 50.0) -> Any:
    points = listed({"dPosZ": 10.0}, {"dPosZ": 20.0})
    loops = {
        "Z": stack(3),
        "P": experiment(level(2, Points=points, bUseZ=use_z))[0].loops[0],
        "P2": experiment(level(2, Points=points))[0].loops[0],
        "T": experiment(level(1, uiCount=2))[0].loops[0],
    }
    sizes = {"Z": 3, "P": 2, "P2": 2, "T": 2, "U": 2}
    made = [Dimension(dim, sizes[dim], loops.get(dim)) for dim in dims]
    found = stage_heights(table, AXES, made, branch(dZPos=z))
    return found.get("stage_z", (None, None))[:2]


def test_the_height_of_each_plane() -> None:
    dims, values = stage("T", "P", "Z", table=np.arange(6.0).reshape(1, 2, 3))
    assert dims == ("P", "Z")
    assert values.tolist() == [[0, 1, 2], [3, 4, 5]]
    dims, values = stage("P", "Z", use_z=True)
    assert dims == ("P", "Z")
    assert values.tolist() == [[9, 10, 11], [19, 20, 21]]
    assert stage("P", use_z=True)[1].tolist() == [10, 20]
    dims, values = stage("P2", "P", "Z", use_z=True)
    assert dims == ("P", "Z")
    assert values.tolist() == [[9, 10, 11], [19, 20, 21]]
    assert stage("P", "P", use_z=True) == (None, None)
    # The metadata of the picture are of the first plane, not of the home plane.
    assert stage("P", "Z")[1].tolist() == [50, 51, 52]
    assert stage("Z")[1].tolist() == [50, 51, 52]
    assert stage("T") == ((), 50)
    assert stage("T", z=None) == (None, None)
    # Along an unknown loop the stage may have been anywhere.
    assert stage("U", "Z") == (None, None)
    dims, values = stage("U", "Z", table=np.arange(6.0).reshape(2, 3))
    assert dims == ("U", "Z")


def test_points_have_the_names_and_places_of_the_file() -> None:
    points = listed(
        {"dPosX": 1.0, "dPosY": 2.0, "dPosName": "A1"},
        {"dPosX": "odd", "dPosY": 3.0},
        {"dPosX": 4.0, "dPosY": 5.0, "dPosName": "A1"},
    )
    loop = experiment(level(2, Points=points))[0].loops[0]
    found = position_axis(loop, "P", 4)
    assert found["P"][1].tolist() == ["A1", "XYPos:1", "A1 (2)", "XYPos:3"]
    assert found["position_name"][1].tolist() == ["A1", "", "A1", ""]
    np.testing.assert_array_equal(found["stage_x"][1], [1, NAN, 4, NAN])
    np.testing.assert_array_equal(found["stage_y"][1], [2, 3, 5, NAN])
    assert position_axis(loop, "P2", 3).keys() == {"P2", "position_name2", "stage_x2", "stage_y2"}


def test_points_relative_to_another() -> None:
    parameters = {"bRelativeXY": True, "dReferenceX": 100.0, "dReferenceY": "odd"}
    points = listed({"dPosX": 1.0, "dPosY": 2.0})
    found = position_axis(experiment(level(2, Points=points, **parameters))[0].loops[0], "P", 1)
    assert found["stage_x"][1].tolist() == [101]
    assert "stage_y" not in found


@pytest.mark.parametrize(
    ("values", "size", "odd"),
    [
        ({"bCalibrated": True, "dCalibration": 0.25}, 0.25, False),
        ({"bCalibrated": False, "dCalibration": 0.25}, None, False),
        ({"bCalibrated": True, "dCalibration": -1.0}, None, False),
        ({"dCalibration": 0.25}, None, True),
        ({"bCalibrated": True}, None, True),
        ({"bCalibrated": True, "dCalibration": "0.25"}, None, True),
        ({}, None, False),
    ],
)
def test_pixels_are_as_large_as_calibrated(values: Any, size: float | None, odd: bool) -> None:
    picture = branch(**values)
    assert pixel_size_um(picture) == size
    assert bool(picture.oddities) == odd


def matrix(*values: float) -> dict[str, Any]:
    return {"Rows": 2, "Columns": 2, "Data": list(struct.pack("<4d", *values))}


TURNED, MIRRORED = (0.0, -1.0, 1.0, 0.0), (-1.0, 0.0, 0.0, 1.0)
NAMES = ("dStgLgCT11", "dStgLgCT12", "dStgLgCT21", "dStgLgCT22")


@pytest.mark.parametrize(
    ("samples", "own", "expected"),
    [
        ([matrix(*TURNED)], MIRRORED, TURNED),
        ([matrix(*TURNED), matrix(*TURNED)], None, TURNED),
        ([matrix(*TURNED), matrix(*MIRRORED)], TURNED, None),  # two cameras
        ([matrix(0, 0, 0, 0)], MIRRORED, MIRRORED),
        ([matrix(NAN, 0, 0, 1)], MIRRORED, MIRRORED),
        ([{"Rows": 2, "Columns": 2, "Data": "odd"}], MIRRORED, MIRRORED),
        ([], MIRRORED, MIRRORED),
        ([], (0.0, 0.0, 0.0, 0.0), None),
        ([], None, None),
    ],
)
def test_from_the_camera_to_the_stage(samples: Any, own: Any, expected: Any) -> None:
    planes = [PicturePlane("", 1, branch(), branch(matCameraToStage=each)) for each in samples]
    found = camera_to_stage(branch(**dict(zip(NAMES, own or (), strict=False))), planes)
    assert found == (None if expected is None else list(expected))
