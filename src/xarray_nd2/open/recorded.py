"""Fetching the recorded data: which columns there are, then the values of all of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from xarray_nd2.errors import ND2FormatError
from xarray_nd2.metadata.recorded import read_columns, recorded_group
from xarray_nd2.metadata.tree import Oddities

if TYPE_CHECKING:
    from xarray_nd2.metadata.group import Group
    from xarray_nd2.metadata.recorded import RecordedColumn
    from xarray_nd2.open.opening import OpenedFile
    from xarray_nd2.open.steps import Steps

COLUMNS_CHUNK: Final = b"CustomDataVar|CustomDataV2_0!"
"""Describes the columns."""


def read_recorded(opened: OpenedFile) -> Steps[Group | None]:
    """Read the recorded data of a file whose map has the chunk that describes them.

    Raises
    ------
    ND2FormatError
        That chunk, or none of the columns, can be read.
    """
    oddities = Oddities()
    yield [opened.range_of(COLUMNS_CHUNK)]
    tags = opened.records_of(COLUMNS_CHUNK, "CustomTagDescription_v1.0", oddities)
    columns: list[tuple[RecordedColumn, tuple[int, int]]] = []
    room = opened.source.size  # no two columns can have the same bytes
    for column in read_columns(tags):
        if column.chunk not in opened.chunk_map.chunks:
            oddities.note(f"there is no chunk {column.chunk.decode()}")
            continue
        try:
            start, stop = opened.range_of(column.chunk)
        except ND2FormatError as error:
            oddities.note(str(error))
            continue
        room -= stop - start
        if room < 0:
            raise ND2FormatError("the recorded columns take more bytes than the file has")
        columns.append((column, (start, stop)))
    yield [extent for _, extent in columns]
    found = []
    for column, _ in columns:
        try:
            found.append((column, opened.data_of(column.chunk)))
        except ND2FormatError as error:
            oddities.note(str(error))
    if not found and oddities:
        raise ND2FormatError(f"the recorded columns cannot be read: {oddities}")
    if not found:
        return None
    return recorded_group(found, opened.layout.loops, opened.metadata.coordinates, oddities)
