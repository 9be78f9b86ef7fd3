"""What ``doctor`` prints for people."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

from rich.text import Text

from xarray_nd2.cli.console import print_rows
from xarray_nd2.cli.doctor.findings import OUTCOME_FAILED, OUTCOME_WARNING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from xarray_nd2.cli.doctor.findings import Finding

_STYLE_OF_OUTCOME: Final = {"ok": "green", "warning": "yellow", "failed": "bold red"}


def print_findings(name: str, findings: Sequence[Finding]) -> None:
    """Print what was found of a file, one check after the other, and what that comes to."""
    rows: list[tuple[str, str | Text]] = [("file", name)]
    for each in findings:
        outcome = (f"{each.outcome:<9}", _STYLE_OF_OUTCOME[each.outcome])
        rows.append((each.check, Text.assemble(outcome, each.found)))
        if each.advice:
            rows.append(("", Text(f"         do: {each.advice}")))
    counts = Counter(each.outcome for each in findings)
    warnings = (
        "1 warning" if counts[OUTCOME_WARNING] == 1 else f"{counts[OUTCOME_WARNING]} warnings"
    )
    verdict = "the file can be read from here"
    if counts[OUTCOME_FAILED]:
        verdict = "the file cannot be read from here as it is"
    rows.append(("result", verdict + (f"; {warnings}" if counts[OUTCOME_WARNING] else "")))
    print_rows(rows)
