"""What the tests know of a store: where its files are, and how to put them there."""

from __future__ import annotations

import itertools
import os
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path


class Missing(Exception):  # noqa: N818  (a reason to skip, not an error)
    """A program is not installed; the text says how to get it."""


@dataclass(frozen=True)
class Store:
    """One running server.

    Attributes
    ----------
    url : callable
        URL of a file by its name.
    options : mapping
        The `storage_options` that its URLs need.
    put : callable
        Stores bytes under a name, which may have a folder; replaces what is there.
    port : int
        Where the server listens; 0 where there is none.
    at : callable
        The same store by another port, behind which the server is.
    secrets : tuple of str
        What must never be shown.
    """

    url: Callable[[str], str]
    options: Mapping[str, Any]
    put: Callable[[str, bytes], None]
    port: int = 0
    at: Callable[[int], Store] | None = field(default=None, repr=False)
    secrets: tuple[str, ...] = ()


def put_into(folder: Path) -> Callable[[str, bytes], None]:
    """Write files of a folder that a server serves; readers see the old file or the new one.

    Each is two seconds younger than the one before: most servers tell versions by whole seconds.
    """
    ages = itertools.count(0, -2)
    now = time.time()

    def put(name: str, data: bytes) -> None:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(path.name + ".part")
        part.write_bytes(data)
        os.utime(part, times=(now, now - 3600 - next(ages)))
        part.replace(path)

    return put
