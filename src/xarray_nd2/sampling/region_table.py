"""A table of regions: which frame each is of, and where its window starts. Pure."""

from __future__ import annotations

import operator
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
import xarray as xr

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Ints = NDArray[np.int64]

Anchor = Literal["centre", "corner"]
Outside = Literal["raise", "pad"]
ROI_DIM: Final = "roi"
_PIXEL_DIMS: Final = ("Y", "X")
_FILE_DIMENSION: Final = re.compile("[TPZU][0-9]*")
_FRAME_DIMS: Final = ("C", "S", *_PIXEL_DIMS)


@dataclass(frozen=True, eq=False)
class RegionTable:
    """Where regions are in an image, in positions along its dimensions.

    Attributes
    ----------
    loops : dict of str to ndarray of int64, shape (n,)
        Position along each loop of the image, but for Z where regions are boxes.
    first : dict of str to ndarray of int64, shape (n,)
        First position along Y and X, and along Z where regions are boxes; it may lie outside.
    size : dict of str to int
        Positions of a region along each of these.
    index : object
        Labels of the regions, for a coordinate along ``roi``; None where they are only numbered.
    others : dict of str to array_like
        Further columns.
    """

    loops: dict[str, Ints]
    first: dict[str, Ints]
    size: dict[str, int]
    index: Any
    others: dict[str, Any]

    @property
    def count(self) -> int:
        """Number of regions."""
        return len(self.first["Y"])

    def take(self, which: Any) -> RegionTable:
        """Some of the regions, by anything that indexes an array; without other columns."""
        loops = {dim: positions[which] for dim, positions in self.loops.items()}
        first = {dim: positions[which] for dim, positions in self.first.items()}
        return RegionTable(loops, first, self.size, None, {})


def read_table(
    table: Any,
    size: int | Mapping[str, int],
    sizes: Mapping[str, int],
    anchor: Anchor,
    outside: Outside,
) -> RegionTable:
    """Read a table of regions.

    Parameters
    ----------
    table : mapping, xarray.Dataset or pandas.DataFrame
        A column for each loop of the image that varies, and for Y and X.
    size : int or mapping of str to int
        Pixels along Y and X, or for each of them and for Z.
    sizes : mapping of str to int
        Of the image's dimensions.
    anchor, outside : str
        As of `regions`.

    Raises
    ------
    KeyError
        A column is missing.
    ValueError
        A position is no number, or lies outside the image and must not; the row is named.
    """
    columns, index = _columns_of(table)
    window = _window_sizes(size, sizes)
    loop_dims = [dim for dim in sizes if dim not in _FRAME_DIMS]
    if missing := [
        dim for dim in (*loop_dims, *_PIXEL_DIMS) if dim not in columns and sizes[dim] != 1
    ]:
        raise KeyError(f"the table has no column {', '.join(missing)}: it has {list(columns)}")
    rows = len(next(iter(columns.values()), ()))
    names = list(range(rows)) if index is None else np.asarray(index).tolist()
    loops: dict[str, Ints] = {}
    first: dict[str, Ints] = {}
    for dim in (*loop_dims, *_PIXEL_DIMS):
        given = columns.pop(dim, np.zeros(rows, np.int64))
        positions = _positions(dim, given, names, rounded=dim in _PIXEL_DIMS)
        if dim in window:
            first[dim] = positions - (window[dim] // 2 if anchor == "centre" else 0)
        else:
            loops[dim] = positions
        beyond = _outside(positions, dim, first, window, sizes[dim])
        if beyond.any() and (outside == "raise" or dim not in window):
            row = int(np.flatnonzero(beyond)[0])
            raise ValueError(
                f"region {names[row]!r} lies outside the image along {dim}: it is at "
                f"{positions[row]}{_extent(dim, first, window, row)}, of {sizes[dim]}"
            )
    others = {
        name: np.array(column)
        for name, column in columns.items()
        if not _FILE_DIMENSION.fullmatch(name)  # which was dropped from the image
    }
    return RegionTable(loops, first, window, None if index is None else np.array(index), others)


def _columns_of(table: Any) -> tuple[dict[str, Any], Any]:
    """Columns of a table by name, and the labels of its rows."""
    index: Any = None
    columns: dict[str, Any] = {}
    if isinstance(table, xr.Dataset):
        dims = [dim for dim, size in table.sizes.items()]
        if len(dims) != 1:
            raise ValueError(f"the table must have one dimension, not {dims}")
        columns = {str(name): column.values for name, column in table.variables.items()}
        index = columns.pop(str(dims[0]), None)
        columns = {name: column for name, column in columns.items() if np.ndim(column) == 1}
    elif hasattr(table, "columns") and hasattr(table, "index"):  # a DataFrame
        columns = {str(name): table[name].to_numpy() for name in table.columns}
        index = table.index.to_numpy()
    elif isinstance(table, Mapping):
        columns = {str(name): np.asarray(column) for name, column in table.items()}
    else:
        raise TypeError(f"table is a {type(table).__name__}, not a mapping, Dataset or DataFrame")
    shapes = {np.shape(column) for column in columns.values()}
    if len(shapes) > 1 or any(len(shape) != 1 for shape in shapes):
        raise ValueError(f"the columns of the table have different shapes: {sorted(shapes)}")
    return columns, index


def _window_sizes(size: int | Mapping[str, int], sizes: Mapping[str, int]) -> dict[str, int]:
    """Positions of a region along Y and X, and along Z of boxes."""
    given = dict(size) if isinstance(size, Mapping) else dict.fromkeys(_PIXEL_DIMS, size)
    allowed = [dim for dim in ("Z", *_PIXEL_DIMS) if dim in sizes]
    unknown = set(given) - set(allowed)
    if unknown or not set(_PIXEL_DIMS) <= set(given):
        raise ValueError(f"size must be of Y and X, and may be of Z, not of {sorted(given)}")
    window = {dim: operator.index(given[dim]) for dim in allowed if dim in given}
    if min(window.values()) < 1:
        raise ValueError(f"size must be at least 1, not {window}")
    return window


def _positions(dim: str, given: Any, names: Sequence[Any], *, rounded: bool) -> Ints:
    """A column as whole positions."""
    column = np.asarray(given)
    if column.dtype.kind not in "iuf":
        raise ValueError(f"the column {dim} must have numbers, not {column.dtype}")
    if column.dtype.kind == "f":
        column = column.astype(np.float64)
    # Also what NaN becomes as a whole number.
    wrong = ~np.isfinite(column) | (column >= 2**62) | (column <= -(2**62))
    whole = np.where(wrong, 0, column)
    if not rounded:
        wrong |= whole != np.rint(whole)
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        raise ValueError(
            f"region {names[row]!r} is at {column[row]} along {dim}, which is no position"
        )
    return np.rint(whole).astype(np.int64)


def _outside(
    positions: Ints, dim: str, first: Mapping[str, Ints], window: Mapping[str, int], size: int
) -> NDArray[np.bool_]:
    """Which regions are not wholly inside of the image."""
    if dim in window:
        return (first[dim] < 0) | (first[dim] + window[dim] > size)
    return (positions < 0) | (positions >= size)


def _extent(dim: str, first: Mapping[str, Ints], window: Mapping[str, int], row: int) -> str:
    if dim not in window:
        return ""
    start = int(first[dim][row])
    return f", from {start} to {start + window[dim]}"
