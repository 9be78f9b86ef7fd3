"""Coordinates, units and attributes of whole files."""

from __future__ import annotations

import json
import re
import warnings
from typing import TYPE_CHECKING, Any

import nd2
import numpy as np
import pytest
import xarray as xr

from tests.variants import VARIANTS
from xarray_nd2.testing import Channel, RangeServer, write_nd2
from xarray_nd2.testing.channel import MODALITY_BITS

if TYPE_CHECKING:
    from pathlib import Path


CHUNKS: tuple[dict[str, int] | None, ...] = (None, {})
LASERS = [
    Channel("DAPI", 450.0, 405.0, "#0033ff", exposure=20.0, camera="Fusion"),
    Channel("GFP", excitation=[488.0, 561.0]),
    Channel("DAPI", 600.0, pinhole=38.5),
]


def opened(path: Path, dims: Any, sizes: tuple[int, ...], **options: Any) -> xr.Dataset:
    write_nd2(path / "run.nd2", np.ones(sizes, "uint16"), dims, **options)
    return xr.open_dataset(path / "run.nd2")


@pytest.mark.parametrize("step", [0.05, 0.1, 0.3, 0.7, 1.1, 1 / 3])
def test_labels_are_found_as_they_are_written(step: float, tmp_path: Path) -> None:
    count = 1000
    ds = opened(tmp_path, "TZYX", (count, 61, 1, 60), period=step, z_step=step, pixel_size=step)
    assert ds["T"].values.tolist() == [round(i * step, 9) for i in range(count)]
    assert ds["Z"].values.tolist() == [round(i * step, 9) for i in range(-30, 31)]
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


def test_a_stack_from_top_to_bottom(tmp_path: Path) -> None:
    stage = [(1.0, 2.0, 100.0)]
    ds = opened(tmp_path, "ZYX", (5, 4, 5), z_step=-1.5, z_home=1, stage_positions=stage)
    assert ds.Z.values.tolist() == [1.5, 0.0, -1.5, -3.0, -4.5]
    assert ds.stage_z.values.tolist() == [101.5, 100.0, 98.5, 97.0, 95.5]
    assert ds.image.sel(Z=slice(0, -3)).sizes["Z"] == 3


def test_heights_as_recorded(tmp_path: Path) -> None:
    heights = [100.0 + number for number in range(12)]
    ds = opened(tmp_path, "TZYX", (3, 4, 4, 5), recorded={"X": [7.0] * 12, "Z": heights})
    assert ds.stage_z.dims == ("Z",)
    assert ds.stage_z.values.tolist() == heights[:4]
    assert ds.stage_z.attrs["comment"] == "as recorded"
    ds = opened(tmp_path, "PTZYX", (2, 2, 3, 4, 5), recorded={"Z": heights})
    assert ds.stage_z.dims == ("P", "Z")
    assert ds.stage_z.values.tolist() == [heights[:3], heights[6:9]]


def test_heights_of_points_that_set_them(tmp_path: Path) -> None:
    stage = [(1.0, 2.0, 10.0), (3.0, 4.0, 20.0)]
    options = {"stage_positions": stage, "z_step": 2.0}
    ds = opened(tmp_path, "PZYX", (2, 3, 4, 5), **options)
    assert ds.stage_z.transpose("P", "Z").values.tolist() == [[8, 10, 12], [18, 20, 22]]
    ds = opened(tmp_path, "PZYX", (2, 3, 4, 5), use_point_z=False, **options)
    assert ds.stage_z.dims == ("Z",)
    assert ds.stage_z.values.tolist() == [8, 10, 12]


def test_time_starts_at_the_first_frame(tmp_path: Path) -> None:
    times = [0.445 + 2.0 * step + plane for step in range(3) for plane in (0.0, 0.25)]
    start = "2024-05-06T07:08:09.250"
    ds = opened(tmp_path, "TZYX", (3, 2, 8, 8), period=2.0, timestamps=times, start=start)
    assert ds.T.values.tolist() == [0.0, 2.0, 4.0]
    assert ds.time.dims == ds.acquired.dims == ("T", "Z")
    assert ds.time.values.tolist() == [[0.0, 0.25], [2.0, 2.25], [4.0, 4.25]]
    expected = np.datetime64(start, "ms") + (ds.time.values * 1000).astype("timedelta64[ms]")
    assert (np.abs(ds.acquired.values - expected) < np.timedelta64(1, "ms")).all()
    assert ds.attrs["start"] == start + "Z"


