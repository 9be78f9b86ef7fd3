"""A name for one version of an object, the same in all processes, that holds no secret."""

from __future__ import annotations

import hashlib
import inspect
import os
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qsl, urlsplit

from xarray_nd2.io.secrets import public_url
from xarray_nd2.io.urls import links_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from xarray_nd2.io.source import ByteSource

# Options of a filesystem that say which store it is. All others, credentials above all, do not.
_LOCATING_OPTIONS: Final = frozenset(
    {"endpoint_url", "endpoint", "endpoint_override", "base_url", "host", "port", "share"}
    | {"account_name", "account_host", "project", "target_protocol", "fo", "path", "root"}
)
_LOCATING_CONNECTION: Final = re.compile(r"(AccountName|EndpointSuffix|\w*Endpoint)=(.*)", re.I)
# Parameters that are other ones whenever a URL is signed: of S3 and its like, of Azure, of tokens.
_SIGNING_PARAMETER: Final = re.compile(
    r"x-(amz|goog|oss|cos|obs)-.*|(aws|oss)accesskeyid|googleaccessid|key-pair-id|policy|expires"
    r"|s(v|s|rt|r|p|e|t|pr|ip|ig|koid|ktid|kt|ke|ks|kv)|signature|(access_)?token",
    re.IGNORECASE,
)


def object_name(source: ByteSource, decoding: object) -> str:
    """Name for one version of an object, decoded in one way; the same in all processes.

    Of the options of its filesystem only those that say which store it is matter, and of the query
    of a URL what is no signature. So the name stays the same with other credentials, and holds none.

    Parameters
    ----------
    source : ByteSource
        The opened object.
    decoding : object
        By its `repr`, how the bytes of frames become pixels.
    """
    assert source.facts is not None
    target = source.target
    if isinstance(target, tuple):
        locating = sorted(_locating(_arguments(target[0])))
        url = target[1]
    else:
        locating = sorted(_locating(source.storage_options))
        url = str(target)
    version = (source.facts.size, source.facts.version)
    told = (source.name, locating, version, decoding, sorted(_unsigned_parameters(url)))
    return hashlib.sha256(repr(told).encode()).hexdigest()[:40]


def _locating(options: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for key, value in options.items():
        if key == "connection_string" and isinstance(value, str):
            for part in filter(None, map(_LOCATING_CONNECTION.fullmatch, value.split(";"))):
                yield part[1], public_url(part[2])
        elif isinstance(value, Mapping):
            yield from _locating(value)
        elif hasattr(value, "storage_args") and hasattr(value, "protocol"):
            yield key, str(value.protocol)  # a filesystem within this one
            yield from _locating(_arguments(value))
        elif key in _LOCATING_OPTIONS and isinstance(value, (str, int, os.PathLike)):
            yield key, public_url(str(value))


def _arguments(fs: Any) -> Mapping[str, Any]:
    """What a filesystem was made with, by name."""
    given = inspect.signature(type(fs).__init__).bind_partial(
        fs, *fs.storage_args, **fs.storage_options
    )
    named = dict(given.arguments)
    del named[next(iter(named))]  # itself
    return named


def _unsigned_parameters(url: str) -> Iterator[tuple[str, str]]:
    """What the queries of a URL over HTTP ask for; of other URLs they are part of the name."""
    for link in links_of(url):
        if link.lower().startswith(("http://", "https://")):
            for name, value in parse_qsl(urlsplit(link).query, keep_blank_values=True):
                if not _SIGNING_PARAMETER.fullmatch(name):
                    yield name, value
