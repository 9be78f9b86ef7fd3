"""Real storage servers for the tests, each in a module of its own.

Every module has ``serve(folder)``, a context manager that starts the server on free ports of the
loopback, waits until it answers, and stops it. Where the program is missing it raises `Missing`,
whose text says how to get it; ``.ci/servers`` installs all of them.
"""

from __future__ import annotations

from .store import Missing, Store

__all__ = ["Missing", "Store"]
