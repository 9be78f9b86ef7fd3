"""The cache on a disk: what it asks of the server, what it gives, and what is in its folder."""

from __future__ import annotations

import errno
import multiprocessing
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import xarray as xr
from filelock import FileLock

from tests.variants import VARIANTS
from xarray_nd2 import ND2ChangedError, batches, explain, regions
from xarray_nd2.io.answers import ObjectFacts
from xarray_nd2.io.process import this_process
from xarray_nd2.io.source import ByteSource
from xarray_nd2.keeping.disk_cache import DiskCache
from xarray_nd2.keeping.object_name import object_name
from xarray_nd2.read.frame_file import header_bytes
from xarray_nd2.read.inflate import FrameCache
from xarray_nd2.read.kept_frames import KeptFrames
from xarray_nd2.testing import write_nd2

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from xarray_nd2.testing import RangeServer

SHAPE = (20, 2, 48, 50)  # T, C, Y, X
FRAME_BYTES = 2 * 48 * 50 * 2
FILE_BYTES = FRAME_BYTES + header_bytes(48)


@pytest.fixture(autouse=True)
def _nothing_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    forget(monkeypatch)


def forget(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep nothing in memory, as a new process does not."""
    process = this_process()
    monkeypatch.setattr(process, "kept_frames", KeptFrames(process.kept_frames.capacity))
    monkeypatch.setattr(process, "frame_cache", FrameCache(2**27))


@pytest.fixture(scope="module")
def pixels() -> NDArray[np.uint16]:
    return np.random.default_rng(5).integers(0, 2**16, SHAPE).astype("uint16")


@pytest.fixture(scope="module")
def run(folder: Path, pixels: NDArray[np.uint16]) -> Path:
    write_nd2(folder / "epochs.nd2", pixels, "TCYX")
    write_nd2(folder / "epochs-lossless.nd2", pixels, "TCYX", compression="lossless")
    return folder / "epochs.nd2"


def opened(http: RangeServer, run: Path, cache_dir: Path, **keywords: Any) -> xr.DataArray:
    url = http.url(run.name)
    image: xr.DataArray
    image = xr.open_dataset(url, engine="nd2", cache_dir=cache_dir, **keywords).image
    http.log.clear()
    return image


def kept_files(cache_dir: Path) -> list[Path]:
    return sorted(path for path in cache_dir.glob("nd2-frames/*/*") if path.is_file())


@pytest.mark.parametrize("lossless", [False, True])
@pytest.mark.parametrize("chunks", [None, {}], ids=["lazy", "dask"])
def test_a_second_epoch_makes_no_request(
    chunks: Any,
    lossless: bool,
    run: Path,
    http: RangeServer,
    pixels: NDArray[np.uint16],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = run.with_stem("epochs-lossless") if lossless else run
    image = opened(http, path, tmp_path, chunks=chunks)
    rng = np.random.default_rng(6)
    for epoch in range(3):
        forget(monkeypatch)
        http.log.clear()
        for t in rng.permutation(20):
            c, y, x = rng.integers(0, [2, 30, 30])
            look = {"T": t, "C": c, "Y": slice(y, y + 16), "X": slice(x, x + 17)}
            expected = pixels[t, c, y : y + 16, x : x + 17]
            np.testing.assert_array_equal(image.isel(look).compute().values, expected)
        asked = [entry.start for entry in http.log.entries if entry.start is not None]
        assert len(asked) == len(set(asked)) == (0 if epoch else 20)
        assert epoch == 0 or http.log.requests == 0
    assert len(kept_files(tmp_path)) == 20


LOOK_ELSEWHERE = """
import sys
import xarray as xr
url, cache_dir, t = sys.argv[1:]
image = xr.open_dataset(url, engine="nd2", cache_dir=cache_dir).image
sys.stdout.buffer.write(image.isel(T=int(t), Y=slice(3, 9)).values.tobytes())
"""


def test_later_processes_share_it(
    run: Path, http: RangeServer, pixels: NDArray[np.uint16], tmp_path: Path
) -> None:
    def look(t: int) -> bytes:
        http.log.clear()
        command = [sys.executable, "-c", LOOK_ELSEWHERE, http.url(run.name), str(tmp_path), str(t)]
        return subprocess.run(command, check=True, capture_output=True, timeout=120).stdout

    assert look(4) == pixels[4, :, 3:9].tobytes()
    fetched = http.log.bytes
    assert look(4) == pixels[4, :, 3:9].tobytes()
    # It opened the file, which is the check, and read no frame.
    assert http.log.bytes == fetched - FRAME_BYTES


def write_and_look(image: xr.DataArray, t: int) -> NDArray[Any]:
    values: NDArray[Any] = image.isel(T=t).values
    return values


def test_workers_write_at_once_and_keep_to_the_limit(
    run: Path, http: RangeServer, pixels: NDArray[np.uint16], tmp_path: Path
) -> None:
    limit = 7 * FILE_BYTES
    image = opened(http, run, tmp_path, cache_dir_bytes=limit)
    most = 0
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(3, mp_context=spawn) as pool:
        order = [*range(20), *range(20)]
        for t, seen in zip(order, pool.map(write_and_look, [image] * 40, order), strict=True):
            np.testing.assert_array_equal(seen, pixels[t])
            sizes = []
            for file in kept_files(tmp_path):
                try:
                    sizes.append(file.stat().st_size)
                except FileNotFoundError:
                    continue  # deleted in this moment
            most = max(most, sum(sizes))
    assert 0 < most <= limit
    assert sum(file.stat().st_size for file in kept_files(tmp_path)) == int(
        (tmp_path / "nd2-frames" / "total-bytes").read_text()
    )


def test_what_was_used_longest_ago_goes_first(run: Path, http: RangeServer, tmp_path: Path) -> None:
    image = opened(http, run, tmp_path, cache_dir_bytes=4 * FILE_BYTES)
    for t in range(4):
        image.isel(T=t).load()
    names = {int(file.name): file for file in kept_files(tmp_path)}
    for age, file in zip((400, 300, 200, 100), (names[at] for at in sorted(names)), strict=True):
        now = file.stat().st_mtime
        os.utime(file, (now - age, now - age))
    image.isel(T=0, Y=0).load()  # the oldest is used
    image.isel(T=4).load()  # needs the room of one, and a little more is freed
    left = {int(file.name) for file in kept_files(tmp_path)}
    first, *others = sorted(names)
    assert first in left
    assert left & set(others) == set(others[2:])


@pytest.mark.parametrize("damage", ["flip", "header", "cut", "empty", "longer", "other"])
def test_damaged_files_are_fetched_again(
    damage: str, run: Path, http: RangeServer, pixels: NDArray[np.uint16], tmp_path: Path
) -> None:
    image = opened(http, run, tmp_path)
    image.isel(T=3).load()
    (file,) = kept_files(tmp_path)
    data = bytearray(file.read_bytes())
    if damage == "flip":
        data[header_bytes(48) + 10 * 200 + 7] ^= 4  # in row 10
    elif damage == "header":
        data[20] ^= 1
    elif damage == "other":
        data[:8] = b"XND2FRM9"
    else:
        data = {"cut": data[:-100], "empty": bytearray(), "longer": data + b"\0"}[damage]
    file.write_bytes(data)
    http.log.clear()
    # A crop is checked by its own rows.
    np.testing.assert_array_equal(image.isel(T=3, Y=slice(20, 30)).values, pixels[3, :, 20:30])
    assert (http.log.requests == 0) is (damage == "flip")
    np.testing.assert_array_equal(image.isel(T=3, Y=slice(8, 12)).values, pixels[3, :, 8:12])
    fetched = http.log.bytes
    assert fetched == FRAME_BYTES
    np.testing.assert_array_equal(image.isel(T=3).values, pixels[3])
    assert http.log.bytes == fetched, "it was written anew"
    assert len(kept_files(tmp_path)) == 1


def test_a_changed_object_never_gives_an_old_pixel(
    folder: Path, http: RangeServer, pixels: NDArray[np.uint16], tmp_path: Path
) -> None:
    path = folder / "epochs-changing.nd2"
    write_nd2(path, pixels, "TCYX")
    old = opened(http, path, tmp_path)
    old.isel(T=1).load()
    write_nd2(path, ~pixels, "TCYX")
    os.utime(path, ns=(1, 2_000_000_000_000_000_000))
    new = opened(http, path, tmp_path)
    np.testing.assert_array_equal(new.isel(T=1).values, ~pixels[1])
    assert http.log.bytes >= FRAME_BYTES
    np.testing.assert_array_equal(old.isel(T=1).values, pixels[1])
    with pytest.raises(ND2ChangedError):
        old.isel(T=2).load()


def test_names_hold_the_store_and_no_credential() -> None:
    facts = ObjectFacts(1000, "tag")
    options = {"key": "a", "secret": "b", "endpoint_url": "http://one"}
    source = replace(ByteSource.of("s3://bucket/run.nd2", options), facts=facts)
    name = object_name(source, "u2")
    other_key = replace(source, storage_options=options | {"key": "c", "token": "d"})
    assert object_name(other_key, "u2") == name
    elsewhere = {"client_kwargs": {"endpoint_url": "http://two"}}
    others = [
        object_name(replace(source, storage_options=elsewhere), "u2"),
        object_name(replace(source, facts=ObjectFacts(1000, "gat")), "u2"),
        object_name(replace(source, facts=ObjectFacts(1001, "tag")), "u2"),
        object_name(replace(source, name="s3://bucket/run2.nd2"), "u2"),
        object_name(source, "u1"),
    ]
    assert len({name, *others}) == 6
    signed = [
        replace(ByteSource.of(f"https://host/run.nd2?X-Amz-Signature={text}"), facts=facts)
        for text in ("abc", "def")
    ]
    assert object_name(signed[0], "u2") == object_name(signed[1], "u2")


def test_presigned_anew_it_is_the_same_object(run: Path, http: RangeServer, tmp_path: Path) -> None:
    for text in ("first", "second"):
        url = f"{http.url(run.name)}?X-Amz-Signature={text}"
        image = xr.open_dataset(url, engine="nd2", cache_dir=tmp_path).image
        http.log.clear()
        image.isel(T=2).load()
    assert http.log.requests == 0
    assert all("first" not in str(path) for path in tmp_path.rglob("*"))


@pytest.mark.filterwarnings("ignore:.*not in the file")
@pytest.mark.parametrize("name", VARIANTS)
def test_every_kind_of_file(
    name: str, folder: Path, http: RangeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = VARIANTS[name].write(folder / f"epochs-kind-{name}.nd2")
    expected = xr.open_dataset(path, engine="nd2").image.load()
    image = opened(http, path, tmp_path)
    look: dict[str, Any] = {"Y": slice(None, None, -3), "X": [2, 1, 4]}
    for _ in range(2):
        forget(monkeypatch)
        http.log.clear()
        np.testing.assert_array_equal(image.isel(look).values, expected.isel(look).values)
        np.testing.assert_array_equal(image.copy().values, expected.values)
        np.testing.assert_array_equal(image.isel(X=[]).values, expected.isel(X=[]).values)
    assert http.log.requests == 0


def test_regions_and_batches(
    run: Path,
    http: RangeServer,
    pixels: NDArray[np.uint16],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rng = np.random.default_rng(2)
    table = {name: rng.integers(4, high, 60) for name, high in (("T", 20), ("Y", 44), ("X", 46))}
    image = opened(http, run, tmp_path)
    cut = regions(image, table, 8)
    for epoch in range(2):
        forget(monkeypatch)
        http.log.clear()
        for batch in batches(cut, 20, seed=epoch):
            assert batch.sizes["roi"] == 20
        assert bool(http.log.requests) is not bool(epoch)
    expected = [
        pixels[t, :, y - 4 : y + 4, x - 4 : x + 4]
        for t, y, x in zip(table["T"], table["Y"], table["X"], strict=True)
    ]
    np.testing.assert_array_equal(cut.values, expected)
    assert http.log.requests == 0


def test_with_memory_as_well(
    run: Path, http: RangeServer, pixels: NDArray[np.uint16], tmp_path: Path
) -> None:
    image = opened(http, run, tmp_path, cache_bytes=5 * FRAME_BYTES, max_gap=0)
    for t in (0, 1, 0, 1):
        np.testing.assert_array_equal(image.isel(T=t, C=1).values, pixels[t, 1])
    assert this_process().kept_frames.nbytes == 2 * FRAME_BYTES
    for file in kept_files(tmp_path):
        file.unlink()
    np.testing.assert_array_equal(image.isel(T=1).values, pixels[1])
    assert http.log.bytes == 2 * FRAME_BYTES
    # More than fits into memory goes through the disk alone.
    for _ in range(2):
        np.testing.assert_array_equal(image.isel(Y=4).values, pixels[:, :, 4])
    assert http.log.bytes == 22 * FRAME_BYTES
    assert this_process().kept_frames.nbytes == 2 * FRAME_BYTES


def test_explain_counts_what_is_there_and_promises_nothing(
    run: Path, http: RangeServer, tmp_path: Path
) -> None:
    image = opened(http, run, tmp_path, max_gap=0)
    image.isel(T=slice(3, 6), Y=0).load()
    http.log.clear()
    cost = explain(image.isel(T=slice(0, 5), Y=slice(2, 9)))
    assert (cost.frames, cost.requests, cost.bytes_fetched) == (3, 3, 3 * FRAME_BYTES)
    assert not cost.exact, "another process may add frames, or delete them"
    assert http.log.requests == 0
    image.isel(T=slice(0, 5), Y=slice(2, 9)).load()
    assert http.log.bytes == 3 * FRAME_BYTES
    assert explain(image.isel(T=2)).requests == 0


def test_a_folder_that_cannot_be_written_costs_one_warning(
    run: Path, http: RangeServer, pixels: NDArray[np.uint16], tmp_path: Path
) -> None:
    occupied = tmp_path / "file"
    occupied.write_text("not a folder")
    image = opened(http, run, occupied)
    with pytest.warns(UserWarning, match=r"frames are not kept in .*file: .*goes on without it"):
        np.testing.assert_array_equal(image.isel(T=2).values, pixels[2])
    np.testing.assert_array_equal(image.isel(T=3).values, pixels[3])


def test_frames_larger_than_the_limit_are_read_as_without_a_cache(
    run: Path, http: RangeServer, pixels: NDArray[np.uint16], tmp_path: Path
) -> None:
    image = opened(http, run, tmp_path, cache_dir_bytes=FILE_BYTES - 1, max_gap=0)
    look = {"T": 2, "Y": slice(3, 5), "X": slice(0, 5)}
    np.testing.assert_array_equal(image.isel(look).values, pixels[2, :, 3:5, :5])
    assert http.log.bytes == 2 * 2 * 5 * 2
    assert not kept_files(tmp_path)


def test_nothing_else_in_the_folder_is_touched(
    run: Path, http: RangeServer, tmp_path: Path
) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "7").write_text("mine too")
    image = opened(http, run, tmp_path, cache_dir_bytes=2 * FILE_BYTES)
    for t in range(6):
        image.isel(T=t).load()
    assert (tmp_path / "thesis.txt").read_text() == "mine"
    assert (tmp_path / "data" / "7").read_text() == "mine too"
    assert 1 <= len(kept_files(tmp_path)) <= 2


def test_left_behind_halves_are_removed(run: Path, http: RangeServer, tmp_path: Path) -> None:
    image = opened(http, run, tmp_path, cache_dir_bytes=3 * FILE_BYTES)
    image.isel(T=0).load()
    (first,) = kept_files(tmp_path)
    old, young = first.with_name("unfinished-a"), first.with_name("unfinished-b")
    for path in (old, young):
        path.write_bytes(bytes(10))
    now = young.stat().st_mtime
    os.utime(old, (now - 300, now - 300))
    for t in range(1, 5):
        image.isel(T=t).load()
    assert not old.exists()
    assert young.exists()
    assert sum(file.stat().st_size for file in kept_files(tmp_path)) <= 3 * FILE_BYTES


def test_threads_that_want_the_same_frames(
    run: Path, http: RangeServer, pixels: NDArray[np.uint16], tmp_path: Path
) -> None:
    image = opened(http, run, tmp_path, max_gap=0)
    begin = threading.Barrier(6)

    def look(n: int) -> None:
        begin.wait()
        order = list(range(20))[:: 1 if n % 2 else -1][n % 3 :]
        np.testing.assert_array_equal(image.isel(T=order, C=n % 2).values, pixels[order, n % 2])

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(look, range(6)))
    asked = [entry.start for entry in http.log.entries if entry.start is not None]
    assert len(asked) == len(set(asked)) == 20


def test_files_of_a_user_are_his_alone(run: Path, http: RangeServer, tmp_path: Path) -> None:
    opened(http, run, tmp_path).isel(T=0).load()
    (file,) = kept_files(tmp_path)
    if os.name == "posix":
        assert file.stat().st_mode & 0o077 == 0
        assert file.parent.stat().st_mode & 0o077 == 0


def write_many(folder: Path, limit: int, seed: int) -> list[str]:
    cache = DiskCache.at(folder, limit)
    frame = np.zeros((2, 48, 50, 1), "uint16")
    offsets = np.random.default_rng(seed).integers(0, 100, 150).tolist()
    return [repr(error) for at in offsets if (error := cache.put("a" * 40, at, frame))]


@pytest.mark.parametrize("frames", [1, 2, 4])
def test_the_limit_holds_at_each_moment(frames: int, tmp_path: Path) -> None:
    root, most = tmp_path / "nd2-frames", 0
    root.mkdir()
    with ProcessPoolExecutor(4, mp_context=multiprocessing.get_context("spawn")) as pool:
        writing = [pool.submit(write_many, tmp_path, frames * FILE_BYTES, n) for n in range(4)]
        while not all(each.done() for each in writing):
            sizes = {}
            with FileLock(root / "lock", poll_interval=0.001):  # nothing is added in the meantime
                for path in root.glob("*/*"):
                    with suppress(FileNotFoundError):
                        told = path.stat()
                        sizes[told.st_ino] = told.st_size
            most = max(most, sum(sizes.values()))
        assert [each.result() for each in writing] == [[]] * 4
    assert 0 < most <= frames * FILE_BYTES


def test_a_lock_of_a_stopped_process_is_waited_for_once(
    run: Path,
    http: RangeServer,
    pixels: NDArray[np.uint16],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("xarray_nd2.keeping.disk_cache._LOCK_SECONDS", 1.0)
    (tmp_path / "nd2-frames").mkdir()
    hold = "import sys, filelock\nwith filelock.FileLock(sys.argv[1]): print(flush=True), input()"
    command = [sys.executable, "-c", hold, str(tmp_path / "nd2-frames" / "lock")]
    image = opened(http, run, tmp_path)
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        began = time.monotonic()
        with pytest.warns(UserWarning, match="not kept"):
            np.testing.assert_array_equal(image.isel(T=0).values, pixels[0])
        for t in range(1, 5):
            np.testing.assert_array_equal(image.isel(T=t).values, pixels[t])
        assert 1 <= time.monotonic() - began < 3
        holder.communicate(b"\n")
    image.isel(T=5).load()
    assert len(kept_files(tmp_path)) == 1


@pytest.mark.parametrize("folder_name", ["~nobody-of-this-name/frames", "x" * 300])
def test_a_folder_that_cannot_be_there_costs_one_warning(
    folder_name: str,
    run: Path,
    http: RangeServer,
    pixels: NDArray[np.uint16],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    url = http.url(run.name)
    image = xr.open_dataset(url, engine="nd2", cache_dir=folder_name).image
    assert explain(image.isel(T=2)).frames == 1
    with pytest.warns(UserWarning, match="frames are not kept"):
        np.testing.assert_array_equal(image.isel(T=2).values, pixels[2])
    np.testing.assert_array_equal(image.isel(T=3).values, pixels[3])
    assert not list(tmp_path.iterdir())


def test_a_disk_without_locks_costs_one_warning(
    run: Path,
    http: RangeServer,
    pixels: NDArray[np.uint16],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def no_locks(*_: Any, **__: Any) -> None:
        raise NotImplementedError("no flock here")

    monkeypatch.setattr(FileLock, "acquire", no_locks)
    image = opened(http, run, tmp_path)
    with pytest.warns(UserWarning, match="not kept .*no flock"):
        np.testing.assert_array_equal(image.isel(T=2).values, pixels[2])


class SlowSet(set[str]):
    """A set that others have the time to look into before something is added."""

    def __contains__(self, item: object) -> bool:
        found = super().__contains__(item)
        time.sleep(0.05)
        return found


def test_threads_warn_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    warned: list[str] = []
    monkeypatch.setattr(this_process(), "warned_of", SlowSet())
    monkeypatch.setattr("xarray_nd2.keeping.disk_cache.warn_user", warned.append)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(DiskCache.at(tmp_path, 1).warn_once, [OSError("full")] * 4))
    assert len(warned) == 1


def test_frames_serve_whose_use_cannot_be_noted(
    run: Path, http: RangeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = opened(http, run, tmp_path)
    image.isel(T=2).load()
    (file,) = kept_files(tmp_path)
    os.utime(file, (1_000_000_000, 1_000_000_000))

    def read_only(*_: Any, **__: Any) -> None:
        raise OSError(errno.EROFS, "read-only")

    http.log.clear()
    with monkeypatch.context() as patch:
        patch.setattr(os, "utime", read_only)
        image.isel(T=2, Y=3).load()
    assert http.log.requests == 0


def test_times_in_the_future_end_with_the_next_use(
    run: Path, http: RangeServer, tmp_path: Path
) -> None:
    image = opened(http, run, tmp_path)
    image.isel(T=2).load()
    (file,) = kept_files(tmp_path)
    now = file.stat().st_mtime
    os.utime(file, (now + 1e6, now + 1e6))
    image.isel(T=2, Y=3).load()
    assert abs(file.stat().st_mtime - now) < 1000


def test_a_folder_of_the_same_name_keeps_what_is_in_it(
    run: Path, http: RangeServer, tmp_path: Path
) -> None:
    day = tmp_path / "nd2-frames" / "day1"
    day.mkdir(parents=True)
    mine = [day / "7", day / "run.nd2"]
    for path in mine:
        path.write_bytes(bytes(100))
    image = opened(http, run, tmp_path, cache_dir_bytes=2 * FILE_BYTES)
    for t in range(2):
        image.isel(T=t).load()
    beside = next(file for file in kept_files(tmp_path) if file.parent != day).with_name("notes")
    beside.write_text("mine")
    for path in (*mine, beside):
        os.utime(path, (1_000_000_000, 1_000_000_000))
    for t in range(2, 6):
        image.isel(T=t).load()
    assert all(path.exists() for path in (*mine, beside))


def test_local_files_and_open_ones_are_not_kept(
    run: Path, pixels: NDArray[np.uint16], tmp_path: Path
) -> None:
    image = xr.open_dataset(run, engine="nd2", cache_dir=tmp_path).image
    np.testing.assert_array_equal(image.isel(T=1).values, pixels[1])
    with run.open("rb") as file:
        xr.open_dataset(file, engine="nd2", cache_dir=tmp_path).image.isel(T=1).load()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("keywords", "error"),
    [
        ({"cache_dir": 3}, TypeError),
        ({"cache_dir": b"folder"}, TypeError),
        ({"cache_dir": "fol\0der"}, ValueError),
        ({"cache_dir": "x", "cache_dir_bytes": 0}, ValueError),
        ({"cache_dir": "x", "cache_dir_bytes": 1.5}, TypeError),
    ],
)
def test_wrong_keywords(keywords: dict[str, Any], error: type[Exception], run: Path) -> None:
    with pytest.raises(error):
        xr.open_dataset(run, engine="nd2", **keywords)
