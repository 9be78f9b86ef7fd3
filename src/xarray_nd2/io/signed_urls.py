"""Signed URLs of objects: made once, and read by plain HTTP many times; those of S3 by s3fs.

A request costs the client of S3 eight times what the same request costs over HTTP, since it builds and
signs each of them anew. A signed URL takes any range. It is a secret for as long as it may be used, and
stays in the process. Those of Azure are made in `io.azure_urls`.
"""

from __future__ import annotations

import asyncio
import time
from copy import deepcopy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qs

from xarray_nd2.io import s3_options
from xarray_nd2.io.process import this_process
from xarray_nd2.io.redirects import GetRequest

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Mapping

    from aiohttp import ClientResponse, ClientSession

VALID_SECONDS: Final = 1800  # of a URL, as the store is told
USED_SECONDS: Final = 300.0
"""After which a URL is signed anew.

What botocore finds for itself, such as the credentials of a role, it renews ten minutes before their end
or earlier. So they outlive the URL for which they are used.
"""

BRIEFLY_USED_SECONDS: Final = 1.0  # where credentials end sooner
CLIENT_READS_SECONDS: Final = 600.0  # from a bucket whose store refused a signed URL


@dataclass(slots=True, repr=False, eq=False)
class SignedURL:
    """A URL and what to send along with it.

    Attributes
    ----------
    request : GetRequest
        For the URL.
    http : fsspec.implementations.http.HTTPFileSystem
        Whose session sends it, and is closed no sooner than the last URL is forgotten.
    headers : mapping
        Which the signature names, so that they have to be sent.
    asked : mapping
        What it was signed for and by: it serves as long as this stays the same.
    signed_at, used_seconds : float
        When it was signed, by the clock of the machine, and for how long it is used.
    was_accepted : bool
        Whether the store has answered to it.
    """

    request: GetRequest
    http: Any
    headers: Mapping[str, str]
    asked: Mapping[str, Any]
    signed_at: float
    used_seconds: float
    was_accepted: bool = False

    @property
    def is_current(self) -> bool:
        """Whether it needs no new signature; it does after the clock was set back."""
        return 0 <= time.time() - self.signed_at < self.used_seconds

    async def get(self, headers: Mapping[str, str]) -> ClientResponse:
        """Answer to a request with these headers as well; redirects are not followed."""
        return await self.request.send(await self.http.set_session(), headers, self.headers)


class SignedObject:
    """The signed URL of one object, as it is used now.

    Parameters
    ----------
    new_signer : callable
        Makes what signs for a filesystem, where there is none yet.
    fs : fsspec.AbstractFileSystem
        The user's, which is not connected by this.
    bucket, key, version : str
        The object; the version is None for the last one.
    """

    def __init__(
        self,
        new_signer: Callable[[], Signer],
        fs: Any,
        bucket: str,
        key: str,
        version: str | None,
    ) -> None:
        self._fs, self._bucket, self._key, self._version = fs, bucket, key, version
        self._signer: Signer = this_process().kept_beside(fs, new_signer)
        self._url: SignedURL | None = None
        self._signing = asyncio.Lock()

    async def url(self) -> SignedURL | None:
        """The URL to read by, signed now if need be; None if the client has to read."""
        if not self._signer.is_trusted(self._bucket):
            return None
        asked = self._signer.asked(self._fs, self._version)
        if not self._serves(asked):
            async with self._signing:
                if not self._serves(asked):
                    self._url = await self._signed(asked)
        return self._url

    def _serves(self, asked: Mapping[str, Any]) -> bool:
        return self._url is not None and self._url.is_current and self._url.asked == asked

    async def _signed(self, asked: Mapping[str, Any]) -> SignedURL | None:
        try:
            return await self._signer.signed(self._fs, self._bucket, self._key, asked)
        except Exception:  # noqa: BLE001  (the client will say what is wrong)
            return None

    def forget(self, url: SignedURL) -> None:
        """Sign another URL in place of this one, which the store refused."""
        if self._url is url:
            self._url = None

    def leave_to_client(self) -> None:
        """Note that the client was given what was refused to a URL."""
        self._signer.distrust(self._bucket)


