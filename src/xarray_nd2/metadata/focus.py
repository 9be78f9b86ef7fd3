"""At which height the pixels are: the labels along Z, and the absolute position of the stage."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from xarray_nd2.metadata.label import rounded, rounded_steps
from xarray_nd2.metadata.space import stage_attrs
from xarray_nd2.metadata.tree import MAX_MAGNITUDE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from xarray_nd2.metadata.experiment import Loop
    from xarray_nd2.metadata.label import Coordinate
    from xarray_nd2.metadata.tree import Branch

    Floats = NDArray[np.float64]

# `iType` of a stack (Laboratory Imaging's limnd2): 0 to 3 from bottom to top, 4 to 7 from top to
# bottom; 2, 3, 6 and 7 keep the home plane, the others the top or the bottom.
_FIRST_TOP_TO_BOTTOM: Final = 4
_UP_FROM_HOME: Final = (2, 3)
_DOWN_FROM_HOME: Final = (6, 7)
_STACK_TYPES: Final = range(8)
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
    parameters = loop.parameters
    attrs: dict[str, Any] = {"long_name": "Z", "units": "µm"}
    step = _step_um(loop)
    if step is None:
        attrs |= {"units": "1", "comment": "number of the plane; the file has no step"}
        return (dim,), np.arange(size, dtype=np.float64), attrs
    home = _home_plane(loop, step)
    upwards = (parameters.whole("iType", needed=True) or 0) < _FIRST_TOP_TO_BOTTOM
    if recorded is not None and size > 1:
        moved = recorded[-1] - recorded[0]
        if abs(abs(moved) - step * (size - 1)) <= step / 2:
            upwards = bool(moved > 0)
    planes = np.arange(size) - home
    values = rounded_steps((planes if upwards else -planes) * step)
    attrs |= {
        "comment": "from the home plane",
        "home_index": home,
        "direction": "bottom to top" if upwards else "top to bottom",
    }
    return (dim,), values, attrs


def _step_um(loop: Loop) -> float | None:
    step = loop.parameters.number("dZStep", needed=True)
    low, high = loop.parameters.number("dZLow"), loop.parameters.number("dZHigh")
    if step is not None and step == 0 and loop.count > 1 and None not in (low, high):
        step = ((high or 0.0) - (low or 0.0)) / (loop.count - 1)
    return abs(step) if step else None


def _home_plane(loop: Loop, step: float) -> int:
    """Number of the home plane, as NIS-Elements finds it (Laboratory Imaging's limnd2)."""
    parameters, last = loop.parameters, loop.count - 1
    kind = parameters.whole("iType")
    low, high, home = (parameters.number(f"dZ{name}") for name in ("Low", "High", "Home"))
    if kind in _UP_FROM_HOME + _DOWN_FROM_HOME and None not in (low, high, home):
        from_low = (kind in _UP_FROM_HOME) != bool(parameters.flag("bZInverted"))
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
        Along all positions and planes, in the order of the loops, and of size 1 along the others.
        None where nothing was recorded, or only zeros for all of x, y and z: these stand for it.
    """
    shape = tuple(size if dim[0] in "PZ" else 1 for dim, size in loops)
    heights = columns.get("z")
    if heights is None or not len(heights):
        return None
    steps = [np.arange(size) for size in shape]
    frames = np.zeros(shape, np.int64)
    if loops:
        frames = np.ravel_multi_index(np.ix_(*steps), tuple(size for _, size in loops))
    recorded = np.full(frames.shape, np.nan)
    told = (frames < len(heights)) & present[frames]
    recorded[told] = heights[frames[told]]
    recorded[~(np.abs(recorded) < MAX_MAGNITUDE)] = np.nan
    places = [columns[axis][: len(heights)] for axis in "xyz" if axis in columns]
    if not told.any() or not any(np.nan_to_num(column).any() for column in places):
        return None
    return recorded


def stage_heights(
    recorded: Floats | None,
    axes: Mapping[str, Coordinate],
    loops: Sequence[tuple[str, Loop]],
    picture: Branch,
) -> dict[str, Coordinate]:
    """Absolute height of the stage at each plane, in µm, as far as the file tells.

    Parameters
    ----------
    recorded : ndarray of float64 or None
        As `recorded_heights` gives it.
    axes : mapping of str to coordinate
        Labels along the loops over planes, and their sizes.
    loops : sequence of (str, Loop)
        Dimension of each loop.
    picture : Branch
        Metadata of the first frame, and so of its plane, which need not be the home plane.
    """
    attrs = stage_attrs("z")
    if recorded is not None:
        dims = tuple(dim for dim, _ in loops if dim[0] in "PZ")
        values = recorded.reshape([len(axes[dim][1]) for dim in dims])
        return {"stage_z": (dims, values, attrs | {"comment": "as recorded"})}
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
    if first is None:
        return {}
    heights = first + above_home - above_home.flat[0]
    dims = tuple(dim for dim, _ in planes)
    return {"stage_z": (dims, rounded(heights), attrs | {"comment": "by the first frame"})}
