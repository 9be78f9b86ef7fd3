"""Codestreams of legacy files, and what happens without their decoder."""

from __future__ import annotations

import pickle
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from xarray_nd2 import ND2UnsupportedError, explain, regions
from xarray_nd2.io.process import this_process
from xarray_nd2.testing import write_legacy_nd2

if TYPE_CHECKING:
    from pathlib import Path

    from xarray_nd2.testing import RangeServer

PIXELS = np.random.default_rng(3).integers(0, 2**16, (3, 2, 2, 64, 70), "uint16")


@pytest.fixture(scope="module")
def path(folder: Path) -> Path:
    write_legacy_nd2(folder / "codestreams.nd2", PIXELS, "TZCYX")
    return folder / "codestreams.nd2"


def test_without_the_extra(path: Path, http: RangeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """It opens, tells its labels and costs; only pixels cannot be had, and nothing is fetched for them."""
    monkeypatch.setitem(sys.modules, "imagecodecs", None)
    ds = xr.open_dataset(http.url(path.name))
    assert ds.image.shape == PIXELS.shape
    assert explain(ds.image[0, 0, 0]).frames == 1
    http.log.clear()
    with pytest.raises(ND2UnsupportedError, match=r'pip install "xarray-nd2\[legacy\]"') as caught:
        ds.image[0].values  # noqa: B018
    assert path.name in str(caught.value)
    assert http.log.bytes == 0
    assert isinstance(pickle.loads(pickle.dumps(caught.value)), ND2UnsupportedError)


def stream_bytes(path: Path) -> np.ndarray:
    """Bytes of the boxes of codestreams, in order: they follow each other."""
    data, sizes, at = path.read_bytes(), [], 0
    while data[at + 4 : at + 8] in (b"jP  ", b"ftyp", b"jp2h", b"jp2c"):
        length = int.from_bytes(data[at : at + 4], "big")
        if data[at + 4 : at + 8] == b"jp2c":
            sizes.append(length)
        at += length
    return np.array(sizes)


@pytest.mark.parametrize(
    ("key", "streams"),
    [
        ((0, 0, 0, slice(5), slice(5)), [0]),
        ((1, 1, 1, slice(60, 64), slice(3)), [7]),
        ((2, 0, slice(None), slice(9), slice(9)), [8, 9]),
        ((slice(None), 0, 1), [1, 5, 9]),
        ((slice(None, None, -1), 1, [1, 0], 0), [2, 3, 6, 7, 10, 11]),
    ],
)
@pytest.mark.parametrize("chunks", [None, {}], ids=["lazy", "dask"])
def test_a_crop_reads_its_codestreams_only(
    key: Any,
    streams: list[int],
    chunks: dict[str, int] | None,
    path: Path,
    http: RangeServer,
) -> None:
    image = xr.open_dataset(http.url(path.name), max_gap=0, chunks=chunks).image[key]
    this_process().frame_cache._frames.clear()
    told = explain(image)
    http.log.clear()
    expected = PIXELS[key] if not isinstance(key[2], list) else PIXELS[::-1, 1, ::-1, 0]
    np.testing.assert_array_equal(image.values, expected)
    assert http.log.bytes == stream_bytes(path)[streams].sum()
    assert told.bytes_fetched == http.log.bytes
    assert told.exact == (chunks is None)  # tasks share the frames that are kept
    assert told.frames == len({number // 2 for number in streams})


def test_decoded_codestreams_are_kept(path: Path, http: RangeServer) -> None:
    ds = xr.open_dataset(http.url(path.name))
    first = ds.image[1, 0, 0, :9, :9].values
    http.log.clear()
    again = ds.image[1, 0, 0, 30:40, 20:30]
    assert explain(again).bytes_fetched == 0
    np.testing.assert_array_equal(again.values, PIXELS[1, 0, 0, 30:40, 20:30])
    assert http.log.bytes == 0
    np.testing.assert_array_equal(first, PIXELS[1, 0, 0, :9, :9])


def test_points_and_whole_frames_kept(path: Path, http: RangeServer) -> None:
    t, c = xr.DataArray([2, 0, 1], dims="roi"), xr.DataArray([0, 1, 1], dims="roi")
    for cache_bytes in (0, 2**24):
        image = xr.open_dataset(http.url(path.name), cache_bytes=cache_bytes).image
        found = image.isel(T=t, C=c, Z=1, Y=slice(2, 9), X=[5, 3])
        expected = PIXELS[[2, 0, 1], 1, [0, 1, 1]][:, 2:9][:, :, [5, 3]]
        np.testing.assert_array_equal(found.transpose("roi", "Y", "X").values, expected)


@pytest.mark.parametrize("reversible", [True, False])
def test_few_bits(reversible: bool, tmp_path: Path) -> None:
    pixels = PIXELS[0, 0, 0] >> 4
    path = tmp_path / "twelve.nd2"
    write_legacy_nd2(path, pixels, "YX", bits=12, reversible=reversible)
    image = xr.open_dataset(path).image
    assert image.attrs["bits_significant"] == 12
    assert image.dtype == np.uint16
    tolerance = 0 if reversible else 400
    np.testing.assert_allclose(image.values[0].astype(int), pixels.astype(int), atol=tolerance)


async def test_without_blocking(path: Path, http: RangeServer) -> None:
    image = xr.open_dataset(http.url(path.name)).image[1:, :, 1, 3:20]
    np.testing.assert_array_equal((await image.load_async()).values, PIXELS[1:, :, 1, 3:20])


@pytest.mark.parametrize("chunks", [None, {}], ids=["lazy", "dask"])
@pytest.mark.parametrize("channel", [1, [1, 0], slice(None)], ids=["one", "list", "all"])
def test_regions(
    channel: int | list[int] | slice, chunks: dict[str, int] | None, path: Path, http: RangeServer
) -> None:
    """Regions of frames whose channels are stored apart, also outside of the image."""
    image = xr.open_dataset(http.url(path.name), chunks=chunks).image.isel(C=channel, Z=1)
    table = pd.DataFrame({"T": [0, 2, 1, 2], "Y": [0, 30, 63, 9], "X": [5, 69, 0, 33]})
    size = {"Y": 8, "X": 6}
    found = regions(image, table, size, outside="pad")
    padded = np.pad(PIXELS[:, 1], [(0, 0), (0, 0), (8, 8), (8, 8)])
    for number, (t, y, x) in enumerate(table.to_numpy()):
        top, left = y + 8 - 4, x + 8 - 3
        expected = padded[t, :, top : top + 8, left : left + 6][channel]
        np.testing.assert_array_equal(found[number].values, expected)
