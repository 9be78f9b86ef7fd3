"""From lazy data of xarray to the array of the file, and what is selected of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import xarray as xr
from xarray.core.indexing import LazilyIndexedArray

from xarray_nd2.lazy_chain import find_nd2_array
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
