"""URLs of S3's objects, signed by s3fs (SigV4)."""

from __future__ import annotations

import asyncio
import time
from copy import deepcopy
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qs

from xarray_nd2.io import s3_options
from xarray_nd2.io.redirects import GetRequest
from xarray_nd2.io.signed_urls import (
    USED_SECONDS,
    VALID_SECONDS,
    SignedURL,
    Signer,
    http_filesystem,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

BRIEFLY_USED_SECONDS: Final = 1.0  # a URL, where credentials end soon


class S3Signer(Signer):
    """Signs for one filesystem of s3fs that is the user's, by another one that is made like it.

    The user's would sign in the old way (SigV2), and may be used elsewhere. The session that sends requests
    is kept here, too.
    """

    def __init__(self) -> None:
        super().__init__()
        self._own: Any = None  # our filesystem
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
