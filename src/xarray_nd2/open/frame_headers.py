"""Finding the pixels of the frames: presumed from the map, checked for free, else asked for.

One frame's header is read with the metadata. Where it does not prove how the frames lie in their
chunks, a few more are read, which have to agree. All frames are presumed to be like those, and the
neighbours in the map tell where that cannot be. Only there each frame's own header is read.

The frames of the levels of an embedded pyramid are found in the same way. Since several levels are
read in the same round trips, what is going to be read is told before.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Final

import numpy as np

from xarray_nd2.errors import ND2FormatError
from xarray_nd2.format.frame_offsets import presume_frame_offsets, usual_length
from xarray_nd2.format.layout import MAX_SURPLUS_BYTES, MISSING_OFFSET, FrameLayout, FrameTable
from xarray_nd2.format.name_areas import agreed_name_area, parse_frame_header
from xarray_nd2.format.sequences import IMAGE_FRAMES
from xarray_nd2.open.steps import without_prefetching

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from xarray_nd2.format.chunk_map import ChunkMap
    from xarray_nd2.format.layout import ImageShape
    from xarray_nd2.format.name_areas import FrameHeader
    from xarray_nd2.format.sequences import FrameSequence
    from xarray_nd2.open.file_reader import FileReader
    from xarray_nd2.open.steps import Steps

_MAX_PREFETCHED_HEADERS: Final = 1000  # which are kept; the others are read in batches


def first_header(chunk_map: ChunkMap, size: int) -> list[tuple[int, int]]:
    """Range of the header of the frame that comes first in a file of `size` bytes, if there is one."""
    offsets = chunk_map.frame_offset
    start = int(offsets[_within(offsets, size, IMAGE_FRAMES)].min(initial=size))
    return [(start, start + IMAGE_FRAMES.header_bytes)] if start < size else []


def read_layout(reader: FileReader, chunk_map: ChunkMap, image: ImageShape) -> FrameLayout:
    """Layout of the image's frames.

    Raises
    ------
    ND2FormatError
        The frames are not in the file, or of another size than the image.
    """
    return without_prefetching(read_layout_of(reader, chunk_map, image, IMAGE_FRAMES))


def read_layout_of(
    reader: FileReader, chunk_map: ChunkMap, image: ImageShape, sequence: FrameSequence
) -> Steps[FrameLayout]:
    """Layout of the frames of a sequence.

    Parameters
    ----------
    reader : FileReader
        Of the file.
    chunk_map : ChunkMap
        Its index, with the chunks of the sequence for frames.
    image : ImageShape
        Shape of the image, or of a level of it.
    sequence : FrameSequence
        How the frames are stored.

    Raises
    ------
    ND2FormatError
        The frames are not in the file, or of another size than the image.
    """
    count, leading = image.frame_count, sequence.bytes_before_pixels
    frame_bytes = image.frame_bytes if image.compression == "none" else None
    telling = _telling_places(reader, chunk_map, sequence)
    yield _header_ranges(chunk_map.frame_offset[telling], sequence)
    headers = _telling_headers(reader, chunk_map, telling, image, sequence)
    valid = [header for header in headers.values() if header is not None]
    if valid and not _are_plausible(valid, chunk_map, image, sequence):
        raise ND2FormatError(
            f"frames of {valid[0].data_bytes - leading} bytes cannot be {image.height} rows "
            f"of {image.row_stride_bytes} bytes"
        )
    area = agreed_name_area(valid)
    offset, length, doubtful = presume_frame_offsets(chunk_map, count, frame_bytes, area, sequence)
    if area is None:  # there is nothing to go by
        doubtful = offset != MISSING_OFFSET
    doubtful[[i for i, header in headers.items() if header is None and i < count]] = True
    if doubtful.any():
        places = _places_of(chunk_map, np.flatnonzero(doubtful), count)
        starts = chunk_map.frame_offset[places]
        yield _header_ranges(starts[_within(starts, reader.size, sequence)], sequence)
        _settle_doubts(reader, chunk_map, sequence, area, offset, length, doubtful)
    present = offset != MISSING_OFFSET
    return FrameLayout.of(
        image,
        FrameTable.from_values(np.where(present, offset + leading, MISSING_OFFSET)),
        FrameTable.from_values(np.where(present, length - leading, 0)),
    )


def _within(offsets: NDArray[np.int64], size: int, sequence: FrameSequence) -> NDArray[np.bool_]:
    """Which offsets a chunk of a file of `size` bytes can have."""
    return (offsets > 0) & (offsets <= size - sequence.header_bytes)


def _header_ranges(offsets: NDArray[np.int64], sequence: FrameSequence) -> list[tuple[int, int]]:
    """Ranges of the headers of chunks, of as many as are kept."""
    starts = np.sort(offsets[:_MAX_PREFETCHED_HEADERS]).tolist()
    return [(start, start + sequence.header_bytes) for start in starts]


def _telling_places(
    reader: FileReader, chunk_map: ChunkMap, sequence: FrameSequence
) -> NDArray[np.int64]:
    """Places in the map of the frame that comes first in the file, and of some others."""
    places = np.flatnonzero(_within(chunk_map.frame_offset, reader.size, sequence))
    places = places[chunk_map.frame_offset[places].argsort(kind="stable")]
    # The next ones have names as long as that of the first, those far away share no damage with it.
    return places[sorted({0, 1, 2, len(places) // 2, len(places) - 1} & set(range(len(places))))]


def _telling_headers(
    reader: FileReader,
    chunk_map: ChunkMap,
    places: NDArray[np.int64],
    image: ImageShape,
    sequence: FrameSequence,
) -> dict[int, FrameHeader | None]:
    """The headers of some frames; of the image's only the first one where that is proof.

    By the number of the frame; None where it has no valid header.
    """
    headers = dict(_read_headers(reader, chunk_map, places[:1], sequence))
    told = [header for header in headers.values() if header is not None and header.is_proof]
    # Of the image one header came with the metadata, and others take a round trip; of a level all came.
    if sequence == IMAGE_FRAMES and told and _are_plausible(told, chunk_map, image, sequence):
        return headers
    return headers | dict(_read_headers(reader, chunk_map, places[1:], sequence))


def _are_plausible(
    headers: list[FrameHeader], chunk_map: ChunkMap, image: ImageShape, sequence: FrameSequence
) -> bool:
    """Whether one of some headers, or the map, has frames as long as the image's size makes them."""
    least = sequence.bytes_before_pixels + image.frame_bytes
    plausible = range(least, least + max(MAX_SURPLUS_BYTES, image.row_stride_bytes))
    lengths = [usual_length(chunk_map.frame_length), *(header.data_bytes for header in headers)]
    return image.compression != "none" or any(length in plausible for length in lengths)


