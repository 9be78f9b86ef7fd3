"""Where in a file a chunk lies by the map, and its data by its own header."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from xarray_nd2.errors import ND2FormatError
from xarray_nd2.format.container import CHUNK_ALIGNMENT_BYTES, CHUNK_HEADER, parse_chunk_header

if TYPE_CHECKING:
    from xarray_nd2.format.chunk_map import ChunkExtent
    from xarray_nd2.open.file_reader import FileReader

MAX_METADATA_BYTES: Final = 256 * 1024 * 1024
"""Of one chunk of metadata."""
MAX_NAME_AREA_BYTES: Final = 2 * CHUNK_ALIGNMENT_BYTES
"""Of a chunk, before its data."""


def chunk_range(reader: FileReader, name: bytes, extent: ChunkExtent) -> tuple[int, int]:
    """Start and stop of the bytes that hold a chunk, as far as the map tells.

    Raises
    ------
    ND2FormatError
        The map places it outside the file, or it is too large for one of metadata.
    """
    stop = min(extent.stop, reader.size)
    if extent.length is not None:
        stop = min(stop, extent.offset + CHUNK_HEADER.size + MAX_NAME_AREA_BYTES + extent.length)
    if 0 < extent.offset < stop and stop - extent.offset <= MAX_METADATA_BYTES:
        return extent.offset, stop
    raise ND2FormatError(
        f"the chunk {name.decode('ascii', 'replace')!r} is said to lie at bytes "
        f"{extent.offset}-{stop} of {reader.size}"
    )


def chunk_data(reader: FileReader, name: bytes, extent: tuple[int, int]) -> bytes:
    """Data of the chunk that starts a range.

    Raises
    ------
    ND2FormatError
        The range does not start with the header of that chunk, or its data do not lie in the file.
    """
    begin, end, _ = chunk_data_extent(reader, name, extent)
    return reader.read(begin, end)


def chunk_data_extent(
    reader: FileReader, name: bytes, extent: tuple[int, int]
) -> tuple[int, int, int]:
    """Where the data of the chunk that starts a range begin and end, and how many bytes they are.

    Raises
    ------
    ND2FormatError
        As of `chunk_data`.
    """
    start, stop = extent
    skip, length = parse_chunk_header(reader.read(start, stop), name, start)
    begin, end = start + skip, start + skip + length
    if end > reader.size or length > MAX_METADATA_BYTES:
        raise ND2FormatError(
            f"the chunk {name.decode('ascii', 'replace')!r} at byte {start} is said to end at "
            f"{end} of {reader.size}"
        )
    return begin, end, length