def test_frames_beyond_the_loops_stay(tmp_path: Path) -> None:
    pixels = np.arange(7 * 2 * 4 * 5, dtype="uint16").reshape(7, 2, 4, 5)
    path = tmp_path / "run.nd2"
    write_nd2(path, pixels, "TZYX", planned={"T": 5}, missing=[13])
    with pytest.warns(UserWarning, match="run.nd2: ") as warned:
        ds = xr.open_dataset(path)
    messages = sorted(str(warning.message) for warning in warned)
    assert len(messages) == 2
    assert "1 of 14 frames are not in the file" in messages[0]
    assert "there are 13 frames" in messages[1]
    assert ds.sizes["T"] == 7
    assert ds.T.values.tolist() == [0, 1, 2, 3, 4, 5, 6]
    assert np.flatnonzero(~ds.frame_valid.values.ravel()).tolist() == [13]
    pixels[6, 1] = 0
    np.testing.assert_array_equal(ds.image.values[:, :, 0], pixels)


def test_second_loops_and_loops_of_other_kinds(tmp_path: Path) -> None:
    sizes = {"T": 2, "P": 2, "P2": 3, "U": 2, "C": 1, "Y": 4, "X": 5}
    places = {"P": [(1.0, 2.0, 3.0)] * 2, "P2": [(4.0, 5.0, 6.0), (7.0, 8.0, 9.0), (0.0, 1.0, 2.0)]}
    names = {"P": ["well A", "well B"], "P2": ["left", "left", ""]}
    ds = opened(
        tmp_path,
        list(sizes),
        tuple(sizes.values()),
        stage_positions=places,
        positions=names,
    )
    assert dict(ds.image.sizes) == sizes
    assert ds.P2.values.tolist() == ["left", "left (2)", "XYPos:2"]
    assert ds.position_name2.values.tolist() == ["left", "left", ""]
    assert ds.stage_x2.values.tolist() == [4.0, 7.0, 0.0]
    assert ds.stage_x.values.tolist() == [1.0, 1.0]
    assert ds.U.values.tolist() == [0, 1]


@pytest.mark.parametrize("kind", [3, 5, 9])
def test_a_loop_of_an_unknown_kind(kind: int, tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match=f"run.nd2: .* of the kind {kind}, which is not known"):
        ds = opened(tmp_path, ["U", "Z", "Y", "X"], (4, 2, 8, 8), loop_kinds={"U": kind})
    assert ds.image.dims == ("U", "Z", "C", "Y", "X")
    assert ds.Z.values.tolist() == [0.0, 1.0]


def test_several_sites_of_a_well(tmp_path: Path) -> None:
    stage = [(1.0, 2.0, 3.0), (4.0, 5.0, 6.0), (7.0, 8.0, 9.0)]
    ds = opened(tmp_path, "PYX", (3, 8, 8), positions=["A1", "", "A1"], stage_positions=stage)
    assert ds.P.values.tolist() == ["A1", "XYPos:1", "A1 (2)"]
    assert ds.position_name.values.tolist() == ["A1", "", "A1"]
    assert ds.image.where(ds.position_name == "A1", drop=True).sizes["P"] == 2
    assert ds.stage_x.values.tolist() == [1.0, 4.0, 7.0]
    assert ds.stage_y.sel(P="A1 (2)").item() == 8.0
    assert ds.stage_z.values.tolist() == [3.0, 6.0, 9.0]


def test_points_that_were_skipped_do_not_count(tmp_path: Path) -> None:
    stage = [(float(number), 0.0, 0.0) for number in range(4)]
    ds = opened(tmp_path, "PYX", (3, 8, 8), stage_positions=stage, skipped_points=[1])
    assert ds.stage_x.values.tolist() == [0.0, 2.0, 3.0]


def test_channels(tmp_path: Path) -> None:
    ds = opened(tmp_path, "CYX", (3, 8, 8), channels=LASERS)
    assert ds.C.values.tolist() == ["DAPI", "GFP", "DAPI (2)"]
    np.testing.assert_array_equal(ds.emission.values, [450.0, np.nan, 600.0])
    np.testing.assert_array_equal(ds.excitation.values, [405.0, np.nan, np.nan])
    np.testing.assert_array_equal(ds.exposure.values, [20.0, np.nan, np.nan])
    np.testing.assert_array_equal(ds.pinhole.values, [np.nan, np.nan, 38.5])
    assert ds.color.values[0] == "#0033ff"
    assert ds.camera.values.tolist() == ["Fusion", "", ""]
    units = {name: ds[name].attrs["units"] for name in ("emission", "excitation", "exposure")}
    assert units == {"emission": "nm", "excitation": "nm", "exposure": "ms"}


