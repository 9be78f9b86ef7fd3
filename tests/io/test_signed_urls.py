"""Objects of S3 by signed URLs, and when the client reads instead."""

from __future__ import annotations

import datetime as dt
import io
import logging
import os
import pickle
import time
import traceback
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

import fsspec
import numpy as np
import pytest
import s3fs
import xarray as xr
from aiobotocore.credentials import AioRefreshableCredentials
from aiobotocore.session import AioSession
from fsspec.core import OpenFile

from tests.io.checking_store import (
    DENIED,
    EXPIRED,
    SKEWED,
    CheckingStore,
    error_answer,
)
from tests.io.test_process import in_fork
from xarray_nd2 import ND2NotFoundError, ND2PermissionError, ND2SourceError
from xarray_nd2.io import s3_urls, signed_urls
from xarray_nd2.testing import Fault, RangeServer, S3Server, write_nd2

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from xarray_nd2.testing.answers import Answer, Asked

FRAMES = np.random.default_rng(3).integers(0, 2**16, (4, 40, 60)).astype("uint16")
OTHERS = FRAMES[::-1].copy()


def content(frames: np.ndarray = FRAMES) -> bytes:
    file = io.BytesIO()
    write_nd2(file, frames, "TYX")
    return file.getvalue()


@pytest.fixture
def store() -> Iterator[CheckingStore]:
    with CheckingStore() as server:
        server.put("bucket/run.nd2", content())
        yield server


def open_image(store: CheckingStore, name: str = "run.nd2", **options: Any) -> xr.DataArray:
    ds = xr.open_dataset(
        f"s3://bucket/{name}",
        engine="nd2",
        cache=False,
        max_gap=0,
        patience_seconds=1.5,
        storage_options={**store.options, **options},
    )
    image: xr.DataArray = ds.image
    return image


def check(image: xr.DataArray, expected: np.ndarray = FRAMES) -> None:
    np.testing.assert_array_equal(image.isel(C=0, X=slice(3, 50)).values, expected[..., 3:50])


def refuse_urls(answer: Answer) -> Callable[[str, Asked], Answer | None]:
    return lambda by, asked: answer if by == "url" else None


# ------------------------------------------------------------------------------- the signature


@pytest.mark.parametrize(
    "name",
    [
        *("run.nd2", "a b+c/é&=.nd2", "x//y/../z.nd2", "./run.nd2", "%41%2f;,@$!~*'(run).nd2"),
        *("hash#tag.nd2", "day:1/run.nd2"),
    ],
)
def test_signed_once_for_any_name(name: str, store: CheckingStore) -> None:
    store.put(f"bucket/{name}", content(OTHERS))
    image = open_image(store, name)
    check(image, OTHERS)
    check(pickle.loads(pickle.dumps(image)), OTHERS)
    assert {(one.by, one.status) for one in store.seen} == {("url", 206)}
    assert len({one.signature for one in store.seen}) == 1


def test_opening_takes_as_many_requests_as_ever(s3: S3Server) -> None:
    for name in ("one.nd2", "two.nd2"):
        s3.put("bucket", name, content())
    s3.latency = 0.05
    try:
        for name in ("one.nd2", "two.nd2"):
            s3.log.clear()
            xr.open_dataset(f"s3://bucket/{name}", engine="nd2", storage_options=s3.storage_options)
            assert (s3.log.requests, s3.log.round_trips) == (2, 1)
            assert {entry.method for entry in s3.log.entries} == {"GET"}
    finally:
        s3.latency = 0.0


