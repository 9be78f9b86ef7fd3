"""The group of masks: what is in it, and what it costs to read."""

from __future__ import annotations

import io
import os
import pickle
import re
import struct
import subprocess
import sys
import warnings
from collections import Counter
from itertools import islice
from typing import TYPE_CHECKING, Any

import nd2
import numpy as np
import pytest
import xarray as xr

from tests.damage import damaged
from tests.metadata.chunk_trees import decoded
from tests.metadata.damaged import damages_of_keys, with_chunks
from tests.testing.written import chunks_of, pixels, written
from xarray_nd2 import ND2FormatError, ND2UnsupportedError
from xarray_nd2.testing import MaskLayer
from xarray_nd2.testing.chunks import MAP_ENTRY_VALUES

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from xarray_nd2.testing import RangeServer

DAMAGED_FILES = int(os.environ.get("ND2_FUZZ_VARIANTS", "72")) * 2
T, Z, Y, X = 4, 3, 64, 48
LAYERS_CHUNK = b"CustomDataVar|BinaryMetadata_v1!"
TILED_CHUNK = b"CustomData|BinaryMetadata_v2!"
SEQUENCE = "CustomDataSeq|RleZipBinarySequence_{}_v1|{}!"
ABSENT, SHORT, WITHOUT_OBJECTS = 4, 7, 9  # frames of the second layer
# Noise hardly compresses, so that planes take several pages.
CELLS = np.random.default_rng(1).integers(0, 40, (T, Z, Y, X)) * 1_750
NUCLEI = np.random.default_rng(2).integers(0, 3, (T, Z, Y, X))
NUCLEI.reshape(-1, Y, X)[[ABSENT, SHORT, WITHOUT_OBJECTS]] = 0


def nuclei_of(frame: int) -> NDArray[Any] | bytes | None:
    if frame == ABSENT:
        return None
    return b"\0" if frame == SHORT else NUCLEI.reshape(-1, Y, X)[frame]


def file_with_masks(**options: Any) -> bytes:
    layers = [
        MaskLayer("cells", CELLS, "#ff8800", "DAPI", layer_id=7),
        MaskLayer("cells", nuclei_of, version=options.pop("mask_version", 3)),
    ]
    return written(pixels(T, Z, 1, Y, X), "TZCYX", masks=layers, channels=["DAPI"], **options)


@pytest.fixture(scope="module")
def file() -> bytes:
    return file_with_masks(timestamps=np.arange(T * Z) * 1.5)


def masks_of(data: bytes, **options: Any) -> xr.Dataset:
    return xr.open_dataset(io.BytesIO(data), engine="nd2", group="masks", **options)


def expected() -> NDArray[Any]:
    return np.stack([CELLS, NUCLEI])


@pytest.mark.parametrize("chunks", [None, {}, {"layer": 1, "T": 1, "Z": 1, "Y": 10}])
def test_as_written(file: bytes, chunks: dict[str, int] | None) -> None:
    ds = masks_of(file, chunks=chunks)
    assert ds.mask.dims == ("layer", "T", "Z", "Y", "X")
    assert ds.mask.dtype == np.uint32
    assert ds.layer.values.tolist() == ["cells", "cells (2)"]
    assert ds.layer_color.values.tolist() == ["#ff8800", ""]
    assert ds.layer_component.values.tolist() == ["DAPI", ""]
    assert ds.layer_id.values.tolist() == [7, 2]
    np.testing.assert_array_equal(ds.mask.values, expected())
    valid = np.ones((2, T * Z), bool)
    valid[1, [ABSENT, SHORT]] = False
    np.testing.assert_array_equal(ds.mask_valid.values.reshape(2, -1), valid)
    assert ds.mask_valid.chunks is None
    assert (ds.mask.chunks is None) == (chunks is None)


@pytest.mark.parametrize("version", [(3, 0), (2, 1)])
def test_as_nd2_reads_it(version: tuple[int, int]) -> None:
    labels = NUCLEI + 1
    layers = [MaskLayer(f"{i}", labels * i) for i in range(1, 13)]  # 10 comes after 9
    data = written(pixels(T, Z, Y, X), "TZYX", masks=layers, version=version)
    with nd2.ND2File(io.BytesIO(data)) as read:
        theirs: Any = read.binary_data
        ours = masks_of(data)
        np.testing.assert_array_equal(ours.mask.values, theirs.asarray())
        assert ours.layer.values.tolist() == [layer.name for layer in theirs]


