"""What a check found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

Outcome = Literal["ok", "warning", "failed"]
OUTCOME_OK: Final = "ok"
OUTCOME_WARNING: Final = "warning"
OUTCOME_FAILED: Final = "failed"


@dataclass(frozen=True)
class Finding:
    """What a check found.

    Attributes
    ----------
    check : str
        What was looked at, such as "ranges".
    outcome : {"ok", "warning", "failed"}
        With "failed" the file cannot be read, or not safely.
    found : str
        In words, without secrets.
    advice : str
        What to do; empty where there is nothing to do.
    """

    check: str
    outcome: Outcome
    found: str
    advice: str = ""
