"""The parts of an export that need no file: levels, shards, groups, objects of the destination."""

from __future__ import annotations

import json
import traceback
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xarray_nd2.export.axes import Axis, level_transformations
from xarray_nd2.export.destination import Destination
from xarray_nd2.export.downsampling import halved_by_means, halved_by_picking
from xarray_nd2.export.images import row_name
from xarray_nd2.export.shard_plan import default_level_count, plan_pyramid
from xarray_nd2.export.write_shards import array_document, decoded_region, encoded_shard

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "int16", "uint32", "int32"])
def test_means_of_integers_are_exact(dtype: str) -> None:
    limits = np.iinfo(dtype)
    rng = np.random.default_rng(1)
    pixels = rng.integers(limits.min, limits.max, (3, 7, 9), dtype, endpoint=True)
    pixels[0, :2] = limits.max
    pixels[1, :2] = limits.min
    halved = halved_by_means(pixels)
    assert (halved.dtype, halved.shape) == (pixels.dtype, (3, 3, 4))
    for place in np.ndindex(*halved.shape):
        p, y, x = place
        block = pixels[p, 2 * y : 2 * y + 2, 2 * x : 2 * x + 2]
        mean = Fraction(sum(int(value) for value in block.ravel()), 4)
        assert int(halved[place]) == (mean + Fraction(1, 2)).__floor__()


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_means_of_floats(dtype: str) -> None:
    pixels = np.full((2, 4), np.finfo(dtype).max / 4, dtype)
    pixels[:, 2:] = [[1, 2], [3, 4]]
    np.testing.assert_array_equal(
        halved_by_means(pixels), np.array([[np.finfo(dtype).max / 4, 2.5]], dtype)
    )


def test_numbers_of_objects_are_picked() -> None:
    numbers = np.arange(5 * 7).reshape(5, 7)
    np.testing.assert_array_equal(halved_by_picking(numbers), numbers[:4:2, :6:2])


@given(st.data())
def test_each_pixel_of_each_level_is_in_one_shard_of_one_task(data: Any) -> None:
    sizes = {axis: data.draw(st.integers(1, 5)) for axis in "tcz"}
    sizes |= {axis: data.draw(st.integers(4, 70)) for axis in "yx"}
    levels = data.draw(st.integers(0, 2))
    side = 4 * data.draw(st.integers(1, 4))
    chunks = {axis: min(side, sizes[axis]) for axis in "yx"}
    shards = {axis: data.draw(st.integers(1, 5)) for axis in "tcz"}
    shards |= {
        axis: chunks[axis] * 4 * data.draw(st.integers(1, 3)) if chunks[axis] == side else -1
        for axis in "yx"
    }
    pyramid = plan_pyramid(sizes, 2, levels, chunks, shards, splits_rows=True)
    seen = [np.zeros(level.shape, int) for level in pyramid.levels]
    keys = set()
    for block in pyramid.blocks():
        inside = [np.zeros(level.shape, int) for level in pyramid.levels]
        for shard in pyramid.shards(block):
            assert shard.key not in keys
            keys.add(shard.key)
            seen[shard.level][shard.region] += 1
            inside[shard.level][shard.region] = 1
            level = pyramid.levels[shard.level]
            assert all(s % c == 0 for s, c in zip(level.shards, level.chunks, strict=True))
        # The pixels of a level are made of pixels of the image that the same task has.
        below = inside[0]
        for smaller in inside[1:]:
            height, width = smaller.shape[-2:]
            below = below[..., : 2 * height, : 2 * width]
            below = below[..., 0::2, 0::2] & below[..., 1::2, 1::2]
            np.testing.assert_array_equal(smaller, below)
    assert all((counts == 1).all() for counts in seen)
    assert len(keys) == pyramid.shard_count


def test_defaults() -> None:
    sizes = {"t": 100, "c": 2, "z": 11, "y": 2048, "x": 2048}
    pyramid = plan_pyramid(sizes, 2, 3, {}, {}, splits_rows=True)
    whole, last = pyramid.levels[0], pyramid.levels[-1]
    assert (whole.chunks, whole.shards) == ((1, 1, 1, 512, 512), (1, 2, 2, 2048, 2048))
    assert (last.shape[-2:], last.chunks[-2:]) == ((256, 256), (256, 256))
    large = {"c": 4, "y": 20000, "x": 30000}
    strips = plan_pyramid(large, 2, default_level_count(20000, 30000), {}, {}, splits_rows=True)
    assert strips.levels[0].shards == (4, 512, 30208)
    assert plan_pyramid(large, 2, 0, {}, {}, splits_rows=False).grid == (1, 1, 1)
    assert [default_level_count(n, 9999) for n in (100, 256, 257, 2048)] == [0, 0, 1, 3]


