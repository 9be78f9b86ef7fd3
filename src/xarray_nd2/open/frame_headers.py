"""Finding the pixels of the frames: presumed from the map, checked for free, else asked for.

The map gives the chunk of each frame, and the chunk's own header how far into it the data starts. One
header is read with the metadata; the others are presumed to be like it, and the neighbours in the map
tell where that cannot be. Only there more headers are read.
"""

from __future__ import annotations

import math
from contextlib import suppress
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from xarray_nd2.errors import ND2FormatError
from xarray_nd2.format import container
from xarray_nd2.format.layout import (
    MISSING,
    TIMESTAMP_SIZE,
    USUAL_DATA_OFFSET,
    FrameLayout,
    FrameTable,
    frame_offsets,
    usual_length,
)
from xarray_nd2.open.file_reader import MAX_GAP
from xarray_nd2.read.plan import MAX_REQUEST, coalesce

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from xarray_nd2.format.container import ChunkMap
    from xarray_nd2.metadata.reading import ImageFacts
    from xarray_nd2.open.file_reader import KnownBytes

_HEADER = container.CHUNK_HEADER.size + 32  # and the name of a frame
_TOGETHER = 16  # requests for headers, so that their bytes are not all in memory
_ODD = 4096  # bytes that a frame may have more than its rows


def first_header(chunk_map: ChunkMap, size: int) -> list[tuple[int, int]]:
    """Range of the header of the frame that comes first in a file of `size` bytes, if there is one."""
    start = int(chunk_map.frame_offset.min(initial=size))
    return [(start, start + _HEADER)] if 0 < start <= size - _HEADER else []


def read_layout(known: KnownBytes, chunk_map: ChunkMap, image: ImageFacts) -> FrameLayout:
    """Layout of an image's frames.

    Raises
    ------
    ND2FormatError
        The frames are not in the file, or of another size than the image.
    """
    count = math.prod(size for _, size in image.loops)
    frame_size = image.height * image.row_stride if image.compression == "none" else None
    first = _first_frame(known, chunk_map)
    if frame_size is not None and first is not None:
        _check_length(chunk_map, image, first[1])
    skip = USUAL_DATA_OFFSET if first is None else first[0]
    offset, length, doubtful = frame_offsets(chunk_map, count, frame_size, skip)
    if first is None:  # there is nothing to go by
        doubtful = offset != MISSING
    elif skip == container.CHUNK_HEADER.size + len(_frame_name(first[2])):
        # The name takes no more room than it needs, so longer numbers move the data.
        lengths = np.searchsorted(10 ** np.arange(1, 19), np.arange(count), side="right")
        doubtful |= (offset != MISSING) & (lengths != lengths[min(first[2], count - 1)])
    if doubtful.any():
        _settle_doubts(known, chunk_map, offset, length, np.flatnonzero(doubtful))
    present = offset != MISSING
    return FrameLayout(
        image.loops,
        image.channels,
        image.height,
        image.width,
        image.samples,
        image.dtype,
        image.row_stride,
        image.compression,
        FrameTable.from_values(np.where(present, offset + TIMESTAMP_SIZE, MISSING)),
        FrameTable.from_values(np.where(present, length - TIMESTAMP_SIZE, 0)),
    )


def _first_frame(known: KnownBytes, chunk_map: ChunkMap) -> tuple[int, int, int] | None:
    """Of the first frame's chunk the bytes before its data, of its data, and the frame's number.

    None if it is no chunk.
    """
    for start, stop in first_header(chunk_map, known.size):
        number = int(chunk_map.frame_index[chunk_map.frame_offset.argmin()])
        with suppress(ND2FormatError):
            header = known.get(start, stop)
            return *container.parse_chunk_header(header, _frame_name(number), start), number
    return None


def _frame_name(number: int) -> bytes:
    return b"ImageDataSeq|%d!" % number


def _check_length(chunk_map: ChunkMap, image: ImageFacts, length: int) -> None:
    """Check that the frames are as long as the image's size makes them; `length` is of the first."""
    expected = TIMESTAMP_SIZE + image.height * image.row_stride
    most = expected + max(_ODD, image.row_stride)
    lengths = {length, usual_length(chunk_map.frame_length)} - {None}
    if not any(expected <= told < most for told in lengths if told is not None):
        raise ND2FormatError(
            f"frames of {length - TIMESTAMP_SIZE} bytes cannot be {image.height} rows of "
            f"{image.row_stride} bytes"
        )


def _settle_doubts(
    known: KnownBytes,
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
    data_length[frames] = TIMESTAMP_SIZE
    readable = frames[(chunk_offset[frames] >= 0) & (chunk_offset[frames] <= known.size - _HEADER)]
    if not len(readable) and len(frames) == np.count_nonzero(data_offset != MISSING):
        raise ND2FormatError(
            f"every frame is said to lie outside the {known.size} bytes of the file, "
            f"the first at byte {chunk_offset[frames[0]]}"
        )
    readable = readable[np.argsort(chunk_offset[readable], kind="stable")]
    starts = chunk_offset[readable]
    for frame, start, header in zip(
        readable.tolist(), starts.tolist(), _headers(known, starts), strict=True
    ):
        with suppress(ND2FormatError):
            skip, length = container.parse_chunk_header(header, _frame_name(frame), start)
            if start + skip + length <= known.size:
                data_offset[frame], data_length[frame] = start + skip, length


def _headers(known: KnownBytes, starts: NDArray[np.int64]) -> Iterator[bytes]:
    """Read the headers at sorted places, those near each other by one request."""
    groups = list(pairwise(coalesce(starts, starts + _HEADER, MAX_GAP, MAX_REQUEST).tolist()))
    for at in range(0, len(groups), _TOGETHER):
        some = groups[at : at + _TOGETHER]
        ranges = [(int(starts[i]), int(starts[j - 1]) + _HEADER) for i, j in some]
        for (i, j), data in zip(some, known.source.fetch(ranges), strict=True):
            for start in starts[i:j].tolist():
                begin = start - int(starts[i])
                yield data[begin : begin + _HEADER]
