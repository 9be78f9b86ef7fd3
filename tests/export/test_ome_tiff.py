"""OME-TIFFs that were written of ND2 files: pixels, metadata, requests, memory, and files left behind."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
import warnings
from typing import TYPE_CHECKING, Any, cast

import nd2
import numpy as np
import ome_types
import pytest
import tifffile
import xarray as xr

from tests.conftest import ROOT, corpus_files
from tests.contract.test_budget import sparse_file
from tests.ome.documents import valid
from tests.variants import VARIANTS
from xarray_nd2 import ome_metadata, trace
from xarray_nd2.errors import ND2FormatError, ND2NotFoundError, ND2UnsupportedError
from xarray_nd2.export import ome_tiff, to_ome_tiff
from xarray_nd2.export.ome_tiff_file import PlaneFormat, _largest_bytes, half_size
from xarray_nd2.export.ome_tiff_parts import parts_of
from xarray_nd2.testing import Channel, write_nd2

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from xarray_nd2.testing import RangeServer

FORMATS: dict[str, dict[str, Any]] = {
    "plain": {},
    "zlib": {"compression": "zlib"},
    "zstd-tiles": {"compression": "zstd", "tile": (16, 32)},
    "levels": {"levels": 1, "tile": (16, 16)},
}
PLANE_LOOPS = ("T", "Z")


def quietly_written(source: Any, path: Path, **options: Any) -> Path:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*(frames are not in the file|metadata is odd)")
        return to_ome_tiff(source, path, **options)


def document_of(path: Path) -> ome_types.OME:
    """The document that a file begins with, which is valid by the schema."""
    text = tifffile.tiffcomment(path)
    assert isinstance(text, str)
    return valid(ome_types.from_xml(text, validate=False))


def series_images(path: Path) -> list[xr.DataArray]:
    """What tifffile makes of each image, under all of its dimensions."""
    with tifffile.TiffFile(path) as file:
        assert file.is_ome
        return [
            xr.DataArray(
                series.asarray().reshape(series.get_shape(squeeze=False)),
                dims=list(series.get_axes(squeeze=False)),
            )
            for series in file.series
        ]


def placed_planes(path: Path) -> list[dict[tuple[int, int, int], NDArray[Any]]]:
    """Planes of each image by T, Z and C, by nothing but the document and the directories."""
    document = document_of(path)
    with tifffile.TiffFile(path) as file:
        images, used = [], 0
        for image in document.images:
            pixels = image.pixels
            counts = {"T": pixels.size_t, "Z": pixels.size_z, "C": len(pixels.channels)}
            slowest_first = pixels.dimension_order.value[:1:-1]
            [block] = pixels.tiff_data_blocks
            assert (block.first_t, block.first_z, block.first_c) == (0, 0, 0)
            assert block.plane_count == np.prod(list(counts.values()))
            assert block.ifd == used
            planes = {}
            for index in np.ndindex(*(counts[dim] for dim in slowest_first)):
                at = dict(zip(slowest_first, index, strict=True))
                planes[at["T"], at["Z"], at["C"]] = file.pages[used].asarray()
                used += 1
            images.append(planes)
        assert used == len(file.pages)
    return images


def check_pixels(path: Path, expected: xr.DataArray) -> None:
    """Compare all planes of a file with an image, by the document and by tifffile's own reading."""
    image_loops = [dim for dim in expected.dims if dim not in ("T", "Z", "C", "Y", "X", "S")]
    indices = list(np.ndindex(*(expected.sizes[dim] for dim in image_loops)))
    by_document, by_series = placed_planes(path), series_images(path)
    assert len(by_document) == len(by_series) == len(indices)
    for planes, series, index in zip(by_document, by_series, indices, strict=True):
        part = expected.isel(dict(zip(image_loops, index, strict=True)))
        for dim in ("C", "Z", "T"):
            part = part if dim in part.dims else part.expand_dims(dim)
        frame = ("Y", "X", "S") if "S" in part.dims else ("Y", "X")
        part = part.transpose("T", "Z", "C", *frame)
        assert set(planes) == set(np.ndindex(part.shape[:3]))
        for (t, z, c), plane in planes.items():
            np.testing.assert_array_equal(plane, part[t, z, c])
        named = series if "S" in part.dims else series.isel(S=0, missing_dims="ignore")
        alike = named.transpose("T", "Z", "C", *frame).values
        np.testing.assert_array_equal(alike, part)


