"""Files and servers that the tests share."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.servers import Missing, fuse
from tests.skips import NO_CORPUS, skip_lines, skip_reason
from xarray_nd2.testing import RangeServer, S3Server

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[1]


def corpus_directory() -> Path | None:
    """Folder of real files, which are not part of this project."""
    folder = Path(os.environ.get("ND2_CORPUS", ROOT.parent / "shared" / "corpus"))
    return folder if folder.is_dir() and any(folder.glob("*.nd2")) else None


def corpus_files() -> list[Path]:
    """The real files, none where there is no folder of them."""
    folder = corpus_directory()
    return [] if folder is None else sorted(folder.glob("*.nd2"))


@pytest.fixture(scope="session")
def corpus() -> Path:
    folder = corpus_directory()
    if folder is None:
        pytest.skip(NO_CORPUS)
    return folder


@pytest.fixture(autouse=True, scope="session")
def _cloud_environment() -> Iterator[None]:
    """Keep the clients from looking for credentials or a region of the machine at hand."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        patch.delenv("AWS_PROFILE", raising=False)
        yield


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder that the HTTP server serves."""
    return tmp_path_factory.mktemp("files")


@pytest.fixture(scope="session")
def shared_http(folder: Path) -> Iterator[RangeServer]:
    with RangeServer(folder) as server:
        yield server


@pytest.fixture
def http(shared_http: RangeServer) -> Iterator[RangeServer]:
    """The HTTP server, its log empty and without delays or faults."""
    shared_http.latency, shared_http.bandwidth, shared_http.faults = 0.0, None, None
    shared_http.log.clear()
    yield shared_http
    shared_http.latency, shared_http.bandwidth, shared_http.faults = 0.0, None, None


@pytest.fixture(scope="session")
def s3() -> Iterator[S3Server]:
    with S3Server() as server:
        server.create_bucket("bucket")
        yield server


@pytest.fixture(scope="session")
def mounted_share(tmp_path_factory: pytest.TempPathFactory) -> Iterator[fuse.FuseShare]:
    mounting = fuse.serve(tmp_path_factory.mktemp("fuse") / "server")
    try:
        share = mounting.__enter__()
    except Missing as reason:
        pytest.skip(str(reason))
    try:
        yield share
    finally:
        mounting.__exit__(None, None, None)


@pytest.fixture
def share(mounted_share: fuse.FuseShare) -> Iterator[fuse.FuseShare]:
    """A mounted share that behaves well, its log of calls empty."""
    mounted_share.behave()
    mounted_share.calls()
    yield mounted_share
    mounted_share.behave()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Tell of what was skipped in few lines; with ``-rs`` pytest lists each."""
    reports = terminalreporter.stats.get("skipped", [])
    for line in skip_lines([skip_reason(report.longrepr) for report in reports]):
        terminalreporter.write_line(line)
