"""Which transport reads a target, and the making of it: one for each process and file."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import fsspec
import fsspec.asyn
import fsspec.utils
from fsspec.implementations.dirfs import DirFileSystem

from xarray_nd2.io import cloud, filesystems, http
from xarray_nd2.io.local import LocalFile, MemoryFile, OpenFile
from xarray_nd2.io.process import MAX_CONCURRENCY, this_process
from xarray_nd2.io.urls import host_of, is_local, local_path

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Mapping

    from xarray_nd2.io.local import DirectTransport
    from xarray_nd2.io.transport import Transport

    Chosen = Transport | DirectTransport

_BLOCKING_TRANSPORTS: dict[str, Callable[[Any, str], Chosen]] = {
    "file": lambda _, path: LocalFile(path),
    "memory": MemoryFile,
    "smb": filesystems.SMBTransport,
    "webdav": http.WebDAVTransport,
}
_ASYNC_TRANSPORTS: dict[str, Callable[[Any, str], Chosen]] = {
    "http": http.HTTPTransport,
    "s3": cloud.S3Transport,
    "gs": cloud.GCSTransport,
    "abfs": cloud.AzureTransport,
}


def connect(target: str | tuple[Any, str] | OpenFile, storage_options: Mapping[str, Any]) -> Chosen:
    """Transport of a target, kept by this process for the next read.

    One thread at a time connects to a store, and none waits for another store.

    Parameters
    ----------
    target : str or (filesystem, str) or OpenFile
        A path or URL, a path on an fsspec filesystem, or an open file.
    storage_options : mapping
        For the filesystem of a URL.

    Raises
    ------
    Exception
        Whatever the filesystem raises that cannot be made.
    """
    if isinstance(target, OpenFile):
        return target
    if isinstance(target, str) and is_local(target):
        return LocalFile(local_path(target))
    process, key = this_process(), connection_key(target, storage_options)
    connected: Chosen | None = process.connections.get(key)
    if connected is None:
        store = (host_of(target), key[1]) if isinstance(target, str) else target[0]
        with process.connecting.holding(store):
            connected = process.connections.get(key)
            if connected is None:
                connected = _new_connection(target, storage_options)
                process.keep_connection(key, connected)
    return connected


def connection_key(
    target: str | tuple[Any, str], storage_options: Mapping[str, Any]
) -> tuple[Hashable, Hashable]:
    """What tells a file and the way to it from all others, in this process."""
    if isinstance(target, tuple):
        return _SameObject(target[0]), target[1]
    return target, fsspec.utils.tokenize(storage_options)


class _SameObject:
    """A key that only the very same object has.

    Filesystems are equal that were made by the same arguments, at a time of other credentials.
    """

    __slots__ = ("_object",)

    def __init__(self, given: object) -> None:
        self._object = given

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _SameObject) and self._object is other._object

    def __hash__(self) -> int:
        return id(self._object)


def transport_for(fs: Any, path: str) -> Chosen:
    """Choose how to read `path` of an fsspec filesystem."""
    if type(fs) is DirFileSystem:
        # Until it says in public where the path lies.
        return transport_for(fs.fs, fs._join(path))  # noqa: SLF001
    protocols = {fs.protocol} if isinstance(fs.protocol, str) else set(fs.protocol)
    # Not isinstance: a caching filesystem passes for the one it caches.
    is_async = issubclass(type(fs), fsspec.asyn.AsyncFileSystem)
    for protocol, transport in (_ASYNC_TRANSPORTS if is_async else _BLOCKING_TRANSPORTS).items():
        if protocol in protocols:
            return transport(fs, path)
    return (filesystems.AsyncTransport if is_async else filesystems.QueueTransport)(fs, path)


def _new_connection(target: str | tuple[Any, str], storage_options: Mapping[str, Any]) -> Chosen:
    if isinstance(target, str):
        return transport_for(
            *fsspec.url_to_fs(target, **_with_connections(target, storage_options))
        )
    fs, path = target
    # `_pid` is fsspec's own mark of where an asynchronous filesystem may be used, until there is a
    # public one.
    if getattr(fs, "_pid", os.getpid()) != os.getpid() or getattr(fs, "asynchronous", False):
        # It belongs to the process that this one was forked from, or to its user's event loop.
        options = fs.storage_options | ({"asynchronous": False} if fs.async_impl else {})
        fs = type(fs)(*fs.storage_args, **options)
    return transport_for(fs, path)


def _with_connections(url: str, storage_options: Mapping[str, Any]) -> dict[str, Any]:
    """Options for S3: as many connections as requests, where botocore's default would allow 10.

    Its client makes one attempt unless the user says otherwise, since who calls it tries again.
    """
    options = dict(storage_options)
    if url.startswith(("s3://", "s3a://")):
        ours = {"max_pool_connections": MAX_CONCURRENCY, "retries": {"total_max_attempts": 1}}
        options["config_kwargs"] = ours | options.get("config_kwargs", {})
    return options
