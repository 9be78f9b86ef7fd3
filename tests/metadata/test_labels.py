"""Coordinates, units and attributes."""

from __future__ import annotations

import json
import warnings
from typing import TYPE_CHECKING, Any

import nd2
import numpy as np
import pytest
import xarray as xr

from tests.variants import VARIANTS
from xarray_nd2.testing import Channel, write_nd2

if TYPE_CHECKING:
    from pathlib import Path


CHUNKS: tuple[dict[str, int] | None, ...] = (None, {})


def opened(path: Path, dims: str, sizes: tuple[int, ...], **options: Any) -> xr.Dataset:
    write_nd2(path / "run.nd2", np.ones(sizes, "uint16"), dims, **options)
    return xr.open_dataset(path / "run.nd2")


def test_time_is_in_seconds(tmp_path: Path) -> None:
    ds = opened(tmp_path, "TYX", (4, 8, 8), period=2.5)
    assert ds.T.values.tolist() == [0.0, 2.5, 5.0, 7.5]
    assert ds.T.dtype == np.float64
    assert ds.T.attrs["units"] == "s"


def test_time_runs_on_through_periods(tmp_path: Path) -> None:
    ds = opened(tmp_path, "TYX", (6, 8, 8), periods=[(3, 1.0), (1, 10.0), (2, 5.0)])
    assert ds.T.values.tolist() == [0.0, 1.0, 2.0, 3.0, 13.0, 18.0]


@pytest.mark.parametrize("step", [0.05, 0.1, 0.3, 0.7, 1.1, 1 / 3])
def test_labels_are_found_as_they_are_written(step: float, tmp_path: Path) -> None:
    count = 1000
    ds = opened(tmp_path, "TZYX", (count, 60, 1, 60), period=step, z_step=step, pixel_size=step)
    assert ds["T"].values.tolist() == [round(i * step, 9) for i in range(count)]
    for dim in "TZX":
        assert ds[dim].sel({dim: round(3 * step, 9)}).item() == round(3 * step, 9)
        part = ds[dim].sel({dim: slice(round(step * 10, 9), round(step * 20, 9))})
        assert part.size == 11
    ds = opened(tmp_path, "TYX", (7, 8, 8), periods=[(3, 0.1), (4, 0.7)])
    assert ds["T"].values.tolist() == [0.0, 0.1, 0.2, 0.3, 1.0, 1.7, 2.4]


def test_labels_are_distinct_however_small_the_step(tmp_path: Path) -> None:
    ds = opened(tmp_path, "ZYX", (9, 8, 8), z_step=1e-10, pixel_size=3e-10)
    for dim in "ZYX":
        assert (np.diff(ds[dim].values) > 0).all()


def test_time_without_period_is_as_measured(tmp_path: Path) -> None:
    times = [10.0, 10.5, 11.0, 11.5, 12.25, 12.75]
    ds = opened(tmp_path, "TZYX", (3, 2, 8, 8), period=0.0, timestamps=times)
    assert ds.T.values.tolist() == [0.0, 1.0, 2.25]
    assert ds.time.dims == ("T", "Z")
    assert ds.time.values.ravel().tolist() == times
    assert ds.time.attrs["units"] == "s"


def test_steps_that_are_no_numbers(tmp_path: Path) -> None:
    steps = {"period": np.inf, "z_step": np.nan, "pixel_size": np.inf}
    ds = opened(tmp_path, "TZYX", (3, 4, 8, 8), **steps)
    for dim in "TZYX":
        assert ds[dim].values.tolist() == list(range(ds.sizes[dim]))
        assert ds[dim].attrs["units"] == "1"
    assert "pixel_size_um" not in ds.image.attrs


def test_pixels_that_are_not_calibrated(tmp_path: Path) -> None:
    path = tmp_path / "run.nd2"
    write_nd2(path, np.ones((4, 5), "u2"), "YX", pixel_size=0.5)
    data = bytearray(path.read_bytes())
    name = "bCalibrated".encode("utf-16-le") + b"\0\0"
    at = data.index(name) + len(name)
    assert data[at] == 1
    data[at] = 0
    path.write_bytes(data)
    ds = xr.open_dataset(path)
    assert ds.X.values.tolist() == [0, 1, 2, 3, 4]
    assert ds.X.attrs["units"] == "1"
    assert "pixel_size_um" not in ds.image.attrs


