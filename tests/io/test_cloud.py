"""The filesystems that read clouds: a user's own are left as they are."""

from __future__ import annotations

import io
import pickle
from typing import TYPE_CHECKING, Any

import fsspec
import numpy as np
import pytest
import s3fs
import xarray as xr
from fsspec.core import OpenFile
from upath import UPath

from xarray_nd2 import ND2SourceError
from xarray_nd2.io import retry
from xarray_nd2.io.source import ByteSource
from xarray_nd2.testing import Fault, write_nd2

if TYPE_CHECKING:
    from collections.abc import Iterator

    from xarray_nd2.testing import S3Server

FRAMES = np.arange(3 * 8 * 9, dtype="uint16").reshape(3, 1, 8, 9)
# With these a URL's filesystem is the very one that a user has of the same options.
SAME = {"max_pool_connections": 64, "retries": {"total_max_attempts": 1}}


@pytest.fixture
def options(s3: S3Server) -> Iterator[dict[str, Any]]:
    file = io.BytesIO()
    write_nd2(file, FRAMES, "TCYX")
    s3.put("bucket", "own.nd2", file.getvalue())
    yield {**s3.storage_options, "config_kwargs": SAME}
    s3.faults = None


@pytest.mark.parametrize("way", ["url", "upath", "filesystem"])
def test_a_users_filesystem_is_not_altered(way: str, options: dict[str, Any], s3: S3Server) -> None:
    fs = fsspec.filesystem("s3", **options)
    url = "s3://bucket/own.nd2"
    target: Any = url
    given: Any = {}
    if way == "url":
        given = {"storage_options": options}
        assert fsspec.url_to_fs(url, **options)[0] is fs
    else:
        target = UPath(url, **options) if way == "upath" else OpenFile(fs, "bucket/own.nd2")
        assert target.fs is fs
    fs.connect()
    before = dict(vars(fs))
    ds = xr.open_dataset(target, engine="nd2", cache=False, **given)
    np.testing.assert_array_equal(ds.image.values, FRAMES)
    s3.faults = lambda number, *_: Fault(503) if number % 2 else None
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(ds)).image.values, FRAMES)
    assert dict(vars(fs)) == before
    assert fs.retries == s3fs.S3FileSystem.retries > 1


def test_the_source_holds_what_the_user_gave(options: dict[str, Any]) -> None:
    fs = s3fs.S3FileSystem(**options)
    source = ByteSource.of(OpenFile(fs, "bucket/own.nd2")).begin(9, 9)[0]
    assert isinstance(source.target, tuple)
    assert source.target[0] is fs
    assert type(pickle.loads(pickle.dumps(source)).target[0]) is s3fs.S3FileSystem


def test_one_attempt_of_any_kind_of_filesystem(
    options: dict[str, Any], s3: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retry, "FIRST_PAUSE_SECONDS", 0.001)

    class Mine(s3fs.S3FileSystem):  # type: ignore[misc]
        pass

    for kind in (s3fs.S3FileSystem, Mine):
        file = OpenFile(kind(**options), "bucket/own.nd2")
        ds = xr.open_dataset(file, engine="nd2", max_gap=1000, patience_seconds=0.5)  # one request
        s3.log.clear()
        s3.faults = lambda *_: Fault(500)
        with pytest.raises(ND2SourceError, match=r"given up after (\d+) attempts") as caught:
            ds.image.isel(T=1).load()
        assert f"after {s3.log.requests} attempts" in str(caught.value)
        s3.faults = None


def test_what_a_user_changes_later_counts(options: dict[str, Any], s3: S3Server) -> None:
    """Settings of the filesystem, and credentials of one that was made anew."""
    seen: list[str] = []
    answer = s3.answer

    def answer_and_note(asked: Any) -> Any:
        seen.append(
            f"{asked.headers.get('authorization')} {asked.headers.get('x-amz-request-payer')}"
        )
        return answer(asked)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(s3, "answer", answer_and_note)
        given = {name: value for name, value in options.items() if name not in ("key", "secret")}
        for key in ("OLDKEY", "NEWKEY"):
            patch.setenv("AWS_ACCESS_KEY_ID", key)
            patch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
            fs = s3fs.S3FileSystem(**given, skip_instance_cache=True)
            seen.clear()
            ds = xr.open_dataset(OpenFile(fs, "bucket/own.nd2"), engine="nd2")
            assert seen
            assert all(f"{key}/" in text for text in seen)
        fs.req_kw["RequestPayer"] = "requester"
        seen.clear()
        ds.image.load()
        assert seen
        assert all(text.endswith(" requester") for text in seen)
