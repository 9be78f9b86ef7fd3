"""The group of recorded data: its values, names and units, how it is opened, and what that costs."""

from __future__ import annotations

import io
import re
import warnings
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

import nd2
import numpy as np
import pytest
import xarray as xr

from tests.conftest import corpus_files
from tests.contract.test_budget import sparse_file
from tests.metadata.damaged import chunks_of, with_chunks
from xarray_nd2 import ND2FormatError
from xarray_nd2.testing import RecordedColumn, write_nd2

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from xarray_nd2.testing import RangeServer

DESCRIPTION = b"CustomDataVar|CustomDataV2_0!"
SIZES = {"T": 3, "P": 2, "Z": 2, "Y": 4, "X": 5}
FRAMES = 12
COLUMNS: dict[str, Any] = {
    "X": np.arange(FRAMES) * 0.5,
    "Z": 100.0 + np.arange(FRAMES) % 2,
    "CameraTemp1": RecordedColumn(-8.0 - np.arange(FRAMES) / 10, "Camera Temperature", "°C"),
    "PFS_STATUS": np.arange(-3, FRAMES - 3),
    "Note": RecordedColumn([f"µ λ {i}" * i for i in range(FRAMES)], "User's note (1)"),
    "P1": RecordedColumn(np.linspace(0, 90, FRAMES), "Laser Power", "%"),
}


def recorded_file(
    recorded: Mapping[str, Any] = COLUMNS, sizes: dict[str, int] = SIZES, **options: Any
) -> io.BytesIO:
    file = io.BytesIO()
    pixels = np.ones(tuple(sizes.values()), "uint16")
    write_nd2(file, pixels, "".join(sizes), recorded=recorded, **options)
    return file


def opened(recorded: Mapping[str, Any] = COLUMNS, **options: Any) -> xr.Dataset:
    return xr.open_dataset(recorded_file(recorded, **options), engine="nd2", group="recorded")


def one_column(*descriptions: str, values: Any = (1.0, 2.0), unit: str = "") -> xr.Dataset:
    """A file of two frames with columns of some descriptions."""
    columns = {
        f"C{i}": RecordedColumn(values, description, unit)
        for i, description in enumerate(descriptions)
    }
    return opened(columns, sizes={"T": 2, "Y": 4, "X": 5})


def check_against_nd2(data: bytes, dataset: xr.Dataset, frames: int) -> int:
    """Each column of nd2 is a variable of the same values; how many there are."""
    with nd2.ND2File(io.BytesIO(data)) as read:
        events: Any = read.events(orient="list")
    (tags,) = ET.fromstring(chunks_of(data)[DESCRIPTION])
    described = [{each.tag: each.get("value", "") for each in tag} for tag in tags]
    ids = {
        tag["Desc"] + (f" [{tag['Unit']}]" if tag["Unit"].strip() else ""): tag["ID"]
        for tag in described
    }
    by_id = {v.attrs["nd2_id"]: v for v in dataset.data_vars.values()}
    compared = ids.keys() & events.keys()
    for header in compared:
        values = by_id[ids[header]].values.ravel()
        if isinstance(events[header], list):
            assert values.tolist() == events[header]
        else:
            np.testing.assert_array_equal(values, events[header][:frames])
            assert values.dtype == np.asarray(events[header]).dtype
        assert by_id[ids[header]].attrs["long_name"] in header
    assert len(dataset.data_vars) == len(compared) == len(ids)
    return len(compared)


@pytest.mark.corpus
@pytest.mark.filterwarnings("ignore:.*frames are not in the file")
@pytest.mark.parametrize("path", corpus_files(), ids=lambda path: path.stem)
def test_real_files_as_nd2_reads_them(path: Path) -> None:
    image = xr.open_dataset(path)
    tree = xr.open_datatree(path, engine="nd2")
    if DESCRIPTION not in chunks_of(path.read_bytes()):
        assert "recorded" not in tree.children
        with pytest.raises(ND2FormatError, match="no group 'recorded'; the file has: image"):
            xr.open_dataset(path, group="recorded")
        return
    dataset = xr.open_dataset(path, group="recorded")
    loops = image.image.dims[: image.image.dims.index("C")]
    assert all(variable.dims == loops for variable in dataset.data_vars.values())
    frames = int(np.prod([image.sizes[dim] for dim in loops]))
    assert check_against_nd2(path.read_bytes(), dataset, frames) >= 3
    assert dataset.identical(tree.children["recorded"].to_dataset(inherit=False))