@pytest.mark.parametrize(
    ("times", "missing", "expected"),
    [
        ([0.4, 11.4, 22.4, 0.0], [3], [0, 11, 22, 33]),  # cut short
        ([0.4, 11.4, 0.0, 33.4], [2], [0, 11, 22, 33]),
        ([0.4, 11.4, 22.4], [], [0, 11, 22, 33]),  # a table that is too short
    ],
)
def test_times_that_are_lacking_are_filled_in(
    times: list[float], missing: list[int], expected: list[float], tmp_path: Path
) -> None:
    options: dict[str, Any] = {"period": 0.0, "timestamps": times + [0.0] * (4 - len(times))}
    write_nd2(tmp_path / "run.nd2", np.ones((4, 8, 8), "u1"), "TYX", missing=missing, **options)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*frames are not in the file")
        ds = xr.open_dataset(tmp_path / "run.nd2")
    np.testing.assert_allclose(ds["T"].values, expected)
    assert ds["T"].attrs == {"units": "s", "long_name": "time since the first frame, as measured"}


def test_every_coordinate_has_units_and_a_name(tmp_path: Path) -> None:
    for name in ("missing-frames", "positions-time-stack", "time-stack-channels", "rgb"):
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*frames are not in the file")
            ds = xr.open_dataset(VARIANTS[name].write(tmp_path / "run.nd2"))
        for coordinate in ds.coords.values():
            assert {"units", "long_name"} <= set(coordinate.attrs), coordinate.name


def test_time_without_any_timing_is_a_number(tmp_path: Path) -> None:
    ds = opened(tmp_path, "TYX", (3, 8, 8), period=0.0)
    assert ds.T.values.tolist() == [0.0, 1.0, 2.0]
    assert ds.T.attrs["units"] == "1"
    assert "time" not in ds.coords


def test_space(tmp_path: Path) -> None:
    ds = opened(tmp_path, "ZYX", (3, 4, 5), pixel_size=0.25, z_step=1.5)
    assert ds.Z.values.tolist() == [0.0, 1.5, 3.0]
    assert ds.Y.values.tolist() == [0.0, 0.25, 0.5, 0.75]
    assert ds.X.values.tolist() == [0.0, 0.25, 0.5, 0.75, 1.0]
    assert {ds[dim].attrs["units"] for dim in "ZYX"} == {"µm"}
    assert ds.X.attrs["long_name"] == "X position"  # it labels the axis of a plot


def test_one_plane_of_a_loop_stays(tmp_path: Path) -> None:
    ds = opened(tmp_path, "TZYX", (2, 1, 8, 8))
    assert ds.image.dims == ("T", "Z", "Y", "X")
    assert ds.sizes["Z"] == 1
    assert ds.Z.values.tolist() == [0.0]


def test_positions(tmp_path: Path) -> None:
    stage = [(1.0, 2.0, 3.0), (4.0, 5.0, 6.0), (7.0, 8.0, 9.0)]
    ds = opened(tmp_path, "PYX", (3, 8, 8), positions=["A1", "", "A1"], stage_positions=stage)
    assert ds.P.values.tolist() == ["A1", "XYPos:1", "A1 (2)"]
    assert ds.stage_x.values.tolist() == [1.0, 4.0, 7.0]
    assert ds.stage_y.sel(P="A1 (2)").item() == 8.0
    assert ds.stage_z.attrs["units"] == "µm"


def test_channels(tmp_path: Path) -> None:
    channels = [Channel("DAPI", 450.0, 405.0, "#0033ff"), Channel("GFP"), Channel("DAPI", 600.0)]
    ds = opened(tmp_path, "CYX", (3, 8, 8), channels=channels)
    assert ds.C.values.tolist() == ["DAPI", "GFP", "DAPI (2)"]
    assert ds.emission.values[[0, 2]].tolist() == [450.0, 600.0]
    assert np.isnan(ds.emission.values[1])
    assert ds.excitation.sel(C="DAPI").item() == 405.0
    assert ds.color.values[0] == "#0033ff"
    assert ds.emission.attrs["units"] == "nm"


def test_single_channel_keeps_its_name(tmp_path: Path) -> None:
    ds = opened(tmp_path, "YX", (8, 8), channels=[Channel("Cy5", 670.0)])
    assert ds.image.dims == ("Y", "X")
    assert ds.C.item() == "Cy5"
    assert ds.emission.item() == 670.0


def test_colour_samples(tmp_path: Path) -> None:
    write_nd2(tmp_path / "rgb.nd2", np.zeros((4, 5, 4), "uint8"), "YXS")
    ds = xr.open_dataset(tmp_path / "rgb.nd2")
    assert ds.S.values.tolist() == ["Red", "Green", "Blue", "Alpha"]


