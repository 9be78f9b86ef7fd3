"""Blobs of Azure by URLs, and when the client reads instead."""

from __future__ import annotations

import datetime as dt
import io
import logging
import time
import traceback
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import fsspec
import fsspec.asyn
import numpy as np
import pytest
import xarray as xr
from fsspec.core import OpenFile

from tests.servers import Missing, azurite
from xarray_nd2 import ND2NotFoundError, ND2PermissionError
from xarray_nd2.io import azure_urls, cloud, signed_urls
from xarray_nd2.testing import write_nd2

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.servers import Store

adlfs = pytest.importorskip("adlfs")
blobs = pytest.importorskip("azure.storage.blob")

FRAMES = np.random.default_rng(3).integers(0, 2**16, (4, 40, 60)).astype("uint16")
NAMES = ("run.nd2", "a b+c/é&=.nd2", "x/%41%2f;,@$!~*'(run).nd2", "hash#tag.nd2", "what?.nd2")
OTHER_KEY = "aHVzaC1vZi1hbm90aGVyLWtleQ=="


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    context = azurite.serve(tmp_path_factory.mktemp("azure") / "azurite")
    try:
        server = context.__enter__()
    except Missing as reason:
        pytest.skip(str(reason))
    try:
        file = io.BytesIO()
        write_nd2(file, FRAMES, "TYX")
        for name in NAMES:
            server.put(name, file.getvalue())
        yield server
    finally:
        context.__exit__(None, None, None)


