"""Reading ranges from the object stores of three clouds, by fsspec's filesystems for them.

Every answer of these stores tells the size and the entity tag of the object. The filesystems' own
`cat_file` drops them, so the stores are asked here, over HTTP or by their clients.
"""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Final

from xarray_nd2.io import s3_options
from xarray_nd2.io.azure_urls import MAX_CONNECTIONS, AzureSigner
from xarray_nd2.io.failures import header_of, is_absence, is_transient, status_of
from xarray_nd2.io.http import NOT_ENCODED, answer_over_http, max_connections_of
from xarray_nd2.io.range_response import NO_ENCODINGS, ReceivedBody
from xarray_nd2.io.redirects import GetRequest
from xarray_nd2.io.s3_urls import S3Signer
from xarray_nd2.io.signed_urls import SignedObject
from xarray_nd2.io.transport import StreamedAnswer, StreamTransport, slice_of
from xarray_nd2.io.watch import watch_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from xarray_nd2.io.answers import Part
    from xarray_nd2.io.patience import Patience
    from xarray_nd2.io.watch import NoWatch

_BLOCK_BYTES: Final = 256 * 1024  # of a body, taken at once
MAX_SIGNATURES: Final = 2  # for one request: one, and another where the one may have ended


async def _ask_by_url(
    signed: SignedObject, range_header: str, watch: NoWatch
) -> tuple[StreamedAnswer | None, bool]:
    """Answer to a request by a signed URL.

    Returns
    -------
    StreamedAnswer or None
        None if the client has to read.
    bool
        Whether that is because the store refused a URL.

    Raises
    ------
    Exception
        Of which the client would be told the same.
    """
    headers = {"Range": range_header} | NOT_ENCODED
    was_refused = False
    for _ in range(MAX_SIGNATURES):
        url = await signed.url()
        if url is None:
            break
        try:
            answer = await answer_over_http(url.get(headers, watch))
        except Exception as error:
            if is_transient(error) or is_absence(error) or status_of(error) == 416:
                raise
            was_refused = True
            watch.end(error)
            signed.forget(url)
            if not url.was_accepted:
                break  # another one would be no better
        else:
            url.was_accepted = True
            return answer, False
    return None, was_refused


class S3Transport(StreamTransport):
    """An object of an S3 store: by a signed URL, or where that cannot serve by the client of s3fs."""

    kind = "s3"
    # How it was uploaded, which some stores repeat on the object itself.
    encodings: ClassVar[frozenset[str]] = NO_ENCODINGS | {"aws-chunked"}

    def __init__(self, fs: Any, path: str) -> None:
        super().__init__(fs)
        self._bucket, self._key, self._version = fs.split_path(path)
        self._signed = SignedObject(S3Signer, fs, self._bucket, self._key, self._version)

    async def _max_connections(self) -> int:
        return s3_options.max_connections(self._fs)

    async def _ask(self, range_header: str, watch: NoWatch) -> StreamedAnswer:
        answer, was_refused = await _ask_by_url(self._signed, range_header, watch)
        if answer is None:
            answer = await self._ask_client(range_header, watch)
            if was_refused:
                self._signed.leave_to_client()
        return answer

    async def _ask_client(self, range_header: str, watch: NoWatch) -> StreamedAnswer:
        """Answer to the client, whose word is the last."""
        from botocore.exceptions import ClientError
        from s3fs.errors import translate_boto_error

        await self._fs.set_session()
        client = await self._fs.get_s3(self._bucket)
        asked = s3_options.asked_arguments(self._fs, self._version)
        arguments = s3_options.arguments_of_get(client, asked)
        watch.begin()
        try:
            response = await client.get_object(
                **arguments, Bucket=self._bucket, Key=self._key, Range=range_header
            )
        except ClientError as error:
            watch.receives(partial(int, header_of(error, "content-length") or 0))
            raise translate_boto_error(error) from error
        told = response["ResponseMetadata"]
        body = response["Body"]
        # The headers as they came, where one may be repeated.
        raw = getattr(body, "raw_stream", None)
        headers = getattr(raw, "headers", told["HTTPHeaders"])
        blocks = body.iter_chunks(_BLOCK_BYTES)
        close = partial(body.__aexit__, None, None, None)
        answer = StreamedAnswer(told["HTTPStatusCode"], headers, blocks, close)
        stream = getattr(raw, "content", None)  # of aiohttp, which sees more than is taken
        watch.receives(lambda: getattr(stream, "total_bytes", answer.received))
        return answer