def read_by_nd2(path: Path) -> xr.DataArray:
    with nd2.ND2File(path) as file:
        pixels = xr.DataArray(file.asarray(), dims=list(file.sizes))
        stored_red_first = file.is_legacy
    if "S" in pixels.dims and not stored_red_first:
        pixels = pixels.isel(S=slice(None, None, -1))
    return pixels


@pytest.mark.parametrize("how", FORMATS)
@pytest.mark.parametrize("name", VARIANTS)
def test_every_kind_of_file(name: str, how: str, tmp_path: Path) -> None:
    variant = VARIANTS[name]
    options = dict(FORMATS[how])
    source = variant.write(tmp_path / "run.nd2")
    path = quietly_written(source, tmp_path / "run.ome.tif", **options)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["run.nd2", "run.ome.tif"]
    expected = xr.DataArray(variant.expected(), dims=variant.delivered_dims)
    check_pixels(path, expected)
    if variant.oracle and not variant.options.get("missing"):
        by_nd2 = read_by_nd2(source)
        check_pixels(path, by_nd2.expand_dims(T=1) if name == "frame" else by_nd2)
    file: Any
    with tifffile.TiffFile(path) as file:
        page = file.pages.first
        tile = options.get("tile")
        assert page.is_tiled == (tile is not None)
        assert tile is None or page.tile == tile
        words = {None: "NONE", "zlib": "ADOBE_DEFLATE", "zstd": "ZSTD"}
        assert page.compression.name == words[options.get("compression")]
        assert not file.is_bigtiff
        assert (page.photometric.name == "RGB") == ("S" in variant.dims)
        for series in file.series:
            assert len(series.levels) == 1 + options.get("levels", 0)
            for smaller, larger in zip(series.levels[1:], series.levels, strict=False):
                assert smaller.pages[0].is_reduced
                for small, large in zip(smaller.pages, larger.pages, strict=True):
                    np.testing.assert_array_equal(
                        small.asarray(), half_size(large.asarray()[np.newaxis])[0]
                    )


@pytest.mark.parametrize("levels", [0, 2])
def test_document_is_that_of_the_file_and_says_where_planes_are(
    levels: int, tmp_path: Path
) -> None:
    source = tmp_path / "run.nd2"
    pixels = np.random.default_rng(1).integers(0, 9999, (2, 3, 2, 16, 20), np.uint16)
    write_nd2(source, pixels, "PTCYX", channels=[Channel("µ DAPI", 450.0, 405.0), Channel("GFP")])
    path = to_ome_tiff(source, tmp_path / "run.ome.tif", levels=levels)
    written, file = document_of(path), cast("Any", tifffile.TiffFile(path))
    with file:
        assert len(file.pages) == 2 * 3 * 2
        assert file.pages.first.software.startswith("xarray-nd2 ")
        assert all(page.description == "" for page in file.pages[1:])
    for number, image in enumerate(written.images):
        [block] = image.pixels.tiff_data_blocks
        assert (block.ifd, block.plane_count) == (number * 6, 6)
        image.pixels.tiff_data_blocks = []
        image.pixels.metadata_only = ome_types.model.MetadataOnly()
    assert written == ome_metadata(source)
    assert written.images[0].pixels.channels[0].name == "µ DAPI"


SELECTIONS: dict[str, dict[str, Any]] = {
    "slice": {"T": slice(0, 2)},
    "step": {"T": 2, "Y": slice(3, 17)},
    "channel": {"C": 1},
    "channels-turned": {"C": [1, 0], "X": slice(None, None, -1)},
    "list": {"T": [2, 0], "Z": 1},
    "stride": {"Y": slice(None, None, 2), "X": slice(None, None, 2)},
    "row": {"Y": slice(5, 6)},
    "columns-like-samples": {"X": slice(0, 3)},
    "pixel": {"Y": [7], "X": [9]},
}


