"""ND2 files as virtual Zarr: pixels that plain zarr reads where they are, without this package."""

from __future__ import annotations

from xarray_nd2.virtual.parser import ND2Parser

__all__ = ["ND2Parser"]
