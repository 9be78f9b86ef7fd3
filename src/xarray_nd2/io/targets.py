"""What a user may give as a file, and how it is found and called from then on."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

from xarray_nd2.io.local import OpenFile
from xarray_nd2.io.secrets import public_url
from xarray_nd2.io.urls import is_local, local_path, open_file_path


def named_target(obj: Any) -> tuple[str, str | tuple[Any, str] | OpenFile]:
    """Name to show and target to read of anything that names a file.

    Parameters
    ----------
    obj : str, os.PathLike, UPath, fsspec OpenFile, open binary file, or bytes
        What to read. URLs may be chained (``simplecache::s3://...``).

    Returns
    -------
    name : str
        The URL without credentials, or the path.
    target : str or (filesystem, str) or OpenFile
        An absolute path or a URL; a path on an fsspec filesystem; or an open file.

    Raises
    ------
    TypeError
        `obj` names no file.
    ValueError
        A file opened in text mode, or through a compression.
    """
    if isinstance(obj, os.PathLike):
        path = os.fspath(obj)
        # A path is no chain of URLs, whatever it is called. Those of UPath are.
        chained = "://" in path or "::" not in path
        return named_target(path if chained else f"file://{path}")
    if isinstance(obj, str):
        if not is_local(obj):
            return public_url(obj), obj
        # It stays the same file wherever it is read, in another folder or process.
        path = str(Path(local_path(obj)).absolute())
        name = obj if obj.startswith(("file:///", "local:///")) else path
        return name, f"file://{path}" if "::" in path else path
    fs, path = getattr(obj, "fs", None), getattr(obj, "path", None)
    if fs is not None and isinstance(path, str):
        if getattr(obj, "compression", None):
            raise ValueError(f"{public_url(path)} has no byte ranges through a compression")
        return public_url(fs.unstrip_protocol(path)), (fs, path)
    if isinstance(obj, (bytes, bytearray, memoryview)):
        obj = io.BytesIO(obj)
    if not (hasattr(obj, "read") and hasattr(obj, "seek")):
        raise TypeError(f"expected a path, a URL or an open binary file, not {type(obj).__name__}")
    if isinstance(obj, io.TextIOBase):
        name = getattr(obj, "name", type(obj).__name__)
        raise ValueError(f"{name} is open in text mode; open it in binary mode")  # noqa: TRY004
    opened = open_file_path(obj)
    return opened or f"<{type(obj).__name__}>", opened or OpenFile(obj)