def test_a_users_filesystem_is_not_even_connected(store: CheckingStore) -> None:
    fs = s3fs.S3FileSystem(**store.options, skip_instance_cache=True)
    before = dict(vars(fs))
    check(xr.open_dataset(OpenFile(fs, "bucket/run.nd2"), engine="nd2").image)
    assert store.by() == ["url"]
    assert dict(vars(fs)) == before


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize("way", ["url", "filesystem"])
def test_forks_sign_for_themselves(way: str, store: CheckingStore) -> None:
    image = open_image(store)
    if way == "filesystem":
        fs = s3fs.S3FileSystem(**store.options)
        image = xr.open_dataset(OpenFile(fs, "bucket/run.nd2"), engine="nd2", cache=False).image
    check(image)
    assert in_fork(lambda: image.isel(T=1, C=0).values, FRAMES[1])
    check(image)
    assert store.by() == ["url"]


def test_requester_pays(store: CheckingStore) -> None:
    image = open_image(store, requester_pays=True)
    check(image)
    assert {one.asked.headers.get("x-amz-request-payer") for one in store.seen} == {"requester"}
    assert store.by() == ["url"]


def test_versions(store: CheckingStore) -> None:
    for version in ("v/1=", "v 2"):
        check(open_image(store, f"run.nd2?versionId={version}", version_aware=True))
        told = [dict(parse_qsl(urlsplit(one.asked.target).query)) for one in store.seen]
        assert {one["versionId"] for one in told} == {version}
        assert store.by() == ["url"]


def test_anonymous(store: CheckingStore) -> None:
    store.public = True
    options = {"anon": True, "endpoint_url": store.endpoint_url}
    url = "s3://bucket/run.nd2"
    check(xr.open_dataset(url, engine="nd2", storage_options=options).image)
    assert all("?" not in one.asked.target for one in store.seen)
    assert store.by() == ["anonymous"]


@pytest.mark.parametrize("scheme", ["s3", "s3a"])
def test_empty_object(scheme: str, s3: S3Server) -> None:
    s3.put("bucket", "empty.nd2", b"")
    with pytest.raises(ValueError, match="empty|0 bytes"):
        xr.open_dataset(
            f"{scheme}://bucket/empty.nd2", engine="nd2", storage_options=s3.storage_options
        )


# ------------------------------------------------------------------------------- signed anew


def test_before_it_expires(store: CheckingStore, monkeypatch: pytest.MonkeyPatch) -> None:
    image = open_image(store)
    first = {one.signature for one in store.seen}
    for seconds in (signed_urls.USED_SECONDS - 5, signed_urls.USED_SECONDS + 1, -1):
        time.sleep(1.1)  # a signature tells its second
        store.seen.clear()
        later = SimpleNamespace(
            time=lambda seconds=seconds: time.time() + seconds, monotonic=time.monotonic
        )
        for module in (signed_urls, s3_urls):
            monkeypatch.setattr(module, "time", later)
        check(image)
        signatures = {one.signature for one in store.seen}
        assert (signatures == first) == (0 < seconds < signed_urls.USED_SECONDS)
        assert len(signatures) == 1
        assert {one.status for one in store.seen} == {206}
        first = signatures
    assert signed_urls.USED_SECONDS < signed_urls.VALID_SECONDS / 2


def test_one_that_has_expired_early(store: CheckingStore) -> None:
    image = open_image(store)
    ended = {one.signature for one in store.seen}
    store.refuse = lambda by, asked: (
        error_answer(*EXPIRED) if any(one in asked.target for one in ended) else None
    )
    time.sleep(1.1)
    for _ in range(2):
        store.seen.clear()
        check(image)
        assert {one.signature for one in store.seen if one.status == 206}.isdisjoint(ended)
        assert {one.by for one in store.seen} == {"url"}
    assert {one.status for one in store.seen} == {206}


