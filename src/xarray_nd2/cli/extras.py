"""Whether the packages of an extra are installed."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


def missing_packages(names: Iterable[str]) -> list[str]:
    """Those of some packages, by the names they are imported by, that cannot be imported."""
    return [name for name in names if not _is_installed(name)]


def _is_installed(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except ValueError:  # hidden in sys.modules
        return False
