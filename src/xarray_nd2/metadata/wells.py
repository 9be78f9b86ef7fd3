"""In which well of a plate each point was: labels along P.

A file tells the well of each frame, in JSON that is compressed. Only where all frames of a point tell
the same well does the point have it.
"""

from __future__ import annotations

import json
import zlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from xarray_nd2.errors import ND2FormatError
from xarray_nd2.metadata.label import along, text_array
from xarray_nd2.metadata.tree import Branch

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from xarray_nd2.metadata.label import Coordinate
    from xarray_nd2.metadata.loops import Dimension
    from xarray_nd2.metadata.tree import Oddities

    Label = str | int

_MAX_INFLATED_BYTES: Final = 2**26
_MAX_JSON_PARTS: Final = 2_000_000  # objects, lists and their items
_MAX_PLATE_ROWS: Final = 2**16  # and columns; no plate has so many
_UNTOLD_CODE: Final = -1
_CONTRADICTORY_CODE: Final = -2
_LABEL_ATTRS: Final = {
    "well": {"long_name": "well"},
    "well_row": {"long_name": "row of the well", "units": "1", "comment": "from 0"},
    "well_column": {"long_name": "column of the well", "units": "1", "comment": "from 0"},
}


@dataclass(frozen=True, eq=False)
class FrameWells:
    """The wells of frames.

    Attributes
    ----------
    labels : mapping of str to (mapping of int to str or int, or None)
        For each of ``well``, ``well_row`` and ``well_column`` what is told of each frame, by its
        number; None where that is contradictory.
    plate_attrs : dict
        What is told of the plate.
    """

    labels: Mapping[str, Mapping[int, Label | None]]
    plate_attrs: dict[str, Any] = field(default_factory=dict)


def read_frame_wells(name: bytes, data: bytes, plate: Branch, oddities: Oddities) -> FrameWells:
    """The wells of frames, as a file tells them.

    Parameters
    ----------
    name : bytes
        Of the chunk, for errors and notes.
    data : bytes
        Its data: a list of an object for each frame, as JSON, compressed.
    plate : Branch
        What the file tells of the plate.
    oddities : Oddities
        Where to note what is not as it should be.

    Raises
    ------
    ND2FormatError
        It cannot be decoded, or would take unbounded time or memory.
    """
    shown = name.decode("ascii", "replace").rstrip("!")
    labels: dict[str, dict[int, Label | None]] = {label: {} for label in _LABEL_ATTRS}
    plates = set()
    for each in _listed(shown, data):
        branch = Branch(each, shown, oddities)
        frame = branch.whole("seqIndex", needed=True)
        if frame is None or frame < 0:
            branch.note_odd("seqIndex")
            continue
        plates.add(branch.whole("plateIndex"))
        told = {
            "well": _name(branch),
            "well_row": _number(branch, "wellRowIndex"),
            "well_column": _number(branch, "wellColIndex"),
        }
        for label, value in told.items():
            if value is not None:
                same = labels[label].setdefault(frame, value) == value
                if not same:
                    labels[label][frame] = None
    return FrameWells(labels, _plate_attrs(plate) if len(plates) < 2 else {})


def well_coordinates(
    wells: FrameWells,
    dimensions: Sequence[Dimension],
    present: NDArray[np.bool_],
    oddities: Oddities,
) -> dict[str, Coordinate]:
    """Wells along the points, or along the steps of an unknown loop; without either, a single one.

    Parameters
    ----------
    wells : FrameWells
        What is told of frames.
    dimensions : sequence of Dimension
        Loops of the image.
    present : ndarray of bool, shape (frames,)
        Which frames the file has. Of others nothing need be told.
    oddities : Oddities
        Where to note that a point is in no single well.

    Returns
    -------
    dict of str to (dims, values, attrs)
        Where the well of a point is not told, an empty text, or NaN (integers become float64).
    """
    shape = tuple(dimension.size for dimension in dimensions)
    names = [dimension.name for dimension in dimensions]
    coded = {label: _coded(told, present) for label, told in wells.labels.items() if told}
    axes: list[int | None] = [
        axis for kind in "PU" for axis, name in enumerate(names) if name[0] == kind
    ]
    points_of_axis = {
        axis: {
            label: _of_points(codes, present, shape, axis) for label, (codes, _) in coded.items()
        }
        for axis in axes or [None]
    }
    # With several loops over points the wells may be those of an inner one.
    chosen, points = max(
        points_of_axis.items(),
        key=lambda item: all((codes >= 0).all() for codes in item[1].values()),
    )
    dims = () if chosen is None else (names[chosen],)
    number = names[chosen][1:] if chosen is not None else ""
    coordinates: dict[str, Coordinate] = {}
    for label, codes in points.items():
        if (codes < 0).any():
            oddities.note(f"{label} is not the same, or not told, for all frames of a point")
        if (codes >= 0).any():
            values = _decoded(codes, coded[label][1])
            attrs = dict(_LABEL_ATTRS[label]) | (wells.plate_attrs if label == "well" else {})
            coordinates[f"{label}{number}"] = dims, values if dims else values[0], attrs
    return coordinates


