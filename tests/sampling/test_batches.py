"""Batches of regions: who gets which, reading ahead, going on, and what they cost."""

from __future__ import annotations

import asyncio
import gc
import json
import pickle
import sys
import threading
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import dask
import dask.base
import numpy as np
import pytest
import xarray as xr

from xarray_nd2 import batches, explain, regions
from xarray_nd2.errors import ND2SourceError
from xarray_nd2.sampling.epoch_order import EpochOrder
from xarray_nd2.sampling.read_ahead import THREAD_NAME_PREFIX, read_ahead, read_ahead_in_tasks
from xarray_nd2.testing import Fault, write_nd2

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from xarray_nd2.sampling.batches import Batches
    from xarray_nd2.testing import RangeServer

COUNT = 23
SIZE = 4
HOW: dict[str, dict[str, Any]] = {"lazy": {}, "dask": {"chunks": {}}}
MODES = ("sync", "async")


@pytest.fixture(scope="module")
def run(folder: Path) -> Path:
    path = folder / "batches.nd2"
    pixels = np.random.default_rng(4).integers(1, 2**16, (5, 2, 64, 80)).astype("uint16")
    write_nd2(path, pixels, "TCYX", channels=["DAPI", "GFP"])
    return path


def cells_of(target: Any, how: str = "lazy", **keywords: Any) -> xr.DataArray:
    """Regions at random places, of an image that is lazy, of dask or in memory."""
    image = xr.open_dataset(target, engine="nd2", **HOW.get(how, {}), **keywords).image
    rng = np.random.default_rng(6)
    table = {
        "T": rng.integers(0, 5, COUNT),
        "Y": rng.integers(8, 56, COUNT),
        "X": rng.integers(8, 72, COUNT),
        "area": rng.random(COUNT),
    }
    return regions(image.load() if how == "memory" else image, table, 8)


@pytest.fixture
def numbered() -> xr.DataArray:
    """Regions in memory whose pixels are their numbers."""
    return xr.DataArray(np.arange(COUNT), dims="roi", coords={"roi": np.arange(COUNT)})


def taken(looped: Batches, mode: str, most: int | None = None) -> list[xr.DataArray]:
    """What a loop yields, which is left after so many batches."""
    found: list[xr.DataArray] = []
    if mode == "sync":
        if most != 0:
            for batch in looped:
                found.append(batch)
                if len(found) == most:
                    break
        return found

    async def loop() -> None:
        if most != 0:
            async for batch in looped:
                found.append(batch)
                if len(found) == most:
                    break

    asyncio.run(loop())
    return found


def rois(found: list[xr.DataArray]) -> list[list[int]]:
    return [batch.roi.values.tolist() for batch in found]


def own_threads() -> list[threading.Thread]:
    return [each for each in threading.enumerate() if each.name.startswith(THREAD_NAME_PREFIX)]


def becomes_true(condition: Callable[[], bool]) -> bool:
    """Whether something is so soon; a busy machine may take a while."""
    deadline = time.monotonic() + 10
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.001)
    return condition()


def check_no_thread_stays() -> None:
    """Threads end with the read that they are in."""
    for thread in own_threads():
        thread.join(10)
        assert not thread.is_alive()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("prefetch", [0, 1, 2, 9])
@pytest.mark.parametrize("how", ["lazy", "dask", "memory"])
def test_batches_are_the_regions_with_their_labels(
    how: str, prefetch: int, mode: str, run: Path
) -> None:
    cells = cells_of(run, how)
    expected = cells_of(run, "memory").load()
    found = taken(batches(cells, SIZE, seed=3, prefetch=prefetch), mode)
    assert len(found) == len(batches(cells, SIZE, seed=3)) == COUNT // SIZE
    for batch in found:
        assert isinstance(batch.variable._data, np.ndarray), "in memory"
        xr.testing.assert_identical(batch, expected.sel(roi=batch.roi).drop_encoding())
    chosen = [roi for batch in rois(found) for roi in batch]
    assert len(set(chosen)) == len(chosen) == COUNT // SIZE * SIZE
    assert rois(found) == rois(taken(batches(cells, SIZE, seed=3), "sync"))
    check_no_thread_stays()


