"""What opening and reading cost: requests, bytes and round trips, counted by the server."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import xarray as xr

from tests.damage import rewritten
from xarray_nd2.testing import write_nd2

if TYPE_CHECKING:
    from pathlib import Path

    from xarray_nd2.testing import RangeServer

CHANNELS_1024 = {"T": 100, "C": 2, "Y": 1024, "X": 1024}
CROP: dict[str, Any] = {"Y": slice(100, 356), "X": slice(300, 556)}


def sparse_file(path: Path, sizes: dict[str, int], **options: Any) -> Path:
    """A file whose frames are all the same but for their number in the first pixels."""
    shape = tuple(size for dim, size in sizes.items() if dim in "CYX")
    frame = np.random.default_rng(2).integers(0, 2**16, shape, np.uint16)

    def numbered(index: int) -> np.ndarray:
        frame[..., 0, 0] = index % 2**16
        return frame

    write_nd2(path, numbered, "".join(sizes), sizes=sizes, dtype="uint16", **options)
    return path


@pytest.fixture(scope="module")
def large(folder: Path) -> Path:
    return sparse_file(folder / "large.nd2", CHANNELS_1024)


@pytest.fixture(scope="module")
def huge_frame(folder: Path) -> Path:
    return sparse_file(folder / "huge.nd2", {"Y": 8192, "X": 8192})


@pytest.fixture(scope="module")
def many(folder: Path) -> Path:
    times = np.arange(20_000) * 0.1
    return sparse_file(folder / "many.nd2", {"T": 20_000, "Y": 16, "X": 16}, timestamps=times)


@pytest.mark.parametrize(
    ("name", "requests", "size", "trips"),
    [
        ("large", 4, 600_000, 3),
        ("huge_frame", 4, 600_000, 3),
        ("many", 6, 1_700_000, 4),
    ],
)
@pytest.mark.parametrize("chunks", [None, {}], ids=["lazy", "dask"])
def test_opening(
    name: str,
    requests: int,
    size: int,
    trips: int,
    chunks: dict[str, int] | None,
    http: RangeServer,
    request: pytest.FixtureRequest,
) -> None:
    path = request.getfixturevalue(name)
    http.latency = 0.05
    xr.open_dataset(http.url(path.name), chunks=chunks)
    assert http.log.requests <= requests
    assert http.log.bytes <= size
    assert http.log.round_trips <= trips


STACKS = {"T": 500, "Z": 10, "Y": 8, "X": 8}  # 5000 frames: a table takes 40 kB, the map 165 kB


def columns_of_stacks(*names: str) -> dict[str, np.ndarray]:
    """Recorded columns, in this order in the file; Z rises by 2 µm a plane, and later by 1 µm a time."""
    rows = np.arange(float(STACKS["T"] * STACKS["Z"]))
    rising = 2 * (rows % STACKS["Z"]) + np.floor(rows / STACKS["Z"])
    return {name: rising + 100 if name == "Z" else rows for name in names}


def test_heights_far_from_the_end(folder: Path, http: RangeServer) -> None:
    """Of the table those of the first time point are read, together with the other metadata."""
    others, behind = ("A", "B", "C", "D"), ("X", "Y", "E", "F", "G", "H")
    costs = {}
    for name, columns in (("without", (*others, *behind)), ("with", (*others, "Z", *behind))):
        path = sparse_file(
            folder / f"heights-{name}.nd2",
            STACKS,
            timestamps=np.arange(5000.0),
            recorded=columns_of_stacks(*columns),
            z_step=2.0,
        )
        data, table = path.read_bytes(), b"CustomData|Z!"
        if name == "with":
            assert data.index(table) < len(data) - 2**18 - 8 * 5000
            assert data.index(table) - data.index(b"CustomData|AcqTimesCache!") > 3 * 2**16
        http.latency = 0.05
        http.log.clear()
        ds = xr.open_dataset(http.url(path.name))
        costs[name] = http.log.requests, http.log.round_trips, http.log.bytes
    # Where nothing was recorded of Z, only the times of the frames are not in the ends.
    assert costs["without"][:2] == (3, 2)
    assert costs["with"][:2] == (4, 2)
    assert costs["with"][2] - costs["without"][2] == 16 + 2 * 4096 + 8 * STACKS["Z"]
    assert ds.stage_z.dims == ("Z",)
    assert ds.stage_z.values.tolist() == (100 + 2.0 * np.arange(10)).tolist()
    assert ds.stage_z.attrs["comment"] == "as recorded"


def test_heights_near_the_end_cost_nothing(folder: Path, http: RangeServer) -> None:
    path = sparse_file(folder / "near.nd2", STACKS, recorded=columns_of_stacks("X", "Y", "Z"))
    http.latency = 0.05
    ds = xr.open_dataset(http.url(path.name))
    assert (http.log.requests, http.log.round_trips) == (2, 1)
    assert ds.stage_z.values.tolist() == (100 + 2.0 * np.arange(10)).tolist()


@pytest.mark.parametrize("chunks", [None, {}], ids=["lazy", "dask"])
@pytest.mark.parametrize(
    ("name", "max_gap", "expected"),
    [
        ("large", None, 256 * 4096),
        ("large", 0, 262_144),
        ("huge_frame", None, 4_300_000),
        ("huge_frame", 0, 131_072),
    ],
)
def test_crop_of_one_frame(
    name: str,
    max_gap: int | None,
    expected: int,
    chunks: dict[str, int] | None,
    http: RangeServer,
    request: pytest.FixtureRequest,
) -> None:
    path = request.getfixturevalue(name)
    ds = xr.open_dataset(http.url(path.name), max_gap=max_gap, chunks=chunks)
    local = xr.open_dataset(path).image.isel(CROP)
    crop = ds.image.isel(CROP)
    if "T" in crop.dims:
        crop, local = crop.isel(T=10), local.isel(T=10)
    http.log.clear()
    result = crop.compute()
    if max_gap == 0:
        assert http.log.bytes == expected
        assert http.log.requests == 256
    else:
        assert http.log.bytes <= expected
    np.testing.assert_array_equal(result.values, local.values)


@pytest.mark.parametrize("chunks", [None, {}], ids=["lazy", "dask"])
def test_one_plane_fetches_one_plane(
    chunks: dict[str, int] | None, large: Path, http: RangeServer
) -> None:
    ds = xr.open_dataset(http.url(large.name), chunks=chunks)
    http.log.clear()
    ds.image.isel(T=42).compute()
    assert http.log.bytes == 1024 * 1024 * 4


def test_nothing_is_read_for_nothing(large: Path, http: RangeServer) -> None:
    ds = xr.open_dataset(http.url(large.name), chunks={})
    http.log.clear()
    repr(ds), ds._repr_html_()
    assert ds.image.isel(T=slice(0, 0)).compute().shape == (0, 2, 1024, 1024)
    assert ds.image.isel(T=3, Y=[]).compute().shape == (2, 0, 1024)
    assert http.log.requests == 0


def test_ranges_are_read_at_once(large: Path, http: RangeServer) -> None:
    ds = xr.open_dataset(http.url(large.name), max_gap=0)
    http.latency = 0.05
    http.log.clear()
    ds.image.isel(CROP | {"T": 10}).load()
    assert http.log.requests == 256
    assert http.log.round_trips <= 256 // 8  # 4 where nothing else runs


def test_fewer_requests_in_flight(large: Path, http: RangeServer) -> None:
    ds = xr.open_dataset(http.url(large.name), max_gap=0, max_concurrency=4)
    http.latency = 0.005
    http.log.clear()
    ds.image.isel(CROP | {"T": 10}).load()
    edges = sorted(
        edge for entry in http.log.entries for edge in ((entry.began, 1), (entry.ended, -1))
    )
    assert max(np.cumsum([step for _, step in edges])) <= 4


async def test_async_load(large: Path, http: RangeServer) -> None:
    ds = xr.open_dataset(http.url(large.name))
    crops = [ds.image.isel(CROP | {"T": t}) for t in range(8)]
    http.latency = 0.1
    http.log.clear()
    loaded = await asyncio.gather(*(crop.load_async() for crop in crops))
    assert http.log.round_trips <= 4  # of 8: they do not wait for each other
    expected = xr.open_dataset(large).image
    for t, crop in enumerate(loaded):
        np.testing.assert_array_equal(crop.values, expected.isel(CROP | {"T": t}).values)


def test_metadata_is_read_once(large: Path, http: RangeServer) -> None:
    ds = xr.open_dataset(http.url(large.name), chunks={})
    http.log.clear()
    ds.image.isel(CROP).isel(T=slice(0, 20)).max().compute()
    pixels = ds.image.isel(T=0).nbytes * 20
    offsets = [entry.start for entry in http.log.entries]
    assert min(offset for offset in offsets if offset is not None) > 4096
    assert http.log.bytes < pixels / 3


@pytest.mark.parametrize(
    ("name_area", "more"), [(4072, 0), (0, 0), (64, 1)], ids=["padded", "tight", "unusual"]
)
def test_unusual_name_areas_take_one_round_trip_more(
    name_area: int, more: int, folder: Path, http: RangeServer
) -> None:
    """One header is enough where it is a usual one; otherwise a few must agree, not all."""
    sizes = {"T": 60, "Y": 512, "X": 512}
    times = np.arange(60.0)  # the first of which could be padding
    path = sparse_file(folder / "areas.nd2", sizes, map_order="sequence", timestamps=times)
    path.write_bytes(rewritten(path.read_bytes(), {}, least_name_area=name_area))
    http.latency = 0.05
    xr.open_dataset(http.url(path.name))
    assert http.log.requests == 2 + 4 * more  # both ends, and headers far from each other
    assert http.log.round_trips == 1 + more
    assert http.log.bytes <= 2 * 256 * 1024 + 4 * 48 * more
