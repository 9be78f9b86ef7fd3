"""Names of files: which are local, which look like an ND2, and which store they are in.

Pure functions over paths and URLs. Chained URLs, as fsspec has them, are links separated by ``::``
(``simplecache::s3://bucket/run.nd2``).
"""

from __future__ import annotations

import ipaddress
import os
import re
from contextlib import suppress
from typing import Any
from urllib.parse import unquote

_URL_SCHEME = re.compile(r"^[A-Za-z][A-Za-z0-9+.\-]+://")
_LOCAL_SCHEME = re.compile(r"^(?:file|local)(?:://|:(?=/|[A-Za-z]:))", re.IGNORECASE)
_IPV6_ADDRESS = re.compile(r"(?<=://\[)[^\[\]]+(?=\])|(?<=@\[)[^\[\]]+(?=\])")
_LINK_SEPARATOR = re.compile(r"::(?![^\[]*\])")  # but not in an address such as [::1]


def has_scheme(link: str) -> bool:
    """Whether a link begins with the scheme of a URL, such as ``s3://``."""
    return _URL_SCHEME.match(link) is not None


def links_of(target: str) -> list[str]:
    """Links of a chained URL; one of another URL or path.

    Examples
    --------
    >>> links_of("zip::https://[::1]/run.zip")
    ['zip', 'https://[::1]/run.zip']
    """
    return _LINK_SEPARATOR.split(target)


def with_long_addresses(target: str) -> str:
    """A URL whose IPv6 addresses have no ``::``, which fsspec takes for the end of a link.

    Examples
    --------
    >>> with_long_addresses("http://[::1]:8080/run.nd2")
    'http://[0000:0000:0000:0000:0000:0000:0000:0001]:8080/run.nd2'
    """

    def lengthened(address: re.Match[str]) -> str:
        with suppress(ValueError):
            return ipaddress.IPv6Address(address[0]).exploded
        return address[0]

    return _IPV6_ADDRESS.sub(lengthened, target)


def is_local(target: str) -> bool:
    """Whether a path or URL is a file of this machine.

    Examples
    --------
    >>> is_local("zip::run.zip"), is_local("file:///data/a::b.nd2")
    (False, True)
    """
    if _LOCAL_SCHEME.match(target):
        return True
    return "::" not in target and not has_scheme(target)


def local_path(target: str) -> str:
    """Path of a local file.

    Examples
    --------
    >>> local_path("file:///data/run.nd2")
    '/data/run.nd2'
    """
    match = _LOCAL_SCHEME.match(target)
    return os.path.expanduser(target[match.end() :] if match else target)  # noqa: PTH111


def open_file_path(file: Any) -> str | None:
    """Path of an open file if it is an ordinary one that can be opened again, otherwise None."""
    name = getattr(file, "name", None)
    if not isinstance(name, str) or type(file).__module__ != "_io":
        return None
    try:
        same = os.path.samestat(os.fstat(file.fileno()), os.stat(name))  # noqa: PTH116
    except OSError:
        return None
    return os.path.abspath(name) if same else None  # noqa: PTH100


def looks_like_nd2(target: str) -> bool:
    """Whether the name of a path or URL ends in ``.nd2``; query strings are ignored.

    Examples
    --------
    >>> looks_like_nd2("https://host/run.ND2?X-Amz-Signature=abc")
    True
    >>> looks_like_nd2("simplecache::s3://bucket/run.nd2")
    True
    """
    links = links_of(target)
    for link in links:
        if has_scheme(link) or len(links) == 1:
            path = re.split(r"[?#]", link)[0] if has_scheme(link) else link
            return path.lower().endswith(".nd2")
    return False


def file_name(target: str) -> str:
    """Name of the file of a path or URL: of the first link of a chain that has one.

    Examples
    --------
    >>> file_name("s3://bucket/day%201/run.nd2"), file_name("zip://inner.nd2::all.zip")
    ('run.nd2', 'inner.nd2')
    """
    links = links_of(target)
    link = next((link for link in links if has_scheme(link) or len(links) == 1), target)
    if not has_scheme(link):
        return os.path.basename(link)  # noqa: PTH119
    return unquote(link.partition("://")[2].rpartition("/")[2])


def host_of(target: str) -> str:
    """Scheme and host of a URL, the bucket in those of object stores; empty for a path.

    Examples
    --------
    >>> host_of("simplecache::s3://bucket/day 1/run.nd2")
    's3://bucket'
    """
    for link in reversed(links_of(target)):
        if has_scheme(link):
            scheme, _, rest = link.partition("://")
            return f"{scheme}://{rest.partition('/')[0]}"
    return ""
