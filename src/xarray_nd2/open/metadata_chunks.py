"""Fetching the metadata chunks, and the tables of what was recorded of each frame, in one round trip.

Only the image attributes must be there. Of every other chunk it is noted if it is not where the map
says, or larger than may be looked at.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from xarray_nd2.errors import ND2FormatError
from xarray_nd2.format.container import CHUNK_HEADER, SIGNATURE_BYTES
from xarray_nd2.format.skeleton import build_skeleton
from xarray_nd2.metadata.chunk_names import (
    PLATE_CHUNK,
    STAGE_CHUNKS,
    TIMES_CHUNK,
    WELLS_CHUNK,
    metadata_chunks,
)
from xarray_nd2.metadata.coordinates import FrameTables
from xarray_nd2.metadata.file_metadata import rows_of_first_time
from xarray_nd2.metadata.limits import check_metadata
from xarray_nd2.metadata.records import decoded_records
from xarray_nd2.metadata.tree import Branch
from xarray_nd2.metadata.wells import read_frame_wells
from xarray_nd2.open.chunk_data import (
    MAX_NAME_AREA_BYTES,
    chunk_data,
    chunk_data_extent,
    chunk_range,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from xarray_nd2.format.chunk_map import ChunkExtent, ChunkMap
    from xarray_nd2.metadata.loops import StoredFrames
    from xarray_nd2.metadata.tree import Oddities
    from xarray_nd2.metadata.wells import FrameWells
    from xarray_nd2.open.file_reader import FileReader

_VALUE_BYTES: Final = 8  # of a table of float64
_TEXT_BYTES: Final = 512  # of a row of text
_TABLE_CHUNKS: Final = (TIMES_CHUNK, *STAGE_CHUNKS.values())


@dataclass(frozen=True, eq=False)
class MetadataChunks:
    """The metadata of a file.

    Attributes
    ----------
    skeleton : bytes
        The file without its frames.
    parts : list of str
        What it has.
    damaged : list of str
        What of that is not complete.
    tables : FrameTables
        What was recorded of each frame.
    """

    skeleton: bytes
    parts: list[str]
    damaged: list[str]
    tables: FrameTables


def read_metadata_chunks(
    reader: FileReader,
    chunk_map: ChunkMap,
    version: tuple[int, int],
    stored: StoredFrames,
    also: Iterable[tuple[int, int]],
    oddities: Oddities,
) -> MetadataChunks:
    """Fetch the metadata of a file.

    Parameters
    ----------
    reader : FileReader
        Of the file.
    chunk_map : ChunkMap
        Its index.
    version : tuple of int
        Of the format.
    stored : StoredFrames
        What the file holds.
    also : iterable of (start, stop)
        Other ranges to read in the same round trip.
    oddities : Oddities
        Where to note which chunks cannot be had.

    Raises
    ------
    ND2FormatError
        There are no image attributes where the map says.
    """
    names = metadata_chunks(version)
    if names["attributes"] not in chunk_map.chunks:
        raise ND2FormatError(
            f"the chunk map has no {names['attributes'].decode()!r}, which tells the size of the image"
        )
    extents = {name: chunk_map.chunks[name] for name in names.values() if name in chunk_map.chunks}
    if names["picture"] not in extents:
        oddities.note(f"there is no chunk {names['picture'].decode()}")
    ranges = _ranges(reader, extents, names["attributes"], oddities)
    columns = {name: chunk_map.chunks[name] for name in _TABLE_CHUNKS if name in chunk_map.chunks}
    tables = _ranges(reader, columns, b"", oddities)
    places = {name: tables.pop(name) for name in STAGE_CHUNKS.values() if name in tables}
    if any(reader.held(*extent) is None for extent in places.values()):
        rows = _rows_of_first_time(reader, names["experiment"], ranges, version, stored)
        places = {name: _first_rows(extent, rows) for name, extent in places.items()}
    if STAGE_CHUNKS["z"] in places:
        tables[STAGE_CHUNKS["z"]] = places[STAGE_CHUNKS["z"]]
    named = (WELLS_CHUNK, PLATE_CHUNK) if WELLS_CHUNK in chunk_map.chunks else ()
    wells = {name: chunk_map.chunks[name] for name in named if name in chunk_map.chunks}
    well_ranges = _ranges(reader, wells, b"", oddities)
    reader.prefetch([*ranges.values(), *tables.values(), *well_ranges.values(), *also])
    chunks, damaged = _descriptions(reader, ranges, names["attributes"], oddities)
    return MetadataChunks(
        build_skeleton(reader.read(0, SIGNATURE_BYTES), chunks),
        [part for part, name in names.items() if name in chunks],
        [part for part, name in names.items() if name in damaged],
        FrameTables(
            _times(reader, tables, oddities),
            _stage(reader, places, stored.numbered, oddities),
            _wells(reader, well_ranges, oddities),
        ),
    )


def _times(
    reader: FileReader, tables: dict[bytes, tuple[int, int]], oddities: Oddities
) -> NDArray[np.float64]:
    """Acquisition times; empty where the file has none."""
    if TIMES_CHUNK not in tables:
        return np.empty(0)
    data, length = _table(reader, TIMES_CHUNK, tables[TIMES_CHUNK], oddities)
    if length % _VALUE_BYTES or (not len(data) and length >= 0):
        oddities.note(f"the chunk {TIMES_CHUNK.decode()} is damaged")
    return data


def _stage(
    reader: FileReader, places: dict[bytes, tuple[int, int]], frames: int, oddities: Oddities
) -> dict[str, NDArray[np.float64]]:
    """Places of the stage at the first time point, by axis, if heights were recorded.

    Where all heights are 0, x and y tell whether these are heights or stand for nothing.
    """
    if STAGE_CHUNKS["z"] not in places:
        return {}
    found: dict[str, NDArray[np.float64]] = {}
    for axis in "zxy":
        name = STAGE_CHUNKS[axis]
        if name not in places or (
            found and found["z"].any() and reader.held(*places[name]) is None
        ):
            continue
        column, length = _table(reader, name, places[name], oddities)
        # Of another type, such as text, the column has other than 8 bytes for each frame.
        if frames * _VALUE_BYTES <= length < frames * _TEXT_BYTES:
            found[axis] = column
        elif axis == "z":
            if length >= 0:
                oddities.note(f"the chunk {name.decode()} does not tell a height for each frame")
            return {}
    return found


def _wells(
    reader: FileReader, ranges: dict[bytes, tuple[int, int]], oddities: Oddities
) -> FrameWells | None:
    """Wells of the frames, if the file tells them."""
    if WELLS_CHUNK not in ranges:
        return None
    plate = Branch(None, "PlateDesc", oddities)
    try:
        if PLATE_CHUNK in ranges:
            data = chunk_data(reader, PLATE_CHUNK, ranges[PLATE_CHUNK])
            signature = reader.read(0, SIGNATURE_BYTES)
            plate = decoded_records(signature, PLATE_CHUNK, data, "PlateDesc", oddities)
    except ND2FormatError as error:
        oddities.note(str(error))
    try:
        data = chunk_data(reader, WELLS_CHUNK, ranges[WELLS_CHUNK])
        return read_frame_wells(WELLS_CHUNK, data, plate, oddities)
    except ND2FormatError as error:
        oddities.note(str(error))
        return None


def _first_rows(extent: tuple[int, int], rows: int) -> tuple[int, int]:
    """The part of a table that has its first rows."""
    start, stop = extent
    return start, min(stop, start + CHUNK_HEADER.size + MAX_NAME_AREA_BYTES + rows * _VALUE_BYTES)


def _descriptions(
    reader: FileReader, ranges: dict[bytes, tuple[int, int]], needed: bytes, oddities: Oddities
) -> tuple[dict[bytes, bytes], set[bytes]]:
    """The chunks that can be looked at, and which of them are damaged."""
    chunks: dict[bytes, bytes] = {}
    damaged: set[bytes] = set()
    for name, extent in ranges.items():
        try:
            data = chunk_data(reader, name, extent)
            complete = check_metadata(name, data)
        except ND2FormatError as error:
            if name == needed:
                raise
            oddities.note(str(error))
            continue
        chunks[name] = data
        if not complete:
            oddities.note(f"the chunk {name.decode()} is damaged")
            damaged.add(name)
    return chunks, damaged


def _rows_of_first_time(
    reader: FileReader,
    name: bytes,
    ranges: dict[bytes, tuple[int, int]],
    version: tuple[int, int],
    stored: StoredFrames,
) -> int:
    """Rows of a table up to the last one of the first time point, by an experiment already at hand."""
    every = stored.numbered
    if name not in ranges or reader.held(*ranges[name]) is None:
        return every
    try:
        data = chunk_data(reader, name, ranges[name])
        check_metadata(name, data)
        skeleton = build_skeleton(reader.read(0, SIGNATURE_BYTES), {name: data})
        return min(every, rows_of_first_time(skeleton, version, stored))
    except ND2FormatError:
        return every


def _table(
    reader: FileReader, name: bytes, extent: tuple[int, int], oddities: Oddities
) -> tuple[NDArray[np.float64], int]:
    """Values of the part of a table of float64 that a range has, and the bytes of the whole table.

    These are -1, and there are no values, where the chunk is not where it is said to be.
    """
    try:
        begin, end, length = chunk_data_extent(reader, name, extent)
    except ND2FormatError as error:
        oddities.note(str(error))
        return np.empty(0), -1
    count = (min(end, extent[1]) - begin) // _VALUE_BYTES
    return np.frombuffer(reader.read(begin, begin + count * _VALUE_BYTES), "<f8"), length


def _ranges(
    reader: FileReader, extents: dict[bytes, ChunkExtent], needed: bytes, oddities: Oddities
) -> dict[bytes, tuple[int, int]]:
    """Bytes that hold each chunk, as far as the map tells."""
    ranges = {}
    for name, extent in extents.items():
        try:
            ranges[name] = chunk_range(reader, name, extent)
        except ND2FormatError as error:
            if name == needed:
                raise
            oddities.note(str(error))
    return ranges
