"""Nikon ND2 files as labelled, lazy xarray images, read by byte ranges from wherever they are.

``xr.open_dataset(url, engine="nd2")`` is all there is to call. This package gives the exceptions that it
raises, and `trace`, which tells what was read.
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
    from xarray_nd2.traces import trace

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
    "trace",
]

_MODULE_OF_FUNCTION = {"trace": "xarray_nd2.traces"}


def __getattr__(name: str) -> Any:
    """Import what is more than exceptions when it is asked for, so that these cost nothing more."""
    if name not in _MODULE_OF_FUNCTION:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULE_OF_FUNCTION[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULE_OF_FUNCTION})
