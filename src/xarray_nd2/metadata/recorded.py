"""Recorded data: what the microscope told of each frame, such as temperatures and laser powers."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from xarray_nd2.metadata.group import Group
from xarray_nd2.metadata.label import text_array

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from numpy.typing import NDArray

    from xarray_nd2.metadata.label import Coordinate
    from xarray_nd2.metadata.tree import Branch, Oddities

_TEXT_CODE: Final = 1
_TEXT_ROW_UNITS: Final = 256  # of UTF-16
_MAX_NAME_CHARACTERS: Final = 200
# Of all columns together, where frames without a value are filled up: a small file can tell of a
# million frames that it does not have, and of many columns.
_MAX_PADDING_BYTES: Final = 2**28
# By the vendor's code of the type: of the values as stored.
_STORED_DTYPES: Final = {
    _TEXT_CODE: np.dtype(("<u2", (_TEXT_ROW_UNITS,))),
    2: np.dtype("<i4"),
    3: np.dtype("<f8"),
}
# Variables and labels of groups that recorded data may be merged with.
_NAMES_IN_OTHER_GROUPS: Final = ("image", "frame_valid", "mask", "mask_valid", "time", "acquired")
# Words of UDUNITS, which pint knows too, for units as the vendor writes them.
_UDUNITS_WORDS: Final = {
    "µm": "µm",
    "μm": "µm",
    "um": "µm",
    "°C": "degC",
    "°": "degree",
    "deg": "degree",
    "%": "percent",
    **{
        unit: unit for unit in ("nm", "mm", "ms", "s", "min", "V", "mV", "mA", "mW", "W", "K", "Hz")
    },
    **{unit: unit for unit in ("kHz", "Pa", "kPa", "hPa")},
}


@dataclass(frozen=True)
class RecordedColumn:
    """A column of the recorded data.

    Attributes
    ----------
    chunk : bytes
        Name of the chunk of its values.
    description : str
        As the vendor calls it.
    unit : str
        As the vendor writes it; empty where there is none.
    dtype : numpy.dtype
        Of a value as stored.
    """

    chunk: bytes
    description: str
    unit: str
    dtype: np.dtype[Any]


def read_columns(tags: Branch) -> list[RecordedColumn]:
    """The columns that a file describes, in its order.

    Parameters
    ----------
    tags : Branch
        The description; what of it is odd is noted there, and its column left out.
    """
    columns: dict[str, RecordedColumn] = {}
    for tag in tags.branches():
        id_, code = tag.text("ID", needed=True), tag.whole("Type", needed=True)
        if id_ is None or code is None:
            continue
        if not id_.isascii() or "!" in id_ or not id_ or id_ in columns:
            tag.note_odd("ID")
        elif code not in _STORED_DTYPES:
            tag.note_odd("Type")
        else:
            description = (tag.text("Desc") or "").strip() or id_
            unit = (tag.text("Unit") or "").strip()
            chunk = f"CustomData|{id_}!".encode()
            columns[id_] = RecordedColumn(chunk, description, unit, _STORED_DTYPES[code])
    return list(columns.values())


def recorded_group(
    columns: Sequence[tuple[RecordedColumn, bytes]],
    loops: Sequence[tuple[str, int]],
    coordinates: Mapping[str, Coordinate],
    oddities: Oddities,
) -> Group:
    """The recorded data along the loops of the image.

    Parameters
    ----------
    columns : sequence of (RecordedColumn, bytes)
        Each with its values as stored, one for each frame.
    loops : sequence of (str, int)
        Dimension and size of each loop of the image.
    coordinates : mapping of str to (dims, values, attrs)
        Of the image; those along loops are those of the group too.
    oddities : Oddities
        Where to note columns that do not have a value for each frame.

    Returns
    -------
    Group
        float64, int32 or text for each column; where a column ends too early, NaN (integers become
        float64) or no text.
    """
    dims = tuple(dim for dim, _ in loops)
    shape = tuple(size for _, size in loops)
    labels = {
        name: given
        for name, given in coordinates.items()
        if given[0] and set(given[0]) <= set(dims)
    }
    frames = math.prod(shape)
    names = _variable_names(
        [column.description for column, _ in columns],
        {*coordinates, *dims, *_NAMES_IN_OTHER_GROUPS},
    )
    variables = {}
    padding_bytes = 0
    for name, (column, data) in zip(names, columns, strict=True):
        rows = len(data) // column.dtype.itemsize
        if len(data) % column.dtype.itemsize or rows < frames:
            oddities.note(f"{column.description!r} was recorded of {rows} of {frames} frames")
        padding_bytes += max(0, frames - rows) * _padding_width_bytes(column)
        if padding_bytes > _MAX_PADDING_BYTES:
            oddities.note("columns that are too short by far are left out")
            break
        values = np.frombuffer(data[: rows * column.dtype.itemsize], column.dtype)
        attrs = {"long_name": column.description}
        if column.unit in _UDUNITS_WORDS:
            attrs["units"] = _UDUNITS_WORDS[column.unit]
        elif column.unit:
            attrs["comment"] = f"in {column.unit}"
        attrs["nd2_id"] = column.chunk.decode().partition("|")[2].rstrip("!")
        variables[name] = dims, _of_frames(values, frames).reshape(shape), attrs
    return Group(variables, labels, oddities=oddities)


def _variable_names(descriptions: Sequence[str], taken: Collection[str]) -> list[str]:
    """Names in snake case, distinct, none of which is one of those that are taken."""
    names: dict[str, None] = {}
    alike: dict[str, int] = {}
    for description in descriptions:
        name = (
            re.sub(r"\W+", "_", description.lower()).strip("_")[:_MAX_NAME_CHARACTERS] or "column"
        )
        name = f"column_{name}" if name[0].isdigit() else name
        name = f"recorded_{name}" if name in taken else name
        distinct = name
        while distinct in names or distinct in taken:
            alike[name] = alike.get(name, 1) + 1
            distinct = f"{name}_{alike[name]}"
        names[distinct] = None
    return list(names)


def _padding_width_bytes(column: RecordedColumn) -> int:
    """Bytes that a frame without a value takes at most."""
    return np.dtype(("U", _TEXT_ROW_UNITS)).itemsize if column.dtype.ndim else 8


def _of_frames(values: NDArray[Any], frames: int) -> NDArray[Any]:
    """One value for each frame: what is too much left out, what lacks without a value."""
    values = values[:frames]
    if values.ndim > 1:
        texts = [_text(row) for row in values]
        return text_array(texts + [""] * (frames - len(texts)))
    if len(values) == frames:
        return values.astype(values.dtype.newbyteorder("="))
    padded = np.full(frames, np.nan)
    padded[: len(values)] = values
    return padded


def _text(row: NDArray[np.uint16]) -> str:
    """UTF-16 up to its first 0."""
    return row.tobytes().decode("utf-16-le", "replace").partition("\0")[0]
