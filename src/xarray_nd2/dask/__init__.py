"""Crops of dask arrays become reads of less. Opening and reading work without this room."""
