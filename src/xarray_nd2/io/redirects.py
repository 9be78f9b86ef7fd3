"""GET requests that follow redirects, without taking credentials to another origin."""

from __future__ import annotations

import urllib.request
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from xarray_nd2.io.failures import StatusError
from xarray_nd2.io.recorder import OUTCOME_REDIRECT
from xarray_nd2.io.resends import get_watched
from xarray_nd2.io.watch import NOT_WATCHED

if TYPE_CHECKING:
    from collections.abc import Mapping

    import httpx
    from aiohttp import ClientResponse, ClientSession
    from yarl import URL

    from xarray_nd2.io.watch import NoWatch

REDIRECT_STATUSES: Final = frozenset({301, 302, 303, 307, 308})
MAX_REDIRECTS: Final = 10
# What is for the way to any server, and not for the server that it was given for.
_OPTIONS_OF_THE_WAY: Final = frozenset(
    {
        *("timeout", "proxy", "proxy_auth", "proxy_headers"),
        *("ssl", "ssl_context", "verify_ssl", "fingerprint"),
        *("read_bufsize", "max_line_size", "max_field_size"),
    }
)
_DECIDED_HERE: Final = {
    "allow_redirects": False,
    "auto_decompress": False,  # an encoded answer is refused by what its headers say
    "raise_for_status": False,
}


class GetRequest:
    """A GET request for one URL, to be sent again and again.

    The origin of the URL (scheme, host and port) gets everything. What it refers to elsewhere is asked
    for without the user's headers, options and session: a signed URL needs no more.

    Parameters
    ----------
    url : yarl.URL or str
        What to ask for.
    options : mapping
        Arguments of aiohttp's requests, for the origin of `url`.
    session_options : mapping
        What the user's session was made with.
    """

    def __init__(
        self, url: URL | str, options: Mapping[str, Any], session_options: Mapping[str, Any]
    ) -> None:
        from yarl import URL

        self._url = URL(url)
        self._follows = options.get("allow_redirects", True)
        given = {key: value for key, value in options.items() if key != "max_redirects"}
        self._options = given | _DECIDED_HERE
        self._options_elsewhere = {
            key: value
            for key, value in (*session_options.items(), *given.items())
            if key in _OPTIONS_OF_THE_WAY
        } | _DECIDED_HERE

    async def send(
        self,
        session: ClientSession,
        headers: Mapping[str, str],
        user_headers: Mapping[str, str],
        watch: NoWatch = NOT_WATCHED,
    ) -> ClientResponse:
        """Send the request, and return the answer from where its redirects lead.

        Parameters
        ----------
        session : aiohttp.ClientSession
            The user's, with what it adds to each request by itself.
        headers : mapping
            Of this request, for any server.
        user_headers : mapping
            For the origin of the URL.
        watch : NoWatch
            Is told of each request.

        Raises
        ------
        StatusError
            One redirect too many.
        """
        at_home = headers
        if user_headers:
            from multidict import CIMultiDict

            at_home = CIMultiDict(user_headers)
            at_home.update(headers)
        options, at = self._options, self._url
        is_home = True
        for _ in range(1 + MAX_REDIRECTS):
            watch.begin()
            if is_home:
                response = await get_watched(session, at, at_home, options, watch)
            else:
                response = await self._send_elsewhere(session, at, headers, watch)
            watch.receives(partial(getattr, response.content, "total_bytes"))
            location = response.headers.get("Location")
            if response.status not in REDIRECT_STATUSES or not location or not self._follows:
                return response
            from yarl import URL  # not for every small range

            response.release()
            watch.end(OUTCOME_REDIRECT)
            user, password = at.user, at.password
            try:
                at = at.join(URL(location))
            except ValueError:
                raise StatusError(response.status, "redirects to what is no URL") from None
            if at.scheme not in ("http", "https"):
                raise StatusError(response.status, f"redirects to {at.scheme}")
            # Nor does it get anything again, once another server says what to ask for.
            is_home = is_home and origin_of(at) == origin_of(self._url)
            if is_home:
                options = {key: value for key, value in options.items() if key != "params"}
                at = at if at.user else at.with_user(user).with_password(password)
        raise StatusError(
            response.status, f"{MAX_REDIRECTS} redirects, and no end", response.headers
        )

    async def _send_elsewhere(
        self, session: ClientSession, url: URL, headers: Mapping[str, str], watch: NoWatch
    ) -> ClientResponse:
        """Send by a session that shares connections with the user's, and nothing else."""
        import aiohttp

        options = {"timeout": session.timeout} | self._options_elsewhere
        if session.trust_env and "proxy" not in options:
            # The session would look for passwords as well, in the file ``.netrc``.
            options["proxy"] = proxy_of_environment(url)
        async with aiohttp.ClientSession(
            connector=session.connector,
            connector_owner=False,
            cookie_jar=aiohttp.DummyCookieJar(),
        ) as bare:
            return await get_watched(bare, url, headers, options, watch)


def proxy_of_environment(url: URL) -> str | None:
    """Proxy that the environment names for a URL."""
    if urllib.request.proxy_bypass(f"{url.host}:{url.port}"):
        return None
    return urllib.request.getproxies().get(url.scheme)


def origin_of(url: URL | httpx.URL) -> tuple[str, str | None, int | None]:
    """Scheme, host and port of a URL: who gets what was given for it."""
    return url.scheme, url.host, url.port
