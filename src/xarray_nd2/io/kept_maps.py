"""Maps of files that are kept for a moment, since the next read may be of the same file.

The system connects a map with the pages of the file one by one, as they are first touched. For many
small windows that takes as long as copying them.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Hashable

KEPT_SECONDS: Final = 2.0
"""After which a map is let go of that nobody asked for meanwhile."""


class KeptMaps:
    """Maps by what tells their files from all others."""

    def __init__(self, kept_seconds: float = KEPT_SECONDS) -> None:
        self._kept_seconds = kept_seconds
        self._maps: dict[Hashable, tuple[memoryview, float]] = {}
        self._looking = False
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._maps)

    def get(self, key: Hashable) -> memoryview | None:
        """The map of a file, if it is kept; it is kept for longer."""
        with self._lock:
            kept = self._maps.get(key)
            if kept is None:
                return None
            self._maps[key] = kept[0], time.monotonic()
            return kept[0]

    def keep(self, key: Hashable, file: memoryview) -> None:
        """Keep a map."""
        with self._lock:
            self._maps[key] = file, time.monotonic()
            if not self._looking:
                self._looking = True
                self._look_later(self._kept_seconds)

    def _look_later(self, seconds: float) -> None:
        timer = threading.Timer(seconds, self._let_go)
        timer.daemon = True
        timer.start()

    def _let_go(self) -> None:
        with self._lock:
            until = time.monotonic() - self._kept_seconds
            for key in [key for key, (_, used) in self._maps.items() if used <= until]:
                del self._maps[key]
            self._looking = bool(self._maps)
            if self._looking:
                oldest = min(used for _, used in self._maps.values())
                self._look_later(max(0.0, oldest - until))
