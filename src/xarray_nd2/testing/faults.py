"""What may go wrong with an answer over HTTP, and the answers that come of it."""

from __future__ import annotations

import gzip
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from xarray_nd2.testing.answers import Answer

if TYPE_CHECKING:
    from collections.abc import Callable

    FaultOfRequest = Callable[[int, str, str, tuple[int, int] | None], "Fault | None"]


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that goes wrong with one answer.

    Attributes
    ----------
    kind : int or str
        A status code, or

        - ``"reset"``: the connection is dropped before the answer;
        - ``"short"``: it is closed after half of the body;
        - ``"truncate"``: a complete answer with half of the range, which it says;
        - ``"early_end"``: a complete answer with half of the range that it says;
        - ``"ignore_range"``: the whole object with status 200;
        - ``"gzip"``: a complete answer, its body compressed;
        - ``"stall"``: no answer until the client gives up;
        - ``"informational"``: no answer but a ``102 Processing`` every second;
        - ``"trickle"``: a byte a second, from the first of the answer on;
        - ``"trickle_body"``: the same, from the first of the body on.
    """

    kind: (
        Literal[
            "reset",
            "short",
            "truncate",
            "early_end",
            "ignore_range",
            "gzip",
            "stall",
            "informational",
            "trickle",
            "trickle_body",
        ]
        | int
    )


def altered_answer(answer: Answer, kind: int | str | None) -> Answer:
    """An answer as far as a fault of some kind shows in what it says."""
    if kind == "gzip":
        headers = [*answer.headers, ("Content-Encoding", "gzip")]
        return replace(answer, headers=headers, body=gzip.compress(bytes(answer.body[:]), 1))
    if kind not in ("truncate", "early_end"):
        return answer
    half = (len(answer.body) + 1) // 2
    headers = [
        (name, _shortened(value, half))
        if kind == "truncate" and name.lower() == "content-range"
        else (name, value)
        for name, value in answer.headers
    ]
    return Answer(answer.status, headers, answer.body[:half])


def _shortened(content_range: str, size: int) -> str:
    return re.sub(r"(\d+)-\d+", lambda span: f"{span[1]}-{int(span[1]) + size - 1}", content_range)