def test_objects_of_version_2() -> None:
    np.testing.assert_array_equal(masks_of(file_with_masks(mask_version=2)).mask, expected())


def test_labels_are_those_of_the_image(file: bytes) -> None:
    tree = xr.open_datatree(io.BytesIO(file), engine="nd2")
    assert list(tree.children) == ["image", "masks"]
    image, masks = tree["image"].to_dataset(), tree["masks"].to_dataset()
    for name in ("T", "Z", "Y", "X", "time", "stage_z"):
        assert masks[name].variable.identical(image[name].variable), name
    assert "C" not in masks.coords
    merged = xr.merge([image, masks], join="exact", compat="equals")
    assert set(merged.data_vars) == {"image", "mask", "mask_valid"}
    assert merged.image.where(merged.mask.isel(layer=1) > 0).shape == (T, Z, 1, Y, X)


def test_a_single_frame_without_loops() -> None:
    labels = np.arange(40).reshape(5, 8)
    ds = masks_of(written(pixels(5, 8), "YX", masks=[MaskLayer("", labels)]))
    assert ds.mask.dims == ("layer", "Y", "X")
    assert ds.layer.values.tolist() == ["RleZipBinarySequence_1_v1"]
    np.testing.assert_array_equal(ds.mask.values[0], labels)


KEYS: list[dict[str, Any]] = [
    {"layer": 1, "T": 2, "Z": 0},
    {"layer": [1, 0], "T": slice(None, None, -2), "Y": slice(10, 50, 3), "X": [5, 1, 1]},
    {"T": [3, 0, 3], "Z": -1, "Y": 7},
    {"Y": slice(0, 0)},
    {"T": []},
    {
        "layer": xr.DataArray([0, 1, 1, 0], dims="n"),
        "T": xr.DataArray([0, 3, 1, 0], dims="n"),
        "Y": xr.DataArray([5, 6, 6, 1], dims="n"),
        "X": xr.DataArray([1, 2, 2, 40], dims="n"),
    },
    {
        "T": xr.DataArray([0, 3, 3], dims="n"),
        "Y": xr.DataArray([[0, 1], [2, 3], [60, 63]], dims=("n", "y")),
    },
]


@pytest.mark.parametrize("chunks", [None, {}, {"T": 1}])
@pytest.mark.parametrize("key", KEYS)
def test_keys(key: dict[str, Any], chunks: dict[str, int] | None, file: bytes) -> None:
    lazy = masks_of(file, chunks=chunks).mask
    whole = xr.DataArray(expected(), dims=lazy.dims)
    np.testing.assert_array_equal(lazy.isel(key).values, whole.isel(key).values)


def test_pickled_and_in_another_process(file: bytes, tmp_path: Path) -> None:
    path = tmp_path / "masks.nd2"
    path.write_bytes(file)
    mask = xr.open_dataset(path, engine="nd2", group="masks", chunks=None).mask
    copy = pickle.loads(pickle.dumps(mask.isel(T=1)))
    np.testing.assert_array_equal(copy.values, expected()[:, 1])
    (tmp_path / "mask.pickle").write_bytes(pickle.dumps(mask))
    code = (
        "import pickle, sys; mask = pickle.load(open(sys.argv[1], 'rb')); "
        "print(int(mask.isel(T=2, layer=0).sum()))"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "mask.pickle")]
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    assert int(ran.stdout) == CELLS[2].sum()


@pytest.mark.filterwarnings("ignore:The data type")
@pytest.mark.parametrize("chunks", [None, {}])
def test_written_as_netcdf_and_zarr(
    chunks: dict[str, int] | None, file: bytes, tmp_path: Path
) -> None:
    tree = xr.open_datatree(io.BytesIO(file), engine="nd2", chunks=chunks)
    tree.to_zarr(tmp_path / "tree.zarr", consolidated=False)
    back = xr.open_datatree(tmp_path / "tree.zarr", engine="zarr", consolidated=False)
    xr.testing.assert_equal(back["masks"].to_dataset(), tree["masks"].to_dataset())
    tree.to_netcdf(tmp_path / "tree.nc")
    with xr.open_datatree(tmp_path / "tree.nc") as read:
        xr.testing.assert_equal(read["masks"].to_dataset(), tree["masks"].to_dataset())


