"""Nikon ND2 files as labelled, lazy xarray images, read by byte ranges from wherever they are.

``xr.open_dataset(url, engine="nd2")`` opens them. This package gives what goes beyond that, loaded
when it is first used, and the exceptions that are raised.
"""

from __future__ import annotations

from importlib import import_module
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
    from xarray_nd2.explanation import Explanation, WholeBlocks, explain
    from xarray_nd2.many.opening import open_many
    from xarray_nd2.ome.document import ome_metadata
    from xarray_nd2.read.link import Link
    from xarray_nd2.sampling.batches import Batches, batches
    from xarray_nd2.sampling.regions import regions
    from xarray_nd2.traces import trace

__version__ = "0.1.0"

__all__ = [
    "Batches",
    "Explanation",
    "Link",
    "ND2ChangedError",
    "ND2Error",
    "ND2FormatError",
    "ND2NotFoundError",
    "ND2PermissionError",
    "ND2SourceError",
    "ND2UnsupportedError",
    "WholeBlocks",
    "__version__",
    "batches",
    "explain",
    "ome_metadata",
    "open_many",
    "regions",
    "trace",
]

# Imported when they are first used, so that importing the package, as every process does that
# unpickles an array of it, does not import xarray or dask.
_MODULE_OF_NAME = {
    "Batches": "sampling.batches",
    "Explanation": "explanation",
    "Link": "read.link",
    "WholeBlocks": "explanation",
    "batches": "sampling.batches",
    "explain": "explanation",
    "ome_metadata": "ome.document",
    "open_many": "many.opening",
    "regions": "sampling.regions",
    "trace": "traces",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF_NAME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULE_OF_NAME[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
