"""The cache for people who look: what it asks of the server, and what it gives."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import pickle
import struct
import threading
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import xarray as xr

from tests.damage import chunk_entries
from tests.variants import VARIANTS
from xarray_nd2 import ND2ChangedError, ND2FormatError, explain, regions, trace
from xarray_nd2.io.answers import ObjectFacts
from xarray_nd2.io.process import this_process
from xarray_nd2.lazy_chain import find_nd2_array
from xarray_nd2.read.inflate import FrameCache
from xarray_nd2.read.kept_frames import KeptFrames
from xarray_nd2.testing import write_nd2

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    from xarray_nd2.array import ND2BackendArray
    from xarray_nd2.testing import RangeServer

SHAPE = (20, 2, 48, 50)  # T, C, Y, X
FRAME_BYTES = 2 * 48 * 50 * 2
PLENTY = 100 * FRAME_BYTES


@pytest.fixture(autouse=True)
def _nothing_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    process = this_process()
    monkeypatch.setattr(process, "kept_frames", KeptFrames(process.kept_frames.capacity))
    monkeypatch.setattr(process, "frame_cache", FrameCache(2**27))


@pytest.fixture(scope="module")
def pixels() -> NDArray[np.uint16]:
    return np.random.default_rng(3).integers(0, 2**16, SHAPE).astype("uint16")


@pytest.fixture(scope="module")
def run(folder: Path, pixels: NDArray[np.uint16]) -> Path:
    write_nd2(folder / "looked-at.nd2", pixels, "TCYX")
    write_nd2(folder / "looked-at-lossless.nd2", pixels, "TCYX", compression="lossless")
    return folder / "looked-at.nd2"


def opened(
    http: RangeServer, run: Path, cache_bytes: int = PLENTY, **keywords: Any
) -> xr.DataArray:
    url = http.url(run.name)
    image: xr.DataArray
    image = xr.open_dataset(url, engine="nd2", cache_bytes=cache_bytes, **keywords).image
    http.log.clear()
    return image


def crop(t: int) -> dict[str, Any]:
    """Another crop and another channel for each."""
    return {"T": t, "C": t % 2, "Y": slice(t, 40), "X": slice(30, t, -1)}


def frame_requests(http: RangeServer) -> list[int]:
    return [entry.start for entry in http.log.entries if entry.start is not None]


@pytest.mark.parametrize("lossless", [False, True])
@pytest.mark.parametrize("chunks", [None, {}], ids=["lazy", "dask"])
def test_back_and_forth_each_frame_is_fetched_once(
    chunks: Any, lossless: bool, run: Path, http: RangeServer, pixels: NDArray[np.uint16]
) -> None:
    path = run.with_stem("looked-at-lossless") if lossless else run
    image = opened(http, path, chunks=chunks)
    for n, t in enumerate([*range(20), *reversed(range(20)), *range(20)]):
        look = crop(t) | {"C": n % 2, "Y": slice(n % 7, 30 + n % 5)}
        expected = pixels[t, n % 2, look["Y"], look["X"]]
        np.testing.assert_array_equal(image.isel(look).compute().values, expected)
    assert len(frame_requests(http)) == len(set(frame_requests(http))) == 20
    if not lossless:
        assert http.log.bytes == 20 * FRAME_BYTES
    assert this_process().kept_frames.nbytes == 20 * FRAME_BYTES


def test_a_trace_counts_real_requests_only(run: Path, http: RangeServer) -> None:
    image = opened(http, run)
    with trace() as first:
        image.isel(crop(1)).load()
    with trace() as second:
        image.isel(crop(1)).load()
    assert (first.requests, first.bytes) == (1, FRAME_BYTES)
    assert (second.requests, second.bytes) == (0, 0)


def test_only_so_many_bytes_are_kept(run: Path, http: RangeServer) -> None:
    image = opened(http, run, cache_bytes=3 * FRAME_BYTES + 1)
    for t in range(6):
        image.isel(crop(t)).load()
        assert this_process().kept_frames.nbytes <= 3 * FRAME_BYTES
    http.log.clear()
    for t in (3, 4, 5, 3):
        image.isel(crop(t)).load()
    assert http.log.requests == 0
    image.isel(crop(0)).load()  # in place of 4, which was used longest ago
    http.log.clear()
    image.isel(crop(3)).load()
    image.isel(crop(5)).load()
    assert http.log.requests == 0
    image.isel(crop(4)).load()
    assert http.log.requests == 1


def test_the_process_is_bounded(
    run: Path, http: RangeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(this_process(), "kept_frames", KeptFrames(4 * FRAME_BYTES))
    images = [
        opened(http, path, cache_bytes=3 * FRAME_BYTES)
        for path in (run, run.with_stem("looked-at-lossless"))
    ]
    for image in images * 2:
        for t in range(5):
            image.isel(crop(t)).load()
            assert this_process().kept_frames.nbytes <= 4 * FRAME_BYTES
    assert this_process().kept_frames.nbytes == 4 * FRAME_BYTES


@pytest.mark.parametrize("cache_bytes", [1, FRAME_BYTES - 1, 19 * FRAME_BYTES])
def test_what_does_not_fit_is_read_as_without_a_cache(
    cache_bytes: int, run: Path, http: RangeServer, pixels: NDArray[np.uint16]
) -> None:
    costs = []
    for size in (0, cache_bytes):
        image = opened(http, run, cache_bytes=size, max_gap=0)
        selected = image.isel(Y=slice(3, 9), X=slice(5, 9))
        expected = pixels[..., 3:9, 5:9]
        np.testing.assert_array_equal(selected.values, expected)
        costs.append((http.log.requests, http.log.bytes))
    assert costs[0] == costs[1]
    assert this_process().kept_frames.nbytes == 0


def test_all_that_just_fits_is_kept(run: Path, http: RangeServer) -> None:
    image = opened(http, run, cache_bytes=20 * FRAME_BYTES)
    image.isel(Y=3).load()
    http.log.clear()
    image.isel(Y=4).load()
    assert http.log.requests == 0


def test_frames_are_read_in_parts(
    run: Path, http: RangeServer, pixels: NDArray[np.uint16], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("xarray_nd2.keeping.whole_frames._MAX_PART_BYTES", 3 * FRAME_BYTES)
    image = opened(http, run, max_gap=10_000)
    cost = explain(image.isel(Y=2))
    np.testing.assert_array_equal(image.isel(Y=2).values, pixels[:, :, 2])
    assert http.log.requests == 7
    assert (cost.exact, cost.requests, cost.bytes_fetched) == (True, 7, http.log.bytes)
    array = array_of(image)
    offsets = array.layout.offsets.values().tolist()
    for kept in this_process().kept_frames.get(array.source.identity, offsets).values():
        owner = kept if kept.base is None else kept.base
        assert owner.nbytes == FRAME_BYTES, "a part is not held by one of its frames"


def array_of(image: xr.DataArray) -> ND2BackendArray:
    found = find_nd2_array(image)
    assert found is not None
    return found[0]


def test_off_unless_asked_for(run: Path, http: RangeServer) -> None:
    image = xr.open_dataset(http.url(run.name), engine="nd2", max_gap=0).image
    http.log.clear()
    for _ in range(2):
        image.isel(T=0, Y=slice(0, 5), X=slice(0, 5)).load()
    assert http.log.requests == 10
    assert this_process().kept_frames.nbytes == 0


@pytest.mark.parametrize("given", [-1, 0.5, "many", None])
def test_it_must_be_a_number_of_bytes(given: Any, run: Path) -> None:
    with pytest.raises(ValueError if given == -1 else TypeError):
        xr.open_dataset(run, engine="nd2", cache_bytes=given)


def test_files_at_hand_are_not_kept(run: Path, pixels: NDArray[np.uint16]) -> None:
    image = xr.open_dataset(run, engine="nd2", cache_bytes=PLENTY).image
    np.testing.assert_array_equal(image.isel(crop(2)).values, pixels[2, 0, 2:40, 30:2:-1])
    with run.open("rb") as file:
        xr.open_dataset(file, engine="nd2", cache_bytes=PLENTY).image.isel(crop(2)).load()
    assert this_process().kept_frames.nbytes == 0


def test_without_a_version_nothing_is_kept(run: Path, http: RangeServer) -> None:
    image = opened(http, run)
    array = array_of(image)
    array.source = replace(array.source, facts=ObjectFacts(array.source.size, None))
    image.isel(crop(1)).load()
    assert this_process().kept_frames.nbytes == 0


def test_a_changed_object_never_gives_an_old_pixel(
    folder: Path, http: RangeServer, pixels: NDArray[np.uint16]
) -> None:
    path = folder / "changing.nd2"
    write_nd2(path, pixels, "TCYX")
    old = opened(http, path)
    old.isel(crop(1)).load()
    write_nd2(path, ~pixels, "TCYX")
    os.utime(path, ns=(1, 2_000_000_000_000_000_000))
    new = opened(http, path)
    np.testing.assert_array_equal(new.isel(crop(1)).values, ~pixels[1, 1, 1:40, 30:1:-1])
    assert http.log.requests == 1
    # What was opened before stays what it was, or fails.
    np.testing.assert_array_equal(old.isel(crop(1)).values, pixels[1, 1, 1:40, 30:1:-1])
    with pytest.raises(ND2ChangedError):
        old.isel(crop(2)).load()


def look_elsewhere(image: xr.DataArray) -> tuple[int, int, Any]:
    """In another process: what is kept before, after, and what was seen."""
    before = this_process().kept_frames.nbytes
    seen = image.isel(crop(3)).values
    return before, this_process().kept_frames.nbytes, seen


def test_copies_in_other_processes_start_empty(
    run: Path, http: RangeServer, pixels: NDArray[np.uint16]
) -> None:
    image = opened(http, run)
    size = len(pickle.dumps(image))
    image.load()
    image = opened(http, run)
    assert len(pickle.dumps(image)) == size
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn) as pool:
        before, after, seen = pool.submit(look_elsewhere, image).result()
    assert (before, after) == (0, FRAME_BYTES)
    np.testing.assert_array_equal(seen, pixels[3, 1, 3:40, 30:3:-1])
    assert http.log.requests == 1


def test_missing_frames(folder: Path, http: RangeServer, pixels: NDArray[np.uint16]) -> None:
    path = folder / "looked-at-gaps.nd2"
    write_nd2(path, pixels[:4], "TCYX", missing=[1])
    with pytest.warns(UserWarning, match="not in the file"):
        image = opened(http, path)
    expected = pixels[:4].copy()
    expected[1] = 0
    for _ in range(2):
        np.testing.assert_array_equal(image.isel(C=1, Y=slice(3, 9)).values, expected[:, 1, 3:9])
        assert not image.isel(T=1).values.any()
    assert this_process().kept_frames.nbytes == 3 * FRAME_BYTES
    with pytest.warns(UserWarning, match="cannot be read"):
        strict = opened(http, path, missing_frames="raise")
    for look in (strict, strict.isel(T=[0, 1])):
        with pytest.raises(ND2FormatError, match="not in the file, the first of them frame 1"):
            look.load()
        with pytest.raises(ND2FormatError, match="not in the file"):
            explain(look)
    assert strict.isel(T=0).load().any()


def test_doubtful_frames_raise(folder: Path, http: RangeServer, pixels: NDArray[np.uint16]) -> None:
    path = folder / "looked-at-lost.nd2"
    write_nd2(path, pixels[:4], "TCYX")
    data = bytearray(path.read_bytes())
    struct.pack_into("<Q", data, chunk_entries(bytes(data))[b"ImageDataSeq|2!"], 2**40)
    path.write_bytes(data)
    messages = []
    for cache_bytes in (0, PLENTY):
        image = opened(http, path, cache_bytes=cache_bytes)
        np.testing.assert_array_equal(image.isel(T=[0, 3], Y=3).values, pixels[[0, 3], :, 3])
        with pytest.raises(ND2FormatError, match="frame 2 ") as caught:
            image.isel(Y=3).load()
        messages.append(str(caught.value))
    assert messages[0] == messages[1]


def test_damaged_lossless_frames_raise(
    folder: Path, http: RangeServer, pixels: NDArray[np.uint16]
) -> None:
    path = folder / "looked-at-damaged.nd2"
    write_nd2(path, pixels[:4], "TCYX", compression="lossless")
    data = bytearray(path.read_bytes())
    at = struct.unpack_from("<Q", data, chunk_entries(bytes(data))[b"ImageDataSeq|1!"])[0]
    data[at + 4096 + 40 : at + 4096 + 60] = bytes(20)
    path.write_bytes(data)
    image = opened(http, path)
    for _ in range(2):
        with pytest.raises(ND2FormatError, match=r"damaged\.nd2: frame 1 does not inflate"):
            image.isel(T=1).load()
    assert len(this_process().reading_frames) == 0
    np.testing.assert_array_equal(image.isel(T=2).values, pixels[2])


@pytest.mark.filterwarnings("ignore:.*not in the file")
@pytest.mark.parametrize("name", VARIANTS)
def test_every_kind_of_file(name: str, folder: Path, http: RangeServer) -> None:
    path = VARIANTS[name].write(folder / f"every-kind-{name}.nd2")
    expected = xr.open_dataset(path, engine="nd2").image.load()
    image = opened(http, path)
    look: dict[str, Any] = {"Y": slice(None, None, -3), "X": [2, 1, 4]}
    np.testing.assert_array_equal(image.isel(look).values, expected.isel(look).values)
    http.log.clear()
    np.testing.assert_array_equal(image.copy().values, expected.values)
    assert http.log.requests == 0


def test_colour_and_padding(folder: Path, http: RangeServer) -> None:
    colours = np.random.default_rng(1).integers(0, 256, (3, 21, 33, 3)).astype("uint8")
    write_nd2(folder / "looked-at-rgb.nd2", colours, "TYXS")
    image = opened(http, folder / "looked-at-rgb.nd2")
    for _ in range(2):
        for s in range(3):
            got = image.isel(T=[2, 0], Y=slice(3, 20, 4), X=[7, 1, 1], S=s, C=0).values
            np.testing.assert_array_equal(got, colours[[2, 0], 3:20:4][:, :, [7, 1, 1], s])
        np.testing.assert_array_equal(image.isel(C=0).values, colours)


def test_points_transposed_and_nothing(
    run: Path, http: RangeServer, pixels: NDArray[np.uint16]
) -> None:
    image = opened(http, run)
    t = xr.DataArray([3, 0, 3, 19], dims="p")
    y = xr.DataArray([0, 47, 5, 9], dims="p")
    for _ in range(2):
        np.testing.assert_array_equal(image.isel(T=t, Y=y, X=y).values, pixels[t, :, y, y])
        np.testing.assert_array_equal(
            image.transpose("X", "T", "Y", "C").isel(T=[1, 3]).values,
            pixels[[1, 3]].transpose(3, 0, 2, 1),
        )
        assert image.isel(T=slice(0, 0)).values.shape == (0, 2, 48, 50)
        assert image.isel(T=2, Y=[]).values.shape == (2, 0, 50)
    assert this_process().kept_frames.nbytes == 4 * FRAME_BYTES


def test_regions(run: Path, http: RangeServer) -> None:
    rng = np.random.default_rng(2)
    table = {
        "T": rng.integers(0, 5, 40),
        "Y": rng.integers(0, 48, 40),
        "X": rng.integers(0, 50, 40),
    }
    sizes: dict[str, Any] = {"size": {"Y": 9, "X": 7}, "outside": "pad"}
    expected = regions(xr.open_dataset(run, engine="nd2").image, table, **sizes)
    looked_at = opened(http, run, max_gap=0)
    cut = regions(looked_at, table, **sizes)
    cost = explain(cut)
    np.testing.assert_array_equal(cut.values, expected.values)
    assert (cost.exact, cost.frames) == (True, 5)
    assert (cost.requests, cost.bytes_fetched) == (http.log.requests, http.log.bytes)
    assert http.log.bytes == 5 * FRAME_BYTES
    again = regions(looked_at, table, **sizes)
    http.log.clear()
    assert explain(again).requests == 0
    np.testing.assert_array_equal(again.values, expected.values)
    assert http.log.requests == 0


def test_levels_and_the_image_are_kept_apart(folder: Path, http: RangeServer) -> None:
    path = folder / "looked-at-levels.nd2"
    data = np.random.default_rng(4).integers(0, 999, (2, 2048, 1024)).astype("uint16")
    write_nd2(path, data, "TYX", levels=1)
    expected = xr.open_datatree(path, engine="nd2")
    tree = xr.open_datatree(http.url(path.name), engine="nd2", cache_bytes=2**26)
    http.log.clear()
    for n in range(2):
        for name in ("image", "level1"):
            look = {"T": 1, "Y": slice(5 * n, 40), "X": slice(3, 9)}
            image = tree[f"{name}/image"].isel(look)
            np.testing.assert_array_equal(image.values, expected[f"{name}/image"].isel(look).values)
    assert http.log.bytes == data[0].nbytes * 5 // 4
    assert this_process().kept_frames.nbytes == data[0].nbytes * 5 // 4


SELECTIONS: dict[str, Callable[[xr.DataArray], xr.DataArray]] = {
    "one frame": lambda image: image.isel(T=3),
    "kept frame": lambda image: image.isel(T=5, Y=slice(0, 9)),
    "some kept": lambda image: image.isel(T=slice(2, 9), C=1, X=4),
    "all": lambda image: image,
    "too many": lambda image: image.isel(Y=slice(3, 5)),
    "far apart": lambda image: image.isel(T=[0, 5, 19], X=slice(3, 5)),
    "frames twice": lambda image: image.isel(T=[1, 1, 5, 5], Y=3),
    "nothing": lambda image: image.isel(T=slice(0, 0)),
}


@pytest.mark.parametrize("gap", [0, 4096, None])
@pytest.mark.parametrize("lossless", [False, True])
@pytest.mark.parametrize("name", SELECTIONS)
def test_explain_is_what_the_server_counts(
    name: str, lossless: bool, gap: int | None, run: Path, http: RangeServer
) -> None:
    path = run.with_stem("looked-at-lossless") if lossless else run
    image = opened(http, path, cache_bytes=12 * FRAME_BYTES, max_gap=gap)
    image.isel(T=slice(4, 7), Y=0).load()
    if lossless:  # so that what is inflated for others is not at hand
        this_process().frame_cache = FrameCache(2**27)
    for _ in range(2):
        selected = SELECTIONS[name](image)
        cost = explain(selected)
        http.log.clear()
        selected.load()
        counted = (http.log.requests, http.log.bytes)
        if cost.exact:
            assert (cost.requests, cost.bytes_fetched) == counted
        else:
            assert lossless
            assert name == "too many"
        assert cost.frames == 0 or counted[0]


def test_explain_by_arithmetic(run: Path, http: RangeServer) -> None:
    image = opened(http, run, max_gap=0)
    image.isel(T=2, Y=0).load()
    cost = explain(image.isel(T=[1, 2, 3], C=0, Y=slice(0, 10), X=slice(0, 4)))
    assert (cost.frames, cost.requests) == (2, 2)
    assert cost.bytes_fetched == 2 * FRAME_BYTES
    assert cost.bytes_needed == 2 * 10 * 4 * 2
    assert cost.exact
    hit = explain(image.isel(T=2))
    assert (hit.frames, hit.requests, hit.bytes_fetched, hit.bytes_needed) == (0, 0, 0, 0)
    assert hit.exact


def test_explain_is_an_estimate_where_reads_meet_in_the_cache(run: Path, http: RangeServer) -> None:
    image = opened(http, run, max_gap=0)
    frame = image.isel(T=1).reset_coords(drop=True)
    two = xr.Dataset({f"channel{n}": frame.isel(C=n, drop=True) for n in range(2)})
    assert not explain(two).exact
    assert not explain(opened(http, run, chunks={}, max_gap=0).isel(T=1)).exact


def test_blocks_of_one_frame_read_it_once(run: Path, http: RangeServer) -> None:
    image = opened(http, run, chunks={"T": 1, "Y": 4})
    http.latency = 0.02
    image.isel(T=slice(0, 3)).compute(scheduler="threads", num_workers=8)
    assert http.log.requests == 3
    assert http.log.bytes == 3 * FRAME_BYTES


def test_threads_that_want_the_same_frames(
    run: Path, http: RangeServer, pixels: NDArray[np.uint16]
) -> None:
    image = opened(http, run, max_gap=0)
    http.latency = 0.02
    begin = threading.Barrier(8)

    def look(n: int) -> None:
        begin.wait()
        order = list(range(20))[:: 1 if n % 2 else -1][n % 3 :]
        got = image.isel(T=order, C=n % 2).values
        np.testing.assert_array_equal(got, pixels[order, n % 2])

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(look, range(8)))
    assert len(frame_requests(http)) == len(set(frame_requests(http))) == 20
    assert len(this_process().reading_frames) == 0


async def test_without_blocking(run: Path, http: RangeServer, pixels: NDArray[np.uint16]) -> None:
    image = opened(http, run)
    looks = [image.isel(crop(t)).load_async() for t in (0, 1, 0, 1, 2)]
    loaded = await asyncio.gather(*looks)
    for t, seen in zip((0, 1, 0, 1, 2), loaded, strict=True):
        np.testing.assert_array_equal(seen.values, pixels[t, t % 2, t:40, 30:t:-1])
    assert http.log.bytes == 3 * FRAME_BYTES
