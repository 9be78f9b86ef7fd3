"""Names of files: which are local, which look like an ND2, and what of them may be shown.

Pure functions over paths and URLs. Chained URLs, as fsspec has them, are links separated by ``::``
(``simplecache::s3://bucket/run.nd2``).
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

if TYPE_CHECKING:
    from collections.abc import Iterator

_SCHEME = re.compile(r"^[A-Za-z][A-Za-z0-9+.\-]+://")
_LOCAL_SCHEME = re.compile(r"^(?:file|local)(?:://|:(?=/|[A-Za-z]:))", re.IGNORECASE)
_LINK = re.compile(r"::(?![^\[]*\])")  # but not in an address such as [::1]
_QUERY = re.compile(r"\?[^\s'\"<>)\]]*=[^\s'\"<>)\]]*")
_SIGNED = re.compile(r"\?.*\b(?:sig|signature|token|access_token|x-amz-\w+)=", re.IGNORECASE)
_USER = re.compile(r"^[^/]*:(?![\d,]*(?:/|$)).*@")  # not a port; @ may be in a path as well
_SECRET = re.compile(
    r"secret|password|passphrase|passwd|token|key|credential|sas|auth|cookie|header|connection_string",
    re.IGNORECASE,
)
_LEAST_SECRET = 3  # characters; less would take words apart
_URL_IN_TEXT = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]+://[^\s'\"<>)\]]+")


def is_local(target: str) -> bool:
    """Whether a path or URL is a file of this machine.

    Examples
    --------
    >>> is_local("zip::run.zip"), is_local("file:///data/a::b.nd2")
    (False, True)
    """
    if _LOCAL_SCHEME.match(target):
        return True
    return "::" not in target and not _SCHEME.match(target)


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
    for link in target.split("::"):
        if _SCHEME.match(link) or "::" not in target:
            path = re.split(r"[?#]", link)[0] if _SCHEME.match(link) else link
            return path.lower().endswith(".nd2")
    return False


def public_url(target: str) -> str:
    """Remove what may be a secret: user and password, query string and fragment.

    Examples
    --------
    >>> public_url("https://me:pw@host/run.nd2?X-Amz-Signature=abc")
    'https://host/run.nd2'
    >>> public_url("/data/run?.nd2")
    '/data/run?.nd2'
    """
    return "::".join(_public_link(link) for link in _LINK.split(target))


def host_of(target: str) -> str:
    """Scheme and host of a URL, the bucket in those of object stores.

    Examples
    --------
    >>> host_of("simplecache::s3://bucket/day 1/run.nd2")
    's3://bucket'
    """
    for link in reversed(target.split("::")):
        if _SCHEME.match(link):
            scheme, _, rest = link.partition("://")
            return f"{scheme}://{rest.partition('/')[0]}"
    return ""


def public_text(text: str) -> str:
    """Remove what may be a secret from the URLs in a text, queries of all kinds of them too."""
    without = _URL_IN_TEXT.sub(lambda match: public_url(re.split(r"[?#]", match[0])[0]), text)
    return _QUERY.sub("", without)


def without_secrets(text: str, target: object, storage_options: Mapping[str, Any]) -> str:
    """Remove from a text what the user gave as a secret, in options or in a URL.

    Examples
    --------
    >>> without_secrets("no user hush", "s3://bucket/run.nd2", {"secret": "hush", "anon": False})
    'no user ***'
    """
    secrets = set(_secrets(storage_options, inside=False))
    if isinstance(target, str):
        user = target.partition("://")[2].rpartition("@")[0]
        secrets |= set(re.split(r"[/?#@:]", user.partition(":")[2]))
    for secret in sorted(secrets, key=len, reverse=True):
        if len(secret) >= _LEAST_SECRET:
            text = text.replace(secret, "***")
    return text


def _secrets(value: Any, *, inside: bool) -> Iterator[str]:
    if isinstance(value, Mapping):
        for key, part in value.items():
            yield from _secrets(part, inside=inside or bool(_SECRET.search(str(key))))
    elif isinstance(value, (list, tuple)):
        for part in value:
            yield from _secrets(part, inside=inside)
    elif inside and isinstance(value, str):
        yield value


def _public_link(link: str) -> str:
    if not _SCHEME.match(link):
        return link
    try:
        parts = urlsplit(link)
    except ValueError:  # no URL that anybody could open
        return re.split(r"[?#@]", link)[0]
    scheme, _, rest = link.partition("://")
    if _USER.match(rest):  # also where there is a character in it that ends a host
        return public_url(f"{scheme}://{rest.rpartition('@')[2]}")
    if _SIGNED.search(link):
        return link.partition("?")[0]
    host = parts.netloc.rpartition("@")[2]
    if parts.scheme in ("http", "https"):
        return urlunsplit((parts.scheme, host, parts.path, "", ""))
    # Elsewhere a question mark may belong to the name of the object.
    return link.replace(f"{parts.netloc}", host, 1)