@pytest.mark.parametrize("version", [(3, 0), (2, 1)])
def test_written_files(version: tuple[int, int]) -> None:
    file = recorded_file(version=version, timestamps=np.arange(FRAMES) * 0.5)
    dataset = xr.open_dataset(file, engine="nd2", group="recorded")
    assert check_against_nd2(file.getvalue(), dataset, FRAMES) == len(COLUMNS)
    shape = (3, 2, 2)
    assert dict(dataset.sizes) == {"T": 3, "P": 2, "Z": 2}
    np.testing.assert_array_equal(dataset.x_coord, COLUMNS["X"].reshape(shape))
    np.testing.assert_array_equal(dataset.pfs_status, COLUMNS["PFS_STATUS"].reshape(shape))
    assert dataset.pfs_status.dtype == np.int32
    assert dataset.user_s_note_1.values.ravel().tolist() == COLUMNS["Note"].values
    assert dataset.user_s_note_1.attrs == {"long_name": "User's note (1)", "nd2_id": "Note"}
    assert dataset.camera_temperature.attrs == {
        "long_name": "Camera Temperature",
        "units": "degC",
        "nd2_id": "CameraTemp1",
    }
    assert dataset.laser_power.attrs["units"] == "percent"
    image = xr.open_dataset(file, engine="nd2")
    for name, coordinate in dataset.coords.items():
        assert coordinate.variable.identical(image[name].variable)
    assert {"T", "P", "Z", "time", "stage_x", "position_name"} <= set(dataset.coords)
    assert not {"C", "Y", "X", "emission"} & set(dataset.coords)


def test_a_single_frame_has_scalars() -> None:
    dataset = opened({"X": [1.5], "Note": ["text"]}, sizes={"Y": 4, "X": 5})
    assert dataset.x_coord.dims == dataset.note.dims == ()
    assert (dataset.x_coord.item(), dataset.note.item()) == (1.5, "text")


@pytest.mark.parametrize(
    ("descriptions", "names"),
    [
        (["Temperature", "Temperature"], ["temperature", "temperature_2"]),
        (["A", "A", "a_2"], ["a", "a_2", "a_2_2"]),
        (["A", "A 2", "a"], ["a", "a_2", "a_3"]),
        (["Time", "T", "Z"], ["recorded_time", "t", "z"]),
        (["Stage X", "Recorded stage X"], ["recorded_stage_x", "recorded_stage_x_2"]),
        (["3 lasers (λ)", "!?", "  "], ["column_3_lasers_λ", "column", "c2"]),
        (["a/b\\c [µm].d", "_x_"], ["a_b_c_µm_d", "x"]),
    ],
)
def test_names(descriptions: list[str], names: list[str]) -> None:
    columns = {f"C{i}": RecordedColumn([float(i)] * 2, text) for i, text in enumerate(descriptions)}
    sizes = {"T": 2, "Y": 4, "X": 5}
    dataset = opened(columns, sizes=sizes, timestamps=[0, 1], stage_positions=[(1.0, 2.0, 3.0)])
    assert list(dataset.data_vars) == names
    assert [v.values[0] for v in dataset.data_vars.values()] == list(range(len(names)))
    assert [v.attrs["nd2_id"] for v in dataset.data_vars.values()] == list(columns)


def test_long_names_stay_distinct() -> None:
    dataset = one_column("x" * 5000 + "1", "x" * 5000 + "2")
    assert len(dataset.data_vars) == 2
    assert max(len(str(name)) for name in dataset.data_vars) < 250


@pytest.mark.parametrize(
    ("unit", "attrs"),
    [
        ("µm", {"units": "µm"}),
        ("μm", {"units": "µm"}),  # the Greek letter
        (" ms ", {"units": "ms"}),
        ("°C", {"units": "degC"}),
        ("", {}),
        ("furlong/fortnight", {"comment": "in furlong/fortnight"}),
    ],
)
def test_units(unit: str, attrs: dict[str, str]) -> None:
    assert one_column("A", unit=unit).a.attrs == {"long_name": "A", "nd2_id": "C0", **attrs}


