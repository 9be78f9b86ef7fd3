"""What is said to be read is what a server then counts."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import xarray as xr

import xarray_nd2
from xarray_nd2 import Link, explain, regions
from xarray_nd2.testing import write_nd2

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from xarray_nd2.testing import RangeServer, S3Server

ROI = xr.DataArray([1, 3, 3], dims="roi")
ROWS = xr.DataArray(np.add.outer([0, 20, 40], np.arange(8)), dims=("roi", "y"))
COLUMNS = xr.DataArray(np.add.outer([5, 0, 50], np.arange(8)), dims=("roi", "x"))
Selection = "Callable[[xr.DataArray], xr.DataArray]"
SELECTIONS: dict[str, Callable[[xr.DataArray], xr.DataArray]] = {
    "all": lambda image: image,
    "one frame": lambda image: image.isel(T=3, Z=1),
    "one channel": lambda image: image.isel(C=0),
    "by label": lambda image: image.sel(C="DAPI", T=2.0),
    "crop": lambda image: image.isel(T=1, Z=0, Y=slice(10, 30), X=slice(5, 25)),
    "columns": lambda image: image.isel(X=slice(7, 9)),
    "every other row": lambda image: image.isel(Y=slice(None, None, 2), Z=0),
    "backwards": lambda image: image.isel(T=slice(None, None, -1), Y=slice(40, 3, -3)),
    "one pixel": lambda image: image.isel(T=0, Z=2, C=1, Y=63, X=79),
    "list of times": lambda image: image.isel(T=[5, 0, 3], Y=slice(0, 4)),
    "lists along two": lambda image: image.isel(T=[1, 2], X=[3, 70]),
    "same frame twice": lambda image: image.isel(T=[2, 2, 2]),
    "nothing": lambda image: image.isel(T=slice(0, 0)),
    "crop of a crop": lambda image: image.isel(T=slice(1, 5)).isel(T=2, Y=slice(3, 9)),
    "regions": lambda image: image.isel(T=ROI, Z=ROI - 1, Y=ROWS, X=COLUMNS),
    "points": lambda image: image.isel(T=ROI, Y=ROI, X=ROI),
    "transposed": lambda image: image.transpose("X", "Y", ...).isel(Z=0, X=slice(0, 9)),
    "whole Z": lambda image: image.isel(T=4, Y=slice(8, 16)),
    "missing frame": lambda image: image.isel(T=0, Z=slice(0, 2), Y=slice(0, 9)),
    "absent only": lambda image: image.isel(T=0, Z=1),
}
OPERATIONS: dict[str, Callable[[xr.DataArray], xr.DataArray]] = {
    "arithmetic, then crop": lambda image: ((image - 3.0) / 2).isel(Y=slice(0, 5)),
    "mean, then crop": lambda image: image.mean("T").isel(Y=slice(0, 5)),
    "ratio of channels": lambda image: image.isel(C=0, T=1) / image.isel(C=1, T=1),
    "concatenated": lambda image: xr.concat([image.isel(T=0), image.isel(T=4)], "new"),
    "rechunked": lambda image: image.chunk(T=4).isel(T=3),
    "rolling": lambda image: image.rolling(T=3).mean().isel(X=3),
    "stacked": lambda image: image.stack(frame=["T", "Z"]).isel(frame=4),
}


@pytest.fixture(scope="module")
def run(folder: Path) -> Path:
    shape = (6, 3, 2, 64, 80)
    data = np.random.default_rng(8).integers(0, 2**16, shape).astype("uint16")
    path = folder / "explained.nd2"
    write_nd2(path, data, "TZCYX", channels=["DAPI", "GFP"], missing=[1])
    return path


@pytest.fixture(scope="module")
def lossless(folder: Path) -> Path:
    data = np.random.default_rng(8).integers(0, 200, (6, 512, 640)).astype("uint16")
    write_nd2(folder / "explained-lossless.nd2", data, "TYX", compression="lossless")
    return folder / "explained-lossless.nd2"


def opened(http: RangeServer, run: Path, **keywords: Any) -> xr.DataArray:
    with pytest.warns(UserWarning, match="not in the file"):
        image: xr.DataArray = xr.open_dataset(http.url(run.name), engine="nd2", **keywords).image
    return image


def read(http: RangeServer, image: xr.DataArray) -> tuple[int, int]:
    """Requests and bytes that reading took."""
    http.log.clear()
    image.compute(scheduler="threads") if image.chunks else image.load()
    return http.log.requests, http.log.bytes


@pytest.mark.parametrize(
    "chunks", [None, {}, {"T": 2, "Z": 1, "Y": 32}], ids=["lazy", "own", "small"]
)
@pytest.mark.parametrize("gap", [0, 4096])
@pytest.mark.parametrize("name", SELECTIONS)
def test_it_is_what_the_server_counts(
    name: str, gap: int, chunks: Any, run: Path, http: RangeServer
) -> None:
    image = SELECTIONS[name](opened(http, run, chunks=chunks, max_gap=gap))
    http.log.clear()
    cost = explain(image)
    assert http.log.requests == 0
    assert cost.exact
    assert (cost.requests, cost.bytes_fetched) == read(http, image)
    assert bool(cost.frames) == bool(cost.bytes_fetched)


@pytest.mark.parametrize("name", OPERATIONS)
def test_it_is_what_the_server_counts_after_operations(
    name: str, run: Path, http: RangeServer
) -> None:
    image = OPERATIONS[name](opened(http, run, chunks={"T": 1}, max_gap=0))
    cost = explain(image)
    assert cost.exact
    assert (cost.requests, cost.bytes_fetched) == read(http, image)


@pytest.mark.parametrize("name", SELECTIONS)
def test_it_is_exact_for_the_next_lazy_read_with_gaps_by_themselves(
    name: str, run: Path, http: RangeServer
) -> None:
    image = SELECTIONS[name](opened(http, run))
    cost = explain(image)
    assert cost.exact
    assert (cost.requests, cost.bytes_fetched) == read(http, image)
    assert explain(image).reads == 0, "it is in memory now"


def test_frames_and_bytes_by_arithmetic(run: Path, http: RangeServer) -> None:
    image = opened(http, run, max_gap=0)
    cost = explain(image.isel(T=slice(0, 4), Y=slice(2, 7), X=slice(10, 20)))
    assert cost.frames == 4 * 3 - 1
    assert cost.bytes_needed == cost.bytes_fetched == 11 * 5 * 10 * 2 * 2
    assert cost.requests == 11 * 5
    assert explain(image.isel(C=0)).bytes_needed * 2 == explain(image.isel(C=0)).bytes_fetched


def test_seconds_are_of_the_link(run: Path, http: RangeServer) -> None:
    image = opened(http, run, max_gap=0, max_concurrency=10)
    slow = Link(latency=2.0, bandwidth=1e6, overhead=0.0)
    cost = explain(image.isel(T=slice(3, 6), Y=slice(0, 3), X=slice(0, 10)), link=slow)
    assert cost.requests == 27
    assert cost.seconds == pytest.approx(3 * 2.0 + cost.bytes_fetched / 1e6)
    assert cost.link == slow
    assert cost.exact, "the gap is given"


def test_estimates_say_so(run: Path, http: RangeServer, lossless: Path) -> None:
    assert not explain(opened(http, run, chunks={})).exact
    assert not explain(opened(http, run), link=Link(latency=0.1, bandwidth=1e6)).exact
    image = xr.open_dataset(http.url(lossless.name), engine="nd2", max_gap=0).image
    whole, crop = explain(image), explain(image.isel(Y=slice(0, 40)))
    assert whole.exact
    assert not crop.exact
    assert 0 < crop.bytes_fetched < 0.3 * whole.bytes_fetched
    assert (whole.requests, whole.bytes_fetched) == read(http, image.copy())


def test_inflated_frames_that_are_kept_need_no_request(http: RangeServer, lossless: Path) -> None:
    image = xr.open_dataset(http.url(lossless.name), engine="nd2", cache=False).image.isel(T=0)
    image.load()
    again = xr.open_dataset(http.url(lossless.name), engine="nd2").image.isel(T=0)
    cost = explain(again)
    assert (cost.requests, cost.bytes_fetched, cost.frames) == (0, 0, 0)
    assert read(http, again) == (0, 0)


def test_blocks_read_whole_are_named_with_the_operation(run: Path, http: RangeServer) -> None:
    image = opened(http, run, chunks={"T": 1}, max_gap=0)
    frame_bytes = 64 * 80 * 2 * 2
    (whole,) = explain(image.mean("T").isel(Y=slice(0, 5))).whole_blocks
    assert whole.operation.startswith("mean")
    assert (whole.blocks, whole.bytes_fetched) == (6, 17 * frame_bytes)
    (points,) = explain(image.isel(T=ROI, Z=ROI - 1, Y=ROWS, X=COLUMNS)).whole_blocks
    assert points.operation.startswith("vindex")
    for harmless in (image, image.mean("T"), image.isel(Y=3), (image + 1).isel(T=2, X=[1, 2])):
        assert explain(harmless).whole_blocks == ()


def test_a_dataset_is_the_sum_of_its_variables(run: Path, http: RangeServer) -> None:
    lazy = opened(http, run, max_gap=0)
    graph = opened(http, run, chunks={}, max_gap=0)
    first, second = lazy.isel(T=2), graph.isel(T=3)
    both = xr.Dataset({"a": first.reset_coords(drop=True), "b": second.reset_coords(drop=True)})
    both["c"] = "n", [1, 2, 3]
    parts, total = [explain(first), explain(second)], explain(both)
    assert total.requests == sum(part.requests for part in parts)
    assert total.bytes_fetched == sum(part.bytes_fetched for part in parts)
    assert total.frames == 6
    assert total.reads == 2


def test_what_is_in_memory_is_not_read() -> None:
    assert explain(xr.DataArray(np.zeros(3))).reads == 0
    assert explain(xr.DataArray(np.zeros(3)).chunk()).requests == 0
    with pytest.raises(TypeError, match="not ndarray"):
        explain(np.zeros(3))  # type: ignore[arg-type]


def test_it_fails_as_reading_would(run: Path, http: RangeServer) -> None:
    image = opened(http, run, missing_frames="raise")
    with pytest.raises(xarray_nd2.ND2FormatError, match=r"explained\.nd2.*not in the file"):
        explain(image.isel(T=0))


def test_it_shows_what_matters_and_no_secret(run: Path, s3: S3Server) -> None:
    s3.put("bucket", "explained.nd2", run.read_bytes())
    options = s3.storage_options | {"secret": "hush-hush"}
    target = "s3://bucket/explained.nd2"
    with pytest.warns(UserWarning, match="not in the file"):
        ds = xr.open_dataset(target, engine="nd2", storage_options=options, chunks={})
    cost = explain(ds.image.mean("T").isel(Y=slice(0, 5)))
    for shown in (repr(cost), cost._repr_html_()):
        assert target in shown
        assert "hush-hush" not in shown
        assert "mean" in shown
        assert "estimated" in shown
    assert len(repr(cost).splitlines()) < 12


def test_new_axes(run: Path, http: RangeServer) -> None:
    image = opened(http, run, chunks={}, max_gap=0)
    for made in (
        xr.concat([image.isel(T=2), image.isel(T=5)], "q"),
        image.isel(T=2).expand_dims("q"),
        image.isel(T=2, drop=True).where(xr.DataArray(np.ones(3), dims="q") > 0),
    ):
        cost = explain(made)
        assert (cost.requests, cost.bytes_fetched) == read(http, made)


def test_operations_that_read_nothing_in_vain_are_not_named(run: Path, http: RangeServer) -> None:
    image = opened(http, run, chunks={"T": 2}, max_gap=0)
    for made in (
        image.isel(C=0).mean("T"),
        image.isel(C=0) - image.isel(C=1),
        image.isel(C=0).sum() + image.isel(C=1).sum(),
    ):
        assert explain(made).whole_blocks == ()


@pytest.mark.filterwarnings("ignore:.*are not in the file")
def test_files_of_one_name_are_several(run: Path) -> None:
    one, other = (xr.open_dataset(io.BytesIO(run.read_bytes())).image[2] for _ in range(2))
    cost = explain(xr.Dataset({"one": one.variable, "other": other.variable}))
    assert cost.frames == 6
    assert cost.names == ("<BytesIO>",)


def test_compressed_frames_that_tasks_share_are_an_estimate(
    http: RangeServer, lossless: Path
) -> None:
    image = xr.open_dataset(http.url(lossless.name), chunks={"T": 1}, max_gap=0).image
    assert not explain(image).exact
    lazy = xr.open_dataset(http.url(lossless.name), max_gap=0).image
    assert explain(lazy).exact
    twice = xr.Dataset({"a": lazy.isel(T=0).variable, "b": lazy.isel(T=1).variable})
    assert not explain(twice).exact


def test_transposed_regions(run: Path, http: RangeServer) -> None:
    image = opened(http, run, max_gap=0)
    table = {"T": [1, 2], "Z": [1, 2], "Y": [20, 30], "X": [20, 30]}
    cost = explain(regions(image, table, 8).transpose("Y", "X", "roi", "C"))
    straight = explain(regions(image, table, 8))
    assert (cost.requests, cost.bytes_fetched) == (straight.requests, straight.bytes_fetched)
    assert not cost.exact
