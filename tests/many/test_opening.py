"""Which files are opened, at what cost, and what becomes of an error."""

from __future__ import annotations

import io
import pickle
import threading
import warnings
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import fsspec
import numpy as np
import pytest
import xarray as xr

import xarray_nd2
from tests.many.runs import SIZES, opened, pixels, write_run
from xarray_nd2 import ND2FormatError, ND2NotFoundError, ND2PermissionError, open_many
from xarray_nd2.testing import Fault

if TYPE_CHECKING:
    from xarray_nd2.testing import RangeServer, S3Server

NAMES = ["run1.nd2", "run2.nd2", "run10.nd2"]


@pytest.fixture(scope="module")
def runs(folder: Path) -> Path:
    place = folder / "runs"
    place.mkdir()
    for name in reversed(NAMES):
        write_run(place / name)
    return place


def files_of(ds: xr.Dataset) -> list[str]:
    names: list[str] = ds["file"].values.tolist()
    return names


def expected(names: list[str] = NAMES) -> np.ndarray:
    return np.stack([pixels(name, SIZES) for name in names])


def test_pattern_is_sorted_by_numbers(runs: Path) -> None:
    ds = open_many(str(runs / "run*.nd2"), "file")
    assert files_of(ds) == NAMES
    assert ds.image.dims == ("file", "T", "Z", "C", "Y", "X")
    assert ds.image.chunks is not None
    np.testing.assert_array_equal(ds.image, expected())


def test_list_is_literal_and_in_order(runs: Path) -> None:
    names = ["run10.nd2", "run1.nd2"]
    ds = open_many([runs / names[0], str(runs / names[1])], "file")
    assert files_of(ds) == names
    np.testing.assert_array_equal(ds.image, expected(names))


def test_brackets_in_a_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "day[1]").mkdir()
    for name in ("run[1].nd2", "run1.nd2"):
        write_run(tmp_path / "day[1]" / name)
    monkeypatch.chdir(tmp_path / "day[1]")
    assert files_of(open_many(["run[1].nd2"], "file")) == ["run[1].nd2"]
    assert files_of(open_many(Path("run[1].nd2"), "file")) == ["run[1].nd2"]
    assert files_of(open_many("run[1].nd2", "file")) == ["run1.nd2"]
    assert files_of(open_many("*.nd2", "file")) == ["run1.nd2", "run[1].nd2"]


def test_one_text_without_wildcards(runs: Path) -> None:
    ds = open_many(str(runs / "run1.nd2"), "file")
    assert ds.sizes["file"] == 1
    with pytest.raises(ND2NotFoundError, match="run7"):
        open_many(str(runs / "run7.nd2"), "file")


def test_folders_are_no_files_but_tell_them_apart(tmp_path: Path) -> None:
    for day in ("day1", "day2"):
        (tmp_path / "all" / day).mkdir(parents=True)
        write_run(tmp_path / "all" / day / "run.nd2")
    ds = open_many(f"{tmp_path}/**", "file")
    assert files_of(ds) == ["day1/run.nd2", "day2/run.nd2"]
    same = tmp_path / "all" / "day1" / "run.nd2"
    assert files_of(open_many([same, same], "file")) == ["run.nd2", "run.nd2 (2)"]


def test_nothing_matches(runs: Path) -> None:
    with pytest.raises(ND2NotFoundError, match=r"walk\*.nd2: no file matches"):
        open_many(str(runs / "walk*.nd2"), "file")
    with pytest.raises(ND2NotFoundError, match="no file matches"):
        open_many("memory://nowhere/*.nd2", "file")
    with pytest.raises(ValueError, match="no file in the list"):
        open_many([], "file")


