"""From lazy data of xarray to the array of the file, and what is selected of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import xarray as xr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from xarray.core.indexing import LazilyIndexedArray

from xarray_nd2.array import key_as_arrays
from xarray_nd2.lazy_chain import find_nd2_array
from xarray_nd2.read.selection import select_points
from xarray_nd2.testing import write_nd2

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

FRAMES = np.random.default_rng(6).integers(0, 2**16, (6, 2, 40, 30)).astype("uint16")
POINTS = {
    "Y": xr.DataArray([[3], [9]], dims=("roi", "y")),
    "X": xr.DataArray([1, 5], dims="roi"),
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("chain") / "run.nd2"
    write_nd2(path, FRAMES, "TCYX")
    return path


CASES: dict[str, Callable[[xr.DataArray], xr.DataArray]] = {
    "whole": lambda a: a,
    "slices": lambda a: a.isel(T=3, Y=slice(10, 30)).isel(Y=slice(2, None, 3)),
    "pixel": lambda a: a[0, 1, 2, 3],
    "lists": lambda a: a.isel(T=[4, 0], X=[5, 1, 1]),
    "points": lambda a: a.isel(C=1).isel(POINTS),
    "crop of points": lambda a: a.isel(POINTS).isel(roi=1, T=slice(2, 4)),
    "transposed": lambda a: a.transpose("X", "T", "C", "Y"),
}


@pytest.mark.parametrize("name", CASES)
def test_array_and_key(name: str, run: Path) -> None:
    selected = CASES[name](xr.open_dataset(run).image)
    for data in (selected, selected.variable, selected.variable._data):
        found = find_nd2_array(data)
        assert found is not None
        array, key = found
        assert array.shape == FRAMES.shape
        assert key is not None
        expected = CASES[name](xr.DataArray(FRAMES, dims=("T", "C", "Y", "X")))
        assert selected.dims == expected.dims
        np.testing.assert_array_equal(array[key], expected)


def test_a_selection_of_a_selection_has_no_key(run: Path) -> None:
    lazy: Any = xr.open_dataset(run).image.isel(T=3).variable._data
    found = find_nd2_array(LazilyIndexedArray(lazy))
    assert found is not None
    assert found[1] is None


def test_other_data(run: Path) -> None:
    image = xr.open_dataset(run).image
    others = [image + 1, image.load(), xr.open_dataset(run, chunks={}).image, FRAMES, None, "text"]
    assert not any(map(find_nd2_array, others))


@st.composite
def chains(draw: st.DrawFn) -> list[tuple[str, Any]]:
    """Steps of transpositions and selections, as numbers that fit any array."""
    kinds = st.sampled_from(["transpose", "int", "slice", "list", "points"])
    numbers = st.lists(st.integers(-60, 60), min_size=3, max_size=3)
    return draw(st.lists(st.tuples(kinds, numbers), min_size=1, max_size=6))


def one_step(image: xr.DataArray, step: tuple[str, Any], number: int) -> xr.DataArray:
    kind, (one, two, three) = step
    if not image.ndim:
        return image
    if kind == "transpose":
        return image.transpose(*np.roll(np.array(image.dims), one)[:: -1 if two > 0 else 1])
    dim = image.dims[one % image.ndim]
    other = image.dims[two % image.ndim]
    size = image.sizes[dim]
    if not size or not image.sizes[other]:
        return image
    if kind == "int":
        return image.isel({dim: two % size - size * (three % 2)})
    if kind == "slice":
        return image.isel({dim: [slice(two % size, None, 2), slice(None, None, -1)][three % 2]})
    if kind == "list":
        return image.isel({dim: [two % size, three % size, -1]})
    new = f"p{number}"
    key = {dim: xr.DataArray([two % size, three % size], dims=new)}
    if other != dim:
        last = image.sizes[other] - 1
        dims = (new, "q") if "q" not in image.dims else (new,)
        corner = np.array([[0, last, 0], [last, last, -1]])
        key[other] = xr.DataArray(corner if len(dims) > 1 else corner[:, 0], dims=dims)
    return image.isel(key)


@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(chain=chains())
def test_any_chain_of_transpositions_and_selections(
    run: Path, chain: list[tuple[str, Any]]
) -> None:
    lazy, expected = (image.drop_vars(list(image.coords)) for image in both_images(run))
    for number, step in enumerate(chain):
        lazy, expected = one_step(lazy, step, number), one_step(expected, step, number)
        assert lazy.sizes == expected.sizes
    xr.testing.assert_equal(lazy, expected)


def both_images(run: Path) -> tuple[xr.DataArray, xr.DataArray]:
    return xr.open_dataset(run).image, xr.DataArray(FRAMES, dims=("T", "C", "Y", "X"))


def test_a_transposed_image_is_selected_by_small_keys(run: Path) -> None:
    image = xr.open_dataset(run).image.transpose("Y", "X", "T", "C")
    found = find_nd2_array(image.isel(T=3, X=slice(20, 4, -2)))
    assert found is not None
    array, key = found
    assert key is not None
    assert [part.size for part in key.tuple] == [1, 2, 40, 8]
    selection = select_points(array.layout, key_as_arrays(key.tuple, array.shape))
    assert selection.shared_window
    assert len(selection.frames) == 1


def test_one_value_of_points(run: Path) -> None:
    lazy, expected = both_images(run)
    value = lazy.isel(POINTS).isel(roi=1, y=0, T=2, C=0)
    assert value.ndim == 0
    assert value.item() == expected.isel(POINTS).isel(roi=1, y=0, T=2, C=0).item()


def test_points_of_an_empty_selection(run: Path) -> None:
    points = {dim: xr.DataArray([1, 0], dims="roi") for dim in ("T", "X")}
    of_none = {dim: xr.DataArray(np.zeros(0, int), dims="roi") for dim in ("T", "X")}
    lazy, expected = (image.drop_vars(list(image.coords)) for image in both_images(run))
    for key in (points, of_none):
        for empty in (np.zeros(0, int), slice(0, 0)):
            found = lazy.transpose("Y", "X", "T", "C").isel(Y=empty).isel(key)
            wanted = expected.transpose("Y", "X", "T", "C").isel(Y=empty).isel(key)
            xr.testing.assert_equal(found, wanted)
