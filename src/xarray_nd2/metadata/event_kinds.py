"""The vendor's numbers for what an event is, in words (named after the enumerations of nd2)."""

from __future__ import annotations

from typing import Final

_USER_MARKS: Final = 8
_KINDS_OF_EVENT: Final = {
    0: "unspecified",
    1: "autofocus",
    **{number: f"user mark {number - 1} (old)" for number in range(2, 6)},
    6: "job",
    7: "command",
    8: "macro",
    9: "experiment paused",
    10: "experiment resumed",
    11: "experiment stopped by the user",
    12: "acquisition triggered",
    13: "next phase started by the user",
    14: "paused for refocusing",
    15: "stimulation",
    16: "external stimulation",
    17: "experiment start",
    18: "experiment end",
    19: "phase start",
    20: "phase end",
    21: "before XY move",
    22: "after XY move",
    23: "before Z series",
    24: "after Z series",
    25: "before lambda loop",
    26: "after lambda loop",
    27: "before large image",
    28: "after large image",
    29: "before stimulation",
    30: "after stimulation",
    31: "user event",
    32: "stream data",
    **{32 + mark: f"user mark {mark}" for mark in range(1, _USER_MARKS + 1)},
    41: "before capture",
    42: "after capture",
    43: "real-time TTL data",
    44: "start of a phase without acquisition",
    45: "end of a phase without acquisition",
    46: "hardware error",
    47: "STORM event",
    48: "incubation info",
    49: "incubation error",
    50: "interactive experiment end",
    51: "pause of the experiment",
    52: "water immersion replenishment start",
    53: "water immersion replenishment end",
    54: "N-STORM",
}
_PHASES_OF_STIMULATION: Final = {
    0: "none",
    1: "sequential",
    2: "parallel",
    3: "manual",
    4: "begin",
    5: "end",
}


def kind_of_event(number: int | None) -> str:
    """What an event is; empty for None.

    Examples
    --------
    >>> kind_of_event(7), kind_of_event(999)
    ('command', 'kind 999')
    """
    return "" if number is None else _KINDS_OF_EVENT.get(number, f"kind {number}")


def phase_of_stimulation(number: int | None) -> str:
    """What of a stimulation an event marks; empty for None."""
    return "" if number is None else _PHASES_OF_STIMULATION.get(number, f"phase {number}")
