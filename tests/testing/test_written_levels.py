"""Embedded levels of `write_nd2`, as the bytes tell them and as the vendor's writer has them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tests.testing.written import chunks_of, frame_of, pixels, written
from xarray_nd2.testing import Levels

if TYPE_CHECKING:
    from pathlib import Path


def level_of(file: bytes, size: int, i: int, dtype: str, *shape: int) -> np.ndarray[Any, Any]:
    """Pixels of a level's frame as (Y, X, component), of rows padded to 4 bytes."""
    rows = np.frombuffer(
        chunks_of(file)[f"CustomDataSeq|DownsampledColorData_{size}|{i}!"].data, "u1"
    )
    height, width, components = shape
    row_bytes = width * components * np.dtype(dtype).itemsize
    stride = -(-row_bytes // 4) * 4
    return rows.reshape(height, stride)[:, :row_bytes].copy().view(dtype).reshape(shape)


def names_of(file: bytes) -> list[str]:
    return sorted(name for name in chunks_of(file) if "Downsampled" in name)


@pytest.mark.parametrize("compression", [None, "lossless"])
def test_every_second_pixel(compression: Any) -> None:
    data = pixels(2, 2107, 11)
    file = written(data, "TYX", levels=2, compression=compression)
    assert names_of(file) == [
        f"CustomDataSeq|DownsampledColorData_{size}|{i}!" for size in (1024, 2048) for i in (0, 1)
    ]
    for i in (0, 1):
        first = level_of(file, 2048, i, "uint16", 1053, 5, 1)[..., 0]
        np.testing.assert_array_equal(first, data[i, ::2, ::2][:1053, :5])
        second = level_of(file, 1024, i, "uint16", 526, 2, 1)[..., 0]
        np.testing.assert_array_equal(second, data[i, ::4, ::4][:526, :2])


def test_means_of_the_level_above() -> None:
    data = pixels(2101, 8, 3, dtype="uint8")
    file = written(data, "YXS", levels=Levels(2, "mean"))
    above = data[..., ::-1].astype(int)  # stored blue first
    for size in (2048, 1024):
        above = above[: len(above) // 2 * 2]
        above = (above[::2, ::2] + above[1::2, ::2] + above[::2, 1::2] + above[1::2, 1::2]) // 4
        np.testing.assert_array_equal(level_of(file, size, 0, "uint8", *above.shape), above)
    floats = pixels(1100, 8).astype("float32")
    level = level_of(written(floats, "YX", levels=Levels(1, "mean")), 1024, 0, "float32", 550, 4, 1)
    np.testing.assert_allclose(level[..., 0], floats.reshape(550, 2, 4, 2).mean((1, 3)))


def test_frames_that_are_missing_have_no_level() -> None:
    file = written(pixels(3, 1100, 8), "TYX", levels=1, missing=[1])
    assert [name.split("|")[-1] for name in names_of(file)] == ["0!", "2!"]


def test_callable_data() -> None:
    data = pixels(2, 3, 1100, 8)
    sizes = {"T": 2, "C": 3, "Y": 1100, "X": 8}
    file = written(lambda i: data[i], "TCYX", sizes=sizes, dtype="uint16", levels=1)
    assert file == written(data, "TCYX", levels=1)


@pytest.mark.parametrize(
    ("shape", "levels", "message"),
    [
        ((1024, 1024), 1, "too small for 1 levels, it has 0"),
        ((1025, 1), 1, "too small for 1 levels, it has 0"),
        ((2048, 8), 2, "too small for 2 levels, it has 1"),
        ((2048, 8), Levels(1, "other"), "downsampling must be one of"),  # type: ignore[arg-type]
    ],
)
def test_levels_that_the_format_has_not(
    shape: tuple[int, int], levels: Levels | int, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        written(pixels(*shape), "YX", levels=levels)


@pytest.mark.corpus
def test_levels_as_the_vendors_writer_has_them(corpus: Path) -> None:
    path = corpus / "lim-pyramid.nd2"
    if not path.exists():
        pytest.skip("the folder of real files has no lim-pyramid.nd2")
    real = path.read_bytes()
    data = np.stack([frame_of(real, i, "uint16", 2600, 1100, 1300, 1)[..., 0] for i in (0, 1)])
    file = written(data, "TYX", levels=1)
    assert names_of(file) == names_of(real)
    for name in names_of(file):
        ours, theirs = chunks_of(file)[name], chunks_of(real)[name]
        assert ours.name_area == theirs.name_area
        assert ours.data == theirs.data
        assert ours.length_in_map == theirs.length_in_map
