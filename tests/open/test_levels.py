"""The embedded pyramid: each level is a group, lazily, under every 2**k-th label of the image."""

from __future__ import annotations

import io
import struct
import warnings
from contextlib import suppress
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import xarray as xr

from tests.damage import chunk_entries, chunk_parts, damaged
from tests.metadata.damaged import chunks_of, with_chunks
from xarray_nd2 import ND2FormatError, ND2UnsupportedError
from xarray_nd2.format.chunk_map import parse_chunk_map
from xarray_nd2.format.container import CHUNK_HEADER
from xarray_nd2.format.layout import ImageShape
from xarray_nd2.format.levels import possible_levels
from xarray_nd2.open.file_reader import FileReader
from xarray_nd2.open.frame_headers import read_layout_of
from xarray_nd2.open.steps import without_prefetching
from xarray_nd2.testing import Levels, write_nd2
from xarray_nd2.testing.chunks import ChunkWriter

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from xarray_nd2.testing import RangeServer

# Tall and narrow, since the pyramid goes by the larger side.
CASES: dict[str, tuple[dict[str, int], str, dict[str, Any]]] = {
    "frame": ({"Y": 1100, "X": 24}, "uint16", {}),
    "odd": ({"T": 2, "Y": 1301, "X": 23}, "uint16", {}),
    "just-large-enough": ({"T": 2, "Y": 9, "X": 1025}, "uint16", {}),
    "power-of-two": ({"Y": 2048, "X": 8}, "uint16", {}),
    "two-levels": ({"T": 3, "Y": 2101, "X": 15}, "uint16", {"levels": 2}),
    "lossless": ({"T": 3, "Y": 1100, "X": 20}, "uint16", {"compression": "lossless"}),
    "channels": ({"T": 2, "Z": 2, "C": 3, "Y": 1100, "X": 14}, "uint16", {}),
    "colour": ({"P": 2, "Y": 1100, "X": 21, "S": 3}, "uint8", {}),
    "padded-rows": ({"T": 2, "Y": 1100, "X": 27}, "uint8", {"row_alignment": 64}),
    "float": ({"T": 2, "Y": 1100, "X": 10}, "float32", {}),
    "version-2": ({"T": 2, "Y": 1100, "X": 10}, "uint16", {"version": (2, 1)}),
    "many-frames": ({"T": 120, "Y": 1030, "X": 4}, "uint8", {}),
    "means": ({"T": 2, "Y": 2101, "X": 15}, "uint16", {"levels": Levels(2, "mean")}),
}
LEVEL_CHUNK = "CustomDataSeq|DownsampledColorData_1024|{}!"


def pixels_of(sizes: dict[str, int], dtype: str) -> NDArray[Any]:
    return np.random.default_rng(3).integers(1, 250, tuple(sizes.values())).astype(dtype)


@cache
def written(case: str) -> bytes:
    sizes, dtype, options = CASES[case]
    file = io.BytesIO()
    options = {"levels": 1, **options}
    write_nd2(file, pixels_of(sizes, dtype), "".join(sizes), **options)
    return file.getvalue()


def tree_of(data: bytes, **options: Any) -> xr.DataTree:
    return xr.open_datatree(io.BytesIO(data), engine="nd2", **options)


def image_of(tree: xr.DataTree, group: str) -> xr.DataArray:
    image = tree[f"{group}/image"]
    assert isinstance(image, xr.DataArray)
    return image


