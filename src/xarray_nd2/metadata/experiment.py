"""The loops of an experiment: how often the microscope went round what, and inside of what.

An experiment is a tree: each level says what kind of loop it is and has the levels inside of it. The
channels of a frame are a level too, which is no loop of frames.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from xarray_nd2.metadata.tree import Branch

_MAX_LOOPS: Final = 16
_FIRST_ITEM: Final = "i0000000000"  # nd2's name of the first item of a list


class LoopKind(IntEnum):
    """Kinds of loops that are known (`eType`), by Laboratory Imaging's limnd2."""

    TIME = 1
    POSITIONS = 2
    Z_STACK = 4
    CHANNELS = 6
    CUSTOM = 7
    TIME_PHASES = 8


_DIM_OF_KIND: Final = {
    LoopKind.TIME: "T",
    LoopKind.TIME_PHASES: "T",
    LoopKind.POSITIONS: "P",
    LoopKind.Z_STACK: "Z",
}


@dataclass(frozen=True, eq=False)
class Loop:
    """One loop.

    Attributes
    ----------
    kind : str
        T, P, Z, or U for any other.
    count : int
        Steps, at least 1.
    parameters : Branch
        Of the loop.
    items : list of Branch
        The points that were visited, of P; the phases that were run, of T in several phases.
    """

    kind: str
    count: int
    parameters: Branch
    items: list[Branch]


@dataclass(frozen=True, eq=False)
class Experiment:
    """The loops, the outermost first, and whether nothing that tells of them is damaged."""

    loops: tuple[Loop, ...]
    sound: bool


def read_experiment(root: Branch) -> Experiment:
    """The loops of an experiment.

    Parameters
    ----------
    root : Branch
        Its outermost level; an empty branch where the file has no experiment.

    Returns
    -------
    Experiment
        Without loops of no step. Of several experiments on one level, the longest counts.
    """
    loops, sound = _loops(root, 0) if root else ([], True)
    return Experiment(tuple(loops), sound)


def _loops(level: Branch, depth: int) -> tuple[list[Loop], bool]:
    """The loops of a level and of those inside of it, and whether they are sound."""
    if depth >= _MAX_LOOPS:
        level.oddities.note(f"{level.path} has more than {_MAX_LOOPS} levels")
        return [], False
    own, sound = _loop(level)
    inner: list[Loop] = []
    for each in _levels_inside(level):
        found, sound_inside = _loops(each, depth + 1)
        sound &= sound_inside
        if _frames_of(found) > _frames_of(inner):
            inner = found
    if not _has_all_levels(level):
        sound = False
    return ([own] if own else []) + inner, sound


def _frames_of(loops: list[Loop]) -> int:
    product = 1 if loops else 0
    for loop in loops:
        product *= loop.count
    return product


def _levels_inside(level: Branch) -> list[Branch]:
    inside = level.below("ppNextLevelEx").branches()
    # Phases may have levels of their own (https://github.com/tlambert03/nd2/issues/190).
    parameters = level.values.get("uLoopPars")
    if isinstance(parameters, dict) and "pSubLoops" in parameters:
        first = level.below("uLoopPars").below("pSubLoops").below(_FIRST_ITEM)
        if "ppNextLevelEx" in first:
            nested = first.below("ppNextLevelEx").below(_FIRST_ITEM)
            inside.append(nested.below("SLxExperiment") if "SLxExperiment" in nested else nested)
    return [each for each in inside if each]


def _has_all_levels(level: Branch) -> bool:
    """Whether the levels inside are as many as the level says, if it does."""
    said = level.whole("uiNextLevelCount")
    found = len(level.below("ppNextLevelEx").values)
    if said is None or said == found or not said >= 0:
        return "ppNextLevelEx" not in level or isinstance(level.values["ppNextLevelEx"], dict)
    level.note_odd("ppNextLevelEx")
    return False


def _loop(level: Branch) -> tuple[Loop | None, bool]:
    """The loop of a level, None if it is none, and whether it is sound."""
    kind = level.whole("eType", needed=True)
    if kind == LoopKind.CHANNELS:
        return None, True
    parameters = level.below("uLoopPars", needed=True)
    if list(parameters.values) == [_FIRST_ITEM]:  # so it is in files of version 2
        parameters = parameters.below(_FIRST_ITEM)
    dim = _DIM_OF_KIND.get(LoopKind(kind), "U") if kind in list(LoopKind) else "U"
    if dim == "U" and kind not in (None, LoopKind.CUSTOM):
        level.oddities.note(f"{level.path}: a loop is of the kind {kind}, which is not known")
    items: list[Branch] = []
    count, sound = None, kind is not None
    if kind == LoopKind.POSITIONS:
        items, sound = _valid_items(level, "pItemValid", _points(parameters))
        count = len(items) or None
    elif kind == LoopKind.TIME_PHASES:
        phases = parameters.below("pPeriod", needed=True).branches()
        items, sound = _valid_items(parameters, "pPeriodValid", phases)
        counts = [_steps_of(phase) for phase in items]
        items = [phase for phase, steps in zip(items, counts, strict=True) if steps != 0]
        known = [steps for steps in counts if steps is not None]
        if counts and len(known) == len(counts):
            count = sum(known)
    if count is None:
        count = _steps_of(parameters)
        sound &= kind not in (LoopKind.POSITIONS, LoopKind.TIME_PHASES) or not count
    if count is None:
        return None, False
    return (Loop(dim, count, parameters, items) if count else None), sound


def _steps_of(parameters: Branch) -> int | None:
    """How many steps a loop or a phase has; None where that is not told."""
    count = parameters.whole("uiCount", needed=True)
    if count is not None and count < 0:
        parameters.note_odd("uiCount")
        return None
    return count


def _points(parameters: Branch) -> list[Branch]:
    """The points of a loop over positions; old files have a list for each of their values."""
    if "Points" in parameters or "dPosX" not in parameters:
        return parameters.below("Points", needed=True).branches()
    lists = {name: parameters.below(name).values for name in ("dPosX", "dPosY", "dPosZ")}
    lists["dPosName"] = parameters.below("pPosName").values if "pPosName" in parameters else {}
    return [
        parameters.with_values(
            {name: values[key] for name, values in lists.items() if key in values}
        )
        for key in lists["dPosX"]
    ]


def _valid_items(branch: Branch, name: str, items: list[Branch]) -> tuple[list[Branch], bool]:
    """The items that are valid, and whether that is known."""
    valid = branch.flags(name) if name in branch else []
    if valid is None:
        return items, False
    valid += [True] * (len(items) - len(valid))
    return [item for item, is_valid in zip(items, valid, strict=False) if is_valid], True
