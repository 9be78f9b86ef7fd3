"""Traces count what the servers count, and show no secret."""

from __future__ import annotations

import io
import logging
from typing import TYPE_CHECKING, Any

import aiohttp
import fsspec
import fsspec.asyn
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from fsspec.core import OpenFile

import xarray_nd2
from xarray_nd2 import ND2SourceError, trace
from xarray_nd2.io import recorder, retry
from xarray_nd2.io.process import this_process
from xarray_nd2.testing import Fault, RangeServer, S3Server, write_nd2

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.servers.fuse import FuseShare
    from xarray_nd2.traces import Trace

SIZES = {"T": 12, "C": 2, "Y": 64, "X": 48}
CROP: dict[str, Any] = {"Y": slice(5, 25), "X": slice(3, 40)}
SECRET = "hush-hush-9f3c"


@pytest.fixture(scope="module")
def content() -> bytes:
    frames = np.random.default_rng(3).integers(0, 2**16, tuple(SIZES.values())).astype("uint16")
    file = io.BytesIO()
    write_nd2(file, frames, "".join(SIZES))
    return file.getvalue()


@pytest.fixture
def url(content: bytes, http: RangeServer) -> str:
    http.put("run.nd2", content)
    return http.url("run.nd2")


@pytest.fixture
def s3_options(content: bytes, s3: S3Server) -> Iterator[dict[str, Any]]:
    s3.put("bucket", "run.nd2", content)
    s3.faults = None
    s3.log.clear()
    yield s3.storage_options
    s3.faults = None


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(retry, "FIRST_PAUSE_SECONDS", 0.002)
    monkeypatch.setattr(retry, "MAX_PAUSE_SECONDS", 0.01)
    yield
    assert not this_process().recorders


def read(target: Any, **options: Any) -> np.ndarray:
    """Open a file and read many small ranges of it."""
    ds = xr.open_dataset(target, engine="nd2", max_gap=0, **options)
    values: np.ndarray = ds.image.isel(CROP).values
    return values


def check_sums(t: Trace) -> None:
    """The table says what the counts say."""
    table = t.to_dataframe()
    assert len(table) == t.requests
    assert table["bytes"].sum() + t.local_bytes == t.bytes
    assert (~table["outcome"].isin(["ok", "redirect"])).sum() == t.failed_requests
    assert table["seconds"].sum() == pytest.approx(t.request_seconds)
    assert (table["started"] >= 0).all()
    assert (table["started"] <= t.seconds + 0.1).all()


def every(step: int, kind: Any) -> Any:
    return lambda number, *_: Fault(kind) if number % step == 0 else None


FAULTS = [None, 503, "short", "reset", "truncate", "early_end"]


@pytest.mark.parametrize("kind", FAULTS, ids=str)
def test_http(kind: Any, url: str, http: RangeServer) -> None:
    http.faults = kind and every(3, kind)
    with trace() as t:
        read(url)
    assert (t.requests, t.bytes) == (http.log.requests, http.log.bytes)
    assert bool(t.retries) == bool(t.wait_seconds) == (kind is not None)
    assert t.lost == []
    assert not t.local_bytes
    check_sums(t)
    table = t.to_dataframe()
    assert set(table["name"]) == {url}
    assert set(table["worker"]) == {"this process"}
    if kind not in (None, "truncate"):  # which is a good answer to less
        assert t.failed_requests == http.log.requests // 3
        assert t.retries <= t.failed_requests  # a reset on an old connection is met by aiohttp
    assert (table["attempt"] > 1).sum() >= t.retries
    asked = {(entry.start, entry.stop) for entry in http.log.entries}
    told = {(a, b) for a, b in zip(table["start"], table["stop"], strict=True) if b is not pd.NA}
    assert len(told - asked) <= 1  # the beginning, if it was asked for with more than there is


@pytest.mark.parametrize("kind", FAULTS, ids=str)
def test_s3(kind: Any, s3_options: dict[str, Any], s3: S3Server) -> None:
    s3.faults = kind and every(3, kind)
    with trace() as t:
        read("s3://bucket/run.nd2", storage_options=s3_options)
    assert (t.requests, t.bytes) == (s3.log.requests, s3.log.bytes)
    assert bool(t.retries) == (kind is not None)
    check_sums(t)


def test_s3_client(s3_options: dict[str, Any], s3: S3Server) -> None:
    """Where the store refuses signed URLs, both are counted: what it refused, and the client."""

    def refuse(number: int, method: str, path: str, place: object) -> Fault | None:
        return Fault(403) if number == 1 else None

    s3.faults = refuse
    fs = fsspec.filesystem("s3", **s3_options, skip_instance_cache=True)
    with trace() as t:
        read(OpenFile(fs, "bucket/run.nd2"))
    assert t.requests == s3.log.requests
    assert (t.to_dataframe()["outcome"] != "ok").sum() >= 1


