"""Opening a file: from a source to its layout and labels in two or three round trips.

Both ends of the file are read at once. The end holds the chunk map, or at least says where it is;
the beginning often holds the largest metadata. What is then still missing is fetched together.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from xarray_nd2.errors import ND2FormatError
from xarray_nd2.format.boxes import box_data, starts_like_legacy
from xarray_nd2.format.chunk_map import ChunkExtent, map_of_chunks, parse_chunk_map
from xarray_nd2.format.container import (
    MAP_NAME,
    SIGNATURE_BYTES,
    parse_chunk_header,
    parse_footer,
    parse_signature,
)
from xarray_nd2.io.failures import named_errors
from xarray_nd2.metadata.chunk_names import TIMES_CHUNK, metadata_chunks
from xarray_nd2.metadata.file_metadata import read_metadata
from xarray_nd2.metadata.legacy_xml import decoded_xml
from xarray_nd2.metadata.loops import StoredFrames
from xarray_nd2.metadata.records import decoded_records
from xarray_nd2.metadata.tree import Branch, Oddities
from xarray_nd2.open.chunk_data import MAX_METADATA_BYTES, chunk_data, chunk_range
from xarray_nd2.open.file_reader import FileReader
from xarray_nd2.open.frame_headers import first_header, read_layout
from xarray_nd2.open.legacy import EVENTS_TAG, open_legacy
from xarray_nd2.open.metadata_chunks import read_metadata_chunks
from xarray_nd2.open.rescue import find_chunks

if TYPE_CHECKING:
    from xarray_nd2.format.chunk_map import ChunkMap
    from xarray_nd2.format.layout import FrameLayout
    from xarray_nd2.io.source import ByteSource
    from xarray_nd2.metadata.file_metadata import FileMetadata
    from xarray_nd2.open.rescue import FoundChunks

_END_BYTES: Final = 256 * 1024  # read at once from each end of the file
_FIRST_MAP_BYTES: Final = 4 * 1024 * 1024  # of a map that is not in the end; its header tells more
_MAP_SLACK_BYTES: Final = 64 * 1024  # that a map may have behind its entries


@dataclass(frozen=True, eq=False)
class OpenedFile:
    """A file ready to be read.

    Attributes
    ----------
    source : ByteSource
        Where it is, pinned to the version that was opened.
    layout : FrameLayout
        Of its frames.
    metadata : FileMetadata
        What it says of itself.
    reader : FileReader
        Holds what was read of it.
    chunk_map : ChunkMap
        Where its other chunks are.
    rescued : str
        Of a file that was rescued, what was found and what was lost.
    oddities : Oddities
        What of the metadata could not be read, or does not fit the frames.
    """

    source: ByteSource
    layout: FrameLayout
    metadata: FileMetadata
    reader: FileReader
    chunk_map: ChunkMap
    rescued: str
    oddities: Oddities

    def range_of(self, name: bytes) -> tuple[int, int]:
        """Start and stop of the bytes that hold a chunk that the map has.

        Raises
        ------
        ND2FormatError
            The map places it outside the file, or it is too large.
        """
        return chunk_range(self.reader, name, self.chunk_map.chunks[name])

    def data_of(self, name: bytes) -> bytes:
        """Data of a chunk that the map has.

        Raises
        ------
        ND2FormatError
            It is not where the map says.
        """
        return chunk_data(self.reader, name, self.range_of(name))

    def records_of(self, name: bytes, root: str, oddities: Oddities) -> Branch:
        """Records of a chunk that the map has, as of `decoded_records`."""
        signature = self.reader.read(0, SIGNATURE_BYTES)
        return decoded_records(signature, name, self.data_of(name), root, oddities)


class OpenedLegacyFile(OpenedFile):
    """A file of version 1, whose map has boxes of XML in place of chunks."""

    def data_of(self, name: bytes) -> bytes:
        """Data of a box, by the name of the chunk that holds the same in later files.

        Raises
        ------
        ND2FormatError
            It is not where the map says.
        """
        start, stop = self.range_of(name)
        return box_data(self.reader.read(start, stop), start)

    def records_of(self, name: bytes, root: str, oddities: Oddities) -> Branch:
        """Records of a box, by the name of the chunk that holds the same in later files."""
        values = decoded_xml(EVENTS_TAG, self.data_of(name))
        return Branch(values.get(root, values), root, oddities)


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
        if starts_like_legacy(reader.head):
            return _open_legacy(source, reader)
        version = parse_signature(reader.head)
        found: FoundChunks | None = None
        try:
            chunk_map = _read_chunk_map(reader)
        except ND2FormatError:
            if not rescue:
                raise
            found = find_chunks(reader)
            chunk_map = found.as_map(metadata_chunks(version))
        stored, oddities = _stored(reader, chunk_map, rescue=rescue), Oddities()
        chunks = read_metadata_chunks(
            reader, chunk_map, version, stored, first_header(chunk_map, reader.size), oddities
        )
        metadata = read_metadata(
            chunks.skeleton, chunks.parts, chunks.damaged, version, chunks.tables, stored, oddities
        )
        layout = read_layout(reader, chunk_map, metadata.image)
    names = metadata_chunks(version) | {"times": TIMES_CHUNK}
    rescued = found.describe(layout, names) if found else ""
    return OpenedFile(source, layout, metadata, reader, chunk_map, rescued, oddities)


def _open_legacy(source: ByteSource, reader: FileReader) -> OpenedFile:
    oddities = Oddities()
    legacy = open_legacy(reader, oddities)
    chunks = {}
    for number in legacy.boxes.of_tag(EVENTS_TAG)[:1].tolist():
        start, stop = legacy.boxes.extent(number)
        # By the name of the chunk that holds the same in version 2.
        chunks[b"ImageEvents!"] = ChunkExtent(start, None, stop)
    chunk_map = map_of_chunks(chunks)
    return OpenedLegacyFile(source, legacy.layout, legacy.metadata, reader, chunk_map, "", oddities)


def _read_chunk_map(reader: FileReader) -> ChunkMap:
    location = parse_footer(reader.tail, reader.size)
    reader.prefetch([(location, min(reader.size, location + _FIRST_MAP_BYTES))])
    header = reader.read(location, min(reader.size, location + SIGNATURE_BYTES))
    start, length = parse_chunk_header(header, MAP_NAME, location)
    begin, end = location + start, location + start + length
    # Every chunk takes more of the file than its entry of the map.
    if end > reader.size or length > min(MAX_METADATA_BYTES, reader.size // 8 + _MAP_SLACK_BYTES):
        raise ND2FormatError(
            f"the chunk map at byte {location} is said to end at {end} of {reader.size}"
        )
    return parse_chunk_map(reader.read(begin, end), location)


def _stored(reader: FileReader, chunk_map: ChunkMap, *, rescue: bool) -> StoredFrames:
    lengths = chunk_map.frame_length
    told = len(lengths) > 0 and lengths.min() >= 0
    largest = min(reader.size, int(lengths.max())) if told else reader.size
    return StoredFrames(reader.size, largest, chunk_map.frame_index, rescue)
