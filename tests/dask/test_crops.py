"""Crops of dask arrays that are joined into the reads: what is read, and that the result is right."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import dask.array as da
import numpy as np
import pytest
import xarray as xr
from dask.base import compute
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from xarray_nd2 import array as arrays
from xarray_nd2.testing import write_nd2

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Step = Callable[[xr.DataArray], xr.DataArray]

CROP: dict[str, Any] = {"T": 3, "Y": slice(10, 20), "X": slice(5, 15)}
ONE = 2 * 10 * 10  # values of the crop


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("crops") / "run.nd2"
    frames = np.random.default_rng(6).integers(0, 2**16, (6, 2, 40, 30)).astype("uint16")
    write_nd2(path, frames, "TCYX", channels=["DAPI", "GFP"])
    return path


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Number of values of every read."""
    sizes: list[int] = []
    read = arrays.ND2BackendArray.__getitem__

    def counted(self: arrays.ND2BackendArray, key: Any) -> Any:
        sizes.append(self._select(key).size)
        return read(self, key)

    monkeypatch.setattr(arrays.ND2BackendArray, "__getitem__", counted)
    return sizes


DARK = xr.DataArray(np.random.default_rng(1).integers(0, 99, (40, 30)), dims=("Y", "X"))
FLAT = xr.DataArray(np.random.default_rng(2).random((2, 40, 30)) + 0.5, dims=("C", "Y", "X"))

