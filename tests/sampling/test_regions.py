"""Regions by a table: their pixels, labels, edges and costs, against loops over an image in memory."""

from __future__ import annotations

import asyncio
import pickle
from typing import TYPE_CHECKING, Any

import dask
import numpy as np
import pandas as pd
import pytest
import xarray as xr

from xarray_nd2 import explain, regions
from xarray_nd2.testing import write_nd2

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    from xarray_nd2.testing import RangeServer

SIZES = {"T": 5, "P": 3, "Z": 7, "C": 2, "Y": 60, "X": 72}
COUNT = 40
PIXEL_UM = 0.5


@pytest.fixture(scope="module")
def pixels() -> NDArray[np.uint16]:
    return np.random.default_rng(8).integers(1, 2**16, tuple(SIZES.values())).astype("uint16")


@pytest.fixture(scope="module")
def run(folder: Path, pixels: NDArray[np.uint16]) -> Path:
    path = folder / "regions-by-table.nd2"
    options: dict[str, Any] = {
        "channels": ["DAPI", "GFP"],
        "pixel_size": PIXEL_UM,
        "z_step": 2.0,
        "timestamps": np.arange(5 * 3 * 7) * 0.25,
        "start": "2024-05-06T07:08:09",
        "stage_positions": [(10.0, 20.0, 30.0), (11.0, 21.0, 31.0), (12.0, 22.0, 32.0)],
    }
    write_nd2(path, pixels, "TPZCYX", **options)
    write_nd2(
        path.with_name("regions-lossless.nd2"), pixels, "TPZCYX", compression="lossless", **options
    )
    return path


@pytest.fixture
def table() -> dict[str, NDArray[Any]]:
    rng = np.random.default_rng(5)
    return {dim: rng.integers(0, SIZES[dim], COUNT) for dim in ("T", "P", "Z", "Y", "X")}


def opened(path: Any, **keywords: Any) -> xr.DataArray:
    image: xr.DataArray = xr.open_dataset(path, engine="nd2", **keywords).image
    return image


def padded_window(
    frame: NDArray[Any], y: int, x: int, height: int, width: int, fill: float = 0
) -> NDArray[Any]:
    """A window of the last two axes from (y, x) on, by a loop over its pixels' places."""
    result = np.full((*frame.shape[:-2], height, width), fill, frame.dtype)
    for i in range(height):
        for j in range(width):
            if 0 <= y + i < frame.shape[-2] and 0 <= x + j < frame.shape[-1]:
                result[..., i, j] = frame[..., y + i, x + j]
    return result


