"""Which images a dataset has, and in which group each of them goes."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from xarray_nd2.ome.values import along

if TYPE_CHECKING:
    from collections.abc import Sequence

    import xarray as xr

_IMAGE_DIMS: Final = frozenset("TZCYXS")
_MAX_PLATE_SIDE: Final = 100  # rows or columns that are listed though they have no well


@dataclass(frozen=True)
class Images:
    """The images of a file, in the order of its OME metadata.

    Attributes
    ----------
    steps : tuple of dict of str to int
        What each is of the dataset: along positions, and loops that OME-Zarr has no axis for.
    names : tuple of str
        Of each.
    paths : tuple of str
        Group of each; empty for the root, where there is only one.
    plate : dict or None
        What the metadata say of the plate.
    """

    steps: tuple[dict[str, int], ...]
    names: tuple[str, ...]
    paths: tuple[str, ...]
    plate: dict[str, Any] | None = None

    @property
    def is_single(self) -> bool:
        """Whether the root is the only image."""
        return self.paths == ("",)

    def wells(self) -> dict[str, list[str]]:
        """Names of the images in each well, by its path."""
        found: dict[str, list[str]] = {}
        for path in self.paths if self.plate else ():
            well, _, field = path.rpartition("/")
            found.setdefault(well, []).append(field)
        return found


def images_of(dataset: xr.Dataset, names: Sequence[str]) -> Images:
    """The images of a dataset.

    It is a plate where each position has a well; one image that is none is the root; others are
    numbered.
    """
    image = dataset["image"]
    sizes = {str(dim): n for dim, n in image.sizes.items() if dim not in _IMAGE_DIMS}
    steps = tuple(
        dict(zip(sizes, map(int, index), strict=True)) for index in np.ndindex(*sizes.values())
    )
    rows, columns = (along(dataset, name, sizes) for name in ("well_row", "well_column"))
    if rows is not None and columns is not None:
        places = list(zip(rows.ravel().tolist(), columns.ravel().tolist(), strict=True))
        if all(row >= 0 and column >= 0 for row, column in places):
            attrs = dataset["well"].attrs if "well" in dataset.coords else {}
            plate, paths = _plate([(int(row), int(column)) for row, column in places], attrs)
            return Images(steps, tuple(names), tuple(paths), plate)
    if not sizes:
        return Images(steps, tuple(names), ("",))
    return Images(steps, tuple(names), tuple(map(str, range(len(steps)))))


def _plate(
    places: list[tuple[int, int]], attrs: dict[Any, Any]
) -> tuple[dict[str, Any], list[str]]:
    """What is said of the plate, and the group of each image."""
    rows = _side([row for row, _ in places], attrs.get("plate_rows"))
    columns = _side([column for _, column in places], attrs.get("plate_columns"))
    fields: dict[str, int] = {}
    paths, wells = [], {}
    for row, column in places:
        well = f"{row_name(row)}/{column + 1}"
        paths.append(f"{well}/{fields.get(well, 0)}")
        fields[well] = fields.get(well, 0) + 1
        wells[well] = {
            "path": well,
            "rowIndex": rows.index(row),
            "columnIndex": columns.index(column),
        }
    plate: dict[str, Any] = {
        "rows": [{"name": row_name(row)} for row in rows],
        "columns": [{"name": str(column + 1)} for column in columns],
        "wells": list(wells.values()),
        "field_count": max(fields.values()),
    }
    if attrs.get("plate"):
        plate["name"] = str(attrs["plate"])
    return plate, paths


def _side(used: list[int], told: Any) -> list[int]:
    """Rows or columns of a plate: all of it, or those that have wells where it is too large."""
    count = max([*used, (told if type(told) is int else 0) - 1]) + 1
    return list(range(count)) if count <= _MAX_PLATE_SIDE else sorted(set(used))


def row_name(row: int) -> str:
    """Letters of a row, counted from 0.

    Examples
    --------
    >>> row_name(0), row_name(25), row_name(26)
    ('A', 'Z', 'AA')
    """
    letters = ""
    row += 1
    while row:
        row, letter = divmod(row - 1, 26)
        letters = chr(ord("A") + letter) + letters
    return letters


def group_names(names: Sequence[str]) -> list[str]:
    """Names that groups can have, distinct.

    Examples
    --------
    >>> group_names(["nuclei", "a/b", "a b"])
    ['nuclei', 'a_b', 'a_b_2']
    """
    found: list[str] = []
    for name in names:
        plain = re.sub(r"[^A-Za-z0-9_.-]+", "_", name).strip(".") or "layer"
        distinct, number = plain, 2
        while distinct in found:
            distinct, number = f"{plain}_{number}", number + 1
        found.append(distinct)
    return found
