"""Recorded data of `write_nd2`, as ``nd2`` and the bytes tell them."""

from __future__ import annotations

import io
import re
import struct
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

import nd2
import numpy as np
import pytest

from tests.testing.written import CONTAINER_VERSIONS, chunks_of, pixels, written
from xarray_nd2.testing import RecordedColumn

if TYPE_CHECKING:
    from pathlib import Path

DESCRIPTION = "CustomDataVar|CustomDataV2_0!"


def described(file: bytes) -> list[list[tuple[str, str, str]]]:
    """Name, type and value of everything that is said of each column."""
    root = ET.fromstring(chunks_of(file)[DESCRIPTION].data)
    assert (root.tag, root.attrib) == ("variant", {"version": "1.0"})
    (tags,) = root
    assert (tags.tag, tags.attrib) == ("CustomTagDescription_v1.0", {"runtype": "CLxListVariant"})
    assert [tag.tag for tag in tags] == [f"Tag{i}" for i in range(len(tags))]
    return [[(e.tag, e.attrib["runtype"], e.attrib["value"]) for e in tag] for tag in tags]


@pytest.mark.parametrize("version", CONTAINER_VERSIONS)
def test_columns_of_every_type(version: tuple[int, int]) -> None:
    file = written(
        pixels(3, 5, 8),
        "ZYX",
        version=version,
        timestamps=[0, 1, 2],
        recorded={
            "X": [0.5, -1.25, 1e9],
            "PFS_STATUS": [0, -1, 2**31 - 1],
            "Note": ["", "µ λ", "a" * 255],
            "Z": np.array([1, 2, 3], "float32"),
        },
    )
    chunks = chunks_of(file)
    assert chunks["CustomData|X!"].data == struct.pack("<3d", 0.5, -1.25, 1e9)
    assert chunks["CustomData|PFS_STATUS!"].data == struct.pack("<3i", 0, -1, 2**31 - 1)
    assert chunks["CustomData|Z!"].data == struct.pack("<3d", 1, 2, 3)
    text = chunks["CustomData|Note!"].data
    assert len(text) == 3 * 512
    assert text[512:520] == "µ λ".encode("utf-16-le") + b"\0\0"
    assert [tag[1][2] for tag in described(file)] == ["3", "2", "1", "3"]
    with nd2.ND2File(io.BytesIO(file)) as read:
        events: Any = read.events(orient="list")
    assert events["X Coord [µm]"].tolist() == [0.5, -1.25, 1e9]
    assert events["PFS Status"].tolist() == [0, -1, 2**31 - 1]
    assert events["Note"] == ["", "µ λ", "a" * 255]
    assert events["Z Coord [µm]"].tolist() == [1, 2, 3]


def test_columns_may_share_a_description() -> None:
    columns = {
        "A1": RecordedColumn([1.0, 2.0], "Temperature", "°C"),
        "A2": RecordedColumn([3.0, 4.0], "Temperature", "°C"),
        "X": RecordedColumn([5, 6], unit=""),
    }
    file = written(pixels(2, 5, 8), "TYX", recorded=columns)
    assert [(tag[0][2], tag[4][2], tag[5][2]) for tag in described(file)] == [
        ("A1", "Temperature", "°C"),
        ("A2", "Temperature", "°C"),
        ("X", "X Coord", ""),
    ]


def test_no_columns_are_a_description_of_none() -> None:
    assert described(written(pixels(2, 5, 8), "TYX", recorded={})) == []
    assert DESCRIPTION not in chunks_of(written(pixels(2, 5, 8), "TYX"))


@pytest.mark.corpus
def test_described_as_microscopes_do(corpus: Path) -> None:
    real = (corpus / "example-zstack.nd2").read_bytes()
    columns: dict[str, Any] = {}
    for tag in described(real):
        values = {name: value for name, _, value in tag}
        kind = {"2": "<i4", "3": "<f8"}[values["Type"]]
        columns[values["ID"]] = np.frombuffer(
            chunks_of(real)[f"CustomData|{values['ID']}!"].data, kind
        )
    file = written(pixels(11, 5, 8), "ZYX", recorded=columns)
    assert described(file) == described(real)
    ours, theirs = (chunks_of(each)[DESCRIPTION].data for each in (file, real))
    # The vendor writes no space before the end of an element.
    assert re.sub(rb" />", b"/>", ours) == theirs
    for id_ in columns:
        name = f"CustomData|{id_}!"
        assert chunks_of(file)[name].data == chunks_of(real)[name].data
