"""Reading in steps, so that what is read together takes each step in one round trip."""

from __future__ import annotations

from collections.abc import Generator
from typing import TypeAlias, TypeVar

T = TypeVar("T")

Steps: TypeAlias = Generator[list[tuple[int, int]], None, T]
"""Yields ranges of the file that are needed, goes on when they are held, and returns what it read."""


def without_prefetching(steps: Steps[T]) -> T:
    """What is read in steps, where each step reads itself what is not held."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            value: T = end.value
            return value
