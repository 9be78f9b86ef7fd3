"""What a command raises to end with a message and an exit code."""

from __future__ import annotations


class UsageError(Exception):
    """What was asked for cannot be: exit code 2."""


class CommandError(Exception):
    """The command could not do it: exit code 1."""
