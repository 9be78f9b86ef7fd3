"""Reading in steps, so that what is read together takes each step in one round trip."""

from __future__ import annotations

from collections.abc import Generator
from typing import TypeAlias, TypeVar

T = TypeVar("T")

Steps: TypeAlias = Generator[list[tuple[int, int]], None, T]
"""Yields ranges of the file that are needed, goes on when they are held, and returns what it read."""
