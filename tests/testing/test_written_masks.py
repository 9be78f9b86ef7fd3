"""Masks of `write_nd2`, as ``nd2`` reads them."""

from __future__ import annotations

import io
from typing import Any

import nd2
import numpy as np
import pytest

from tests.testing.written import CONTAINER_VERSIONS, chunks_of, pixels, written
from xarray_nd2.testing import MaskLayer

LABELS = np.random.default_rng(3).integers(0, 4, (3, 2, 16, 20))


def layers_of(file: bytes) -> Any:
    with nd2.ND2File(io.BytesIO(file)) as read:
        return read.binary_data


@pytest.mark.parametrize("version", CONTAINER_VERSIONS)
def test_read_by_nd2(version: tuple[int, int]) -> None:
    first = MaskLayer("cells", LABELS, "#ff8800", "DAPI", component_order=1)
    second = MaskLayer("cells", lambda i: None if i == 4 else LABELS[i // 2, i % 2] * 9, tag="Own")
    file = written(pixels(3, 2, 16, 20), "TZYX", masks=[first, second], version=version)
    read = layers_of(file)
    assert len(read) == 2
    np.testing.assert_array_equal(read[0].asarray(), LABELS)
    assert [plane is None for plane in read[1].data] == [False] * 4 + [True, False]
    np.testing.assert_array_equal(read[1].data[5], LABELS[2, 1] * 9)
    assert (read[0].name, read[0].comp_name, read[0].comp_order) == ("cells", "DAPI", 1)
    assert (read[0].color, read[0].layer_id, read[1].layer_id) == (0x0088FF, 1, 2)
    assert (read[0].file_tag, read[1].file_tag) == ("RleZipBinarySequence_1_v1", "Own")


def test_later_objects_lie_on_top() -> None:
    square, row = np.zeros((2, 5, 8), bool)
    square[1:4, 2:6], row[2] = True, True
    layer = MaskLayer("a", lambda _: [(7, square), (5, row)])
    read = layers_of(written(pixels(1, 5, 8), "TYX", masks=[layer]))
    expected = np.where(row, 5, np.where(square, 7, 0))
    np.testing.assert_array_equal(read[0].data[0], expected)


def test_planes_without_objects_and_raw_ones() -> None:
    planes: list[Any] = [np.zeros((5, 8), int), b"\0", None]
    file = written(pixels(3, 5, 8), "TYX", masks=[MaskLayer("a", lambda i: planes[i])])
    read = layers_of(file)
    assert read[0].data[0].tolist() == np.zeros((5, 8)).tolist()
    assert read[0].data[1:] == [None, None]
    assert chunks_of(file)["CustomDataSeq|RleZipBinarySequence_1_v1|1!"].data == b"\0"


def test_nothing_is_written_of_no_layers() -> None:
    assert not [name for name in chunks_of(written(pixels(5, 8), "YX")) if "Binary" in name]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (np.zeros((2, 5, 8), int), "shape"),
        (np.zeros((3, 5, 7), int), "shape"),
        (lambda _: np.zeros((5, 7), int), "shape"),
        (lambda _: np.zeros((5, 8)), "float64"),
        (lambda _: np.full((5, 8), -1), "number -1"),
        (lambda _: np.full((5, 8), 2**32), "number"),
    ],
)
def test_what_cannot_be_written(data: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        written(pixels(3, 5, 8), "TYX", masks=[MaskLayer("a", data)])
    with pytest.raises(ValueError, match="version"):
        written(pixels(3, 5, 8), "TYX", masks=[MaskLayer("a", np.zeros((3, 5, 8)), version=1)])
