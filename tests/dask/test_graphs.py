"""Graphs of dask: blocks, names, sizes, and no secrets."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING

import numpy as np
import pytest
import xarray as xr

from xarray_nd2.testing import write_nd2

if TYPE_CHECKING:
    from pathlib import Path

    from xarray_nd2.testing import RangeServer, S3Server


CHUNKS: tuple[dict[str, int] | None, ...] = (None, {})


@pytest.fixture(scope="module")
def run(folder: Path) -> Path:
    frames = np.random.default_rng(4).integers(0, 2**16, (100, 2, 256, 256)).astype("uint16")
    write_nd2(folder / "graphs.nd2", frames, "TCYX", channels=["DAPI", "GFP"])
    return folder / "graphs.nd2"


def test_chunks_follow_the_file(run: Path) -> None:
    ds = xr.open_dataset(run, chunks={})
    assert ds.image.chunks == ((100,), (2,), (256,), (256,))
    ds = xr.open_dataset(run, chunks={"T": 10})
    assert ds.image.chunks == ((10,) * 10, (2,), (256,), (256,))


def test_crop_is_fused_into_the_read(run: Path, http: RangeServer) -> None:
    ds = xr.open_dataset(http.url(run.name), chunks={"T": 10}, max_gap=0)
    crop = ds.image.sel(C="GFP").isel(T=slice(5, 25), Y=slice(10, 20), X=slice(30, 40))
    http.log.clear()
    result = crop.compute(scheduler="threads")
    assert http.log.bytes == 20 * 10 * 10 * 4
    np.testing.assert_array_equal(
        result.values, xr.open_dataset(run).image[5:25, 1, 10:20, 30:40].values
    )


def test_names_differ_by_version(run: Path, http: RangeServer) -> None:
    names = {
        xr.open_dataset(http.url(run.name), chunks={}).image.data.name,
        xr.open_dataset(http.url(run.name), chunks={}, max_gap=0).image.data.name,
        xr.open_dataset(run, chunks={}).image.data.name,
    }
    assert len(names) == 3


def test_pickled_array_is_small(tmp_path: Path) -> None:
    write_nd2(
        tmp_path / "many.nd2",
        lambda _: np.zeros((16, 16), "uint8"),
        "TYX",
        sizes={"T": 20_000, "Y": 16, "X": 16},
        dtype="uint8",
    )
    ds = xr.open_dataset(tmp_path / "many.nd2")
    assert len(pickle.dumps(ds.image.variable._data)) < 20_000
    lazily = xr.open_dataset(tmp_path / "many.nd2", chunks={})
    assert len(dict(lazily.image.mean().__dask_graph__())) < 800


def test_secrets_are_not_in_names_or_reprs(run: Path, s3: S3Server) -> None:
    s3.put("bucket", "run.nd2", run.read_bytes())
    options = s3.storage_options | {"secret": "hush-hush"}
    for chunks in CHUNKS:
        ds = xr.open_dataset("s3://bucket/run.nd2", storage_options=options, chunks=chunks)
        shown = [
            repr(ds),
            ds._repr_html_(),
            repr(ds.attrs),
            repr(ds.encoding),
            repr(ds.image.encoding),
        ]
        shown.append(repr(ds.image.variable._data))
        if chunks is not None:
            shown.append(repr(list(ds.__dask_graph__())))
        assert not any("hush-hush" in text for text in shown)
