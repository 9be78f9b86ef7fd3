"""Recorded data: columns of one value a frame, such as the place of the stage."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from xarray_nd2.testing.checks import raise_unless
from xarray_nd2.testing.variant import variant_xml

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from xarray_nd2.testing.variant import Tree

    ColumnValues: TypeAlias = Sequence[float] | Sequence[str] | NDArray[Any]

__all__ = ["RecordedColumn", "recorded_chunks"]

# Description and unit of columns that microscopes write, by their ID.
_KNOWN_COLUMNS = {
    "X": ("X Coord", "µm"),
    "Y": ("Y Coord", "µm"),
    "Z": ("Z Coord", "µm"),
    "Z1": ("Ti2 ZDrive", "µm"),
    "Z2": ("NIDAQ Piezo Z (name: Piezo Z)", "µm"),
    "Camera_ExposureTime1": ("Exposure Time", "ms"),
    "CameraTemp1": ("Camera Temperature", "°C"),
    "PFS_OFFSET": ("PFS Offset", ""),
    "PFS_STATUS": ("PFS Status", ""),
}
_TEXT_CODE, _INTEGER_CODE, _FLOAT_CODE = 1, 2, 3
_TEXT_ROW_UNITS = 256  # of UTF-16, the last one is 0


@dataclass(frozen=True)
class RecordedColumn:
    """Values of one column, and how it is called.

    Parameters
    ----------
    values : sequence of float, of int or of str
        One for each frame.
    description, unit : str, optional
        As the file has them. Those of the microscopes where the ID is one of theirs; otherwise the
        ID and nothing.
    """

    values: ColumnValues
    description: str | None = None
    unit: str | None = None


def recorded_chunks(
    columns: Mapping[str, RecordedColumn | ColumnValues], frames: int
) -> dict[str, bytes]:
    """Chunks of recorded data by their names, the description of the columns last.

    Parameters
    ----------
    columns : mapping of str to RecordedColumn or values
        By their ID.
    frames : int
        Frames of the experiment, missing ones too.

    Raises
    ------
    ValueError
        If a column has another number of values, or such that ND2 files cannot hold.
    """
    chunks: dict[str, bytes] = {}
    tags: dict[str, Tree] = {}
    for i, (id_, given) in enumerate(columns.items()):
        column = given if isinstance(given, RecordedColumn) else RecordedColumn(given)
        raise_unless(
            id_.isascii() and bool(id_) and "!" not in id_, f"a column cannot be called {id_!r}"
        )
        values = np.asarray(column.values)
        raise_unless(
            values.shape == (frames,),
            f"recorded {id_!r} has shape {values.shape}, frames: {frames}",
        )
        code, chunks[f"CustomData|{id_}!"] = _encoded(id_, values)
        description, unit = _KNOWN_COLUMNS.get(id_, (id_, ""))
        tags[f"Tag{i}"] = {
            "ID": id_,
            "Type": code,
            "Group": 0,
            "Size": frames,
            "Desc": description if column.description is None else column.description,
            "Unit": unit if column.unit is None else column.unit,
        }
    chunks["CustomDataVar|CustomDataV2_0!"] = variant_xml(tags, "CustomTagDescription_v1.0")
    return chunks


def _encoded(id_: str, values: NDArray[Any]) -> tuple[int, bytes]:
    """The vendor's code of the type of some values, and their bytes."""
    if values.dtype.kind == "f":
        return _FLOAT_CODE, values.astype("<f8").tobytes()
    if values.dtype.kind in "iu":
        stored = values.astype("<i4")
        raise_unless(np.array_equal(stored, values), f"recorded {id_!r} has values beyond 32 bits")
        return _INTEGER_CODE, stored.tobytes()
    raise_unless(values.dtype.kind == "U", f"recorded {id_!r} cannot hold {values.dtype}")
    rows = [str(text).encode("utf-16-le") for text in values]
    raise_unless(
        max(map(len, rows)) < 2 * _TEXT_ROW_UNITS,
        f"recorded {id_!r} has a text of more than {_TEXT_ROW_UNITS - 1} characters",
    )
    return _TEXT_CODE, b"".join(row.ljust(2 * _TEXT_ROW_UNITS, b"\0") for row in rows)