def test_credentials_that_rotate(store: CheckingStore) -> None:
    """Of a session that finds new ones before the old ones end."""
    made: list[str] = []

    def metadata(minutes: float) -> dict[str, str]:
        made.append(f"KEY{len(made)}")
        store.secrets[made[-1]] = f"hush-{made[-1]}"
        end = dt.datetime.now(dt.UTC) + dt.timedelta(minutes=minutes)
        return {
            "access_key": made[-1],
            "secret_key": store.secrets[made[-1]],
            "token": "",
            "expiry_time": end.isoformat(),
        }

    lasts_minutes = 1.0

    async def refresh() -> dict[str, str]:
        return metadata(lasts_minutes)

    session = AioSession()
    session._credentials = AioRefreshableCredentials.create_from_metadata(
        metadata(60), refresh, "test"
    )
    fs = s3fs.S3FileSystem(
        session=session, endpoint_url=store.endpoint_url, skip_instance_cache=True
    )
    image = xr.open_dataset(OpenFile(fs, "bucket/run.nd2"), engine="nd2", cache=False).image
    check(image)
    assert {(one.by, one.key) for one in store.seen} == {("url", "KEY0")}
    # They end before their time: whoever revokes them makes new ones be found.
    del store.secrets["KEY0"]
    session._credentials._expiry_time = dt.datetime.now(dt.UTC)
    store.seen.clear()
    check(image)
    assert {(one.by, one.key) for one in store.seen if one.status == 206} == {("url", "KEY1")}
    # These end within a minute, so that none is used for longer than a second.
    count = len(made)
    for _ in range(2):
        time.sleep(1.1)
        check(image)
    assert len(made) >= count + 2
    lasts_minutes = 60.0
    time.sleep(1.1)
    check(image)
    count = len(made)
    time.sleep(1.1)
    store.seen.clear()
    check(image)
    assert len(made) == count
    assert {(one.by, one.status) for one in store.seen} == {("url", 206)}


def test_a_filesystem_that_its_user_connects_anew(
    store: CheckingStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "OLD")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hush-old")
    store.secrets["OLD"] = "hush-old"
    fs = s3fs.S3FileSystem(endpoint_url=store.endpoint_url, skip_instance_cache=True)
    fs.connect()
    image = xr.open_dataset(OpenFile(fs, "bucket/run.nd2"), engine="nd2", cache=False).image
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "NEW")
    store.secrets["NEW"] = store.secrets.pop("OLD")
    with pytest.raises(ND2PermissionError, match="not in our records"):
        check(image)
    fs.connect(refresh=True)
    store.seen.clear()
    check(image)
    assert {(one.by, one.key) for one in store.seen if one.status == 206} == {("url", "NEW")}


# ------------------------------------------------------------------------------- the client reads

REFUSALS = {
    "another region, 301": error_answer(301, "PermanentRedirect", "Use the specified endpoint"),
    "another region, 400": error_answer(
        400, "AuthorizationQueryParametersError", "the region 'us-east-1' is wrong"
    ),
    "clock": error_answer(*SKEWED),
    "policy": error_answer(*DENIED),
    "unknown": error_answer(501, "NotImplemented", "A query that implies what is not implemented"),
    "unauthorized": error_answer(401, "Unauthorized", "no"),
}


@pytest.mark.parametrize("why", REFUSALS)
def test_refused_urls(why: str, store: CheckingStore, monkeypatch: pytest.MonkeyPatch) -> None:
    store.put("bucket/other.nd2", content(OTHERS))
    store.refuse = refuse_urls(REFUSALS[why])
    image = open_image(store)
    assert store.by() == ["client", "url"]
    # What did not work is not tried for each read, nor for other objects.
    check(image)
    check(open_image(store, "other.nd2"), OTHERS)
    assert store.by() == ["client"]
    # After a while it is.
    store.refuse = lambda by, asked: None
    now = time.monotonic
    later = SimpleNamespace(
        time=time.time, monotonic=lambda: now() + signed_urls.CLIENT_READS_SECONDS + 1
    )
    monkeypatch.setattr(signed_urls, "time", later)
    check(image)
    assert store.by() == ["url"]


def test_redirects_go_to_the_client(store: CheckingStore) -> None:
    """No signed URL is taken to another place, nor is that asked for anything by it."""
    with RangeServer() as elsewhere:
        to = ("Location", elsewhere.url("run.nd2"))
        store.refuse = refuse_urls(error_answer(307, "TemporaryRedirect", "Go there", to))
        check(open_image(store))
        assert store.by() == ["client", "url"]
        assert elsewhere.log.requests == 0