def test_sessions_are_as_before(url: str, http: RangeServer) -> None:
    """While requests are watched there is more in a session; a context of the user's stays."""
    contexts = []

    async def note(_: object, context: Any, __: object) -> None:
        contexts.append(context.trace_request_ctx)

    config = aiohttp.TraceConfig()
    config.on_request_end.append(note)
    options = {"client_kwargs": {"trace_configs": [config]}, "trace_request_ctx": "mine"}
    for given in (options, {"client_kwargs": {"trace_configs": [config]}}):
        fs = fsspec.filesystem("http", **given, skip_instance_cache=True)
        with trace() as t:
            read(OpenFile(fs, url))
        assert t.requests == http.log.requests
        session = fsspec.asyn.sync(fs.loop, fs.set_session)
        assert session.trace_configs == [config]
        read(OpenFile(fs, url))
        assert set(contexts[-10:]) == {given.get("trace_request_ctx")}
        http.log.clear()


def test_redirects(url: str, http: RangeServer) -> None:
    with _Redirecting(url) as server, trace() as t:
        read(server.url("run.nd2"))
    table = t.to_dataframe()
    assert t.requests == server.log.requests + http.log.requests
    assert t.bytes == server.log.bytes + http.log.bytes
    assert (table["outcome"] == "redirect").sum() == server.log.requests == http.log.requests
    assert not t.failed_requests


class _Redirecting(RangeServer):
    def __init__(self, to: str) -> None:
        super().__init__()
        self._to = to

    def answer(self, asked: Any) -> Any:
        from xarray_nd2.testing.answers import Answer

        return Answer(307, [("Location", self._to)], b"elsewhere")


def test_server_without_ranges(content: bytes, http: RangeServer) -> None:
    """Of what the server sends beyond the range, what came counts."""
    http.put("whole.nd2", content)
    http.faults = every(1, "ignore_range")
    with trace() as t:
        read(http.url("whole.nd2"))
    assert t.requests == http.log.requests
    assert 2 * len(content) <= t.bytes <= http.log.bytes


def test_local_file(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "run.nd2").write_bytes(content)
    for target in (tmp_path / "run.nd2", io.BytesIO(content)):
        ds = xr.open_dataset(target, engine="nd2")
        with trace() as t:
            ds.image.isel(T=[0, 3]).load()
        assert t.requests == t.retries == 0
        assert t.bytes == t.local_bytes >= 2 * 2 * 64 * 48 * 2
        assert t.to_dataframe().empty
        assert "local" in repr(t)


def test_mounted_share(content: bytes, share: FuseShare) -> None:
    share.put("run.nd2", content)
    with trace() as t:
        read(share.path / "run.nd2")
    assert t.requests > 2
    assert t.bytes > 0
    assert not t.local_bytes
    assert t.failed_requests == 0
    check_sums(t)


def test_other_filesystems(content: bytes, url: str, tmp_path: Path, http: RangeServer) -> None:
    """Where a filesystem reads, its calls are counted: what it is, and each range."""
    import zipfile

    with zipfile.ZipFile(tmp_path / "run.zip", "w") as archive:
        archive.writestr("run.nd2", content)
    with trace() as t:
        read(f"zip://run.nd2::{tmp_path / 'run.zip'}")
    table = t.to_dataframe()
    assert table["start"].isna().sum() == 2  # when it was opened, and before pixels were read
    assert t.bytes > 0
    check_sums(t)


def test_nested(url: str, http: RangeServer) -> None:
    with trace() as outer:
        read(url)
        before = outer.requests
        with trace() as inner:
            read(url)
        assert outer.requests == before + inner.requests
        assert not inner.to_dataframe().empty
        counted = inner.requests
        read(url)
        assert inner.requests == counted
    assert outer.requests == http.log.requests
    assert outer.bytes == http.log.bytes


def test_nothing_is_left_after_an_exception(url: str) -> None:
    t = trace()
    with pytest.raises(ND2SourceError), t:
        read(f"{url}-not-there")
    assert not this_process().recorders
    assert t.requests
    with pytest.raises(RuntimeError, match="make another"), t:
        pass
    assert not this_process().recorders


def test_rows_are_bounded(url: str, http: RangeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorder, "MAX_TRACED_REQUESTS", 5)
    with trace() as t:
        read(url)
    assert len(t.to_dataframe()) == 5
    assert t.requests == http.log.requests > 5


