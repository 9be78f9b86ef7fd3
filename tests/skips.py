"""What is told of tests that were skipped: how many, and how to have them run."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

NO_CORPUS = "no real files: set ND2_CORPUS to a folder of ND2 files"
_MISSING_SERVER = re.compile(r"(\S+) is not installed")


def skip_reason(longrepr: Any) -> str:
    """Reason of a skip, as pytest reports it: file, line and text."""
    text = longrepr[2] if isinstance(longrepr, tuple) else str(longrepr)
    return str(text).removeprefix("Skipped: ")


def skip_lines(reasons: list[str]) -> list[str]:
    """Tell of skips: one line for what can be installed or set, one for each other reason.

    Parameters
    ----------
    reasons : list of str
        Of each test that was skipped.

    Returns
    -------
    list of str
        Lines that together count every test once.
    """
    servers, others, corpus = Counter[str](), Counter[str](), 0
    for reason in reasons:
        if NO_CORPUS in reason:
            corpus += 1
        elif found := _MISSING_SERVER.search(reason):
            servers[found[1]] += 1
        else:
            others[reason] += 1
    wants = []
    if servers:
        names = ", ".join(sorted(servers))
        wants.append(f"{servers.total()} need servers that .ci/servers installs ({names})")
    if corpus:
        wants.append(f"{corpus} need real files: set ND2_CORPUS to a folder of ND2 files")
    lines = [f"skipped {servers.total() + corpus} tests: " + "; ".join(wants)] if wants else []
    return lines + [f"skipped {count}: {reason}" for reason, count in sorted(others.items())]
