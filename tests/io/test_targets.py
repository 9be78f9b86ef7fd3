"""What names a file, and that it stays that file."""

from __future__ import annotations

import io
import mmap
import os
import pickle
from typing import TYPE_CHECKING, Any

import fsspec
import numpy as np
import pytest
import xarray as xr

from xarray_nd2 import (
    ND2ChangedError,
    ND2NotFoundError,
    ND2PermissionError,
    ND2SourceError,
)
from xarray_nd2.io.failures import StatusError
from xarray_nd2.io.source import ByteSource
from xarray_nd2.testing import write_nd2

if TYPE_CHECKING:
    from pathlib import Path

FRAMES = np.arange(3 * 8 * 9, dtype="uint16").reshape(3, 1, 8, 9)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    write_nd2(tmp_path / "run.nd2", FRAMES, "TCYX")
    return tmp_path / "run.nd2"


@pytest.mark.parametrize("chunks", [None, {}], ids=["lazy", "dask"])
@pytest.mark.parametrize("target", ["run.nd2", "./run.nd2", "file://run.nd2"])
def test_relative_path(
    target: str, chunks: Any, run: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(run.parent)
    ds = xr.open_dataset(target, engine="nd2", chunks=chunks)
    assert ds.attrs["source"] == ds.encoding["source"] == str(run)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(ds)).image.values, FRAMES)


def test_home_folder(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(run.parent))
    monkeypatch.setenv("USERPROFILE", str(run.parent))
    np.testing.assert_array_equal(xr.open_dataset("~/run.nd2", engine="nd2").image.values, FRAMES)


@pytest.mark.skipif(os.name == "nt", reason="no name with a colon there")
def test_path_with_colons(run: Path) -> None:
    named = run.rename(run.parent / "day::2.nd2")
    for target in (named, f"file://{named}"):
        ds = xr.open_dataset(target, engine="nd2")
        np.testing.assert_array_equal(ds.image.values, FRAMES)
        assert ds.attrs["source"] == f"file://{named}"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes there")
def test_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.nd2")
    with pytest.raises(ND2SourceError, match="pipe.nd2 is not an ordinary file"):
        xr.open_dataset(tmp_path / "pipe.nd2", engine="nd2")


def test_empty_path() -> None:
    with pytest.raises(ND2SourceError, match="is a directory"):
        xr.open_dataset("", engine="nd2")


class Dribbling(io.RawIOBase):
    """A raw file, which may give less than it is asked for."""

    def __init__(self, data: bytes) -> None:
        self._file = io.BytesIO(data)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0, /) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def readinto(self, buffer: Any, /) -> int:
        return self._file.readinto(memoryview(buffer)[:100])


def test_other_files(run: Path) -> None:
    data = run.read_bytes()
    with run.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        for opened in (Dribbling(data), mapped):
            ds = xr.open_dataset(opened, engine="nd2")  # type: ignore[arg-type]
            np.testing.assert_array_equal(ds.image.values, FRAMES)


def test_an_open_file_is_left_where_it_was(run: Path) -> None:
    opened = io.BytesIO(run.read_bytes())
    opened.seek(7)
    ds = xr.open_dataset(opened, engine="nd2")
    np.testing.assert_array_equal(ds.image.values, FRAMES)
    assert opened.tell() == 7


def test_a_file_that_is_closed_while_it_is_read(run: Path) -> None:
    class Closing(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            self.close()
            return super().read(size)

    with pytest.raises(ND2SourceError, match="<Closing>: opening: ValueError: .*closed file"):
        xr.open_dataset(Closing(run.read_bytes()), engine="nd2")
    opened = Closing(run.read_bytes())
    with pytest.raises(ND2SourceError, match="<Closing>: bytes 0-9: ValueError: .*closed file"):
        ByteSource.of(opened).fetch([(0, 9)])


def test_files_that_will_not_do(run: Path) -> None:
    with run.open("r") as text, pytest.raises(ValueError, match=r"run\.nd2 is open in text mode"):
        xr.open_dataset(text, engine="nd2")
    compressed = fsspec.open(str(run), compression="gzip")
    with pytest.raises(ValueError, match=r"run\.nd2 has no byte ranges through a compression"):
        xr.open_dataset(compressed, engine="nd2")
    with pytest.raises(TypeError, match="expected a path, a URL or an open binary file, not int"):
        xr.open_dataset(5, engine="nd2")  # type: ignore[arg-type]


@pytest.mark.parametrize("chunks", [None, {}])
def test_closed_file(chunks: Any, run: Path) -> None:
    opened = io.BytesIO(run.read_bytes())
    ds = xr.open_dataset(opened, engine="nd2", chunks=chunks)
    opened.close()
    with pytest.raises(ND2SourceError, match="<BytesIO>: .*closed file"):
        ds.image.load()


@pytest.mark.parametrize(
    "url", ["http://[::1]:1/run.nd2?sig=hush", "s3://", "nosuchprotocol://a/b.nd2"]
)
def test_urls_that_are_none(url: str) -> None:
    with pytest.raises(ND2SourceError) as caught:
        xr.open_dataset(url, engine="nd2")
    assert "hush" not in str(caught.value)
    assert str(caught.value).startswith(url.partition("?")[0].partition("[")[0])


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ND2NotFoundError, match="nothing.nd2: there is no such file"):
        xr.open_dataset(tmp_path / "nothing.nd2", engine="nd2")


class Failing(io.BytesIO):
    """An open file whose reads fail once it was opened."""

    error: Exception | None = None

    def read(self, size: int | None = -1, /) -> bytes:
        if self.error is not None:
            raise self.error
        return super().read(size)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (PermissionError(13, "not for you"), ND2PermissionError),
        (StatusError(403, "Forbidden"), ND2PermissionError),
        (StatusError(404, "Not Found"), ND2NotFoundError),
        (StatusError(416, "Range Not Satisfiable"), ND2ChangedError),
        (KeyError("size"), ND2SourceError),
    ],
    ids=str,
)
def test_reads_that_fail(error: Exception, kind: type[ND2SourceError], run: Path) -> None:
    file = Failing(run.read_bytes())
    ds = xr.open_dataset(file, engine="nd2")
    file.error = error
    with pytest.raises(ND2SourceError) as caught:
        ds.image.load()
    assert type(caught.value) is kind
    assert str(error) in f"{caught.value.__cause__}"