@pytest.mark.parametrize(
    ("chunks", "shards", "levels", "message"),
    [
        ({"y": 10}, {"y": 25}, 0, "do not consist of chunks"),
        ({"y": 10, "x": 10}, {"y": 10}, 1, None),
        ({"y": 15}, {"y": 15}, 1, "cannot be halved 1 times"),
        ({"y": 0}, {}, 0, "whole numbers"),
        ({}, {"z": 1.5}, 0, "whole numbers"),
        ({}, {}, 7, "leave no pixel"),
    ],
)
def test_what_does_not_go_together(
    chunks: Any, shards: Any, levels: int, message: str | None
) -> None:
    sizes = {"z": 3, "y": 100, "x": 100}
    if message is None:
        plan_pyramid(sizes, 1, levels, chunks, shards, splits_rows=True)
        return
    with pytest.raises(ValueError, match=message):
        plan_pyramid(sizes, 1, levels, chunks, shards, splits_rows=True)


def test_lossless_frames_are_not_split() -> None:
    with pytest.raises(ValueError, match="only be read whole"):
        plan_pyramid({"y": 64, "x": 9}, 1, 0, {"y": 8}, {"y": 8}, splits_rows=False)


def test_where_pixels_of_levels_are() -> None:
    axes = [Axis("c"), Axis("y", 0.5, "micrometer"), Axis("x", 0.25, "micrometer")]
    found = level_transformations(axes, 2, 0, means=True)
    # Centres of the means, by arithmetic: pixels 0 and 1, then pixels 0 to 3.
    for level, members in enumerate([[0], [0, 1], [0, 1, 2, 3]]):
        shift = found[level][1]["translation"] if level else [0, 0, 0]
        assert shift == [0, 0.5 * np.mean(members), 0.25 * np.mean(members)]
    assert found[2][0] == {"type": "scale", "scale": [1.0, 2.0, 1.0]}
    assert all(len(each) == 1 for each in level_transformations(axes, 2, 2, means=True))


def test_a_shard_of_zeros_is_an_object() -> None:
    pyramid = plan_pyramid(
        {"t": 2, "y": 30, "x": 20}, 2, 0, {"y": 16, "x": 16}, {}, splits_rows=True
    )
    document = json.loads(array_document(pyramid, 0, np.dtype("uint16"), "auto"))
    region = (slice(0, 1), slice(0, 30), slice(0, 20))
    shards = list(pyramid.shards((0, 0, 0)))
    data = encoded_shard(document, shards[0].region, np.zeros((2, 30, 20), "uint16"))
    assert len(data) > 0
    pixels = decoded_region(document, {"c/0/0/0": bytes(data)}, region)
    assert not pixels.any()


def test_row_names() -> None:
    assert [row_name(n) for n in (0, 7, 25, 26, 51, 52, 701, 702)] == [
        *("A", "H", "Z", "AA", "AZ", "BA", "ZZ", "AAA")
    ]


def test_objects_are_whole_or_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = Destination.of(tmp_path / "out")
    target.write("a/b", b"whole")
    assert target.existing("a") == {"b"}

    def broken(self: Path, target: Any) -> Path:
        raise OSError("disk is full")

    with monkeypatch.context() as patch:
        patch.setattr("pathlib.Path.replace", broken)
        with pytest.raises(OSError, match="writing a/c failed"):
            target.write("a/c", b"half")
    assert target.existing("") == {"a/b"}
    (tmp_path / "out" / "a" / "d.12345678.partial").write_bytes(b"ha")
    assert target.remove_partial() == 1
    assert target.existing("") == {"a/b"}


def test_errors_of_the_destination_hold_no_secrets() -> None:
    with pytest.raises(OSError, match="reading x failed") as caught:
        Destination.of(
            "s3://bucket/out",
            {"key": "me", "secret": "hush-hush", "endpoint_url": "http://127.0.0.1:9/"},
        ).read("x")
    assert "hush" not in str(caught.value)
    assert "hush" not in "".join(traceback.format_exception(caught.value))
    with pytest.raises(TypeError, match="a path or a URL"):
        Destination.of(3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="connecting failed"):
        Destination.of("nosuch://bucket/out")
