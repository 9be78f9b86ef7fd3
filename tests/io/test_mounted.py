"""Files on mounted shares, where the system's calls do what the test wants instead of a server."""

from __future__ import annotations

import errno
import os
import pathlib
import pickle
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import xarray as xr

from xarray_nd2 import ND2ChangedError, ND2NotFoundError, ND2PermissionError, ND2SourceError
from xarray_nd2.io import choose, retry
from xarray_nd2.io.mounted import READ_PIECE_BYTES
from xarray_nd2.io.mounts import Mount
from xarray_nd2.testing import write_nd2

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

FRAMES = np.random.default_rng(5).integers(0, 2**16, (6, 300, 400)).astype("uint16")
CROP: dict[str, Any] = {"T": 2, "Y": slice(20, 200), "X": slice(30, 90)}


class Calls:
    """Calls of the system that read, and what is done in each before it."""

    def __init__(self) -> None:
        self.before: Callable[[int], object] = lambda _: None
        self.count = 0
        self.most_at_once = 0
        self._now = 0
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        with self._lock:
            self.count += 1
            self._now += 1
            self.most_at_once = max(self.most_at_once, self._now)
            number = self.count
        try:
            self.before(number)
        except BaseException:
            self.__exit__()
            raise

    def __exit__(self, *exception: object) -> None:
        with self._lock:
            self._now -= 1


def fails_with(code: int, *, below: int = 10**9, every: int = 1) -> Callable[[int], None]:
    def fail(number: int) -> None:
        if number < below and number % every == 0:
            raise OSError(code, os.strerror(code))

    return fail


