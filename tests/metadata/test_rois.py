"""The group of regions of interest."""

from __future__ import annotations

import io
import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import nd2
import numpy as np
import pytest
import xarray as xr
from nd2.structures import InterpType, RoiShapeType, ScopeType

from tests.conftest import corpus_files
from tests.metadata.annotations import (
    check_damaged_chunks,
    check_round_trip,
    opened_group,
    opened_tree,
    problems_of_damaged_keys,
    written,
)
from tests.metadata.damaged import with_chunks
from tests.metadata.trees import branch
from xarray_nd2 import ND2FormatError
from xarray_nd2.metadata.roi_variables import rois_group
from xarray_nd2.metadata.rois import Outline as ReadOutline
from xarray_nd2.metadata.rois import Roi as ReadRoi
from xarray_nd2.metadata.rois import listed_rois
from xarray_nd2.metadata.tree import Oddities
from xarray_nd2.testing import Outline, Roi
from xarray_nd2.testing.variant import lite_variant

if TYPE_CHECKING:
    from pathlib import Path

    from xarray_nd2.testing.variant import Tree

ROI_CHUNK = b"CustomData|RoiMetadata_v1!"
TRIANGLE = [(10.0, 5.0), (14.0, 5.0), (12.0, 9.5)]
ROIS = [
    Roi("rectangle", Outline((0, 0), (8, 4), rotation=0.25), "corner", color="#0033ff"),
    Roi("polygon", Outline((12, 7), vertices=TRIANGLE, depth=2), "µ λ", "background", id=77),
    Roi(
        "ellipse", Outline((39, 29), (3, 2), centre_z=1.5), interpretation="stimulation", position=1
    ),
]
MOVING = Roi(
    "polygon",
    [
        Outline((1, 1), vertices=TRIANGLE, enabled=False),
        Outline((2, 3), vertices=TRIANGLE[:2], time=1.5, rotation=1),
        Outline((4, 5), size=(2, 2), time=3),
    ],
    "moving",
)
SIZE = (30, 40)  # height and width
PIXEL_UM = 0.25
VARIABLES_OF_KEY = {
    "m_uiId": {"id"},
    "m_sGUID": {"guid"},
    "m_uiShapeType": {"shape"},
    "m_uiInterpType": {"interpretation"},
    "m_uiScope": {"scope"},
    "m_sLabel": {"name"},
    "m_uiColor": {"color"},
    "m_bMultiFrame": {"nothing"},
    "m_dTimeMs": {"keyframe_"},
    "m_bEnabled": {"keyframe_"},
    "m_dCenterX": {"centre_x", "vertex_x"},
    "m_dCenterY": {"centre_y", "vertex_y"},
    "m_dCenterZ": {"centre_z"},
    "m_dRotationZ": {"rotation"},
    "m_dSizeX": {"width"},
    "m_dSizeY": {"height"},
    "m_dSizeZ": {"depth"},
    "x": {"vertex_"},
    "y": {"vertex_"},
    "m_sBoxShape": {"width", "height", "depth"},
    "m_sExtrudedShape": {"vertex_", "depth"},
}


def with_rois(rois: list[Roi] | None = None, **options: Any) -> bytes:
    given = {"rois": ROIS if rois is None else rois, "pixel_size": PIXEL_UM}
    return written((2, 2, *SIZE), "TPYX", **{**given, **options})


@pytest.mark.parametrize("version", [(3, 0), (2, 1)])
def test_rois(version: tuple[int, int]) -> None:
    ds = opened_group(with_rois(version=version), "rois")
    assert dict(ds.sizes) == {"roi": 3, "vertex": 3}
    assert ds.id.values.tolist() == [1, 77, 3]
    assert ds.name.values.tolist() == ["corner", "µ λ", ""]
    assert ds["shape"].values.tolist() == ["rectangle", "polygon", "ellipse"]
    assert ds.interpretation.values.tolist() == ["standard", "background", "stimulation"]
    assert ds.scope.values.tolist() == ["all positions", "all positions", "one position"]
    assert ds.position.values.tolist() == [-1, -1, 1]
    assert ds.color.values.tolist() == ["#0033ff", "#ff0000", "#ff0000"]
    assert ds.keyframe_count.values.tolist() == [1, 1, 1]
    assert ds.centre_x_pixels.values.tolist() == [0, 12, 39]
    assert ds.centre_y_pixels.values.tolist() == [0, 7, 29]
    assert ds.width_pixels.values.tolist() == [8, 0, 3]
    assert ds.height_pixels.values.tolist() == [4, 0, 2]
    assert ds.centre_z.values.tolist() == [0, 0, 1.5]
    assert ds.depth.values.tolist() == [0, 2, 0]
    assert ds.rotation.values.tolist() == [0.25, 0, 0]
    vertices = np.stack([ds.vertex_x_pixels, ds.vertex_y_pixels], -1)
    np.testing.assert_array_equal(vertices[1], TRIANGLE)
    assert np.isnan(vertices[[0, 2]]).all()
    for name in ("centre_x", "centre_y", "width", "height", "vertex_x", "vertex_y"):
        np.testing.assert_allclose(ds[name], ds[f"{name}_pixels"] * PIXEL_UM)
        assert (ds[name].attrs["units"], ds[f"{name}_pixels"].attrs["units"]) == ("µm", "1")