class GCSTransport(StreamTransport):
    """An object of Google Cloud Storage, by the session and the credentials of gcsfs."""

    kind = "s3"

    def __init__(self, fs: Any, path: str) -> None:
        import aiohttp

        super().__init__(fs)
        timeout, payer = fs.requests_timeout, fs.requester_pays
        options: dict[str, Any] = {
            "timeout": aiohttp.ClientTimeout(total=None) if timeout is None else timeout
        }
        if payer:
            options["params"] = {"userProject": payer if isinstance(payer, str) else fs.project}
        self._request = GetRequest(fs.url(path), options, fs.session_kwargs)

    async def _max_connections(self) -> int:
        return max_connections_of(await self._session())

    async def _session(self) -> Any:
        # Until gcsfs has a public call that makes the session, as fsspec's HTTP filesystem has. One of
        # ours would lack the client certificate, which nothing public tells of.
        await self._fs._set_session()  # noqa: SLF001
        return self._fs.session

    async def _ask(self, range_header: str, watch: NoWatch) -> StreamedAnswer:
        session = await self._session()
        credentials: dict[str, str] = {}
        self._fs.credentials.apply(credentials)
        headers = {"Range": range_header} | NOT_ENCODED
        return await answer_over_http(self._request.send(session, headers, credentials, watch))


class _ClientReadsError(Exception):
    """No URL can serve; because the store refused one, if `was_refused`."""

    def __init__(self, *, was_refused: bool) -> None:
        super().__init__("the client has to read")
        self.was_refused = was_refused


class AzureTransport(StreamTransport):
    """A blob of Azure: by a URL, or where that cannot serve by the client of adlfs.

    Azure refuses ranges that count from the end.
    """

    kind = "s3"

    def __init__(self, fs: Any, path: str) -> None:
        super().__init__(fs)
        self._container, self._blob, self._version = fs.split_path(path)
        self._signed = SignedObject(AzureSigner, fs, self._container, self._blob, self._version)

    async def _max_connections(self) -> int:
        return MAX_CONNECTIONS

    async def _ask(self, range_header: str, watch: NoWatch) -> StreamedAnswer:
        answer, was_refused = await _ask_by_url(self._signed, range_header, watch)
        if answer is None:
            raise _ClientReadsError(was_refused=was_refused)
        return answer

    async def _get(
        self, range_header: str, start: int | None, count: int, patience: Patience
    ) -> Part:
        try:
            return await super()._get(range_header, start, count, patience)
        except _ClientReadsError as error:
            was_refused = error.was_refused
        part = await self._get_by_client(start, count, patience)
        if was_refused:
            self._signed.leave_to_client()
        return part

    async def _get_by_client(self, start: int | None, count: int, patience: Patience) -> Part:
        """Answer to the client, whose word is the last; it has read the body when it answers."""
        version = {"version_id": self._version} if self._version else {}
        answer = _AzureAnswer()
        with watch_of(patience, *slice_of(start, count)) as watch:
            async with patience.attempt(lambda: answer.received):
                client = self._fs.service_client.get_blob_client(self._container, self._blob)
                watch.begin()
                watch.receives(lambda: answer.received)
                async with client:
                    # Who calls this tries again, and with patience.
                    stream = await client.download_blob(
                        start, count, raw_response_hook=answer.see, retry_total=0, **version
                    )
                    body = ReceivedBody(count)
                    body.add(await stream.readall())
            extent = self._extent(answer.status, answer.headers, start, count)
            body.check(extent)
            return body.as_part(extent, answer.first_byte)

    async def read_last(self, count: int, patience: Patience) -> Part | None:  # noqa: ARG002
        return None


class _AzureAnswer:
    """What azure's client shows of an answer before it has read the body."""

    status = 0
    headers: Mapping[str, str] = {}
    first_byte: float | None = None
    _stream: Any = None

    def see(self, response: Any) -> None:
        """Take note of an answer whose headers came; the client's ``raw_response_hook``."""
        answer = response.http_response
        self.status, self.headers = answer.status_code, answer.headers
        self.first_byte = time.monotonic()
        # Of aiohttp, by which this client reads; the count stays 0 with another.
        self._stream = getattr(answer.internal_response, "content", None)

    @property
    def received(self) -> int:
        """Bytes of the body that came so far."""
        return getattr(self._stream, "total_bytes", 0)
