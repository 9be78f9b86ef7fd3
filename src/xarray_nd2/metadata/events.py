"""Events of the experiment: commands, pauses, stimulations and what else happened at some time."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from xarray_nd2.errors import ND2FormatError
from xarray_nd2.metadata.event_kinds import kind_of_event, phase_of_stimulation
from xarray_nd2.metadata.group import Group
from xarray_nd2.metadata.label import whole_text_array

if TYPE_CHECKING:
    from collections.abc import Sequence

    from xarray_nd2.metadata.label import Coordinate
    from xarray_nd2.metadata.times import Clock
    from xarray_nd2.metadata.tree import Branch, Oddities

_UNKNOWN_NUMBER: Final = -1
# Lists of events: as files of version 3 have them, and as older ones do.
_LIST_NAMES: Final = ("pEvents", "pFirstEvent")
# What older files write out, by what newer ones write, both without prefixes.
_LONG_NAMES: Final = {"T": "Time", "M": "Meaning", "D": "Description", "A": "Data", "I": "ID"}
_LONG_NAMES_OF_STIMULATION: Final = {
    "T": "Type",
    "L": "LoopIdx",
    "P": "Position",
    "D": "Description",
}


@dataclass(frozen=True)
class Stimulation:
    """What an event marks of a stimulation; None and "" for what is not told."""

    phase: int | None
    loop: int | None
    position: int | None
    description: str


@dataclass(frozen=True)
class Event:
    """An event; None and "" for what is not told.

    Attributes
    ----------
    milliseconds : float or None
        When it was, on the clock of the experiment.
    kind : int or None
        The vendor's number of what it was.
    id : int or None
        Its number in the file.
    description, data : str
        What the user or the program wrote of it.
    stimulation : Stimulation or None
        Of an event that marks one.
    """

    milliseconds: float | None
    kind: int | None
    id: int | None
    description: str
    data: str
    stimulation: Stimulation | None


def listed_events(records: Branch) -> list[Event]:
    """The events of a chunk, in its order.

    Parameters
    ----------
    records : Branch
        The content of the chunk; what of it is odd is noted there.

    Raises
    ------
    ND2FormatError
        It has something, but no list of events.
    """
    lists = [name for name in _LIST_NAMES if name in records]
    count = records.whole("uiCount", needed=bool(lists))
    if records and not lists and count != 0:
        raise ND2FormatError("there is no list of events where there should be one")
    found: list[Event] = []
    for name in lists:
        listed = records.below(name)
        if not listed and count:
            raise ND2FormatError(f"the list {name} of {count} events cannot be read")
        for item in listed.branches():
            if item:
                found.append(_read_event(item.unprefixed()))
            else:
                listed.note_odd("event")
    if count is not None and lists and count != len(found):
        records.oddities.note(f"there are {len(found)} events, and uiCount is {count}")
    return found


def _read_event(record: Branch) -> Event:
    event = _short_named(record, _LONG_NAMES)
    stimulation = event.below("S") if "S" in event else event.below("Stimulation")
    return Event(
        milliseconds=event.number("T", needed=True),
        kind=event.whole("M", needed=True),
        id=event.whole("I"),
        description=_lines(event.text("D")),
        data=_lines(event.text("A")),
        stimulation=_read_stimulation(stimulation.unprefixed()) if stimulation else None,
    )


def _read_stimulation(record: Branch) -> Stimulation:
    stimulation = _short_named(record, _LONG_NAMES_OF_STIMULATION)
    return Stimulation(
        phase=stimulation.whole("T", needed=True),
        loop=stimulation.whole("L"),
        position=stimulation.whole("P"),
        description=stimulation.text("D") or "",
    )


def _lines(text: str | None) -> str:
    """A text with its lines ended as everywhere in Python."""
    return (text or "").replace("\r\n", "\n").replace("\r", "\n")


def _short_named(record: Branch, long_names: dict[str, str]) -> Branch:
    """A record with its values under the short names, too."""
    short = {
        name: record.values[long]
        for name, long in long_names.items()
        if long in record and name not in record
    }
    return record.with_values({**record.values, **short}) if short else record


def events_group(events: Sequence[Event], clock: Clock, oddities: Oddities) -> Group:
    """The events along the dimension ``event``, in the order of the file.

    Parameters
    ----------
    events : sequence of Event
        One at least.
    clock : Clock
        Of the experiment.
    oddities : Oddities
        Where to note what had to be cut off.

    Returns
    -------
    Group
        Under ``time`` and, where the date of the first frame is known, ``acquired``.
    """
    marks = [event.stimulation for event in events]
    unknown = "-1 where it is not told"
    variables = {
        "kind": _texts("kind", [kind_of_event(each.kind) for each in events], "kind", oddities),
        "kind_code": _numbers(
            [each.kind for each in events], "vendor's number of the kind", unknown
        ),
        "id": _numbers([each.id for each in events], "number of the event in the file", unknown),
        "description": _texts(
            "description", [each.description for each in events], "description", oddities
        ),
        "data": _texts("data", [each.data for each in events], "data, such as a command", oddities),
        "stimulation_phase": _texts(
            "stimulation_phase",
            [phase_of_stimulation(each.phase) if each else "" for each in marks],
            "what of a stimulation the event marks",
            oddities,
        ),
        "stimulation_loop": _indices(
            [each.loop if each else None for each in marks], "number of the loop of the stimulation"
        ),
        "stimulation_position": _indices(
            [each.position if each else None for each in marks],
            "number of the position of the stimulation",
        ),
        "stimulation_description": _texts(
            "stimulation_description",
            [each.description if each else "" for each in marks],
            "description of the stimulation",
            oddities,
        ),
    }
    return Group(variables, _times(events, clock), oddities=oddities)


def _times(events: Sequence[Event], clock: Clock) -> dict[str, Coordinate]:
    """When the events were: seconds, and dates where they are known."""
    told = [each.milliseconds for each in events]
    milliseconds = np.array([math.nan if each is None else each for each in told], np.float64)
    since = "since the first frame"
    if clock.first_milliseconds is None:
        since = (
            "on the clock of the experiment: the file does not tell when the first frame was taken"
        )
    attrs = {"long_name": "time of the event", "units": "s", "comment": since}
    coordinates: dict[str, Coordinate] = {
        "time": (("event",), clock.seconds_of(milliseconds), attrs)
    }
    dates = clock.dates_of(milliseconds)
    if dates is not None:
        coordinates["acquired"] = (
            ("event",),
            dates,
            {"long_name": "date of the event", "comment": "UTC"},
        )
    return coordinates


def _texts(name: str, texts: Sequence[str], long_name: str, oddities: Oddities) -> Coordinate:
    return ("event",), whole_text_array(texts, name, oddities), {"long_name": long_name}


def _numbers(values: Sequence[int | None], long_name: str, comment: str) -> Coordinate:
    known = [_UNKNOWN_NUMBER if value is None else value for value in values]
    return ("event",), np.array(known, np.int64), {"long_name": long_name, "comment": comment}


def _indices(values: Sequence[int | None], long_name: str) -> Coordinate:
    known = [math.nan if value is None else float(value) for value in values]
    attrs = {"long_name": long_name, "units": "1", "comment": "from 0; NaN where there is none"}
    return ("event",), np.array(known, np.float64), attrs
