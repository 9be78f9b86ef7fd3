"""What becomes of pixels, labels and attributes of files that are joined, and which do not fit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import xarray as xr

from tests.many.runs import CHANNELS, SIZES, opened, pixels, write_run
from xarray_nd2 import open_many

if TYPE_CHECKING:
    from pathlib import Path

DAY_SECONDS = 86400.0


def start(second: int, day: int = 15) -> dict[str, Any]:
    return {"start": f"2026-01-{day}T09:30:{second:02d}"}


def check_all_labels(joined: xr.Dataset, dim: str, paths: list[Path], changed: set[str]) -> None:
    """At the steps of each file, all labels that are not of the first file are those of the file."""
    begin = 0
    for path in paths:
        alone = opened(path)
        size = alone.sizes.get(dim, 1)
        part = joined.isel({dim: slice(begin, begin + size)})
        begin += size
        np.testing.assert_array_equal(
            part.image, alone.image if dim in alone.dims else alone.image.expand_dims(dim)
        )
        for name, label in alone.coords.items():
            if name not in changed:
                found = part[name].variable
                sizes = {str(each): part.sizes[each] for each in found.dims}
                expected = label.variable.set_dims(sizes).transpose(*sizes)
                assert expected.to_base_variable().equals(found.to_base_variable()), name
    assert begin == joined.sizes[dim]


def test_time_goes_on(tmp_path: Path) -> None:
    """In the order of dates, whatever the order of the list."""
    paths = [
        write_run(tmp_path / "first.nd2", **start(10)),
        write_run(tmp_path / "second.nd2", **start(15), average_period=1.01),
        write_run(tmp_path / "third.nd2", SIZES | {"T": 2}, **start(10, day=16)),
    ]
    ds = open_many([paths[2], paths[0], paths[1]], "T")
    expected = [0, 1, 2, 5, 6.01, 7.02, DAY_SECONDS, DAY_SECONDS + 1]
    assert ds["T"].values.tolist() == expected
    assert ds["T"].attrs["comment"].startswith("since the first frame of all files")
    assert (ds["T"].attrs["units"], ds["T"].attrs["axis"]) == ("s", "T")
    np.testing.assert_allclose(ds.time.isel(Z=1), np.array(expected) + 0.01, rtol=0, atol=1e-9)
    assert ds["file"].values.tolist() == ["first.nd2"] * 3 + ["second.nd2"] * 3 + ["third.nd2"] * 2
    assert ds.attrs["start"] == opened(paths[0]).attrs["start"] == "2026-01-15T09:30:10.000Z"
    assert not {"title", "source"} & set(ds.attrs)
    assert ds.attrs["format"] == "ND2 3.0"
    elapsed = (ds.acquired - ds.acquired[0, 0]) / np.timedelta64(1, "ns") / 1e9
    np.testing.assert_allclose(elapsed, ds.time, rtol=0, atol=1e-4)
    pixels_of = [pixels(p.name, SIZES | {"T": n}) for p, n in zip(paths, (3, 3, 2), strict=True)]
    np.testing.assert_array_equal(ds.image, np.concatenate(pixels_of))
    check_all_labels(ds, "T", paths, {"T", "time"})
    xr.testing.assert_equal(ds.image.sel(T=6.01).load(), ds.image.isel(T=4).load())


def test_single_frames_become_time_points(tmp_path: Path) -> None:
    sizes = {"C": 2, "Y": 8, "X": 10}
    paths = [write_run(tmp_path / f"t{i}.nd2", sizes, **start(20 * i)) for i in range(3)]
    ds = open_many(paths[::-1], "T")
    assert ds.image.dims == ("T", "C", "Y", "X")
    assert ds["T"].values.tolist() == ds.time.values.tolist() == [0, 20, 40]
    assert ds.acquired.dims == ("T",)
    np.testing.assert_array_equal(ds.image, np.stack([pixels(p.name, sizes) for p in paths]))


def test_start_stands_in_for_a_table_of_times(tmp_path: Path) -> None:
    for i in range(2):
        write_run(tmp_path / f"{i}.nd2", timestamps=None, **start(10 * i))
    ds = open_many(f"{tmp_path}/*.nd2", "T")
    assert ds["T"].values.tolist() == [0, 1, 2, 10, 11, 12]


def test_lacking_dates(tmp_path: Path) -> None:
    write_run(tmp_path / "a.nd2")
    write_run(tmp_path / "b.nd2", start=None)
    with pytest.raises(ValueError, match="b.nd2 does not say when it was taken"):
        open_many(f"{tmp_path}/*.nd2", "T")


def test_time_points_without_times_are_counted(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_run(tmp_path / f"{name}.nd2", timestamps=None, period=0.0, start=None)
    ds = open_many(f"{tmp_path}/*.nd2", "T")
    assert ds["T"].values.tolist() == [0, 1, 2, 3, 4, 5]
    assert ds["T"].attrs["units"] == "1"


def test_overlap_in_time(tmp_path: Path) -> None:
    write_run(tmp_path / "a.nd2", **start(10))
    write_run(tmp_path / "b.nd2", **start(12))
    with pytest.raises(ValueError, match=r"b.nd2 begins before a.nd2 ends, 2 s and 2 s"):
        open_many(f"{tmp_path}/*.nd2", "T")


@pytest.mark.filterwarnings("ignore:.*are not in the file")
@pytest.mark.parametrize("dim", ["T", "file"])
def test_missing_frames_of_one_file(dim: str, tmp_path: Path) -> None:
    paths = [
        write_run(tmp_path / "a.nd2", **start(0)),
        write_run(tmp_path / "b.nd2", **start(10), missing=[3, 5]),
        write_run(tmp_path / "c.nd2", **start(20)),
    ]
    ds = open_many(paths, dim)
    valid = np.ones((3, 3, 2), bool)
    valid[1, 1, 1] = valid[1, 2, 1] = False
    assert ds.frame_valid.dims == (("T", "Z") if dim == "T" else ("file", "T", "Z"))
    assert ds.frame_valid.dtype == bool
    np.testing.assert_array_equal(ds.frame_valid.values.reshape(3, 3, 2), valid)
    changed = {"T", "time", "frame_valid"} if dim == "T" else {"T", "frame_valid"}
    check_all_labels(ds, dim, paths, changed)


def test_new_dimension(tmp_path: Path) -> None:
    """The labels of the plan are those of the first file, and what was measured is each file's own."""
    paths = [
        write_run(tmp_path / "a.nd2", average_period=1.0, stage_positions=[(1, 2, 3)]),
        write_run(
            tmp_path / "b.nd2", average_period=1.02, stage_positions=[(4, 2, 3)], **start(1, 16)
        ),
    ]
    ds = open_many(paths, "run")
    assert ds["run"].values.tolist() == ds["file"].values.tolist() == ["a.nd2", "b.nd2"]
    assert ds["T"].values.tolist() == [0, 1, 2]
    assert ds.time.dims == ds.acquired.dims == ("run", "T", "Z")
    assert ds.time.isel(run=1, Z=0).values.tolist() == [0, 1.02, 2.04]
    assert ds.stage_x.dims == ("run",)
    assert ds.stage_x.values.tolist() == [1, 4]
    assert ds.stage_y.dims == ()
    assert ds.emission.dims == ("C",)
    assert ds.attrs["start"] == "2026-01-15T09:30:00.000Z"
    check_all_labels(ds, "run", paths, {"T"})