@pytest.mark.parametrize("chunks", [None, {}], ids=["lazy", "dask"])
@pytest.mark.parametrize("name", SELECTIONS)
def test_selection(name: str, chunks: Any, tmp_path: Path) -> None:
    variant = VARIANTS["time-stack-channels"]
    dataset = xr.open_dataset(variant.write(tmp_path / "run.nd2"), engine="nd2", chunks=chunks)
    selected = dataset.isel(SELECTIONS[name])
    path = to_ome_tiff(selected, tmp_path / "run.ome.tif")
    whole = xr.DataArray(variant.expected(), dims=variant.delivered_dims)
    check_pixels(path, whole.isel(SELECTIONS[name]))
    document = document_of(path)
    names = [channel.name for channel in document.images[0].pixels.channels]
    assert names == np.atleast_1d(selected.C.values).tolist()
    times = {plane.delta_t for plane in document.images[0].pixels.planes}
    assert times == {*np.ravel(selected.time.values).tolist()}
    size = dataset.image.attrs["pixel_size_um"][1] * (2 if name == "stride" else 1)
    assert document.images[0].pixels.physical_size_x == pytest.approx(size)


def test_transposed_and_computed_images(tmp_path: Path) -> None:
    variant = VARIANTS["time-positions-stack"]
    dataset = xr.open_dataset(variant.write(tmp_path / "run.nd2"), engine="nd2", chunks={})
    expected = xr.DataArray(variant.expected(), dims=variant.delivered_dims)
    turned = dataset.transpose("X", "Z", "C", "P", "Y", "T")
    check_pixels(to_ome_tiff(turned, tmp_path / "turned.tif"), expected)
    brighter = dataset.assign(image=dataset.image // 2)
    check_pixels(to_ome_tiff(brighter, tmp_path / "brighter.tiff"), expected // 2)


def test_rows_of_every_height_and_width(tmp_path: Path) -> None:
    for height, width in [(1, 1), (1, 4), (4, 1), (2, 3), (3, 2)]:
        pixels = np.arange(3 * 2 * height * width, dtype="uint16").reshape(3, 2, height, width)
        write_nd2(tmp_path / "run.nd2", pixels, "TCYX")
        path = to_ome_tiff(tmp_path / "run.nd2", tmp_path / "run.tif", overwrite=True)
        check_pixels(path, xr.DataArray(pixels, dims=list("TCYX")))


@pytest.mark.parametrize("name", ["time-positions-stack", "lossless", "rgb", "missing-frames"])
def test_each_frame_is_fetched_once(name: str, http: RangeServer, folder: Path) -> None:
    variant = VARIANTS[name]
    source = variant.write(folder / f"tiff-{name}.nd2")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*frames are not in the file")
        opened = xr.open_dataset(http.url(source.name), engine="nd2", max_gap=0)
    layout = ome_tiff_layout(opened)
    http.log.clear()
    path = quietly_written(opened, folder / f"{name}.ome.tif", overwrite=True)
    asked = np.zeros(source.stat().st_size, np.uint8)
    for request in http.log.entries:
        assert request.start is not None
        asked[request.start : request.stop] += 1
    assert asked.max() == 1
    starts = [offset for offset in layout.offsets.values().tolist() if offset >= 0]
    assert len(starts) == np.count_nonzero(opened.get("frame_valid", np.ones(layout.loop_shape)))
    assert all(asked[start] == 1 for start in starts)
    if layout.compression == "none":
        assert asked.sum() == len(starts) * variant_frame_bytes(opened)
    check_pixels(path, xr.DataArray(variant.expected(), dims=variant.delivered_dims))


def ome_tiff_layout(dataset: xr.Dataset) -> Any:
    from xarray_nd2.lazy_chain import find_nd2_array

    found = find_nd2_array(dataset.image)
    assert found is not None
    return found[0].layout


def variant_frame_bytes(dataset: xr.Dataset) -> int:
    frame = [dataset.sizes[dim] for dim in "CYXS" if dim in dataset.sizes]
    return int(np.prod(frame) * dataset.image.dtype.itemsize)


def test_url_with_small_frames_takes_few_requests(http: RangeServer, folder: Path) -> None:
    source = VARIANTS["many-small-frames"].write(folder / "tiff-small.nd2")
    http.log.clear()
    with trace() as told:
        to_ome_tiff(http.url(source.name), folder / "small.tif", overwrite=True)
    assert told.requests == http.log.requests < 10
    assert told.bytes < source.stat().st_size + 600_000  # what opening takes


def test_frames_are_read_ahead(
    monkeypatch: pytest.MonkeyPatch, http: RangeServer, folder: Path
) -> None:
    monkeypatch.setattr(ome_tiff, "_MAX_PART_BYTES", 1)  # a frame each
    source = VARIANTS["time-stack-channels"].write(folder / "tiff-ahead.nd2")
    opened = xr.open_dataset(http.url(source.name), engine="nd2")
    http.latency = 0.15
    start = time.perf_counter()
    to_ome_tiff(opened, folder / "ahead.tif", overwrite=True)
    assert time.perf_counter() - start < 12 * http.latency  # one after the other would take that


@pytest.mark.parametrize(
    ("image", "plane", "frames", "count"),
    [
        ({}, {}, 5, 1),
        ({"P": 3}, {}, 5, 3),
        ({"P": 2}, {"T": 5, "Z": 3}, 1, 30),
        ({"P": 2}, {"T": 5, "Z": 3}, 2, 20),
        ({"P": 2}, {"T": 5, "Z": 3}, 3, 10),
        ({"P": 2}, {"T": 5, "Z": 3}, 7, 6),
        ({"U": 1, "P": 2}, {"Z": 4, "T": 1}, 100, 2),
    ],
)
def test_parts_hold_each_frame_once_in_order(
    image: dict[str, int], plane: dict[str, int], frames: int, count: int
) -> None:
    sizes = image | plane
    numbers = xr.DataArray(
        np.arange(int(np.prod(list(sizes.values())))).reshape(tuple(sizes.values())),
        dims=list(sizes),
    )
    parts = list(parts_of(image, plane, frames))
    assert len(parts) == count
    found = [np.ravel(numbers.isel(part).values) for part in parts]
    assert max(map(len, found)) <= frames
    assert np.concatenate(found).tolist() == list(range(numbers.size))


def test_progress(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ome_tiff, "_MAX_PART_BYTES", 2 * 4 * 21 * 18 * 2)
    source = VARIANTS["time-stack-channels"].write(tmp_path / "run.nd2")
    told: list[tuple[int, int]] = []
    to_ome_tiff(source, tmp_path / "run.tif", progress=lambda *counts: told.append(counts))
    assert told == [(4, 12), (8, 12), (12, 12)]


def test_bigtiff_where_it_may_be_needed() -> None:
    def largest(*plane: int, count: int, **options: Any) -> int:
        chosen = {"compression": None, "tile": None, "levels": 0} | options
        return _largest_bytes(PlaneFormat(**chosen), plane, 2, count)

    exact = 2048 * 2048 * 2 * 500
    assert exact < largest(2048, 2048, count=500) < 1.2 * exact
    assert largest(2048, 2048, count=500, levels=3) > exact * 1.328
    # Tiles are stored whole.
    assert largest(8, 8, count=10, tile=(1024, 1024)) > 10 * 2 * 1024 * 1024


def test_bigtiff_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from xarray_nd2.export import ome_tiff_file

    variant = VARIANTS["time-stack-channels"]
    monkeypatch.setattr(ome_tiff_file, "_MAX_CLASSIC_BYTES", 1000)
    path = to_ome_tiff(variant.write(tmp_path / "run.nd2"), tmp_path / "run.tif", levels=2)
    with tifffile.TiffFile(path) as file:
        assert file.is_bigtiff
    check_pixels(path, xr.DataArray(variant.expected(), dims=variant.delivered_dims))


def test_means_are_exact() -> None:
    rng = np.random.default_rng(3)
    for dtype in ("uint8", "int16", "uint32", "int32", "float32"):
        pixels = (rng.random((2, 7, 9, 3)) * 2**31 - (dtype[0] != "u") * 2**30).astype(dtype)
        found = half_size(pixels)
        corners = pixels[:, :6, :8].astype("float64").reshape(2, 3, 2, 4, 2, 3)
        mean = corners.mean(axis=(2, 4))
        expected = (np.rint(mean) if dtype[0] != "f" else mean).astype(dtype)
        assert found.dtype == dtype
        np.testing.assert_array_equal(found, expected)
    full = np.full((1, 2, 2), 65535, np.uint16)  # no sum overflows
    assert half_size(full).item() == 65535


MEASURED = """
import sys
from pathlib import Path
from benchmarks._peak_memory import peak_memory_bytes
import xarray_nd2.export.ome_tiff, tifffile, imagecodecs, ome_types, numpy as np, xarray as xr
from xarray_nd2.export import to_ome_tiff
small, large, folder = sys.argv[1], sys.argv[2], Path(sys.argv[3])
options = {"levels": 2, "tile": (256, 256)} if sys.argv[4] == "levels" else {}
to_ome_tiff(small, folder / "small.tif", **options)  # everything is imported, and its pools are made
before = peak_memory_bytes()
to_ome_tiff(large, folder / "large.tif", **options)
print(peak_memory_bytes() - before)
"""


@pytest.mark.parametrize("how", ["plain", "levels"])
def test_memory_is_bounded(how: str, tmp_path: Path, http: RangeServer, folder: Path) -> None:
    """400 MB of frames of 4 MB each, of which a few are in memory; the map of a disk's file is not counted."""
    small = sparse_file(folder / "tiff-few.nd2", {"T": 2, "C": 2, "Y": 1024, "X": 1024})
    large = sparse_file(folder / "tiff-long.nd2", {"T": 100, "C": 2, "Y": 1024, "X": 1024})
    urls = [http.url(small.name), http.url(large.name)]
    command = [sys.executable, "-c", MEASURED, *urls, str(tmp_path), how]
    env = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)])}
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT, env=env)
    assert (tmp_path / "large.tif").stat().st_size >= 100 * 2 * 1024 * 1024 * 2
    assert int(done.stdout) < 200_000_000