def test_order_is_that_of_seed_and_epoch(numbered: xr.DataArray) -> None:
    dealt = batches(numbered, SIZE, seed=1)
    orders = [rois(taken(dealt, "sync")) for _ in range(3)]
    for epoch in (2, 0, 1):
        fresh = batches(numbered, SIZE, seed=1)
        fresh.set_epoch(epoch)
        assert rois(taken(fresh, "sync")) == orders[epoch], "each loop is of the next epoch"
    other = rois(taken(batches(numbered, SIZE, seed=2), "sync"))
    assert len({json.dumps(order) for order in (*orders, other)}) == 4
    in_order = batches(numbered, SIZE, seed=None)
    for _ in range(2):
        found = rois(taken(in_order, "sync"))
        assert [roi for batch in found for roi in batch] == list(range(COUNT // SIZE * SIZE))


def test_seeds_and_epochs_are_not_mixed_up() -> None:
    pairs = [(0, 0), (0, 1), (1, 0), (2**32, 0), (2**32, 1), (1, 2**32), (0, 2**32)]
    orders = [EpochOrder(50, 1, seed, 0, 1).rows(epoch).tobytes() for seed, epoch in pairs]
    assert len(set(orders)) == len(pairs)


@pytest.mark.parametrize("seed", [7, None])
@pytest.mark.parametrize("world_size", [1, 2, 3, 5])
def test_ranks_share_all_regions(world_size: int, seed: int | None, numbered: xr.DataArray) -> None:
    parts = []
    for rank in range(world_size):
        dealt = batches(numbered, SIZE, seed=seed, rank=rank, world_size=world_size)
        dealt.set_epoch(4)
        parts.append(rois(taken(dealt, "sync")))
        assert len(parts[-1]) == len(dealt)
    assert {len(part) for part in parts} == {COUNT // (SIZE * world_size)}
    assert {len(batch) for part in parts for batch in part} == {SIZE}
    together = [roi for part in parts for batch in part for roi in batch]
    assert len(set(together)) == len(together) > COUNT - SIZE * world_size


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("prefetch", [0, 2])
def test_a_loop_goes_on_where_it_was(prefetch: int, mode: str, numbered: xr.DataArray) -> None:
    def fresh() -> Batches:
        made = batches(numbered, 3, seed=5, rank=1, world_size=2, prefetch=prefetch)
        made.set_epoch(2)
        return made

    expected = rois(taken(fresh(), "sync"))
    following = fresh()
    following.set_epoch(3)
    after = rois(taken(following, "sync"))
    for position in range(len(expected) + 1):
        left = fresh()
        before = rois(taken(left, mode, position))
        state = json.loads(json.dumps(left.state_dict()))
        assert (state["epoch"], state["position"]) == (2, position)
        resumed = batches(numbered, 3, seed=5, rank=1, world_size=2)
        resumed.load_state_dict(state)
        resumed.set_epoch(2)  # as a loop over epochs does; it is that epoch already
        assert before + rois(taken(resumed, mode)) == expected
        assert before + rois(taken(pickle.loads(pickle.dumps(left)), mode)) == expected
        assert before + rois(taken(left, mode)) == expected, "so does the one that was left"
        assert rois(taken(resumed, mode)) == after, "and the next loop is of the next epoch"


def test_states_of_other_batches_are_refused(numbered: xr.DataArray) -> None:
    dealt = batches(numbered, 3, seed=5, world_size=2)
    state = dealt.state_dict()
    for name in ("seed", "size", "world_size", "regions"):
        with pytest.raises(ValueError, match=f"with {name} 6, not"):
            dealt.load_state_dict({**state, name: 6})
    for changes, match in (
        ({"position": 4}, "position must be up to 3, not 4"),
        ({"position": -1}, "position must be at least 0"),
        ({"epoch": -1}, "epoch must be at least 0"),
        ({"worker": [2, 2]}, "worker must be below 2"),
    ):
        with pytest.raises(ValueError, match=match):
            dealt.load_state_dict({**state, **changes})
    with pytest.raises(ValueError, match="has no epoch"):
        dealt.load_state_dict({k: v for k, v in state.items() if k != "epoch"})
    assert dealt.state_dict() == state, "nothing was changed"


def interleaved(parts: list[list[Any]]) -> list[Any]:
    """As a loader gives them out: one of each worker in turn."""
    longest = max(map(len, parts))
    return [part[i] for i in range(longest) for part in parts if i < len(part)]


@pytest.mark.parametrize("workers", [1, 2, 3, 7])
def test_workers_share_the_batches_of_a_rank(workers: int, numbered: xr.DataArray) -> None:
    whole = batches(numbered, 2, seed=8, rank=1, world_size=2)
    expected = rois(taken(whole, "sync"))
    shared = [
        batches(numbered, 2, seed=8, rank=1, world_size=2, worker=(i, workers))
        for i in range(workers)
    ]
    parts = [rois(taken(each, "sync")) for each in shared]
    assert [len(each) for each in shared] == list(map(len, parts))
    assert interleaved(parts) == expected
    # What the main process counted is enough to go on, with any number of workers.
    state = whole.state_dict() | {"epoch": 0, "position": 2}
    for each in shared:
        each.load_state_dict(state)
    assert interleaved([rois(taken(each, "sync")) for each in shared]) == expected[2:]
    # So is what each worker tells of itself.
    for i in range(workers):
        for position in range(len(parts[i]) + 1):
            left = batches(numbered, 2, seed=8, rank=1, world_size=2, worker=(i, workers))
            taken(left, "sync", position)
            resumed = batches(numbered, 2, seed=8, rank=1, world_size=2, worker=(i, workers))
            resumed.load_state_dict(left.state_dict())
            assert rois(taken(resumed, "sync")) == parts[i][position:]


def test_a_state_of_one_worker_is_not_for_another(numbered: xr.DataArray) -> None:
    left = batches(numbered, 2, seed=8, worker=(1, 2))
    taken(left, "sync", 1)
    for worker, named in (((0, 2), "0 of 2"), (None, "no worker")):
        other = batches(numbered, 2, seed=8, worker=worker)
        other.load_state_dict(left.state_dict())
        with pytest.raises(ValueError, match=f"of worker 1 of 2, and this is {named}"):
            taken(other, "sync")


def test_workers_of_a_loader_find_out_which_they_are(
    numbered: xr.DataArray, monkeypatch: pytest.MonkeyPatch
) -> None:
    dealt = batches(numbered, 2, seed=8)
    expected = rois(taken(batches(numbered, 2, seed=8), "sync"))
    info: list[Any] = [None]
    loader = SimpleNamespace(get_worker_info=lambda: info[0])
    monkeypatch.setitem(sys.modules, "torch.utils.data", loader)
    assert rois(taken(pickle.loads(pickle.dumps(dealt)), "sync")) == expected
    info[0] = SimpleNamespace(id=1, num_workers=3)
    assert len(dealt) == len(expected[1::3])
    assert rois(taken(dealt, "sync")) == expected[1::3]


def test_threads_and_tasks_end_when_a_loop_is_left(run: Path) -> None:
    for how in ("lazy", "dask", "memory"):
        dealt = batches(cells_of(run, how), 2, seed=0, prefetch=3)
        for batch in dealt:
            assert batch.sizes["roi"] == 2
            break
        check_no_thread_stays()

        async def leave(looped: Batches) -> None:
            async for _ in looped:
                break
            async for _ in looped:
                break
            for _ in range(10):
                await asyncio.sleep(0)
            assert asyncio.all_tasks() == {asyncio.current_task()}

        asyncio.run(leave(dealt))
        check_no_thread_stays()
        assert dealt.state_dict()["position"] == 3


def test_a_kept_iterator_can_be_closed(numbered: xr.DataArray) -> None:
    check_no_thread_stays()
    iterator = iter(batches(numbered, 2, seed=0))
    assert not own_threads(), "nothing is begun before the first batch is asked for"
    next(iterator)
    iterator.close()
    check_no_thread_stays()


class Counted:
    """Reads numbers, and counts how far ahead of the loop it is."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.begun = self.handed_out = self.most_ahead = 0

    def read(self, number: int) -> int:
        with self.lock:
            self.begun += 1
            self.most_ahead = max(self.most_ahead, self.begun - self.handed_out)
        return number

    async def read_async(self, number: int) -> int:
        await asyncio.sleep(0)
        return self.read(number)

    def handing_out(self, number: int) -> None:
        assert number == self.handed_out
        with self.lock:
            self.handed_out += 1


@pytest.mark.parametrize("prefetch", [0, 1, 2, 5])
def test_no_more_is_read_ahead_than_asked_for(prefetch: int) -> None:
    counted = Counted()
    for number in read_ahead(counted.read, range(30), prefetch, counted.handing_out):
        expected = min(number + 1 + prefetch, 30)
        assert becomes_true(lambda expected=expected: counted.begun == expected)  # type: ignore[misc]
        time.sleep(0.001)  # in which threads could run further ahead
        assert counted.begun == expected
    assert counted.handed_out == 30
    assert counted.most_ahead == max(prefetch, 1)

    async def loop() -> Counted:
        counted = Counted()
        reading = read_ahead_in_tasks(counted.read_async, range(30), prefetch, counted.handing_out)
        async for number in reading:
            for _ in range(5):
                await asyncio.sleep(0)
            assert counted.begun == min(number + 1 + prefetch, 30)
        return counted

    counted = asyncio.run(loop())
    assert counted.handed_out == 30
    assert counted.most_ahead == max(prefetch, 1)


@pytest.mark.parametrize("prefetch", [0, 1, 3])
def test_what_was_handed_out_is_not_kept(prefetch: int) -> None:
    alive = 0
    lock = threading.Lock()

    class Result:
        def __init__(self) -> None:
            nonlocal alive
            with lock:
                alive += 1

        def __del__(self) -> None:
            nonlocal alive
            with lock:
                alive -= 1

    reading = read_ahead(lambda _: Result(), range(12), prefetch, lambda _: None)
    while (result := next(reading, None)) is not None:
        del result
        assert becomes_true(lambda: alive <= prefetch)

    async def read(_: int) -> Result:
        return Result()

    async def loop() -> None:
        reading = read_ahead_in_tasks(read, range(12), prefetch, lambda _: None)
        while (result := await anext(reading, None)) is not None:
            del result
            await asyncio.sleep(0)
            gc.collect()  # a finished task may wait for its collection
            assert alive <= prefetch

    asyncio.run(loop())


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("prefetch", [0, 2])
def test_an_error_is_raised_at_its_batch(
    prefetch: int, mode: str, run: Path, http: RangeServer
) -> None:
    cells = cells_of(http.url(run.name), max_gap=0)
    dealt = batches(cells, 1, seed=0, prefetch=prefetch)
    expected = rois(taken(batches(cells, 1, seed=0, prefetch=0), "sync"))
    bad = 5
    http.log.clear()
    cells.isel(roi=expected[bad]).load()
    starts = {entry.start for entry in http.log.entries}

    def refuse(number: int, method: str, path: str, span: tuple[int, int] | None) -> Fault | None:
        return Fault(403) if span is not None and span[0] in starts else None

    http.faults = refuse
    found: list[list[int]] = []

    def loop() -> None:
        for batch in dealt:
            found.extend(rois([batch]))

    async def loop_async() -> None:
        async for batch in dealt:
            found.extend(rois([batch]))

    with pytest.raises(ND2SourceError):
        loop() if mode == "sync" else asyncio.run(loop_async())
    assert found == expected[:bad]
    assert dealt.state_dict()["position"] == bad
    check_no_thread_stays()
    http.faults = None
    assert rois(taken(dealt, mode)) == expected[bad:], "it is tried again"


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("how", HOW)
def test_each_batch_is_one_plan(how: str, mode: str, run: Path, http: RangeServer) -> None:
    cells = cells_of(http.url(run.name), how, max_gap=0)
    dealt = batches(cells, SIZE, seed=2)
    http.log.clear()
    found = taken(dealt, mode)
    read = http.log.requests, http.log.bytes
    costs = [explain(cells.isel(roi=batch.roi.values)) for batch in found]
    assert all(cost.exact for cost in costs)
    assert all(cost.reads == 1 for cost in costs)
    assert read == (
        sum(cost.requests for cost in costs),
        sum(cost.bytes_fetched for cost in costs),
    )


def test_nothing_is_read_before_the_loop(run: Path, http: RangeServer) -> None:
    cells = cells_of(http.url(run.name))
    http.log.clear()
    dealt = batches(cells, SIZE, seed=2)
    assert "5 of 4 regions" in repr(dealt)
    pickle.dumps(dealt)
    iter(dealt)
    assert http.log.requests == 0


def test_pickled_while_a_loop_runs(run: Path) -> None:
    dealt = batches(cells_of(run), SIZE, seed=2)
    expected = rois(taken(batches(cells_of(run), SIZE, seed=2), "sync"))
    iterator = iter(dealt)
    first = rois([next(iterator)])
    copied = pickle.loads(pickle.dumps(dealt))
    assert first + rois(taken(copied, "sync")) == expected
    assert first + rois(list(iterator)) == expected


def in_another_process(dealt: Batches) -> list[list[int]]:
    return rois(list(dealt))


def test_in_a_spawned_process(run: Path) -> None:
    import multiprocessing

    dealt = batches(cells_of(run), SIZE, seed=2, worker=(1, 2))
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(in_another_process, (dealt,)) == in_another_process(dealt)


@pytest.mark.parametrize(
    "disturb",
    [
        lambda dealt: dealt.set_epoch(3),
        lambda dealt: dealt.load_state_dict(dealt.state_dict()),
        lambda dealt: next(iter(dealt)),
    ],
    ids=["epoch", "state", "loop"],
)
def test_one_loop_at_a_time(disturb: Callable[[Batches], Any], numbered: xr.DataArray) -> None:
    dealt = batches(numbered, 2, seed=0)
    iterator = iter(dealt)
    next(iterator)
    disturb(dealt)
    with pytest.raises(RuntimeError, match="another loop began"):
        next(iterator)
    check_no_thread_stays()


def test_what_the_user_told_dask_stands(run: Path) -> None:
    cells = cells_of(run, "dask")
    calls: list[str] = []

    def get(*arguments: Any, **keywords: Any) -> Any:
        calls.append(threading.current_thread().name)
        assert "pool" not in keywords
        return dask.base.get_scheduler(scheduler="synchronous")(*arguments, **keywords)

    with dask.config.set(scheduler=get):
        for _ in batches(cells, SIZE, seed=0):
            pass
    assert len(calls) == COUNT // SIZE
    assert all(name.startswith(THREAD_NAME_PREFIX) for name in calls)


@pytest.mark.parametrize(
    ("keywords", "error", "match"),
    [
        ({"size": 0}, ValueError, "size must be at least 1, not 0"),
        ({"size": 2.5}, TypeError, "size must be a whole number, not 2.5"),
        ({"seed": -1}, ValueError, "seed must be at least 0"),
        ({"seed": "a"}, TypeError, "seed must be a whole number, not 'a'"),
        ({"rank": 2, "world_size": 2}, ValueError, "rank must be below world_size, 2, not 2"),
        ({"rank": -1}, ValueError, "rank must be at least 0"),
        ({"world_size": 0}, ValueError, "world_size must be at least 1"),
        ({"prefetch": -1}, ValueError, "prefetch must be at least 0"),
        ({"prefetch": None}, TypeError, "prefetch must be a whole number"),
        ({"size": 12, "world_size": 2}, ValueError, "23 regions are fewer than one batch of 12"),
        ({"worker": (2, 2)}, ValueError, "worker must be below 2, not 2"),
    ],
)
def test_what_is_wrong_is_told_at_once(
    keywords: dict[str, Any], error: type[Exception], match: str, numbered: xr.DataArray
) -> None:
    with pytest.raises(error, match=match):
        batches(numbered, **({"size": 4, "seed": 0} | keywords))


def test_only_regions_are_dealt_out(numbered: xr.DataArray) -> None:
    with pytest.raises(TypeError, match="must be a DataArray, not ndarray"):
        batches(numbered.values, 4, seed=0)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="no dimension 'roi': they have"):
        batches(numbered.rename(roi="cell"), 4, seed=0)
    with pytest.raises(ValueError, match="epoch must be at least 0"):
        batches(numbered, 4, seed=0).set_epoch(-1)
    with pytest.raises(TypeError, match="seed"):
        batches(numbered, 4)  # type: ignore[call-arg]
