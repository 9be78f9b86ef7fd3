"""Opening a file: from a source to its layout and labels in two or three round trips.

Both ends of the file are read at once. The end holds the chunk map, or at least says where it is;
the beginning often holds the largest metadata. What is then still missing is fetched together.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from xarray_nd2.errors import ND2FormatError
from xarray_nd2.format import container
from xarray_nd2.io.failures import naming
from xarray_nd2.metadata.limits import check_metadata
from xarray_nd2.metadata.reading import (
    NO_PICTURE,
    TIMES_CHUNK,
    Stored,
    metadata_chunks,
    read_metadata,
)
from xarray_nd2.open.file_reader import KnownBytes
from xarray_nd2.open.frame_headers import first_header, read_layout
from xarray_nd2.open.rescue import find_chunks

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from xarray_nd2.format.container import ChunkExtent, ChunkMap
    from xarray_nd2.format.layout import FrameLayout
    from xarray_nd2.io.source import ByteSource
    from xarray_nd2.metadata.reading import Metadata
    from xarray_nd2.open.rescue import FoundChunks

_MAP_GUESS = 4 * 1024 * 1024  # of a map that is not in the end already read; its header tells more
_MAP_SLACK = 64 * 1024  # bytes that a map may have behind its entries
_NAME_AREA = 2 * container.CHUNK_ALIGNMENT  # of a chunk at most, before its data
_MAX_METADATA = 256 * 1024 * 1024  # bytes of one chunk


@dataclass(frozen=True, eq=False)
class OpenedFile:
    """A file ready to be read: its pinned source, its layout and what it says of itself.

    Of a file that was rescued, `rescued` tells what was found and what was lost.
    """

    source: ByteSource
    layout: FrameLayout
    metadata: Metadata
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
    with naming(source.name):
        known = KnownBytes(source)
        version = container.parse_signature(known.head)
        found: FoundChunks | None = None
        try:
            chunk_map = _read_chunk_map(known)
        except ND2FormatError:
            if not rescue:
                raise
            found = find_chunks(known.source.fetch, known.size, known.head)
            chunk_map = found.as_map(metadata_chunks(version))
        skeleton, times = _read_skeleton(known, chunk_map, version, rescued=found is not None)
        stored = _stored(known, chunk_map, rescue=rescue)
        metadata = read_metadata(skeleton, version, times, stored)
        layout = read_layout(known, chunk_map, metadata.image)
    names = metadata_chunks(version) | {"times": TIMES_CHUNK}
    rescued = found.describe(layout, names) if found else ""
    if not found and not metadata.arranged:
        rescued = "there is no experiment, so frames are numbered along U instead of arranged"
    return OpenedFile(known.source, layout, metadata, rescued)


def _read_chunk_map(known: KnownBytes) -> ChunkMap:
    location = container.parse_footer(known.tail, known.size)
    known.require([(location, min(known.size, location + _MAP_GUESS))])
    header = known.get(location, min(known.size, location + container.SIGNATURE_SIZE))
    start, length = container.parse_chunk_header(header, container.MAP_NAME, location)
    begin, end = location + start, location + start + length
    # Every chunk takes more of the file than its entry of the map.
    if end > known.size or length > min(_MAX_METADATA, known.size // 8 + _MAP_SLACK):
        raise ND2FormatError(
            f"the chunk map at byte {location} is said to end at {end} of {known.size}"
        )
    return container.parse_chunk_map(known.get(begin, end), location)


def _read_skeleton(
    known: KnownBytes, chunk_map: ChunkMap, version: tuple[int, int], *, rescued: bool
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
    ranges = [_chunk_range(name, extent, known.size) for name, extent in extents.items()]
    known.require([*ranges, *first_header(chunk_map, known.size)])
    chunks = {name: _chunk_data(known, name, extent) for name, extent in extents.items()}
    times = chunks.pop(TIMES_CHUNK, None)
    for name, data in chunks.items():
        check_metadata(name, data)
    chunks.setdefault(names["picture"], NO_PICTURE)  # where the file was rescued
    skeleton = container.build_skeleton(known.get(0, container.SIGNATURE_SIZE), chunks)
    if times is None:
        return skeleton, None
    return skeleton, np.frombuffer(times[: len(times) // 8 * 8], "<f8")


def _chunk_range(name: bytes, extent: ChunkExtent, size: int) -> tuple[int, int]:
    """Bytes that hold a chunk, as far as the map tells."""
    stop = min(extent.stop, size)
    if extent.length is not None:
        stop = min(stop, extent.offset + container.CHUNK_HEADER.size + _NAME_AREA + extent.length)
    if not 0 < extent.offset < stop or stop - extent.offset > _MAX_METADATA:
        raise ND2FormatError(
            f"the chunk {name.decode('ascii', 'replace')!r} is said to lie at bytes "
            f"{extent.offset}-{stop} of {size}"
        )
    return extent.offset, stop


def _chunk_data(known: KnownBytes, name: bytes, extent: ChunkExtent) -> bytes:
    start, stop = _chunk_range(name, extent, known.size)
    skip, length = container.parse_chunk_header(known.get(start, stop), name, start)
    begin, end = start + skip, start + skip + length
    if end > known.size or length > _MAX_METADATA:
        raise ND2FormatError(
            f"the chunk {name.decode('ascii', 'replace')!r} at byte {start} is said to end at "
            f"{end} of {known.size}"
        )
    return known.get(begin, end)


def _stored(known: KnownBytes, chunk_map: ChunkMap, *, rescue: bool) -> Stored:
    lengths = chunk_map.frame_length
    told = len(lengths) > 0 and lengths.min() >= 0
    largest = min(known.size, int(lengths.max())) if told else known.size
    numbered = int(chunk_map.frame_index.max(initial=-1)) + 1
    return Stored(known.size, len(lengths), largest, numbered, rescue)
