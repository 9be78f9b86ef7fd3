"""What a label is, and how labels are written so that they can be found again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from xarray_nd2.metadata.tree import Oddities

Coordinate = tuple[tuple[str, ...], Any, dict[str, Any]]
"""Dimensions, values and attributes."""

_LABEL_DECIMALS: Final = 9  # of seconds and µm, far below what either is known to
_MAX_NAME_CHARACTERS: Final = 255
_MAX_TEXT_CHARACTERS: Final = 2**24  # of an array, in which each text takes as many as the longest


def rounded(values: NDArray[np.floating[Any]] | float) -> NDArray[np.float64]:
    """Seconds or µm without what arithmetic adds behind their last digit."""
    return np.asarray(values, np.float64).round(_LABEL_DECIMALS) + 0.0  # without -0.0


def rounded_steps(values: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Multiples of a step as one would write them: 0.3 instead of 0.30000000000000004.

    So a label that was typed is found, and a slice has both of its ends. Steps that are too small
    for that are left as they are.
    """
    written = rounded(values)
    steps = np.diff(written)
    return written if (steps > 0).all() or (steps < 0).all() else np.asarray(values, np.float64)


def text_array(texts: Sequence[str]) -> NDArray[np.str_]:
    """An array of texts, which takes as much for each as for the longest: their end is cut off."""
    return np.array([text[:_MAX_NAME_CHARACTERS] for text in texts], np.str_)


def whole_text_array(texts: Sequence[str], name: str, oddities: Oddities) -> NDArray[np.str_]:
    """An array of texts of any length, for which memory is bounded.

    Only where one long text among many would take too much, ends are cut off, which is noted of the
    array's `name`.
    """
    longest = max(map(len, texts), default=0)
    fitting = max(_MAX_NAME_CHARACTERS, _MAX_TEXT_CHARACTERS // max(1, len(texts)))
    if longest > fitting:
        oddities.note(f"{name} is cut off after {fitting} characters")
    return np.array([text[:fitting] for text in texts], np.str_)


def hex_color(color: int | None) -> str:
    """A display colour as #rrggbb; empty if it is none.

    Parameters
    ----------
    color : int or None
        As stored: red is in the lowest byte.

    Examples
    --------
    >>> hex_color(0xFF3300)
    '#0033ff'
    """
    if color is None or not 0 <= color < 2**32:
        return ""
    red, green, blue, _ = color.to_bytes(4, "little")
    return f"#{red:02x}{green:02x}{blue:02x}"


def distinct_names(names: list[str]) -> list[str]:
    """Names made distinct by numbering those that come again.

    Examples
    --------
    >>> distinct_names(["DAPI", "GFP", "DAPI"])
    ['DAPI', 'GFP', 'DAPI (2)']
    """
    taken: dict[str, int] = {}
    result = []
    for given in names:
        name = distinct = given[:_MAX_NAME_CHARACTERS]
        while distinct in taken:
            taken[name] += 1
            distinct = f"{name} ({taken[name]})"
        taken[distinct] = 1
        result.append(distinct)
    return result


def along(values: NDArray[Any], axis: int) -> NDArray[Any]:
    """Values with one of their axes first, and one for all others: shape (size, n)."""
    return np.moveaxis(values, axis, 0).reshape(values.shape[axis], -1)
