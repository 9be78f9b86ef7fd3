"""Nikon ND2 files as labelled, lazy xarray images, read by byte ranges from wherever they are.

``xr.open_dataset(url, engine="nd2")`` is all there is to call for an image. Importing this package
gives the exceptions that it raises, and functions that are loaded when they are first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from xarray_nd2.errors import (
    ND2ChangedError,
    ND2Error,
    ND2FormatError,
    ND2NotFoundError,
    ND2PermissionError,
    ND2SourceError,
    ND2UnsupportedError,
)

if TYPE_CHECKING:
    from xarray_nd2.ome.document import ome_metadata

__version__ = "0.1.0"

__all__ = [
    "ND2ChangedError",
    "ND2Error",
    "ND2FormatError",
    "ND2NotFoundError",
    "ND2PermissionError",
    "ND2SourceError",
    "ND2UnsupportedError",
    "__version__",
    "ome_metadata",
]

# So that importing this package stays light.
_MODULE_OF_FUNCTION = {"ome_metadata": "xarray_nd2.ome.document"}


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF_FUNCTION:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULE_OF_FUNCTION[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