CASES: dict[str, tuple[Step, int]] = {
    "crop": (lambda a: a.isel(CROP), ONE),
    "channel, crop": (lambda a: a.sel(C="GFP").isel(CROP), ONE // 2),
    "crop of crop": (
        lambda a: a.isel(Y=slice(5, 35)).isel(T=3).isel(X=slice(5, 15), Y=slice(5, 15)),
        ONE,
    ),
    "astype": (lambda a: a.astype("f4").isel(CROP), ONE),
    "arithmetic": (lambda a: (2 * (a.astype("f8") - 100) / 3).clip(0).isel(CROP), ONE),
    "ufunc": (lambda a: xr.apply_ufunc(np.sqrt, a, dask="allowed").isel(CROP), ONE),
    "transpose": (lambda a: a.transpose("X", "T", "C", "Y").isel(CROP), ONE),
    "all of it": (
        lambda a: (a.transpose("X", ...)[3:9] * 2).isel(T=3).transpose("Y", "C", "X")[4:8, 1],
        4 * 6,
    ),
    "backwards": (lambda a: a[..., ::-2].isel(T=3, Y=slice(20, 10, -1))[..., 2:7], 2 * 10 * 5),
    "two crops": (
        lambda a: (
            a.isel(CROP).drop_vars("Y")
            + a.isel(T=3, Y=slice(25, 35), X=slice(5, 15)).drop_vars("Y")
        ),
        2 * ONE,
    ),
    "list, crop": (lambda a: a.isel(T=[0, 4, 5]).isel(Y=slice(10, 20), X=slice(5, 15)), 3 * ONE),
    "list, crop of crop, channel": (
        lambda a: a.isel(T=[4, 1, 4, 0]).isel(Y=slice(8, 20)).isel(C=1).isel(X=3)[..., 2:],
        3 * 10,
    ),
    "rechunk, crop": (lambda a: a.chunk(T=1).isel(CROP), ONE),
    "new axis, crop": (lambda a: a.expand_dims(run=1).isel(run=0).isel(CROP), ONE),
    "crop, new axes, transpose, crop": (
        lambda a: (
            a.isel(T=3).expand_dims(a=1, b=1).transpose("Y", "b", "X", "a", "C")[..., 1] * 2
        ).isel(b=-1, Y=slice(10, 20), X=slice(5, 15)),
        ONE // 2,
    ),
    "concatenated along a new axis, crop": (
        lambda a: xr.concat([a, a + 1], "run").isel(CROP | {"run": 1}),
        ONE,
    ),
    "list": (lambda a: a.isel(T=[0, 5]), 2 * 2 * 40 * 30),
    "crop, list": (lambda a: a.isel(CROP).isel(X=[5, 1, 1]), 2 * 10 * 2),  # two distinct columns
    "projection of crops": (lambda a: a.isel(Y=slice(0, 8)).max("T"), 6 * 2 * 8 * 30),
    "flat field": (lambda a: ((a - DARK) / FLAT).isel(CROP), ONE),
    "flat field, transposed": (
        lambda a: ((a - DARK) / FLAT.chunk()).transpose("X", "C", "Y", "T").isel(CROP),
        ONE,
    ),
    "where of times": (lambda a: a.where(a["T"] > 1).isel(CROP), ONE),
    "where of itself": (lambda a: a.where(a > 2**15, 7).isel(CROP), ONE),  # read once
    "square": (lambda a: (a * a).isel(CROP), ONE),
    "ratio of channels": (  # each pixel is read once, for it has both
        lambda a: (a.sel(C="GFP", drop=True) / (a.sel(C="DAPI", drop=True) + 1)).isel(CROP),
        ONE,
    ),
    "with a list of times": (
        lambda a: ((a - DARK).isel(T=[4, 0, 5]) * 2).isel(C=1, Y=slice(4, 8)),
        3 * 4 * 30,
    ),
    "two crops of a difference": (
        lambda a: xr.concat(
            [(a - DARK).isel(T=t, Y=slice(4, 8)) for t in (1, 4)], "T", coords="minimal"
        ),
        2 * 2 * 4 * 30,
    ),
    # No crop to join: nothing changes, and nothing is read twice.
    "the mean": (lambda a: (a - a.mean("T")).isel(CROP), 6 * 2 * 40 * 30),
    "whole": (lambda a: a * 2, 6 * 2 * 40 * 30),
    "difference": (lambda a: a.astype("i4").diff("T"), 6 * 2 * 40 * 30),
    "block and crop": (lambda a: a.isel(T=slice(0, 3)).mean("T") + a.isel(T=1), 3 * 2 * 40 * 30),
}


@pytest.mark.parametrize("name", CASES)
def test_reads_no_more_than_the_crop(name: str, run: Path, reads: list[int]) -> None:
    step, expected = CASES[name]
    ds = xr.open_dataset(run, chunks={"T": 3})
    result = step(ds.image)
    reads.clear()
    computed = result.compute(scheduler="sync")
    assert sum(reads) == expected
    xr.testing.assert_identical(computed, step(xr.open_dataset(run).load().image))


def test_several_results_in_one_graph(run: Path, reads: list[int]) -> None:
    image = xr.open_dataset(run, chunks={"T": 3}).image
    parts = [image.isel(T=1, Y=slice(y, y + 4)) for y in (0, 10, 20)]
    reads.clear()
    results = compute(*parts, scheduler="sync")
    assert sum(reads) == 3 * 2 * 4 * 30
    expected = xr.open_dataset(run).load().image
    for y, result in zip((0, 10, 20), results, strict=True):
        xr.testing.assert_identical(result, expected.isel(T=1, Y=slice(y, y + 4)))


def test_an_array_inlined_into_its_tasks(run: Path, reads: list[int]) -> None:
    image = xr.open_dataset(run, chunks={"T": 3}, inline_array=True).image
    reads.clear()
    computed = (image * 2).isel(CROP).compute(scheduler="sync")
    assert sum(reads) == ONE
    xr.testing.assert_identical(computed, (xr.open_dataset(run).load().image * 2).isel(CROP))


def test_with_another_graph_in_one_compute(run: Path, reads: list[int]) -> None:
    """What both graphs need of another library's is computed once, and the crop reads no more."""
    image = xr.open_dataset(run, chunks={"T": 3}).image
    made: list[int] = []

    def make(block: np.ndarray) -> np.ndarray:
        made.append(block.size)
        return block + 1

    dark = da.ones((40, 30), chunks=-1).map_blocks(make, meta=np.ones((0, 0)))
    corrected = (image - xr.DataArray(dark, dims=("Y", "X"))).isel(CROP)
    reads.clear()
    other, total, result = compute(dark, dark.sum(), corrected, scheduler="sync")
    assert sum(reads) == ONE
    assert made == [40 * 30]
    np.testing.assert_array_equal(other, np.full((40, 30), 2.0))
    assert total == 2 * 40 * 30
    xr.testing.assert_equal(result, xr.open_dataset(run).load().image.isel(CROP) - 2.0)


@pytest.mark.parametrize("blocks", [(2, 5, 2), (3, 6), (1, 8)])
def test_channels_of_one_place_in_blocks_of_some_channels(
    blocks: tuple[int, ...], tmp_path: Path
) -> None:
    frames = np.random.default_rng(8).integers(0, 2**16, (2, 9, 6, 5)).astype("uint16")
    write_nd2(tmp_path / "run.nd2", frames, "TCYX")
    image = xr.open_dataset(tmp_path / "run.nd2", chunks={"T": 1, "C": blocks}).image.data
    keys: list[Any] = [3, 4, slice(3, 5), [4, 3], slice(4, 2, -1), slice(3, 3)]
    for other in keys:
        for key in keys:
            parts = compute(image[0, key, 3:9], image[0, other, 3:9], scheduler="sync")
            np.testing.assert_array_equal(parts[0], frames[0, key, 3:9])
            np.testing.assert_array_equal(parts[1], frames[0, other, 3:9])


@pytest.mark.parametrize("samples", [[2, 0], [0, 0, 0, 2, -1], [-1, 1, 2, -3]])
@pytest.mark.parametrize(
    "crop", [{"T": 0}, {"T": 0, "Y": 18}, {"Y": 18, "X": slice(3, 25, 3)}, {"X": 0}, {"T": [1, 1]}]
)
def test_positions_of_colours_beside_a_dropped_channel(
    crop: dict[str, Any], samples: list[int], tmp_path: Path
) -> None:
    """NumPy pairs a list with numbers along other axes, and moves its axis to the front."""
    frames = np.random.default_rng(8).integers(0, 2**8, (2, 25, 31, 3)).astype("uint8")
    write_nd2(tmp_path / "run.nd2", frames, "TYXS")
    image = xr.open_dataset(tmp_path / "run.nd2", chunks={}).image
    expected = xr.DataArray(frames[:, None], dims=("T", "C", "Y", "X", "S"))
    indexers = {**crop, "C": -1, "S": samples}
    result = image.isel(indexers).compute(scheduler="sync")
    np.testing.assert_array_equal(result.values, expected.isel(indexers).values)
    # The same of other arrays beside it in one graph.
    both = (image.isel(indexers) + expected.chunk().isel(indexers)).compute(scheduler="sync")
    np.testing.assert_array_equal(both.values, 2 * expected.isel(indexers).values)


def test_overlapping_crops_read_the_block_once(run: Path, reads: list[int]) -> None:
    image = xr.open_dataset(run, chunks={"T": 3}).image
    reads.clear()
    compute(*(image.isel(T=1, Y=slice(y, None)) for y in range(20)), scheduler="sync")
    assert sum(reads) == 3 * 2 * 40 * 30


steps = st.one_of(
    st.builds(lambda axis, start, size: ("slice", axis, start, size), st.integers(0, 3),
              st.integers(-9, 9), st.sampled_from([1, 3, 8, None])),
    st.builds(lambda axis, at: ("int", axis, at, 0), st.integers(0, 3), st.integers(0, 2)),
    st.builds(lambda axis: ("reverse", axis, 0, 0), st.integers(0, 3)),
    st.builds(lambda axis: ("turn", axis, 0, 0), st.integers(1, 3)),
    st.just(("double", 0, 0, 0)),
    st.builds(lambda axis: ("list", axis, 0, 0), st.integers(0, 3)),
    st.builds(lambda axis: ("new", axis, 0, 0), st.integers(0, 4)),
)  # fmt: skip


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(steps, max_size=6))
def test_any_chain(run: Path, chain: list[tuple[str, int, int, int | None]]) -> None:
    """Whatever is done to the array, the result is that of NumPy."""
    lazy = xr.open_dataset(run, chunks={"T": 2}).image
    known = xr.open_dataset(run).load().image
    for number, (kind, axis, start, size) in enumerate(chain):
        if kind == "new" and axis <= lazy.ndim:
            name = f"new{number}"
            lazy, known = lazy.expand_dims(name, axis), known.expand_dims(name, axis)
        if axis >= lazy.ndim:
            continue
        dim = lazy.dims[axis]
        key: Any = None
        if kind == "slice":
            key = slice(start, None if size is None else start + size)
        elif kind == "int" and lazy.sizes[dim] > start:
            key = start
        elif kind == "reverse":
            key = slice(None, None, -1)
        elif kind == "list" and lazy.sizes[dim] > 1:
            key = [1, 0, 1]
        elif kind == "turn":
            order = lazy.dims[axis:] + lazy.dims[:axis]
            lazy, known = lazy.transpose(*order), known.transpose(*order)
        elif kind == "double":
            lazy, known = lazy * 2, known * 2
        if key is not None:
            lazy, known = lazy.isel({dim: key}), known.isel({dim: key})
    xr.testing.assert_identical(lazy.compute(scheduler="sync"), known)