def test_modalities_are_read_by_the_words_they_are_written_with(tmp_path: Path) -> None:
    for word in MODALITY_BITS:
        ds = opened(tmp_path, "YX", (8, 8), channels=[Channel("A", modality=word)])
        assert ds.modality.values.tolist() == [word]
    several = ["fluorescence", "laser scanning confocal", "GaAsP"]
    ds = opened(tmp_path, "YX", (8, 8), channels=[Channel("A", modality=several)])
    assert ds.modality.values.tolist() == [", ".join(several)]


def test_a_single_channel_is_a_dimension(tmp_path: Path) -> None:
    ds = opened(tmp_path, "YX", (8, 8), channels=[Channel("Cy5", 670.0)])
    assert ds.image.dims == ("C", "Y", "X")
    assert ds.C.values.tolist() == ["Cy5"]
    assert ds.emission.sel(C="Cy5").item() == 670.0


@pytest.mark.parametrize("chunks", CHUNKS)
@pytest.mark.parametrize("samples", [3, 4])
@pytest.mark.parametrize("channels", [1, 2, 4])
def test_colour_is_red_green_blue(channels: int, samples: int, chunks: Any, tmp_path: Path) -> None:
    pixels = np.arange(2 * channels * 6 * 7 * samples).reshape(2, channels, 6, 7, samples)
    path = tmp_path / "rgb.nd2"
    for options in ({}, {"compression": "lossless"}, {"row_alignment": 64}, {"version": (2, 1)}):
        write_nd2(path, pixels.astype("uint16"), "TCYXS", **options)
        ds = xr.open_dataset(path, chunks=chunks)
        assert ds.image.dims == ("T", "C", "Y", "X", "S")
        assert ds.S.values.tolist() == ["Red", "Green", "Blue", "Alpha"][:samples]
        np.testing.assert_array_equal(ds.image.values, pixels)
        for name, number in (("Red", 0), ("Blue", 2)):
            one = ds.image.sel(S=name).isel(Y=slice(1, 4), X=slice(5, 0, -2))
            np.testing.assert_array_equal(one.values, pixels[..., 1:4, 5:0:-2, number])
        some = ds.image.sel(S=["Green", "Red"])
        np.testing.assert_array_equal(some.values, pixels[..., [1, 0]])
        points = ds.image.isel(
            S=xr.DataArray([2, 0], dims="n"), X=xr.DataArray([3, 1], dims="n"), T=1
        )
        expected = np.stack([pixels[1, :, :, 3, 2], pixels[1, :, :, 1, 0]])
        np.testing.assert_array_equal(points.transpose("n", "C", "Y").values, expected)


def test_colour_is_stored_blue_first(tmp_path: Path) -> None:
    path = tmp_path / "rgb.nd2"
    write_nd2(path, np.array([[[10, 20, 30]]], "uint8"), "YXS")
    assert bytes([30, 20, 10]) in path.read_bytes()
    assert bytes([10, 20, 30]) not in path.read_bytes()
    assert nd2.imread(path)[..., ::-1].ravel().tolist() == [10, 20, 30]


@pytest.mark.parametrize("chunks", CHUNKS)
def test_colour_and_mono_in_one_file(chunks: Any, tmp_path: Path) -> None:
    pixels = np.random.default_rng(3).integers(0, 999, (2, 4, 6, 7)).astype("uint16")
    path = tmp_path / "mixed.nd2"
    channels = [Channel("Brightfield", components=3), Channel("DAPI", 450.0, 405.0)]
    write_nd2(path, pixels, "TCYX", channels=channels)
    ds = xr.open_dataset(path, chunks=chunks)
    names = ["Brightfield Red", "Brightfield Green", "Brightfield Blue", "DAPI"]
    assert ds.C.values.tolist() == names
    assert "S" not in ds.dims
    np.testing.assert_array_equal(ds.image.values, pixels)
    blue = ds.image.sel(C="Brightfield Blue").isel(Y=slice(2, 5))
    np.testing.assert_array_equal(blue.values, pixels[:, 2, 2:5])
    np.testing.assert_array_equal(ds.image.isel(C=[3, 0]).values, pixels[:, [3, 0]])
    np.testing.assert_array_equal(ds.excitation.values, [np.nan, np.nan, np.nan, 405.0])


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
    with pytest.raises(ValueError, match="run.nd2: 1 of the frames .* frame 3"):
        ds.image.isel(T=1).load()