def test_they_are_in_the_frame_of_the_image() -> None:
    """The centre of a region is at the labels of the pixel on which it was placed."""
    tree, _ = opened_tree(with_rois([Roi("point", Outline((x, 2 * x))) for x in range(15)]))
    image, rois = tree["image"].to_dataset(), tree["rois"].to_dataset()
    np.testing.assert_allclose(rois.centre_x, image.X[:15])
    np.testing.assert_allclose(rois.centre_y, image.Y[:30:2])


def test_geometry_by_nd2() -> None:
    """The first edge of the image is half a pixel before the centre of its first pixel."""
    data = with_rois([*ROIS, MOVING])
    ds = opened_group(data, "rois")
    with nd2.ND2File(io.BytesIO(data)) as file:
        told = [file.rois[int(number)] for number in ds.id]
    height, width = SIZE
    for i, roi in enumerate(told):
        row = ds.isel(roi=i)
        assert (row["name"].item(), row.guid.item()) == (roi.info.label, roi.guid)
        assert row["shape"] == roi.info.shapeType.name.lower()
        assert row.interpretation == roi.info.interpType.name.removesuffix("ROI").lower()
        assert (row.position >= 0) == (roi.info.scope == ScopeType.MPoint)
        red, green, blue = (roi.info.color >> shift & 0xFF for shift in (0, 8, 16))
        assert row.color == f"#{red:02x}{green:02x}{blue:02x}"
        assert row.keyframe_count == len(roi.animParams)
        for k, each in enumerate(roi.animParams):
            at = row.isel(keyframe=k)
            assert at.keyframe_time == each.timeMs / 1000
            assert at.keyframe_enabled == each.enabled
            edge_x, edge_y = (1 + each.centerX) * width / 2, (1 + each.centerY) * height / 2
            np.testing.assert_allclose(at.keyframe_centre_x_pixels + 0.5, edge_x)
            np.testing.assert_allclose(at.keyframe_centre_y_pixels + 0.5, edge_y)
            np.testing.assert_allclose(at.keyframe_width_pixels, each.boxShape.sizeX * width / 2)
            np.testing.assert_allclose(at.keyframe_height_pixels, each.boxShape.sizeY * height / 2)
            assert at.keyframe_rotation == each.rotationZ
            points = each.extrudedShape.basePoints
            for v, point in enumerate(points):
                x = at.keyframe_vertex_x_pixels[v] - at.keyframe_centre_x_pixels
                y = at.keyframe_vertex_y_pixels[v] - at.keyframe_centre_y_pixels
                np.testing.assert_allclose(x, point.x * width / 2, atol=1e-9)
                np.testing.assert_allclose(y, point.y * height / 2, atol=1e-9)
            assert at.keyframe_vertex_x[len(points) :].isnull().all()


def test_keyframes() -> None:
    ds = opened_group(with_rois([ROIS[0], MOVING]), "rois")
    assert dict(ds.sizes) == {"roi": 2, "vertex": 3, "keyframe": 3}
    assert ds.keyframe_count.values.tolist() == [1, 3]
    # The first one that is enabled.
    assert ds.centre_x_pixels.values.tolist() == [0, 2]
    assert ds.centre_y_pixels.values.tolist() == [0, 3]
    assert ds.vertex_x_pixels.values[1, :2].tolist() == [10, 14]
    np.testing.assert_array_equal(ds.keyframe_time, [[0, np.nan, np.nan], [0, 1.5, 3]])
    assert ds.keyframe_enabled.values.tolist() == [[True, False, False], [False, True, True]]
    np.testing.assert_array_equal(ds.keyframe_centre_y_pixels, [[0, np.nan, np.nan], [1, 3, 5]])
    assert ds.keyframe_vertex_y_pixels.dims == ("roi", "keyframe", "vertex")
    assert ds.keyframe_vertex_y_pixels.values[1, 0].tolist() == [5, 5, 9.5]
    for name in ("centre_x", "width", "rotation", "vertex_y_pixels", "depth"):
        np.testing.assert_array_equal(ds[name][1], ds[f"keyframe_{name}"][1, 1])


