"""Opening a file: from a source to its layout and labels in two or three round trips.

Both ends of the file are read at once. The end holds the chunk map, or at least says where it is;
the beginning often holds the largest metadata. What is then still missing is fetched together.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from xarray_nd2.errors import ND2FormatError
from xarray_nd2.format.chunk_map import parse_chunk_map
from xarray_nd2.format.container import (
    CHUNK_ALIGNMENT_BYTES,
    CHUNK_HEADER,
    MAP_NAME,
    SIGNATURE_BYTES,
    parse_chunk_header,
    parse_footer,
    parse_signature,
)
from xarray_nd2.format.skeleton import build_skeleton
from xarray_nd2.io.failures import named_errors
from xarray_nd2.metadata.chunk_names import NO_PICTURE, TIMES_CHUNK, metadata_chunks
from xarray_nd2.metadata.dimensions import StoredFrames
from xarray_nd2.metadata.file_metadata import read_metadata
from xarray_nd2.metadata.limits import check_metadata
from xarray_nd2.open.file_reader import FileReader
from xarray_nd2.open.frame_headers import first_header, read_layout
from xarray_nd2.open.rescue import find_chunks

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from xarray_nd2.format.chunk_map import ChunkExtent, ChunkMap
    from xarray_nd2.format.layout import FrameLayout
    from xarray_nd2.io.source import ByteSource
    from xarray_nd2.metadata.file_metadata import FileMetadata
    from xarray_nd2.open.rescue import FoundChunks

_END_BYTES: Final = 256 * 1024  # read at once from each end of the file
_FIRST_MAP_BYTES: Final = 4 * 1024 * 1024  # of a map that is not in the end; its header tells more
_MAP_SLACK_BYTES: Final = 64 * 1024  # that a map may have behind its entries
_NAME_AREA_BYTES: Final = 2 * CHUNK_ALIGNMENT_BYTES  # of a chunk at most, before its data
_MAX_METADATA_BYTES: Final = 256 * 1024 * 1024  # of one chunk


@dataclass(frozen=True, eq=False)
class OpenedFile:
    """A file ready to be read: its pinned source, its layout and what it says of itself.

    Of a file that was rescued, `rescued` tells what was found and what was lost.
    """

    source: ByteSource
    layout: FrameLayout
    metadata: FileMetadata
    rescued: str = ""


def open_nd2(source: ByteSource, *, rescue: bool = False) -> OpenedFile:
    """Open the file of a source.

    Parameters
    ----------
    source : ByteSource
        Where it is.
    rescue : bool
        Look for the chunks of a file that has no usable map.

    Raises
    ------
    ND2FormatError
        Not an ND2 file, or a truncated or corrupt one.
    ND2UnsupportedError
        An ND2 that cannot be decoded by ranges.
    ND2SourceError
        The file cannot be read.
    """
    with named_errors(source.name):
        source, head, tail = source.begin(_END_BYTES, _END_BYTES)
        reader = FileReader(source.fetch, source.size, head, tail)
        version = parse_signature(reader.head)
        found: FoundChunks | None = None
        try:
            chunk_map = _read_chunk_map(reader)
        except ND2FormatError:
            if not rescue:
                raise
            found = find_chunks(reader)
            chunk_map = found.as_map(metadata_chunks(version))
        skeleton, times = _read_skeleton(reader, chunk_map, version, rescued=found is not None)
        stored = _stored(reader, chunk_map, rescue=rescue)
        metadata = read_metadata(skeleton, version, times, stored)
        layout = read_layout(reader, chunk_map, metadata.image)
    names = metadata_chunks(version) | {"times": TIMES_CHUNK}
    rescued = found.describe(layout, names) if found else ""
    if not found and not metadata.arranged:
        rescued = "there is no experiment, so frames are numbered along U instead of arranged"
    return OpenedFile(source, layout, metadata, rescued)


def _read_chunk_map(reader: FileReader) -> ChunkMap:
    location = parse_footer(reader.tail, reader.size)
    reader.prefetch([(location, min(reader.size, location + _FIRST_MAP_BYTES))])
    header = reader.read(location, min(reader.size, location + SIGNATURE_BYTES))
    start, length = parse_chunk_header(header, MAP_NAME, location)
    begin, end = location + start, location + start + length
    # Every chunk takes more of the file than its entry of the map.
    if end > reader.size or length > min(_MAX_METADATA_BYTES, reader.size // 8 + _MAP_SLACK_BYTES):
        raise ND2FormatError(
            f"the chunk map at byte {location} is said to end at {end} of {reader.size}"
        )
    return parse_chunk_map(reader.read(begin, end), location)


def _read_skeleton(
    reader: FileReader, chunk_map: ChunkMap, version: tuple[int, int], *, rescued: bool
) -> tuple[bytes, NDArray[np.float64] | None]:
    """Fetch the metadata chunks; the times of the frames are only numbers and stay apart."""
    names = metadata_chunks(version)
    for part in ("attributes", "picture"):
        if names[part] not in chunk_map.chunks and not rescued:
            raise ND2FormatError(
                f"the chunk map has no {names[part].decode()!r}: the {part} of the image are missing"
            )
    wanted = [name for name in (*names.values(), TIMES_CHUNK) if name in chunk_map.chunks]
    extents = {name: chunk_map.chunks[name] for name in wanted}
    ranges = [_chunk_range(name, extent, reader.size) for name, extent in extents.items()]
    reader.prefetch([*ranges, *first_header(chunk_map, reader.size)])
    chunks = {name: _chunk_data(reader, name, extent) for name, extent in extents.items()}
    times = chunks.pop(TIMES_CHUNK, None)
    for name, data in chunks.items():
        check_metadata(name, data)
    chunks.setdefault(names["picture"], NO_PICTURE)  # where the file was rescued
    skeleton = build_skeleton(reader.read(0, SIGNATURE_BYTES), chunks)
    if times is None:
        return skeleton, None
    return skeleton, np.frombuffer(times[: len(times) // 8 * 8], "<f8")


def _chunk_range(name: bytes, extent: ChunkExtent, size: int) -> tuple[int, int]:
    """Bytes that hold a chunk, as far as the map tells."""
    stop = min(extent.stop, size)
    if extent.length is not None:
        stop = min(stop, extent.offset + CHUNK_HEADER.size + _NAME_AREA_BYTES + extent.length)
    if not 0 < extent.offset < stop or stop - extent.offset > _MAX_METADATA_BYTES:
        raise ND2FormatError(
            f"the chunk {name.decode('ascii', 'replace')!r} is said to lie at bytes "
            f"{extent.offset}-{stop} of {size}"
        )
    return extent.offset, stop


def _chunk_data(reader: FileReader, name: bytes, extent: ChunkExtent) -> bytes:
    start, stop = _chunk_range(name, extent, reader.size)
    skip, length = parse_chunk_header(reader.read(start, stop), name, start)
    begin, end = start + skip, start + skip + length
    if end > reader.size or length > _MAX_METADATA_BYTES:
        raise ND2FormatError(
            f"the chunk {name.decode('ascii', 'replace')!r} at byte {start} is said to end at "
            f"{end} of {reader.size}"
        )
    return reader.read(begin, end)


def _stored(reader: FileReader, chunk_map: ChunkMap, *, rescue: bool) -> StoredFrames:
    lengths = chunk_map.frame_length
    told = len(lengths) > 0 and lengths.min() >= 0
    largest = min(reader.size, int(lengths.max())) if told else reader.size
    numbered = int(chunk_map.frame_index.max(initial=-1)) + 1
    return StoredFrames(reader.size, len(lengths), largest, numbered, rescue)
