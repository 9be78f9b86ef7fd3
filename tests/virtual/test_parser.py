"""Virtual Zarr of written and real files, read by zarr without this package."""

from __future__ import annotations

import time
import warnings
from typing import TYPE_CHECKING, Any

import nd2
import numpy as np
import pytest
import xarray as xr

from tests.conftest import corpus_files
from tests.variants import VARIANTS as ALL_VARIANTS
from tests.virtual.conftest import (
    NEEDS_VIRTUALIZARR,
    WrittenFiles,
    local_registry,
    virtual_dataset,
)
from tests.virtual.test_chunks import layout_of
from xarray_nd2 import ND2FormatError, ND2NotFoundError, ND2UnsupportedError
from xarray_nd2.testing import MaskLayer, write_nd2
from xarray_nd2.virtual import ND2Parser
from xarray_nd2.virtual.arrays import referenced_array
from xarray_nd2.virtual.chunks import pixel_chunks

pytest.importorskip("virtualizarr", reason=NEEDS_VIRTUALIZARR)
pytestmark = [
    pytest.mark.filterwarnings("ignore:Numcodecs codecs are not in"),
    pytest.mark.filterwarnings("ignore:.*frames are not in the file"),
    pytest.mark.filterwarnings("ignore:.*have a chunk shape larger than"),
]

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

# JPEG 2000 has no codec in Zarr.
VARIANTS = {name: each for name, each in ALL_VARIANTS.items() if not name.startswith("legacy")}


def as_stored(pixels: NDArray[Any], dims: tuple[str, ...]) -> NDArray[Any]:
    """Pixels with colour as it is stored: blue, green, red."""
    if "S" not in dims:
        return pixels
    samples = pixels.shape[-1]
    return pixels[..., [2, 1, 0, 3][:samples]]


def opened(path: Path) -> xr.Dataset:
    """What the backend gives, colour as it is stored, and `source` as a URL."""
    ds = xr.open_dataset(path, engine="nd2").load()
    if "S" in ds.dims:
        ds = ds.isel(S=[2, 1, 0, 3][: ds.sizes["S"]])
    ds.attrs["source"] = path.as_uri()
    return ds


def open_in_store(path: Path, **options: Any) -> xr.Dataset:
    store = ND2Parser(**options)(path.as_uri(), local_registry())
    ds: xr.Dataset = xr.open_zarr(store, consolidated=False, zarr_format=3, chunks=None)
    return ds


def read_by_nd2(path: Path, shape: tuple[int, ...]) -> NDArray[Any]:
    """Pixels as the nd2 library reads them, which leaves colour as stored."""
    pixels: NDArray[Any] = nd2.imread(path)
    return pixels.reshape(shape)


def test_zarr_alone_reads_the_pixels_that_were_written(
    written_files: WrittenFiles, tmp_path: Path
) -> None:
    for name, variant in VARIANTS.items():
        path = variant.write(tmp_path / f"{name}.nd2")
        written_files.add(name, path, as_stored(variant.expected(), variant.delivered_dims))
    assert len(written_files.cases) == 3 * len(VARIANTS)
    assert written_files.differences() == {}


def test_zarr_alone_tells_other_pixels(written_files: WrittenFiles, tmp_path: Path) -> None:
    # The check above can fail: in one pixel, in each way of storing.
    variant = VARIANTS["time-stack-channels"]
    expected = variant.expected()
    expected[-1, -1, -1, -1, -1] ^= 1
    written_files.add("wrong", variant.write(tmp_path / "wrong.nd2"), expected)
    assert len(written_files.differences()) == 3


@pytest.mark.corpus
@pytest.mark.skipif(not corpus_files(), reason="no real files: set ND2_CORPUS to a folder")
def test_zarr_alone_reads_what_nd2_reads(written_files: WrittenFiles) -> None:
    for path in corpus_files():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            shape = xr.open_dataset(path, engine="nd2").image.shape
        written_files.add(path.stem, path, read_by_nd2(path, shape))
    assert written_files.differences() == {}