def test_lists_do_not_come_to_the_reading(run: Path) -> None:
    """Dask joins a crop of a read with it, and lists are no index of xarray's lazy arrays."""
    image = xr.open_dataset(run, chunks={"T": 2}).image
    part = image.data[0:0, [0, -1, 0]]
    product = (part * part[..., ::-1])[:, 2:5]
    assert product.compute(scheduler="sync").shape == (0, 1, 40, 30)


# Shapes that broadcast to those of the image, or to which it broadcasts.
SHAPES = [(40, 30), (2, 1, 30), (6, 1, 40, 1), (1, 2, 40, 30), (5, 1, 1, 1, 1), (1,), ()]
picks = st.lists(st.integers(0, 9), min_size=5, max_size=5)


@pytest.mark.filterwarnings("ignore:Increasing number of chunks")
@settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.sampled_from([1, 2]),
    st.lists(
        st.one_of(
            st.builds(lambda n, swap: ("combine", n, swap), st.integers(0, 6), st.booleans()),
            st.builds(lambda *parts: ("crop", *parts), picks, st.integers(0, 4)),
            st.builds(lambda at: ("turn", at), st.integers(0, 4)),
            st.just(("itself",)),
        ),
        max_size=7,
    ),
)
def test_any_chain_with_other_arrays(run: Path, blocks: int, chain: list[tuple[Any, ...]]) -> None:
    """Operations on arrays of all shapes that broadcast, each crop anywhere between them."""
    lazy: Any = xr.open_dataset(run, chunks={"T": 4, "C": blocks, "Y": 25}).image.data
    known: Any = xr.open_dataset(run).image.values
    for kind, *how in chain:
        if kind == "combine":
            number, swap = how
            other = np.arange(float(math.prod(SHAPES[number]))).reshape(SHAPES[number])
            try:
                np.broadcast_shapes(known.shape, other.shape)
            except ValueError:
                continue
            chunked = da.from_array(other, chunks=3) if number % 2 else other
            lazy = np.where(chunked > 3, chunked, lazy) if swap else lazy - chunked
            known = np.where(other > 3, other, known) if swap else known - other
        elif kind == "crop":
            index: list[Any] = []
            for pick, size in zip(how[0], known.shape, strict=False):
                at = pick % max(size, 1)
                choices = [
                    slice(None),
                    slice(at, at + 3),
                    slice(None, None, -1),
                    slice(at, None, 2),
                ]
                if pick == 9 and size:
                    index.append(at)
                elif pick == 8:
                    index.append(slice(at, at))
                else:
                    index.append(choices[pick % 4])
            if how[1] < known.ndim and not any(isinstance(part, int) for part in index):
                at = how[1]
                index[at] = [0, -1, 0] if known.shape[at] else slice(None)
            elif how[1] < len(index):
                index.insert(how[1], None)
            lazy, known = lazy[tuple(index)], known[tuple(index)]
        elif kind == "turn":
            axes = np.roll(range(known.ndim), how[0])
            lazy, known = lazy.transpose(*axes), known.transpose(*axes)
        elif known.ndim < 7:
            lazy, known = lazy * lazy[..., ::-1], known * known[..., ::-1]
    np.testing.assert_array_equal(lazy.compute(scheduler="sync"), known)
