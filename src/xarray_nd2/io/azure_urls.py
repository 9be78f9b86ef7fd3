"""URLs of Azure's blobs: signed by an account key, or with the token that the user has.

A request costs the client of Azure several times what the same request costs over HTTP. What decides on
account, endpoint and credentials is left to adlfs and to the client that it made, which is only looked at.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from xarray_nd2.io.redirects import GetRequest, proxy_of_environment
from xarray_nd2.io.signed_urls import (
    USED_SECONDS,
    VALID_SECONDS,
    SignedURL,
    Signer,
    http_filesystem,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_CONNECTIONS: Final = 100  # as many as the client makes
_TOKEN_SCOPE: Final = "https://storage.azure.com/.default"  # noqa: S105  (no token)
_TOKEN_MARGIN_SECONDS: Final = 60.0  # before the end of a token, when it is used no more
_HONOURED_OPTIONS: Final = frozenset(
    {
        *("account_name", "account_key", "connection_string", "account_host"),
        *("credential", "sas_token", "client_id", "client_secret", "tenant_id", "anon"),
        *("version_aware", "location_mode", "assume_container_exists", "asynchronous", "loop"),
        # Of files that fsspec opens, of listings and of writing.
        *("blocksize", "default_fill_cache", "default_cache_type", "max_concurrency"),
        *("use_listings_cache", "listings_expiry_time", "max_paths", "skip_instance_cache"),
    }
)


def are_honoured(fs: Any) -> bool:
    """Whether plain HTTP can do all that the options of an adlfs filesystem ask for."""
    from adlfs import AzureBlobFileSystem

    return (
        type(fs) is AzureBlobFileSystem
        and not fs.storage_args
        and _HONOURED_OPTIONS.issuperset(fs.storage_options)
        and fs.location_mode == "primary"
    )


class AzureSigner(Signer):
    """Makes URLs for one filesystem of adlfs, and keeps the session that sends requests."""

    def __init__(self) -> None:
        super().__init__()
        self._http: Any = None

    def asked(self, fs: Any, version: str | None) -> dict[str, Any]:
        return {"version": version, "client": fs.service_client}

    async def signed(
        self, fs: Any, bucket: str, key: str, asked: Mapping[str, Any]
    ) -> SignedURL | None:
        from yarl import URL

        if not are_honoured(fs):
            return None
        service, version = asked["client"], asked["version"]
        text = service.get_blob_client(bucket, key).url  # with a token in it that the user gave
        signed_at = time.time()
        used_seconds = USED_SECONDS
        headers = {"x-ms-version": service.api_version}
        queries = [f"versionid={quote(version, safe='')}"] if version else []
        credential = service.credential
        if hasattr(credential, "account_key"):
            queries.append(_signature(credential, bucket, key, version))
        elif hasattr(credential, "get_token"):
            if not text.startswith("https://"):
                return None
            token = await credential.get_token(_TOKEN_SCOPE)
            headers["Authorization"] = f"Bearer {token.token}"
            left_seconds = token.expires_on - signed_at - _TOKEN_MARGIN_SECONDS
            used_seconds = min(used_seconds, left_seconds)
            if used_seconds <= 0:
                return None
        elif credential is not None:
            return None
        for query in queries:
            text += f"{'&' if '?' in text else '?'}{query}"
        url = URL(text, encoded=True)
        options = _options(url)
        if options is None:
            return None
        if self._http is None:
            self._http = http_filesystem(fs.loop, MAX_CONNECTIONS)
        request = GetRequest(url, options, {})
        return SignedURL(request, self._http, headers, asked, signed_at, used_seconds)


def _signature(credential: Any, container: str, blob: str, version: str | None) -> str:
    """Query by which a blob may be read for a while."""
    from azure.storage.blob import BlobSasPermissions, generate_blob_sas

    signature: str = generate_blob_sas(
        credential.account_name,
        container,
        blob,
        account_key=credential.account_key,
        permission=BlobSasPermissions(read=True),
        expiry=datetime.now(UTC) + timedelta(seconds=VALID_SECONDS),
        version_id=version,
    )
    return signature


def _options(url: Any) -> dict[str, Any] | None:
    """Options of each request for a URL; None if a proxy is in the way that speaks no plain HTTP."""
    import aiohttp

    # There is patience instead of a timeout.
    options = {"timeout": aiohttp.ClientTimeout(total=None), "allow_redirects": False}
    proxy = proxy_of_environment(url)
    if not proxy:
        return options
    return options | {"proxy": proxy} if proxy.startswith("http://") else None
