"""Planning and decoding against NumPy's own indexing, on frames that never leave memory."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xarray_nd2.errors import ND2FormatError
from xarray_nd2.format.layout import MISSING_OFFSET, FrameLayout, FrameTable
from xarray_nd2.read.coalesce import MAX_REQUEST_BYTES
from xarray_nd2.read.decode import empty_pixels, rounds
from xarray_nd2.read.link import DEFAULT_LINKS, Link
from xarray_nd2.read.plan import ReadPlan, plan_read
from xarray_nd2.read.selection import Selection, select_outer, select_points


def layout_of(
    loops: tuple[tuple[str, int], ...],
    channels: int,
    height: int,
    width: int,
    samples: int = 1,
    dtype: str = "<u2",
    padding: int = 0,
    gap: int = 24,
    missing: tuple[int, ...] = (),
    channel_order: tuple[int, ...] = (),
    sample_order: tuple[int, ...] = (),
) -> FrameLayout:
    """Layout of frames one after another, `gap` bytes apart."""
    kind = np.dtype(dtype)
    stride = width * channels * samples * kind.itemsize + padding
    count = int(np.prod([size for _, size in loops], dtype=int))
    offsets = np.arange(count, dtype=np.int64) * (height * stride + gap) + gap
    offsets[list(missing)] = MISSING_OFFSET
    lengths = np.where(offsets == MISSING_OFFSET, 0, height * stride)
    return FrameLayout(
        loops, channels, height, width, samples, kind, stride, "none", channel_order, sample_order,
        offsets=FrameTable.from_values(offsets), lengths=FrameTable.from_values(lengths),
    )  # fmt: skip


def file_of(layout: FrameLayout, image: np.ndarray) -> bytes:
    """Bytes that hold `image`, junk between the pixels."""
    size = int(layout.offsets.values().max(initial=0)) + layout.frame_bytes + 64
    data = np.random.default_rng(3).integers(0, 256, size, np.uint8)
    frames = image.reshape(
        layout.frame_count, layout.channels, layout.height, layout.width, layout.samples
    )
    # A pixel has its components in another order than they are delivered in.
    frames = frames[:, _inverse(layout.channel_order, layout.channels)]
    frames = frames[..., _inverse(layout.sample_order, layout.samples)]
    for frame, offset in zip(frames, layout.offsets.values(), strict=True):
        if offset == MISSING_OFFSET:
            continue
        rows = np.ascontiguousarray(frame.transpose(1, 2, 0, 3)).view(np.uint8)
        rows = rows.reshape(layout.height, -1)
        for y, row in enumerate(rows):
            start = offset + y * layout.row_stride_bytes
            data[start : start + len(row)] = row
    return data.tobytes()


def _inverse(order: tuple[int, ...], size: int) -> np.ndarray:
    """What is delivered of each stored place."""
    return np.argsort(order) if order else np.arange(size)


def image_of(layout: FrameLayout) -> np.ndarray:
    """Some image with zeros where the file has no frame."""
    image = np.random.default_rng(5).integers(1, 99, layout.shape).astype(layout.dtype)
    missing = layout.offsets.values() == MISSING_OFFSET
    image.reshape(layout.frame_count, -1)[missing] = 0
    return image


def missing_frames(count: int) -> st.SearchStrategy[tuple[int, ...]]:
    return st.one_of(st.just(()), st.sets(st.integers(0, count - 1)).map(tuple))


def orders(size: int) -> st.SearchStrategy[tuple[int, ...]]:
    return st.one_of(st.just(()), st.permutations(range(size)).map(tuple))


def planned(layout: FrameLayout, key: Any, max_gap: int | None = None) -> ReadPlan:
    return plan_read(layout, select_outer(layout, key), max_gap, DEFAULT_LINKS["http"], 64)


def carried_out(plan: ReadPlan, data: bytes) -> np.ndarray:
    pixels = empty_pixels(plan)
    for ranges, deliver in rounds(plan, pixels):
        for index, (start, stop) in enumerate(ranges):
            deliver(index, data[start:stop])
    return plan.selection.arrangement.apply(pixels)


def orthogonal(image: np.ndarray, key: tuple[Any, ...]) -> np.ndarray:
    """Index one dimension after another, as outer indexing does."""
    for axis in reversed(range(image.ndim)):
        image = image[(slice(None),) * axis + (key[axis],)]
    return image


@st.composite
def keys(draw: st.DrawFn, size: int) -> Any:
    kind = draw(st.sampled_from(["all", "int", "slice", "list"]))
    if kind == "all":
        return slice(None)
    if kind == "int":
        return draw(st.integers(-size, size - 1))
    if kind == "slice":
        return draw(st.slices(size))
    return np.array(draw(st.lists(st.integers(-size, size - 1), max_size=6)), np.int64)


@st.composite
def selections(draw: st.DrawFn) -> tuple[FrameLayout, tuple[Any, ...]]:
    names = draw(st.permutations("TPZ"))[: draw(st.integers(0, 3))]
    loops = tuple((name, draw(st.integers(1, 4))) for name in names)
    channels, samples = draw(st.integers(1, 3)), draw(st.sampled_from([1, 1, 3, 4]))
    layout = layout_of(
        loops,
        channels=channels,
        height=draw(st.integers(1, 12)),
        width=draw(st.integers(1, 12)),
        samples=samples,
        dtype=draw(st.sampled_from(["u1", "<u2", "<i4", "<f2", "<f8"])),
        padding=draw(st.sampled_from([0, 0, 2, 40])),
        gap=draw(st.sampled_from([0, 8, 300])),
        missing=draw(missing_frames(math.prod(size for _, size in loops))),
        channel_order=draw(orders(channels)),
        sample_order=draw(orders(samples)),
    )
    return layout, tuple(draw(keys(size)) for size in layout.shape)


@settings(max_examples=400, deadline=None)
@given(selections(), st.sampled_from([None, 0, 3, 64, 10**9]))
def test_equals_numpy(selection: tuple[FrameLayout, tuple[Any, ...]], max_gap: int | None) -> None:
    layout, key = selection
    image = image_of(layout)
    expected = orthogonal(image, key)
    result = carried_out(planned(layout, key, max_gap), file_of(layout, image))
    assert result.dtype == expected.dtype
    assert result.shape == expected.shape
    np.testing.assert_array_equal(result, expected)


@settings(max_examples=200, deadline=None)
@given(selections())
def test_no_gap_fetches_whole_pixels_only(selection: tuple[FrameLayout, tuple[Any, ...]]) -> None:
    layout, key = selection
    plan = planned(layout, key, max_gap=0)
    tiles, channels, rows, cols, samples = plan.selection.shape
    pixels = (tiles - len(plan.missing)) * rows * cols
    assert plan.bytes_fetched == pixels * layout.pixel_bytes * (plan.selection.size > 0)
    assert plan.bytes_needed == pixels * channels * samples * layout.dtype.itemsize


@settings(max_examples=200, deadline=None)
@given(selections(), st.sampled_from([0, 10, 1000]))
def test_ranges_are_sorted_apart_and_never_empty(
    selection: tuple[FrameLayout, tuple[Any, ...]], max_gap: int
) -> None:
    plan = planned(*selection, max_gap)
    assert (plan.stops > plan.starts).all()
    assert (plan.starts[1:] - plan.stops[:-1] > max_gap).all()
    assert plan.first_strip[-1] == len(plan.strips.start)


def test_large_frame_is_split_at_rows() -> None:
    layout = layout_of((("T", 2),), 1, 4096, 4096)
    plan = planned(layout, (slice(None),) * 4)
    sizes = plan.stops - plan.starts
    assert sizes.sum() == layout.frame_bytes * 2
    assert sizes.max() <= 2 * MAX_REQUEST_BYTES
    assert plan.requests >= 2 * layout.frame_bytes // (2 * MAX_REQUEST_BYTES)


def test_small_frames_are_read_together() -> None:
    layout = layout_of((("T", 800),), 1, 16, 16, gap=4096)
    plan = planned(layout, (slice(None),) * 4)
    assert plan.requests == 1


def test_missing_frames_are_not_read() -> None:
    layout = layout_of((("T", 4),), 1, 3, 3, missing=(1, 2))
    plan = planned(layout, (slice(None),) * 4, max_gap=0)
    assert plan.missing.tolist() == [1, 2]
    assert plan.bytes_fetched == plan.bytes_needed == 2 * layout.frame_bytes
    image = np.arange(36, dtype="<u2").reshape(4, 1, 3, 3)
    image[1:3] = 0
    result = carried_out(plan, file_of(layout, image))
    np.testing.assert_array_equal(result, image)


@pytest.mark.parametrize(
    "key", [(5, 0, 0, 0), (-6, 0, 0, 0), (0, 1, 0, 0), (0, 0, np.array([0, 3]), 0)]
)
def test_out_of_bounds(key: tuple[Any, ...]) -> None:
    with pytest.raises(IndexError, match="out of bounds"):
        planned(layout_of((("T", 5),), 1, 3, 3), key)


def test_frame_outside_of_the_file() -> None:
    layout = layout_of((("T", 5),), 1, 3, 3)
    plan = planned(layout, (slice(None),) * 4)
    plan.check(int(plan.stops[-1]))
    with pytest.raises(ND2FormatError, match="frame 4 is said to lie at bytes"):
        plan.check(int(plan.stops[-1]) - 1)


@st.composite
def point_selections(draw: st.DrawFn) -> tuple[FrameLayout, tuple[np.ndarray, ...]]:
    loops: tuple[tuple[str, int], ...]
    loops = draw(st.sampled_from([(), (("T", 3),), (("P", 2), ("Z", 3))]))
    channels, samples = draw(st.integers(1, 2)), draw(st.sampled_from([1, 3]))
    layout = layout_of(
        loops,
        channels=channels,
        height=draw(st.integers(1, 9)),
        width=draw(st.integers(1, 9)),
        samples=samples,
        padding=draw(st.sampled_from([0, 6])),
        missing=draw(missing_frames(math.prod(size for _, size in loops))),
        channel_order=draw(orders(channels)),
        sample_order=draw(orders(samples)),
    )
    shape = tuple(draw(st.lists(st.integers(0, 3), min_size=1, max_size=4)))
    key = []
    for size in layout.shape:
        along = tuple(draw(st.sampled_from([1, n])) for n in shape)
        count = int(np.prod(along))
        values = draw(st.lists(st.integers(-size, size - 1), min_size=count, max_size=count))
        key.append(np.array(values, np.int64).reshape(along))
    return layout, tuple(key)


@settings(max_examples=400, deadline=None)
@given(point_selections(), st.sampled_from([None, 0, 20]))
def test_points_equal_numpy(
    selection: tuple[FrameLayout, tuple[np.ndarray, ...]], max_gap: int | None
) -> None:
    layout, key = selection
    image = image_of(layout)
    points = select_points(layout, key)
    plan = plan_read(layout, points, max_gap, DEFAULT_LINKS["http"], 64)
    np.testing.assert_array_equal(carried_out(plan, file_of(layout, image)), image[key])


def regions(count: int, size: int, layout: FrameLayout) -> Selection:
    """Windows at random places of random frames, as ``isel`` with a ``roi`` dimension has them."""
    rng = np.random.default_rng(9)
    t = rng.integers(0, layout.loop_shape[0], count)[:, None, None]
    y = rng.integers(0, layout.height - size, count)[:, None, None] + np.arange(size)[:, None]
    x = rng.integers(0, layout.width - size, count)[:, None, None] + np.arange(size)
    return select_points(layout, np.broadcast_arrays(t, 0, y, x))


def test_regions_are_tiles() -> None:
    layout = layout_of((("T", 20),), 1, 256, 256)
    points = regions(30, 16, layout)
    assert points.shape == (30, 1, 16, 16, 1)
    plan = plan_read(layout, points, 0, DEFAULT_LINKS["http"], 64)
    assert plan.bytes_fetched <= 30 * 16 * 16 * 2
    merged = plan_read(layout, points, 512, DEFAULT_LINKS["http"], 64)
    assert merged.requests <= 30
    assert merged.bytes_fetched <= 30 * 16 * 512


@pytest.mark.parametrize(
    ("link", "merges"),
    [
        (Link(latency=0.001, bandwidth=800e6, overhead=0.0004), True),
        (Link(latency=0.02, bandwidth=100e6, overhead=0.0004), True),
        (Link(latency=0.08, bandwidth=10e6, overhead=0.0004), False),
        (Link(latency=0.08, bandwidth=1e6, overhead=0.0004), False),
    ],
)
def test_gaps_are_read_over_where_that_is_quicker(link: Link, merges: bool) -> None:
    layout = layout_of((), 1, 8192, 8192)
    crop = select_outer(layout, (0, slice(100, 356), slice(300, 556)))
    plan = plan_read(layout, crop, None, link, 64)
    assert plan.requests == (1 if merges else 256)


def test_a_probing_plan_reads_the_same_pixels() -> None:
    link = Link(latency=0.1, bandwidth=1e6, overhead=0.0004)
    layout = layout_of((("T", 3),), 1, 128, 2048, missing=(1,))
    image = image_of(layout)
    key = (slice(None), 0, slice(None), slice(30, 80))
    plans = [
        plan_read(layout, select_outer(layout, key), None, link, 64, probing=probing)
        for probing in (False, True)
    ]
    assert plans[0].requests == 256 > plans[1].requests
    assert plans[0].gap == plans[1].gap == 0
    for plan in plans:
        np.testing.assert_array_equal(carried_out(plan, file_of(layout, image)), image[key])


@settings(max_examples=100, deadline=None)
@given(
    selections(),
    st.builds(Link, st.floats(0, 0.2), st.floats(1e3, 1e9), st.floats(0, 0.01)),
    st.sampled_from([1, 4, 64]),
)
def test_best_gap_is_about_as_quick_as_any(
    selection: tuple[FrameLayout, tuple[Any, ...]], link: Link, concurrency: int
) -> None:
    layout, key = selection
    asked = select_outer(layout, key)

    def seconds(max_gap: int | None) -> float:
        plan = plan_read(layout, asked, max_gap, link, concurrency)
        counts = np.array([plan.requests]), np.array([plan.bytes_fetched])
        return float(link.seconds(*counts, concurrency)[0])

    pixels = {0, 10**9} | {n * layout.pixel_bytes for n in range(1, 13)}
    rows = {
        layout.row_stride_bytes * n - layout.pixel_bytes * m
        for n in range(1, 12)
        for m in range(13)
    }
    assert seconds(None) <= min(map(seconds, pixels | rows)) * 1.150001


def test_requests_are_as_large_as_suits_the_link() -> None:
    """One frame is read by several requests at once, of whole rows."""
    layout = layout_of((), 1, 1024, 1024)
    selection = select_outer(layout, (0, slice(None), slice(None)))
    link = DEFAULT_LINKS["share"]
    plan = plan_read(layout, selection, None, link, 64)
    assert (plan.stops - plan.starts).max() <= 1.1 * link.request_bytes
    assert plan.requests == -(-layout.frame_bytes // link.request_bytes)
