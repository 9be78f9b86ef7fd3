"""At which height the pixels are: the labels along Z, and the absolute position of the stage."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from xarray_nd2.metadata.label import rounded, rounded_steps
from xarray_nd2.metadata.loops import is_time
from xarray_nd2.metadata.space import stage_attrs
from xarray_nd2.metadata.tree import MAX_MAGNITUDE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from xarray_nd2.metadata.experiment import Loop
    from xarray_nd2.metadata.label import Coordinate
    from xarray_nd2.metadata.loops import Dimension
    from xarray_nd2.metadata.tree import Branch

    Floats = NDArray[np.float64]

# `iType` of a stack (Laboratory Imaging's limnd2): 0 to 3 from bottom to top, 4 to 7 from top to
# bottom; 2, 3, 6 and 7 keep the home plane, the others the top or the bottom.
_BOTTOM_TO_TOP: Final = (0, 1, 2, 3)
_TOP_TO_BOTTOM: Final = (4, 5, 6, 7)
_UP_FROM_HOME: Final = (2, 3)
_DOWN_FROM_HOME: Final = (6, 7)
_HOME_TOLERANCE: Final = 0.05  # of a step, by which the range may fall short of the home plane


def z_axis(loop: Loop, dim: str, size: int, recorded: Floats | None) -> Coordinate:
    """Labels along the planes of a stack: µm from the home plane, signed as the stage moved.

    Parameters
    ----------
    loop : Loop
        The stack.
    dim : str
        Its dimension.
    size : int
        Planes; there may be more of them than the loop has.
    recorded : ndarray of float64, shape (size,), or None
        Recorded heights of the planes, which tell for certain whether they rise.

    Returns
    -------
    dims, values, attrs
        Numbers of the planes where the file has no step.
    """
    attrs: dict[str, Any] = {"long_name": "Z", "units": "µm"}
    step = _step_um(loop)
    if step is None:
        attrs |= {"units": "1", "comment": "number of the plane; the file has no step"}
        return (dim,), np.arange(size, dtype=np.float64), attrs
    home, said = _home_plane(loop, step), _said_upwards(loop)
    seen = _seen_upwards(recorded, step) if size > 1 else None
    upwards = next((way for way in (seen, said) if way is not None), None)
    if said is not None and seen is not None and said != seen and _keeps_home(loop):
        home = loop.count - 1 - home  # it was counted from the other end
    planes = np.arange(size) - home
    values = rounded_steps((-planes if upwards is False else planes) * step)
    attrs |= {"comment": "from the home plane", "home_index": home}
    if upwards is not None:
        attrs["direction"] = "bottom to top" if upwards else "top to bottom"
    return (dim,), values, attrs


def _said_upwards(loop: Loop) -> bool | None:
    """Whether the stack was to be taken from bottom to top; None where the kind is not known."""
    kind = loop.parameters.whole("iType", needed=True)
    if kind is not None and kind not in _BOTTOM_TO_TOP + _TOP_TO_BOTTOM:
        loop.parameters.note_odd("iType")
        return None
    return None if kind is None else kind in _BOTTOM_TO_TOP


def _seen_upwards(recorded: Floats | None, step: float) -> bool | None:
    """Whether the recorded heights rise; None where they do not tell, as of a drive that stood still."""
    if recorded is None:
        return None
    moved = recorded[-1] - recorded[0]
    told = abs(abs(moved) - step * (len(recorded) - 1)) <= step / 2
    return bool(moved > 0) if told else None


def _keeps_home(loop: Loop) -> bool:
    return loop.parameters.whole("iType") in _UP_FROM_HOME + _DOWN_FROM_HOME


def _step_um(loop: Loop) -> float | None:
    step = loop.parameters.number("dZStep", needed=True)
    low, high = loop.parameters.number("dZLow"), loop.parameters.number("dZHigh")
    if step is not None and step == 0 and loop.count > 1 and None not in (low, high):
        step = ((high or 0.0) - (low or 0.0)) / (loop.count - 1)
    return abs(step) if step else None


def _home_plane(loop: Loop, step: float) -> int:
    """Number of the home plane, as NIS-Elements finds it (Laboratory Imaging's limnd2)."""
    parameters, last = loop.parameters, loop.count - 1
    low, high, home = (parameters.number(f"dZ{name}") for name in ("Low", "High", "Home"))
    if _keeps_home(loop) and None not in (low, high, home):
        from_low = (parameters.whole("iType") in _UP_FROM_HOME) != bool(
            parameters.flag("bZInverted")
        )
        first = low if from_low else high
        below = min(abs((first or 0.0) - (home or 0.0)) / step, last)  # infinite by a tiny step
        return max(0, math.ceil(below - _HOME_TOLERANCE))
    return last // 2


def recorded_heights(
    columns: Mapping[str, Floats], loops: tuple[tuple[str, int], ...], present: NDArray[np.bool_]
) -> Floats | None:
    """Recorded height of the stage at the first time point, NaN where the file does not tell.

    Parameters
    ----------
    columns : mapping of str to ndarray of float64
        Recorded positions of the stage along "x", "y" and "z", of the first frames at least.
    loops : tuple of (str, int)
        Dimension and size of each loop.
    present : ndarray of bool, shape (frames,)
        Which frames the file has.

    Returns
    -------
    ndarray of float64 or None
        Along all positions, planes and steps of unknown loops, in the order of the loops, and of size 1
        along the others. None where nothing was recorded, or only zeros for all of x, y and z: these
        stand for it.
    """
    shape = tuple(1 if is_time(dim) else size for dim, size in loops)
    heights = columns.get("z")
    if heights is None or not len(heights):
        return None
    steps = [np.arange(size) for size in shape]
    frames = np.zeros(shape, np.int64)
    if loops:
        frames = np.ravel_multi_index(np.ix_(*steps), tuple(size for _, size in loops))
    recorded = _at(heights, frames, present)
    places = [recorded, *(_at(columns[axis], frames, present) for axis in "xy" if axis in columns)]
    is_some_place = any(np.nan_to_num(place).any() for place in places)
    return recorded if is_some_place and np.isfinite(recorded).any() else None


def _at(column: Floats, frames: NDArray[np.int64], present: NDArray[np.bool_]) -> Floats:
    """Values of a column at some frames; NaN where it does not tell, or the file has no such frame."""
    values = np.full(frames.shape, np.nan)
    told = (frames < len(column)) & present[frames]
    values[told] = column[frames[told]]
    values[~(np.abs(values) < MAX_MAGNITUDE)] = np.nan
    return values


def stage_heights(
    recorded: Floats | None,
    axes: Mapping[str, Coordinate],
    dimensions: Sequence[Dimension],
    picture: Branch,
) -> dict[str, Coordinate]:
    """Absolute height of the stage at each plane, in µm, as far as the file tells.

    Parameters
    ----------
    recorded : ndarray of float64 or None
        As `recorded_heights` gives it.
    axes : mapping of str to coordinate
        Labels along the loops.
    dimensions : sequence of Dimension
        The loops.
    picture : Branch
        Metadata of the first frame, and so of its plane, which need not be the home plane.

    Returns
    -------
    dict of str to (dims, values, attrs)
        "stage_z", or nothing.
    """
    attrs = stage_attrs("z")
    if recorded is not None:
        placed = [each for each in dimensions if not is_time(each.name)]
        values = rounded(recorded.reshape([each.size for each in placed]))
        dims = tuple(each.name for each in placed)
        return {"stage_z": (dims, values, attrs | {"comment": "as recorded"})}
    loops = [(each.name, each.loop) for each in dimensions if each.loop]
    planes = [(dim, axes[dim]) for dim, loop in loops if loop.kind == "Z"]
    if any(axis[2]["units"] != "µm" for _, axis in planes):
        return {}
    above_home: Floats = np.zeros(())
    for _, axis in planes:
        above_home = np.add.outer(above_home, axis[1])
    points = [(dim, loop) for dim, loop in loops if loop.kind == "P"]
    setting = [(dim, loop) for dim, loop in points if loop.parameters.flag("bUseZ")]
    if len(setting) > 1:
        return {}  # whether the one height is above the other is not known
    if setting:
        (point_dim, loop), plane_dims = setting[0], tuple(dim for dim, _ in planes)
        homes = np.full(len(axes[point_dim][1]), np.nan)
        for index, point in enumerate(loop.items):
            height = point.number("dPosZ")
            homes[index] = math.nan if height is None else height
        heights = rounded(np.add.outer(homes, above_home))
        comment = "by the points, which are of the home plane"
        return {"stage_z": ((point_dim, *plane_dims), heights, attrs | {"comment": comment})}
    first = picture.number("dZPos")
    if first is None or any(each.name[0] == "U" for each in dimensions):
        return {}  # along an unknown loop the stage may have been anywhere
    heights = first + above_home - above_home.flat[0]
    dims = tuple(dim for dim, _ in planes)
    return {"stage_z": (dims, rounded(heights), attrs | {"comment": "by the first frame"})}
