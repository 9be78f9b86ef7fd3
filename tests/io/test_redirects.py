"""Redirects: what goes along to another origin, and where they end."""

from __future__ import annotations

import io
import warnings
from typing import TYPE_CHECKING, Any

import aiohttp
import numpy as np
import pytest
import xarray as xr
from fsspec.core import OpenFile

from xarray_nd2 import ND2NotFoundError, ND2SourceError
from xarray_nd2.testing import RangeServer, write_nd2
from xarray_nd2.testing.answers import Answer, Asked

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FRAMES = np.random.default_rng(8).integers(0, 2**16, (3, 1, 64, 48)).astype("uint16")
SECRET = "hush-4417"
# What aiohttp, httpx and this package say by themselves.
HARMLESS = {"host", "accept", "accept-encoding", "user-agent", "range", "connection"}


class RedirectingServer(RangeServer):
    """A server that refers to another place, but for what is called moved."""

    def __init__(self, location: str | None = None, status: int = 307) -> None:
        super().__init__()
        self.location, self.status = location, status
        self.seen: list[Asked] = []

    def answer(self, asked: Asked) -> Answer:
        self.seen.append(asked)
        if self.location is not None and "moved" not in asked.path:
            return Answer(self.status, [("Location", self.location)])
        return super().answer(asked)


@pytest.fixture
def content() -> bytes:
    file = io.BytesIO()
    write_nd2(file, FRAMES, "TCYX")
    return file.getvalue()


@pytest.fixture
def elsewhere(content: bytes) -> Iterator[RedirectingServer]:
    with RedirectingServer() as server:
        server.put("signed.nd2", content)
        yield server


HEADERS = {"X-Api-Key": SECRET, "Authorization": f"Bearer {SECRET}", "Cookie": f"a={SECRET}"}
with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
    AUTH = aiohttp.BasicAuth(SECRET, SECRET)  # which is still there
WAYS: dict[str, dict[str, Any]] = {
    "headers": {"headers": HEADERS},
    "headers of the session": {"client_kwargs": {"headers": HEADERS}},
    "auth": {"auth": AUTH},
    "auth of the session": {"client_kwargs": {"auth": AUTH}},
    "cookies": {"cookies": {"a": SECRET}},
    "cookies of the session": {"client_kwargs": {"cookies": {"a": SECRET}}},
    "parameters": {"params": {"token": SECRET}},
}


def credentials_seen(server: RedirectingServer) -> bool:
    return any(
        SECRET in value or value.startswith("Basic ")
        for asked in server.seen
        for value in asked.headers.values()
    )


@pytest.mark.filterwarnings("ignore:The 'auth' parameter is deprecated")
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("way", WAYS)
def test_nothing_goes_to_another_origin(
    way: str, status: int, elsewhere: RedirectingServer
) -> None:
    with RedirectingServer(elsewhere.url("signed.nd2"), status) as server:
        url = server.url("run.nd2")
        ds = xr.open_dataset(url, engine="nd2", storage_options=WAYS[way])
        np.testing.assert_array_equal(ds.image.values, FRAMES)
        assert credentials_seen(server) or way == "parameters"
    assert elsewhere.seen
    assert not credentials_seen(elsewhere)
    assert {name for asked in elsewhere.seen for name in asked.headers} <= HARMLESS
    assert not [asked.target for asked in elsewhere.seen if SECRET in asked.target]


def test_what_a_url_tells_goes_nowhere_else(elsewhere: RedirectingServer) -> None:
    with RedirectingServer(elsewhere.url("signed.nd2")) as server:
        url = server.url("run.nd2").replace("//", f"//me:{SECRET}@")
        ds = xr.open_dataset(url, engine="nd2")
        np.testing.assert_array_equal(ds.image.values, FRAMES)
        assert credentials_seen(server)
    assert not credentials_seen(elsewhere)


@pytest.mark.filterwarnings("ignore:The 'auth' parameter is deprecated")
@pytest.mark.parametrize("way", [way for way in WAYS if way != "parameters"])
@pytest.mark.parametrize("relative", [False, True])
def test_the_same_origin_gets_all(way: str, relative: bool, content: bytes) -> None:
    with RedirectingServer() as server:
        server.put("moved.nd2", content)
        server.location = "/moved.nd2" if relative else server.url("moved.nd2")
        ds = xr.open_dataset(server.url("run.nd2"), engine="nd2", storage_options=WAYS[way])
        np.testing.assert_array_equal(ds.image.values, FRAMES)
        for asked in server.seen:
            assert asked.headers.get("authorization") or asked.headers.get("cookie")


