"""Finding the pixels of the frames: presumed from the map, checked for free, else asked for.

One frame's header is read with the metadata. Where it does not prove how the frames lie in their
chunks, a few more are read, which have to agree. All frames are presumed to be like those, and the
neighbours in the map tell where that cannot be. Only there each frame's own header is read.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import numpy as np

from xarray_nd2.errors import ND2FormatError
from xarray_nd2.format.frame_offsets import presume_frame_offsets, usual_length
from xarray_nd2.format.layout import MAX_SURPLUS_BYTES, MISSING_OFFSET, FrameLayout, FrameTable
from xarray_nd2.format.name_areas import (
    FRAME_HEADER_BYTES,
    TIMESTAMP_BYTES,
    USUAL_NAME_AREA_BYTES,
    agreed_name_area,
    parse_frame_header,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from xarray_nd2.format.chunk_map import ChunkMap
    from xarray_nd2.format.layout import ImageShape
    from xarray_nd2.format.name_areas import FrameHeader
    from xarray_nd2.open.file_reader import FileReader


def first_header(chunk_map: ChunkMap, size: int) -> list[tuple[int, int]]:
    """Range of the header of the frame that comes first in a file of `size` bytes, if there is one."""
    offsets = chunk_map.frame_offset
    start = int(offsets[_within(offsets, size)].min(initial=size))
    return [(start, start + FRAME_HEADER_BYTES)] if start < size else []


def read_layout(reader: FileReader, chunk_map: ChunkMap, image: ImageShape) -> FrameLayout:
    """Layout of an image's frames.

    Raises
    ------
    ND2FormatError
        The frames are not in the file, or of another size than the image.
    """
    count = image.frame_count
    frame_bytes = image.frame_bytes if image.compression == "none" else None
    headers = _telling_headers(reader, chunk_map, image)
    valid = [header for header in headers.values() if header is not None]
    if valid and not _are_plausible(valid, chunk_map, image):
        raise ND2FormatError(
            f"frames of {valid[0].data_bytes - TIMESTAMP_BYTES} bytes cannot be {image.height} rows "
            f"of {image.row_stride_bytes} bytes"
        )
    area = agreed_name_area(valid)
    offset, length, doubtful = presume_frame_offsets(
        chunk_map, count, frame_bytes, USUAL_NAME_AREA_BYTES if area is None else area
    )
    if area is None:  # there is nothing to go by
        doubtful = offset != MISSING_OFFSET
    doubtful[[i for i, header in headers.items() if header is None and i < count]] = True
    if doubtful.any():
        _settle_doubts(reader, chunk_map, area, offset, length, np.flatnonzero(doubtful))
    present = offset != MISSING_OFFSET
    return FrameLayout.of(
        image,
        FrameTable.from_values(np.where(present, offset + TIMESTAMP_BYTES, MISSING_OFFSET)),
        FrameTable.from_values(np.where(present, length - TIMESTAMP_BYTES, 0)),
    )


def _within(offsets: NDArray[np.int64], size: int) -> NDArray[np.bool_]:
    """Which offsets a chunk of a file of `size` bytes can have."""
    return (offsets > 0) & (offsets <= size - FRAME_HEADER_BYTES)


def _telling_headers(
    reader: FileReader, chunk_map: ChunkMap, image: ImageShape
) -> dict[int, FrameHeader | None]:
    """The header of the first frame, and where it is no proof, those of some others.

    By the number of the frame; None where it has no valid header.
    """
    places = np.flatnonzero(_within(chunk_map.frame_offset, reader.size))
    offsets = chunk_map.frame_offset[places]
    if not len(places):
        return {}
    first = places[[offsets.argmin()]]
    headers = dict(_read_headers(reader, chunk_map, first))
    told = [header for header in headers.values() if header is not None and header.is_proof]
    if told and _are_plausible(told, chunk_map, image):
        return headers
    # The next ones have names as long as that of the first, those far away share no damage with it.
    places = places[offsets.argsort(kind="stable")]
    others = sorted({1, 2, len(places) // 2, len(places) - 1} & set(range(1, len(places))))
    return headers | dict(_read_headers(reader, chunk_map, places[others]))


def _are_plausible(headers: list[FrameHeader], chunk_map: ChunkMap, image: ImageShape) -> bool:
    """Whether one of some headers, or the map, has frames as long as the image's size makes them."""
    least = TIMESTAMP_BYTES + image.frame_bytes
    plausible = range(least, least + max(MAX_SURPLUS_BYTES, image.row_stride_bytes))
    lengths = [usual_length(chunk_map.frame_length), *(header.data_bytes for header in headers)]
    return image.compression != "none" or any(length in plausible for length in lengths)


def _read_headers(
    reader: FileReader, chunk_map: ChunkMap, places: NDArray[np.int64]
) -> Iterator[tuple[int, FrameHeader | None]]:
    """Number and header of the frames at some places of the map, in the order of the file.

    None stands for a header that is not the one of that frame.
    """
    places = places[chunk_map.frame_offset[places].argsort(kind="stable")]
    starts = chunk_map.frame_offset[places]
    rooms = chunk_map.bytes_to_next_chunk(starts).tolist()
    frames = chunk_map.frame_index[places].tolist()
    pieces = reader.read_scattered(starts, FRAME_HEADER_BYTES)
    for frame, start, room, piece in zip(frames, starts.tolist(), rooms, pieces, strict=True):
        header = None
        with suppress(ND2FormatError):
            header = parse_frame_header(piece, frame, start, room)
        yield frame, header


def _settle_doubts(
    reader: FileReader,
    chunk_map: ChunkMap,
    name_area_bytes: int | None,
    data_offset: NDArray[np.int64],
    data_length: NDArray[np.int64],
    frames: NDArray[np.int64],
) -> None:
    """Read the headers of frames whose place in their chunk is not certain.

    A frame that has no valid header, or one that tells another name area than the file's frames
    have, is left without a byte, which its reading will tell: the others can still be read.
    """
    place = np.zeros(len(data_offset), np.int64)
    inside = np.flatnonzero(chunk_map.frame_index < len(place))
    place[chunk_map.frame_index[inside]] = inside
    places = place[frames]
    starts = chunk_map.frame_offset[places]
    readable = _within(starts, reader.size)
    if not readable.any() and len(frames) == np.count_nonzero(data_offset != MISSING_OFFSET):
        raise ND2FormatError(
            f"every frame is said to lie outside the {reader.size} bytes of the file, "
            f"the first at byte {starts[0]}"
        )
    data_length[frames] = TIMESTAMP_BYTES
    for frame, header in _read_headers(reader, chunk_map, places[readable]):
        if header is None or not header.tells_place(name_area_bytes):
            continue
        if header.data_offset + header.data_bytes <= reader.size:
            data_offset[frame], data_length[frame] = header.data_offset, header.data_bytes
