"""What may be shown of URLs and texts: nothing that the user gave as a secret, nothing signed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import quote, unquote, urlsplit, urlunsplit

from xarray_nd2.io.urls import has_scheme, links_of

if TYPE_CHECKING:
    from collections.abc import Iterator

_URL_IN_TEXT = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]+://[^\s'\"<>)\]]+")
_QUERY_IN_TEXT = re.compile(r"\?[^\s'\"<>)\]]*=[^\s'\"<>)\]]*")
_SIGNED_QUERY = re.compile(r"\?.*\b(?:sig|signature|token|access_token|x-amz-\w+)=", re.IGNORECASE)
# Not a port; @ may be in a path as well.
_USER_AND_PASSWORD = re.compile(r"^[^/]*:(?![\d,]*(?:/|$)).*@")
_SECRET_OPTION = re.compile(
    r"secret|password|passphrase|passwd|token|key|credential|sas|auth|cookie|header|connection_string",
    re.IGNORECASE,
)
_MIN_SECRET_CHARACTERS = 3  # less would take words apart


class NamedFile(Protocol):
    """A file as users see it in messages."""

    @property
    def name(self) -> str:
        """URL or path, without secrets."""

    def hide(self, text: str) -> str:
        """Remove from a text what may be a secret, that of this file included."""


def public_url(target: str) -> str:
    """Remove what may be a secret: user and password, query string and fragment.

    Examples
    --------
    >>> public_url("https://me:pw@host/run.nd2?X-Amz-Signature=abc")
    'https://host/run.nd2'
    >>> public_url("/data/run?.nd2")
    '/data/run?.nd2'
    """
    return "::".join(map(_public_link, links_of(target)))


def public_text(text: str) -> str:
    """Remove what may be a secret from the URLs in a text, queries of all kinds of them too."""
    without = _URL_IN_TEXT.sub(lambda match: public_url(re.split(r"[?#]", match[0])[0]), text)
    return _QUERY_IN_TEXT.sub("", without)


def without_secrets(text: str, target: object, storage_options: Mapping[str, Any]) -> str:
    """Remove from a text what the user gave as a secret, in options or in a URL.

    Examples
    --------
    >>> without_secrets("no user hush", "s3://bucket/run.nd2", {"secret": "hush", "anon": False})
    'no user ***'
    """
    given = set(_secrets_in(storage_options, under_secret_name=False))
    if isinstance(target, str):
        user = target.partition("://")[2].rpartition("@")[0]
        given |= set(re.split(r"[/?#@:]", user.partition(":")[2]))
    # As a client may show it: decoded or encoded as in a URL, or as Python would write it.
    plain = given | set(map(unquote, given))
    secrets = (
        plain
        | {quote(secret, safe="") for secret in plain}
        | {repr(secret)[1:-1] for secret in plain}
    )
    for secret in sorted(secrets, key=len, reverse=True):
        if len(secret) >= _MIN_SECRET_CHARACTERS:
            text = text.replace(secret, "***")
    return text


def _secrets_in(options: Any, *, under_secret_name: bool) -> Iterator[str]:
    if isinstance(options, Mapping):
        for name, value in options.items():
            secret = under_secret_name or bool(_SECRET_OPTION.search(str(name)))
            yield from _secrets_in(value, under_secret_name=secret)
    elif isinstance(options, (list, tuple)):
        for value in options:
            yield from _secrets_in(value, under_secret_name=under_secret_name)
    elif under_secret_name and isinstance(options, bytes):
        yield options.decode("latin-1")
    elif under_secret_name and isinstance(options, (str, int)) and not isinstance(options, bool):
        yield str(options)


def _public_link(link: str) -> str:
    if not has_scheme(link):
        return link
    try:
        parts = urlsplit(link)
    except ValueError:  # no URL that anybody could open
        return re.split(r"[?#@]", link)[0]
    scheme, _, rest = link.partition("://")
    if _USER_AND_PASSWORD.match(rest):  # also where there is a character in it that ends a host
        return public_url(f"{scheme}://{rest.rpartition('@')[2]}")
    if _SIGNED_QUERY.search(link):
        return link.partition("?")[0]
    host = parts.netloc.rpartition("@")[2]
    if parts.scheme in ("http", "https"):
        return urlunsplit((parts.scheme, host, parts.path, "", ""))
    # Elsewhere a question mark may belong to the name of the object.
    return link.replace(parts.netloc, host, 1)
