"""What every group of measurements works with, and what it gives back."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Self

from benchmarks._files import Files
from benchmarks._measure import Ratio
from benchmarks._server import serving

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from benchmarks._measure import Times
    from benchmarks._server import Network, Server, Traffic

    Unit = Literal["s", "B", "MB/s", "requests", "round trips", "tasks", "ROIs/s"]

_TIMED_UNITS = {"s", "ROIs/s"}


@dataclass(frozen=True, slots=True)
class Floor:
    """What a number should keep to.

    Attributes
    ----------
    limit : float
        The number to keep to,
    side : {"most", "least"}
        as the most or the least there should be.
    aim : float or None
        What would be better still.
    """

    limit: float
    side: Literal["most", "least"] = "most"
    aim: float | None = None

    def reached(self, value: float) -> bool:
        """Whether a value keeps to the floor."""
        return value <= self.limit if self.side == "most" else value >= self.limit

    def times_missed(self, value: float) -> float:
        """How many times worse than the floor a value is; below 1 where it is better."""
        return value / self.limit if self.side == "most" else self.limit / value


@dataclass(frozen=True, slots=True)
class Row:
    """One number, beside that of another.

    Attributes
    ----------
    what : str
        What was done.
    unit : str
        Of the numbers.
    ours, theirs : float
        The number of xarray-nd2 and that of the other.
    against : str
        Who the other is; empty if there is none.
    ratio : Ratio or None
        Of the two, the larger above 1 where larger is better for us if the floor is a least.
    floor : Floor or None
        Of the ratio if there is one, otherwise of `ours`.
    headline : str
        What the README calls it; empty if it is not shown there.
    """

    what: str
    unit: Unit
    ours: float
    against: str = ""
    theirs: float | None = None
    ratio: Ratio | None = None
    floor: Floor | None = None
    headline: str = ""

    @property
    def judged(self) -> float:
        """The number that the floor is about."""
        return self.ours if self.ratio is None else self.ratio.median

    @property
    def counted(self) -> bool:
        """Whether the number is the same on every machine."""
        return self.unit not in _TIMED_UNITS

    @property
    def reached(self) -> bool:
        """Whether it keeps to its floor, if it has one."""
        return self.floor is None or self.floor.reached(self.judged)


@dataclass(frozen=True)
class Group:
    """The numbers of one topic.

    Attributes
    ----------
    name, title, text : str
        What to call it, its heading, and what was done.
    rows : list of Row
        The numbers.
    tables : list of (header, rows)
        Tables that have another form.
    """

    name: str
    title: str
    text: str
    rows: list[Row] = field(default_factory=list)
    tables: list[tuple[Sequence[str], list[Sequence[str]]]] = field(default_factory=list)


class Bench:
    """Files, servers and options of a run.

    Parameters
    ----------
    folder : Path
        For the files; the servers serve it.
    quick : bool
        Whether to read less and less often.
    """

    def __init__(self, folder: Path, *, quick: bool) -> None:
        self.quick = quick
        self.repetitions = 1 if quick else 5
        self.files = Files(folder, quick=quick)
        self._folder = folder
        self._servers: dict[str, Server] = {}
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._stack.close()

    def server(self, network: Network) -> Server:
        """Server behind a network; each is another host, since clients learn what a host is like."""
        if network.name not in self._servers:
            server = self._stack.enter_context(serving(self._folder, network))
            self._servers[network.name] = server
        return self._servers[network.name]


def traffic_of(server: Server, read: Callable[[], object]) -> Traffic:
    """What a server is asked for while something is read."""
    server.clear()
    read()
    return server.traffic()


def faster_row(
    what: str,
    times: dict[str, Times],
    ours: str,
    theirs: str,
    least: float | None = None,
    *,
    headline: str = "",
) -> Row:
    """Row of how many times as long another takes, which should be at `least` so many."""
    floor = None if least is None else Floor(least, "least")
    ratio = times[theirs].per(times[ours])
    return Row(what, "s", times[ours].median, theirs, times[theirs].median, ratio, floor, headline)


def slower_row(
    what: str, times: dict[str, Times], ours: str, theirs: str, most: float | None = None
) -> Row:
    """Row of how many times as long as another we take, which should be at `most` so many."""
    floor = None if most is None else Floor(most)
    ratio = times[ours].per(times[theirs])
    return Row(what, "s", times[ours].median, theirs, times[theirs].median, ratio, floor)


def constant_ratio(ratio: float) -> Ratio:
    """A ratio of numbers that do not vary."""
    return Ratio(ratio, ratio, ratio)