def test_a_region_that_is_never_there_is_where_it_was_first() -> None:
    hidden = Roi("point", [Outline((x, 0), enabled=False) for x in (3, 4)])
    ds = opened_group(with_rois([hidden]), "rois")
    assert ds.centre_x_pixels.values.tolist() == [3]
    assert not ds.keyframe_enabled.any()


def test_not_calibrated() -> None:
    calibrated, ds = (opened_group(with_rois(pixel_size=um), "rois") for um in (PIXEL_UM, None))
    for name in ("centre_x", "centre_y", "width", "height", "vertex_x", "vertex_y"):
        assert ds[name].isnull().all()
        assert ds[f"{name}_pixels"].identical(calibrated[f"{name}_pixels"])


def test_no_rois() -> None:
    for data in (with_rois([]), with_chunks(with_rois(), {ROI_CHUNK: None})):
        tree, told = opened_tree(data)
        assert (set(tree.children), told) == ({"image"}, [])
    with pytest.raises(ND2FormatError, match="no group 'rois'"):
        opened_group(with_rois([]), "rois")


@pytest.mark.corpus
@pytest.mark.parametrize("path", corpus_files(), ids=lambda path: path.stem)
def test_real_files_have_none(path: Path) -> None:
    tree, _ = opened_tree(path.read_bytes())
    assert not {"rois", "events"} & set(tree.children)


def test_a_real_region() -> None:
    """The one in a file of the archive Zenodo (14231228), by what others have published of it."""
    info: Tree = {"m_uiShapeType": 3, "m_uiInterpType": 2, "m_uiScope": 1}
    outline: Tree = {
        "m_dCenterX": 0.2326,
        "m_dCenterY": -0.6022,
        "m_sBoxShape": {"m_dSizeX": 0.1316, "m_dSizeY": 0.1123},
    }
    roi: Tree = {
        "m_uiId": 1,
        "m_sInfo": info,
        "m_vectAnimParams_Size": 1,
        "m_vectAnimParams_0": outline,
    }
    tree: Tree = {"RoiMetadata_v1": {"m_vectGlobal_Size": 1, "m_vectGlobal_0": roi}}
    data = written((1000, 1000), "YX", pixel_size=0.065)
    ds = opened_group(with_chunks(data, {ROI_CHUNK: lite_variant(tree)}), "rois").isel(roi=0)
    np.testing.assert_allclose(ds.centre_x_pixels, 615.8)
    np.testing.assert_allclose(ds.centre_y_pixels, 198.4)
    np.testing.assert_allclose([ds.width_pixels, ds.height_pixels], [65.8, 56.15])
    np.testing.assert_allclose(ds.centre_x, 615.8 * 0.065)
    words = [ds[name].item() for name in ("shape", "interpretation", "scope")]
    assert words == ["rectangle", "background", "all positions"]
    assert np.isnan(ds.rotation)


def test_words_are_those_of_nd2() -> None:
    for what, codes in (
        ("shape", RoiShapeType),
        ("interpretation", InterpType),
        ("scope", ScopeType),
    ):
        numbers = [*map(int, codes), 99, None]
        given: list[dict[str, Any]] = [{what: number} for number in numbers]
        rois = [replace(NOWHERE, **each) for each in given]
        words = rois_group(rois, SIZE, {}, Oddities()).variables[what][1].tolist()
        assert words[-2:] == [f"{what} 99", ""]
        assert not any(word.startswith(what) for word in words[:-2])
        if what != "scope":
            assert words[:-2] == [each.name.removesuffix("ROI").lower() for each in codes]


POINT = ReadOutline(0.0, True, (0.0, 0.0, 0.0), 0.0, (0.0, 0.0, 0.0), ())
NOWHERE = ReadRoi(1, "", "", 3, 1, 1, None, 0, ())
SOMEWHERE = replace(NOWHERE, outlines=(POINT,))


@pytest.mark.parametrize("prefixed", [True, False])
@pytest.mark.parametrize(
    "point", [{"y": 0.5, "x": 0.25}, {"i0000000000": 0.25, "i0000000001": 0.5}]
)
def test_names_with_other_prefixes_or_none(prefixed: bool, point: dict[str, float]) -> None:
    def p(prefix: str, name: str) -> str:
        return f"{prefix}{name}" if prefixed else name

    outline = {
        p("m_d", "TimeMs"): 5.0,
        p("m_b", "Enabled"): 1,
        p("m_d", "CenterX"): 0.5,
        p("m_d", "CenterY"): -0.5,
        p("m_s", "ExtrudedShape"): {
            p("m_vect", "BasePoints_Size"): 1,
            p("m_vect", "BasePoints_0"): point,
        },
    }
    region = {
        p("m_i", "Id"): 4,
        p("m_ws", "GUID"): "g",
        p("m_p", "Info"): {
            p("m_e", "ShapeType"): 5,
            p("", "InterpType"): 1,
            p("m_ws", "Label"): "a",
        },
        p("m_vect", "AnimParams_Size"): 1,
        p("m_vect", "AnimParams_0"): outline,
    }
    of_point = {p("m_", "Size"): 1, p("m_", "0"): region}
    records = branch(
        **{
            p("m_vect", "Global_Size"): 0,
            p("m_vect", "2PerMPoint_Size"): 1,
            p("m_vect", "2PerMPoint_0"): of_point,
        }
    )
    (found,) = listed_rois(records)
    assert not records.oddities
    assert (found.id, found.guid, found.name, found.shape, found.position) == (4, "g", "a", 5, 0)
    (read,) = found.outlines
    assert (read.milliseconds, read.enabled, read.centre[:2]) == (5.0, True, (0.5, -0.5))
    assert read.vertices == ((0.25, 0.5),)
    assert all(math.isnan(each) for each in (read.rotation, *read.size))