def _listed(shown: str, data: bytes) -> list[Any]:
    """The items of the list that some compressed JSON is."""
    inflater = zlib.decompressobj()
    try:
        text = inflater.decompress(data, _MAX_INFLATED_BYTES)
    except zlib.error as error:
        raise ND2FormatError(f"the chunk {shown} does not inflate: {error}") from error
    if not inflater.eof:
        raise ND2FormatError(f"the chunk {shown} is cut short, or inflates to too much")
    if sum(map(text.count, (b"{", b"[", b","))) > _MAX_JSON_PARTS:
        raise ND2FormatError(f"the chunk {shown} has too many parts")
    try:
        listed = json.loads(text.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise ND2FormatError(f"the chunk {shown} is no JSON: {error}") from error
    if not isinstance(listed, list):
        raise ND2FormatError(f"the chunk {shown} is no list")
    return listed


def _name(branch: Branch) -> str | None:
    """Name of a well, without what no file of labels could hold."""
    key = "wellName" if branch.values.get("wellName") else "wellCompactName"
    name = branch.text(key)
    if name is None or not name.isprintable() or not name.strip():
        branch.note_odd("wellName")
        return None
    return name.strip()


def _number(branch: Branch, key: str) -> int | None:
    number = branch.whole(key, needed=True)
    if number is not None and not 0 <= number < _MAX_PLATE_ROWS:
        branch.note_odd(key)
        return None
    return number


def _plate_attrs(plate: Branch) -> dict[str, Any]:
    found = {
        "plate": plate.text("name") or None,
        "plate_rows": plate.whole("rows"),
        "plate_columns": plate.whole("columns"),
        "plate_row_naming": plate.text("rowNaming") or None,
        "plate_column_naming": plate.text("columnNaming") or None,
    }
    return {key: value for key, value in found.items() if value is not None}


def _coded(
    told: Mapping[int, Label | None], present: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], list[Label]]:
    """What is told of each frame as a number of a list of distinct labels, below 0 for none."""
    code_of: dict[Label, int] = {}
    codes = np.full(len(present), _UNTOLD_CODE, np.int64)
    for frame, label in told.items():
        if frame < len(present):
            new = len(code_of)
            codes[frame] = _CONTRADICTORY_CODE if label is None else code_of.setdefault(label, new)
    return codes, list(code_of)


def _of_points(
    codes: NDArray[np.int64], present: NDArray[np.bool_], shape: tuple[int, ...], axis: int | None
) -> NDArray[np.int64]:
    """The code that all frames of each point have, below 0 where they have none or several."""
    counts = (present | (codes != _UNTOLD_CODE)).reshape(shape)
    codes = codes.reshape(shape)
    if axis is None:
        codes, counts = codes.reshape(1, -1), counts.reshape(1, -1)
    else:
        codes, counts = along(codes, axis), along(counts, axis)
    largest = np.where(counts, codes, _CONTRADICTORY_CODE).max(axis=1)
    alike = np.where(counts, codes, largest[:, None]) == largest[:, None]
    return np.where(alike.all(axis=1), largest, _UNTOLD_CODE)


def _decoded(codes: NDArray[np.int64], labels: Sequence[Label]) -> NDArray[Any]:
    """Labels by their codes."""
    values = [labels[code] if code >= 0 else None for code in codes.tolist()]
    if any(isinstance(value, str) for value in values):
        return text_array([str(value) if value is not None else "" for value in values])
    if None in values:
        return np.array([np.nan if value is None else value for value in values], np.float64)
    return np.array(values, np.int64)
