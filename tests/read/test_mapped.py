"""Pixels out of a mapped file by strided views, against NumPy's own indexing."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings

from tests.read.test_plan import (
    file_of,
    image_of,
    layout_of,
    orthogonal,
    point_selections,
    selections,
)
from tests.read.windows import windows_of
from xarray_nd2.format.layout import MISSING_OFFSET, FrameLayout, FrameTable
from xarray_nd2.read.decode import empty_pixels
from xarray_nd2.read.mapped import (
    MAX_SPAN_BYTES,
    MappedTiles,
    mapped_tiles,
    strided_window,
)
from xarray_nd2.read.selection import Selection, select_outer, select_points

CROP = (1, slice(None), slice(2, 7), slice(3, 8))


def gathered(tiles: MappedTiles, data: bytes) -> np.ndarray:
    pixels = empty_pixels(tiles)
    for batch in tiles.batches:
        tiles.copy(memoryview(data), pixels, batch)
    at_once = tiles.gathered(memoryview(data))
    if at_once is not None:
        np.testing.assert_array_equal(at_once, pixels, strict=True)
        assert at_once.strides == pixels.strides
    return tiles.selection.arrangement.apply(pixels)


def read_from(layout: FrameLayout, selection: Selection, data: bytes) -> np.ndarray | None:
    tiles = mapped_tiles(layout, selection, len(data))
    return None if tiles is None else gathered(tiles, data)


def moved(layout: FrameLayout, by_bytes: int) -> FrameLayout:
    """The same frames, each so many bytes later."""
    values = layout.offsets.values()
    values = np.where(values == MISSING_OFFSET, values, values + by_bytes)
    return replace(layout, offsets=FrameTable.from_values(values))


@settings(max_examples=400, deadline=None)
@given(selections())
def test_outer_keys_equal_numpy(selection: tuple[FrameLayout, tuple[Any, ...]]) -> None:
    layout, key = selection
    image = image_of(layout)
    expected = orthogonal(image, key)
    for unaligned in (layout, moved(layout, 1)):
        data = file_of(unaligned, image)
        found = [read_from(unaligned, select_outer(layout, key), data)]
        window = strided_window(unaligned, key, len(data))
        if window is not None:
            found.append(window.copied(memoryview(data)[window.start : window.stop]))
        for result in found:
            if result is not None:
                assert result.dtype == expected.dtype
                np.testing.assert_array_equal(result, expected, strict=True)


@settings(max_examples=400, deadline=None)
@given(point_selections())
def test_points_equal_numpy(selection: tuple[FrameLayout, tuple[np.ndarray, ...]]) -> None:
    layout, key = selection
    image = image_of(layout)
    result = read_from(layout, select_points(layout, key), file_of(layout, image))
    if result is not None:
        np.testing.assert_array_equal(result, image[key], strict=True)


@pytest.mark.parametrize("dtype", ["u1", "<u2", "<i4", "<f4", "<f8"])
@pytest.mark.parametrize(
    ("samples", "order"), [(1, ()), (3, (2, 1, 0)), (4, (2, 1, 0, 3))], ids=["mono", "rgb", "rgba"]
)
@pytest.mark.parametrize("padding", [0, 5])
def test_windows(dtype: str, samples: int, order: tuple[int, ...], padding: int) -> None:
    """Many, of frames of which some are missing, at bytes where their values are not aligned."""
    layout = layout_of(
        (("T", 3), ("Z", 4)), 1 if samples > 1 else 3, 90, 70, samples, dtype, padding, gap=25,
        missing=(2, 7), channel_order=() if samples > 1 else (1, 2, 0), sample_order=order,
    )  # fmt: skip
    image = image_of(layout)
    data = file_of(layout, image)
    frames = image.reshape(12, *image.shape[2:])
    rng = np.random.default_rng(17)
    number, y0, x0 = rng.integers(0, (12, 90 - 31, 70 - 29), (700, 3)).T
    for channels in (None, [0]):
        result = read_from(layout, windows_of(layout, number, y0, x0, 31, 29, channels), data)
        expected = [
            frames[f, channels or slice(None), y : y + 31, x : x + 29]
            for f, y, x in zip(number, y0, x0, strict=True)
        ]
        assert result is not None
        result = result if samples > 1 else result[..., 0]
        np.testing.assert_array_equal(result, np.array(expected), strict=True)


def test_windows_have_several_batches() -> None:
    layout = layout_of((("T", 3),), 2, 100, 100)
    zeros = np.zeros(2000, int)
    tiles = mapped_tiles(layout, windows_of(layout, zeros, zeros, zeros, 50, 50), 10**6)
    assert tiles is not None
    assert tiles.are_many
    bounds = [(part.start, part.stop) for part in tiles.batches]
    assert bounds[0][0] == 0
    assert all(stop == start for (_, stop), (start, _) in pairwise(bounds))
    assert bounds[-1][1] >= 2000


def test_no_windows() -> None:
    layout = layout_of((("T", 3),), 2, 10, 10)
    none = np.empty(0, np.int64)
    assert windows_of(layout, none, none, none, 4, 4).size == 0
    assert read_from(layout, windows_of(layout, none, none, none, 4, 4), b"") is None


def test_what_is_read_without_a_plan() -> None:
    layout = layout_of((("T", 5),), 2, 10, 10, padding=3, sample_order=())
    size = int(layout.offsets.values()[-1]) + layout.frame_bytes
    assert strided_window(layout, CROP, size) is not None
    assert strided_window(layout, (-1, 0, slice(None, None, -2), 4), size) is not None
    windows = windows_of(layout, np.array([0, 4]), np.array([0, 6]), np.array([6, 1]), 4, 4)
    assert mapped_tiles(layout, windows, size) is not None


def _compressed(layout: FrameLayout) -> FrameLayout:
    return replace(layout, compression="lossless")


def _doubtful(layout: FrameLayout) -> FrameLayout:
    return replace(layout, lengths=FrameTable.from_values(layout.lengths.values() * 0))


def _short(layout: FrameLayout) -> FrameLayout:
    return replace(layout, lengths=FrameTable.from_values(layout.lengths.values() - 1))


def _before_the_file(layout: FrameLayout) -> FrameLayout:
    return moved(layout, -10_000)


def _beyond_the_file(layout: FrameLayout) -> FrameLayout:
    return moved(layout, 10_000)


def _beyond_all_files(layout: FrameLayout) -> FrameLayout:
    return moved(layout, 2**63 - 2000)


@pytest.mark.parametrize(
    "spoilt",
    [_compressed, _doubtful, _short, _before_the_file, _beyond_the_file, _beyond_all_files],
)
def test_what_is_not_in_order_is_planned(spoilt: Any) -> None:
    layout = layout_of((("T", 5),), 2, 10, 10)
    size = int(layout.offsets.values()[-1]) + layout.frame_bytes
    odd = spoilt(layout)
    assert strided_window(odd, CROP, size) is None
    with np.errstate(over="ignore"):
        assert mapped_tiles(odd, select_outer(layout, CROP), size) is None


@pytest.mark.parametrize("key", [(5, 0, 0, 0), (0, 2, 0, 0), (0, 0, -11, 0), (-6, 0, 0, 0)])
def test_an_index_out_of_bounds_is_no_window(key: tuple[int, ...]) -> None:
    assert strided_window(layout_of((("T", 5),), 2, 10, 10), key, 10**6) is None


def test_missing_frame_is_no_window() -> None:
    layout = layout_of((("T", 5),), 2, 10, 10, missing=(1,))
    assert strided_window(layout, CROP, 10**6) is None


def test_large_windows_are_planned() -> None:
    layout = layout_of((("T", 2),), 1, 4096, 4096)
    size = 3 * layout.frame_bytes
    whole = (0, 0, slice(None), slice(None))
    assert strided_window(layout, whole, size) is None
    assert mapped_tiles(layout, select_outer(layout, whole), size) is None
    column = strided_window(layout, (0, 0, slice(0, 129), 7), size)
    assert column is None  # little, but far apart
    assert mapped_tiles(layout, select_outer(layout, (0, 0, slice(0, 129), 7)), size) is not None
    assert 129 * layout.row_stride_bytes > MAX_SPAN_BYTES
