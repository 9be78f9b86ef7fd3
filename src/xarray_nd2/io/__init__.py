"""Bytes from stores: one transport for each kind of store, and the source that reads through it."""