def test_missing_frames_are_marked(tmp_path: Path) -> None:
    path = VARIANTS["missing-frames"].write(tmp_path / "run.nd2")
    with pytest.warns(UserWarning, match=r"run.nd2: 2 of 8 frames .* frame_valid") as warned:
        ds = xr.open_dataset(path)
    assert len(warned) == 1
    assert warned[0].filename == __file__
    assert ds.frame_valid.dims == ("T", "Z")
    assert np.flatnonzero(~ds.frame_valid.values).tolist() == [3, 6]
    valid = ds.image.where(ds.frame_valid, drop=False)
    assert np.isnan(valid.values[1, 1]).all()


def test_missing_frames_can_raise(tmp_path: Path) -> None:
    path = VARIANTS["missing-frames"].write(tmp_path / "run.nd2")
    with pytest.warns(UserWarning, match="cannot be read"):
        ds = xr.open_dataset(path, missing_frames="raise")
    assert ds.image.isel(T=0).load().any()
    with pytest.raises(ValueError, match="run.nd2: 1 of the frames .* number 3"):
        ds.image.isel(T=1).load()


def test_attributes_are_plain(tmp_path: Path) -> None:
    ds = opened(
        tmp_path, "TYX", (2, 8, 8), bits_significant=12, text_info={"description": "A\nrun"}
    )
    assert ds.attrs["source"] == str(tmp_path / "run.nd2") == ds.encoding["source"]
    assert ds.attrs["description"] == "A\nrun"
    assert ds.image.attrs["bits_significant"] == 12
    for attrs in (ds.attrs, ds.image.attrs, *(c.attrs for c in ds.coords.values())):
        assert json.loads(json.dumps(attrs)) == attrs
    with nd2.ND2File(tmp_path / "run.nd2") as file:
        full = json.loads(ds.attrs["nd2_metadata"])
        assert full["attributes"]["sequenceCount"] == file.attributes.sequenceCount
        assert full["experiment"][0]["count"] == 2


@pytest.mark.parametrize("name", ["time-stack-channels", "rgb", "positions", "missing-frames"])
@pytest.mark.filterwarnings("ignore:.*frames are not in the file")
def test_saves_as_zarr_and_netcdf(name: str, tmp_path: Path) -> None:
    path = VARIANTS[name].write(tmp_path / "run.nd2")
    for chunks in CHUNKS:
        ds = xr.open_dataset(path, chunks=chunks)
        ds.to_zarr(tmp_path / "run.zarr", mode="w", zarr_format=2, consolidated=True)
        ds.to_netcdf(tmp_path / "run.nc")
        for saved in (tmp_path / "run.zarr", tmp_path / "run.nc"):
            with xr.open_dataset(saved) as copy:
                xr.testing.assert_equal(copy.load(), ds.load())


@pytest.mark.corpus
def test_real_labels(corpus: Path) -> None:
    ds = xr.open_dataset(corpus / "cluster.nd2")
    assert ds.C.values.tolist() == ["5-FAM/pH 9.0", "FM 4-64/2% CHAPS"]
    assert ds.emission.values.tolist() == [525.0, 700.0]
    assert ds.Z.values.tolist() == (np.arange(10) * 0.5).tolist()
    # The file states no period; its frames were taken ten seconds apart.
    np.testing.assert_allclose(ds.T.values, [0, 10.64, 21.3], atol=0.05)
    assert ds.time.shape == (3, 10)
    assert ds.attrs["optics"] == "Plan Apo λ 60x"
    ds = xr.open_dataset(corpus / "example-timelapse.nd2")
    np.testing.assert_allclose(ds.T.diff("T"), 0.50016, rtol=1e-5)
    assert ds.C.item() == "GFP 488 nm"


@pytest.mark.corpus
@pytest.mark.filterwarnings("ignore:.*frames are not in the file")
def test_real_space_equals_nd2(corpus: Path) -> None:
    for path in corpus.glob("*.nd2"):
        ds = xr.open_dataset(path)
        with nd2.ND2File(path) as file:
            reference = file.to_xarray()
        for dim in {"C", "S"} & set(reference.dims):
            np.testing.assert_array_equal(ds[dim].values, reference[dim].values)
        for dim in {"Z", "Y", "X"} & set(reference.dims):
            np.testing.assert_allclose(ds[dim].values, reference[dim].values, rtol=0, atol=1e-9)
        if "T" in ds.dims:
            assert (np.diff(ds["T"].values) > 0).all()
