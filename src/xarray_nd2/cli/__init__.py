"""The command ``xarray-nd2``."""