class Signer:
    """Signs for one filesystem, and knows for what the store refuses what it signs."""

    def __init__(self) -> None:
        self._distrusted_until: dict[str, float] = {}  # by bucket

    def is_trusted(self, bucket: str) -> bool:
        """Whether signed URLs are worth trying for a bucket."""
        return time.monotonic() >= self._distrusted_until.get(bucket, 0.0)

    def distrust(self, bucket: str) -> None:
        """Leave a bucket to the client for a while."""
        self._distrusted_until[bucket] = time.monotonic() + CLIENT_READS_SECONDS

    def asked(self, fs: Any, version: str | None) -> dict[str, Any]:
        """What a URL of this version has to be signed for, as the filesystem is now."""
        raise NotImplementedError

    async def signed(
        self, fs: Any, bucket: str, key: str, asked: Mapping[str, Any]
    ) -> SignedURL | None:
        """Signed URL of an object for what is `asked`; None if it cannot serve.

        Raises
        ------
        Exception
            Whatever the client raises that cannot sign.
        """
        raise NotImplementedError


class S3Signer(Signer):
    """Signs for one filesystem of s3fs, by another one that is its like.

    The user's own would sign in the old way, and may be used elsewhere. The session that sends requests is
    kept here, too.
    """

    def __init__(self) -> None:
        super().__init__()
        self._own: Any = None  # the user's
        self._session_of_user: Any = None
        self._http: Any = None
        self._connecting = asyncio.Lock()

    def asked(self, fs: Any, version: str | None) -> dict[str, Any]:
        return s3_options.asked_arguments(fs, version)

    async def signed(
        self, fs: Any, bucket: str, key: str, asked: Mapping[str, Any]
    ) -> SignedURL | None:
        from yarl import URL

        if not (s3_options.has_plain_name(bucket) and s3_options.are_honoured(fs)):
            return None
        async with self._connecting:
            client = await self._client(fs, bucket)
        arguments = s3_options.arguments_of_get(client, asked)
        headers = s3_options.headers_of_arguments(arguments)
        if headers is None:
            return None
        used_seconds = await self._used_seconds()
        signed_at = time.time()
        text = await client.generate_presigned_url(
            "get_object",
            Params={**arguments, "Bucket": bucket, "Key": key},
            ExpiresIn=VALID_SECONDS,
        )
        url = URL(text, encoded=True)
        named = parse_qs(url.query_string).get("X-Amz-SignedHeaders", ["host"])[0].split(";")
        if not {"host", *headers}.issuperset(named):
            return None
        request = GetRequest(url, _options(url, self._own), {})
        return SignedURL(request, self._http, headers, asked, signed_at, used_seconds)

    async def _client(self, fs: Any, bucket: str) -> Any:
        """The client that signs, connected anew after the user's filesystem was."""
        is_of_now = fs.session is None or fs.session is self._session_of_user
        if self._own is None or not is_of_now:
            self._own, self._session_of_user = _own_filesystem(fs), fs.session
            self._http = None
        await self._own.set_session()
        if self._http is None:
            tls = await asyncio.to_thread(s3_options.tls_context, self._own)
            limit = s3_options.max_connections(self._own)
            self._http = http_filesystem(self._own.loop, limit, tls)
        return await self._own.get_s3(bucket)

    async def _used_seconds(self) -> float:
        """For how long a URL that is signed now is used."""
        if s3_options.has_found_credentials(self._own):
            credentials = await self._own.session.get_credentials()
            end_within = getattr(credentials, "refresh_needed", None)
            if end_within is not None and end_within(2 * USED_SECONDS):
                return BRIEFLY_USED_SECONDS
        return USED_SECONDS


def _own_filesystem(fs: Any) -> Any:
    """A filesystem of ours as the user made theirs, which signs in the way of today."""
    options = fs.storage_options | {
        # A copy of all of it, since botocore writes into some of it.
        "config_kwargs": deepcopy(fs.config_kwargs) | {"signature_version": "s3v4"},
        "skip_instance_cache": True,
    }
    if fs.session is not None:
        options["session"] = fs.session  # with the credentials that it has found
    return type(fs)(*fs.storage_args, **options)


def http_filesystem(
    loop: asyncio.AbstractEventLoop, limit: int, tls: ssl.SSLContext | bool = True
) -> Any:
    """A filesystem whose session makes `limit` requests at once, with nothing of a user's."""
    import aiohttp
    from fsspec.implementations.http import HTTPFileSystem

    async def new_session(**_: Any) -> ClientSession:
        connector = aiohttp.TCPConnector(limit=limit, ssl=tls)
        return aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar())

    return HTTPFileSystem(get_client=new_session, loop=loop, skip_instance_cache=True)


def _options(url: Any, fs: Any) -> dict[str, Any]:
    """Options of each request for a URL."""
    import aiohttp

    config = fs.config_kwargs
    timeout = aiohttp.ClientTimeout(
        total=None,
        sock_connect=config.get("connect_timeout"),
        sock_read=config.get("read_timeout"),
    )
    options = {"timeout": timeout, "allow_redirects": False}
    proxy = s3_options.proxy_for(url, fs)
    return options | ({"proxy": proxy} if proxy else {})