def test_a_refused_client_has_the_last_word(store: CheckingStore) -> None:
    image = open_image(store)
    store.refuse = lambda by, asked: error_answer(
        *(DENIED if by == "url" else (403, "AccessDenied", "said to the client"))
    )
    for _ in range(2):
        with pytest.raises(ND2PermissionError, match="said to the client"):
            check(image)
    assert store.by() == ["client", "url"]
    store.refuse = lambda by, asked: None
    check(image)
    assert store.by() == ["url"]


def test_a_clock_that_is_wrong(store: CheckingStore) -> None:
    store.clock_ahead = -3600.0
    with pytest.raises(ND2PermissionError, match="The difference between the request time"):
        open_image(store)


def test_wrong_secret(store: CheckingStore) -> None:
    with pytest.raises(ND2PermissionError, match="signature does not match") as caught:
        open_image(store, secret="hush-wrong")
    assert_hidden("".join(traceback.format_exception(caught.value)), store)


@pytest.mark.parametrize("place", ["bucket/nothing.nd2", "no-such-bucket/run.nd2"])
def test_nothing_there(place: str, s3: S3Server) -> None:
    with pytest.raises(ND2NotFoundError, match="there is no such file"):
        xr.open_dataset(f"s3://{place}", engine="nd2", storage_options=s3.storage_options)
    # One that was cancelled may come late, so those of other places are left out.
    assert sum(place in request.path for request in s3.log.entries) <= 2


def test_no_credentials(store: CheckingStore, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nowhere")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nowhere")
    options = {"endpoint_url": store.endpoint_url}
    with pytest.raises(ND2PermissionError, match="Unable to locate credentials"):
        xr.open_dataset("s3://bucket/run.nd2", engine="nd2", storage_options=options)


# ------------------------------------------------------------------------------- secrets


def assert_hidden(text: str, store: CheckingStore) -> None:
    assert "X-Amz-" not in text
    for secret in {*store.secrets.values(), *(one.signature for one in store.seen)} - {""}:
        assert secret not in text


@pytest.mark.parametrize("fault", ["reset", "short", "gzip", "early_end", 400, 403, 404, 500])
def test_nothing_signed_is_shown(
    fault: Any,
    store: CheckingStore,
    caplog: pytest.LogCaptureFixture,
    recwarn: pytest.WarningsRecorder,
) -> None:
    image = open_image(store)
    assert_hidden(f"{image!r} {image.attrs} {image._repr_html_()}", store)
    assert not any(one.signature.encode() in pickle.dumps(image) for one in store.seen)
    store.faults = lambda *_: Fault(fault)
    with caplog.at_level(logging.DEBUG), pytest.raises(ND2SourceError) as caught:
        check(image)
    shown = "".join(traceback.format_exception(caught.value)) + repr(caught.value)
    assert_hidden(shown, store)
    assert not any(one.signature.encode() in pickle.dumps(caught.value) for one in store.seen)
    assert not [str(one.message) for one in recwarn]
    # Botocore says at this level what it signs, and how.
    ours = [one for one in caplog.records if not one.name.startswith("botocore")]
    assert_hidden(" ".join(one.getMessage() for one in ours), store)
    assert "X-Amz-Signature=" not in caplog.text


def test_what_holds_a_url_does_not_show_it(store: CheckingStore) -> None:
    fs = fsspec.filesystem("s3", **store.options)

    async def signed() -> Any:
        return await signed_urls.SignedObject(s3_urls.S3Signer, fs, "bucket", "run.nd2", None).url()

    url = fsspec.asyn.sync(fs.loop, signed)
    assert url is not None
    assert_hidden(f"{url!r} {url.request!r} {vars(signed_urls)} {vars(s3_urls)}", store)
