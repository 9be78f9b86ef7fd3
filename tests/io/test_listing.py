"""Patterns keep the host and the account of their URL, which the paths of a filesystem are without."""

from __future__ import annotations

from typing import Any

import pytest
from fsspec.spec import AbstractFileSystem

from xarray_nd2.io import listing


class Listed(AbstractFileSystem):  # type: ignore[misc]
    """A filesystem whose paths have no host."""

    protocol = "listed"
    found: tuple[str, ...] = ()

    @classmethod
    def _strip_protocol(cls, path: Any) -> Any:
        return path

    def glob(self, path: Any, maxdepth: Any = None, **keywords: Any) -> Any:
        return {name: {"type": "file"} for name in self.found}


@pytest.mark.parametrize(
    ("text", "pattern", "found", "expected"),
    [
        ("sftp://me@host/d/*.nd2", "/d/*.nd2", ["/d/b.nd2"], ["sftp://me@host/d/b.nd2"]),
        ("sftp://[::1]/d/*.nd2", "/d/*.nd2", ["/d/b.nd2"], ["sftp://[::1]/d/b.nd2"]),
        (
            "abfs://c@account.dfs.core.windows.net/d/r?.nd2",
            "c/d/r?.nd2",
            ["c/d/r2.nd2", "c/d/r1.nd2"],
            [
                "abfs://c@account.dfs.core.windows.net/d/r1.nd2",
                "abfs://c@account.dfs.core.windows.net/d/r2.nd2",
            ],
        ),
        (
            "gs://bucket/**/[ab].nd2",
            "bucket/**/[ab].nd2",
            ["bucket/x/a.nd2"],
            ["gs://bucket/x/a.nd2"],
        ),
        (
            "simplecache::s3://bucket/*.nd2",
            "bucket/*.nd2",
            ["bucket/b 10.nd2", "bucket/b 9.nd2"],
            ["simplecache::s3://bucket/b 9.nd2", "simplecache::s3://bucket/b 10.nd2"],
        ),
        ("zip://*.nd2::s3://b/a.zip", "*.nd2", ["b.nd2"], ["zip://b.nd2::s3://b/a.zip"]),
    ],
)
def test_urls_of_matches(
    text: str,
    pattern: str,
    found: list[str],
    expected: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store = Listed(skip_instance_cache=True)
    store.found = tuple(found)
    monkeypatch.setattr(listing, "filesystem_of", lambda *_: (store, pattern))
    assert listing.matching_files(text, {}) == expected


@pytest.mark.parametrize(
    "text",
    ["http://[::1]:80/run.nd2", "https://host/run.nd2?a[1]=2", "sftp://[::1]/run.nd2", "a.nd2"],
)
def test_no_pattern(text: str) -> None:
    assert listing.matching_files(text, {}) == [text]


def test_a_chain_of_a_web_server() -> None:
    with pytest.raises(ValueError, match="web server cannot list"):
        listing.matching_files("simplecache::https://host/*.nd2", {})
