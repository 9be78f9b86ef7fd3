"""A mounted share that is slow, fails and hangs: exact pixels, or an error in time, and we live on."""

from __future__ import annotations

import errno
import io
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import xarray as xr

from tests.servers import fuse
from xarray_nd2 import (
    ND2ChangedError,
    ND2NotFoundError,
    ND2PermissionError,
    ND2SourceError,
)
from xarray_nd2.io import retry
from xarray_nd2.testing import write_nd2

if TYPE_CHECKING:
    from pathlib import Path

DELAY_SECONDS = 0.02
CROP: dict[str, Any] = {"T": 3, "Y": slice(60, 124), "X": slice(40, 90)}


def content(frames: np.ndarray) -> bytes:
    file = io.BytesIO()
    write_nd2(file, frames, "TYX")
    return file.getvalue()


@pytest.fixture(scope="module")
def frames() -> np.ndarray:
    return np.random.default_rng(3).integers(0, 2**16, (10, 512, 600)).astype("uint16")


@pytest.fixture
def run(share: fuse.FuseShare, frames: np.ndarray) -> Path:
    share.put("run.nd2", content(frames))
    share.calls()
    return share.path / "run.nd2"


def opened(path: Path, **options: Any) -> xr.Dataset:
    """A file, opened; its one channel."""
    return xr.open_dataset(path, engine="nd2", cache=False, **options).isel(C=0)


@pytest.fixture
def briefly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "UNLIKELY_TO_PASS_SECONDS", 0.5)