@pytest.mark.parametrize("stored_order", [False, True])
@pytest.mark.parametrize("name", VARIANTS)
def test_labels_are_those_of_the_backend(name: str, stored_order: bool, tmp_path: Path) -> None:
    path = VARIANTS[name].write(tmp_path / "run.nd2")
    expected = opened(path)
    ds = open_in_store(path, stored_order=stored_order).load()
    if stored_order:
        assert ds.image.dims[-3 - ("S" in ds.dims) :][:3] == ("Y", "X", "C")
    xr.testing.assert_identical(ds.transpose(*expected.dims), expected.transpose(*expected.dims))


def test_colour_is_labelled_as_it_is_stored(tmp_path: Path) -> None:
    path = VARIANTS["rgb"].write(tmp_path / "rgb.nd2")
    ds = open_in_store(path)
    assert ds.S.values.tolist() == ["Blue", "Green", "Red"]
    expected = xr.open_dataset(path, engine="nd2").image.sel(S="Red")
    np.testing.assert_array_equal(ds.image.sel(S="Red"), expected)


def test_icechunk_keeps_labels_and_attributes(written_files: WrittenFiles, tmp_path: Path) -> None:
    path = VARIANTS["time-stack-channels"].write(tmp_path / "run.nd2")
    expected = opened(path)
    virtual_dataset(path).vz.to_icechunk(written_files.session.store)
    written_files.session.commit("one file")
    store = written_files.repository.readonly_session("main").store
    ds = xr.open_zarr(store, consolidated=False).load()
    xr.testing.assert_identical(ds, expected)


def test_chunks_as_wide_as_the_row_stride(tmp_path: Path) -> None:
    write_nd2(tmp_path / "run.nd2", np.ones((2, 5, 7), "uint16"), "TYX", row_alignment=64)
    image = virtual_dataset(tmp_path / "run.nd2").image
    assert image.shape == (2, 1, 5, 7)
    assert image.data.metadata.chunks == (1, 1, 5, 32)


def test_a_chunk_a_row_where_rows_end_amid_a_pixel(tmp_path: Path) -> None:
    write_nd2(tmp_path / "run.nd2", np.ones((2, 5, 9, 3), "uint8"), "TYXS")
    image = virtual_dataset(tmp_path / "run.nd2").image
    assert image.data.metadata.chunks == (1, 1, 1, 9, 3)
    assert image.data.manifest.shape_chunk_grid == (2, 1, 5, 1, 1)


def test_legacy_files_are_refused(tmp_path: Path) -> None:
    path = ALL_VARIANTS["legacy"].write(tmp_path / "run.nd2")
    with pytest.raises(ND2UnsupportedError, match="legacy file.*JPEG 2000.*Save a copy"):
        virtual_dataset(path)


def test_lossless_rows_that_end_amid_a_pixel_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "run.nd2"
    write_nd2(path, np.ones((5, 9, 3), "uint8"), "YXS", compression="lossless")
    with pytest.raises(ND2UnsupportedError, match="28 bytes.*pixels of 3 bytes.*Save a copy"):
        virtual_dataset(path)


def test_missing_frames_are_the_fill_value(tmp_path: Path) -> None:
    path = VARIANTS["missing-frames"].write(tmp_path / "run.nd2")
    with pytest.warns(UserWarning, match="2 of 8 frames are not in the file"):
        ds = open_in_store(path)
    assert (~ds.frame_valid).sum() == 2
    assert not ds.image.where(~ds.frame_valid, 0).any()


