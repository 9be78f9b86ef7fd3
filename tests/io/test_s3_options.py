"""Options of s3fs: honoured by plain HTTP, or left to the client."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import s3fs
import xarray as xr
from botocore import UNSIGNED
from fsspec.core import OpenFile

from tests.io.checking_store import CheckingStore
from tests.servers import Missing, nginx, tls
from xarray_nd2 import ND2SourceError
from xarray_nd2.testing import write_nd2

if TYPE_CHECKING:
    from collections.abc import Iterator

FRAMES = np.random.default_rng(5).integers(0, 2**16, (3, 1, 40, 60)).astype("uint16")


def content() -> bytes:
    file = io.BytesIO()
    write_nd2(file, FRAMES, "TCYX")
    return file.getvalue()


@pytest.fixture
def store() -> Iterator[CheckingStore]:
    with CheckingStore() as server:
        server.put("bucket/run.nd2", content())
        yield server


def read(options: dict[str, Any]) -> None:
    ds = xr.open_dataset(
        "s3://bucket/run.nd2", engine="nd2", storage_options=options, patience_seconds=2.0
    )
    np.testing.assert_array_equal(ds.image.values, FRAMES)


@pytest.mark.parametrize(
    "options",
    [
        {"config_kwargs": {"s3": {"addressing_style": "path"}, "retries": {"max_attempts": 2}}},
        {"config_kwargs": {"signature_version": "s3v4", "read_timeout": 5, "connect_timeout": 5}},
        {"config_kwargs": {"max_pool_connections": 3}},
        {"client_kwargs": {"region_name": "eu-west-1", "verify": True}},
        {"s3_additional_kwargs": {"ServerSideEncryption": "AES256", "ACL": "private"}},
        {"default_block_size": 5, "default_cache_type": "none", "max_concurrency": 3},
        {"use_ssl": False, "version_aware": True},
    ],
)
def test_honoured(options: dict[str, Any], store: CheckingStore) -> None:
    read(store.options | options)
    assert store.by() == ["url"]


@pytest.mark.parametrize(
    "options",
    [
        # A key of the user's own: it would have to be sent, and is no part of a URL.
        {"s3_additional_kwargs": {"SSECustomerAlgorithm": "AES256", "SSECustomerKey": "k" * 32}},
        {"s3_additional_kwargs": {"ExpectedBucketOwner": "1234"}},
        {"config_kwargs": {"user_agent_extra": "lab"}},
        {"config_kwargs": {"client_cert": None}},
        {"config_kwargs": {"proxies_config": {}}},
        {"config_kwargs": {"connector_args": {"keepalive_timeout": 3}}},
        {"config_kwargs": {"s3": {"new_option": 1}}},
    ],
)
def test_left_to_the_client(options: dict[str, Any], store: CheckingStore) -> None:
    read(store.options | options)
    assert store.by() == ["client"]


def test_a_derived_class(store: CheckingStore) -> None:
    class Mine(s3fs.S3FileSystem):  # type: ignore[misc]
        pass

    file = OpenFile(Mine(**store.options), "bucket/run.nd2")
    np.testing.assert_array_equal(xr.open_dataset(file, engine="nd2").image.values, FRAMES)
    assert store.by() == ["client"]


def test_another_signature_version(store: CheckingStore) -> None:
    store.public = True
    read(store.options | {"config_kwargs": {"signature_version": UNSIGNED}})
    assert not any("X-Amz" in one.asked.target for one in store.seen)
    assert store.by() == ["anonymous"]


# ------------------------------------------------------------------------------- proxies


@pytest.mark.parametrize("way", ["options", "without scheme", "environment"])
def test_proxy(way: str, store: CheckingStore, monkeypatch: pytest.MonkeyPatch) -> None:
    proxy = store.endpoint_url
    options: dict[str, Any] = store.options | {"endpoint_url": "http://store.invalid:81"}
    if way == "environment":
        for name in ("http_proxy", "HTTP_PROXY"):
            monkeypatch.setenv(name, proxy)
        monkeypatch.setenv("no_proxy", "127.0.0.1")
    else:
        proxy = proxy.removeprefix("http://") if way == "without scheme" else proxy
        options["config_kwargs"] = {"proxies": {"http": proxy}}
    read(options)
    assert {one.asked.headers["host"] for one in store.seen} == {"store.invalid:81"}
    assert store.by() == ["url"]


def test_no_proxy(store: CheckingStore, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    read(store.options)
    assert store.by() == ["url"]
    monkeypatch.delenv("no_proxy")
    read(store.options | {"config_kwargs": {"proxies": {}}})  # none, whatever the environment says
    assert store.by() == ["url"]


def test_a_proxy_that_only_the_client_can_talk_to(store: CheckingStore) -> None:
    options = {"config_kwargs": {"proxies": {"http": "https://127.0.0.1:9"}}}
    with pytest.raises(ND2SourceError):
        read(store.options | options)
    assert store.by() == []


# ------------------------------------------------------------------------------- TLS


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> tls.Certificates:
    try:
        return tls.make_certificates(tmp_path_factory.mktemp("tls"))
    except Missing as reason:
        pytest.skip(str(reason))


@pytest.fixture(scope="module")
def tls_options(
    certificates: tls.Certificates, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Any]]:
    """Of a server that cares for no signature, but has a certificate that few trust."""
    try:
        context = nginx.serve(tmp_path_factory.mktemp("nginx") / "nginx", certificates)
        servers = context.__enter__()
    except Missing as reason:
        pytest.skip(str(reason))
    servers.https.put("bucket/run.nd2", content())
    endpoint = servers.https.url("").rstrip("/")
    yield {"key": "KEY", "secret": "hush", "endpoint_url": endpoint}
    context.__exit__(None, None, None)


@pytest.mark.parametrize("way", ["verify", "AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "unverified"])
@pytest.mark.parametrize("by_client", [False, True])
def test_certificates_of_ones_own(
    way: str,
    by_client: bool,
    certificates: tls.Certificates,
    tls_options: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What the client reads is read by URLs, too."""
    options = dict(tls_options)
    for name in ("AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    if way.isupper():
        monkeypatch.setenv(way, str(certificates.authority))
    else:
        verify = str(certificates.authority) if way == "verify" else False
        options["client_kwargs"] = {"verify": verify}
    if by_client:
        options["config_kwargs"] = {"user_agent_extra": way}
    else:
        monkeypatch.setattr("xarray_nd2.io.cloud.S3Transport._ask_client", None)
    options["default_block_size"] = hash(way) % 1000  # so that it is a filesystem of its own
    read(options)


def test_certificates_that_are_not_trusted(tls_options: dict[str, Any]) -> None:
    with pytest.raises(ND2SourceError, match="(?i)certificate"):
        read(tls_options)
