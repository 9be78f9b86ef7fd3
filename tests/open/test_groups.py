"""What holds of all groups: warnings, attributes, validity, and what an odd text costs."""

from __future__ import annotations

import io
import warnings
from typing import Any

import numpy as np
import pytest
import xarray as xr

from xarray_nd2 import ND2FormatError
from xarray_nd2.testing import Event, MaskLayer, Outline, RecordedColumn, Roi, write_nd2

GROUPS = ["recorded", "events", "rois", "masks", "level1"]


def written(**options: Any) -> bytes:
    file = io.BytesIO()
    given: dict[str, Any] = {
        "timestamps": [1.0, 2.0, 3.0],
        "recorded": {"CameraTemp1": [36.0, 37.0, 38.0]},
        "events": [Event(1.5, description="line\r\nline"), Event(2.5, description="second")],
        "rois": [Roi("point", Outline((0, 5)), name) for name in ("QQQ1", "QQQ2", "QQQ3")],
        "masks": [MaskLayer("cells", np.ones((3, 1100, 5), np.uint32))],
        "levels": 1,
    }
    write_nd2(file, np.zeros((3, 1100, 5), "uint16"), "TYX", **{**given, **options})
    return file.getvalue()


def told(data: bytes, **keywords: Any) -> tuple[xr.Dataset, list[str]]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        ds = xr.open_dataset(io.BytesIO(data), engine="nd2", **keywords)
    return ds, [str(warning.message) for warning in caught]


def told_by_tree(data: bytes, **keywords: Any) -> tuple[xr.DataTree, list[str]]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        tree = xr.open_datatree(io.BytesIO(data), engine="nd2", **keywords)
    return tree, [str(warning.message) for warning in caught]


@pytest.mark.parametrize("group", [None, "/", *GROUPS])
def test_odd_metadata_is_told_of_whatever_is_opened(group: str | None) -> None:
    data = written().replace("uLoopPars".encode("utf-16-le"), "ZLoopPars".encode("utf-16-le"))
    _, messages = told(data, group=group)
    assert len(messages) == 1
    assert "some of the metadata is odd" in messages[0]


def test_a_tree_tells_it_once() -> None:
    data = written().replace("uLoopPars".encode("utf-16-le"), "ZLoopPars".encode("utf-16-le"))
    tree, messages = told_by_tree(data)
    assert list(tree.children) == ["image", *GROUPS]
    assert len(messages) == 1


@pytest.mark.parametrize("group", [None, "/", *GROUPS])
def test_a_group_says_which_file_it_is_of_and_that_it_was_rescued(group: str | None) -> None:
    data = written(metadata_at="end")
    cut = data[: data.rindex(b"ND2 FILEMAP SIGNATURE NAME 0001!")]
    ds, messages = told(cut, group=group, rescue=True)
    assert ds.attrs["rescued"] in messages[0]
    assert len(messages) == 1
    assert ds.attrs["source"] == "<BytesIO>"


@pytest.mark.parametrize("group", ["recorded", "masks", "level1"])
def test_frames_that_are_missing(group: str) -> None:
    data = written(missing=[1])
    tree, messages = told_by_tree(data)
    ds = tree[group]
    assert ds.frame_valid.values.tolist() == [True, False, True]
    assert len(messages) == 1, "of the image and the level together"
    alone, messages = told(data, group=group)
    assert alone.frame_valid.variable.identical(tree["image"].frame_valid.variable)
    assert len(messages) == (group == "level1")
    for absent in ("events", "rois"):
        assert "frame_valid" not in tree[absent].coords


def test_half_a_character_costs_its_own_text_only() -> None:
    halves = ("Q\0\0\xd8Q\0Q\0").encode("latin-1")
    rois, messages = told(written().replace("QQQ2".encode("utf-16-le"), halves), group="rois")
    assert rois["name"].values.tolist() == ["QQQ1", "Q\ufffdQQ", "QQQ3"]
    assert len(messages) == 1
    assert "half a character" in messages[0]
    damaged = written().replace(
        "second".encode("utf-16-le"), b"\0\xdc" + "econd".encode("utf-16-le")
    )
    events, _ = told(damaged, group="events")
    assert events.description.values.tolist() == ["line\nline", "\ufffdecond"]


@pytest.mark.parametrize("name", ["Image", "Frame valid", "Mask", "T", "Time", "Stage z"])
def test_columns_merge_with_all_else_whatever_they_are_called(name: str) -> None:
    recorded = {"a": RecordedColumn(np.arange(3.0), name)}
    tree, _ = told_by_tree(written(recorded=recorded, missing=[1]))
    parts = [tree[group].to_dataset() for group in ("image", "recorded", "masks")]
    merged = xr.merge(parts, compat="equals", join="exact")
    assert [v.values.tolist() for v in merged.values() if v.attrs.get("long_name") == name] == [
        [0.0, 1.0, 2.0]
    ]


def test_what_is_asked_for_wrongly() -> None:
    data = written()
    with pytest.raises(ND2FormatError, match="'roi'; the file has: image, recorded, events, rois"):
        told(data, group="roi")
    with pytest.raises(TypeError, match="engine nd2 has no keyword decode_times, foo"):
        told_by_tree(data, foo=1, decode_times=False)
    with pytest.raises(TypeError, match="group must be a name, not int"):
        told(data, group=3)