def test_a_trace_that_was_not_begun() -> None:
    t = trace()
    assert (t.requests, t.bytes, t.retries, t.seconds) == (0, 0, 0, 0.0)
    assert t.to_dataframe().empty
    assert "0 requests" in repr(t)


def everything_shown(t: Trace) -> str:
    table = t.to_dataframe()
    return "\n".join((repr(t), t._repr_html_(), table.to_csv(), str(vars(t))))


@pytest.mark.parametrize("kind", [503, "reset", 403, 404], ids=str)
def test_no_secrets(
    kind: Any, url: str, http: RangeServer, caplog: pytest.LogCaptureFixture
) -> None:
    http.faults = lambda number, *_: Fault(kind) if number > 4 else None
    host = url.replace("http://", f"http://me:{SECRET}@")
    caplog.set_level(logging.DEBUG, "xarray_nd2")
    with trace() as t, pytest.raises((ND2SourceError, OSError)):
        read(
            f"{host}?X-Amz-Signature={SECRET}",
            storage_options={"headers": {"Authorization": f"Bearer {SECRET}"}},
            patience_seconds=0.05,
        )
    assert t.failed_requests
    mine = [record.getMessage() for record in caplog.records if record.name == "xarray_nd2"]
    assert mine
    for shown in (everything_shown(t), *mine):
        assert SECRET not in shown
        assert "Signature" not in shown
    assert set(t.to_dataframe()["name"]) == {url}


def test_no_secrets_of_s3(
    s3_options: dict[str, Any], s3: S3Server, caplog: pytest.LogCaptureFixture
) -> None:
    s3.faults = every(2, 503)
    caplog.set_level(logging.DEBUG, "xarray_nd2")
    with trace() as t:
        read("s3://bucket/run.nd2", storage_options=s3_options)
    for shown in (everything_shown(t), caplog.text):
        assert "X-Amz" not in shown
        assert "Signature" not in shown
    assert set(t.to_dataframe()["name"]) == {"s3://bucket/run.nd2"}


def test_log(url: str, http: RangeServer, caplog: pytest.LogCaptureFixture) -> None:
    http.faults = lambda number, *_: Fault(503) if number == 3 else None
    caplog.set_level(logging.DEBUG, "xarray_nd2")
    read(url)
    by_level: dict[int, list[str]] = {logging.DEBUG: [], logging.WARNING: []}
    for record in caplog.records:
        if record.name == "xarray_nd2":
            by_level[record.levelno].append(record.getMessage())
    assert len(by_level[logging.DEBUG]) == http.log.requests
    (warning,) = by_level[logging.WARNING]
    assert warning.startswith(url)
    assert "attempt 1 failed, another in" in warning
    assert "HTTP 503" in warning
    assert any("attempt 2" in message for message in by_level[logging.DEBUG])


def test_log_is_not_configured() -> None:
    (handler,) = logging.getLogger("xarray_nd2").handlers
    assert isinstance(handler, logging.NullHandler)


def test_shown(url: str, http: RangeServer) -> None:
    http.faults = lambda number, *_: Fault(503) if number == 3 else None
    with trace() as t:
        read(url)
        assert f"{t.requests} requests" in repr(t)
    assert f"{t.requests} requests" in repr(t)
    assert "1 failed" in repr(t)
    assert "1 retry" in repr(t)
    assert f"<td>{t.requests}</td>" in t._repr_html_()


def test_plot(url: str, http: RangeServer) -> None:
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot as plt

    http.faults = lambda number, *_: Fault(503) if number == 3 else None
    with trace() as t:
        read(url)
    ax = t.plot()
    in_flight = np.asarray(ax.lines[0].get_ydata())
    assert in_flight.min() == 0
    assert in_flight[-1] == 0
    assert 1 <= in_flight.max() <= t.requests
    assert np.asarray(ax.lines[1].get_xdata()).size == t.failed_requests
    assert t.plot(ax) is ax
    plt.close("all")
    with trace() as empty:
        pass
    empty.plot()
    plt.close("all")


def test_importing_the_package_imports_no_reader() -> None:
    import subprocess
    import sys

    code = "import sys, xarray_nd2; print(sorted(m for m in sys.modules if 'xarray_nd2' in m))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['xarray_nd2', 'xarray_nd2.errors']"
    assert "trace" in dir(xarray_nd2)
    with pytest.raises(AttributeError, match="no attribute 'traces_of'"):
        xarray_nd2.traces_of  # noqa: B018