def test_stores_that_list(runs: Path, tmp_path: Path, s3: S3Server) -> None:
    memory = fsspec.filesystem("memory")
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        for name in NAMES:
            data = (runs / name).read_bytes()
            memory.pipe(f"/many/{name}", data)
            archive.writestr(name, data)
            s3.put("bucket", f"many/{name}", data)
    cached = {"s3": s3.storage_options, "simplecache": {"cache_storage": str(tmp_path / "cache")}}
    for pattern, options in (
        ("memory://many/run*.nd2", {}),
        (f"file://{runs}/run*.nd2", {}),
        ("s3://bucket/many/run*.nd2", s3.storage_options),
        (f"zip://*.nd2::{tmp_path}/all.zip", {}),
        ("simplecache::s3://bucket/many/run*.nd2", cached),
    ):
        ds = open_many(pattern, "file", storage_options=options)
        assert files_of(ds) == NAMES, pattern
        np.testing.assert_array_equal(ds.image, expected())
    s3.put("bucket", "many/run11.nd2", (runs / "run1.nd2").read_bytes())
    again = open_many("s3://bucket/many/run*.nd2", "file", storage_options=s3.storage_options)
    assert files_of(again) == [*NAMES, "run11.nd2"]  # what was listed before does not count
    memory.rm("/many", recursive=True)


def test_web_servers_do_not_list(runs: Path, http: RangeServer) -> None:
    with pytest.raises(ValueError, match="cannot list its files; give a list of URLs"):
        open_many(http.url("runs/") + "run*.nd2", "file")
    assert http.log.requests == 0
    one = open_many(http.url("runs/run1.nd2") + "?part=1", "file")
    np.testing.assert_array_equal(one.image, expected(NAMES[:1]))
    ds = open_many([http.url(f"runs/{name}") for name in NAMES], "file")
    np.testing.assert_array_equal(ds.image, expected())


def test_round_trips_and_requests(runs: Path, http: RangeServer) -> None:
    """Thirty files cost the requests of each, and hardly more time than one."""
    names = []
    for number in range(30):
        names.append(f"runs/copy{number}.nd2")
        http.put(names[-1], (runs / "run1.nd2").read_bytes())
    urls = [http.url(name) for name in names]
    http.latency = 0.5
    open_many(urls[:1], "file")
    one, trips = http.log.requests, http.log.round_trips
    http.log.clear()
    ds = open_many(urls, "file")
    assert http.log.requests == 30 * one
    assert http.log.round_trips <= 2 * trips
    assert ds.sizes["file"] == 30
    http.log.clear()
    ds["time"].load()
    assert http.log.requests == 0
    http.latency = 0
    crop = ds.image.isel(file=7, T=1, Z=0, Y=slice(2, 4)).compute()
    np.testing.assert_array_equal(crop, pixels("run1.nd2", SIZES)[1, 0, :, 2:4])
    assert {entry.path for entry in http.log.entries} == {"/runs/copy7.nd2"}


@pytest.mark.parametrize("dim", ["T", "file"])
def test_crops_read_the_crop(dim: str, tmp_path: Path) -> None:
    paths = [write_run(tmp_path / f"{i}.nd2", start=f"2026-01-1{i}") for i in (1, 2)]
    image = open_many(paths, dim, max_gap=0).image
    step = {"T": 4} if dim == "T" else {"file": 1, "T": 1}
    crop = image.isel({**step, "Z": 1, "Y": slice(2, 4)})
    read = xarray_nd2.explain(crop.astype("float32"))
    assert read.bytes_fetched == 2 * 10 * 2 * 2  # rows, columns, channels, bytes
    np.testing.assert_array_equal(crop, pixels("2.nd2", SIZES)[1, 1, :, 2:4])


def test_first_error_ends_it_and_names_its_file(runs: Path, http: RangeServer) -> None:
    urls = [http.url("runs/run1.nd2")] * 200
    urls[3] = http.url("runs/gone.nd2")
    http.latency = 0.05
    with pytest.raises(ND2NotFoundError, match=r"runs/gone\.nd2: there is no such file"):
        open_many(urls, "file")
    for thread in threading.enumerate():
        if thread.name == "xarray-nd2-read":
            thread.join()
    assert http.log.requests < 200
    http.latency = 0
    (runs / "text.txt").write_text("no image" * 100)
    with pytest.raises(ND2FormatError, match=r"text\.txt"):
        open_many([runs / "run1.nd2", runs / "text.txt"], "file")


