"""Following redirects, without taking credentials to another origin."""

from __future__ import annotations

from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

from xarray_nd2.io.failures import StatusError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from aiohttp import ClientResponse, ClientSession
    from yarl import URL

REDIRECT_STATUSES: Final = frozenset({301, 302, 303, 307, 308})
MAX_REDIRECTS: Final = 10
# What is for the way to any server, and not for the server that it was given for.
_OPTIONS_OF_THE_WAY: Final = frozenset(
    {
        *("timeout", "trust_env", "proxy", "proxy_auth", "proxy_headers"),
        *("ssl", "ssl_context", "verify_ssl", "fingerprint"),
        *("read_bufsize", "max_line_size", "max_field_size"),
    }
)
_DECIDED_HERE: Final = frozenset(
    {"allow_redirects", "max_redirects", "auto_decompress", "raise_for_status"}
)


@asynccontextmanager
async def following_redirects(
    session: ClientSession,
    url: URL | str,
    headers: Mapping[str, str],
    user_headers: Mapping[str, str],
    options: Mapping[str, Any],
    session_options: Mapping[str, Any],
) -> AsyncIterator[ClientResponse]:
    """Answer to a GET request, from where its redirects lead.

    The first server's origin (scheme, host and port) gets everything. What it refers to elsewhere is
    asked for with `headers` only, by a session that shares connections and knows nothing else: a
    signed URL needs no more.

    Parameters
    ----------
    session : aiohttp.ClientSession
        Of the user's filesystem, with what it adds to each request by itself.
    url : yarl.URL or str
        What to ask for.
    headers : mapping
        Of this request, for any server.
    user_headers, options : mapping
        Headers, and other arguments of aiohttp's requests, for the origin of `url`.
    session_options : mapping
        What the session was made with.

    Raises
    ------
    StatusError
        A redirect that leads nowhere, or one too many.
    """
    import aiohttp
    from multidict import CIMultiDict
    from yarl import URL

    follows = options.get("allow_redirects", True)
    options = {key: value for key, value in options.items() if key not in _DECIDED_HERE}
    all_headers = CIMultiDict(user_headers)
    all_headers.update(headers)
    async with AsyncExitStack() as stack:
        at = URL(url)
        home: tuple[str, str | None, int | None] | None = _origin_of(at)
        for _ in range(1 + MAX_REDIRECTS):
            response = await session.get(
                at,
                headers=all_headers,
                allow_redirects=False,
                auto_decompress=False,  # an encoded answer is refused by what its headers say
                raise_for_status=False,
                **options,
            )
            location = response.headers.get("Location")
            if response.status not in REDIRECT_STATUSES or location is None or not follows:
                async with response:
                    yield response
                return
            response.release()
            user, password, at = at.user, at.password, at.join(URL(location))
            options = {key: value for key, value in options.items() if key != "params"}
            if _origin_of(at) == home:
                at = at if at.user else at.with_user(user).with_password(password)
                continue
            home = None  # nor back there, once another server says what to ask for
            all_headers = CIMultiDict(headers)
            options = {key: options[key] for key in options if key in _OPTIONS_OF_THE_WAY}
            allowed = {
                key: value for key, value in session_options.items() if key in _OPTIONS_OF_THE_WAY
            }
            session = await stack.enter_async_context(
                aiohttp.ClientSession(
                    connector=session.connector,
                    connector_owner=False,
                    cookie_jar=aiohttp.DummyCookieJar(),
                    **allowed,
                )
            )
    raise StatusError(response.status, f"{MAX_REDIRECTS} redirects, and no end", response.headers)


def _origin_of(url: URL) -> tuple[str, str | None, int | None]:
    return url.scheme, url.host, url.port
