"""Finding the pixels of the frames: presumed from the map, checked for free, else asked for.

One frame's header is read with the metadata; the others are presumed to be like it, and the neighbours
in the map tell where that cannot be. Only there more headers are read.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Final

import numpy as np

from xarray_nd2.errors import ND2FormatError
from xarray_nd2.format.container import CHUNK_HEADER, frame_name, parse_chunk_header
from xarray_nd2.format.frame_offsets import (
    TIMESTAMP_BYTES,
    USUAL_DATA_OFFSET,
    presume_frame_offsets,
    usual_length,
)
from xarray_nd2.format.layout import MAX_SURPLUS_BYTES, MISSING_OFFSET, FrameLayout, FrameTable

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from xarray_nd2.format.chunk_map import ChunkMap
    from xarray_nd2.format.layout import ImageShape
    from xarray_nd2.open.file_reader import FileReader

_FRAME_HEADER_BYTES: Final = CHUNK_HEADER.size + 32  # and the name of a frame


def first_header(chunk_map: ChunkMap, size: int) -> list[tuple[int, int]]:
    """Range of the header of the frame that comes first in a file of `size` bytes, if there is one."""
    start = int(chunk_map.frame_offset.min(initial=size))
    return [(start, start + _FRAME_HEADER_BYTES)] if 0 < start <= size - _FRAME_HEADER_BYTES else []


def read_layout(reader: FileReader, chunk_map: ChunkMap, image: ImageShape) -> FrameLayout:
    """Layout of an image's frames.

    Raises
    ------
    ND2FormatError
        The frames are not in the file, or of another size than the image.
    """
    count = image.frame_count
    frame_bytes = image.frame_bytes if image.compression == "none" else None
    first = _first_frame(reader, chunk_map)
    if frame_bytes is not None and first is not None:
        _check_length(chunk_map, image, first[1])
    skip = USUAL_DATA_OFFSET if first is None else first[0]
    offset, length, doubtful = presume_frame_offsets(chunk_map, count, frame_bytes, skip)
    if first is None:  # there is nothing to go by
        doubtful = offset != MISSING_OFFSET
    elif skip == CHUNK_HEADER.size + len(frame_name(first[2])):
        # The name takes no more room than it needs, so longer numbers move the data.
        lengths = np.searchsorted(10 ** np.arange(1, 19), np.arange(count), side="right")
        doubtful |= (offset != MISSING_OFFSET) & (lengths != lengths[min(first[2], count - 1)])
    if doubtful.any():
        _settle_doubts(reader, chunk_map, offset, length, np.flatnonzero(doubtful))
    present = offset != MISSING_OFFSET
    return FrameLayout.of(
        image,
        FrameTable.from_values(np.where(present, offset + TIMESTAMP_BYTES, MISSING_OFFSET)),
        FrameTable.from_values(np.where(present, length - TIMESTAMP_BYTES, 0)),
    )


def _first_frame(reader: FileReader, chunk_map: ChunkMap) -> tuple[int, int, int] | None:
    """Of the first frame's chunk the bytes before its data, of its data, and the frame's number.

    None if it is no chunk.
    """
    for start, stop in first_header(chunk_map, reader.size):
        number = int(chunk_map.frame_index[chunk_map.frame_offset.argmin()])
        with suppress(ND2FormatError):
            header = reader.read(start, stop)
            return *parse_chunk_header(header, frame_name(number), start), number
    return None


def _check_length(chunk_map: ChunkMap, image: ImageShape, length: int) -> None:
    """Check that the frames are as long as the image's size makes them; `length` is of the first."""
    expected = TIMESTAMP_BYTES + image.frame_bytes
    most = expected + max(MAX_SURPLUS_BYTES, image.row_stride_bytes)
    lengths = {length, usual_length(chunk_map.frame_length)} - {None}
    if not any(expected <= told < most for told in lengths if told is not None):
        raise ND2FormatError(
            f"frames of {length - TIMESTAMP_BYTES} bytes cannot be {image.height} rows of "
            f"{image.row_stride_bytes} bytes"
        )


def _settle_doubts(
    reader: FileReader,
    chunk_map: ChunkMap,
    data_offset: NDArray[np.int64],
    data_length: NDArray[np.int64],
    frames: NDArray[np.int64],
) -> None:
    """Read the headers of frames whose place in their chunk is not certain.

    A frame that has no valid header is left without a byte, which its reading will tell: the
    others can still be read.
    """
    chunk_offset = np.zeros(len(data_offset), np.int64)
    inside = chunk_map.frame_index < len(chunk_offset)
    chunk_offset[chunk_map.frame_index[inside]] = chunk_map.frame_offset[inside]
    data_length[frames] = TIMESTAMP_BYTES
    readable = frames[
        (chunk_offset[frames] >= 0) & (chunk_offset[frames] <= reader.size - _FRAME_HEADER_BYTES)
    ]
    if not len(readable) and len(frames) == np.count_nonzero(data_offset != MISSING_OFFSET):
        raise ND2FormatError(
            f"every frame is said to lie outside the {reader.size} bytes of the file, "
            f"the first at byte {chunk_offset[frames[0]]}"
        )
    readable = readable[np.argsort(chunk_offset[readable], kind="stable")]
    starts = chunk_offset[readable]
    headers = reader.read_scattered(starts, _FRAME_HEADER_BYTES)
    for frame, start, header in zip(readable.tolist(), starts.tolist(), headers, strict=True):
        with suppress(ND2FormatError):
            skip, length = parse_chunk_header(header, frame_name(frame), start)
            if start + skip + length <= reader.size:
                data_offset[frame], data_length[frame] = start + skip, length