def expected_regions(
    pixels: NDArray[Any], table: Any, size: tuple[int, int], fill: float = 0
) -> NDArray[Any]:
    height, width = size
    return np.stack(
        [
            padded_window(pixels[t, p, z], y - height // 2, x - width // 2, height, width, fill)
            for t, p, z, y, x in zip(*(table[dim] for dim in "TPZYX"), strict=True)
        ]
    )


IMAGES: dict[str, dict[str, Any]] = {
    "lazy": {},
    "dask": {"chunks": {}},
    "small blocks": {"chunks": {"T": 1, "Z": 3, "Y": 25}},
}


@pytest.mark.parametrize("name", ["regions-by-table.nd2", "regions-lossless.nd2"])
@pytest.mark.parametrize("chunks", [None, 7])
@pytest.mark.parametrize("how", IMAGES)
def test_pixels_are_those_of_the_windows(
    how: str, chunks: int | None, name: str, run: Path, pixels: Any, table: Any
) -> None:
    image = opened(run.with_name(name), **IMAGES[how])
    cut = regions(image, table, 16, outside="pad", fill=9, chunks=chunks)
    assert cut.dims == ("roi", "C", "Y", "X")
    assert cut.dtype == "uint16"
    assert (cut.chunks is None) == (how == "lazy" and chunks is None)
    np.testing.assert_array_equal(cut.values, expected_regions(pixels, table, (16, 16), 9))


@pytest.mark.parametrize("size", [(1, 1), (3, 8), (60, 72), (61, 5), (200, 90)])
def test_windows_of_any_size(size: tuple[int, int], run: Path, pixels: Any, table: Any) -> None:
    cut = regions(opened(run), table, dict(zip("YX", size, strict=True)), outside="pad")
    np.testing.assert_array_equal(cut.values, expected_regions(pixels, table, size))


def test_windows_wholly_outside_are_filled_and_not_read(
    run: Path, http: RangeServer, pixels: Any
) -> None:
    table = {"T": [0, 1, 2], "P": 3 * [0], "Z": 3 * [1], "Y": [-50, 30, 30], "X": [30, 500, 30]}
    image = opened(http.url(run.name), max_gap=0)
    http.log.clear()
    cut = regions(image, table, 8, outside="pad", fill=7)
    assert cut.values[:2].min() == cut.values[:2].max() == 7
    np.testing.assert_array_equal(cut.values[2], pixels[2, 0, 1, :, 26:34, 26:34])
    assert http.log.requests == 8
    alone = regions(image, {"T": [0], "P": [0], "Z": [0], "Y": [-50], "X": [0]}, 8, outside="pad")
    assert alone.values.max() == 0


def test_boxes(run: Path, pixels: Any, table: Any) -> None:
    image = opened(run)
    cut = regions(image, table, {"Z": 4, "Y": 6, "X": 5}, outside="pad")
    assert cut.dims == ("roi", "Z", "C", "Y", "X")
    for i in range(COUNT):
        t, p, z, y, x = (int(table[dim][i]) for dim in "TPZYX")
        for k, plane in enumerate(range(z - 2, z + 2)):
            there = 0 <= plane < SIZES["Z"]
            window = padded_window(pixels[t, p, plane % 7], y - 3, x - 2, 6, 5) * there
            np.testing.assert_array_equal(cut.values[i, k], window)
    assert cut.Z.values.tolist() == [-4.0, -2.0, 0.0, 2.0]
    np.testing.assert_allclose(cut.centre_Z, image.Z.values[table["Z"]])
    heights, planes = image.stage_z.values, np.add.outer(table["Z"], np.arange(-2, 2))
    there = (planes >= 0) & (planes < 7)
    expected = heights[table["P"][:, None], np.where(there, planes, 0)]
    np.testing.assert_allclose(cut.stage_z, np.where(there, expected, np.nan))
    assert np.isnat(cut.acquired.values[~there]).all()


def test_labels_are_those_of_each_region(run: Path, table: Any) -> None:
    image = opened(run)
    cut = regions(image, table, 16, outside="pad")
    at = {dim: xr.DataArray(table[dim], dims="roi") for dim in "TPZ"}
    for name in ("T", "P", "Z", "time", "acquired", "stage_x", "stage_z", "position_name"):
        expected = image[name].isel({dim: at[str(dim)] for dim in image[name].dims}).variable
        xr.testing.assert_identical(cut[name].variable, expected.to_base_variable())
    np.testing.assert_allclose(cut.centre_Y, table["Y"] * PIXEL_UM)
    np.testing.assert_allclose(cut.centre_X, table["X"] * PIXEL_UM)
    np.testing.assert_allclose(cut.Y, (np.arange(16) - 8) * PIXEL_UM)
    assert cut.centre_Y.attrs["units"] == cut.Y.attrs["units"] == "µm"
    assert cut.C.values.tolist() == ["DAPI", "GFP"]
    assert cut.roi.values.tolist() == list(range(COUNT))
    assert cut.name == "image"
    assert cut.attrs == image.attrs
    corner = regions(image, table, 16, anchor="corner", outside="pad")
    np.testing.assert_allclose(corner.Y, np.arange(16) * PIXEL_UM)
    np.testing.assert_allclose(corner.centre_X, (table["X"] + 8) * PIXEL_UM)


def test_tables_of_other_kinds(run: Path, pixels: Any, table: Any) -> None:
    image = opened(run)
    expected = regions(image, table, 4, outside="pad")
    names = [f"cell {i}" for i in range(COUNT)]
    frame = pd.DataFrame({**table, "area": np.arange(COUNT) * 1.5}, index=names)
    as_frame = regions(image, frame, 4, outside="pad")
    assert as_frame.roi.values.tolist() == names
    assert as_frame.area.dims == ("roi",)
    np.testing.assert_array_equal(as_frame.values, expected.values)
    dataset = xr.Dataset({k: ("cell", v) for k, v in table.items()}, {"cell": names})
    as_dataset = regions(image, dataset, 4, outside="pad")
    assert as_dataset.roi.values.tolist() == names
    np.testing.assert_array_equal(as_dataset.values, expected.values)
    as_float = {k: v.astype(float) for k, v in table.items()} | {"Y": table["Y"] + 0.3}
    np.testing.assert_array_equal(regions(image, as_float, 4, outside="pad"), expected.values)


def test_dimensions_that_do_not_vary_need_no_column(folder: Path) -> None:
    data = np.arange(2 * 30 * 40, dtype="uint16").reshape(1, 2, 30, 40)
    write_nd2(folder / "one-time.nd2", data, "TCYX")
    cut = regions(opened(folder / "one-time.nd2"), {"Y": [3, 20], "X": [5, 30]}, 4)
    np.testing.assert_array_equal(cut.values[1], data[0, :, 18:22, 28:32])


@pytest.mark.parametrize(
    "select",
    [
        lambda image: image.sel(C="GFP"),
        lambda image: image.isel(C=[1, 0]),
        lambda image: image.isel(T=slice(None, None, -1), X=slice(10, 50)),
        lambda image: image.isel(P=[2, 0, 1], Y=slice(None, None, 2)),
        lambda image: image.isel(Z=slice(1, 6)).isel(Z=[4, 0, 2]),
    ],
    ids=["channel", "channels", "backwards", "rows", "planes"],
)
@pytest.mark.parametrize("how", IMAGES)
def test_selections_before(
    request: pytest.FixtureRequest,
    how: str,
    select: Callable[[xr.DataArray], xr.DataArray],
    run: Path,
    http: RangeServer,
) -> None:
    image = select(opened(http.url(run.name), max_gap=0, **IMAGES[how]))
    rng = np.random.default_rng(3)
    table = {dim: rng.integers(0, image.sizes[dim], 9) for dim in "TPZYX"}
    in_memory = regions(select(opened(run).load()), table, 6, outside="pad")
    http.log.clear()
    cut = regions(image, table, 6, outside="pad").compute(scheduler="threads")
    if request.node.callspec.id != "small blocks-planes":  # which dask puts together by a shuffle
        assert http.log.bytes < 9 * 6 * 6 * 2 * 2 * 2, "nothing but the regions"
    xr.testing.assert_identical(cut, in_memory)


@pytest.mark.parametrize("how", ["lazy", "dask", "small blocks", "memory"])
def test_crops_of_regions(how: str, run: Path, table: Any) -> None:
    image = opened(run).load() if how == "memory" else opened(run, **IMAGES[how])
    cut = regions(image, table, {"Z": 3, "Y": 8, "X": 8}, outside="pad")
    full = cut.compute()
    for crop in (
        {"roi": 3},
        {"roi": slice(4, 9), "C": 1},
        {"roi": [9, 2, 2], "Y": slice(2, 5), "X": [0, 7, 3]},
        {"Z": 1, "Y": slice(None, None, -2)},
        {"roi": slice(0, 0)},
        {"roi": 5, "Z": 0, "C": 0, "Y": 4, "X": 4},
    ):
        fresh = regions(image, table, {"Z": 3, "Y": 8, "X": 8}, outside="pad")
        xr.testing.assert_identical(fresh.isel(crop).compute(), full.isel(crop))


def test_images_that_were_computed_with(run: Path, pixels: Any, table: Any) -> None:
    for image in (opened(run, chunks={}) - 3.0, (opened(run) - 3.0).chunk(T=1)):
        cut = regions(image, table, 8, outside="pad", fill=np.nan)
        expected = expected_regions(pixels - 3.0, table, (8, 8), np.nan)
        np.testing.assert_array_equal(cut.values, expected)
        assert cut.chunks is not None


def test_colour(folder: Path) -> None:
    data = np.random.default_rng(0).integers(0, 255, (4, 30, 40, 3)).astype("uint8")
    write_nd2(folder / "colour.nd2", data, "TYXS")
    cut = regions(opened(folder / "colour.nd2"), {"T": [1, 3], "Y": [9, 12], "X": [9, 30]}, 5)
    assert cut.dims == ("roi", "C", "Y", "X", "S")
    np.testing.assert_array_equal(cut.values[1, 0], data[3, 10:15, 28:33])
    np.testing.assert_array_equal(cut.isel(S=2, roi=0, C=0), data[1, 7:12, 7:12, 2])


def test_nothing_is_read_before_it_is_needed(run: Path, http: RangeServer, table: Any) -> None:
    for how in ("lazy", "dask"):
        image = opened(http.url(run.name), **IMAGES[how])
        http.log.clear()
        for chunks in (None, 5):
            repr(regions(image, table, 8, outside="pad", chunks=chunks))
        assert http.log.requests == 0


def test_blocks_read_what_one_process_would(run: Path, http: RangeServer, table: Any) -> None:
    image = opened(http.url(run.name), max_gap=0)
    read = []
    for chunks in (None, COUNT, 10):
        cut = regions(image, table, 8, outside="pad", chunks=chunks)
        http.log.clear()
        cost = explain(cut)
        cut.compute(scheduler="threads")
        assert (cost.requests, cost.bytes_fetched) == (http.log.requests, http.log.bytes)
        assert cost.exact
        assert cost.reads == (1 if chunks is None else -(-COUNT // chunks))
        read.append(http.log.bytes)
    assert read[0] == read[1] <= read[2]


def test_a_block_takes_its_own_part_of_the_table_along(run: Path) -> None:
    many = {dim: np.zeros(100_000, np.int64) for dim in "TPZ"} | {
        dim: np.full(100_000, 20) for dim in "YX"
    }
    cut = regions(opened(run), many, 4, chunks=10_000)
    largest = max(len(pickle.dumps(task)) for task in dict(cut.__dask_graph__()).values())
    assert largest < 10_000 * 8 * 6
    again = regions(opened(run), many, 4, chunks=10_000)
    assert cut.data.name == again.data.name, "the same regions have the same name"
    other = regions(opened(run), many, 4, chunks=10_000, fill=3)
    assert cut.data.name != other.data.name


def test_pickled_and_asynchronous(run: Path, table: Any) -> None:
    cut = regions(opened(run), table, 8, outside="pad")
    expected = regions(opened(run), table, 8, outside="pad").load()
    xr.testing.assert_identical(pickle.loads(pickle.dumps(cut)).load(), expected)
    some = xr.DataArray([3, 9], dims="point")
    points = cut.isel(roi=some, Y=some - 2, X=some - 3)
    xr.testing.assert_identical(
        asyncio.run(points.load_async()), expected.isel(roi=some, Y=some - 2, X=some - 3)
    )
    xr.testing.assert_identical(asyncio.run(cut.load_async()), expected)
    with dask.config.set(scheduler="processes", num_workers=1):
        blocks = regions(opened(run), table, 8, outside="pad", chunks=20).compute()
    xr.testing.assert_identical(blocks, expected)


@pytest.mark.parametrize(
    ("changes", "keywords", "error", "match"),
    [
        ({"T": [0, 5]}, {"outside": "pad"}, ValueError, "region 1 lies outside .* along T"),
        ({"P": [-1, 0]}, {"outside": "pad"}, ValueError, "region 0 lies outside .* along P"),
        ({"Z": [0, 7]}, {"outside": "pad"}, ValueError, "region 1 lies outside .* along Z"),
        ({"Y": [30, 1]}, {}, ValueError, r"region 1 .* along Y: .* at 1, from -3 to 5, of 60"),
        ({"X": [71, 30]}, {}, ValueError, "region 0 lies outside .* along X"),
        ({"Z": [0.5, 1]}, {}, ValueError, "region 0 is at 0.5 along Z"),
        ({"Y": [np.nan, 30]}, {}, ValueError, "region 0 is at nan along Y"),
        ({"T": ["a", "b"]}, {}, ValueError, "column T must have numbers"),
        ({"T": None}, {}, KeyError, "no column T"),
        ({"Y": [30]}, {}, ValueError, "different shapes"),
        ({"time": [1, 2]}, {}, ValueError, "'time' has the name of a label"),
        ({}, {"anchor": "center"}, ValueError, "anchor must be"),
        ({}, {"outside": "clip"}, ValueError, "outside must be"),
        ({}, {"fill": 0.5}, ValueError, "cannot be filled"),
        ({}, {"fill": -1}, ValueError, "cannot be filled"),
        ({}, {"chunks": 0}, ValueError, "chunks must be"),
        ({}, {"size": 0}, ValueError, "size must be at least 1"),
        ({}, {"size": {"Y": 4}}, ValueError, "size must be of Y and X"),
        ({}, {"size": {"Y": 4, "X": 4, "C": 1}}, ValueError, "size must be of Y and X"),
        ({}, {"size": 2.5}, TypeError, "float"),
    ],
)
def test_what_is_wrong_is_told_at_once(
    changes: Any, keywords: Any, error: Any, match: str, run: Path, http: RangeServer
) -> None:
    image = opened(http.url(run.name))
    table: dict[str, Any] = {"T": [0, 1], "P": [0, 0], "Z": [0, 0], "Y": [30, 30], "X": [30, 30]}
    table = {k: v for k, v in (table | changes).items() if v is not None}
    http.log.clear()
    with pytest.raises(error, match=match):
        regions(image, table, keywords.pop("size", 8), **keywords)
    assert http.log.requests == 0
    with pytest.raises(TypeError, match="not a mapping"):
        regions(image, [1, 2], 8)


def test_a_table_without_rows(run: Path) -> None:
    empty = {dim: np.empty(0, np.int64) for dim in "TPZYX"}
    for chunks in (None, 5):
        cut = regions(opened(run), empty, 8, chunks=chunks)
        assert cut.shape == (0, 2, 8, 8)
        assert cut.values.shape == (0, 2, 8, 8)


def test_round_trips(run: Path, table: Any, tmp_path: Path) -> None:
    cut = regions(opened(run), table, 8, outside="pad", chunks=10)
    cut.to_netcdf(tmp_path / "cut.nc")
    with xr.open_dataarray(tmp_path / "cut.nc") as again:
        xr.testing.assert_equal(again, cut.compute())


@pytest.mark.parametrize("how", ["lazy", "dask"])
def test_dimensions_under_other_names(how: str, run: Path, table: Any) -> None:
    image = opened(run, **IMAGES[how])
    expected = regions(image, table, 6, outside="pad").values
    other = {("frame" if name == "T" else name): column for name, column in table.items()}
    renamed = regions(image.rename(T="frame"), other, 6, outside="pad")
    np.testing.assert_array_equal(renamed.values, expected)
    bare = image.drop_vars(list(image.coords))
    exchanged = {"T": table["P"], "P": table["T"]} | {dim: table[dim] for dim in "ZYX"}
    turned = regions(bare.rename(T="P", P="T"), exchanged, 6, outside="pad")
    np.testing.assert_array_equal(turned.values, expected)


@pytest.mark.filterwarnings("ignore:.*are not in the file")
def test_blocks_of_other_images_have_other_names(folder: Path) -> None:
    data = np.random.default_rng(3).integers(0, 999, (3, 1100, 64)).astype("uint16")
    write_nd2(folder / "levels.nd2", data, "TYX", levels=1, missing=[1])
    tree = xr.open_datatree(folder / "levels.nd2", engine="nd2")
    table = {"T": [0, 2], "Y": [9, 12], "X": [9, 12]}
    images = [tree[name].image.isel(Y=slice(0, 64), X=slice(0, 32)) for name in ("image", "level1")]
    strict = xr.open_dataset(folder / "levels.nd2", engine="nd2", missing_frames="raise").image
    cuts = [regions(image, table, 4, chunks=1) for image in [*images, strict]]
    assert len({cut.data.name for cut in cuts}) == 3
    both = xr.Dataset({"a": cuts[0].variable, "b": cuts[1].variable}).compute()
    np.testing.assert_array_equal(
        both.a.values, np.stack([data[0, None, 7:11, 7:11], data[2, None, 10:14, 10:14]])
    )
    assert not np.array_equal(both.a.values, both.b.values)


def test_a_table_that_changes_later_changes_nothing(run: Path, table: Any) -> None:
    given = {name: column.copy() for name, column in table.items()} | {"area": np.arange(COUNT)}
    cut = regions(opened(run), given, 4, outside="pad")
    expected = cut.copy(deep=True).load()
    for column in given.values():
        column[:] = 0
    xr.testing.assert_identical(cut.load(), expected)


def test_columns_of_dimensions_that_were_dropped(run: Path, pixels: Any) -> None:
    table = {"T": [2, 2], "P": [1, 1], "Z": [0, 3], "Y": [20, 30], "X": [20, 30]}
    cut = regions(opened(run).isel(T=2, P=1), table, 4)
    np.testing.assert_array_equal(cut.values[1], pixels[2, 1, 3, :, 28:32, 28:32])
    assert cut["T"].ndim == 0


def test_offsets_of_one_row(run: Path) -> None:
    image = opened(run).isel(T=0, P=0, Z=0, Y=slice(4, 5))
    cut = regions(image, {"Y": [0], "X": [20]}, {"Y": 3, "X": 2}, outside="pad")
    assert cut.Y.values.tolist() == [-0.5, 0.0, 0.5]
    assert cut.centre_Y.item() == 2.0
    assert cut.centre_Y.attrs["units"] == "µm"


def test_what_fills(run: Path) -> None:
    table = {"T": [0], "P": [0], "Z": [0], "Y": [0], "X": [0]}
    image = opened(run).astype("float32")
    cut = regions(image, table, 4, outside="pad", fill=np.float64(0.1))
    assert cut.values.flat[0] == np.float32(0.1)
    for fill in (None, "x", [1, 2]):
        with pytest.raises(TypeError, match="fill must be a number"):
            regions(image, table, 4, outside="pad", fill=fill)  # type: ignore[arg-type]
    lost = np.full(1, np.iinfo("int64").min)  # what NaN becomes as a whole number
    with pytest.raises(ValueError, match="region 0 is at -9223372036854775808 along Y"):
        regions(image, table | {"Y": lost}, 4)
    two: Any = np.int64(2)
    assert regions(image, table, 4, outside="pad", chunks=two).chunks is not None