def test_refused_file(runs: Path, http: RangeServer) -> None:
    http.faults = lambda _number, _method, path, _range: Fault(403) if "run2" in path else None
    with pytest.raises(ND2PermissionError, match=r"run2\.nd2: access was refused"):
        open_many([http.url(f"runs/{name}") for name in NAMES], "file")


def test_warnings_of_files(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        write_run(tmp_path / f"{name}.nd2", missing=[] if name == "b" else [1])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        open_many(f"{tmp_path}/*.nd2", "file")
    told = [str(each.message) for each in caught if "not in the file" in str(each.message)]
    assert [text.partition(": ")[0][-5:] for text in told] == ["a.nd2", "c.nd2"]
    assert {each.filename for each in caught} == {__file__}


@pytest.mark.parametrize(
    ("targets", "keywords", "error", "says"),
    [
        (["a.nd2"], {"chunks": None}, ValueError, "arrays of dask"),
        (["a.nd2"], {"dim": 3}, TypeError, "name of a dimension"),
        (["a.nd2"], {"dim": "time"}, ValueError, "'time' is a variable of a.nd2"),
        (["a.nd2"], {"dim": "image"}, ValueError, "'image' is a variable"),
        (["a.nd2"], {"dim": "U"}, ValueError, "no dimension U: they have T, Z, C, Y, X"),
        (["a.nd2"], {"max_gap": -1}, ValueError, "max_gap"),
        (["a.nd2"], {"group": "recorded"}, TypeError, "group"),
        (7, {}, TypeError, "a pattern or a list, not int"),
        ([7], {}, TypeError, "int"),
    ],
)
def test_keywords(
    targets: Any,
    keywords: dict[str, Any],
    error: type[Exception],
    says: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    write_run(tmp_path / "a.nd2")
    with pytest.raises(error, match=says):
        open_many(targets, **{"dim": "file", **keywords})


def test_error_of_a_keyword_names_the_file(runs: Path) -> None:
    with pytest.raises(ValueError, match="max_gap") as caught:
        open_many([runs / "run1.nd2"], "file", max_gap=-1)
    assert caught.value.__notes__ == [f"while opening {runs / 'run1.nd2'}"]


def test_open_files(runs: Path) -> None:
    paths = [runs / name for name in NAMES[:2]]
    with paths[0].open("rb") as file:
        ds = open_many(iter([file, io.BytesIO(paths[1].read_bytes())]), "file")
        np.testing.assert_array_equal(ds.image, expected(NAMES[:2]))
        assert open_many(file, "file").sizes["file"] == 1


def test_result_is_plain(runs: Path, tmp_path: Path) -> None:
    ds = open_many(str(runs / "run*.nd2"), "file", drop_variables=["stage_x", "nothing"])
    assert "stage_x" not in ds.variables
    assert all(isinstance(each.data, np.ndarray) for each in ds.coords.values())
    again = pickle.loads(pickle.dumps(ds))
    np.testing.assert_array_equal(again.image, expected())
    xr.testing.assert_identical(again.drop_vars("image"), ds.drop_vars("image"))
    ds.to_netcdf(tmp_path / "all.nc")
    ds.to_zarr(tmp_path / "all.zarr", zarr_format=2)
    with xr.open_dataset(tmp_path / "all.nc") as read:
        np.testing.assert_array_equal(read.image, expected())
    xr.testing.assert_equal(xr.open_zarr(tmp_path / "all.zarr").image.load(), ds.image.load())


def test_blocks(runs: Path) -> None:
    pattern = str(runs / "run*.nd2")
    with pytest.warns(UserWarning, match="separate the stored chunks"):
        ds = open_many(pattern, "T2x", chunks={"T": 1})
    assert ds.image.chunksizes["T"] == (1, 1, 1)
    assert ds.image.chunksizes["T2x"] == (1, 1, 1)


def test_public_name() -> None:
    assert xarray_nd2.open_many is open_many
    assert "open_many" in xarray_nd2.__all__


def test_one_file_is_that_file(runs: Path) -> None:
    ds, alone = open_many([runs / "run1.nd2"], "T"), opened(runs / "run1.nd2")
    xr.testing.assert_identical(ds.load().drop_vars("file"), alone)
