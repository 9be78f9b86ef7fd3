"""What comes in pieces, of several versions, or not at all, and how long it is tried again."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from xarray_nd2.io import retry
from xarray_nd2.io.answers import ObjectFacts, Part
from xarray_nd2.io.failures import BrokenOffError, StatusError
from xarray_nd2.io.patience import Patience
from xarray_nd2.io.retry import read_fully


class Scripted:
    """A transport that gives what it was told to."""

    def __init__(self, *script: Any) -> None:
        self.script = list(script)
        self.asked: list[tuple[int, int]] = []

    async def read(self, start: int, stop: int, patience: Patience, pinned: Any = None) -> Part:
        self.asked.append((start, stop))
        answer = self.script.pop(0)
        if isinstance(answer, Exception):
            raise answer
        part: Part = answer
        return part


async def fully(
    *script: Any, pinned: ObjectFacts | None = None
) -> tuple[Part, list[tuple[int, int]]]:
    transport: Any = Scripted(*script)
    part = await read_fully(transport, 10, 20, Patience(), pinned)
    assert not transport.script
    return part, transport.asked


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    paused: list[float] = []

    async def sleep(seconds: float) -> None:
        paused.append(seconds)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    return paused


ONE, TWO = ObjectFacts(100, "one"), ObjectFacts(100, "two")


async def test_pieces_are_joined(pauses: list[float]) -> None:
    broken = BrokenOffError(Part(10, b"0123", ONE))
    part, asked = await fully(broken, Part(14, b"45", ONE), Part(16, b"6789", ONE))
    assert (part.start, bytes(part.data), part.facts) == (10, b"0123456789", ONE)
    assert asked == [(10, 20), (14, 20), (16, 20)]


async def test_pieces_of_two_versions_are_not(pauses: list[float]) -> None:
    whole = Part(10, b"abcdefghij", ONE)
    for first in (BrokenOffError(Part(10, b"0123", TWO)), Part(10, b"0123", TWO)):
        part, asked = await fully(first, Part(14, b"efghij", ONE), whole)
        assert bytes(part.data) == b"abcdefghij"
        assert asked == [(10, 20), (14, 20), (10, 20)]


async def test_versions_in_turns_are_given_up(
    pauses: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    # So that it is the same one that comes last.
    monkeypatch.setattr("xarray_nd2.io.retry.random.uniform", lambda low, high: (low + high) / 2)
    turns = [Part(10, b"0123", TWO), Part(14, b"efghij", ONE)] * 20
    transport: Any = Scripted(*turns)
    part = await read_fully(transport, 10, 20, Patience())
    assert len(part.data) < 10  # which is refused as a short read
    transport = Scripted(turns[0], StatusError(503, "Busy"), *turns[1:])
    with pytest.raises(OSError, match="one version of the object and another in turns"):
        await read_fully(transport, 10, 20, Patience())


async def test_a_body_that_breaks_after_its_end_is_complete(pauses: list[float]) -> None:
    part, _ = await fully(BrokenOffError(Part(10, b"0123456789", ONE)))
    assert bytes(part.data) == b"0123456789"


async def test_what_comes_in_small_pieces_comes(pauses: list[float]) -> None:
    transport: Any = Scripted(*(Part(i * 10_000, bytes(10_000), None) for i in range(100)))
    part = await read_fully(transport, 0, 1_000_000, Patience(), ObjectFacts(2_000_000, "x"))
    assert len(part.data) == 1_000_000


@pytest.mark.parametrize(
    ("asked_for", "least"),
    [("8", 8), ("3600", retry.MAX_RETRY_AFTER_SECONDS), ("Wed, 21 Oct", 0), ("-1", 0)],
)
async def test_a_store_may_say_when(asked_for: str, least: float, pauses: list[float]) -> None:
    refused = StatusError(429, "Too Many Requests", {"Retry-After": asked_for})
    await fully(refused, Part(10, b"0123456789", ONE))
    assert pauses[0] == least or (least == 0 and pauses[0] < 1)


def test_what_versions_are_alike() -> None:
    assert ONE.agrees(ObjectFacts(100, "one", "today"))
    assert not ONE.agrees(TWO)
    assert not ONE.agrees(ObjectFacts(101, "one"))
    assert ONE.agrees(ObjectFacts(100, None, "today"))  # a tag and a date tell nothing together
    assert not ObjectFacts(100, None, "today").agrees(ObjectFacts(100, None, "yesterday"))