KILLED = """
import sys, time
from xarray_nd2.export import to_ome_tiff
def slowly(done, total):
    print(done, flush=True)
    time.sleep(60)
to_ome_tiff(sys.argv[1], sys.argv[2], progress=slowly)
"""


@pytest.mark.skipif(os.name == "nt", reason="kills a process by a signal")
def test_kill_leaves_no_file_of_that_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    variant = VARIANTS["positions-time-stack"]
    source, path = variant.write(tmp_path / "run.nd2"), tmp_path / "run.ome.tif"
    command = [sys.executable, "-c", KILLED, str(source), str(path)]
    env = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env)
    assert process.stdout is not None
    with process:
        assert process.stdout.readline().strip() == "6"  # of 12
        process.send_signal(signal.SIGKILL)
    part = tmp_path / "run.ome.tif.part"
    assert part.exists()
    assert not path.exists()
    part.write_bytes(part.read_bytes() + b"x" * 1_000_000)  # longer than what comes
    to_ome_tiff(source, path)
    assert not part.exists()
    assert path.stat().st_size < 1_000_000
    check_pixels(path, xr.DataArray(variant.expected(), dims=variant.delivered_dims))


def test_failure_leaves_what_was_there(tmp_path: Path) -> None:
    source = VARIANTS["positions-time-stack"].write(tmp_path / "run.nd2")
    path = tmp_path / "run.tif"
    path.write_bytes(b"an earlier one")

    def failing(done: int, total: int) -> None:
        raise RuntimeError(f"{done} of {total}")

    with pytest.raises(RuntimeError, match="6 of 12"):
        to_ome_tiff(source, path, overwrite=True, progress=failing)
    assert path.read_bytes() == b"an earlier one"
    with pytest.raises(FileExistsError, match="overwrite=True"):
        to_ome_tiff(source, path)
    assert path.read_bytes() == b"an earlier one"
    assert sorted(each.name for each in tmp_path.iterdir()) == ["run.nd2", "run.tif"]
    assert to_ome_tiff(source, str(path), overwrite=True) == path
    assert path.read_bytes()[:2] == b"II"


