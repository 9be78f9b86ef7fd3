"""What ``xarray-nd2 demo`` does."""
