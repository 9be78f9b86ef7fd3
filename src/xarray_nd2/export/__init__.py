"""ND2 files written in open formats, piece by piece, from wherever they are."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from xarray_nd2.export.ome_tiff import to_ome_tiff
    from xarray_nd2.export.ome_zarr import OmeZarrExport, to_ome_zarr

__all__ = ["OmeZarrExport", "to_ome_tiff", "to_ome_zarr"]

_MODULE_OF_NAME = {
    "OmeZarrExport": "ome_zarr",
    "to_ome_tiff": "ome_tiff",
    "to_ome_zarr": "ome_zarr",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF_NAME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULE_OF_NAME[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