@pytest.mark.parametrize("name", ["X", "PFS_STATUS", "Note"])
@pytest.mark.parametrize("rows", [0, 1, 7, 11])
def test_columns_that_end_early(name: str, rows: int) -> None:
    data = recorded_file().getvalue()
    chunk = f"CustomData|{name}!".encode()
    whole = chunks_of(data)[chunk]
    width = len(whole) // FRAMES
    for more in (0, 3):  # bytes of a value that is not complete
        cut = with_chunks(data, {chunk: whole[: rows * width + more]})
        with pytest.warns(UserWarning, match=f"recorded of {rows} of 12 frames"):
            dataset = xr.open_dataset(io.BytesIO(cut), engine="nd2", group="recorded")
        (found,) = [v for v in dataset.data_vars.values() if v.attrs["nd2_id"] == name]
        (intact,) = [v for v in opened().data_vars.values() if v.attrs["nd2_id"] == name]
        assert found.values.ravel()[:rows].tolist() == intact.values.ravel()[:rows].tolist()
        rest = found.values.ravel()[rows:]
        assert (rest == "").all() if name == "Note" else np.isnan(rest).all()
        assert len(dataset.data_vars) == len(COLUMNS)


def test_columns_that_go_on() -> None:
    data = recorded_file().getvalue()
    chunks = chunks_of(data)
    names = [name for name in chunks if name.startswith(b"CustomData|")]
    longer = with_chunks(data, {name: chunks[name] * 3 for name in names})
    dataset = xr.open_dataset(io.BytesIO(longer), engine="nd2", group="recorded")
    assert dataset.identical(opened())


