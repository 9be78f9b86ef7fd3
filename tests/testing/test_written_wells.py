"""Wells of `write_nd2`, as the bytes tell them."""

from __future__ import annotations

import json
import zlib
from typing import TYPE_CHECKING, Any

import pytest

from tests.testing.written import CONTAINER_VERSIONS, chunks_of, pixels, written
from xarray_nd2.testing import Plate, Well
from xarray_nd2.testing.variant import lite_variant

if TYPE_CHECKING:
    from xarray_nd2.testing.variant import Tree

WELLS, PLATE = "CustomData|WellPlateFrameInfoZJSON!", "CustomData|WellPlateDesc_0!"


def frames_of(file: bytes) -> list[dict[str, Any]]:
    frames: list[dict[str, Any]] = json.loads(zlib.decompress(chunks_of(file)[WELLS].data))
    return frames


@pytest.mark.parametrize("version", CONTAINER_VERSIONS)
def test_the_well_of_each_frame(version: tuple[int, int]) -> None:
    plate = Plate([Well("B03", 1, 2), "C12"], "a plate", 4, 12)
    file = written(pixels(2, 2, 5, 8), "TPYX", version=version, wells=plate)
    assert frames_of(file)[1] == {
        "plateIndex": 0,
        "plateUuid": "",
        "seqIndex": 1,
        "wellIndex": 35,
        "wellName": "C12",
        "wellRowIndex": 2,
        "wellColIndex": 11,
    }
    assert [(each["seqIndex"], each["wellName"]) for each in frames_of(file)] == [
        (0, "B03"),
        (1, "C12"),
        (2, "B03"),
        (3, "C12"),
    ]
    described: Tree = {
        "name": "a plate",
        "rows": 4,
        "columns": 12,
        "rowNaming": "letters",
        "columnNaming": "numbers",
    }
    assert chunks_of(file)[PLATE].data == lite_variant({"PlateDesc": described})


def test_a_single_well_and_none() -> None:
    assert frames_of(written(pixels(3, 5, 8), "TYX", wells=["A01"]))[2]["wellName"] == "A01"
    assert not {WELLS, PLATE} & set(chunks_of(written(pixels(3, 5, 8), "TYX")))


@pytest.mark.parametrize(
    ("wells", "message"),
    [
        (["A01"], "there are 1 wells, positions: 2"),
        (["A01", "here"], "the well 'here' tells no row and column"),
    ],
)
def test_wells_that_do_not_fit(wells: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        written(pixels(2, 5, 8), "PYX", wells=wells)
