"""Every way of opening, by every kind of file, read lazily and by dask."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import fsspec
import nd2
import numpy as np
import pytest
import xarray as xr

from tests.conftest import corpus_directory
from tests.variants import VARIANTS

if TYPE_CHECKING:
    from collections.abc import Callable

    from xarray_nd2.testing import RangeServer, S3Server

    Opener = Callable[..., xr.Dataset]

CORPUS = sorted(path.name for path in (corpus_directory() or Path("nowhere")).glob("*.nd2"))
WAYS = [
    "path",
    "str",
    "file",
    "open-file",
    "bytesio",
    "OpenFile",
    "UPath",
    "memory",
    "http",
    "s3",
    "simplecache",
]


@pytest.fixture(params=WAYS)
def open_way(
    request: pytest.FixtureRequest, http: RangeServer, s3: S3Server, tmp_path: Path
) -> Callable[..., xr.Dataset]:
    """Open the file of a path in one of the ways there are."""
    way = request.param

    def open_it(path: Path, **options: Any) -> xr.Dataset:
        target: Any = path
        if way == "str":
            target = str(path)
        elif way == "file":
            target = path.as_uri()
        elif way == "open-file":
            target = path.open("rb")
            request.addfinalizer(target.close)
        elif way == "bytesio":
            import io

            target = io.BytesIO(path.read_bytes())
        elif way == "memory":
            target = f"memory://battery/{path.name}"
            fsspec.filesystem("memory").pipe(target, path.read_bytes())
        elif way == "http":
            http.put(path.name, path.read_bytes())
            target = http.url(path.name)
        elif way == "OpenFile":
            http.put(path.name, path.read_bytes())
            target = fsspec.open(http.url(path.name))
        elif way == "UPath":
            from upath import UPath

            http.put(path.name, path.read_bytes())
            target = UPath(http.url(path.name))
        elif way == "s3":
            s3.put("bucket", path.name, path.read_bytes())
            target = f"s3://bucket/{path.name}"
            options["storage_options"] = s3.storage_options
        elif way == "simplecache":
            s3.put("bucket", path.name, path.read_bytes())
            target = f"simplecache::s3://bucket/{path.name}"
            cache = {"cache_storage": str(tmp_path / "cache")}
            options["storage_options"] = {"s3": s3.storage_options, "simplecache": cache}
        return xr.open_dataset(target, engine="nd2", **options)

    return open_it


@pytest.fixture(scope="session")
def variant_paths(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("variants")
    return {name: v.write(folder / f"{name}.nd2") for name, v in VARIANTS.items()}


@pytest.mark.parametrize("chunks", [None, {}], ids=["lazy", "dask"])
@pytest.mark.parametrize("name", VARIANTS)
def test_synthetic_file(
    name: str, chunks: dict[str, int] | None, open_way: Opener, variant_paths: dict[str, Path]
) -> None:
    variant = VARIANTS[name]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*frames are not in the file")
        ds = open_way(variant_paths[name], chunks=chunks)
    expected = variant.expected()
    assert ds.image.dims == variant.delivered_dims
    assert ds.image.dtype == expected.dtype
    assert (ds.image.chunks is None) == (chunks is None)
    np.testing.assert_array_equal(ds.image.values, expected)
    # A crop of the last frame, backwards along X.
    crop = (
        (..., slice(3, 8), slice(6, 1, -2))
        if "S" not in variant.sizes
        else (..., slice(3, 8), slice(6, 1, -2), 1)
    )
    np.testing.assert_array_equal(ds.image[crop].values, expected[crop])


@pytest.mark.corpus
@pytest.mark.parametrize("chunks", [None, {}], ids=["lazy", "dask"])
@pytest.mark.parametrize("name", CORPUS or ["none"])
def test_real_file(
    name: str, chunks: dict[str, int] | None, open_way: Opener, corpus: Path
) -> None:
    path = corpus / name
    with nd2.ND2File(path) as file:
        expected, dims = file.asarray(), list(file.sizes)
    if "S" in dims:
        expected = expected[..., ::-1]  # as stored: blue, green, red
    if "C" not in dims:
        at = dims.index("Y")
        dims.insert(at, "C")
        expected = np.expand_dims(expected, at)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*frames are not in the file")
        ds = open_way(path, chunks=chunks)
    assert list(ds.image.dims) == dims
    assert ds.image.shape == expected.shape
    assert ds.image.dtype == expected.dtype
    np.testing.assert_array_equal(ds.image.values, expected)
    np.testing.assert_array_equal(
        ds.image[..., 5:30:3, 20:2:-1].values, expected[..., 5:30:3, 20:2:-1]
    )


@pytest.mark.parametrize("name", [name for name, variant in VARIANTS.items() if variant.oracle])
def test_writer_is_read_alike_by_nd2(name: str, variant_paths: dict[str, Path]) -> None:
    variant = VARIANTS[name]
    with nd2.ND2File(variant_paths[name]) as file:
        assert {k: v for k, v in variant.sizes.items() if v > 1} == dict(file.sizes)
        stored = file.asarray()[..., :: -1 if "S" in variant.sizes and not variant.legacy else 1]
        np.testing.assert_array_equal(stored.reshape(variant.expected().shape), variant.expected())
