"""How the frames were taken: what the caller says of the loops, checked and made loops of.

Whatever is said of loops of a kind is either of the first one (the outermost) or a mapping by
dimension. The view is the caller's: a stage position of a stack is that of its home plane, where a
file has the place of the first frame.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias, TypeVar

import numpy as np

from xarray_nd2.testing.checks import raise_unless
from xarray_nd2.testing.experiment import (
    custom_loop,
    periods_loop,
    positions_loop,
    time_loop,
    z_home_of,
    z_loop,
)
from xarray_nd2.testing.image import loop_dims

if TYPE_CHECKING:
    from xarray_nd2.testing.experiment import Loop, Period, Point

__all__ = ["OfLoops", "Run"]

V = TypeVar("V")
OfLoops: TypeAlias = V | Mapping[str, V]
"""For the first loop of a kind, or for each by its dimension."""


@dataclass(frozen=True)
class Run:
    """How the frames were taken.

    Attributes
    ----------
    sizes : mapping of str to int
        Size of each dimension of the image, in their order.
    planned : mapping of str to int
        Sizes of loops that the experiment tells otherwise.
    kinds : mapping of str to int
        Type codes of loops of which no more is told than their size.
    z_step, z_home, period, average_period, periods
        As `write_nd2` takes them.
    positions, stage_positions, use_point_z, skipped_points
        As `write_nd2` takes them.

    Raises
    ------
    ValueError
        If they contradict each other.
    """

    sizes: Mapping[str, int]
    planned: Mapping[str, int]
    kinds: Mapping[str, int]
    z_step: OfLoops[float]
    z_home: OfLoops[int] | None
    period: OfLoops[float]
    average_period: OfLoops[float] | None
    periods: OfLoops[Sequence[Period]] | None
    positions: OfLoops[Sequence[str]] | None
    stage_positions: OfLoops[Sequence[Point]] | None
    use_point_z: bool
    skipped_points: Sequence[int]

    def __post_init__(self) -> None:
        loops = loop_dims(self.sizes)
        for name, given in (("planned", self.planned), ("loop_kinds", self.kinds)):
            unknown = sorted(set(given) - set(loops))
            raise_unless(not unknown, f"{name} has {unknown}, the loops are {loops}")
        raise_unless(min(self.planned.values(), default=0) >= 0, f"planned is {self.planned}")
        steps = self.z_step.values() if isinstance(self.z_step, Mapping) else [self.z_step]
        raise_unless(0 not in steps, "z_step must not be 0")
        for name, value, kind in (
            ("periods are", self.periods, "T"),
            ("average_period is", self.average_period, "T"),
            ("z_home is", self.z_home, "Z"),
            ("positions are", self.positions, "P"),
            ("skipped_points are", self.skipped_points or None, "P"),
        ):
            has_loop = bool(self._dims(kind))
            raise_unless(value is None or has_loop, f"{name} given, dims have no {kind}")

    def loops(self) -> list[Loop]:
        """Loops of the experiment, the outermost first.

        Raises
        ------
        ValueError
            If what is said of a loop is not of its size.
        """
        made = self._time_loops() | self._z_loops() | self._position_loops()
        for dim in loop_dims(self.sizes, "U"):
            made[dim] = custom_loop(self._count(dim))
        for dim, code in self.kinds.items():
            made[dim] = custom_loop(self._count(dim), code)
        return [made[dim] for dim in loop_dims(self.sizes)]

    def first_place(self) -> Point:
        """Where the stage was for the first frame: x, y and z in µm; zeros where it is not told."""
        dims = self._dims("P")
        if self.stage_positions is None:
            return 0.0, 0.0, 0.0
        if dims:
            places = self._places()
            skipped = self._skipped(dims[0])
            visited = [p for i, p in enumerate(places.get(dims[0], ())) if i not in skipped]
        else:
            single = self.stage_positions
            visited = [] if isinstance(single, Mapping) else points_of(single, 1)
        if not visited:
            return 0.0, 0.0, 0.0
        x, y, home = visited[0]
        return x, y, home + self._first_plane()

    def _dims(self, kind: str) -> list[str]:
        """Loops of a kind of which more can be told than their size, the outermost first."""
        return [dim for dim in loop_dims(self.sizes, kind) if dim not in self.kinds]

    def _count(self, dim: str) -> int:
        """How often a loop ran, as the experiment tells."""
        return operator.index(self.planned.get(dim, self.sizes[dim]))

    def _time_loops(self) -> dict[str, Loop]:
        dims = self._dims("T")
        period = of_loops("period", self.period, dims)
        average = of_loops("average_period", self.average_period, dims)
        periods = of_loops("periods", self.periods, dims)
        loops: dict[str, Loop] = {}
        for dim in dims:
            count = self._count(dim)
            if dim in periods:
                counts = [operator.index(run[0]) for run in periods[dim]]
                raise_unless(
                    sum(counts) == count and all(n >= 1 for n in counts),
                    f"periods have {counts} times, {dim} is {count}",
                )
                loops[dim] = periods_loop(periods[dim])
                seconds = [second for run in periods[dim] for second in run[1:]]
            else:
                seconds = [period.get(dim, 1.0), *([average[dim]] if dim in average else [])]
                loops[dim] = time_loop(count, *seconds)
            raise_unless(min(seconds, default=0) >= 0, f"a period cannot be negative: {seconds}")
        return loops

    def _z_loops(self) -> dict[str, Loop]:
        dims = self._dims("Z")
        step = of_loops("z_step", self.z_step, dims)
        home = of_loops("z_home", self.z_home, dims)
        return {dim: z_loop(self._count(dim), step.get(dim, 1.0), home.get(dim)) for dim in dims}

    def _first_plane(self) -> float:
        """Place of the first plane in µm, from the home plane of the outermost stack."""
        dims = self._dims("Z")
        if not dims:
            return 0.0
        home = of_loops("z_home", self.z_home, dims).get(dims[0])
        step = of_loops("z_step", self.z_step, dims).get(dims[0], 1.0)
        return -z_home_of(self._count(dims[0]), home) * float(step)

    def _position_loops(self) -> dict[str, Loop]:
        dims = self._dims("P")
        names = of_loops("positions", self.positions, dims)
        places = self._places()
        loops: dict[str, Loop] = {}
        for dim in dims:
            count = self._point_count(dim)
            named = names.get(dim, [""] * count)
            raise_unless(len(named) == count, f"positions have {len(named)} names, P is {count}")
            loops[dim] = positions_loop(
                named,
                places.get(dim, [(0.0, 0.0, 0.0)] * count),
                use_z=self.use_point_z and dim in places,
                skipped=self._skipped(dim),
            )
        return loops

    def _places(self) -> dict[str, list[Point]]:
        """Places of the points of each P loop, those that were skipped too."""
        dims = self._dims("P")
        given = of_loops("stage_positions", self.stage_positions, dims)
        return {dim: points_of(places, self._point_count(dim)) for dim, places in given.items()}

    def _point_count(self, dim: str) -> int:
        """Points of a P loop, those that were skipped too."""
        return self._count(dim) + len(self._skipped(dim))

    def _skipped(self, dim: str) -> set[int]:
        """Points of a P loop that were not visited."""
        if dim != self._dims("P")[0]:
            return set()
        skipped = {operator.index(i) for i in self.skipped_points}
        last = self._count(dim) + len(skipped) - 1
        raise_unless(
            all(0 <= i <= last for i in skipped),
            f"skipped_points are not among 0 to {last}: {sorted(skipped)}",
        )
        return skipped


def of_loops(name: str, value: OfLoops[V] | None, dims: Sequence[str]) -> dict[str, V]:
    """An argument by loop.

    Parameters
    ----------
    name : str
        Of the argument, for messages.
    value : value, or mapping of str to value, or None
        For the first loop, or for each by its dimension.
    dims : sequence of str
        Dimensions of the loops that have such an argument, the outermost first.

    Returns
    -------
    dict of str to value
        Of those dimensions for which there is a value.

    Raises
    ------
    ValueError
        If there is a value for a loop that does not exist.
    """
    if value is None:
        return {}
    if isinstance(value, Mapping):
        unknown = sorted(set(value) - set(dims))
        raise_unless(not unknown, f"{name} is given for {unknown}, such loops are {list(dims)}")
        return dict(value)
    return {dims[0]: value} if dims else {}


def points_of(stage_positions: Sequence[Point], count: int) -> list[Point]:
    """Places of the stage.

    Raises
    ------
    ValueError
        If there are not `count` of (x, y, z).
    """
    raise_unless(
        np.shape(stage_positions) == (count, 3),
        f"stage_positions must be {count} of (x, y, z), not {stage_positions}",
    )
    return [(float(x), float(y), float(z)) for x, y, z in stage_positions]
