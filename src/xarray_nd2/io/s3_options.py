"""Options of s3fs: what they ask of a request for an object, and which of them plain HTTP can honour.

What decides on credentials, endpoint and region is left to s3fs, which signs. What decides on the way to
the server is honoured here. What is in neither list is for s3fs alone.
"""

from __future__ import annotations

import os
import ssl
from typing import TYPE_CHECKING, Any, Final

from xarray_nd2.io.redirects import proxy_of_environment

if TYPE_CHECKING:
    from collections.abc import Mapping

    from yarl import URL

_BOTOCORE_MAX_CONNECTIONS: Final = 10  # unless its user says otherwise
_HONOURED_OPTIONS: Final = frozenset(
    {
        *("anon", "key", "secret", "token", "username", "password", "profile", "session"),
        *("endpoint_url", "use_ssl", "client_kwargs", "config_kwargs", "cache_regions"),
        *("requester_pays", "s3_additional_kwargs", "version_aware"),
        # Of files that fsspec opens, of listings and of writing.
        *("default_block_size", "default_fill_cache", "default_cache_type", "local_expiry_check"),
        *("use_listings_cache", "listings_expiry_time", "max_paths", "skip_instance_cache"),
        *("max_concurrency", "batch_size", "fixed_upload_size", "asynchronous", "loop"),
    }
)
_HONOURED_CLIENT_OPTIONS: Final = frozenset(
    {
        *("region_name", "endpoint_url", "use_ssl", "verify", "api_version"),
        *("aws_access_key_id", "aws_secret_access_key", "aws_session_token", "aws_account_id"),
    }
)
_HONOURED_CONFIG: Final = frozenset(
    {
        *("region_name", "signature_version", "s3", "parameter_validation"),
        *("use_dualstack_endpoint", "use_fips_endpoint", "ignore_configured_endpoint_urls"),
        *("max_pool_connections", "retries", "connect_timeout", "read_timeout", "proxies"),
    }
)
_HONOURED_S3_CONFIG: Final = frozenset(
    {
        *("addressing_style", "use_accelerate_endpoint", "use_dualstack_endpoint"),
        *("us_east_1_regional_endpoint", "use_arn_region", "payload_signing_enabled"),
    }
)
_HEADER_OF_ARGUMENT: Final = {"RequestPayer": "x-amz-request-payer"}
_ARGUMENTS_IN_URL: Final = frozenset({"VersionId"})


def are_honoured(fs: Any) -> bool:
    """Whether plain HTTP can do all that the options of an s3fs filesystem ask for.

    Of a class that is derived from s3fs's nobody knows what it does.
    """
    from s3fs import S3FileSystem

    config = fs.config_kwargs
    return (
        type(fs) is S3FileSystem
        and _HONOURED_OPTIONS.issuperset(fs.storage_options)
        and _HONOURED_CLIENT_OPTIONS.issuperset(fs.client_kwargs)
        and isinstance(fs.client_kwargs.get("verify"), (bool, str, type(None)))
        and _HONOURED_CONFIG.issuperset(config)
        and config.get("signature_version") in (None, "s3v4")
        and _HONOURED_S3_CONFIG.issuperset(config.get("s3") or ())
        and all(map(_is_plain_proxy, (config.get("proxies") or {}).values()))
    )


def has_plain_name(bucket: str) -> bool:
    """Whether a bucket is no access point and no directory, which are signed in ways of their own."""
    return not bucket.startswith("arn:") and not bucket.endswith("--x-s3")


def asked_arguments(fs: Any, version: str | None) -> dict[str, Any]:
    """What a filesystem asks for as it is now, of objects in general and of this version."""
    of_version = {"VersionId": version} if version else {}
    return {**fs.s3_additional_kwargs, **fs.req_kw, **of_version}


def arguments_of_get(client: Any, asked: Mapping[str, Any]) -> dict[str, Any]:
    """Those of some arguments that reading an object takes; others are for writing."""
    known = client.meta.service_model.operation_model("GetObject").input_shape.members
    return {
        name: value
        for name, value in asked.items()
        if name in known and not (name == "RequestPayer" and value is None)
    }


def headers_of_arguments(arguments: Mapping[str, Any]) -> dict[str, str] | None:
    """Headers to send with a signed URL; None if they are not known, or a secret as keys are."""
    if not arguments.keys() <= _ARGUMENTS_IN_URL | _HEADER_OF_ARGUMENT.keys():
        return None
    return {
        header: str(arguments[name])
        for name, header in _HEADER_OF_ARGUMENT.items()
        if name in arguments
    }


def max_connections(fs: Any) -> int:
    """Requests that the client of a filesystem makes at once."""
    return int(fs.config_kwargs.get("max_pool_connections", _BOTOCORE_MAX_CONNECTIONS))


def has_found_credentials(fs: Any) -> bool:
    """Whether a filesystem looks for credentials, since it was given none and needs some."""
    return not (fs.anon or fs.key or fs.client_kwargs.get("aws_access_key_id"))


def tls_context(fs: Any) -> ssl.SSLContext | bool:
    """What the client of a filesystem trusts: an argument `ssl` of aiohttp.

    The filesystem is connected.
    """
    from botocore.httpsession import get_cert_path

    verify = fs.client_kwargs.get("verify")
    if verify is None:
        verify = fs.session.get_config_variable("ca_bundle")  # or AWS_CA_BUNDLE
    if verify is None:
        verify = os.environ.get("REQUESTS_CA_BUNDLE") or True
    if verify is False:
        return False
    return ssl.create_default_context(cafile=get_cert_path(verify))


def proxy_for(url: URL, fs: Any) -> str | None:
    """Proxy by which the client of a filesystem asks for a URL.

    Raises
    ------
    ValueError
        It is one that only the client can talk to.
    """
    proxies = fs.config_kwargs.get("proxies")
    proxy = proxy_of_environment(url) if proxies is None else proxies.get(url.scheme)
    if not proxy:
        return None
    if not _is_plain_proxy(proxy):
        raise ValueError("a proxy that speaks no plain HTTP")
    return proxy if "://" in proxy else f"http://{proxy.removeprefix('//')}"


def _is_plain_proxy(proxy: Any) -> bool:
    return not proxy or (
        isinstance(proxy, str) and (proxy.startswith("http://") or "://" not in proxy)
    )
