"""Which transport reads a target, and the making of it: one for each process and file."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Final

import fsspec
import fsspec.asyn
import fsspec.config
import fsspec.utils
from fsspec.implementations.dirfs import DirFileSystem

from xarray_nd2.io import cloud, filesystems, http
from xarray_nd2.io.local import LocalFile, MemoryFile, OpenFile
from xarray_nd2.io.mounted import MountedFile
from xarray_nd2.io.mounts import DISK_MOUNT, UNKNOWN_MOUNT, mount_of
from xarray_nd2.io.process import MAX_CONCURRENCY, start_read_thread, this_process
from xarray_nd2.io.urls import host_of, is_local, local_path, with_long_addresses

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Mapping

    from xarray_nd2.io.local import DirectTransport
    from xarray_nd2.io.mounts import Mount
    from xarray_nd2.io.transport import Transport

    Chosen = Transport | DirectTransport

MAX_MOUNT_LOOK_SECONDS: Final = 2.0  # until what says nothing is taken for a share

_S3_FILESYSTEM: Final = "s3fs.core.S3FileSystem"
# By the class that has what the transport uses, and not by protocol: that may be claimed by another.
_TRANSPORT_OF_CLASS: dict[str, Callable[[Any, str], Chosen]] = {
    "fsspec.implementations.local.LocalFileSystem": lambda _, path: _file_at(path),
    "fsspec.implementations.memory.MemoryFileSystem": MemoryFile,
    "fsspec.implementations.smb.SMBFileSystem": filesystems.SMBTransport,
    "webdav4.fsspec.WebdavFileSystem": http.WebDAVTransport,
    "fsspec.implementations.http.HTTPFileSystem": http.HTTPTransport,
    _S3_FILESYSTEM: cloud.S3Transport,
    "gcsfs.core.GCSFileSystem": cloud.GCSTransport,
    "gcsfs.extended_gcsfs.ExtendedGcsFileSystem": cloud.GCSTransport,
    "adlfs.spec.AzureBlobFileSystem": cloud.AzureTransport,
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
    if isinstance(target, str) and is_local(target) and not _mount(local_path(target)).is_share:
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
    # Not isinstance: a caching filesystem passes for the one it caches.
    kind = type(fs)
    for ancestor in kind.__mro__:
        transport = _TRANSPORT_OF_CLASS.get(_full_name(ancestor))
        if transport is not None and not _reads_otherwise(kind, ancestor):
            return transport(fs, path)
    is_async = issubclass(kind, fsspec.asyn.AsyncFileSystem)
    return (filesystems.AsyncTransport if is_async else filesystems.QueueTransport)(fs, path)


def _full_name(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def _reads_otherwise(kind: type, ancestor: type) -> bool:
    """Whether a class has its own way to read what its ancestor reads."""
    return any(
        getattr(kind, name, None) is not getattr(ancestor, name, None)
        for name in ("_cat_file", "cat_file", "_open", "open")
    )


def _file_at(path: str) -> Chosen:
    mount = _mount(path)
    return MountedFile(path, mount) if mount.is_share else LocalFile(path)


def _mount(path: str) -> Mount:
    """Where a path is mounted, kept for its folder, and for itself where it is a link.

    What does not answer, or fails, is taken for a share.
    """
    process = this_process()
    mount = UNKNOWN_MOUNT
    for place in (os.path.dirname(path), path):  # noqa: PTH120
        known = process.mounts.get(place)
        if known is None:
            try:
                looking = start_read_thread(_mount_of_file, path, place)
                known = looking.result(MAX_MOUNT_LOOK_SECONDS)
            except FileNotFoundError:
                return DISK_MOUNT  # whoever opens it is told; a share may be mounted there later
            except OSError:
                return UNKNOWN_MOUNT
            process.keep_mount(place, known)
        mount = known
        if mount.is_share or not os.path.islink(path):  # noqa: PTH114
            break
    return mount


def _mount_of_file(path: str, place: str) -> Mount:
    os.lstat(path)  # it is there
    return mount_of(place)


def _new_connection(target: str | tuple[Any, str], storage_options: Mapping[str, Any]) -> Chosen:
    if isinstance(target, str) and is_local(target):
        return _file_at(local_path(target))
    if isinstance(target, str):
        return transport_for(*filesystem_of(target, storage_options))
    fs, path = target
    # `_pid` is fsspec's own mark of where an asynchronous filesystem may be used, until there is a
    # public one.
    if getattr(fs, "_pid", os.getpid()) != os.getpid() or getattr(fs, "asynchronous", False):
        # It belongs to the process that this one was forked from, or to its user's event loop.
        options = fs.storage_options | ({"asynchronous": False} if fs.async_impl else {})
        fs = type(fs)(*fs.storage_args, **options)
    return transport_for(fs, path)


def filesystem_of(target: str, storage_options: Mapping[str, Any]) -> tuple[Any, str]:
    """The filesystem of a URL, and the path of the URL on it."""
    url = with_long_addresses(target)
    fs, path = fsspec.url_to_fs(url, **_with_connections(url, storage_options))
    return fs, path


def _with_connections(url: str, storage_options: Mapping[str, Any]) -> dict[str, Any]:
    """Options for S3: as many connections as requests, where botocore's default would allow 10.

    Its client makes one attempt unless the user says otherwise, since who calls it tries again.
    """
    options = dict(storage_options)
    scheme = url.partition("://")[0]
    if (
        scheme in ("s3", "s3a")
        and _full_name(fsspec.get_filesystem_class(scheme)) == _S3_FILESYSTEM
    ):
        # What the environment sets counts as well, which an option given here would replace.
        options = fsspec.config.apply_config(fsspec.get_filesystem_class(scheme), options)
        ours = {"max_pool_connections": MAX_CONCURRENCY, "retries": {"total_max_attempts": 1}}
        options["config_kwargs"] = ours | options.get("config_kwargs", {})
    return options