@pytest.mark.parametrize("chunks", CHUNKS)
def test_labels_are_in_memory_and_shown(chunks: Any, tmp_path: Path) -> None:
    path = tmp_path / "run.nd2"
    times = np.arange(6) * 1.5
    write_nd2(
        path,
        np.ones((2, 3, 3, 8, 8), "u2"),
        "TZCYX",
        channels=LASERS,
        timestamps=times,
        start="2024-05-06",
    )
    ds = xr.open_dataset(path, chunks=chunks)
    assert all(isinstance(each.variable.data, np.ndarray) for each in ds.coords.values())
    assert "450.0 nan 600.0" in repr(ds.emission.coords)
    assert "dask" not in repr(ds.coords)
    kept = ds.image.where(ds.emission > 500, drop=True)
    assert kept.C.values.tolist() == ["DAPI (2)"]
    assert [color for color, _ in ds.image.groupby("color")] == ["#0033ff", "#ffffff"]
    assert ds.sel(T=1.5 * 3).image.sizes["Z"] == 3
    # They are the user's to change, and a copy is a copy.
    copy = ds.copy(deep=True)
    copy["emission"][0] = 1.0
    copy.coords["emission"] = copy.emission * 2
    assert copy.emission.values[0] == 2.0
    assert ds.emission.values[0] == 450.0
    assert type(copy.emission.variable) is type(ds.emission.variable) is xr.Variable


def test_units_and_names(tmp_path: Path) -> None:
    for name in ("missing-frames", "positions-time-stack", "time-stack-channels", "rgb"):
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*frames are not in the file")
            ds = xr.open_dataset(VARIANTS[name].write(tmp_path / "run.nd2"))
        for coordinate in ds.coords.values():
            assert 0 < len(coordinate.attrs["long_name"]) < 35, coordinate.name
            is_number = coordinate.dtype.kind in "fi"
            assert ("units" in coordinate.attrs) == is_number, coordinate.name
        for dim in {"T", "Z", "Y", "X"} & set(ds.dims):
            assert ds[dim].attrs["axis"] == dim


def test_attributes_are_plain(tmp_path: Path) -> None:
    turned = [0.0, -1.0, 1.0, 0.0]
    ds = opened(
        tmp_path,
        "TYX",
        (2, 8, 8),
        bits_significant=12,
        text_info={"description": "A\r\nrun\rof\ntwo"},
        camera_to_stage=turned,
        start="2024-05-06T07:08:09",
    )
    assert ds.attrs["source"] == str(tmp_path / "run.nd2") == ds.encoding["source"]
    assert ds.attrs["title"] == "run.nd2"
    assert ds.attrs["file_bytes"] == (tmp_path / "run.nd2").stat().st_size
    assert ds.attrs["description"] == "A\nrun\nof\ntwo"
    assert ds.attrs["start"] == "2024-05-06T07:08:09.000Z"
    assert list(ds.attrs)[-1] == "nd2_metadata"
    assert ds.image.attrs["bits_significant"] == 12
    assert ds.image.attrs["camera_to_stage"] == turned
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
        check_saving(xr.open_dataset(path, chunks=chunks), tmp_path)


