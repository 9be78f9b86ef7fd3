"""Exports to OME-Zarr of written and real files: pixels, metadata, requests, continuing."""

from __future__ import annotations

import io
import itertools
import json
import os
import signal
import subprocess
import sys
import time
import warnings
from typing import TYPE_CHECKING, Any

import fsspec
import nd2
import numpy as np
import ome_types
import pandas as pd
import pytest
import xarray as xr
import yaozarrs
import zarr
from ome_zarr_models.v05 import HCS, Image
from ome_zarr_models.v05.bioformats2raw import BioFormats2Raw

from tests.conftest import ROOT, corpus_files
from tests.damage import without_last_codestream
from tests.variants import VARIANTS
from xarray_nd2.errors import ND2FormatError
from xarray_nd2.export import to_ome_zarr
from xarray_nd2.testing import (
    Channel,
    MaskLayer,
    Outline,
    Plate,
    Roi,
    Well,
    write_legacy_nd2,
    write_nd2,
)

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from xarray_nd2.testing import RangeServer, S3Server

pytestmark = pytest.mark.filterwarnings("ignore:.*(frames|metadata)")


def group_at(url: str, options: dict[str, Any] | None = None) -> Any:
    return zarr.open_group(url, mode="r", storage_options=options)


def validate(path: Path) -> None:
    """By yaozarrs, and by ome-zarr-models, which shares no code with it."""
    yaozarrs.validate_zarr_store(str(path))
    group = group_at(str(path))
    ome = group.attrs["ome"]
    model = HCS if "plate" in ome else Image if "multiscales" in ome else BioFormats2Raw
    model.from_zarr(group)


def in_axes(pixels: NDArray[Any], dims: Any) -> NDArray[Any]:
    """Pixels of one image, with their axes in the order of OME-Zarr, colour as channels."""
    dims = list(dims)
    if "C" not in dims:
        pixels, dims = pixels[None], ["C", *dims]
    order = [dim for dim in "TCSZYX" if dim in dims]
    pixels = pixels.transpose([dims.index(dim) for dim in order])
    if "S" in order:
        at = order.index("C")
        pixels = pixels.reshape(*pixels.shape[:at], -1, *pixels.shape[at + 2 :])
    return pixels


def check_pixels(group: Any, pixels: NDArray[Any], dims: Any) -> None:
    """All images of an export are the images of an array, which is an independent reading."""
    dims = list(dims)
    if "P" not in dims:
        np.testing.assert_array_equal(group["0"][...], in_axes(pixels, dims), strict=True)
        return
    series = group["OME"].attrs["ome"]["series"]
    rest = [dim for dim in dims if dim != "P"]
    assert len(series) == pixels.shape[dims.index("P")]
    for number, path in enumerate(series):
        here = pixels.take(number, dims.index("P"))
        np.testing.assert_array_equal(group[f"{path}/0"][...], in_axes(here, rest), strict=True)


@pytest.mark.parametrize("name", VARIANTS)
def test_variants_from_and_to_any_store(
    name: str, folder: Path, tmp_path: Path, http: RangeServer, s3: S3Server
) -> None:
    variant = VARIANTS[name]
    path = variant.write(folder / f"export-{name}.nd2")
    s3.upload(path, "bucket", path.name)
    options = s3.storage_options
    to_ome_zarr(path, tmp_path / "out.zarr")
    to_ome_zarr(http.url(path.name), f"memory://{name}.zarr", levels=1)
    to_ome_zarr(
        f"s3://bucket/{path.name}",
        f"s3://bucket/{name}.zarr",
        storage_options=options,
        destination_options=options,
        levels=0,
    )
    for group in (
        group_at(str(tmp_path / "out.zarr")),
        group_at(f"memory://{name}.zarr"),
        group_at(f"s3://bucket/{name}.zarr", options),
    ):
        check_pixels(group, variant.expected(), variant.delivered_dims)
    validate(tmp_path / "out.zarr")
    for each in (f"memory://{name}.zarr", f"s3://bucket/{name}.zarr"):
        target = tmp_path / each.replace("/", "_").replace(":", "")
        files = fsspec.filesystem(each.partition(":")[0], **(options if each[0] == "s" else {}))
        files.get(each.partition("://")[2], str(target), recursive=True)
        validate(target)