def test_no_way_back(content: bytes) -> None:
    """A server that is told of by another one is not told what the first was."""
    with RedirectingServer() as home, RedirectingServer() as other:
        home.put("moved.nd2", content)
        home.location, other.location = other.url("run.nd2"), home.url("moved.nd2")
        options = {"headers": HEADERS}
        ds = xr.open_dataset(home.url("run.nd2"), engine="nd2", storage_options=options)
        np.testing.assert_array_equal(ds.image.values, FRAMES)
        assert not credentials_seen(other)
        at_last = [asked.headers for asked in home.seen if "moved" in asked.path]
        assert at_last
        assert not [headers for headers in at_last if "x-api-key" in headers]


@pytest.mark.parametrize(
    ("location", "said"),
    [
        ("/again.nd2", "10 redirects, and no end"),
        ("http://[", "redirects to what is no URL"),
        ("ftp://127.0.0.1/run.nd2", "redirects to ftp"),
    ],
)
def test_redirects_that_lead_nowhere(location: str, said: str) -> None:
    with RedirectingServer(location) as server, pytest.raises(ND2SourceError, match=said):
        xr.open_dataset(server.url("run.nd2"), engine="nd2", patience_seconds=0.5)
    assert len(server.seen) < 60


def test_options_of_the_client_that_are_decided_here(elsewhere: RedirectingServer) -> None:
    options: dict[str, Any]
    with RedirectingServer(elsewhere.url("signed.nd2")) as server:
        for options in (
            {"allow_redirects": True, "max_redirects": 3, "raise_for_status": True},
            {"client_kwargs": {"raise_for_status": True, "auto_decompress": True}},
        ):
            ds = xr.open_dataset(server.url("run.nd2"), engine="nd2", storage_options=options)
            np.testing.assert_array_equal(ds.image.values, FRAMES)
        options = {"allow_redirects": False}
        with pytest.raises(ND2SourceError, match="HTTP 307"):
            xr.open_dataset(server.url("run.nd2"), engine="nd2", storage_options=options)
        server.location = None
        options = {"client_kwargs": {"raise_for_status": True}}
        with pytest.raises(ND2NotFoundError):
            xr.open_dataset(server.url("none.nd2"), engine="nd2", storage_options=options)


def test_webdav(elsewhere: RedirectingServer) -> None:
    webdav = pytest.importorskip("webdav4.fsspec")
    with RedirectingServer(elsewhere.url("signed.nd2")) as server:
        fs = webdav.WebdavFileSystem(
            server.endpoint_url, auth=("me", SECRET), headers={"X-Api-Key": SECRET}
        )
        ds = xr.open_dataset(OpenFile(fs, "run.nd2"), engine="nd2")
        np.testing.assert_array_equal(ds.image.values, FRAMES)
        assert credentials_seen(server)
        assert not credentials_seen(elsewhere)
        server.location = "/again.nd2"
        with pytest.raises(ND2SourceError, match="redirects, and no end"):
            xr.open_dataset(OpenFile(fs, "run.nd2"), engine="nd2")


def test_webdav_at_several_places(content: bytes) -> None:
    """Cookies of the client stay at home also where the other server refers to itself."""
    webdav = pytest.importorskip("webdav4.fsspec")
    with RedirectingServer() as home, RedirectingServer() as other:
        other.put("moved.nd2", content)
        home.location, other.location = other.url("first.nd2"), "/moved.nd2"
        fs = webdav.WebdavFileSystem(home.endpoint_url, cookies={"a": SECRET})
        ds = xr.open_dataset(OpenFile(fs, "run.nd2"), engine="nd2")
        np.testing.assert_array_equal(ds.image.values, FRAMES)
        assert credentials_seen(home)
        assert not credentials_seen(other)


def test_passwords_of_the_environment(
    elsewhere: RedirectingServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those in .netrc are for a machine, whatever the port."""
    netrc = tmp_path / "netrc"
    netrc.write_text(f"machine 127.0.0.1 login me password {SECRET}\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with RedirectingServer(elsewhere.url("signed.nd2")) as server:
        options = {"client_kwargs": {"trust_env": True}}
        ds = xr.open_dataset(server.url("run.nd2"), engine="nd2", storage_options=options)
        np.testing.assert_array_equal(ds.image.values, FRAMES)
        assert credentials_seen(server)
    assert not credentials_seen(elsewhere)


def test_google_cloud_storage(elsewhere: RedirectingServer) -> None:
    gcsfs = pytest.importorskip("gcsfs")
    from google.oauth2.credentials import Credentials

    with RedirectingServer(elsewhere.url("signed.nd2")) as server:
        fs = gcsfs.GCSFileSystem(
            project="p",
            token=Credentials(SECRET),  # type: ignore[no-untyped-call]
            endpoint_url=server.endpoint_url,
            session_kwargs={"headers": {"X-Api-Key": SECRET}},
            skip_instance_cache=True,
        )
        ds = xr.open_dataset(OpenFile(fs, "bucket/run.nd2"), engine="nd2")
        np.testing.assert_array_equal(ds.image.values, FRAMES)
        assert credentials_seen(server)
    assert not credentials_seen(elsewhere)
