"""Wells of a plate: in which of them each frame was taken."""

from __future__ import annotations

import json
import math
import re
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from xarray_nd2.testing.checks import raise_unless
from xarray_nd2.testing.image import loop_dims
from xarray_nd2.testing.variant import lite_variant

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from xarray_nd2.testing.variant import Tree

__all__ = ["Plate", "Well", "well_chunks"]

_WELL_NAME = re.compile("([A-Z])([0-9]+)")


@dataclass(frozen=True)
class Well:
    """A well, its row and column counted from 0."""

    name: str
    row: int
    column: int


@dataclass(frozen=True)
class Plate:
    """A plate, and the well of each position.

    Parameters
    ----------
    wells : sequence of Well or str
        A name such as ``B03`` tells row and column.
    name : str, optional
        As the vendor calls the plate.
    rows, columns : int, optional
        Of the plate.
    """

    wells: Sequence[Well | str]
    name: str = "96 Well Plate"
    rows: int = 8
    columns: int = 12


def well_chunks(
    wells: Plate | Sequence[Well | str] | None, sizes: Mapping[str, int]
) -> dict[str, bytes]:
    """Chunks of the wells by their names.

    Parameters
    ----------
    wells : Plate or sequence of Well or str, or None
        The well of each position of the first P loop, or a single one; None for no chunks.
    sizes : mapping of str to int
        Size of each dimension of the image.

    Raises
    ------
    ValueError
        If there is another number of wells than of positions, or a name tells no row and column.
    """
    if wells is None:
        return {}
    plate = wells if isinstance(wells, Plate) else Plate(wells)
    placed = [well if isinstance(well, Well) else _well_of(well) for well in plate.wells]
    loops = loop_dims(sizes)
    shape = tuple(sizes[dim] for dim in loops)
    axis = next((i for i, dim in enumerate(loops) if dim[0] == "P"), None)
    count = 1 if axis is None else shape[axis]
    raise_unless(len(placed) == count, f"there are {len(placed)} wells, positions: {count}")
    described: Tree = {
        "name": plate.name,
        "rows": plate.rows,
        "columns": plate.columns,
        "rowNaming": "letters",
        "columnNaming": "numbers",
    }
    frames = []
    for frame in range(math.prod(shape)):
        at = 0 if axis is None else int(np.unravel_index(frame, shape)[axis])
        well = placed[at]
        frames.append(
            {
                "plateIndex": 0,
                "plateUuid": "",
                "seqIndex": frame,
                "wellIndex": well.row * plate.columns + well.column,
                "wellName": well.name,
                "wellRowIndex": well.row,
                "wellColIndex": well.column,
            }
        )
    return {
        "CustomData|WellPlateDesc_0!": lite_variant({"PlateDesc": described}),
        "CustomData|WellPlateFrameInfoZJSON!": zlib.compress(json.dumps(frames).encode()),
    }


def _well_of(name: str) -> Well:
    match = _WELL_NAME.fullmatch(name)
    raise_unless(match is not None, f"the well {name!r} tells no row and column")
    assert match is not None
    return Well(name, ord(match[1]) - ord("A"), int(match[2]) - 1)