@pytest.mark.corpus
@pytest.mark.parametrize("path", corpus_files(), ids=lambda path: path.stem)
def test_real_files(path: Path, tmp_path: Path) -> None:
    to_ome_zarr(path, tmp_path / "out.zarr")
    validate(tmp_path / "out.zarr")
    with nd2.ND2File(path) as file:
        sizes, pixels = dict(file.sizes), np.asarray(file.asarray())
    if "S" in sizes:
        pixels = pixels[..., ::-1]  # nd2 gives blue first
    group = group_at(str(tmp_path / "out.zarr"))
    if "frame_valid" in xr.open_dataset(path, engine="nd2").coords:
        pytest.skip("nd2 makes up frames that are missing")
    check_pixels(group, pixels, list(sizes))


def exported(tmp_path: Path, dims: str, sizes: tuple[int, ...], **options: Any) -> Any:
    file = io.BytesIO()
    data = options.pop("data", None)
    keywords = options.pop("keywords", {})
    if data is None:
        data = np.random.default_rng(3).integers(0, 4000, sizes, np.uint16)
    write_nd2(file, data, dims, **options)
    to_ome_zarr(file, tmp_path / "made.zarr", **keywords)
    validate(tmp_path / "made.zarr")
    return group_at(str(tmp_path / "made.zarr"))


def test_axes_and_units(tmp_path: Path) -> None:
    group = exported(
        tmp_path, "TZCYX", (3, 4, 2, 40, 50), pixel_size=0.25, z_step=-0.5, period=2.5,
        channels=[Channel("DAPI", color="#0033ff"), "GFP"], keywords={"levels": 2},
    )  # fmt: skip
    ome = group.attrs["ome"]
    [scales] = ome["multiscales"]
    assert [(a["name"], a["type"], a.get("unit")) for a in scales["axes"]] == [
        ("t", "time", "second"),
        ("c", "channel", None),
        ("z", "space", "micrometer"),
        ("y", "space", "micrometer"),
        ("x", "space", "micrometer"),
    ]
    transformations = [each["coordinateTransformations"] for each in scales["datasets"]]
    assert [each[0]["scale"] for each in transformations] == [
        [2.5, 1, 0.5, 0.25 * 2**level, 0.25 * 2**level] for level in range(3)
    ]
    assert [each["label"] for each in ome["omero"]["channels"]] == ["DAPI", "GFP"]
    assert ome["omero"]["channels"][0]["color"] == "0033FF"
    window = ome["omero"]["channels"][0]["window"]
    assert 0 < window["start"] < window["end"] < 4000
    assert (window["min"], window["max"]) == (0, 2**16 - 1)
    whole = group["0"][...].astype(int)
    means = (whole[..., ::2, ::2] + whole[..., 1::2, ::2] + whole[..., ::2, 1::2] + whole[..., 1::2, 1::2] + 2) // 4  # fmt: skip
    np.testing.assert_array_equal(group["1"][...], means)
    assert group["0"].metadata.dimension_names == tuple("tczyx")
    assert group["0"].shards == (3, 2, 4, 40, 50)


def test_what_is_not_known_has_no_unit(tmp_path: Path) -> None:
    group = exported(tmp_path, "TYX", (1, 8, 8), pixel_size=None, data=np.ones((1, 8, 8), "u2"))
    [scales] = group.attrs["ome"]["multiscales"]
    assert not any("unit" in axis for axis in scales["axes"])
    assert scales["datasets"][0]["coordinateTransformations"][0]["scale"] == [1, 1, 1, 1]


def test_positions_are_in_the_order_of_the_document(tmp_path: Path) -> None:
    exported(tmp_path, "TPYX", (2, 3, 8, 8), positions=["first", "second", "third"])
    root = tmp_path / "made.zarr"
    assert group_at(str(root)).attrs["ome"] == {"version": "0.5", "bioformats2raw.layout": 3}
    document = ome_types.from_xml((root / "OME" / "METADATA.ome.xml").read_bytes())
    names = [
        group_at(f"{root}/{path}").attrs["ome"]["multiscales"][0]["name"]
        for path in group_at(f"{root}/OME").attrs["ome"]["series"]
    ]
    assert names == [image.name for image in document.images] == ["first", "second", "third"]