@pytest.fixture
def by_client(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Where the ranges begin that the client is asked for."""
    starts: list[int] = []
    read = cloud.AzureTransport._get_by_client

    async def read_and_note(self: Any, start: int, *args: Any) -> Any:
        starts.append(start)
        return await read(self, start, *args)

    monkeypatch.setattr(cloud.AzureTransport, "_get_by_client", read_and_note)
    return starts


@pytest.fixture
def signatures(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was signed by an account key."""
    made: list[str] = []
    sign = azure_urls._signature

    def sign_and_note(*args: Any) -> str:
        made.append(sign(*args))
        return made[-1]

    monkeypatch.setattr(azure_urls, "_signature", sign_and_note)
    return made


def connection(store: Store, rest: str) -> dict[str, Any]:
    """Options with other credentials than the account key, of a filesystem of its own."""
    endpoint = f"http://127.0.0.1:{store.port}/{azurite.ACCOUNT_NAME}"
    return {"connection_string": f"BlobEndpoint={endpoint};{rest}", "skip_instance_cache": True}


def token_for(seconds: float) -> str:
    token: str = blobs.generate_container_sas(
        azurite.ACCOUNT_NAME,
        "container",
        account_key=azurite.ACCOUNT_KEY,
        permission=blobs.ContainerSasPermissions(read=True),
        expiry=dt.datetime.now(dt.UTC) + dt.timedelta(seconds=seconds),
    )
    return token


def image_of(fs: Any, path: str = "container/run.nd2") -> xr.DataArray:
    ds = xr.open_dataset(
        OpenFile(fs, path), engine="nd2", cache=False, max_gap=0, patience_seconds=1.5
    )
    image: xr.DataArray = ds.image
    return image


def check(image: xr.DataArray) -> None:
    np.testing.assert_array_equal(image.isel(C=0, X=slice(3, 50)).values, FRAMES[..., 3:50])


@pytest.mark.parametrize("name", NAMES)
def test_signed_once_by_the_account_key(
    name: str, store: Store, by_client: list[int], signatures: list[str]
) -> None:
    fs = fsspec.filesystem("abfs", **store.options, skip_instance_cache=True)
    before = dict(vars(fs))
    check(image_of(fs, f"container/{name}"))
    assert not by_client
    assert len(signatures) == 1
    assert "sp=r&" in signatures[0]
    assert dict(vars(fs)) == before  # the user's filesystem is as it was


def test_signed_anew_in_time(
    store: Store, signatures: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    image = image_of(fsspec.filesystem("abfs", **store.options, skip_instance_cache=True))
    check(image)
    now = time.time
    later = SimpleNamespace(
        time=lambda: now() + signed_urls.USED_SECONDS + 1, monotonic=time.monotonic
    )
    assert len(signatures) == 1
    monkeypatch.setattr(signed_urls, "time", later)
    monkeypatch.setattr(azure_urls, "time", later)
    check(image)
    assert len(signatures) == 2


def test_a_token_of_the_user(store: Store, by_client: list[int], signatures: list[str]) -> None:
    given = connection(store, f"SharedAccessSignature={token_for(600)}")
    check(image_of(fsspec.filesystem("abfs", **given)))
    assert not by_client
    assert not signatures


def test_anonymous(store: Store, by_client: list[int], signatures: list[str]) -> None:
    service = blobs.BlobServiceClient.from_connection_string(store.options["connection_string"])
    public = service.create_container("public", public_access="blob")
    file = io.BytesIO()
    write_nd2(file, FRAMES, "TYX")
    public.upload_blob("run.nd2", file.getvalue())
    check(image_of(fsspec.filesystem("abfs", **connection(store, "")), "public/run.nd2"))
    assert not by_client
    assert not signatures


@pytest.mark.parametrize("way", ["key", "token"])
def test_refused(
    way: str, store: Store, by_client: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    """The client is asked, and nothing tells the secret."""
    secret = OTHER_KEY if way == "key" else token_for(-600)
    given = connection(
        store,
        f"AccountName={azurite.ACCOUNT_NAME};AccountKey={secret}"
        if way == "key"
        else f"SharedAccessSignature={secret}",
    )
    fs = fsspec.filesystem("abfs", **given)
    with caplog.at_level(logging.DEBUG), pytest.raises(ND2PermissionError) as caught:
        image_of(fs)
    assert by_client
    shown = "".join(traceback.format_exception(caught.value))
    hidden = secret if way == "key" else secret.rpartition("sig=")[2]
    assert hidden not in shown
    assert "sig=" not in shown
    ours = [record for record in caplog.records if not record.name.startswith("azure.")]
    assert not any("sig=" in record.getMessage() for record in ours)


def test_no_such_blob(store: Store, by_client: list[int], signatures: list[str]) -> None:
    fs = fsspec.filesystem("abfs", **store.options, skip_instance_cache=True)
    with pytest.raises(ND2NotFoundError) as caught:
        image_of(fs, "container/none.nd2")
    assert not by_client  # it would be told the same
    shown = "".join(traceback.format_exception(caught.value))
    assert "sig=" not in shown
    assert signatures
    assert not any(signature in shown for signature in signatures)


def test_the_client_reads_what_urls_cannot(
    store: Store, by_client: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A container whose store refused a URL is left to the client."""
    made: list[str] = []

    def sign_wrongly(*_: Any) -> str:
        made.append("wrong")
        return f"{token_for(600)}wrong"

    monkeypatch.setattr(azure_urls, "_signature", sign_wrongly)
    fs = fsspec.filesystem("abfs", **store.options, skip_instance_cache=True)
    check(image_of(fs))
    assert by_client
    before = len(made)
    check(image_of(fs))
    assert len(made) == before


def test_other_options_are_for_the_client(
    store: Store, by_client: list[int], signatures: list[str]
) -> None:
    mine = type("Mine", (adlfs.AzureBlobFileSystem,), {})

    for fs in (
        adlfs.AzureBlobFileSystem(**store.options, read_timeout=9, skip_instance_cache=True),
        adlfs.AzureBlobFileSystem(
            **store.options, location_mode="secondary", skip_instance_cache=True
        ),
    ):
        check(image_of(fs))
        assert by_client
        by_client.clear()
    assert not azure_urls.are_honoured(mine(**store.options, skip_instance_cache=True))
    assert not signatures


# ----------------------------------------------------------- what is sent, to no server


class Credential:
    """Of a user, with a token that ends at some time."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.scopes: list[str] = []

    async def get_token(self, *scopes: str, **_: Any) -> Any:
        self.scopes += scopes
        return SimpleNamespace(token="hush", expires_on=int(time.time() + self.seconds))

    async def close(self) -> None:
        pass


def made_for(fs: Any, path: str, patch: pytest.MonkeyPatch) -> tuple[Any, str]:
    """The URL of a blob as it is kept, and as it is sent."""
    sent: list[str] = []
    patch.setattr(azure_urls, "GetRequest", lambda url, *_: sent.append(str(url)))
    patch.setattr(azure_urls, "proxy_of_environment", lambda _: None)
    signed = signed_urls.SignedObject(azure_urls.AzureSigner, fs, *fs.split_path(path))
    url = fsspec.asyn.sync(fs.loop, signed.url)
    return url, sent[0] if sent else ""


def test_token_of_a_credential(monkeypatch: pytest.MonkeyPatch) -> None:
    given = {"account_name": "lab", "skip_instance_cache": True}
    credential = Credential(3600)
    fs = adlfs.AzureBlobFileSystem(**given, credential=credential)
    url, sent = made_for(fs, "box/run.nd2", monkeypatch)
    assert sent == "https://lab.blob.core.windows.net/box/run.nd2"
    assert url.headers == {
        "Authorization": "Bearer hush",
        "x-ms-version": fs.service_client.api_version,
    }
    assert credential.scopes == ["https://storage.azure.com/.default"]
    assert url.used_seconds == signed_urls.USED_SECONDS
    assert "hush" not in repr(url)
    fs = adlfs.AzureBlobFileSystem(**given, credential=Credential(100))
    url, _ = made_for(fs, "box/run.nd2", monkeypatch)
    assert url.used_seconds < 60  # no longer than the token
    fs = adlfs.AzureBlobFileSystem(**given, credential=Credential(10))
    assert made_for(fs, "box/run.nd2", monkeypatch)[0] is None


def test_versions(monkeypatch: pytest.MonkeyPatch) -> None:
    given = {"account_name": "lab", "version_aware": True, "skip_instance_cache": True}
    path = "box/run.nd2?versionid=2026-01-02T03:04:05.0000000Z"
    version = "versionid=2026-01-02T03%3A04%3A05.0000000Z"
    fs = adlfs.AzureBlobFileSystem(**given, sas_token="sp=r&sig=hush")
    _, sent = made_for(fs, path, monkeypatch)
    assert sent == f"https://lab.blob.core.windows.net/box/run.nd2?sp=r&sig=hush&{version}"
    fs = adlfs.AzureBlobFileSystem(**given, account_key=OTHER_KEY)
    _, sent = made_for(fs, path, monkeypatch)
    assert sent.startswith(f"https://lab.blob.core.windows.net/box/run.nd2?{version}&")
    assert "sr=bv" in sent  # signed for the version


def test_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    from yarl import URL

    url = URL("https://lab.blob.core.windows.net/box/run.nd2")
    monkeypatch.setenv("https_proxy", "http://proxy:3128")
    options = azure_urls._options(url)
    assert options is not None
    assert options["proxy"] == "http://proxy:3128"
    monkeypatch.setenv("https_proxy", "https://proxy:3128")
    assert azure_urls._options(url) is None  # the client reads
