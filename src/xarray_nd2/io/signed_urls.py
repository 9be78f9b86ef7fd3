"""Signed URLs of objects: made once, and read by plain HTTP many times.

A request costs the client of S3 eight times what the same request costs over HTTP, since it builds and
signs each of them anew. A signed URL takes any range. It is a secret for as long as it may be used, and
stays in the process. Those of S3 are made in `io.s3_urls`, those of Azure in `io.azure_urls`.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from xarray_nd2.io.process import this_process

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Mapping

    from aiohttp import ClientResponse, ClientSession

    from xarray_nd2.io.redirects import GetRequest
    from xarray_nd2.io.watch import NoWatch

VALID_SECONDS: Final = 1800  # of a URL, as the store is told
USED_SECONDS: Final = 300.0
"""After which a URL is signed anew.

What botocore finds for itself, such as the credentials of a role, it renews ten minutes before their end
or earlier. So they outlive the URL for which they are used.
"""

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

    async def get(self, headers: Mapping[str, str], watch: NoWatch) -> ClientResponse:
        """Answer to a request with these headers as well; redirects are not followed."""
        session = await self.http.set_session()
        return await self.request.send(session, headers, self.headers, watch)


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
