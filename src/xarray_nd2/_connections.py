"""What a process keeps of the stores it reads from: connections, threads, and what it learnt.

None of it is ever sent to another process, and none of it survives a fork: everything is kept by
process id and made anew when it is first needed.
"""

from __future__ import annotations

import functools
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import fsspec
import fsspec.utils

from xarray_nd2._cost import DEFAULT_LINKS, LinkObserver
from xarray_nd2._location import is_local, local_path
from xarray_nd2._transport import DirectTransport, LocalFile, OpenFile, transport_for

if TYPE_CHECKING:
    from collections.abc import Mapping

    from xarray_nd2._transport import Transport


@functools.lru_cache(maxsize=256)
def observer(pid: int, kind: str, host: str) -> LinkObserver:  # noqa: ARG001  (each its own)
    return LinkObserver(DEFAULT_LINKS[kind])


@functools.cache
def decode_threads(pid: int) -> ThreadPoolExecutor:  # noqa: ARG001  (a fork has none of its threads)
    return ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="xarray-nd2-decode")


_connections: dict[Any, Transport | DirectTransport] = {}
_connecting = threading.Lock()


def connect(
    target: str | tuple[Any, str] | OpenFile,
    storage_options: Mapping[str, Any],
    max_connections: int,
) -> Transport | DirectTransport:
    """Transport of a target, one for each process and file."""
    if isinstance(target, OpenFile):
        return target
    if isinstance(target, str) and is_local(target):
        return LocalFile(local_path(target))
    options = fsspec.utils.tokenize(storage_options)
    key = (os.getpid(), *target) if isinstance(target, tuple) else (os.getpid(), target, options)
    with _connecting:
        if key not in _connections:
            if isinstance(target, tuple):
                fs, path = target
            else:
                fs, path = fsspec.core.url_to_fs(
                    target, **_with_connections(target, storage_options, max_connections)
                )
            while len(_connections) >= 256:
                _connections.pop(next(iter(_connections)))
            _connections[key] = transport_for(fs, path)
        return _connections[key]


def _with_connections(
    url: str, storage_options: Mapping[str, Any], max_connections: int
) -> dict[str, Any]:
    """Options with as many S3 connections as requests: botocore's default would allow 10."""
    options = dict(storage_options)
    if url.startswith(("s3://", "s3a://")):
        config = {"max_pool_connections": max_connections, **options.get("config_kwargs", {})}
        options["config_kwargs"] = config
    return options