@pytest.fixture
def served(file: bytes, folder: Path, request: pytest.FixtureRequest) -> Path:
    """The masks in a file whose ends do not hold them, at an address of its own."""
    name = re.sub(r"\W", "_", request.node.name)
    path = folder / f"masks-{name}.nd2"
    path.write_bytes(with_chunks(file, {b"CustomData|Far!": bytes(2**20)}))
    return path


def extent_of(path: Path, layer: int, *frames: int) -> set[tuple[int, int]]:
    """Start and stop of planes of a layer, which is all that may be read for them."""
    chunks = chunks_of(path.read_bytes())
    found = set()
    for frame in frames:
        chunk = chunks[SEQUENCE.format(layer, frame)]
        found.add((chunk.offset, chunk.offset + 16 + len(chunk.name_area) + len(chunk.data)))
    return found


@pytest.mark.parametrize("chunks", [None, {}, {"layer": 1, "T": 1, "Z": 1}])
def test_a_crop_reads_its_planes_and_nothing_else(
    chunks: dict[str, int] | None, served: Path, http: RangeServer
) -> None:
    ds = xr.open_dataset(http.url(served.name), engine="nd2", group="masks", chunks=chunks)
    http.log.clear()
    repr(ds)
    assert http.log.requests == 0
    crop = ds.mask.isel(layer=0, T=[0, 2], Z=1, Y=slice(5, 9), X=[3])
    http.latency = 0.1
    np.testing.assert_array_equal(crop.values, CELLS[[0, 2], 1, 5:9, 3:4])
    wanted = extent_of(served, 1, 1, 7)
    assert http.log.bytes == sum(stop - start for start, stop in wanted)
    assert {entry.start for entry in http.log.entries} == {start for start, _ in wanted}
    assert http.log.requests == 2
    assert http.log.round_trips == 1
    http.log.clear()
    assert not ds.mask.isel(layer=1, T=ABSENT // Z, Z=ABSENT % Z).values.any()
    assert http.log.bytes == 0


def test_planes_that_follow_each_other_are_read_at_once(served: Path, http: RangeServer) -> None:
    ds = xr.open_dataset(http.url(served.name), engine="nd2", group="masks")
    http.log.clear()
    np.testing.assert_array_equal(ds.mask.values, expected())
    planes = extent_of(served, 1, *range(T * Z))
    planes |= extent_of(served, 2, *set(range(T * Z)) - {ABSENT})
    assert http.log.bytes == sum(stop - start for start, stop in planes)
    assert http.log.requests < 5
    http.log.clear()
    np.testing.assert_array_equal(ds.mask.isel(layer=0, T=0).values, CELLS[0])
    assert http.log.bytes == 0  # the masks decoded last are kept


async def test_async_load(served: Path, http: RangeServer) -> None:
    ds = xr.open_dataset(http.url(served.name), engine="nd2", group="masks")
    loaded = await ds.mask.isel(layer=0, Z=0).load_async()
    np.testing.assert_array_equal(loaded.values, CELLS[:, 0])


def test_opening_costs(served: Path, http: RangeServer) -> None:
    costs = {}
    http.latency = 0.05
    for group in ("image", "masks"):
        http.log.clear()
        xr.open_dataset(http.url(served.name), engine="nd2", group=group)
        costs[group] = http.log.round_trips, http.log.bytes
    assert costs["masks"][0] <= costs["image"][0] + 1
    assert costs["masks"][1] < costs["image"][1] + 2 * 4096 + 2 * 4096


def test_no_masks() -> None:
    plain = written(pixels(2, 5, 8), "TYX")
    without_layers = with_chunks(
        plain,
        {
            LAYERS_CHUNK: b'<variant version="1.0"><BinaryMetadata_v1 runtype="CLxListVariant"/></variant>'
        },
    )
    for data in (plain, without_layers, with_chunks(plain, {TILED_CHUNK: b"[]"})):
        assert list(xr.open_datatree(io.BytesIO(data), engine="nd2").children) == ["image"]
        with pytest.raises(ND2FormatError, match="no group 'masks'"):
            masks_of(data)


def test_tiled_masks_are_not_decoded(file: bytes) -> None:
    tiled = {TILED_CHUNK: b'[{"id": 1}]'}
    data = with_chunks(written(pixels(2, 5, 8), "TYX"), tiled)
    with pytest.warns(UserWarning, match="masks is left out.*BinaryMetadata_v2"):
        tree = xr.open_datatree(io.BytesIO(data), engine="nd2")
    assert list(tree.children) == ["image"]
    with pytest.raises(ND2UnsupportedError, match="<BytesIO>.*BinaryMetadata_v2"):
        masks_of(data)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        xr.open_dataset(io.BytesIO(data), engine="nd2")
        assert masks_of(with_chunks(file, tiled)).sizes["layer"] == 2


def test_masks_of_frames_that_are_not_there(file: bytes) -> None:
    more = {SEQUENCE.format(1, T * Z).encode(): b"\0", SEQUENCE.format(2, 10**9).encode(): b"\0"}
    with pytest.warns(UserWarning, match="2 masks are of frames"):
        ds = masks_of(with_chunks(file, more))
    np.testing.assert_array_equal(ds.mask.values, expected())


def in_map(data: bytes, name: str, offset: int, length: int) -> bytes:
    """The file with another place for one chunk in its map."""
    (location,) = struct.unpack("<Q", data[-8:])
    at = data.index(name.encode(), location) + len(name)
    return data[:at] + MAP_ENTRY_VALUES.pack(offset, length) + data[at + MAP_ENTRY_VALUES.size :]


def test_a_map_that_lies(file: bytes) -> None:
    name, other = SEQUENCE.format(1, 5), SEQUENCE.format(1, 6)
    chunk = chunks_of(file)[name]
    elsewhere = chunks_of(file)[other].offset
    for offset, length in (
        (elsewhere, len(chunk.data)),
        (chunk.offset + 1, len(chunk.data)),
        (0, len(chunk.data)),
        (2**63, len(chunk.data)),
        (len(file) - 40, 10),
        (chunk.offset, len(chunk.data) - 1),
        (chunk.offset, 2),  # as of a frame without a mask
        (chunk.offset, 0),
        (chunk.offset, 2**62),
    ):
        ds = masks_of(in_map(file, name, offset, length))
        with pytest.raises(ND2FormatError, match="^<BytesIO>: "):
            ds.mask.isel(layer=0, T=1, Z=2).values  # noqa: B018
        np.testing.assert_array_equal(ds.mask.isel(layer=1).values, NUCLEI)
        np.testing.assert_array_equal(ds.mask.isel(layer=0, T=0).values, CELLS[0])
    unknown = masks_of(in_map(file, name, chunk.offset, chunk.offset))
    np.testing.assert_array_equal(unknown.mask.values, expected())


def test_a_damaged_plane_costs_only_itself(file: bytes) -> None:
    name = SEQUENCE.format(1, 5).encode()
    plane = chunks_of(file)[name.decode()].data
    rng = np.random.default_rng(4)
    for trial in range(60):
        edited = bytearray(plane)
        for at in rng.integers(0, len(plane), 1 + trial % 3):
            edited[at] ^= int(rng.integers(1, 256))
        content = bytes(edited[: rng.integers(4, len(plane))] if trial % 4 == 0 else edited)
        tree = xr.open_datatree(io.BytesIO(with_chunks(file, {name: content})), engine="nd2")
        mask = tree["masks/mask"]
        with pytest.raises(ND2FormatError, match=r"^<BytesIO>: the chunk .*_1_v1\|5!"):
            mask.isel(layer=0, T=1, Z=2).values  # noqa: B018
        np.testing.assert_array_equal(mask.isel(layer=0, T=2).values, CELLS[2])
        assert tree["image/image"].shape == (T, Z, 1, Y, X)


def test_a_mask_of_another_size(file: bytes) -> None:
    other = written(pixels(8, 8), "YX", masks=[MaskLayer("a", np.ones((8, 8), int))])
    plane = chunks_of(other)[SEQUENCE.format(1, 0)].data
    ds = masks_of(with_chunks(file, {SEQUENCE.format(1, 0).encode(): plane}))
    with pytest.raises(ND2FormatError, match="8 x 8 pixels, the image 64 x 48"):
        ds.mask.isel(layer=0, T=0).values  # noqa: B018


SMALL = written(
    pixels(2, 1, 5, 8),
    "TCYX",
    masks=[
        MaskLayer("cells", np.arange(80).reshape(2, 5, 8), "#ff8800", "Ch0", component_order=0),
        MaskLayer("nuclei", np.ones((2, 5, 8), int)),
    ],
)


def test_damaged_descriptions() -> None:
    """Each key of the description: the group is left out, or the masks that are there are right."""
    description = chunks_of(SMALL)[LAYERS_CHUNK.decode()].data
    tree = decoded(description)
    masks = dict(enumerate([np.arange(80).reshape(2, 5, 8), np.ones((2, 5, 8))]))
    image = xr.open_dataset(io.BytesIO(SMALL), engine="nd2")
    contents = [
        tree.without(path) if damage == "deleted" else tree.with_value(path, damage)
        for path, damage in islice(damages_of_keys(tree, each_name_once=True), 0, None, 2)
    ]
    rng = np.random.default_rng(5)
    for _ in range(60):
        edited = bytearray(description)
        edited[int(rng.integers(len(edited)))] ^= 1 << int(rng.integers(8))
        contents.append(bytes(edited))
    contents += [b"", b"\0", description[:100], b"\xff" * 100, rng.bytes(300)]
    found = 0
    for content in contents:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            groups = xr.open_groups(
                io.BytesIO(with_chunks(SMALL, {LAYERS_CHUNK: content})), engine="nd2"
            )
        assert groups["/image"].drop_attrs().identical(image.drop_attrs())
        if "/masks" not in groups:
            continue
        found += 1
        group = groups["/masks"]
        for layer in range(group.sizes["layer"]):
            mask, valid = group.mask.values[layer], group.mask_valid.values[layer]
            sequence = re.search(r"_(\d)_v1$", str(group.layer_tag.values[layer]))
            if valid.any():
                assert sequence is not None
                np.testing.assert_array_equal(mask, masks[int(sequence[1]) - 1])
            else:
                assert not mask.any()
    assert 0.5 * len(contents) < found < len(contents)


def test_any_damage_to_the_file() -> None:
    """Groups are left out, planes are refused or right; absent ones are 0, and said to be so."""
    right = {"cells": np.arange(80).reshape(2, 5, 8), "nuclei": np.ones((2, 5, 8))}
    outcomes: Counter[str] = Counter()
    for seed in range(DAMAGED_FILES):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            try:
                ds = masks_of(damaged(SMALL, seed)[1], rescue=seed % 3 == 0)
            except (ND2FormatError, ND2UnsupportedError):
                outcomes["no group"] += 1
                continue
        for layer in range(ds.sizes["layer"]):
            name = re.search(r"_([12])_v1$", str(ds.layer_tag.values[layer]))
            try:
                mask = ds.mask[layer].values
            except (ND2FormatError, ND2UnsupportedError):
                outcomes["refused"] += 1
                continue
            outcomes["read"] += 1
            shown = np.flatnonzero(ds.mask_valid.values[layer].reshape(-1))
            assert not np.delete(mask.reshape(-1, 5, 8), shown, axis=0).any()
            if len(shown):
                assert name is not None
                planes = right[["cells", "nuclei"][int(name[1]) - 1]]
                np.testing.assert_array_equal(mask.reshape(-1, 5, 8)[shown], planes[shown])
    assert min(outcomes.values()) > DAMAGED_FILES / 50


def test_more_layers_than_can_be() -> None:
    layers = [MaskLayer(f"{i}", lambda _: None) for i in range(1100)]
    with pytest.warns(UserWarning, match="more than 1024 layers"):
        ds = masks_of(written(pixels(5, 8), "YX", masks=layers))
    assert ds.sizes["layer"] == 1024
    assert not ds.mask.isel(layer=[0, -1]).values.any()


def test_layers_that_share_chunks_are_one() -> None:
    layers = [MaskLayer(name, np.ones((5, 8), int), tag="Own") for name in "ab"]
    with pytest.warns(UserWarning, match="FileTag is not what it should be"):
        ds = masks_of(written(pixels(5, 8), "YX", masks=layers))
    assert ds.layer.values.tolist() == ["a"]