def halved(image: NDArray[Any], dims: tuple[Any, ...], number: int, *, mean: bool) -> NDArray[Any]:
    """What a level holds of an image, by slices and sums of its own."""
    y, x = dims.index("Y"), dims.index("X")
    moved = np.moveaxis(image, (y, x), (0, 1))
    for _ in range(number):
        even = moved[: moved.shape[0] // 2 * 2, : moved.shape[1] // 2 * 2]
        if mean:
            parts = [even[i::2, j::2].astype(int) for i in (0, 1) for j in (0, 1)]
            moved = (np.sum(parts, axis=0) // 4).astype(image.dtype)
        else:
            moved = even[::2, ::2]
    return np.moveaxis(moved, (0, 1), (y, x))


@pytest.mark.parametrize("chunks", [None, {}], ids=["lazy", "dask"])
@pytest.mark.parametrize("case", CASES)
def test_levels(case: str, chunks: dict[str, int] | None) -> None:
    levels = CASES[case][2].get("levels", 1)
    count = levels.count if isinstance(levels, Levels) else levels
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tree = tree_of(written(case), chunks=chunks)
    assert list(tree.children) == ["image", *(f"level{k}" for k in range(1, count + 1))]
    image = image_of(tree, "image")
    for number in range(1, count + 1):
        level = image_of(tree, f"level{number}")
        expected = halved(image.values, image.dims, number, mean=case == "means")
        assert level.dims == image.dims
        assert level.dtype == image.dtype
        np.testing.assert_array_equal(level.values, expected)
        corner = {"Y": slice(3, 11), "X": [0, 1]}
        np.testing.assert_array_equal(
            level.isel(corner).values, xr.DataArray(expected, dims=level.dims).isel(corner).values
        )
        check_labels(image, level, number)


def check_labels(image: xr.DataArray, level: xr.DataArray, number: int) -> None:
    assert set(level.coords) == set(image.coords)
    for name, coordinate in level.coords.items():
        kept = {dim: slice(None, None, 2**number) for dim in coordinate.dims if dim in ("Y", "X")}
        expected = image[name].isel(kept)
        expected = expected.isel({dim: slice(0, level.sizes[dim]) for dim in kept})
        assert coordinate.variable.identical(expected.variable), name
        if name not in level.dims:
            assert isinstance(coordinate.variable._data, np.ndarray), name
    size = 0.5 * 2**number
    assert level.attrs == image.attrs | {"pixel_size_um": [size, size], "downsampling": 2**number}


def test_a_level_by_its_name() -> None:
    ds = xr.open_dataset(io.BytesIO(written("two-levels")), engine="nd2", group="level2")
    assert dict(ds.image.sizes) == {"T": 3, "C": 1, "Y": 525, "X": 3}
    with pytest.raises(
        ND2FormatError, match="no group 'level3'; the file has: image, level1, level2"
    ):
        xr.open_dataset(io.BytesIO(written("two-levels")), engine="nd2", group="level3")


def test_nothing_embedded() -> None:
    file = io.BytesIO()
    write_nd2(file, pixels_of({"Y": 1100, "X": 24}, "uint16"), "YX")
    assert list(tree_of(file.getvalue()).children) == ["image"]


def test_the_second_level_alone() -> None:
    data = written("two-levels")
    large = [name for name in chunks_of(data) if b"Data_2048" in name]
    assert len(large) == 3
    tree = tree_of(with_chunks(data, dict.fromkeys(large)))
    assert list(tree.children) == ["image", "level2"]
    expected = halved(image_of(tree, "image").values, image_of(tree, "image").dims, 2, mean=False)
    np.testing.assert_array_equal(image_of(tree, "level2").values, expected)


def test_missing_level_frames() -> None:
    data = with_chunks(written("channels"), {LEVEL_CHUNK.format(2).encode(): None})
    told = "1 of 4 frames of the group level1 are not in the file and read as zeros; see the "
    with pytest.warns(UserWarning, match=told) as caught:
        tree = tree_of(data)
    assert len(caught) == 1
    assert "frame_valid" not in tree["image"].ds
    level = image_of(tree, "level1")
    assert level.frame_valid.values.tolist() == [[True, True], [False, True]]
    expected = halved(image_of(tree, "image").values, level.dims, 1, mean=False).copy()
    expected[1, 0] = 0
    np.testing.assert_array_equal(level.values, expected)
    with pytest.warns(UserWarning, match="and cannot be read"):
        strict = image_of(tree_of(data, missing_frames="raise"), "level1")
    np.testing.assert_array_equal(strict[0].values, expected[0])
    with pytest.raises(ND2FormatError, match="1 of the frames asked for are not in the file"):
        strict.load()


def test_a_level_whose_every_frame_is_beyond_the_image() -> None:
    name = LEVEL_CHUNK.format(0).encode()
    data = written("frame")
    moved = with_chunks(data, {name: None, LEVEL_CHUNK.format(7).encode(): chunks_of(data)[name]})
    assert list(tree_of(moved).children) == ["image"]


@pytest.mark.parametrize("change", [-4, 5000, 400_000])
def test_frames_of_another_size(change: int) -> None:
    """A level of fewer bytes than its rows is left out, never read beyond its end."""
    name = LEVEL_CHUNK.format(0).encode()
    frame = chunks_of(written("frame"))[name]
    other = frame[:change] if change < 0 else frame + bytes(change)
    data = with_chunks(written("frame"), {name: other})
    with pytest.warns(
        UserWarning, match=f"level1 is left out: frames of {len(other)} bytes cannot"
    ):
        tree = tree_of(data)
    assert list(tree.children) == ["image"]
    assert image_of(tree, "image").values.any()


def level_layout(data: bytes, case: str) -> list[int | None]:
    """Where the pixels of each frame of the first level are found, None where reading is refused."""
    sizes, dtype, _ = CASES[case]
    itemsize = np.dtype(dtype).itemsize
    image = ImageShape(
        loops=(("T", sizes["T"]),),
        channels=1,
        height=sizes["Y"],
        width=sizes["X"],
        samples=1,
        dtype=np.dtype(dtype),
        row_stride_bytes=-(-sizes["X"] * itemsize // 4) * 4,
        compression="none",
    )
    level = possible_levels(image)[0]
    location = struct.unpack("<Q", data[-8:])[0]
    area = CHUNK_HEADER.unpack_from(data, location)[1]
    chunk_map = parse_chunk_map(data[location + CHUNK_HEADER.size + area :], location)
    chunk_map = chunk_map.with_frames(level.sequence.name)
    reader = FileReader(lambda ranges: [data[start:stop] for start, stop in ranges], len(data), b"")
    layout = without_prefetching(read_layout_of(reader, chunk_map, level.image, level.sequence))
    places = zip(layout.offsets.values().tolist(), layout.lengths.values().tolist(), strict=True)
    least = level.image.frame_bytes
    return [
        start if length >= least and start + least <= len(data) else None
        for start, length in places
    ]


def fields(data: bytes, frame: int) -> dict[str, tuple[int, int]]:
    """Where the fields of a level's frame are, and how many bytes they take."""
    name = LEVEL_CHUNK.format(frame).encode()
    entry = chunk_entries(data)[name]
    chunk = struct.unpack_from("<Q", data, entry)[0]
    return {
        "magic": (chunk, 4),
        "name length": (chunk + 4, 4),
        "data length": (chunk + 8, 8),
        "name": (chunk + 16, len(name)),
        "offset in map": (entry, 8),
        "length in map": (entry + 8, 8),
    }


def with_bytes(data: bytes, at: int, new: bytes) -> bytes:
    return data[:at] + new + data[at + len(new) :]


def flipped(data: bytes, at: int, size: int) -> Iterator[bytes]:
    for bit in range(8 * size):
        place = at + bit // 8
        yield with_bytes(data, place, bytes([data[place] ^ 1 << bit % 8]))


@cache
def sound_places(case: str) -> list[int | None]:
    return level_layout(written(case), case)


@pytest.mark.parametrize("case", ["two-frames", "odd", "many-frames"])
def test_flipped_bits(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever becomes of one field of one frame: that one is right or refused, all others right."""
    monkeypatch.setitem(CASES, "two-frames", ({"T": 2, "Y": 1100, "X": 12}, "uint16", {}))
    data, expected = written(case), sound_places(case)
    assert None not in expected
    refused = 0
    for frame in {0, 1, len(expected) // 2 + 3, len(expected) - 1} & set(range(len(expected))):
        for at, size in fields(data, frame).values():
            for copy in flipped(data, at, size):
                places = level_layout(copy, case)
                found = places[frame]
                assert found in (None, expected[frame])
                places[frame] = expected[frame]
                assert places == expected
                refused += found is None
    assert refused > 0


def test_map_lengths_that_lie() -> None:
    """They are checked against the size of the level, and the header has the last word."""
    data, case = written("many-frames"), "many-frames"
    for frame in range(120):
        at, _ = fields(data, frame)["length in map"]
        data = with_bytes(data, at, struct.pack("<Q", 7 + frame % 2))
    assert level_layout(data, case) == sound_places(case)


def test_swapped_chunks() -> None:
    """Frames whose places in the map are swapped are found out by their names, and not read."""
    data = written("lossless")
    entries = chunk_entries(data)
    first, second = (entries[LEVEL_CHUNK.format(i).encode()] for i in (0, 2))
    swapped = with_bytes(data, first, data[second : second + 16])
    swapped = with_bytes(swapped, second, data[first : first + 16])
    level = image_of(tree_of(swapped), "level1")
    np.testing.assert_array_equal(level[1].values, image_of(tree_of(data), "level1")[1].values)
    for frame in (0, 2):
        with pytest.raises(ND2FormatError, match=f"frame {frame} cannot be read"):
            level[frame].load()


def test_swapped_chunks_of_many() -> None:
    """The frames between them do not lie in their order either, so all of their headers are read."""
    data = written("many-frames")
    entries = chunk_entries(data)
    first, second = (entries[LEVEL_CHUNK.format(i).encode()] for i in (30, 40))
    swapped = with_bytes(data, first, data[second : second + 16])
    swapped = with_bytes(swapped, second, data[first : first + 16])
    expected = sound_places("many-frames").copy()
    expected[30] = expected[40] = None
    assert level_layout(swapped, "many-frames") == expected


def test_a_level_in_the_place_of_another() -> None:
    data = written("two-levels")
    entries = chunk_entries(data)
    small, large = (entries[b"CustomDataSeq|DownsampledColorData_%d|1!" % s] for s in (1024, 2048))
    lied = with_bytes(data, small, data[large : large + 16])
    tree = tree_of(lied)
    sound = tree_of(data)
    np.testing.assert_array_equal(image_of(tree, "level1")[1], image_of(sound, "level1")[1])
    np.testing.assert_array_equal(image_of(tree, "level2")[::2], image_of(sound, "level2")[::2])
    with pytest.raises(ND2FormatError, match="frame 1 cannot be read"):
        image_of(tree, "level2")[1].load()


def test_where_a_longer_name_moves_the_pixels(folder: Path, http: RangeServer) -> None:
    """Data ends on a page, so that a name of one byte more can move it by a page; no doubt remains."""
    sizes = {"T": 103, "Y": 18392, "X": 2}
    frames = pixels_of(sizes, "uint8")
    path = folder / "longer-names.nd2"
    write_nd2(path, frames, "TYX", levels=1)
    chunk = b"CustomDataSeq|DownsampledColorData_16384|%d!"
    data = path.read_bytes()
    places = [chunk_parts(data, chunk_entries(data)[chunk % i]) for i in (99, 100)]
    assert [start - offset for offset, start, _ in places] == [80, 80 + 4096]
    http.latency = 0.05
    xr.open_dataset(http.url(path.name))
    alone = http.log.round_trips
    http.log.clear()
    level = image_of(xr.open_datatree(http.url(path.name), engine="nd2"), "level1")
    assert http.log.round_trips == alone + 1
    np.testing.assert_array_equal(level[:, 0].values, frames[:, ::2, ::2])


@pytest.mark.parametrize("area", [0, 64, 4080])
def test_unusual_name_areas(area: int) -> None:
    """What the headers agree about is believed."""
    data = written("many-frames")
    names = [name for name in chunk_entries(data) if b"Downsampled" in name]
    other = with_name_areas(data, {name: max(area, len(name)) for name in names})
    np.testing.assert_array_equal(
        image_of(tree_of(other), "level1").values, image_of(tree_of(data), "level1").values
    )


def with_name_areas(data: bytes, areas: dict[bytes, int]) -> bytes:
    sink = io.BytesIO()
    writer = ChunkWriter(sink, (3, 0))
    for name, place in chunk_entries(data).items():
        offset, start, stop = chunk_parts(data, place)
        area = start - offset - CHUNK_HEADER.size if name.startswith(b"ImageDataSeq") else None
        writer.append(name.decode(), data[start:stop], name_area=areas.get(name, area))
    writer.finish(by_name=True)
    return sink.getvalue()


def test_truncated_files_are_rescued_with_their_levels() -> None:
    data = written("two-levels")
    cut = struct.unpack("<Q", data[-8:])[0]
    with pytest.warns(UserWarning, match="rescued without a chunk map"):
        tree = tree_of(data[:cut], rescue=True)
    sound = tree_of(data)
    for name in ("level1", "level2"):
        np.testing.assert_array_equal(tree[f"{name}/image"].values, sound[f"{name}/image"].values)


FUZZED = ("two-levels", "colour", "lossless")


@pytest.mark.parametrize("case", FUZZED)
def test_random_damage(case: str) -> None:
    """An error of the tree, or a level of the right shape; where the image opens, so does the tree."""
    data = written(case)
    opened = 0
    for seed in range(120):
        _, copy = damaged(data, seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                xr.open_dataset(io.BytesIO(copy), engine="nd2")
            except (ND2FormatError, ND2UnsupportedError):
                continue
            tree = tree_of(copy)
        opened += 1
        for name, node in tree.children.items():
            if name == "image":
                continue
            level = node.image if node.image.nbytes < 2**26 else node.image[..., :1]
            with suppress(ND2FormatError):
                assert level.values.shape == level.shape
    assert opened > 20


def test_damage_of_one_chunk_of_a_level() -> None:
    """Hundreds of variants: bytes of its header, or of its entry in the map, are others."""
    data = written("two-levels")
    sound = image_of(tree_of(data), "level1").values
    rng = np.random.default_rng(8)
    names = sorted(fields(written("odd"), 0))
    read = refused = 0
    entries = chunk_entries(data)
    for _ in range(300):
        frame = int(rng.integers(0, 3))
        entry = entries[b"CustomDataSeq|DownsampledColorData_2048|%d!" % frame]
        chunk = struct.unpack_from("<Q", data, entry)[0]
        at = {"magic": chunk, "name": chunk + 16, "name length": chunk + 4}.get(
            names[int(rng.integers(0, len(names)))], entry
        )
        new = rng.bytes(int(rng.integers(1, 9)))
        level = image_of(tree_of(with_bytes(data, at, new)), "level1")
        for i in range(3):
            try:
                np.testing.assert_array_equal(level[i].values, sound[i])
                read += 1
            except ND2FormatError:
                assert i == frame
                refused += 1
    assert read > 600
    assert refused > 100


@pytest.fixture
def served(folder: Path) -> Path:
    path = folder / "levels.nd2"
    sizes = {"T": 20, "Y": 2200, "X": 256}
    write_nd2(path, pixels_of(sizes, "uint8"), "TYX", levels=2)
    return path


def test_all_levels_cost_one_round_trip(served: Path, http: RangeServer) -> None:
    http.latency = 0.05
    xr.open_dataset(http.url(served.name))
    alone = http.log.round_trips, http.log.bytes
    http.log.clear()
    xr.open_datatree(http.url(served.name), engine="nd2")
    assert http.log.round_trips == alone[0] + 1
    assert http.log.bytes - alone[1] < 1_000_000  # headers of ten frames


def test_doubts_about_all_levels_cost_one_more(served: Path, http: RangeServer) -> None:
    http.latency = 0.05
    xr.open_dataset(http.url(served.name))
    alone = http.log.round_trips
    data = served.read_bytes()
    for size in (2048, 1024):
        at = chunk_entries(data)[b"CustomDataSeq|DownsampledColorData_%d|7!" % size] + 8
        data = with_bytes(data, at, struct.pack("<Q", 5))
    served.with_name("doubts.nd2").write_bytes(data)
    http.log.clear()
    tree = xr.open_datatree(http.url("doubts.nd2"), engine="nd2")
    assert http.log.round_trips == alone + 2
    sound = xr.open_datatree(served, engine="nd2")
    for name in ("level1", "level2"):
        np.testing.assert_array_equal(image_of(tree, name)[7], image_of(sound, name)[7])


@pytest.mark.parametrize("chunks", [None, {}], ids=["lazy", "dask"])
def test_a_crop_fetches_its_rows(
    chunks: dict[str, int] | None, served: Path, http: RangeServer
) -> None:
    tree = xr.open_datatree(http.url(served.name), engine="nd2", chunks=chunks, max_gap=0)
    http.log.clear()
    crop = image_of(tree, "level1").isel(T=3, Y=slice(100, 110)).values
    assert http.log.bytes == 10 * 128
    assert http.log.requests == 1
    http.log.clear()
    image_of(tree, "level2").isel(T=4).values  # noqa: B018
    assert http.log.bytes == 550 * 64
    expected = image_of(xr.open_datatree(served, engine="nd2"), "image").values
    np.testing.assert_array_equal(crop[0], expected[3, 0, 200:220:2, ::2])


def test_a_preview_in_few_round_trips(served: Path, http: RangeServer) -> None:
    """As the docs have it: the smallest level that is large enough, and every n-th pixel of it."""
    http.latency = 0.05
    xr.open_dataset(http.url(served.name))
    alone = http.log.round_trips
    http.log.clear()
    tree = xr.open_datatree(http.url(served.name), engine="nd2")
    levels = [node.image for node in tree.children.values() if "image" in node.data_vars]
    level = [each for each in levels if max(each.sizes["Y"], each.sizes["X"]) >= 512][-1]
    preview = level.isel(T=0).squeeze()
    assert preview.shape == (550, 64)
    preview.load()
    assert http.log.round_trips == alone + 2


@pytest.mark.parametrize("case", ["two-levels", "colour"])
def test_round_trips_of_the_tree(case: str, tmp_path: Path) -> None:
    tree = tree_of(written(case))
    tree.to_zarr(tmp_path / "tree.zarr", zarr_format=2, consolidated=False)
    tree.to_netcdf(tmp_path / "tree.nc")
    for again in (
        xr.open_datatree(tmp_path / "tree.zarr", engine="zarr", consolidated=False),
        xr.open_datatree(tmp_path / "tree.nc"),
    ):
        for name, node in tree.children.items():
            xr.testing.assert_equal(again[name].ds, node.ds)


@pytest.mark.corpus
def test_a_file_of_the_vendors_writer(corpus: Path) -> None:
    path = corpus / "lim-pyramid.nd2"
    if not path.exists():
        pytest.skip("the folder of real files has no lim-pyramid.nd2")
    tree = xr.open_datatree(path, engine="nd2")
    image, level = image_of(tree, "image"), image_of(tree, "level1")
    assert list(tree.children) == ["image", "level1"]
    assert dict(level.sizes) == {"T": 2, "C": 1, "Y": 550, "X": 650}
    np.testing.assert_array_equal(level.values, image.values[..., ::2, ::2])
    np.testing.assert_array_equal(level.Y.values, image.Y.values[::2])
