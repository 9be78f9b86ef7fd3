"""Nikon ND2 files as labelled, lazy xarray images, read by byte ranges from wherever they are.

``xr.open_dataset(url, engine="nd2")`` is all there is to call; importing this package gives the
exceptions that it raises.
"""

from xarray_nd2.errors import (
    ND2ChangedError,
    ND2Error,
    ND2FormatError,
    ND2NotFoundError,
    ND2PermissionError,
    ND2SourceError,
    ND2UnsupportedError,
)

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
]
