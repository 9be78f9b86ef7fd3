"""Answers of a web server as they are, before anything is made of them."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from xarray_nd2.io.choose import filesystem_of
from xarray_nd2.io.http import NOT_ENCODED, headers_given
from xarray_nd2.io.redirects import GetRequest
from xarray_nd2.io.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Mapping

    from xarray_nd2.io.source import ByteSource

MAX_PROBE_BYTES: Final = 64 * 1024  # that are taken of a body; more is not needed to judge it


@dataclass(frozen=True)
class HTTPAnswer:
    """An answer.

    Attributes
    ----------
    status : int
        HTTP status.
    reason : str
        What the server says with it.
    headers : mapping
        By names of any case.
    body : bytes
        Its first `MAX_PROBE_BYTES` at most.
    seconds : float
        Until its headers came.
    broken : str
        By what the body broke off; empty where it did not.
    """

    status: int
    reason: str
    headers: Mapping[str, str]
    body: bytes
    seconds: float
    broken: str = ""


class HTTPProbe:
    """Asks a web server for an object in several ways, by the client that reads it.

    Parameters
    ----------
    source : ByteSource
        A URL of HTTP.
    """

    def __init__(self, source: ByteSource) -> None:
        assert isinstance(source.target, str)
        self._fs, path = filesystem_of(source.target, source.storage_options)
        options: dict[str, Any] = dict(self._fs.kwargs)
        self._headers = headers_given(options.pop("headers", None))
        self._options = options
        self._url = self._fs.encode_url(path)
        self._request = GetRequest(self._url, options, self._fs.client_kwargs)
        self._seconds = source.patience_seconds

    def get(self, range_header: str) -> HTTPAnswer:
        """Answer to a request for a range.

        Raises
        ------
        OSError, aiohttp.ClientError
            There is none.
        """
        return wait_for(self._fs.loop, asyncio.wait_for(self._get(range_header), self._seconds))

    def head(self) -> int:
        """Status of the answer to HEAD, redirects not followed; raises as `get` does."""
        return wait_for(self._fs.loop, asyncio.wait_for(self._head(), self._seconds))

    async def _get(self, range_header: str) -> HTTPAnswer:
        import aiohttp

        session = await self._fs.set_session()
        began = time.monotonic()
        headers = {"Range": range_header} | NOT_ENCODED
        response = await self._request.send(session, headers, self._headers)
        seconds, body, broken = time.monotonic() - began, b"", ""
        try:
            while len(body) < MAX_PROBE_BYTES:
                block = await response.content.read(MAX_PROBE_BYTES - len(body))
                if not block:
                    break
                body += block
        except (aiohttp.ClientError, ConnectionError) as error:
            broken = type(error).__name__
        finally:
            response.close()
        return HTTPAnswer(
            response.status, response.reason or "", response.headers, body, seconds, broken
        )

    async def _head(self) -> int:
        session = await self._fs.set_session()
        options = self._options | {"allow_redirects": False, "raise_for_status": False}
        async with session.head(self._url, headers=self._headers, **options) as response:
            return int(response.status)
