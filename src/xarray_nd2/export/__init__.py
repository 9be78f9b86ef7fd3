"""ND2 files written in open formats, from wherever they are to wherever they should be."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from xarray_nd2.export.ome_zarr import OmeZarrExport, to_ome_zarr

__all__ = ["OmeZarrExport", "to_ome_zarr"]

# Imported when they are first used: zarr and what describes images need not be installed to read.
_MODULE_OF_NAME = {"OmeZarrExport": "ome_zarr", "to_ome_zarr": "ome_zarr"}


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF_NAME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULE_OF_NAME[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