def test_groups(tmp_path: Path) -> None:
    import virtualizarr

    path = tmp_path / "plate.nd2"
    pixels = np.random.default_rng(3).integers(0, 4000, (2, 1030, 1050), np.uint16)
    masks = np.zeros((2, 1030, 1050), np.uint8)
    masks[:, 5:9, 5:9] = 1
    options: dict[str, Any] = {"recorded": {"CameraTemp1": [37.0, 37.5]}, "levels": 1}
    write_nd2(path, pixels, "TYX", masks=[MaskLayer("nuclei", masks)], **options)
    level = open_in_store(path, group="level1").load()
    expected = xr.open_dataset(path, engine="nd2", group="level1").load()
    expected.attrs["source"] = path.as_uri()
    xr.testing.assert_identical(level, expected)
    recorded = open_in_store(path, group="recorded").load()
    expected = xr.open_dataset(path, engine="nd2", group="recorded")
    expected.attrs["source"] = path.as_uri()
    xr.testing.assert_identical(recorded, expected)
    with pytest.raises(ND2UnsupportedError, match="runs of pixels"):
        open_in_store(path, group="masks")
    with pytest.raises(ND2FormatError, match=r"no group 'level2'; the file has: image, .*level1"):
        open_in_store(path, group="level2")
    with pytest.warns(UserWarning, match="the group masks is left out"):
        tree = virtualizarr.open_virtual_datatree(
            path.as_uri(), local_registry(), ND2Parser(group="")
        )
    assert set(tree.children) == {"image", "recorded", "level1"}
    assert tree.attrs["title"] == "plate.nd2"


def test_few_requests(tmp_path: Path) -> None:
    asked: list[tuple[int, int]] = []
    path = tmp_path / "run.nd2"
    write_nd2(path, np.zeros((3000, 8, 8), "uint16"), "TYX")

    class CountingStore:
        def head(self, name: str) -> dict[str, Any]:
            return {"size": path.stat().st_size}

        def get_range(self, name: str, *, start: int, length: int) -> bytes:
            asked.append((start, length))
            return path.read_bytes()[start : start + length]

    registry = local_registry()
    registry.register("mem://bucket", CountingStore())
    store = ND2Parser()("mem://bucket/run.nd2", registry)
    assert "run.nd2" in str(store)
    assert len(asked) <= 8
    assert sum(length for _, length in asked) < 2_000_000


def test_files_that_cannot_be_opened(tmp_path: Path) -> None:
    (tmp_path / "text.nd2").write_bytes(b"not an ND2" * 100)
    with pytest.raises(ND2FormatError, match=r"text\.nd2"):
        virtual_dataset(tmp_path / "text.nd2")
    with pytest.raises(ND2NotFoundError, match=r"none\.nd2"):
        virtual_dataset(tmp_path / "none.nd2")
    with pytest.raises(ValueError, match="Could not find an ObjectStore"):
        ND2Parser()("s3://bucket/run.nd2", local_registry())
    with pytest.raises(TypeError, match="group must be a name"):
        ND2Parser(group=1)  # type: ignore[arg-type]


def test_a_frame_behind_the_end_is_refused(tmp_path: Path) -> None:

    layout = layout_of([4096, 8192])
    with pytest.raises(ND2FormatError, match="frame 1 is said to lie at bytes 8192-"):
        pixel_chunks(layout, 8200, stored_order=False)


def test_100_000_frames(tmp_path: Path) -> None:

    from xarray_nd2.virtual.chunks import pixel_chunks

    layout = layout_of((np.arange(100_000) + 1) * 4096)
    started = time.perf_counter()
    chunks = pixel_chunks(layout, 1 << 40, stored_order=False)
    array = referenced_array(chunks, "s3://bucket/run42.nd2", layout.dtype, {})
    seconds = time.perf_counter() - started
    assert array.manifest.shape_chunk_grid == (100_000, 1, 1, 1)
    assert array.manifest["99999.0.0.0"]["offset"] == 100_000 * 4096
    # Without a call for each; the same as a dictionary, to compare with, takes at least as many.
    started = time.perf_counter()
    array.manifest.dict()
    assert seconds < (time.perf_counter() - started) / 2
