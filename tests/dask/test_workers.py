"""Reading in threads, processes and the workers of a cluster."""

from __future__ import annotations

import gc
import shutil
import warnings
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dask
import numpy as np
import pytest
import xarray as xr
from distributed import Client, LocalCluster

from tests.variants import VARIANTS
from xarray_nd2 import explain, regions
from xarray_nd2.testing import write_nd2

if TYPE_CHECKING:
    from collections.abc import Iterator

    from xarray_nd2.testing import RangeServer, S3Server

    Place = tuple[str, dict[str, Any] | None]


@pytest.fixture(scope="module")
def run(folder: Path) -> Path:
    frames = np.random.default_rng(4).integers(0, 2**16, (100, 2, 256, 256)).astype("uint16")
    write_nd2(folder / "workers.nd2", frames, "TCYX", channels=["DAPI", "GFP"])
    return folder / "workers.nd2"


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with (
        LocalCluster(n_workers=2, threads_per_worker=2, dashboard_address=":0") as cluster,
        Client(cluster) as client,
    ):
        yield client


@pytest.fixture(params=["path", "http", "s3"])
def place(request: pytest.FixtureRequest, run: Path, http: RangeServer, s3: S3Server) -> Place:
    """Where the file can be opened, and the storage options for that."""
    if request.param == "s3":
        s3.put("bucket", "run.nd2", run.read_bytes())
        return "s3://bucket/run.nd2", s3.storage_options
    return (str(run) if request.param == "path" else http.url(run.name)), None


def _mean(ds: xr.Dataset) -> float:
    return float(ds.image.isel(T=slice(0, 10)).astype("f8").mean())


@pytest.mark.parametrize("method", ["spawn", "fork", "forkserver"])
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_other_processes(method: str, place: Place) -> None:
    """A dataset that was already read here is read there."""
    target, options = place
    ds = xr.open_dataset(target, storage_options=options)
    expected = _mean(ds)
    with ProcessPoolExecutor(2, mp_context=get_context(method)) as pool:
        fresh = xr.open_dataset(target, storage_options=options)
        assert list(pool.map(_mean, [fresh] * 4, timeout=120)) == [expected] * 4


def test_many_threads(run: Path, http: RangeServer) -> None:
    ds = xr.open_dataset(http.url(run.name))
    expected = xr.open_dataset(run).image.load()

    def check(t: int) -> bool:
        crop = {"T": t, "Y": slice(t, t + 50), "X": slice(None, None, 3)}
        return bool((ds.image.isel(crop).values == expected.isel(crop).values).all())

    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(check, range(100)))


def test_cluster(place: Place, client: Client, run: Path, http: RangeServer) -> None:
    target, options = place
    ds = xr.open_dataset(target, storage_options=options, chunks={"T": 10})
    crop = {"Y": slice(64, 128), "X": slice(32, 160)}
    expected = xr.open_dataset(run).image.isel(crop).load()
    http.log.clear()
    result = ds.image.isel(crop).max("T").compute(scheduler=client)
    np.testing.assert_array_equal(result.values, expected.max("T").values)
    if target.startswith("http"):
        assert http.log.bytes <= 100 * 64 * 256 * 4  # the row spans
        starts = [entry.start for entry in http.log.entries if entry.start is not None]
        assert min(starts) > 4096  # and no metadata again


def test_no_handle_is_left(run: Path, tmp_path: Path) -> None:
    import psutil

    run = Path(shutil.copy(run, tmp_path))  # of which no map is kept, as of one of many regions is
    process = psutil.Process()
    with warnings.catch_warnings():
        warnings.simplefilter("error", ResourceWarning)
        ds = xr.open_dataset(run)
        ds.image.isel(T=3).load()
        with run.open("rb") as file:
            xr.open_dataset(file).image.isel(T=3).load()
        gc.collect()
        assert str(run) not in {opened.path for opened in process.open_files()}


def test_dataset_of_an_open_file_is_read_by_dask(run: Path) -> None:
    import io

    ds = xr.open_dataset(io.BytesIO(run.read_bytes()), chunks={"T": 5})
    with dask.config.set(scheduler="threads", num_workers=8):
        result = ds.image.max(["Y", "X"]).compute()
    expected: Any = xr.open_dataset(run).image.max(["Y", "X"])
    np.testing.assert_array_equal(result.values, expected.values)


def test_variants_through_processes(client: Client, tmp_path: Path) -> None:
    for name in ("lossless", "wide-padding", "rgb", "xml"):
        variant = VARIANTS[name]
        ds = xr.open_dataset(variant.write(tmp_path / f"{name}.nd2"), chunks={"T": 1})
        result = ds.image.compute(scheduler=client)
        np.testing.assert_array_equal(result.values, variant.expected())


def test_workers_read_no_more_of_regions_than_one_process(
    run: Path, http: RangeServer, client: Client
) -> None:
    rng = np.random.default_rng(6)
    table = {"T": rng.integers(0, 100, 60)} | {dim: rng.integers(20, 230, 60) for dim in "YX"}
    image = xr.open_dataset(http.url(run.name), chunks={}, max_gap=0).image
    cut = regions(image, table, 24, chunks=15)
    counted = []
    for scheduler in ("sync", client):
        http.log.clear()
        pixels = cut.compute(scheduler=scheduler)
        counted.append((http.log.requests, http.log.bytes))
    cost = explain(cut)
    assert counted == [(cost.requests, cost.bytes_fetched)] * 2
    expected = regions(xr.open_dataset(run).image, table, 24)
    xr.testing.assert_identical(pixels, expected.compute())
