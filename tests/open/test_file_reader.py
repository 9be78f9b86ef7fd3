"""What the reader of a file that is being opened asks for, and that it gives the right bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from xarray_nd2.open import file_reader
from xarray_nd2.open.file_reader import MAX_GAP_BYTES, FileReader

if TYPE_CHECKING:
    import pytest

SIZE = 1_000_000
DATA = np.random.default_rng(5).bytes(SIZE)
ENDS = 10_000  # bytes of each end that are known at first
places = st.integers(0, SIZE - 1)


class CountedFile:
    """A file that keeps what was asked of it: a list of ranges for each round trip."""

    def __init__(self) -> None:
        self.trips: list[list[tuple[int, int]]] = []
        self.reader = FileReader(self.fetch, SIZE, DATA[:ENDS], DATA[-ENDS:])

    def fetch(self, ranges: list[tuple[int, int]]) -> list[bytes]:
        assert ranges
        assert all(0 <= start < stop <= SIZE for start, stop in ranges)
        self.trips.append(list(ranges))
        return [DATA[start:stop] for start, stop in ranges]


@given(st.lists(st.tuples(places, st.integers(0, 200_000)), max_size=8))
def test_any_ranges(asked: list[tuple[int, int]]) -> None:
    ranges = [(start, min(SIZE, start + length)) for start, length in asked]
    file = CountedFile()
    file.reader.prefetch(ranges)
    assert len(file.trips) <= 1
    for start, stop in ranges:
        assert file.reader.read(start, stop) == DATA[start:stop]
    file.reader.prefetch(ranges)
    assert len(file.trips) <= 1  # all of it is held


def test_ends_are_not_asked_for() -> None:
    file = CountedFile()
    assert file.reader.read(5, ENDS) == DATA[5:ENDS]
    assert file.reader.read(SIZE - ENDS, SIZE) == DATA[-ENDS:]
    assert not file.trips
    middle = file.reader.read(ENDS - 100, ENDS + 100)
    assert middle == DATA[ENDS - 100 : ENDS + 100]
    assert file.trips == [[(ENDS, ENDS + 100)]]


def test_near_ranges_share_a_request() -> None:
    file = CountedFile()
    far = 300_000 + 10 + MAX_GAP_BYTES
    file.reader.prefetch(
        [(300_000, 300_010), (far, far + 5), (far + 6 + MAX_GAP_BYTES, far + 70_000)]
    )
    assert file.trips == [[(300_000, far + 5), (far + 6 + MAX_GAP_BYTES, far + 70_000)]]


@given(st.lists(places, max_size=30), st.integers(1, 300), st.sampled_from([0, 5000]))
def test_any_pieces(at: list[int], length: int, read_ahead: int) -> None:
    file = CountedFile()
    asked = np.array(sorted(at), np.int64)
    for _ in range(2):
        pieces = list(file.reader.read_scattered(asked, length, read_ahead))
        assert pieces == [DATA[start : start + length] for start in sorted(at)]
    assert len(file.trips) <= 1  # the second time they are held


def test_pieces_are_read_in_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_reader, "_MAX_SCATTERED_BYTES", 1000)
    file = CountedFile()
    asked = np.arange(20_000, 900_000, MAX_GAP_BYTES + 400)
    pieces = file.reader.read_scattered(asked, 300)
    assert next(pieces) == DATA[20_000:20_300]
    assert [len(trip) for trip in file.trips] == [3]  # the others when they are needed
    assert list(pieces) == [DATA[start : start + 300] for start in asked[1:]]
    assert all(sum(stop - start for start, stop in trip) <= 1000 for trip in file.trips)


def test_what_lies_behind_is_read_ahead() -> None:
    file = CountedFile()
    list(file.reader.read_scattered(np.array([500_000]), 10, read_ahead=8000))
    assert file.trips == [[(500_000, 508_010)]]
    assert next(file.reader.read_scattered(np.array([507_000]), 10)) == DATA[507_000:507_010]
    assert len(file.trips) == 1