def check_saving(ds: xr.Dataset, folder: Path) -> None:
    """Check that what is saved opens as it was, attributes included."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Consolidated metadata|The data type|The codec")
        for version in (2, 3):
            ds.to_zarr(folder / "run.zarr", mode="w", zarr_format=version)
            with xr.open_zarr(folder / "run.zarr") as copy:
                xr.testing.assert_identical(copy.load(), ds.load())
    ds.to_netcdf(folder / "run.nc")
    with xr.open_dataset(folder / "run.nc") as copy:
        xr.testing.assert_identical(copy.load(), ds.load())


@pytest.mark.filterwarnings("ignore:.*frames are not in the file")
def test_units_are_understood_by_others(tmp_path: Path) -> None:
    pytest.importorskip("cf_xarray", reason="needs cf-xarray, of the extra 'test'")
    pytest.importorskip("pint_xarray", reason="needs pint-xarray, of the extra 'test'")
    for name in ("time-stack-channels", "rgb", "missing-frames", "positions"):
        check_units(xr.open_dataset(VARIANTS[name].write(tmp_path / "run.nd2"), chunks={}))


def check_units(ds: xr.Dataset) -> None:
    """Check that cf-xarray finds the axes, and pint the units."""
    for dim in {"T", "Z", "Y", "X"} & set(ds.dims):
        assert ds.cf.axes[dim] == [dim]
    quantified = ds.pint.quantify()
    assert quantified.emission.pint.to("µm").data.units == "micrometer"
    assert quantified.exposure.data.units == "millisecond"


# What is true of the real files, by sources other than nd2: the vendor's screenshots, the state of
# the lasers and the recorded columns in the files, and the description that NIS-Elements writes.
REAL: dict[str, dict[str, Any]] = {
    "cluster": {
        "T": [0.0, 10.64, 21.3],
        "Z": [-2.0 + 0.5 * plane for plane in range(10)],
        "stage_z": [3914.3375 + 0.5 * plane for plane in range(10)],
        "C": ["5-FAM/pH 9.0", "FM 4-64/2% CHAPS"],
        "emission": [525.0, 700.0],
        "excitation": [np.nan, np.nan],  # both lasers were on for both
        "exposure": [996.9976] * 2,
        "pinhole": [38.3142] * 2,
        "start": "2014-06-18T13:55:23",
    },
    "example-timelapse": {
        "T": [0.50016 * step for step in range(53)],
        "C": ["GFP 488 nm"],
        "excitation": [488.0],
        "exposure": [500.0],
        "binning": [2.0],
        "stage_z": 5677.42,
        "start": "2025-03-27T23:22:35",
    },
    "example-zstack": {
        "Z": [-30.0 + 6 * plane for plane in range(11)],
        "stage_z": [8806.58 + 6 * plane for plane in range(11)],
        "C": ["FITC BP"],
        "excitation": [488.0],
        "exposure": [500.0],
        "start": "2025-03-07T22:37:55",
    },
    "example-multichannel": {
        "C": ["Mono", "DAPI", "FITC BP", "TRITC BP"],
        "excitation": [np.nan, 405.0, 488.0, 561.0],  # the first by a white lamp
        "emission": [np.nan, 450.0, 512.0, 595.0],
        "exposure": [20.0, 1000.0, 1000.0, 1000.0],
        "laser_power": [np.nan, 84.0336, 95.6938, 33.4734],
        "stage_x": 31650.69,
        "stage_y": -32211.2068,
        "stage_z": 9009.0,  # the recorded columns are zeros
        "start": "2025-04-17T23:39:00",
    },
    "ga3-children-node-rgb": {
        "S": ["Red", "Green", "Blue"],
        "excitation": [np.nan],
        "emission": [np.nan],
        "start": "2024-07-12T10:28:32",
    },
    "ds-ri2-rgb-padded": {
        "S": ["Red", "Green", "Blue"],
        "C": ["Brightfield"],
        "exposure": [0.6],
        "excitation": [np.nan],
        "start": "2021-02-04T18:58:26",
    },
    "lim-padded-rows": {"T": [0.0, 0.15, 0.3], "Z": [-0.5, 0.0, 0.5, 1.0]},
    "lim-missing-frames": {"T": [0.0, 0.15, 0.3, 0.45], "Z": [0.0, 0.5]},
    "lim-lossless": {"T": [0.0, 0.15, 0.3]},
    "lim-pyramid": {"T": [0.0, 0.15]},
}


@pytest.mark.corpus
@pytest.mark.filterwarnings("ignore:.*frames are not in the file")
@pytest.mark.parametrize("chunks", CHUNKS)
@pytest.mark.parametrize("name", REAL)
def test_real_labels(name: str, chunks: Any, corpus: Path) -> None:
    ds = xr.open_dataset(corpus / f"{name}.nd2", chunks=chunks)
    expected = dict(REAL[name])
    start = expected.pop("start", None)
    assert ds.attrs.get("start", "none")[:19] == (start or "none")
    for label, values in expected.items():
        found = ds[label].values
        if np.asarray(values).dtype.kind == "f":
            np.testing.assert_allclose(found, values, rtol=0, atol=1e-3 if label != "T" else 5e-3)
        else:
            assert found.tolist() == values
    for dim in {"T", "Z", "Y", "X"} & set(ds.dims):
        steps = np.diff(ds[dim].values)
        assert (steps > 0).all() or (dim == "Z" and (steps < 0).all())
    assert ds.indexes["C"].is_unique


def recorded(path: Path, chunk: bytes) -> np.ndarray:
    """A table of a file, as its bytes have it."""
    data = path.read_bytes()
    location = int.from_bytes(data[-8:], "little")
    entry = data.index(chunk, location) + len(chunk)
    offset, length = (int.from_bytes(data[entry + at :][:8], "little") for at in (0, 8))
    name_length = int.from_bytes(data[offset + 4 :][:4], "little")
    return np.frombuffer(data, "<f8", length // 8, offset + 16 + name_length)


@pytest.mark.corpus
@pytest.mark.parametrize("name", ["example-zstack", "example-timelapse"])
def test_heights_are_those_of_the_recorded_column(name: str, corpus: Path) -> None:
    path = corpus / f"{name}.nd2"
    ds = xr.open_dataset(path)
    column = recorded(path, b"CustomData|Z!")
    np.testing.assert_allclose(ds.stage_z, column[: ds.stage_z.size].squeeze(), rtol=0, atol=1e-3)
    if "Z" in ds.dims:
        assert (np.sign(ds.Z.diff("Z")) == np.sign(ds.stage_z.diff("Z"))).all()


@pytest.mark.corpus
@pytest.mark.parametrize("name", ["cluster", "example-zstack", "example-timelapse"])
def test_times_are_those_of_the_table(name: str, corpus: Path) -> None:
    path = corpus / f"{name}.nd2"
    ds = xr.open_dataset(path)
    table = recorded(path, b"CustomData|AcqTimesCache!")
    since = (table - table[0]) / 1000
    np.testing.assert_allclose(ds.time.values.ravel(), since, rtol=0, atol=1e-6)
    apart = (ds.acquired - ds.acquired.values.flat[0]).values.ravel() / np.timedelta64(1, "ms")
    np.testing.assert_allclose(apart, since * 1000, rtol=0, atol=1e-3)
    # The text has the local time, to the second, at which the acquisition ended.
    local = re.search(r"(\d+):(\d\d):(\d\d)", ds.attrs["date"])
    assert local is not None
    start = ds.acquired.values.flat[0].astype("datetime64[s]").item()
    seconds = 60 * (int(local[2]) - start.minute) + int(local[3]) - start.second
    assert 0 <= seconds < 90
    if "T" in ds.dims:
        along = ds.time.isel(Z=0) if "Z" in ds.dims else ds.time
        np.testing.assert_allclose(ds["T"].values, along.values, rtol=0, atol=0.05)


@pytest.mark.corpus
@pytest.mark.parametrize("way", ["lazy", "dask", "http"])
def test_real_colours_are_those_on_the_screen(way: str, corpus: Path, http: RangeServer) -> None:
    path = corpus / "ga3-children-node-rgb.nd2"
    target = str(path)
    if way == "http":
        http.put(path.name, path.read_bytes())
        target = http.url(path.name)
    ds = xr.open_dataset(target, engine="nd2", chunks={} if way == "dask" else None)
    means = {name: float(ds.image.sel(S=name).mean()) for name in ("Red", "Green", "Blue")}
    assert means == pytest.approx({"Red": 210.8, "Green": 167.9, "Blue": 110.6}, abs=0.2)


@pytest.mark.corpus
@pytest.mark.filterwarnings("ignore:.*frames are not in the file")
@pytest.mark.parametrize("name", REAL)
def test_real_files_save_and_have_units(name: str, corpus: Path, tmp_path: Path) -> None:
    check_saving(xr.open_dataset(corpus / f"{name}.nd2"), tmp_path)
    pytest.importorskip("cf_xarray", reason="needs cf-xarray, of the extra 'test'")
    pytest.importorskip("pint_xarray", reason="needs pint-xarray, of the extra 'test'")
    check_units(xr.open_dataset(corpus / f"{name}.nd2", chunks={}))


@pytest.mark.corpus
@pytest.mark.filterwarnings("ignore:.*frames are not in the file")
def test_real_space_equals_nd2_where_it_is_right(corpus: Path) -> None:
    for path in corpus.glob("*.nd2"):
        ds = xr.open_dataset(path)
        with nd2.ND2File(path) as file:
            reference = file.to_xarray()
        for dim in {"Y", "X"} & set(reference.dims):
            np.testing.assert_allclose(ds[dim].values, reference[dim].values, rtol=0, atol=1e-9)
        if "Z" in reference.dims:
            above_first = ds.Z - ds.Z[0]
            np.testing.assert_allclose(above_first, reference["Z"].values, rtol=0, atol=1e-9)
        if "C" in reference.dims:
            assert ds.C.values.tolist() == reference["C"].values.tolist()
