"""What commands print: results on the standard output, coloured on terminals only."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any, Final

from rich.console import Console
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Iterable

_UNITS_OF_BYTES: Final = ("B", "kB", "MB", "GB", "TB", "PB")


def print_rows(rows: Iterable[tuple[str, str | Text]]) -> None:
    """Print labels and what they stand for; folded at the width of a terminal, whole in a pipe."""
    console, rows = Console(highlight=False), list(rows)
    indent = max(len(label) for label, _ in rows) + 2
    for label, value in rows:
        text = value if isinstance(value, Text) else Text(value)
        width = max(20, console.width - indent)
        lines = text.wrap(console, width) if console.is_terminal else [text]
        for number, line in enumerate(lines):
            line.rstrip()
            head = label if number == 0 else ""
            console.print(
                Text.assemble((head.ljust(indent), "bold"), line), soft_wrap=True, markup=False
            )


def print_json(value: Any) -> None:
    """Print one object of JSON; what is not finite is null."""
    print(json.dumps(_plain(value), ensure_ascii=False, allow_nan=False, indent=2))


def in_bytes(nbytes: float) -> str:
    """Bytes with three digits and a decimal unit.

    Examples
    --------
    >>> in_bytes(134_217_728), in_bytes(0)
    ('134 MB', '0 B')
    """
    for unit in _UNITS_OF_BYTES:
        if nbytes < 999.5 or unit == _UNITS_OF_BYTES[-1]:
            break
        nbytes /= 1000
    return f"{nbytes:.3g} {unit}"


def in_seconds(seconds: float) -> str:
    """A time in the unit that suits it.

    Examples
    --------
    >>> in_seconds(0.0123), in_seconds(26.01), in_seconds(6900)
    ('12 ms', '26 s', '1 h 55 min')
    """
    if seconds < 0.9995:
        milliseconds = seconds * 1000
        return f"{milliseconds:.0f} ms" if milliseconds >= 9.95 else f"{milliseconds:.2g} ms"
    if seconds < 120:
        return f"{seconds:.3g} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if minutes else f"{hours} h"


def in_requests(count: int) -> str:
    """A number of requests.

    Examples
    --------
    >>> in_requests(1), in_requests(0)
    ('1 request', 'no requests')
    """
    return "no requests" if not count else "1 request" if count == 1 else f"{count:,} requests"


def _plain(value: Any) -> Any:
    """A value of what JSON has."""
    if isinstance(value, dict):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    if hasattr(value, "tolist"):  # of NumPy
        return _plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if isinstance(value, (str, int, float, bool, type(None))) else str(value)
