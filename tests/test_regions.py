"""Thousands of regions in one selection: xarray's vectorised indexing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import xarray as xr

from xarray_nd2.testing import write_nd2

if TYPE_CHECKING:
    from pathlib import Path

    from xarray_nd2.testing import RangeServer


@pytest.fixture(scope="module")
def run(folder: Path) -> Path:
    frames = np.random.default_rng(8).integers(0, 2**16, (12, 3, 2, 96, 80)).astype("uint16")
    write_nd2(folder / "regions.nd2", frames, "TZCYX", channels=["DAPI", "GFP"])
    write_nd2(folder / "lossless.nd2", frames, "TZCYX", compression="lossless")
    return folder / "regions.nd2"


def regions(count: int, size: int) -> dict[str, xr.DataArray]:
    rng = np.random.default_rng(1)
    window = np.arange(size)
    return {
        "T": xr.DataArray(rng.integers(0, 12, count), dims="roi"),
        "Z": xr.DataArray(rng.integers(0, 3, count), dims="roi"),
        "Y": xr.DataArray(rng.integers(0, 96 - size, (count, 1)) + window, dims=("roi", "y")),
        "X": xr.DataArray(rng.integers(0, 80 - size, (count, 1)) + window, dims=("roi", "x")),
    }


@pytest.mark.parametrize("name", ["regions.nd2", "lossless.nd2"])
@pytest.mark.parametrize(
    "dims", ["TZYX", "TZ", "TYX", "YX", "Y", "T"], ids=lambda dims: f"along-{dims}"
)
def test_equal_to_indexing_in_memory(name: str, dims: str, run: Path) -> None:
    key = {dim: part for dim, part in regions(25, 9).items() if dim in dims}
    ds = xr.open_dataset(run.with_name(name))
    expected = xr.open_dataset(run).load().image
    xr.testing.assert_equal(ds.image.isel(key).drop_vars("C"), expected.isel(key).drop_vars("C"))
    # After other selections, and before them.
    first = {"C": 1, "Z": [2, 0, 1], "Y": slice(None, None, -1)}
    xr.testing.assert_equal(
        ds.image.isel(first).isel(key).drop_vars("C"), expected.isel(first).isel(key).drop_vars("C")
    )
    result = ds.image.isel(key).isel(C=0)
    if "roi" in result.dims:
        result = result.isel(roi=slice(3, 9))
        xr.testing.assert_equal(
            result.drop_vars("C"), expected.isel(key).isel(C=0, roi=slice(3, 9)).drop_vars("C")
        )


def test_single_points(run: Path) -> None:
    along = {dim: xr.DataArray([3, 7, 7, 1], dims="point") for dim in "TYX"}
    ds = xr.open_dataset(run)
    xr.testing.assert_equal(ds.image.isel(along), ds.image.load().isel(along))


def test_transposed(run: Path) -> None:
    ds = xr.open_dataset(run)
    moved = ds.image.transpose("X", "C", "T", "Y", "Z")
    np.testing.assert_array_equal(
        moved.isel(X=slice(3, 8), T=2).values,
        ds.image.load().transpose("X", "C", "T", "Y", "Z").values[3:8, :, 2],
    )


def test_one_plan_for_all(run: Path, http: RangeServer) -> None:
    ds = xr.open_dataset(http.url(run.name), max_gap=0)
    http.log.clear()
    http.latency = 0.05
    ds.image.isel(regions(20, 8)).load()
    assert http.log.bytes <= 20 * 8 * 8 * 4
    assert http.log.requests <= 20 * 8
    assert http.log.round_trips <= 20  # 3 where nothing else runs


async def test_async(run: Path, http: RangeServer) -> None:
    ds = xr.open_dataset(http.url(run.name))
    loaded = await ds.image.isel(regions(20, 8)).load_async()
    xr.testing.assert_equal(loaded, xr.open_dataset(run).load().image.isel(regions(20, 8)))


def test_out_of_bounds(run: Path) -> None:
    ds = xr.open_dataset(run)
    with pytest.raises(IndexError):
        ds.image.isel(T=xr.DataArray([0, 12], dims="roi")).load()