def test_more_regions_than_ten_are_in_their_order() -> None:
    ds = opened_group(with_rois([Roi("point", Outline((x, 0))) for x in range(25)]), "rois")
    assert ds.centre_x_pixels.values.tolist() == list(range(25))


@pytest.mark.parametrize("version", [(3, 0), (2, 1)])
@pytest.mark.parametrize("rois", [ROIS[:1], [*ROIS, MOVING]])
def test_stored_and_opened_again(rois: list[Roi], version: tuple[int, int], tmp_path: Path) -> None:
    check_round_trip(with_rois(rois, version=version), "rois", tmp_path)


@pytest.mark.parametrize(("version", "every"), [((3, 0), 9), ((2, 1), 13)])
def test_damaged_keys(version: tuple[int, int], every: int) -> None:
    data = with_rois([*ROIS[1:], replace(ROIS[0], position=0)], version=version)
    # Nobody asks for the first, and in the others nothing is needed.
    silent = {"m_bMultiFrame", "m_sBoxShape", "m_sExtrudedShape"}
    assert not list(
        problems_of_damaged_keys(
            data, "rois", ROI_CHUNK, VARIABLES_OF_KEY, silent=silent, every=every
        )
    )


@pytest.mark.parametrize("version", [(3, 0), (2, 1)])
def test_damaged_chunks(version: tuple[int, int]) -> None:
    check_damaged_chunks(with_rois(version=version), "rois", ROI_CHUNK)


@pytest.mark.parametrize("size", [2**31, 0, -1, "many"])
def test_sizes_that_are_not_true(size: Any) -> None:
    """What is there counts."""
    item = {"Id": 1, "Info": {"ShapeType": 2, "InterpType": 1}}
    records = branch(Global_Size=size, Global_0=item)
    assert [roi.id for roi in listed_rois(records)] == [1]
    assert "Global_Size is" in str(records.oddities)
    with pytest.raises(ND2FormatError, match="cannot be read"):
        listed_rois(branch(Global_Size=2**31))
    points = {"BasePoints_Size": size, "BasePoints_0": {"x": 0.0, "y": 0.0}}
    item |= {"AnimParams_Size": 1, "AnimParams_0": {"ExtrudedShape": points}}
    records = branch(Global_Size=1, Global_0=item)
    assert len(listed_rois(records)[0].outlines[0].vertices) == 1
    assert "BasePoints_Size is" in str(records.oddities)


def test_one_large_region_among_many_takes_bounded_memory() -> None:
    large = replace(NOWHERE, outlines=(replace(POINT, vertices=((0.0, 0.0),) * 10_000),))
    oddities = Oddities()
    group = rois_group([large, *[SOMEWHERE] * 5_000], SIZE, {}, oddities)
    assert group.variables["vertex_x"][1].shape == (5_001, 0)
    assert "vertices are left out" in str(oddities)
    oddities = Oddities()
    moving = replace(NOWHERE, outlines=(POINT,) * 10_000)
    group = rois_group([moving, *[SOMEWHERE] * 5_000], SIZE, {}, oddities)
    assert not any("keyframe" in group.variables[name][0] for name in group.variables)
    assert "keyframes are left out" in str(oddities)


def test_regions_without_any_place() -> None:
    group = rois_group([NOWHERE, SOMEWHERE], SIZE, {"pixel_size_um": [0.5, 0.5]}, Oddities())
    assert group.variables["keyframe_count"][1].tolist() == [0, 1]
    np.testing.assert_array_equal(group.variables["centre_x"][1], [np.nan, 19.5 * 0.5])
    alone = rois_group([NOWHERE], SIZE, {}, Oddities())
    assert np.isnan(alone.variables["centre_y_pixels"][1]).all()
    assert isinstance(xr.Dataset(alone.variables), xr.Dataset)
