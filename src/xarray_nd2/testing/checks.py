"""Arguments are checked before anything is written."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["raise_unless", "raise_unless_one_of"]


def raise_unless(met: bool, message: str) -> None:
    """Raise a ValueError that says `message` unless a condition is met."""
    if not met:
        raise ValueError(message)


def raise_unless_one_of(name: str, value: object, allowed: Sequence[object]) -> None:
    """Raise a ValueError unless an argument has one of the allowed values."""
    raise_unless(value in allowed, f"{name} must be one of {allowed}, not {value!r}")
