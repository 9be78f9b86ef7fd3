"""Names of objects: other ones for other content, and the same with other credentials."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.implementations.dirfs import DirFileSystem
from fsspec.spec import AbstractFileSystem

from xarray_nd2.io.answers import ObjectFacts
from xarray_nd2.io.source import ByteSource
from xarray_nd2.keeping.object_name import object_name


class HostFileSystem(AbstractFileSystem):  # type: ignore[misc]
    """One that is told its host as an argument without a name, as those of FTP and SFTP may be."""

    protocol = "hosted"

    def __init__(self, host: str, password: str = "", **options: Any) -> None:
        super().__init__(**options)


@dataclass
class OnFileSystem:
    """What names a path on a filesystem, as fsspec's OpenFile and UPath do."""

    fs: Any
    path: str


def name_of(target: Any, **options: Any) -> str:
    source = ByteSource.of(target, options)
    return object_name(replace(source, facts=ObjectFacts(1000, "tag")), "u2")


def azure(account: str, key: str) -> str:
    store = f"BlobEndpoint=http://127.0.0.1:10000/{account}"
    return f"DefaultEndpointsProtocol=http;AccountName={account};AccountKey={key};{store};"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("https://host/get?file=a.nd2", {}), ("https://host/get?file=b.nd2", {})),
        (
            ("https://host/a.nd2?versionId=1&X-Amz-Signature=x", {}),
            ("https://host/a.nd2?versionId=2&X-Amz-Signature=x", {}),
        ),
        (
            ("abfs://box/a.nd2", {"connection_string": azure("one", "k")}),
            ("abfs://box/a.nd2", {"connection_string": azure("two", "k")}),
        ),
        (
            ("zip://a.nd2", {"fo": Path("one.zip")}),
            ("zip://a.nd2", {"fo": Path("two.zip")}),
        ),
    ],
)
def test_urls_of_other_objects_have_other_names(one: Any, other: Any) -> None:
    assert name_of(one[0], **one[1]) != name_of(other[0], **other[1])


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (
            ("https://host/a.nd2?file=1&sig=x&se=5", {}),
            ("https://host/a.nd2?sig=y&se=6&file=1", {}),
        ),
        (("https://host/a.nd2?Expires=1&token=a", {}), ("https://me:pw@host/a.nd2?Expires=2", {})),
        (
            ("abfs://box/a.nd2", {"connection_string": azure("one", "k")}),
            ("abfs://box/a.nd2", {"connection_string": azure("one", "l")}),
        ),
    ],
)
def test_credentials_do_not_matter(one: Any, other: Any) -> None:
    assert name_of(one[0], **one[1]) == name_of(other[0], **other[1])


def test_the_filesystem_that_was_given_says_which_store_it_is() -> None:
    one, two = HostFileSystem("one"), HostFileSystem("two")
    web = fsspec.filesystem("http")
    names = [
        name_of(OnFileSystem(fs, path))
        for fs, path in (
            (one, "/a.nd2"),
            (two, "/a.nd2"),
            (DirFileSystem("/data", one), "a.nd2"),
            (DirFileSystem("/data", two), "a.nd2"),
            (DirFileSystem("/more", two), "a.nd2"),
            (web, "https://host/get?file=a.nd2"),
            (web, "https://host/get?file=b.nd2"),
        )
    ]
    assert len(set(names)) == len(names)
    with_password = HostFileSystem("one", password="hush")
    assert name_of(OnFileSystem(with_password, "/a.nd2")) == names[0]
