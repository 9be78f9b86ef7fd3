"""Reading ranges over HTTP: where an answer lies in its object, and two kinds of server."""

from __future__ import annotations

import asyncio
import re
import time
from typing import TYPE_CHECKING, Any, Final

from xarray_nd2.io.answers import ObjectFacts, Part
from xarray_nd2.io.failures import BrokenOffError, RangeIgnoredError, StatusError
from xarray_nd2.io.process import in_read_thread
from xarray_nd2.io.transport import ObjectTransport

if TYPE_CHECKING:
    from collections.abc import Mapping

_CONTENT_RANGE = re.compile(r"bytes +(\d+)-(\d+)/(\d+)", re.IGNORECASE)
_COMPRESSED_ENCODINGS = frozenset({"gzip", "x-gzip", "deflate", "br", "zstd", "compress"})
MAX_SILENCE_SECONDS: Final = 30.0  # without a byte, after which a request is given up
MAX_WHOLE_FILE_BYTES: Final = 8 * 1024 * 1024  # worth reading where there are no ranges


def parse_range_response(
    status: int, headers: Mapping[str, str], start: int | None, count: int
) -> tuple[int, ObjectFacts]:
    """Tell where the body of an answer starts, and what its headers say of the object.

    Parameters
    ----------
    status : int
        Of the answer, 200 or 206.
    headers : mapping
        Of the answer.
    start : int or None
        First byte that was asked for; None if the last `count` bytes were.
    count : int
        Bytes that were asked for.

    Returns
    -------
    int
        Position of the body's first byte in the object.
    ObjectFacts
        Of the object.

    Raises
    ------
    RangeIgnoredError
        The answer is not the range.
    """
    encoding = headers.get("Content-Encoding", "")
    if encoding.strip().lower() in _COMPRESSED_ENCODINGS:
        raise RangeIgnoredError(f"the server sends {encoding} instead of bytes of the file")
    if status == 200:
        # The whole object: fine if that is no more than was asked for.
        length = headers.get("Content-Length")
        if length is None or int(length) > count or start not in (0, None):
            raise RangeIgnoredError("the server ignores Range requests")
        return 0, _facts(int(length), headers)
    told = headers.get("Content-Range", "nothing")
    place = _CONTENT_RANGE.fullmatch(told.strip())
    if place is None:
        raise RangeIgnoredError(
            f"the server tells {told!r} of the range it sends, not where it is in a file of what size"
        )
    if start is not None and int(place[1]) != start:
        raise RangeIgnoredError(f"the server sends {told!r}, another range than was asked for")
    return int(place[1]), _facts(int(place[3]), headers)


def _facts(size: int, headers: Mapping[str, str]) -> ObjectFacts:
    tag = headers.get("ETag") or headers.get("X-Goog-Generation")
    return ObjectFacts(size, tag and tag.removeprefix("W/"), headers.get("Last-Modified"))


def _check_status(status: int, reason: object, headers: Mapping[str, str]) -> None:
    if status in (404, 410):
        raise FileNotFoundError(f"HTTP {status} {reason}")
    if status in (401, 403):
        raise PermissionError(f"HTTP {status} {reason}")
    if status not in (200, 206):
        raise StatusError(status, reason, headers)