def test_reads_are_concurrent(
    share: fuse.FuseShare, run: Path, frames: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    ds = opened(run)
    share.behave("read", delay_seconds=DELAY_SECONDS)
    waiting, most, lock, read = 0, 0, threading.Lock(), os.preadv

    def counted(*args: Any) -> int:
        nonlocal waiting, most
        with lock:
            waiting += 1
            most = max(most, waiting)
        try:
            return read(*args)
        finally:
            with lock:
                waiting -= 1

    monkeypatch.setattr(os, "preadv", counted)
    np.testing.assert_array_equal(ds.image.values, frames)
    assert most > 4


def test_only_what_is_needed_is_read(share: fuse.FuseShare, run: Path, frames: np.ndarray) -> None:
    ds = opened(run, max_gap=0)
    share.calls()
    crop = ds.image.isel(CROP)
    np.testing.assert_array_equal(crop.values, frames[3, 60:124, 40:90])
    calls = share.calls()
    # The system reads whole pages, of which a row has one or two.
    pages = sum(int(call.split()[2]) for call in calls if call.startswith("read"))
    assert pages <= 64 * 2 * 4096
    assert sum(call.startswith("open") for call in calls) == 1


def test_failures_that_pass(share: fuse.FuseShare, run: Path, frames: np.ndarray) -> None:
    share.behave("read", "open", errno=errno.EIO, every=5)
    ds = opened(run)
    np.testing.assert_array_equal(ds.image.values, frames)


@pytest.mark.parametrize("code", [errno.EIO, errno.ESTALE, errno.ETIMEDOUT])
@pytest.mark.parametrize("chunks", [None, {}], ids=["lazy", "dask"])
def test_failures_that_last(
    code: int, chunks: Any, share: fuse.FuseShare, run: Path, briefly: None, frames: np.ndarray
) -> None:
    """Where a memory map would end the process."""
    ds = opened(run, chunks=chunks)
    share.behave("read", errno=code)
    with pytest.raises(ND2SourceError, match=r"run\.nd2: bytes \d+-\d+: .*given up") as caught:
        ds.image.isel(T=3).load()
    assert os.strerror(code) in str(caught.value)
    with pytest.raises(ND2SourceError, match=r"run\.nd2: opening"):
        opened(run)
    share.behave()
    np.testing.assert_array_equal(ds.image.isel(T=3).values, frames[3])


def test_failures_end_in_seconds(share: fuse.FuseShare, run: Path) -> None:
    ds = opened(run)
    share.behave("read", errno=errno.EIO)
    began = time.monotonic()
    with pytest.raises(ND2SourceError):
        ds.image.isel(T=3).load()
    assert 3 < time.monotonic() - began < 30


@pytest.mark.parametrize("calls", [("read",), ("open",), ("stat", "open", "read")], ids=str)
def test_a_server_that_hangs(
    calls: tuple[str, ...], share: fuse.FuseShare, run: Path, frames: np.ndarray
) -> None:
    ds = opened(run, patience_seconds=1)
    share.behave(*calls, hangs=True)
    began = time.monotonic()
    with pytest.raises(ND2SourceError, match="no answer came"):
        ds.image.isel(T=3).load()
    with pytest.raises(ND2SourceError, match="opening: .*no answer came"):
        opened(run, patience_seconds=1)
    other = share.path / "folder" / "never seen.nd2"
    with pytest.raises(ND2SourceError):
        opened(other, patience_seconds=1)
    assert time.monotonic() - began < 20
    share.behave()
    np.testing.assert_array_equal(ds.image.isel(T=3).values, frames[3])


END_WHILE_IT_HANGS = """
import sys, xarray
from xarray_nd2 import ND2SourceError
ds = xarray.open_dataset(sys.argv[1], engine="nd2", patience_seconds=1)
print("opened", flush=True)
sys.stdin.readline()
try:
    ds.image.load()
except ND2SourceError:
    print("over", flush=True)
"""


def test_a_server_that_hangs_does_not_hold_up_the_end(share: fuse.FuseShare, run: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", END_WHILE_IT_HANGS, run],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "opened\n"
        share.behave("read", hangs=True)  # Linux itself waits for what opens a file
        try:
            process.stdin.write("\n")
            process.stdin.flush()
            assert process.stdout.readline() == "over\n"
            assert process.wait(20) == 0
        finally:
            share.behave()
            process.kill()


def test_a_server_that_dies(
    tmp_path: Path, frames: np.ndarray, briefly: None, mounted_share: fuse.FuseShare
) -> None:
    with fuse.serve(tmp_path / "server") as dying:
        dying.put("run.nd2", content(frames))
        ds = opened(dying.path / "run.nd2")
        np.testing.assert_array_equal(ds.image.isel(T=0).values, frames[0])
        dying.behave("read", delay_seconds=0.2)
        with ThreadPoolExecutor(1) as pool:
            reading = pool.submit(ds.image.load)
            time.sleep(0.1)
            os.kill(dying.pid, signal.SIGKILL)
            with pytest.raises(ND2SourceError):
                reading.result(60)
        with pytest.raises(ND2SourceError):
            opened(dying.path / "run.nd2")


def test_answers_keep_their_classes(share: fuse.FuseShare, run: Path) -> None:
    ds = opened(run)
    share.behave("open", errno=errno.EACCES)
    for read in (ds.image.isel(T=1).load, lambda: opened(run)):
        began = time.monotonic()
        with pytest.raises(ND2PermissionError):
            read()
        assert time.monotonic() - began < 3
    share.behave()
    with pytest.raises(ND2NotFoundError):
        opened(share.path / "none.nd2")


def test_a_file_that_changed(share: fuse.FuseShare, run: Path, frames: np.ndarray) -> None:
    ds = opened(run)
    share.put("run.nd2", content(frames[::-1]))
    with pytest.raises(ND2ChangedError):
        ds.image.isel(T=3).load()
    np.testing.assert_array_equal(opened(run).image.values, frames[::-1])


def test_a_link_to_a_share(
    share: fuse.FuseShare, run: Path, tmp_path: Path, briefly: None, frames: np.ndarray
) -> None:
    link = tmp_path / "link.nd2"
    link.symlink_to(run)
    ds = opened(link)
    np.testing.assert_array_equal(ds.image.isel(T=1).values, frames[1])
    share.behave("read", errno=errno.EIO)
    with pytest.raises(ND2SourceError, match=r"link\.nd2"):
        ds.image.isel(T=2).load()