def test_plates(tmp_path: Path) -> None:
    wells = Plate([Well("B3", 1, 2), Well("A1", 0, 0), Well("B3", 1, 2)], rows=8, columns=12)
    data = np.arange(3 * 64, dtype="uint16").reshape(3, 8, 8)
    group = exported(tmp_path, "PYX", (3, 8, 8), wells=wells, data=data)
    plate = group.attrs["ome"]["plate"]
    assert (len(plate["rows"]), len(plate["columns"]), plate["field_count"]) == (8, 12, 2)
    assert [well["path"] for well in plate["wells"]] == ["B/3", "A/1"]
    assert group["B/3"].attrs["ome"]["well"]["images"] == [{"path": "0"}, {"path": "1"}]
    for number, path in enumerate(["B/3/0", "A/1/0", "B/3/1"]):
        np.testing.assert_array_equal(group[f"{path}/0"][0], data[number])
    assert group["OME"].attrs["ome"]["series"] == ["B/3/0", "A/1/0", "B/3/1"]


def test_levels_of_the_file_are_taken(tmp_path: Path) -> None:
    data = np.random.default_rng(5).integers(0, 4000, (2, 1100, 1200), np.uint16)
    write_nd2(tmp_path / "run.nd2", data, "TYX", levels=1)
    to_ome_zarr(tmp_path / "run.nd2", tmp_path / "out.zarr", levels=2)
    validate(tmp_path / "out.zarr")
    group = group_at(str(tmp_path / "out.zarr"))
    embedded = xr.open_dataset(tmp_path / "run.nd2", engine="nd2", group="level1").image.values
    np.testing.assert_array_equal(group["1"][...], embedded)
    four = embedded[..., :550, :600].astype(int).reshape(2, 1, 275, 2, 300, 2).sum((3, 5))
    np.testing.assert_array_equal(group["2"][...], (four + 2) // 4)
    [scales] = group.attrs["ome"]["multiscales"]
    assert [len(each["coordinateTransformations"]) for each in scales["datasets"]] == [1, 1, 2]


def test_labels_and_tables(tmp_path: Path) -> None:
    objects = np.random.default_rng(1).integers(0, 4, (4, 16, 20)).astype(np.uint32)
    group = exported(
        tmp_path, "TPYX", (2, 2, 16, 20), keywords={"levels": 1},
        timestamps=[0, 1, 5, 6], recorded={"CameraTemp1": [36.0, 36.1, 36.2, 36.3]},
        rois=[Roi("polygon", Outline((5, 5), vertices=[(1, 1), (9, 1), (5, 9)]), "cell")],
        masks=[MaskLayer("the/cells", objects, color="#ff0000")],
    )  # fmt: skip
    for position in range(2):
        labels = group[f"{position}/labels/the_cells"]
        np.testing.assert_array_equal(labels["0"][...], objects[position::2])
        np.testing.assert_array_equal(labels["1"][...], objects[position::2, ::2, ::2])
        assert labels.attrs["ome"]["image-label"]["source"] == {"image": "../../"}
        assert labels.attrs["xarray_nd2"]["layer_color"] == "#ff0000"
    root = tmp_path / "made.zarr"
    frames = pd.read_csv(root / "1" / "tables" / "frames" / "table.csv", index_col="index")
    assert frames.camera_temperature.tolist() == [36.1, 36.3]
    assert frames.time.tolist() == [1.0, 6.0]
    assert frames.t_index.tolist() == [0, 1]
    assert pd.read_csv(root / "tables" / "rois" / "table.csv").name.tolist() == ["cell"]
    vertices = pd.read_csv(root / "tables" / "rois_vertex" / "table.csv")
    assert vertices.vertex_x_pixels.tolist() == [1, 9, 5]


def test_missing_frames_are_noted(tmp_path: Path) -> None:
    variant = VARIANTS["missing-frames"]
    path = variant.write(tmp_path / "run.nd2")
    to_ome_zarr(path, tmp_path / "out.zarr")
    noted = group_at(str(tmp_path / "out.zarr")).attrs["xarray_nd2"]["missing_frames"]
    assert noted["frames"] == [{"t": 1, "z": 1}, {"t": 3, "z": 0}]
    frames = pd.read_csv(tmp_path / "out.zarr" / "tables" / "frames" / "table.csv")
    assert np.flatnonzero(~frames.frame_valid).tolist() == [3, 6]
    with pytest.raises(ND2FormatError, match="not in the file"):
        to_ome_zarr(path, tmp_path / "other.zarr", missing_frames="raise")


@pytest.mark.parametrize(
    ("name", "place"), [("legacy", {"t": 1, "z": 1, "c": 1}), ("legacy-rgb", {"t": 1})]
)
def test_a_channel_that_is_missing_is_noted(
    name: str, place: dict[str, int], tmp_path: Path
) -> None:
    path = VARIANTS[name].write(tmp_path / "run.nd2")
    path.write_bytes(without_last_codestream(path.read_bytes()))
    to_ome_zarr(path, tmp_path / "out.zarr")
    images = xr.open_dataset(path, engine="nd2").image.sizes.get("P", 1)
    last = "" if images == 1 else str(images - 1)
    noted = group_at(str(tmp_path / "out.zarr" / last)).attrs["xarray_nd2"]["missing_frames"]
    assert noted == {"count": 1, "read_as": "zeros", "frames": [place]}
    frames = pd.read_csv(tmp_path / "out.zarr" / last / "tables" / "frames" / "table.csv")
    assert frames.frame_valid.tolist() == [True] * (len(frames) - 1) + [False]


@pytest.mark.parametrize("chunks", [{}, {"y": 100, "x": 100}])
def test_each_codestream_is_fetched_once(
    chunks: dict[str, int], folder: Path, http: RangeServer, tmp_path: Path
) -> None:
    data = np.random.default_rng(2).integers(0, 4000, (3, 2, 2, 300, 400), np.uint16)
    write_legacy_nd2(folder / "codestreams-once.nd2", data, "TZCYX")
    dataset = xr.open_dataset(http.url("codestreams-once.nd2"), engine="nd2", chunks={})
    stored = (folder / "codestreams-once.nd2").read_bytes().index(b"xml ") - 4  # behind the pixels
    http.log.clear()
    to_ome_zarr(dataset, tmp_path / "out.zarr", chunks=chunks)
    assert http.log.bytes <= stored
    found = group_at(str(tmp_path / "out.zarr"))["0"][:]
    np.testing.assert_array_equal(found, data.transpose(0, 2, 1, 3, 4))


def test_each_frame_is_fetched_once(folder: Path, http: RangeServer, tmp_path: Path) -> None:
    data = np.random.default_rng(2).integers(0, 4000, (6, 2, 2, 300, 400), np.uint16)
    write_nd2(folder / "once.nd2", data, "TZCYX")
    ways: list[dict[str, int]] = [{}, {"y": 100, "x": 100}]
    for number, chunks in enumerate(ways):
        dataset = xr.open_dataset(http.url("once.nd2"), engine="nd2", chunks={})
        http.log.clear()
        shards = {"t": 1, "z": 1, **({"y": 100, "x": 100, "c": 1} if chunks else {})}
        to_ome_zarr(dataset, tmp_path / f"{number}.zarr", levels=0, chunks=chunks, shards=shards)
        ranges = sorted((e.start or 0, e.stop or 0) for e in http.log.entries if e.stop)
        assert all(stop <= start for (_, stop), (start, _) in itertools.pairwise(ranges))
        fetched = sum(stop - start for start, stop in ranges)
        assert data.nbytes <= fetched <= data.nbytes + 12 * 3 * 8192
        check_pixels(group_at(str(tmp_path / f"{number}.zarr")), data, "TZCYX")


def test_crops_of_opened_images(tmp_path: Path) -> None:
    data = np.random.default_rng(2).integers(0, 4000, (4, 2, 30, 40), np.uint16)
    write_nd2(tmp_path / "run.nd2", data, "TCYX", channels=["a", "b"], pixel_size=0.5)
    ways: list[dict[str, int] | None] = [None, {}]
    for chunks in ways:
        opened = xr.open_dataset(tmp_path / "run.nd2", engine="nd2", chunks=chunks)
        crop = opened.isel(T=slice(1, 3), Y=slice(4, 20)).sel(C="b")
        to_ome_zarr(crop, tmp_path / f"{chunks}.zarr")
        validate(tmp_path / f"{chunks}.zarr")
        group = group_at(str(tmp_path / f"{chunks}.zarr"))
        np.testing.assert_array_equal(group["0"][:, 0], data[1:3, 1, 4:20])
        assert group.attrs["ome"]["omero"]["channels"][0]["label"] == "b"
    with pytest.raises(TypeError, match="no lazy image"):
        to_ome_zarr(opened + 1, tmp_path / "none.zarr")
    with pytest.raises(TypeError, match="no lazy image"):
        to_ome_zarr(xr.Dataset({"image": (("Y", "X"), data[0, 0])}), tmp_path / "none.zarr")


def snapshot(root: Path) -> dict[str, tuple[int, int]]:
    """Inode and time of change of each shard, and of nothing that is being written."""
    found = {}
    for path in root.rglob("*"):
        if "c" in path.parts and path.suffix != ".partial" and path.is_file():
            told = path.stat()
            found[str(path.relative_to(root))] = (told.st_ino, told.st_mtime_ns)
    return found


KILLED = """
import sys
from xarray_nd2.export import to_ome_zarr
to_ome_zarr(sys.argv[1], sys.argv[2], shards={"t": 1}, max_workers=2)
"""


@pytest.mark.parametrize("seed", range(4))
def test_killed_and_run_again(seed: int, tmp_path: Path) -> None:
    data = np.random.default_rng(seed).integers(0, 2**16, (60, 600, 700), np.uint16)
    data[7] = 0  # a shard of zeros counts as well
    write_nd2(tmp_path / "run.nd2", data, "TYX")
    root = tmp_path / "out.zarr"
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    command = [sys.executable, "-c", KILLED, str(tmp_path / "run.nd2"), str(root)]
    wanted = int(np.random.default_rng(seed).integers(1, 100))
    with subprocess.Popen(command, env=environment) as process:
        while process.poll() is None and len(snapshot(root)) < wanted:
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    before = snapshot(root)
    assert 0 < len(before) < 180
    assert "ome" not in json.loads((root / "zarr.json").read_text())["attributes"]
    (root / "0" / "c" / "5.00000000.partial").write_bytes(b"half")
    plan = to_ome_zarr(tmp_path / "run.nd2", root, shards={"t": 1}, dry_run=True)
    assert 0 < plan.tasks_to_do < plan.tasks == 60
    to_ome_zarr(tmp_path / "run.nd2", root, shards={"t": 1})
    after = snapshot(root)
    assert {key: after[key] for key in before} == before
    assert len(after) == 60 * 3
    assert not list(root.rglob("*.partial"))
    check_pixels(group_at(str(root)), data, "TYX")
    validate(root)
    assert to_ome_zarr(tmp_path / "run.nd2", root, shards={"t": 1}).tasks_to_do == 0
    assert snapshot(root) == after


def test_another_source_and_other_settings_are_refused(tmp_path: Path) -> None:
    for name, value in (("a", 1), ("b", 2)):
        write_nd2(tmp_path / f"{name}.nd2", np.full((2, 8, 8), value, "u2"), "TYX")
    root = tmp_path / "out.zarr"
    to_ome_zarr(tmp_path / "a.nd2", root)
    with pytest.raises(FileExistsError, match="another source: .*url was"):
        to_ome_zarr(tmp_path / "b.nd2", root)
    with pytest.raises(FileExistsError, match="other settings: arrays"):
        to_ome_zarr(tmp_path / "a.nd2", root, levels=1)
    to_ome_zarr(tmp_path / "b.nd2", root, overwrite=True)
    check_pixels(group_at(str(root)), np.full((2, 8, 8), 2, "u2"), "TYX")
    other = tmp_path / "precious"
    other.mkdir()
    (other / "thesis.txt").write_text("all of it")
    with pytest.raises(FileExistsError, match="not empty"):
        to_ome_zarr(tmp_path / "a.nd2", other)
    with pytest.raises(FileExistsError, match="no Zarr"):
        to_ome_zarr(tmp_path / "a.nd2", other, overwrite=True)
    assert (other / "thesis.txt").read_text() == "all of it"


def test_overwriting_does_not_remove_the_source(tmp_path: Path, s3: S3Server) -> None:
    write_nd2(tmp_path / "a.nd2", np.ones((2, 8, 8), "u2"), "TYX")
    root = tmp_path / "out.zarr"
    to_ome_zarr(tmp_path / "a.nd2", root)
    inside = (root / "kept").with_suffix(".nd2")
    inside.write_bytes((tmp_path / "a.nd2").read_bytes())
    (tmp_path / "link.nd2").symlink_to(inside)
    for source in (inside, f"file://{inside}", tmp_path / "link.nd2"):
        with pytest.raises(FileExistsError, match="holds the source"):
            to_ome_zarr(source, root, overwrite=True)
    options = s3.storage_options
    given: dict[str, Any] = {"storage_options": options, "destination_options": options}
    s3.upload(tmp_path / "a.nd2", "bucket", "held.zarr/a.nd2")
    s3.upload(root / "zarr.json", "bucket", "held.zarr/zarr.json")
    with pytest.raises(FileExistsError, match="holds the source"):
        to_ome_zarr("s3://bucket/held.zarr/a.nd2", "s3://bucket/held.zarr", overwrite=True, **given)
    xr.open_dataset(inside, engine="nd2").close()


def test_a_local_file_is_the_same_however_it_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, root = tmp_path / "a é.nd2", tmp_path / "out.zarr"
    write_nd2(path, np.ones((2, 8, 8), "u2"), "TYX")
    to_ome_zarr(path, root)
    monkeypatch.chdir(tmp_path)
    for name in ("a é.nd2", str(path), f"file://{path}"):
        assert to_ome_zarr(name, root).tasks_to_do == 0


def test_sources_that_cannot_be_exported(tmp_path: Path) -> None:
    path = tmp_path / "a.nd2"
    write_nd2(path, np.ones((2, 8, 8), "u2"), "TYX")
    dataset = xr.open_dataset(path, engine="nd2")
    with pytest.raises(ValueError, match="nothing is selected along T and X"):
        to_ome_zarr(dataset.isel(T=slice(0, 0), X=slice(0, 0)), tmp_path / "out.zarr")
    with pytest.raises(ValueError, match="names no folder"):
        to_ome_zarr(path, "", overwrite=True)
    fsspec.filesystem("memory").pipe_file("/of-one-process.nd2", path.read_bytes())
    with pytest.raises(ValueError, match="source is in the memory of this process"):
        to_ome_zarr("memory://of-one-process.nd2", tmp_path / "out.zarr", scheduler="processes")
    assert not (tmp_path / "out.zarr").exists()


def test_masks_are_not_left_out_silently(tmp_path: Path) -> None:
    path = tmp_path / "a.nd2"
    masks = [MaskLayer("cells", np.ones((2, 8, 8), "u4"))]
    write_nd2(path, np.ones((2, 8, 8), "u2"), "TYX", masks=masks)
    tree = xr.open_datatree(path, engine="nd2", chunks={})
    with pytest.warns(UserWarning, match="masks are left out of the export: .*dask"):
        assert to_ome_zarr(tree, tmp_path / "dask.zarr").layers == ()
    tree = xr.open_datatree(path, engine="nd2")
    tree["image"] = xr.DataTree(tree["image"].to_dataset().isel(T=slice(1)))
    with pytest.warns(UserWarning, match="masks are left out of the export: .*loops"):
        assert to_ome_zarr(tree, tmp_path / "cropped.zarr").layers == ()


def test_a_changed_source_is_refused(tmp_path: Path) -> None:
    path, root = tmp_path / "a.nd2", tmp_path / "out.zarr"
    for value in (1, 2):
        write_nd2(path, np.full((2, 8, 8), value, "u2"), "TYX")
        os.utime(path, ns=(value * 10**18, value * 10**18))
        if value == 1:
            to_ome_zarr(path, root)
    with pytest.raises(FileExistsError, match="another source: version was"):
        to_ome_zarr(path, root)


def test_dry_run_writes_nothing(tmp_path: Path, http: RangeServer, folder: Path) -> None:
    data = np.zeros((6, 2, 64, 64), "u2")
    write_nd2(folder / "dry.nd2", data, "TCYX")
    plan = to_ome_zarr(
        http.url("dry.nd2"), tmp_path / "out.zarr", shards={"t": 2}, levels=1, dry_run=True
    )
    assert not (tmp_path / "out.zarr").exists()
    assert (plan.tasks, plan.tasks_to_do, plan.shards, plan.exact) == (3, 3, 6, True)
    assert plan.pixel_bytes == data.nbytes * 5 // 4
    assert plan.bytes_to_read >= data.nbytes
    assert plan.requests >= 3
    assert to_ome_zarr(folder / "dry.nd2", tmp_path / "out.zarr", dry_run=True).requests == 0


def test_progress_and_schedulers(tmp_path: Path) -> None:
    from distributed import Client

    data = np.random.default_rng(1).integers(0, 99, (7, 16, 16), np.uint16)
    write_nd2(tmp_path / "run.nd2", data, "TYX")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with Client(processes=False, n_workers=1, dashboard_address=":0") as client:
            for number, scheduler in enumerate(("threads", "processes", client)):
                told: list[tuple[int, int]] = []
                to_ome_zarr(
                    tmp_path / "run.nd2",
                    tmp_path / f"{number}.zarr",
                    shards={"t": 1},
                    scheduler=scheduler,
                    max_workers=2,
                    progress=lambda *counts: told.append(counts),  # noqa: B023
                )
                assert told == [(done, 7) for done in range(8)]
                check_pixels(group_at(str(tmp_path / f"{number}.zarr")), data, "TYX")


@pytest.mark.parametrize(
    ("keywords", "error", "message"),
    [
        ({"scheduler": "slurm"}, ValueError, "scheduler must be"),
        ({"scheduler": 3}, TypeError, "distributed.Client"),
        ({"max_workers": 0}, ValueError, "max_workers"),
        ({"levels": -1}, ValueError, "levels must be"),
        ({"chunks": {"P": 1}}, ValueError, "no axis P"),
    ],
)
def test_bad_keywords(keywords: Any, error: type[Exception], message: str, tmp_path: Path) -> None:
    write_nd2(tmp_path / "run.nd2", np.zeros((8, 8), "u2"), "YX")
    with pytest.raises(error, match=message):
        to_ome_zarr(tmp_path / "run.nd2", tmp_path / "out.zarr", **keywords)
    assert not (tmp_path / "out.zarr").exists()
    with pytest.raises(ValueError, match="memory of this process"):
        to_ome_zarr(tmp_path / "run.nd2", "memory://x.zarr", scheduler="processes")


LARGE = """
import sys
from itertools import islice
from benchmarks._peak_memory import peak_memory_bytes
from xarray_nd2.export import to_ome_zarr
from xarray_nd2.export import ome_zarr

plan = to_ome_zarr(sys.argv[1], sys.argv[2], shards={"t": 1, "z": 1}, dry_run=True)
assert plan.tasks == 102_400, plan.tasks
first = ome_zarr.remaining_tasks
ome_zarr.remaining_tasks = lambda *given: islice(first(*given), 40)
ome_zarr.display_windows = lambda *given, **keywords: sys.exit(print(peak_memory_bytes(), flush=True))
to_ome_zarr(sys.argv[1], sys.argv[2], shards={"t": 1, "z": 1})
"""


class HolesForFrames(io.FileIO):
    """A file that leaves holes where frames would be: zeros that take no place on the disk."""

    def write(self, data: Any) -> int:
        length = memoryview(data).nbytes
        if length == 700 * 700 * 2:  # bytes of a frame
            self.seek(length, io.SEEK_CUR)
            return length
        rest = memoryview(data).cast("B")
        while len(rest):
            rest = rest[super().write(rest) :]
        return length


def test_memory_of_a_hundred_gigabytes(tmp_path: Path) -> None:
    sizes = {"T": 10_240, "Z": 10, "Y": 700, "X": 700}
    frame = np.zeros((1, 700, 700), np.uint16)
    path = tmp_path / "large.nd2"
    with HolesForFrames(path, "w") as file:
        write_nd2(file, lambda index: frame, "TZYX", sizes=sizes, dtype="uint16")
    assert path.stat().st_size > 100e9
    if path.stat().st_blocks * 512 > 2e9:
        pytest.skip("this file system has no sparse files")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)])}
    command = [sys.executable, "-W", "ignore", "-c", LARGE, str(path), str(tmp_path / "out.zarr")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert int(done.stdout) < 1e9, done.stdout
    assert len(snapshot(tmp_path / "out.zarr")) == 40 * 3
