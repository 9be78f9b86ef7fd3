"""Files that are odd in one way each, and their labels."""

from __future__ import annotations

import io
import json
import struct
import warnings
from typing import Any

import numpy as np
import pytest
import xarray as xr

from tests.damage import chunk_entries, chunk_parts, rewritten
from tests.metadata.damaged import with_chunks
from tests.metadata.trees import experiment, level, listed
from xarray_nd2.metadata.focus import z_axis
from xarray_nd2.metadata.time_axis import time_axis
from xarray_nd2.testing import write_nd2

EXPERIMENT, TIMES = b"ImageMetadataLV!", b"CustomData|AcqTimesCache!"


def written(shape: tuple[int, ...], dims: Any, **how: Any) -> bytes:
    file = io.BytesIO()
    write_nd2(file, np.zeros((*shape, 2, 2), "uint16"), [*dims, "Y", "X"], **how)
    return file.getvalue()


def opened(data: bytes) -> tuple[xr.Dataset, list[str]]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        ds = xr.open_dataset(io.BytesIO(data), engine="nd2")
    return ds, [str(each.message) for each in caught]


def chunk(data: bytes, name: bytes) -> bytes:
    _, start, stop = chunk_parts(data, chunk_entries(data)[name])
    return data[start:stop]


def numbers_of(name: str, data: bytes) -> list[int]:
    """Where the values of a name are in a chunk of version 3."""
    key = (name + "\0").encode("utf-16-le")
    places, at = [], data.find(key)
    while at >= 0:
        places.append(at + len(key))
        at = data.find(key, at + 1)
    return places


PHASES = {"periods": [(3, 1.0), (3, 2.0)], "timestamps": np.arange(6.0)}


def test_a_phase_of_negative_size_does_not_keep_a_file_from_opening() -> None:
    data = written((6,), "T", **PHASES)
    tree = bytearray(chunk(data, EXPERIMENT))
    place = numbers_of("uiCount", bytes(tree))[1]  # the first phase's
    tree[place : place + 4] = struct.pack("<i", -1)
    kind = bytes(tree).rindex(b"\x03\x08", 0, place)
    tree[kind] = 2  # a signed number
    ds, told = opened(rewritten(data, {EXPERIMENT: bytes(tree)}))
    assert ds.image.shape[0] == 6
    assert len(told) == 1


def test_a_phase_of_enormous_size_takes_no_memory() -> None:
    phases = [{"dPeriod": 1000.0}, {"uiCount": 2**62, "dPeriod": 1000.0}]
    loop = experiment(level(8, uiCount=6, pPeriod=listed(*phases)))[0].loops[0]
    assert loop.count == 6
    assert len(time_axis(loop, "T", 6, np.arange(6.0)[:, None])[1]) == 6


def test_times_always_rise() -> None:
    phases = [{"uiCount": 2, "dPeriod": 1e25}, {"uiCount": 3, "dPeriod": 1.0}]
    loop = experiment(level(8, uiCount=5, pPeriod=listed(*phases)))[0].loops[0]
    assert (np.diff(time_axis(loop, "T", 5, None)[1]) > 0).all()


def test_frames_that_are_numbered_are_not_all_where_the_first_one_was() -> None:
    heights = [48.0, 50.0, 52.0]
    data = written((3,), "Z", recorded={"X": np.ones(3), "Z": np.array(heights)})
    ds, _ = opened(with_chunks(data, {EXPERIMENT: None}))
    assert ds.image.dims[0] == "U"
    assert "stage_z" not in ds or ds.stage_z.broadcast_like(ds.U).values.tolist() == heights


def test_places_of_the_first_point_are_not_those_of_all_when_the_points_are_lost() -> None:
    data = written((2,), "P", stage_positions=[(1, 2, 50), (1000, 2000, 60)])
    ds, _ = opened(with_chunks(data, {EXPERIMENT: None}))
    for name in ("stage_x", "stage_y", "stage_z"):
        assert name not in ds or np.isnan(ds[name].values).any()


def test_recorded_heights_along_a_custom_loop() -> None:
    heights = np.array([1.0, 2, 3, 101, 102, 103])
    ds, _ = opened(written((2, 3), "UZ", recorded={"X": np.ones(6), "Z": heights}))
    assert "stage_z" not in ds or ds.stage_z.dims == ("U", "Z")


@pytest.mark.parametrize("values", [[100, 102, 104, 106], ["a", "b", "c", "d"]])
def test_a_recorded_column_that_is_not_of_floats_is_no_height(values: list[Any]) -> None:
    ds, _ = opened(written((4,), "Z", recorded={"Z": values}, stage_positions=[(1, 2, 500)]))
    known = ds.stage_z.values.tolist()
    assert known in ([100, 102, 104, 106], [499, 500, 501, 502])