class HTTPTransport(ObjectTransport):
    """An object of an HTTP server, by the session of fsspec's filesystem.

    The filesystem's own `cat_file` would take a whole file for a range from a server that ignores
    ranges, and says nothing of size and tag, so the response is read here. A small file of such a
    server is read once as a whole, and kept for those who opened that version of it.
    """

    def __init__(self, fs: Any, path: str) -> None:
        self._fs = fs
        self._url = fs.encode_url(path)
        self.loop = fs.loop
        self._ranges_seen = False
        self._whole: Part | None = None
        self._whole_at = 0.0
        self._reading_whole = asyncio.Lock()

    async def read(self, start: int, stop: int, pinned: ObjectFacts | None = None, /) -> Part:
        if self._whole is not None and pinned is not None and pinned.version is not None:
            if self._whole.facts == pinned:
                return _cut(self._whole, start, stop - start)
            self._whole = None
        return await super().read(start, stop)

    async def _get(self, range_header: str, start: int | None, count: int) -> Part:
        import aiohttp

        session = await self._fs.set_session()
        options = dict(self._fs.kwargs)
        # Encoded bytes have no ranges.
        identity = {"Range": range_header, "Accept-Encoding": "identity"}
        headers = options.pop("headers", {}) | identity
        if "timeout" not in options and "timeout" not in self._fs.client_kwargs:
            # No limit on the whole, since ranges differ in size, but a silent server is given up.
            silent = {"sock_connect": MAX_SILENCE_SECONDS, "sock_read": MAX_SILENCE_SECONDS}
            options["timeout"] = aiohttp.ClientTimeout(total=None, **silent)
        # Filled in place: a bytearray that grows would be copied again and again.
        received = memoryview(bytearray(count))
        size = begin = 0
        facts = None
        asked = time.monotonic()
        try:
            async with session.get(self._url, headers=headers, **options) as response:
                _check_status(response.status, response.reason, response.headers)
                first_byte = time.monotonic()
                answer = response.status, response.headers
                try:
                    begin, facts = parse_range_response(*answer, start, count)
                except RangeIgnoredError as error:
                    return _cut(await self._whole_instead(response, asked, error), start, count)
                self._ranges_seen |= response.status == 206
                async for block in response.content.iter_any():
                    end = min(size + len(block), count)  # a range may go on for longer
                    received[size:end] = block[: end - size]
                    size = end
                    if size == count:
                        break
        except (
            *(ConnectionError, TimeoutError),
            *(aiohttp.ClientConnectionError, aiohttp.ClientPayloadError),
        ) as error:
            if size:
                raise BrokenOffError(Part(begin, received[:size], facts)) from error
            raise
        except (aiohttp.ClientResponseError, aiohttp.http.HttpProcessingError) as error:
            # Not of a status that is an error, for which nothing is raised by the client.
            raise ConnectionError(f"an answer that is not HTTP: {type(error).__name__}") from error
        return Part(begin, received[:size], facts, first_byte)

    async def _whole_instead(self, response: Any, asked: float, error: RangeIgnoredError) -> Part:
        """All of a small file, where the answer is not the range."""
        if self._ranges_seen:  # one answer went wrong, such as that of a cache in between
            raise RangeIgnoredError(str(error), passing=True) from None
        length = response.content_length
        if response.status != 200 or not length or length > MAX_WHOLE_FILE_BYTES:
            raise error
        return await self._keep_whole(response, asked)

    async def _keep_whole(self, response: Any, asked: float) -> Part:
        """Body of a response, or of another one that came since this was asked for."""
        async with self._reading_whole:
            if self._whole is None or self._whole_at < asked:
                data = bytearray()
                async for block in response.content.iter_any():
                    data += block
                    if len(data) > MAX_WHOLE_FILE_BYTES:  # of what came compressed
                        raise RangeIgnoredError("the server sends more than it says")
                facts = _facts(len(data), response.headers)
                self._whole, self._whole_at = Part(0, bytes(data), facts), time.monotonic()
            return self._whole


def _cut(whole: Part, start: int | None, count: int) -> Part:
    begin = max(0, len(whole.data) - count) if start is None else start
    return Part(begin, memoryview(whole.data)[begin : begin + count], whole.facts)


class WebDAVTransport(ObjectTransport):
    """A file of a WebDAV server, by the HTTP client of webdav4, in threads.

    The filesystem's own files ask for the whole rest of the file from the start of each range.
    """

    def __init__(self, fs: Any, path: str) -> None:
        import fsspec.asyn

        self._client = fs.client
        self._url = fs.client.join_url(path)
        self.loop = fsspec.asyn.get_loop()

    async def _get(self, range_header: str, start: int | None, count: int) -> Part:
        return await in_read_thread(self._get_blocking, range_header, start, count)

    def _get_blocking(self, range_header: str, start: int | None, count: int) -> Part:
        import httpx

        headers = {"Range": range_header, "Accept-Encoding": "identity"}
        asking = self._client.http.stream("GET", self._url, headers=headers, follow_redirects=True)
        try:
            with asking as response:
                _check_status(response.status_code, response.reason_phrase, response.headers)
                first_byte = time.monotonic()
                begin, facts = parse_range_response(
                    response.status_code, response.headers, start, count
                )
                return Part(begin, response.read(), facts, first_byte)
        except httpx.TransportError as error:
            raise ConnectionError(str(error)) from error