@pytest.fixture(
    params=[
        pytest.param(
            True,
            marks=pytest.mark.skipif(not hasattr(os, "preadv"), reason="no os.preadv here"),
            id="preadv",
        ),
        pytest.param(False, id="handles"),
    ]
)
def calls(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Calls:
    """Reads of files below `tmp_path`, which passes for a share: in both ways there are."""
    made = Calls()
    monkeypatch.setattr(choose, "mount_of", lambda _: Mount(str(tmp_path), "nfs4"))
    monkeypatch.setattr(retry, "FIRST_PAUSE_SECONDS", 0.001)
    if request.param:
        read = os.preadv

        def preadv(*args: Any) -> int:
            with made:
                return read(*args)

        monkeypatch.setattr(os, "preadv", preadv)
    else:
        monkeypatch.delattr(os, "preadv", raising=False)
        opened = pathlib.Path.open

        class Handle:
            def __init__(self, file: Any) -> None:
                self.file = file

            def __getattr__(self, name: str) -> Any:
                return getattr(self.file, name)

            def readinto(self, buffer: memoryview) -> int:
                with made:
                    read: int = self.file.readinto(buffer)
                    return read

        def open_path(path: Path, *args: Any, **options: Any) -> Any:
            file = opened(path, *args, **options)
            return Handle(file) if path.suffix == ".nd2" and "rb" in args else file

        monkeypatch.setattr(pathlib.Path, "open", open_path)
    return made


@pytest.fixture
def run(calls: Calls, tmp_path: Path) -> Path:
    write_nd2(tmp_path / "run.nd2", FRAMES, "TYX")
    return tmp_path / "run.nd2"


def opened(path: Path, **options: Any) -> xr.Dataset:
    """A file, opened; its one channel."""
    return xr.open_dataset(path, engine="nd2", cache=False, **options).isel(C=0)


@pytest.mark.parametrize("chunks", [None, {}], ids=["lazy", "dask"])
def test_pixels(chunks: Any, run: Path, calls: Calls) -> None:
    ds = opened(run, chunks=chunks)
    np.testing.assert_array_equal(ds.image.values, FRAMES)
    before = calls.count
    np.testing.assert_array_equal(ds.image.isel(CROP).values, FRAMES[2, 20:200, 30:90])
    assert calls.count > before
    assert ds.attrs["source"] == str(run)


def test_reads_at_once(run: Path, calls: Calls) -> None:
    calls.before = lambda _: time.sleep(0.02)
    ds = opened(run, max_gap=0)
    began = time.monotonic()
    np.testing.assert_array_equal(ds.image.isel(CROP).values, FRAMES[2, 20:200, 30:90])
    assert 16 < calls.most_at_once <= 64
    assert time.monotonic() - began < 180 * 0.02 / 4  # one after the other
    calls.most_at_once = 0
    opened(run, max_gap=0, max_concurrency=3).image.isel(CROP).load()
    assert calls.most_at_once <= 3


def test_large_ranges_are_read_in_pieces(run: Path, calls: Calls) -> None:
    ds = opened(run, max_gap=0)
    calls.count = 0
    ds.image.isel(T=1).load()
    assert calls.count == -(-FRAMES[0].nbytes // READ_PIECE_BYTES)


@pytest.mark.parametrize("code", [errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.ENOTCONN])
def test_failures_that_pass(code: int, run: Path, calls: Calls) -> None:
    calls.before = fails_with(code, below=5)
    ds = opened(run)
    calls.count, calls.before = 0, fails_with(code, every=3)
    np.testing.assert_array_equal(ds.image.isel(CROP).values, FRAMES[2, 20:200, 30:90])
    assert calls.count > 1


@pytest.mark.parametrize("code", [errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.ENOTCONN])
def test_failures_that_last(
    code: int, run: Path, calls: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retry, "UNLIKELY_TO_PASS_SECONDS", 0.05)
    ds = opened(run)
    calls.before, calls.count = fails_with(code), 0
    with pytest.raises(
        ND2SourceError, match=r"run\.nd2: bytes \d+-\d+: .*given up after"
    ) as caught:
        ds.image.isel(T=1).load()
    assert os.strerror(code) in str(caught.value)
    assert calls.count > 2
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)
    with pytest.raises(ND2SourceError, match="opening: .*given up after"):
        opened(run)
    calls.before = lambda _: None
    np.testing.assert_array_equal(ds.image.isel(T=1).values, FRAMES[1])


def test_failures_are_tried_again_for_seconds() -> None:
    assert 3 <= retry.UNLIKELY_TO_PASS_SECONDS <= 15


@pytest.mark.parametrize(
    ("code", "kind"),
    [(errno.EACCES, ND2PermissionError), (errno.EPERM, ND2PermissionError), (2, ND2NotFoundError)],
)
def test_answers_are_not_asked_for_again(
    code: int, kind: type[Exception], run: Path, calls: Calls
) -> None:
    ds = opened(run)
    calls.before, calls.count = fails_with(code), 0
    with pytest.raises(kind, match=r"run\.nd2: "):
        ds.image.isel(T=1, Y=2).load()
    assert calls.count == 1


def test_a_server_that_hangs(run: Path, calls: Calls) -> None:
    ds = opened(run, patience_seconds=0.6)
    again = threading.Event()
    calls.before = lambda _: again.wait(60)
    try:
        began = time.monotonic()
        with pytest.raises(ND2SourceError, match=r"bytes \d+-\d+: TimeoutError: no answer came"):
            ds.image.isel(T=1).load()
        with pytest.raises(ND2SourceError, match="opening: TimeoutError: no answer came"):
            opened(run, patience_seconds=0.6)
        assert time.monotonic() - began < 10
    finally:
        again.set()
    calls.before = lambda _: None
    np.testing.assert_array_equal(ds.image.isel(T=1).values, FRAMES[1])


def test_a_hanging_open(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    again = threading.Event()

    def hang(*_: Any, **__: Any) -> Any:
        again.wait(60)
        raise OSError(errno.EIO, "late")

    monkeypatch.setattr(pathlib.Path, "stat", hang)
    with pytest.raises(ND2SourceError, match="opening: TimeoutError: no answer came"):
        opened(run, patience_seconds=0.3)
    again.set()


def test_slow_but_sure(run: Path, calls: Calls) -> None:
    """As long as pieces come, a range may take longer than an attempt without any."""
    ds = opened(run, patience_seconds=0.9, max_concurrency=1)
    calls.before, calls.count = lambda _: time.sleep(0.2), 0
    np.testing.assert_array_equal(ds.image.isel(T=slice(0, 3)).values, FRAMES[:3])
    assert calls.count * 0.2 > 0.9


def test_a_late_answer_changes_nothing(run: Path, calls: Calls) -> None:
    """What a thread that was given up reads goes nowhere."""
    ds = opened(run, patience_seconds=3)
    again = threading.Event()
    calls.count = 0
    calls.before = lambda number: again.wait(60) if number == 1 else None
    values = ds.image.isel(T=1).values
    values[:] = 7
    again.set()
    time.sleep(0.1)
    assert (values == 7).all()


@pytest.mark.parametrize("way", ["replaced", "cut", "touched"])
def test_a_file_that_changed(way: str, run: Path, calls: Calls) -> None:
    ds, other = opened(run), opened(run, chunks={})
    if way == "replaced":
        write_nd2(run.with_name("new.nd2"), FRAMES[::-1], "TYX")
        run.with_name("new.nd2").replace(run)
    elif way == "cut":
        os.truncate(run, 1000)
    else:
        os.utime(run, (1, 1))
    for image in (ds.image, other.image):
        with pytest.raises(ND2ChangedError):
            image.isel(T=1).load()


def test_a_file_that_is_gone_or_forbidden(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ds = opened(run)
    run.unlink()
    with pytest.raises(ND2NotFoundError):
        ds.image.isel(T=1).load()
    with pytest.raises(ND2NotFoundError):
        opened(run)
    (run.parent / "folder.nd2").mkdir()
    with pytest.raises(ND2SourceError, match="is a directory"):
        opened(run.parent / "folder.nd2")


@pytest.mark.skipif(os.name == "nt", reason="no pipes in folders there")
def test_a_pipe(run: Path) -> None:
    os.mkfifo(run.parent / "pipe.nd2")
    with pytest.raises(ND2SourceError, match="not an ordinary file"):
        opened(run.parent / "pipe.nd2")


def test_many_readers(run: Path, calls: Calls) -> None:
    calls.before = fails_with(errno.EIO, every=11)
    ds = opened(run, max_gap=0)
    expected = FRAMES
    with ThreadPoolExecutor(8) as pool:
        for t, values in enumerate(
            pool.map(lambda t: ds.image.isel(T=t % 6, Y=slice(t, 99, 7)).values, range(24))
        ):
            np.testing.assert_array_equal(values, expected[t % 6, t:99:7])


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="no list of open files")  # noqa: PTH112
def test_nothing_stays_open(run: Path, calls: Calls) -> None:
    def open_here() -> int:
        links = []
        for number in os.listdir("/proc/self/fd"):  # noqa: PTH208
            try:
                links.append(os.readlink(f"/proc/self/fd/{number}"))  # noqa: PTH115
            except OSError:
                continue
        return links.count(str(run))

    ds = opened(run, max_gap=0)
    for number in range(3):
        calls.before = fails_with(errno.EIO, every=5) if number == 1 else lambda _: time.sleep(1e-3)
        ds.image.isel(CROP).load()
    until = time.monotonic() + 10
    while open_here() and time.monotonic() < until:  # it is closed in a thread
        time.sleep(0.01)
    assert open_here() == 0
