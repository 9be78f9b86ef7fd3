"""The loops of an experiment, as trees of the vendor's names and values.

Lengths are in µm, durations in seconds as everywhere in this package; the files hold milliseconds.
"""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from xarray_nd2.testing.checks import raise_unless
from xarray_nd2.testing.variant import Flags

if TYPE_CHECKING:
    from collections.abc import Container, Sequence

    from xarray_nd2.testing.variant import Tree

__all__ = [
    "Loop",
    "Period",
    "Point",
    "custom_loop",
    "experiment",
    "periods_loop",
    "positions_loop",
    "time_loop",
    "z_home_of",
    "z_loop",
]

Period: TypeAlias = tuple[int, float] | tuple[int, float, float]
"""How many times, seconds from one to the next as planned, and as run."""
Point: TypeAlias = tuple[float, float, float]
"""Place of the stage: x, y and z in µm."""

_CUSTOM_LOOP_CODE = 7
# Of stacks around the middle plane, and of those whose home is any other.
_UP_CODES = {"middle": 0, "other": 2}
_DOWN_CODES = {"middle": 4, "other": 6}


@dataclass(frozen=True)
class Loop:
    """One loop of an experiment: the vendor's type code and its parameters."""

    type: int
    parameters: Tree
    valid: Flags | None = None


def time_loop(count: int, period: float, average: float | None = None) -> Loop:
    """Loop over `count` times, `period` seconds apart as planned and `average` as run."""
    return Loop(1, _time_loop_parameters(count, period, average))


def periods_loop(periods: Sequence[Period]) -> Loop:
    """Loop over several runs of times, each with its own period."""
    runs = [_time_loop_parameters(*run) for run in periods]
    return Loop(
        8,
        {
            "uiCount": sum(operator.index(run[0]) for run in periods),
            "uiPeriodCount": len(runs),
            "pPeriod": runs,
            "pPeriodValid": Flags([True] * len(runs)),
        },
    )


def _time_loop_parameters(count: int, period: float, average: float | None = None) -> Tree:
    """Parameters of `count` times, `period` seconds apart as planned and `average` as run."""
    average = period if average is None else average
    planned_ms, run_ms = 1000.0 * float(period), 1000.0 * float(average)
    return {
        "uiCount": operator.index(count),
        "dStart": 0.0,
        "dPeriod": planned_ms,
        "dDuration": planned_ms * max(0, count - 1),
        "dMinPeriodDiff": run_ms,
        "dMaxPeriodDiff": run_ms,
        "dAvgPeriodDiff": run_ms,
        "wsPhaseName": "",
        "uiLoopType": 0,
        "uiGroup": 0,
    }


def z_home_of(count: int, home: int | None) -> int:
    """Number of the home plane among `count` planes; the middle one unless given.

    Raises
    ------
    ValueError
        If there is no such plane.
    """
    middle = max(0, (count - 1) // 2)
    home = middle if home is None else operator.index(home)
    raise_unless(0 <= home < max(1, count), f"z_home is {home}, planes are 0 to {count - 1}")
    return home


def z_loop(count: int, step: float, home: int | None = None) -> Loop:
    """Loop over planes.

    Parameters
    ----------
    count : int
        Planes.
    step : float
        From one to the next in µm; negative from top to bottom.
    home : int, optional
        Number of the home plane in the order in which they are taken.
    """
    home = z_home_of(count, home)
    top_down, step = step < 0, abs(float(step))
    planes_above_lowest = max(0, count - 1) - home if top_down else home
    codes = _DOWN_CODES if top_down else _UP_CODES
    return Loop(
        4,
        {
            "uiCount": count,
            "dZLow": 0.0,
            "dZHigh": step * max(0, count - 1),
            "dZHome": step * planes_above_lowest,
            "dZStep": step,
            "dReferencePosition": 0.0,
            "iType": codes["middle" if home == z_home_of(count, None) else "other"],
            "bAbsolute": True,
            "bZInverted": False,
            "wsZDevice": "",
        },
    )


def positions_loop(
    names: Sequence[str],
    stage: Sequence[Point],
    *,
    use_z: bool,
    skipped: Container[int] = (),
) -> Loop:
    """Loop over positions.

    Parameters
    ----------
    names : sequence of str
        Of each position.
    stage : sequence of (x, y, z)
        Place of each in µm.
    use_z : bool
        Whether the positions set Z.
    skipped : container of int
        Positions that were planned and not visited.
    """
    return Loop(
        2,
        {
            "uiCount": len(names),
            "bUseZ": use_z,
            "bRelativeXY": False,
            "dReferenceX": 0.0,
            "dReferenceY": 0.0,
            "Points": [
                {
                    "dPosX": float(x),
                    "dPosY": float(y),
                    "dPosZ": float(z),
                    "dPFSOffset": -1.0,
                    "dPosName": name,
                }
                for name, (x, y, z) in zip(names, stage, strict=True)
            ],
        },
        Flags([i not in skipped for i in range(len(names))]),
    )


def custom_loop(count: int, code: int = _CUSTOM_LOOP_CODE) -> Loop:
    """Loop of which no more is known than how often it ran, of any type code."""
    return Loop(operator.index(code), {"uiCount": count})


def experiment(loops: Sequence[Loop]) -> Tree:
    """Nested loops, the outermost first (at least one)."""
    loop, *inner = loops
    valid: Tree = {} if loop.valid is None else {"pItemValid": loop.valid}
    below: Tree = {"ppNextLevelEx": [experiment(inner)]} if inner else {}
    return {
        "eType": loop.type,
        "wsApplicationDesc": "",
        "wsUserDesc": "",
        "uLoopPars": loop.parameters,
        **valid,
        "uiRepeatCount": 1,
        "uiNextLevelCount": len(below),
        **below,
    }
