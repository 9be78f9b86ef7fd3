"""Events and regions of interest of `write_nd2`, as ``nd2`` and the bytes tell them."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import nd2
import pytest

from tests.conftest import corpus_files
from tests.testing.written import CONTAINER_VERSIONS, chunks_of, pixels, written
from xarray_nd2.testing import Event, Outline, Roi, Stimulation

if TYPE_CHECKING:
    from pathlib import Path

ROI_CHUNK = "CustomData|RoiMetadata_v1!"


def with_annotations(**options: Any) -> bytes:
    return written(pixels(2, 20, 40), "TYX", timestamps=[0.5, 1.5], **options)


def nd2_rois(file: bytes) -> list[Any]:
    with nd2.ND2File(io.BytesIO(file)) as read:
        return list(read.rois.values())


@pytest.mark.parametrize("version", CONTAINER_VERSIONS)
def test_events(version: tuple[int, int]) -> None:
    events = [
        Event(1.25, description="go", data="Wait(2);"),
        Event(2.0, 15, stimulation=Stimulation("end", 2, 3, "uv"), id=9),
    ]
    file = with_annotations(events=events, version=version)
    name = {(3, 0): "ImageEventsLV", (2, 1): "ImageEvents"}[version]
    with nd2.ND2File(io.BytesIO(file)) as read:
        raw: Any = read.unstructured_metadata(strip_prefix=False)[name]
    record = raw["RLxExperimentRecord"]
    assert record["uiCount"] == 2
    assert list(record["pEvents"].values()) == [
        {"T": 1250.0, "M": 7, "I": 1, "D": "go", "A": "Wait(2);"},
        {"T": 2000.0, "M": 15, "I": 9, "S": {"T": 5, "L": 2, "P": 3, "D": "uv"}},
    ]


def test_events_by_nd2() -> None:
    file = with_annotations(events=[Event(1.0, 9), Event(2.0, description="mine")])
    with nd2.ND2File(io.BytesIO(file)) as read:
        told = [(each["Time [s]"], each["Events"]) for each in read.events() if "Events" in each]
    assert told == [(1.0, "Experiment Paused"), (2.0, "mine")]


@pytest.mark.parametrize("version", CONTAINER_VERSIONS)
def test_rois(version: tuple[int, int]) -> None:
    moving = [
        Outline((19.5, 9.5), (40, 20), time=1.5, rotation=0.5, centre_z=3, depth=2),
        Outline((-0.5, 19.5), vertices=[(-0.5, 9.5), (19.5, 19.5)], enabled=False, depth=4),
    ]
    rois = [
        Roi("bezier", moving, "a", "reference", color="#010203"),
        Roi("circle", Outline((0, 0), (2, 2)), position=1, id=8),
    ]
    first, second = nd2_rois(with_annotations(rois=rois, version=version))
    info = first.info
    assert (first.id, info.label, info.shapeType.name) == (1, "a", "Bezier")
    assert (info.interpType.name, info.scope.name) == ("ReferenceROI", "Global")
    assert (info.color, info.multiFrame) == (0x030201, True)
    one, other = first.animParams
    assert (one.timeMs, one.enabled, one.rotationZ) == (1500, True, 0.5)
    assert tuple(one.center) == (0, 0, 3)  # the middle of the image
    assert (one.boxShape.sizeX, one.boxShape.sizeY, one.boxShape.sizeZ) == (2, 2, 2)
    assert (other.timeMs, other.enabled) == (0, False)
    assert tuple(other.center) == (-1, 1, 0)  # its lower left corner
    assert list(map(tuple, other.extrudedShape.basePoints)) == [(0, -1), (1, 0)]
    assert other.extrudedShape.sizeZ == 4
    assert (second.id, second.info.scope.name, second.info.multiFrame) == (8, "MPoint", False)


def test_none() -> None:
    chunks = chunks_of(with_annotations())
    assert ROI_CHUNK not in chunks
    assert "ImageEventsLV!" not in chunks
    assert nd2_rois(with_annotations(rois=[])) == []


@pytest.mark.corpus
def test_no_rois_are_as_microscopes_write_them(corpus: Path) -> None:
    real = chunks_of((corpus / "cluster.nd2").read_bytes())[ROI_CHUNK]
    assert chunks_of(with_annotations(rois=[]))[ROI_CHUNK].data == real.data
    assert corpus_files()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: Roi("blob", Outline((0, 0))), "shape must be one of"),
        (lambda: Roi("line", Outline((0, 0)), interpretation="x"), "interpretation must be one"),
        (lambda: Roi("line", Outline((0, 0)), color="red"), "color must look like"),
        (lambda: Roi("line", Outline((0, 0)), position=-1), "position is -1"),
        (lambda: Stimulation("middle"), "phase must be one of"),
        (lambda: with_annotations(events=[Event(0.0, -1)]), "must not be negative"),
        (
            lambda: with_annotations(events=[Event(0.0, stimulation=Stimulation("end", -1))]),
            "has a negative number",
        ),
    ],
)
def test_what_files_cannot_hold(wrong: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        wrong()
