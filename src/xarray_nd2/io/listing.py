"""Which files a pattern means, on any store that lists them."""

from __future__ import annotations

import glob
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import fsspec

from xarray_nd2.errors import ND2NotFoundError
from xarray_nd2.io.choose import filesystem_of
from xarray_nd2.io.failures import nd2_errors
from xarray_nd2.io.source import ByteSource
from xarray_nd2.io.urls import has_scheme, is_local, links_of, local_path

if TYPE_CHECKING:
    from collections.abc import Mapping

_PATTERN_PARTS: Final = re.compile(r"[*?]|\[[^\]]+\]")
_HOST_ADDRESS: Final = re.compile(r"(?<=://)\[[^\]]*\]|(?<=@)\[[^\]]*\]")
_WEB_SCHEME: Final = re.compile(r"^https?://", re.IGNORECASE)


def matching_files(text: str, storage_options: Mapping[str, Any]) -> list[str]:
    """Files that a text means: one, or those that match it as a pattern, by their numbers in order.

    Parameters
    ----------
    text : str
        A path or URL, which may be chained. ``*``, ``**``, ``?`` and ``[…]`` are those of fsspec.
    storage_options : mapping
        Of the URL's filesystem.

    Raises
    ------
    ValueError
        A URL of a web server, which cannot list, has a ``*``.
    ND2NotFoundError
        Nothing matches.
    ND2SourceError
        The store cannot be listed.
    """
    link = _link_of_path(text)
    source = ByteSource.of(text, storage_options)
    if _WEB_SCHEME.match(link):  # where a question mark begins a query
        if "*" in link:
            raise ValueError(
                f"{source.name}: a web server cannot list its files; give a list of URLs"
            )
        return [text]
    if not _PATTERN_PARTS.search(_HOST_ADDRESS.sub("", link)):
        return [text]
    with nd2_errors(source.name, "listing", source.hide):
        found = _listed(text, storage_options)
    if not found:
        raise ND2NotFoundError("no file matches", source.name)
    return sorted(found, key=natural_order)


def natural_order(name: str) -> tuple[list[str | int], str]:
    """What to sort names by, so that numbers in them count as numbers.

    Examples
    --------
    >>> sorted(["run10.nd2", "run9.nd2", "run1.nd2"], key=natural_order)
    ['run1.nd2', 'run9.nd2', 'run10.nd2']
    """
    parts = re.split(r"([0-9]+)", name)
    return [int(part) if at % 2 else part for at, part in enumerate(parts)], name


def _link_of_path(text: str) -> str:
    """The link of a chained URL that has the path of the file in it."""
    links = [text] if is_local(text) else links_of(text)
    return next((link for link in links if has_scheme(link)), links[0])


def _listed(text: str, storage_options: Mapping[str, Any]) -> list[str]:
    if is_local(text):
        fs, pattern = fsspec.filesystem("file"), local_path(text)
        if not os.path.isabs(pattern):  # noqa: PTH117  (a Path would change the pattern)
            # Brackets in the name of the working folder are no pattern.
            pattern = f"{glob.escape(str(Path.cwd()))}/{pattern}"
    else:
        fs, pattern = filesystem_of(text, storage_options)
    fs.invalidate_cache()  # of an earlier listing
    matches = fs.glob(pattern, detail=True)
    paths = [path for path, facts in matches.items() if facts.get("type") != "directory"]
    if is_local(text):
        # A path with these is no chain of URLs, as it would be if it stood alone.
        return [f"file://{path}" if "::" in path else path for path in paths]
    link = _link_of_path(text)
    before, _, behind = text.partition(link)
    return [f"{before}{_url_like(link, pattern, path, fs)}{behind}" for path in paths]


def _url_like(link: str, pattern: str, path: str, fs: Any) -> str:
    """URL of a path that matches the pattern of a link.

    Host and account stay as they are in the link, since the filesystem's paths may be without.
    """
    shared = 0
    while shared < min(len(link), len(pattern)) and link[-1 - shared] == pattern[-1 - shared]:
        shared += 1
    head = pattern[: len(pattern) - shared]
    if _PATTERN_PARTS.search(head) or not path.startswith(head):
        return str(fs.unstrip_protocol(path))
    return link[: len(link) - shared] + path[len(head) :]
