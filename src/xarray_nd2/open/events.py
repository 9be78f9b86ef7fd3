"""Fetching the events of the experiment."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from xarray_nd2.errors import ND2FormatError
from xarray_nd2.metadata.events import events_group, listed_events
from xarray_nd2.metadata.tree import Oddities

if TYPE_CHECKING:
    from xarray_nd2.metadata.events import Event
    from xarray_nd2.metadata.group import Group
    from xarray_nd2.open.opening import OpenedFile
    from xarray_nd2.open.steps import Steps

EVENT_CHUNKS: Final = frozenset(
    {b"ImageEvents!", b"ImageEventsLV!", b"CustomData|ExperimentEventsV1_0!"}
)
"""Each has events; a file with several of them may have an event in more than one."""


def read_events(opened: OpenedFile) -> Steps[Group | None]:
    """Read the events of a file whose map has a chunk of them.

    Raises
    ------
    ND2FormatError
        No such chunk can be read.
    """
    oddities = Oddities()
    chunks, problems = sorted(EVENT_CHUNKS & opened.chunk_map.chunks.keys()), []
    ranges = {}
    for chunk in chunks:
        try:
            ranges[chunk] = opened.range_of(chunk)
        except ND2FormatError as error:
            problems.append(str(error))
    yield list(ranges.values())
    found: list[Event] = []
    for chunk in ranges:
        try:
            records = opened.records_of(chunk, "RLxExperimentRecord", oddities)
            before = set(found)
            found += [event for event in listed_events(records) if event not in before]
        except ND2FormatError as error:
            problems.append(str(error))
    if len(problems) == len(chunks):
        raise ND2FormatError("; ".join(problems))
    for problem in problems:
        oddities.note(problem)
    if not found:
        return None
    return events_group(found, opened.metadata.clock, oddities)