def test_missing_frames_that_must_not_be(tmp_path: Path) -> None:
    source = VARIANTS["missing-frames"].write(tmp_path / "run.nd2")
    with pytest.warns(UserWarning, match="2 of 8 frames"):
        dataset = xr.open_dataset(source, engine="nd2", missing_frames="raise")
    with pytest.raises(ND2FormatError, match="not in the file"):
        to_ome_tiff(dataset, tmp_path / "run.tif")
    assert [each.name for each in tmp_path.iterdir()] == ["run.nd2"]


def test_missing_frames_have_no_times(tmp_path: Path) -> None:
    source = tmp_path / "run.nd2"
    pixels = VARIANTS["missing-frames"].pixels()
    write_nd2(source, pixels, "TZCYX", missing=[3, 6], timestamps=np.arange(8) * 0.5)
    path = quietly_written(source, tmp_path / "run.tif")
    document = document_of(path)
    without = {(p.the_t, p.the_z) for p in document.images[0].pixels.planes if p.delta_t is None}
    assert without == {(1, 1), (3, 0)}


@pytest.fixture
def frame(tmp_path: Path) -> Path:
    return VARIANTS["frame"].write(tmp_path / "frame.nd2")


@pytest.mark.parametrize(
    ("message", "kind", "options"),
    [
        ("compression must be one of None, 'zlib'", ValueError, {"compression": "jpeg"}),
        ("tile must be two multiples of 16", ValueError, {"tile": (16, 20)}),
        ("tile must be two multiples of 16", ValueError, {"tile": (0, 16)}),
        ("tile must be two multiples of 16", ValueError, {"tile": (16,)}),
        ("levels must be at least 0", ValueError, {"levels": -1}),
        ("30 x 40 pixels have no 5 levels", ValueError, {"levels": 5}),
        ("to a local path, not to a URL", ValueError, {"destination": "s3://bucket/run.tif"}),
        ("to a local path, not to a URL", ValueError, {"destination": "zip::run.tif"}),
        ("does not end in .tif", ValueError, {"destination": "frame.nd2", "overwrite": True}),
        ("must be a path, not bytes", TypeError, {"destination": b"run.tif"}),
        ("integer", TypeError, {"levels": 1.5}),
    ],
)
def test_bad_arguments(message: str, kind: Any, options: dict[str, Any], frame: Path) -> None:
    given = {"destination": frame.parent / "run.tif"} | options
    with pytest.raises(kind, match=re.escape(message)):
        to_ome_tiff(frame, **given)
    assert [each.name for each in frame.parent.iterdir()] == ["frame.nd2"]