def test_settings_that_differ(tmp_path: Path) -> None:
    paths = [write_run(tmp_path / "a.nd2")]
    paths.append(write_run(tmp_path / "b.nd2", channels=[CHANNELS[0], "GFP"]))
    ds = open_many(paths, "file")
    assert ds.exposure.dims == ("file", "C")
    assert ds.modality.dims == ("C",)
    np.testing.assert_array_equal(ds.exposure, [[50, 20], [50, np.nan]])
    check_all_labels(ds, "file", paths, {"T"})


def test_label_that_only_some_have(tmp_path: Path) -> None:
    paths = [write_run(tmp_path / "a.nd2"), write_run(tmp_path / "b.nd2", timestamps=None)]
    ds = open_many(paths, "file")
    assert np.isnan(ds.time.isel(file=1)).all()
    assert np.isnat(ds.acquired.isel(file=1)).all()
    assert ds.time.isel(file=0, Z=0).values.tolist() == [0, 1, 2]


def test_positions(tmp_path: Path) -> None:
    sizes = {"T": 2, "P": 2, "Y": 8, "X": 10}
    for name, places in (("a", [(0, 0, 1), (1, 0, 2)]), ("b", [(2, 0, 3), (3, 0, 4)])):
        names = [f"{name}1", "centre"]
        write_run(tmp_path / f"{name}.nd2", sizes, positions=names, stage_positions=places)
    paths = [tmp_path / "a.nd2", tmp_path / "b.nd2"]
    ds = open_many(paths, "P")
    assert ds.image.dims == ("T", "P", "C", "Y", "X")
    assert ds["P"].values.tolist() == ["a1", "centre", "b1", "centre (2)"]
    assert ds.position_name.values.tolist() == ["a1", "centre", "b1", "centre"]
    assert ds.stage_x.values.tolist() == [0, 1, 2, 3]
    assert ds["file"].dims == ("P",)
    check_all_labels(ds, "P", paths, {"P"})


def test_files_as_positions(tmp_path: Path) -> None:
    for i in range(2):
        write_run(tmp_path / f"p{i}.nd2", stage_positions=[(i, 0, 0)])
    ds = open_many(f"{tmp_path}/*.nd2", "P")
    assert ds.image.dims[0] == "P"
    assert ds["P"].values.tolist() == ["p0.nd2", "p1.nd2"]
    assert ds.stage_x.values.tolist() == [0, 1]


