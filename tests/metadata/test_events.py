"""The group of events."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import nd2
import numpy as np
import pytest
import xarray as xr
from nd2._sdk_types import EventMeaning, StimulationType

from tests.metadata.annotations import (
    check_damaged_chunks,
    check_round_trip,
    opened_group,
    opened_tree,
    problems_of_damaged_keys,
    written,
)
from tests.metadata.damaged import chunks_of, with_chunks
from tests.metadata.trees import branch, listed
from xarray_nd2 import ND2FormatError
from xarray_nd2.metadata.event_kinds import kind_of_event, phase_of_stimulation
from xarray_nd2.metadata.events import Event as ReadEvent
from xarray_nd2.metadata.events import events_group, listed_events
from xarray_nd2.metadata.times import Clock
from xarray_nd2.metadata.tree import Oddities
from xarray_nd2.testing import Event, Stimulation
from xarray_nd2.testing.variant import lite_variant, variant_xml

if TYPE_CHECKING:
    from pathlib import Path

    from xarray_nd2.testing.variant import Tree

EVENTS = [
    Event(1.5, 7, "a command", "Wait(2);"),
    Event(2.25, 15, stimulation=Stimulation("begin", 1, 3, "405 nm: 3 %")),
    Event(3.0, 15, stimulation=Stimulation("end")),
    Event(0.5, 99, "before the first frame", id=12),
]
FRAMES: dict[str, Any] = {"timestamps": [1.0, 2.0, 3.0, 4.0], "start": "2024-05-06T07:08:09"}
CHUNKS = {(3, 0): b"ImageEventsLV!", (2, 1): b"ImageEvents!"}
OTHER_CHUNK = b"CustomData|ExperimentEventsV1_0!"
VARIABLES_OF_KEY = {
    "T": {"time", "acquired", "stimulation_phase"},
    "M": {"kind"},
    "I": {"id"},
    "D": {"description", "stimulation_description"},
    "A": {"data"},
    "S": {"stimulation"},
    "L": {"stimulation_loop"},
    "P": {"stimulation_position"},
}


def with_events(**options: Any) -> bytes:
    return written((4, 5, 6), "TYX", **{"events": EVENTS, **FRAMES, **options})


@pytest.mark.parametrize("version", CHUNKS)
def test_events(version: tuple[int, int]) -> None:
    data = with_events(version=version)
    ds = opened_group(data, "events")
    assert dict(ds.sizes) == {"event": 4}
    assert set(ds.coords) == {"time", "acquired"}
    assert ds.time.values.tolist() == [0.5, 1.25, 2.0, -0.5]
    dates = ["07:08:09.5", "07:08:10.25", "07:08:11", "07:08:08.5"]
    expected = [np.datetime64(f"2024-05-06T{each}") for each in dates]
    np.testing.assert_array_equal(ds.acquired, np.array(expected, "datetime64[ns]"))
    assert ds.kind.values.tolist() == ["command", "stimulation", "stimulation", "kind 99"]
    assert ds.kind_code.values.tolist() == [7, 15, 15, 99]
    assert ds.id.values.tolist() == [1, 2, 3, 12]
    assert ds.description.values.tolist() == ["a command", "", "", "before the first frame"]
    assert ds.data.values.tolist() == ["Wait(2);", "", "", ""]
    assert ds.stimulation_phase.values.tolist() == ["", "begin", "end", ""]
    np.testing.assert_array_equal(ds.stimulation_loop, [np.nan, 1, 0, np.nan])
    np.testing.assert_array_equal(ds.stimulation_position, [np.nan, 3, 0, np.nan])
    assert ds.stimulation_description.values.tolist() == ["", "405 nm: 3 %", "", ""]
    assert ds.time.attrs["units"] == "s"


def test_times_are_those_of_the_frames() -> None:
    """An event at the time of a frame has the labels of that frame."""
    events = [Event(time) for time in FRAMES["timestamps"]]
    tree, _ = opened_tree(with_events(events=events))
    for name in ("time", "acquired"):
        np.testing.assert_array_equal(tree["events"][name], tree["image"][name])


def test_nd2_tells_the_same() -> None:
    data = with_events(events=EVENTS[:3])
    with nd2.ND2File(io.BytesIO(data)) as file:
        told = [each for each in file.events() if "Events" in each]
    ds = opened_group(data, "events")
    np.testing.assert_allclose(ds.time + 1.0, [each["Time [s]"] for each in told])
    texts = [
        *("a command", "Stimulation Phase Begin - 405 nm: 3 %", "Stimulation Phase End"),
    ]
    assert [each["Events"] for each in told] == texts


def test_kinds_are_those_of_nd2() -> None:
    for kind in EventMeaning:
        known = kind is not EventMeaning.EventCount
        assert (kind_of_event(kind) != f"kind {kind.value}") == known
    words = [kind_of_event(kind) for kind in EventMeaning]
    assert len(set(words)) == len(words)
    assert all(phase_of_stimulation(each) != f"phase {each.value}" for each in StimulationType)
    assert kind_of_event(EventMeaning.Pause) == "experiment paused"
    assert kind_of_event(EventMeaning.UserInteraction3) == "user mark 3"
    assert (kind_of_event(None), phase_of_stimulation(None)) == ("", "")
    assert phase_of_stimulation(7) == "phase 7"


def test_without_a_table_of_times() -> None:
    """The clock of the experiment is all there is, since nothing tells when the first frame was."""
    ds = opened_group(with_events(timestamps=None), "events")
    assert ds.time.values.tolist() == [1.5, 2.25, 3.0, 0.5]
    assert "does not tell" in ds.time.attrs["comment"]
    assert "acquired" not in ds


def test_without_a_table_the_first_frame_tells_its_time() -> None:
    data = with_events()
    ds = opened_group(with_chunks(data, {b"CustomData|AcqTimesCache!": None}), "events")
    xr.testing.assert_identical(ds, opened_group(data, "events"))


def test_without_a_date() -> None:
    ds = opened_group(with_events(start=None), "events")
    assert "acquired" not in ds
    assert ds.time.values.tolist() == [0.5, 1.25, 2.0, -0.5]


def test_a_time_that_cannot_be_a_date() -> None:
    ds = opened_group(with_events(events=[Event(1e20), Event(2.0)]), "events")
    np.testing.assert_allclose(ds.time, [1e20, 1.0])
    assert np.isnat(ds.acquired.values).tolist() == [True, False]


def test_no_events() -> None:
    for data in (with_events(events=[]), with_events(events=None)):
        tree, told = opened_tree(data)
        assert (set(tree.children), told) == ({"image"}, [])
        with pytest.raises(ND2FormatError, match="no group 'events'"):
            opened_group(data, "events")


def test_events_of_another_chunk() -> None:
    data = with_events()
    content = chunks_of(data)[CHUNKS[3, 0]]
    moved = with_chunks(data, {CHUNKS[3, 0]: None, OTHER_CHUNK: content})
    xr.testing.assert_identical(opened_group(moved, "events"), opened_group(data, "events"))


def test_events_of_two_chunks() -> None:
    """Each event once; and those of one chunk where the other is damaged."""
    data, more = with_events(), with_events(events=[replace(EVENTS[1], id=2), Event(9.0)])
    both = with_chunks(data, {OTHER_CHUNK: chunks_of(more)[CHUNKS[3, 0]]})
    assert sorted(opened_group(both, "events").time.values) == [-0.5, 0.5, 1.25, 2.0, 8.0]
    damaged = with_chunks(data, {OTHER_CHUNK: b"\xff" * 100})
    tree, told = opened_tree(damaged)
    assert tree["events"].sizes == {"event": 4}
    assert len(told) == 1
    assert "some of the group events is odd" in told[0]


def test_events_that_are_alike_are_several() -> None:
    alike = [Event(1.5, id=1)] * 3
    assert opened_group(with_events(events=alike), "events").sizes == {"event": 3}


def test_events_as_older_files_write_them() -> None:
    first: Tree = {"dTime": 2500.0, "eMeaning": 7, "wsDescription": "go", "wsData": "Run();"}
    stimulation: Tree = {"eType": 4, "uiLoopIdx": 2, "uiPosition": 1, "wsDescription": "uv"}
    second: Tree = {"dTime": 3000.0, "eMeaning": 15, "pStimulation": stimulation}
    tree: Tree = {"uiCount": 2, "pFirstEvent": [first, second]}
    data = with_events(events=None, version=(2, 1))
    data = with_chunks(data, {b"ImageEvents!": variant_xml(tree, "RLxExperimentRecord")})
    ds = opened_group(data, "events")
    assert ds.time.values.tolist() == [1.5, 2.0]
    assert ds.kind.values.tolist() == ["command", "stimulation"]
    assert ds.description.values.tolist() == ["go", ""]
    assert ds.data.values.tolist() == ["Run();", ""]
    assert ds.stimulation_phase.values.tolist() == ["", "begin"]
    assert ds.stimulation_loop.values[1] == 2
    assert ds.stimulation_position.values[1] == 1
    assert ds.stimulation_description.values.tolist() == ["", "uv"]


@pytest.mark.parametrize("version", CHUNKS)
def test_stored_and_opened_again(version: tuple[int, int], tmp_path: Path) -> None:
    check_round_trip(with_events(version=version), "events", tmp_path)


@pytest.mark.parametrize("version", CHUNKS)
def test_damaged_keys(version: tuple[int, int]) -> None:
    data = with_events(version=version, events=EVENTS[:2])
    assert not list(
        problems_of_damaged_keys(data, "events", CHUNKS[version], VARIABLES_OF_KEY, every=3)
    )


@pytest.mark.parametrize("version", CHUNKS)
def test_damaged_chunks(version: tuple[int, int]) -> None:
    check_damaged_chunks(with_events(version=version), "events", CHUNKS[version])


def test_a_count_that_is_not_the_number_of_events() -> None:
    for count in (0, 2, 2**31, -5):
        records = branch(uiCount=count, pEvents=listed({"T": 1.0, "M": 7}))
        assert len(listed_events(records)) == 1
        assert f"uiCount is {count}" in str(records.oddities)


def test_what_is_not_told_is_unknown() -> None:
    data = with_events()
    tree: Tree = {"RLxExperimentRecord": {"uiCount": 1, "pEvents": [{"A": "data"}]}}
    found, told = opened_tree(with_chunks(data, {CHUNKS[3, 0]: lite_variant(tree)}))
    (event,) = [found["events"].to_dataset().isel(event=0)]
    assert np.isnan(event.time)
    assert np.isnat(event.acquired.values)
    assert (event.kind.item(), event.kind_code.item(), event.id.item()) == ("", -1, -1)
    assert event.data == "data"
    assert "RLxExperimentRecord/pEvents/T is missing" in told[0]


def test_many_events_and_a_long_text_take_bounded_memory() -> None:
    oddities = Oddities()
    quiet = ReadEvent(0.0, 7, 1, "", "", None)
    long = ReadEvent(0.0, 7, 1, "x" * 10**6, "y" * 20_000, None)
    group = events_group([long, *[quiet] * 9_999], Clock(None, None), oddities)
    assert group.variables["description"][1].nbytes <= 2**26
    assert str(oddities).startswith("description is cut off after ")
    alone = events_group([long], Clock(None, None), Oddities())
    assert alone.variables["description"][1].tolist() == ["x" * 10**6]
    assert not alone.oddities
