"""Times taken in turns, and their ratios."""

from __future__ import annotations

import gc
import random
import statistics
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray


@dataclass(frozen=True)
class Contender:
    """One way to do what is measured.

    Attributes
    ----------
    run : callable
        What is timed: a function of what `prepare` returned.
    prepare : callable
        Called before each run, outside the time; what it returns is closed afterwards if it can be.
    """

    run: Callable[[Any], Any]
    prepare: Callable[[], Any] = lambda: None


@dataclass(frozen=True, slots=True)
class Ratio:
    """Median, lowest and highest of the ratios of times that were taken one after the other."""

    median: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Times:
    """Seconds of each repetition."""

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        """Seconds in the middle."""
        return statistics.median(self.seconds)

    def per(self, other: Times) -> Ratio:
        """These times divided by those of another contender, repetition by repetition."""
        ratios = [mine / its for mine, its in zip(self.seconds, other.seconds, strict=True)]
        return Ratio(statistics.median(ratios), min(ratios), max(ratios))


def in_turns(
    contenders: Mapping[str, Contender],
    repetitions: int,
    *,
    warm: bool = True,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, Times]:
    """Time contenders in turns, so that what disturbs the machine disturbs all of them.

    Each runs once before, untimed. Where the results of the first runs are arrays they must be equal.

    Parameters
    ----------
    contenders : mapping of str to Contender
        What to time, by name.
    repetitions : int
        Times to take of each.
    warm : bool
        Whether to run each once before; for what takes long it makes little difference.
    clock : callable
        Tells the time in seconds: of the clock, or of the processor.

    Returns
    -------
    dict of str to Times
    """
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    expected: NDArray[Any] | None = None
    names = list(contenders)
    order = random.Random(0)
    for turn in range(-1 if warm else 0, repetitions):
        # In any order, since each leaves the machine and its connections in some state to the next.
        for name in order.sample(names, len(names)) if turn > 0 else names:
            result, taken = _time_once(contenders[name], clock)
            if turn >= 0:
                seconds[name].append(taken)
            if turn <= 0 and isinstance(result, np.ndarray):
                expected = result if expected is None else expected
                assert np.array_equal(result, expected), f"{name} reads other pixels"
            del result
        if turn == 0:
            expected = None
    return {name: Times(tuple(values)) for name, values in seconds.items()}


def _time_once(contender: Contender, clock: Callable[[], float]) -> tuple[Any, float]:
    state = contender.prepare()
    try:
        gc.collect()
        began = clock()
        result = contender.run(state)
        seconds = clock() - began
    finally:
        if hasattr(state, "close"):
            state.close()
    return result, seconds
