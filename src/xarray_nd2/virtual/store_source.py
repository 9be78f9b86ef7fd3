"""A file in a store of VirtualiZarr's registry, as a source of bytes for opening it."""

from __future__ import annotations

import io
import os
from typing import TYPE_CHECKING, Any

from xarray_nd2.io.local import OpenFile
from xarray_nd2.io.secrets import public_url
from xarray_nd2.io.source import ByteSource

if TYPE_CHECKING:
    from obspec_utils.registry import ObjectStoreRegistry


def source_in_registry(url: str, registry: ObjectStoreRegistry) -> ByteSource:
    """Source of the file at a URL, read by the store that the registry has for it.

    Raises
    ------
    ValueError
        The registry has no store for the URL.
    """
    store, path = registry.resolve(url)
    return ByteSource(public_url(url), OpenFile(_StoredObject(store, path)))


class _StoredObject(io.RawIOBase):
    """An object of an obspec store as a raw file: one request for its size, one for each read.

    The readers of obspec-utils read ahead, which opening an ND2 has no use for.
    """

    def __init__(self, store: Any, path: str) -> None:
        self._store, self._path = store, path
        self._position = 0
        self._size: int | None = None

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: 0}[whence]
        if whence == os.SEEK_END:
            start = self._object_bytes()
        self._position = start + offset
        return self._position

    def read(self, size: int = -1, /) -> bytes:
        left = max(0, self._object_bytes() - self._position)
        count = left if size < 0 else min(size, left)
        if not count:
            return b""
        data = bytes(self._store.get_range(self._path, start=self._position, length=count))
        self._position += len(data)
        return data

    def _object_bytes(self) -> int:
        if self._size is None:
            self._size = int(self._store.head(self._path)["size"])
        return self._size