def test_planes(tmp_path: Path) -> None:
    paths = [
        write_run(tmp_path / "a.nd2", z_step=0.5, z_home=0, stage_positions=[(0, 0, 100)]),
        write_run(tmp_path / "b.nd2", z_step=0.5, z_home=1, stage_positions=[(0, 0, 101.5)]),
    ]
    ds = open_many(paths, "Z")
    assert ds["Z"].values.tolist() == [0, 0.5, 1, 1.5]
    assert ds.stage_z.values.tolist() == [100, 100.5, 101, 101.5]
    assert ds["Z"].attrs["home_index"] == 0
    assert ds.image.dims == ("T", "Z", "C", "Y", "X")
    check_all_labels(ds, "Z", paths, {"Z"})
    with pytest.raises(
        ValueError, match=r"b.nd2 ends at Z = 1.5 .* a.nd2 begins .*overlap|overlap"
    ):
        open_many([paths[0], paths[0]], "Z")


def test_channels(tmp_path: Path) -> None:
    paths = [write_run(tmp_path / f"{i}.nd2", channels=[f"Ch{i}", "GFP"]) for i in range(2)]
    ds = open_many(paths, "C")
    assert ds["C"].values.tolist() == ["Ch0", "GFP", "Ch1", "GFP (2)"]
    check_all_labels(ds, "C", paths, {"C"})


def test_colour(tmp_path: Path) -> None:
    sizes = {"T": 2, "Y": 8, "X": 10, "S": 3}
    paths = [write_run(tmp_path / f"{i}.nd2", sizes, **start(10 * i)) for i in range(2)]
    ds = open_many(paths, "T")
    assert ds["S"].values.tolist() == ["Red", "Green", "Blue"]
    check_all_labels(ds, "T", paths, {"T", "time"})
    with pytest.raises(ValueError, match="along S"):
        open_many(paths, "S")


@pytest.mark.parametrize(
    ("sizes", "options", "says"),
    [
        ({"X": 5}, {}, "X has 5 pixels instead of 10"),
        ({"T": 4}, {}, "T has 4 time points instead of 3"),
        ({"C": 1}, {"channels": ["DAPI"]}, "C has 1 channels instead of 2"),
        ({}, {"channels": ["DAPI", "RFP"]}, "C is DAPI, RFP instead of DAPI, GFP"),
        ({}, {"dtype": "uint8"}, "its pixels are uint8 instead of uint16"),
        ({}, {"pixel_size": 0.6}, "Y is 4.2 instead of 3.5 at position 7; X is 5.4 instead of 4.5"),
        ({}, {"pixel_size": None}, "Y is in units of 1, a number, instead of µm"),
        ({}, {"z_step": 2.0}, "Z is 2 instead of 1"),
        ({}, {"period": 1.2}, "T is 2.4 instead of 2 at position 2"),
    ],
)
def test_misfits(sizes: dict[str, int], options: dict[str, Any], says: str, tmp_path: Path) -> None:
    given = SIZES | sizes
    write_run(tmp_path / "run1.nd2")
    write_run(tmp_path / "run2.nd2")
    if options.pop("dtype", None):
        from xarray_nd2.testing import write_nd2

        write_nd2(
            tmp_path / "run3.nd2",
            np.zeros(tuple(SIZES.values()), "uint8"),
            "TZCYX",
            channels=CHANNELS,
        )
    else:
        write_run(tmp_path / "run3.nd2", given, **options)
    with pytest.raises(ValueError, match="run3.nd2 does not fit run1.nd2: ") as caught:
        open_many(f"{tmp_path}/*.nd2", "file")
    assert says in str(caught.value)


def test_other_dimensions(tmp_path: Path) -> None:
    write_run(tmp_path / "a.nd2")
    write_run(tmp_path / "b.nd2", {"T": 3, "C": 2, "Y": 8, "X": 10})
    with pytest.raises(ValueError, match="its dimensions are T, C, Y, X instead of T, Z, C, Y, X"):
        open_many(f"{tmp_path}/*.nd2", "T")


def test_other_positions(tmp_path: Path) -> None:
    sizes = {"P": 2, "Y": 8, "X": 10}
    write_run(tmp_path / "a.nd2", sizes, positions=["A1", "A2"])
    write_run(tmp_path / "b.nd2", sizes, positions=["A1", "B2"])
    with pytest.raises(ValueError, match="b.nd2 does not fit a.nd2: P is A1, B2 instead of A1, A2"):
        open_many(f"{tmp_path}/*.nd2", "file")


def test_calibrations_that_hardly_differ(tmp_path: Path) -> None:
    write_run(tmp_path / "a.nd2", pixel_size=0.5)
    write_run(tmp_path / "b.nd2", pixel_size=0.5000001)
    ds = open_many(f"{tmp_path}/*.nd2", "file")
    assert ds["X"].values.tolist() == (np.arange(10) * 0.5).tolist()
    assert ds.image.attrs["pixel_size_um"] == [0.5, 0.5]