def test_what_is_no_place_for_a_file(frame: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="none: there is no such folder"):
        to_ome_tiff(frame, tmp_path / "none" / "run.tif")
    folder = tmp_path / "folder.tif"
    folder.mkdir()
    frames: list[int] = []
    with pytest.raises(IsADirectoryError, match="is a folder"):
        to_ome_tiff(frame, folder, overwrite=True, progress=lambda done, _: frames.append(done))
    assert not frames, "it fails before anything is read"


@pytest.mark.parametrize("chunks", [None, {}])
def test_overwriting_does_not_replace_the_source(chunks: Any, frame: Path, tmp_path: Path) -> None:
    source = tmp_path / "really-nd2.tif"
    source.write_bytes(frame.read_bytes())
    (tmp_path / "link.tif").symlink_to(source)
    opened = xr.open_dataset(source, engine="nd2", chunks=chunks)
    for given in (source, f"file://{source}", tmp_path / "link.tif", opened.isel(Y=slice(2))):
        with pytest.raises(FileExistsError, match="is the source"):
            to_ome_tiff(given, source, overwrite=True)
    assert source.read_bytes() == frame.read_bytes()


def test_bad_sources(frame: Path, tmp_path: Path) -> None:
    dataset = xr.open_dataset(frame, engine="nd2")
    out = tmp_path / "run.tif"
    with pytest.raises(TypeError, match="give the dataset it is of"):
        to_ome_tiff(dataset.image, out)
    with pytest.raises(TypeError, match="storage_options are of a source"):
        to_ome_tiff(dataset, out, storage_options={"anon": True})
    with pytest.raises(ValueError, match="no variable 'image'"):
        to_ome_tiff(dataset.rename(image="picture"), out)
    with pytest.raises(ValueError, match="no dimension Y and X"):
        to_ome_tiff(dataset.isel(Y=0, X=0), out)
    with pytest.raises(ValueError, match="nothing is selected along X"):
        to_ome_tiff(dataset.isel(X=slice(0, 0)), out)
    with pytest.raises(ND2UnsupportedError, match="no word for pixels of type bool"):
        to_ome_tiff(dataset.assign(image=dataset.image > 5), out)
    with pytest.raises(ND2NotFoundError):
        to_ome_tiff(tmp_path / "none.nd2", out)
    assert [each.name for each in tmp_path.iterdir()] == ["frame.nd2"]


