"""The speed of the disk: many small windows of a local file, beside bare NumPy, and of small requests."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from xarray.backends import BackendArray, BackendEntrypoint
from xarray.core import indexing

from benchmarks._bench import Floor, Group, Row, slower_row, traffic_of
from benchmarks._clients import fetch_bare, open_ours
from benchmarks._files import CHANNEL_NAMES, FRAME_SIDE_PIXELS
from benchmarks._measure import Contender, in_turns
from benchmarks._server import LATENCY_ONLY_NETWORK
from xarray_nd2.lazy_chain import find_nd2_array
from xarray_nd2.sampling.regions import regions as cut_regions

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from benchmarks._bench import Bench
    from benchmarks._measure import Times
    from xarray_nd2.array import ND2BackendArray

_EDGE_PIXELS = 64
_REGIONS_PER_BLOCK = 500  # as dask reads them
_READS_PER_TIMING = 100  # a short reading is done so many times over
_SMALL_RANGE_BYTES = 4096


def run(bench: Bench) -> Group:
    """Read regions and crops of a local file, and small ranges over HTTP."""
    regions = _Regions(bench)
    count, edge = regions.count, _EDGE_PIXELS
    repetitions = bench.repetitions if bench.quick else 15
    reading = in_turns(
        {
            "lazy": Contender(lambda _: regions.read_lazily()),
            "table": Contender(lambda _: regions.read_by_table()),
            "dask": Contender(lambda _: regions.read_by_dask()),
            "NumPy": Contender(lambda _: regions.read_by_numpy()),
        },
        repetitions,
    )
    cropping = _crop(regions.image, bench.files.middle, repetitions)
    what = f"{count} regions of {edge}²"
    network = LATENCY_ONLY_NETWORK.delays
    return Group(
        "disk",
        "The speed of the disk",
        f"A local file of {bench.files.frame_count} frames of {FRAME_SIDE_PIXELS}² pixels and two "
        f"channels. {what.capitalize()} are read by one vectorised selection, by `regions` with a "
        f"table, and by that in blocks of {_REGIONS_PER_BLOCK} on dask's threads, beside a loop of NumPy over "
        "strided views of a memory map that is there already; the rates are compared. One crop is "
        "beside an array of a backend that gives zeros and does nothing else, which is what xarray "
        f"itself takes. Over HTTP with {network} of latency, the client's time on the processor for "
        f"small ranges and the time of regions are beside those of fsspec for the same ranges.",
        [
            _rate_row(f"{what}, vectorised", reading, "lazy", count, Floor(0.6, "least", aim=1.5)),
            _rate_row(f"{what}, by a table", reading, "table", count, Floor(0.6, "least", aim=1.5)),
            _rate_row(f"{what}, dask", reading, "dask", count, Floor(0.4, "least")),
            slower_row(
                f"one crop of {edge}², {_READS_PER_TIMING} times", cropping, "lazy", "zeros", 1.5
            ),
            *_requests(bench),
        ],
    )


class _Regions:
    """Regions at random places of random frames, and ways to read them."""

    def __init__(self, bench: Bench) -> None:
        path = bench.files.frames
        self.image = open_ours(str(path)).image
        self.count = 500 if bench.quick else 5_000
        frames, tops, lefts = _random_corners(bench, self.count)
        self._frames, self._tops, self._lefts = frames, tops, lefts
        found = find_nd2_array(self.image)
        assert found is not None
        self._array: ND2BackendArray = found[0]
        mapped = np.memmap(path, mode="r")
        shape = (FRAME_SIDE_PIXELS, FRAME_SIDE_PIXELS, len(CHANNEL_NAMES))
        offsets = self._array.layout.offsets.values().tolist()
        self._views = [np.ndarray(shape, np.uint16, mapped, at) for at in offsets]

    def read_by_numpy(self) -> NDArray[np.uint16]:
        edge = _EDGE_PIXELS
        out = np.empty((self.count, edge, edge, len(CHANNEL_NAMES)), np.uint16)
        corners = (self._frames.tolist(), self._tops.tolist(), self._lefts.tolist())
        for number, (frame, top, left) in enumerate(zip(*corners, strict=True)):
            out[number] = self._views[frame][top : top + edge, left : left + edge]
        return out.transpose(0, 3, 1, 2)

    def read_lazily(self, part: slice = slice(None)) -> Any:
        indexers = _indexers(self._frames[part], self._tops[part], self._lefts[part])
        return self.image.isel(indexers).transpose("roi", "C", "y", "x").values

    def read_by_table(self) -> Any:
        return self._cut().values

    def read_by_dask(self) -> Any:
        return self._cut(chunks=_REGIONS_PER_BLOCK).data.compute(scheduler="threads")

    def _cut(self, chunks: int | None = None) -> xr.DataArray:
        table = {"T": self._frames, "Y": self._tops, "X": self._lefts}
        return cut_regions(self.image, table, _EDGE_PIXELS, anchor="corner", chunks=chunks)


def _random_corners(bench: Bench, count: int) -> NDArray[np.int64]:
    """Frame, first row and first column of some regions."""
    rng = np.random.default_rng(23)
    last = FRAME_SIDE_PIXELS - _EDGE_PIXELS
    return rng.integers(0, [[bench.files.frame_count], [last], [last]], (3, count))


def _indexers(
    frames: NDArray[np.int64], tops: NDArray[np.int64], lefts: NDArray[np.int64]
) -> dict[str, xr.DataArray]:
    steps = np.arange(_EDGE_PIXELS)
    return {
        "T": xr.DataArray(frames, dims="roi"),
        "Y": xr.DataArray(tops[:, None] + steps, dims=("roi", "y")),
        "X": xr.DataArray(lefts[:, None] + steps, dims=("roi", "x")),
    }


def _rate_row(
    what: str, times: dict[str, Times], ours: str, count: int, floor: Floor | None
) -> Row:
    ratio = times["NumPy"].per(times[ours])
    rates = count / times[ours].median, count / times["NumPy"].median
    return Row(what, "ROIs/s", rates[0], "NumPy", rates[1], ratio, floor)


class _Zeros(BackendArray):
    """An array of a backend that takes no time."""

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self.shape, self.dtype = shape, dtype

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        return indexing.explicit_indexing_adapter(
            key, self.shape, indexing.IndexingSupport.BASIC, self._zeros
        )

    def _zeros(self, key: tuple[Any, ...]) -> NDArray[Any]:
        sizes = zip(key, self.shape, strict=True)
        shape = [len(range(*part.indices(n))) for part, n in sizes if isinstance(part, slice)]
        return np.zeros(shape, self.dtype)


class _ZerosBackend(BackendEntrypoint):
    """Opens the image that it is given, with zeros in place of its pixels."""

    def open_dataset(
        self,
        filename_or_obj: Any,
        *,
        drop_variables: Any = None,  # noqa: ARG002
    ) -> xr.Dataset:
        image = filename_or_obj
        lazy = indexing.LazilyIndexedArray(_Zeros(image.shape, image.dtype))
        variable = xr.Variable(image.dims, lazy, image.attrs)
        return xr.Dataset({"image": variable}, coords=image.coords)


def _crop(image: xr.DataArray, frame: int, repetitions: int) -> dict[str, Times]:
    middle = (FRAME_SIDE_PIXELS - _EDGE_PIXELS) // 2
    window = slice(middle, middle + _EDGE_PIXELS)
    zeros = xr.open_dataset(image, engine=_ZerosBackend).image

    def read(source: xr.DataArray) -> None:
        for _ in range(_READS_PER_TIMING):
            source.isel(T=frame, Y=window, X=window).values  # noqa: B018

    return in_turns(
        {
            "lazy": Contender(lambda _: read(image)),
            "zeros": Contender(lambda _: read(zeros)),
        },
        2 * repetitions,
    )


def _requests(bench: Bench) -> list[Row]:
    server = bench.server(LATENCY_ONLY_NETWORK)
    url = server.url(bench.files.frames)
    image = open_ours(url).image
    found = find_nd2_array(image)
    assert found is not None
    source = found[0].source
    count, regions = (200, 50) if bench.quick else (2_000, 500)
    places = bench.files.frames.stat().st_size // (2 * _SMALL_RANGE_BYTES)
    chosen = np.random.default_rng(29).choice(places, min(count, places), replace=False)
    starts = (np.sort(chosen) * 2 * _SMALL_RANGE_BYTES).tolist()
    small = [(start, start + _SMALL_RANGE_BYTES) for start in starts]
    indexers = _indexers(*_random_corners(bench, regions))

    def read_regions() -> Any:
        return image.isel(indexers).values

    read_regions()  # which tells what the link is like
    ranges = traffic_of(server, read_regions).ranges

    def in_pairs(ours: Callable[[], object], theirs: Callable[[], object], clock: Any) -> Any:
        return in_turns(
            {
                "lazy": Contender(lambda _: [ours()]),
                "fsspec, same ranges": Contender(lambda _: [theirs()]),
            },
            2 * bench.repetitions,
            clock=clock,
        )

    working = in_pairs(
        lambda: source.read(small, lambda _number, _data: None),
        lambda: fetch_bare(url, small),
        time.process_time,
    )
    waiting = in_pairs(read_regions, lambda: fetch_bare(url, ranges), time.perf_counter)
    delays = LATENCY_ONLY_NETWORK.delays
    return [
        slower_row(
            f"{len(small)} ranges of {_SMALL_RANGE_BYTES} bytes, {delays}, processor",
            *(working, "lazy", "fsspec, same ranges", 1.25),
        ),
        slower_row(f"{regions} regions, {delays}", waiting, "lazy", "fsspec, same ranges", 1.15),
    ]