def test_recorded_heights_that_are_all_unknown_are_not_recorded() -> None:
    recorded = {"X": np.ones(3), "Z": np.full(3, np.nan)}
    ds, _ = opened(written((3,), "Z", recorded=recorded, stage_positions=[(1, 2, 500)]))
    assert ds.stage_z.values.tolist() == [499, 500, 501]


def test_heights_do_not_depend_on_how_large_the_file_is(tmp_path: Any) -> None:
    labels = []
    for frames in (30, 12_000):
        recorded = {"X": np.ones(frames), "Y": np.ones(frames), "Z": np.zeros(frames)}
        path = tmp_path / f"{frames}.nd2"
        write_nd2(
            path,
            lambda _: np.zeros((2, 2), "uint16"),
            "TZYX",
            sizes={"T": frames // 3, "Z": 3, "Y": 2, "X": 2},
            dtype="uint16",
            stage_positions=[(1, 2, 50)],
            recorded=recorded,
            name_area=64,
        )
        labels.append(xr.open_dataset(path, engine="nd2").stage_z.values.tolist())
    assert labels[0] == labels[1]


def test_an_unknown_kind_of_stack_has_no_certain_direction() -> None:
    loop = experiment(level(4, uiCount=3, dZStep=2.0, iType=9))[0].loops[0]
    assert z_axis(loop, "Z", 3, None)[2].get("direction") != "top to bottom"


def test_dates_where_the_time_of_the_first_frame_is_not_in_the_table() -> None:
    # dTimeMSec of the picture is the first frame's own time on the clock of the table.
    data = written((4,), "T", timestamps=[5.0, 6.0, 7.0, 8.0], start="2026-01-01")
    table = np.array([np.nan, 6000.0, 7000.0, 8000.0]).astype("<f8").tobytes()
    ds, _ = opened(rewritten(data, {TIMES: table}))
    start = np.datetime64("2026-01-01", "ns")
    assert ((ds.acquired.values - start) / np.timedelta64(1, "s")).tolist()[1:] == [1, 2, 3]
    assert ds.time.values[1:].tolist() == ds["T"].values[1:].tolist()


@pytest.mark.parametrize(
    "table",
    [[0.0, 1000.0], [0.0, np.inf, 2000.0, 3000.0], [0.0, 1000.0, 1e300, 3000.0], [np.nan] * 4],
    ids=["short", "infinite", "enormous", "none"],
)
def test_a_table_of_times_that_is_odd_is_told_of(table: list[float]) -> None:
    data = written((4,), "T", timestamps=[0, 1, 2, 3])
    _, told = opened(rewritten(data, {TIMES: np.array(table, "<f8").tobytes()}))
    assert len(told) == 1
    assert "AcqTimesCache" in told[0]


def test_a_step_of_a_tenth_is_within_a_tenth() -> None:
    loop = experiment(level(1, uiCount=4, dAvgPeriodDiff=1000.0))[0].loops[0]
    early = time_axis(loop, "T", 4, np.array([[0], [0.9], [1.9], [2.9]]))[1]
    late = time_axis(loop, "T", 4, np.array([[0], [1.1], [2.1], [3.1]]))[1]
    assert early.tolist() == late.tolist() == [0, 1, 2, 3]


def test_what_is_in_memory_takes_other_data_later() -> None:
    da = pytest.importorskip("dask.array")
    from xarray_nd2.backend import ND2BackendEntrypoint

    ds = ND2BackendEntrypoint().open_dataset(io.BytesIO(written((2,), "P")))
    ds["stage_x"].data = da.from_array(np.array([7.0, 8.0]), 1)
    assert ds["stage_x"].chunks is not None


def test_attributes_say_the_same_of_recorded_heights_as_of_others() -> None:
    """docs/labels.md: labels in µm are rounded to nine decimals."""
    heights = np.array([0.1 + 0.2, 5677.420000000001])
    ds, _ = opened(written((2,), "Z", recorded={"X": np.ones(2), "Z": heights}))
    assert ds.stage_z.values.tolist() == [0.3, 5677.42]
    assert json.loads(json.dumps(ds.image.attrs))


def test_title_of_a_file_within_an_archive(tmp_path: Any) -> None:
    import zipfile

    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        archive.writestr("inner.nd2", written((2,), "T"))
    ds = xr.open_dataset(f"zip://inner.nd2::{tmp_path / 'all.zip'}", engine="nd2")
    assert ds.attrs["title"] == "inner.nd2"