def _read_headers(
    reader: FileReader, chunk_map: ChunkMap, places: NDArray[np.int64], sequence: FrameSequence
) -> Iterator[tuple[int, FrameHeader | None]]:
    """Number and header of the frames at some places of the map, in the order of the file.

    None stands for a header that is not the one of that frame.
    """
    places = places[chunk_map.frame_offset[places].argsort(kind="stable")]
    starts = chunk_map.frame_offset[places]
    rooms = chunk_map.bytes_to_next_chunk(starts).tolist()
    frames = chunk_map.frame_index[places].tolist()
    pieces = reader.read_scattered(starts, sequence.header_bytes)
    for frame, start, room, piece in zip(frames, starts.tolist(), rooms, pieces, strict=True):
        header = None
        with suppress(ND2FormatError):
            header = parse_frame_header(piece, frame, start, room, sequence)
        yield frame, header


def _places_of(chunk_map: ChunkMap, frames: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """Places in the map of frames by their numbers, which are below `count`."""
    place = np.zeros(count, np.int64)
    inside = np.flatnonzero(chunk_map.frame_index < count)
    place[chunk_map.frame_index[inside]] = inside
    return place[frames]


def _settle_doubts(
    reader: FileReader,
    chunk_map: ChunkMap,
    sequence: FrameSequence,
    name_area_bytes: int | None,
    data_offset: NDArray[np.int64],
    data_length: NDArray[np.int64],
    doubtful: NDArray[np.bool_],
) -> None:
    """Read the headers of frames whose place in their chunk is not certain.

    A frame that has no valid header, or one that tells another name area than the file's frames
    have, is left without a byte, which its reading will tell: the others can still be read.
    """
    frames = np.flatnonzero(doubtful)
    places = _places_of(chunk_map, frames, len(data_offset))
    starts = chunk_map.frame_offset[places]
    readable = _within(starts, reader.size, sequence)
    if not readable.any() and len(frames) == np.count_nonzero(data_offset != MISSING_OFFSET):
        raise ND2FormatError(
            f"every frame is said to lie outside the {reader.size} bytes of the file, "
            f"the first at byte {starts[0]}"
        )
    data_length[frames] = sequence.bytes_before_pixels
    for frame, header in _read_headers(reader, chunk_map, places[readable], sequence):
        if header is None or not header.tells_place(name_area_bytes):
            continue
        if header.data_offset + header.data_bytes <= reader.size:
            data_offset[frame], data_length[frame] = header.data_offset, header.data_bytes
