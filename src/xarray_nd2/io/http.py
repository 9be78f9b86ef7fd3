"""Reading ranges over HTTP, from two kinds of server."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from contextlib import contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from xarray_nd2.io.answers import Part
from xarray_nd2.io.failures import BrokenOffError, StatusError
from xarray_nd2.io.process import in_read_thread
from xarray_nd2.io.range_response import ReceivedBody, check_status, parse_range_response
from xarray_nd2.io.recorder import OUTCOME_REDIRECT
from xarray_nd2.io.redirects import MAX_REDIRECTS, GetRequest, origin_of
from xarray_nd2.io.transport import ObjectTransport, StreamedAnswer, StreamTransport, slice_of
from xarray_nd2.io.watch import watch_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Iterator

    import aiohttp
    from multidict import CIMultiDict

    from xarray_nd2.io.answers import ObjectFacts
    from xarray_nd2.io.patience import Patience
    from xarray_nd2.io.watch import NoWatch

MAX_WHOLE_FILE_BYTES: Final = 8 * 1024 * 1024  # worth reading where there are no ranges
# Encoded bytes have no ranges.
NOT_ENCODED: Final = {"Accept-Encoding": "identity"}


class HTTPTransport(StreamTransport):
    """An object of an HTTP server, by the session of fsspec's filesystem.

    The filesystem's own `cat_file` would take a whole file for a range from a server that ignores
    ranges, and says nothing of size and tag, so the response is read here. A small file of such a
    server is read once as a whole, and kept for those who opened that version of it.
    """

    def __init__(self, fs: Any, path: str) -> None:
        import aiohttp

        super().__init__(fs)
        options = dict(fs.kwargs)
        self._user_headers = headers_given(options.pop("headers", None))
        headers_given(fs.client_kwargs.get("headers"))  # which the session adds
        if "timeout" not in options and "timeout" not in fs.client_kwargs:
            options["timeout"] = aiohttp.ClientTimeout(total=None)  # there is patience instead
        self._request = GetRequest(fs.encode_url(path), options, fs.client_kwargs)
        self._whole: Part | None = None
        self._whole_at = 0.0
        self._reading_whole = asyncio.Lock()

    async def read(
        self, start: int, stop: int, patience: Patience, pinned: ObjectFacts | None = None
    ) -> Part:
        if self._whole is not None and pinned is not None and pinned.version is not None:
            if self._whole.facts == pinned:
                return _cut(self._whole, start, stop - start)
            self._whole = None
        return await super().read(start, stop, patience, pinned)

    async def _max_connections(self) -> int:
        return max_connections_of(await self._fs.set_session())

    async def _ask(self, range_header: str, watch: NoWatch) -> StreamedAnswer:
        session = await self._fs.set_session()
        headers = {"Range": range_header} | NOT_ENCODED
        asking = self._request.send(session, headers, self._user_headers, watch)
        return await answer_over_http(asking)

    async def _instead(
        self, answer: StreamedAnswer, asked: float, start: int | None, count: int
    ) -> Part | None:
        """A range of the whole file where that is small, in case the answer is not the range."""
        length = answer.headers.get("Content-Length", "")
        if answer.status != 200 or not length.isdecimal():
            return None
        if not 0 < int(length) <= MAX_WHOLE_FILE_BYTES:
            return None
        return _cut(await self._keep_whole(answer, asked, int(length)), start, count)

    async def _keep_whole(self, answer: StreamedAnswer, asked: float, length: int) -> Part:
        """Body of an answer, or of another one that came since this was asked for."""
        async with self._reading_whole:
            if self._whole is None or self._whole_at < asked:
                extent = parse_range_response(answer.status, answer.headers, 0, length)
                body = ReceivedBody(length)
                async for block in answer.blocks:
                    answer.received += len(block)
                    body.add(block)
                body.check(extent)
                self._whole, self._whole_at = body.as_part(extent), time.monotonic()
            return self._whole


def max_connections_of(session: aiohttp.ClientSession) -> int:
    """Requests to one host that a session of aiohttp makes at once."""
    connector = session.connector
    limits = [connector.limit, connector.limit_per_host] if connector else []
    return min(filter(None, limits), default=sys.maxsize)  # 0 is no limit


def _cut(whole: Part, start: int | None, count: int) -> Part:
    begin = max(0, len(whole.data) - count) if start is None else start
    return Part(begin, memoryview(whole.data)[begin : begin + count], whole.facts)


async def answer_over_http(asking: Awaitable[aiohttp.ClientResponse]) -> StreamedAnswer:
    """Answer of aiohttp that has a body to read.

    Raises
    ------
    FileNotFoundError, PermissionError, StatusError
        Its status tells that there is none, and why.
    ConnectionError
        It is no HTTP.
    """
    import aiohttp

    try:
        response = await asking
    except (aiohttp.ClientResponseError, aiohttp.http.HttpProcessingError) as error:
        raise ConnectionError(f"an answer that is not HTTP: {type(error).__name__}") from error

    async def close() -> None:
        response.release()

    try:
        check_status(response.status, response.reason, response.headers)
    except BaseException:
        response.release()
        raise
    return StreamedAnswer(response.status, response.headers, response.content.iter_any(), close)


def headers_given(headers: Any) -> CIMultiDict[str]:
    """The option ``headers`` of a filesystem, or of its session.

    Raises
    ------
    TypeError
        They are not names and values, such as text.
    """
    from multidict import CIMultiDict

    with suppress(TypeError, ValueError):
        if not isinstance(headers, str):
            return CIMultiDict(headers or {})
    raise TypeError(f"headers must be a mapping of names to values, not {type(headers).__name__}")


class WebDAVTransport(ObjectTransport):
    """A file of a WebDAV server, by the HTTP client of webdav4, in threads.

    The filesystem's own files ask for the whole rest of the file from the start of each range.
    """

    def __init__(self, fs: Any, path: str) -> None:
        import fsspec.asyn

        super().__init__()
        self._client = fs.client
        self._url = fs.client.join_url(path)
        self.loop = fsspec.asyn.get_loop()

    async def _get(
        self, range_header: str, start: int | None, count: int, patience: Patience
    ) -> Part:
        body, given_up = ReceivedBody(count), threading.Event()
        with watch_of(patience, *slice_of(start, count)) as watch:
            try:
                async with patience.attempt(lambda: body.size):
                    read = partial(
                        self._get_blocking, range_header, start, count, body, given_up, watch
                    )
                    return await in_read_thread(read)
            finally:
                given_up.set()

    def _get_blocking(
        self,
        range_header: str,
        start: int | None,
        count: int,
        body: ReceivedBody,
        given_up: threading.Event,
        watch: NoWatch,
    ) -> Part:
        import httpx

        extent = None
        try:
            with self._answer({"Range": range_header} | NOT_ENCODED, watch) as response:
                answer = response.status_code, response.headers
                check_status(response.status_code, response.reason_phrase, response.headers)
                first_byte = time.monotonic()
                extent = self._extent(*answer, start, count)
                for block in response.iter_raw():
                    body.add(block)
                    if given_up.is_set():
                        raise TimeoutError("given up meanwhile")
                    if body.is_over(extent):
                        break
        except httpx.TransportError as error:
            if extent is not None and body.size:
                raise BrokenOffError(body.as_part(extent), str(error)) from error
            raise ConnectionError(str(error)) from error
        body.check(extent)
        return body.as_part(extent, first_byte)

    @contextmanager
    def _answer(self, headers: dict[str, str], watch: NoWatch) -> Iterator[Any]:
        """Answer to a GET request; to another origin only its `headers` go along."""
        import httpx

        client = self._client.http
        request = client.build_request("GET", self._url, headers=headers)
        options: dict[str, Any] = {}
        for _ in range(1 + MAX_REDIRECTS):
            watch.begin()
            response = client.send(request, stream=True, follow_redirects=False, **options)
            watch.receives(partial(getattr, response, "num_bytes_downloaded"))
            following = response.next_request
            if following is None:
                try:
                    yield response
                finally:
                    response.close()
                return
            response.close()
            watch.end(OUTCOME_REDIRECT)
            if options or origin_of(following.url) != origin_of(request.url):
                # Made by itself, it has nothing of the client; nor have those that come of it.
                following = httpx.Request("GET", following.url, headers=headers)
                options = {"auth": None}
            request = following
        raise StatusError(response.status_code, f"{MAX_REDIRECTS} redirects, and no end")
