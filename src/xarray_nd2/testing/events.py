"""Events of the experiment, as files of either version have them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from xarray_nd2.testing.checks import raise_unless, raise_unless_one_of
from xarray_nd2.testing.variant import Typed, ValueType, lite_variant, variant_xml

if TYPE_CHECKING:
    from collections.abc import Sequence

    from xarray_nd2.testing.variant import Tree, Value

__all__ = ["Event", "Stimulation", "event_chunk"]

_ROOT_NAME = "RLxExperimentRecord"
_PHASE_CODES = {"sequential": 1, "parallel": 2, "manual": 3, "begin": 4, "end": 5}


@dataclass(frozen=True)
class Stimulation:
    """What an event marks of a stimulation.

    Parameters
    ----------
    phase : {"begin", "end", "sequential", "parallel", "manual"}
        What the event marks.
    loop, position : int, optional
        Of which loop, and at which position.
    description : str, optional
        What was done.

    Raises
    ------
    ValueError
        If there is no such phase.
    """

    phase: str
    loop: int = 0
    position: int = 0
    description: str = ""

    def __post_init__(self) -> None:
        raise_unless_one_of("phase", self.phase, list(_PHASE_CODES))


@dataclass(frozen=True)
class Event:
    """An event of the experiment.

    Parameters
    ----------
    time : float
        Seconds, as those of the `timestamps` of the frames.
    kind : int, optional
        The vendor's number of what it was; 7 is a command.
    description, data : str, optional
        Texts; without them the file has none.
    stimulation : Stimulation, optional
        Of an event that marks one (of kind 15).
    id : int, optional
        Its number in the file; its place among all events, from 1, unless given.
    """

    time: float
    kind: int = 7
    description: str | None = None
    data: str | None = None
    stimulation: Stimulation | None = None
    id: int | None = None


def event_chunk(events: Sequence[Event] | None, *, lite: bool) -> dict[str, bytes]:
    """The chunk of the experiment's events, by its name; none for None.

    Parameters
    ----------
    events : sequence of Event or None
        In any order.
    lite : bool
        Encoded as in version 3, not as XML.

    Raises
    ------
    ValueError
        If a number is negative.
    """
    if events is None:
        return {}
    listed = [_event(event, number) for number, event in enumerate(events, 1)]
    record: Tree = {"uiCount": len(events), "pEvents": listed}
    if lite:
        return {"ImageEventsLV!": lite_variant({_ROOT_NAME: record})}
    return {"ImageEvents!": variant_xml(record, _ROOT_NAME)}


def _event(event: Event, number: int) -> Tree:
    id_ = number if event.id is None else event.id
    raise_unless(min(event.kind, id_) >= 0, f"kind and id of {event} must not be negative")
    record: dict[str, Value] = {
        "T": float(event.time) * 1000,
        "M": Typed(event.kind, ValueType.UINT32),
        "I": Typed(id_, ValueType.UINT32),
    }
    if event.description is not None:
        record["D"] = event.description
    if event.data is not None:
        record["A"] = event.data
    if event.stimulation is not None:
        mark = event.stimulation
        raise_unless(min(mark.loop, mark.position) >= 0, f"{mark} has a negative number")
        record["S"] = {
            "T": Typed(_PHASE_CODES[mark.phase], ValueType.UINT32),
            "L": Typed(mark.loop, ValueType.UINT32),
            "P": Typed(mark.position, ValueType.UINT32),
            "D": mark.description,
        }
    return record