def test_filling_up_is_bounded() -> None:
    """A small file may tell of very many frames that it does not have."""
    columns = {f"N{i}": ["a" * 255] * 4 for i in range(200)}
    file = io.BytesIO()
    write_nd2(
        file,
        np.ones((4, 4, 5), "u2"),
        "TYX",
        recorded=columns,
        planned={"T": 900_000},
        version=(2, 1),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dataset = xr.open_dataset(file, engine="nd2", group="recorded")
    assert dataset.nbytes < 2**30
    with pytest.warns(UserWarning, match="too short by far"):
        xr.open_dataset(file, engine="nd2", group="recorded")


@pytest.mark.parametrize("chunks", [None, {}])
def test_it_merges_with_the_image(chunks: Any) -> None:
    file = recorded_file(timestamps=np.arange(FRAMES) * 0.5)
    image = xr.open_dataset(file, engine="nd2", chunks=chunks)
    recorded = xr.open_dataset(file, engine="nd2", chunks=chunks, group="recorded")
    everything = [*recorded.coords.values(), *recorded.data_vars.values()]
    assert all(type(each.variable.data) is np.ndarray for each in everything)
    assert "dask" not in repr(recorded)
    merged = xr.merge([image, recorded], compat="no_conflicts", join="exact")
    assert set(merged.data_vars) == {"image", *recorded.data_vars}
    labelled = image.assign_coords(temperature=recorded.camera_temperature)
    assert labelled.image.coords["temperature"].dims == ("T", "P", "Z")
    cold = labelled.image.where(labelled.temperature < -8.5)
    assert int(cold.notnull().any(["C", "Y", "X"]).sum()) == 6


def test_trees_and_groups() -> None:
    file = recorded_file()
    tree = xr.open_datatree(file, engine="nd2")
    groups = xr.open_groups(file, engine="nd2")
    assert list(tree.children) == ["image", "recorded"]
    assert list(groups) == ["/", "/image", "/recorded"]
    image = xr.open_dataset(file, engine="nd2")
    recorded = xr.open_dataset(file, engine="nd2", group="recorded")
    root = xr.open_dataset(file, engine="nd2", group="/")
    assert not root.variables
    assert root.attrs == image.attrs == tree.attrs
    for name, expected in {"/": root, "/image": image, "/recorded": recorded}.items():
        assert groups[name].identical(expected)
        node: Any = tree[name]
        assert node.to_dataset(inherit=False).identical(expected)
        for spelled in (name, name.strip("/"), f"{name}/"):
            found = xr.open_dataset(file, engine="nd2", group=spelled)
            assert found.identical(expected)
    assert xr.open_dataset(file, engine="nd2", group=None).identical(image)
    alone = xr.open_datatree(file, engine="nd2", group="recorded")
    assert alone.to_dataset().identical(recorded)
    assert not alone.children


@pytest.mark.parametrize("name", ["records", "level1", "image/recorded", "Recorded", "*"])
def test_groups_that_are_not_there(name: str) -> None:
    expected = re.escape(f"there is no group {name!r}; the file has: image, recorded")
    for open_it in (xr.open_dataset, xr.open_datatree, xr.open_groups):
        with pytest.raises(ND2FormatError, match=expected):
            open_it(recorded_file(), engine="nd2", group=name)


@pytest.mark.parametrize("group", [3, b"recorded", ["recorded"]])
def test_groups_that_are_no_names(group: Any) -> None:
    with pytest.raises(TypeError, match="group must be a name"):
        xr.open_dataset(recorded_file(), engine="nd2", group=group)


def test_a_description_of_no_columns_is_no_group() -> None:
    assert list(xr.open_datatree(recorded_file({}), engine="nd2").children) == ["image"]
    with pytest.raises(ND2FormatError, match="the file has: image$"):
        opened({})


def test_variables_can_be_dropped() -> None:
    file = recorded_file()
    dropped = ["x_coord", "T", "stage_z", "no such"]
    dataset = xr.open_dataset(file, engine="nd2", group="recorded", drop_variables=dropped)
    assert not {"x_coord", "T", "stage_z"} & set(dataset.variables)
    assert len(dataset.data_vars) == len(COLUMNS) - 1
    tree = xr.open_datatree(file, engine="nd2", drop_variables="T")
    assert "T" not in tree["image"].variables
    assert "T" not in tree["recorded"].variables


@pytest.mark.filterwarnings("ignore:.*Zarr V3 specification")
def test_trees_can_be_saved(tmp_path: Path) -> None:
    file = recorded_file(timestamps=np.arange(FRAMES) * 0.5, start="2024-05-06")
    tree = xr.open_datatree(file, engine="nd2")
    tree.to_netcdf(tmp_path / "run.nc", engine="h5netcdf")
    tree.to_zarr(tmp_path / "run.zarr", consolidated=False)
    ways: dict[str, dict[str, Any]] = {
        "run.nc": {"engine": "h5netcdf"},
        "run.zarr": {"engine": "zarr", "consolidated": False},
    }
    for path, options in ways.items():
        with xr.open_datatree(tmp_path / path, **options) as saved:
            for node in tree.subtree:
                same: Any = saved[node.path]
                found = same.to_dataset(inherit=False).load()
                expected = node.to_dataset(inherit=False)
                xr.testing.assert_equal(found, expected)
                for name, variable in expected.variables.items():
                    assert found[name].attrs.keys() >= variable.attrs.keys() - {"units"}


@pytest.fixture(scope="module")
def long_run(folder: Path) -> Path:
    frames = 20_000
    numbers = np.arange(float(frames))
    recorded = dict.fromkeys(("X", "Y", "Z", *"ABCDE"), numbers)
    sizes = {"T": frames, "Y": 16, "X": 16}
    return sparse_file(folder / "long.nd2", sizes, timestamps=numbers, recorded=recorded)


def costs(http: RangeServer, path: Path, open_it: Any, **options: Any) -> tuple[int, int, int]:
    """Requests, round trips and bytes."""
    http.latency = 0.05
    http.log.clear()
    open_it(http.url(path.name), engine="nd2", **options)
    return http.log.requests, http.log.round_trips, http.log.bytes


def test_what_it_costs(long_run: Path, http: RangeServer) -> None:
    column_bytes = 8 * 8 * 20_000
    _, image_trips, image_bytes = costs(http, long_run, xr.open_dataset)
    _, trips, read = costs(http, long_run, xr.open_dataset, group="recorded")
    assert trips <= image_trips + 2
    assert read - image_bytes <= 1.2 * column_bytes + 1_000_000
    _, trips, read = costs(http, long_run, xr.open_datatree)
    assert trips <= image_trips + 2
    assert read - image_bytes <= 1.2 * column_bytes + 1_000_000


def test_it_costs_nothing_near_the_end(folder: Path, http: RangeServer) -> None:
    path = folder / "near.nd2"
    path.write_bytes(recorded_file().getvalue())
    image = costs(http, path, xr.open_dataset)
    assert costs(http, path, xr.open_dataset, group="recorded") == image
    assert costs(http, path, xr.open_datatree) == image
