"""Positions along an axis, as slices where they can be: a view instead of a copy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Ints = NDArray[np.int64]


def is_even(positions: Ints) -> bool:
    """Whether positions ascend by one step."""
    steps = np.diff(positions)
    return not len(steps) or bool(steps[0] > 0 and (steps == steps[0]).all())


def as_slice(positions: Ints) -> slice | Ints:
    """Positions as a slice where they ascend evenly."""
    if not is_even(positions):
        return positions
    step = int(positions[1] - positions[0]) if len(positions) > 1 else 1
    return slice(int(positions[0]), int(positions[-1]) + 1, step)


def common_step(positions: Ints) -> int | None:
    """The one step by which positions ascend in each of several windows; None if there is none.

    Parameters
    ----------
    positions : ndarray of int64, shape (windows, n)
        Of each window; neither number is 0.

    Examples
    --------
    >>> common_step(np.array([[0, 2, 4], [5, 7, 9]]))
    2
    """
    if positions.shape[1] == 1:
        return 1
    step = int(positions[0, 1] - positions[0, 0])
    even = step > 0 and bool((positions[:, 1:] - positions[:, :-1] == step).all())
    return step if even else None


def stored_places(order: tuple[int, ...], positions: Ints) -> Ints:
    """Where a stored pixel has the channels or samples at some positions."""
    return np.array(order, np.int64)[positions] if order else positions


def parts_to_copy(places: Ints) -> list[tuple[Any, Any]]:
    """Parts of an axis to copy one by one: indices in the result, and in what is stored.

    Where components are stored in another order there are several: NumPy is slow with an innermost
    axis that is not in order.
    """
    if len(places) == 1 or is_even(places):
        return [(slice(None), as_slice(places))]
    return list(enumerate(places.tolist()))