def test_without_tifffile(frame: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tifffile", None)
    with pytest.raises(ImportError, match=re.escape("pip install 'xarray-nd2[export]'")):
        to_ome_tiff(frame, frame.parent / "run.tif")


def test_without_imagecodecs(tmp_path: Path) -> None:
    """zlib needs no more than tifffile; zstd is refused before anything is opened."""
    source = VARIANTS["time-stack-channels"].write(tmp_path / "run.nd2")
    code = """if True:
    import sys
    from importlib.machinery import PathFinder
    class Without(PathFinder):
        @classmethod
        def find_spec(cls, name, path=None, target=None):
            return None if name == "imagecodecs" else super().find_spec(name, path, target)
    sys.meta_path[:] = [Without if each is PathFinder else each for each in sys.meta_path]
    from xarray_nd2.export import to_ome_tiff
    to_ome_tiff(sys.argv[1], sys.argv[2], compression="zlib")
    assert "imagecodecs" not in sys.modules
    try:
        to_ome_tiff("none.nd2", "none.tif", compression="zstd")
    except ImportError as error:
        assert "pip install imagecodecs" in str(error), error
    else:
        sys.exit("was not refused")
    """
    path = tmp_path / "run.tif"
    env = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    subprocess.run([sys.executable, "-c", code, str(source), str(path)], check=True, env=env)
    variant = VARIANTS["time-stack-channels"]
    check_pixels(path, xr.DataArray(variant.expected(), dims=variant.delivered_dims))


@pytest.mark.corpus
def test_real_files(corpus: Path, tmp_path: Path) -> None:
    compared = 0
    for source in corpus_files():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            dataset = xr.open_dataset(source, engine="nd2")
        if dataset.image.nbytes > 64_000_000 or ("S" in dataset.dims and dataset.sizes["C"] > 1):
            continue
        if "S" not in dataset.dims and any("Red" in str(name) for name in dataset.C.values):
            continue  # nd2 has no order for the components of a mixture
        path = quietly_written(dataset, tmp_path / f"{source.stem}.ome.tif", compression="zlib")
        check_pixels(path, dataset.image.drop_vars(list(dataset.coords)))
        by_nd2 = read_by_nd2(source)
        if {d for d, n in by_nd2.sizes.items() if n > 1} <= set(dataset.image.dims):
            image = dataset.image.drop_vars(list(dataset.coords))
            ones = {d: 0 for d, n in image.sizes.items() if n == 1 and d not in by_nd2.dims}
            np.testing.assert_array_equal(
                by_nd2.squeeze(drop=True), image.isel(ones).squeeze(drop=True)
            )
        compared += 1
        path.unlink()
    assert compared >= 5
