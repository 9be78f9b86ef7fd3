"""From the bytes of a mask's chunk to the numbers of the objects at each pixel.

A mask is a list of objects, each a list of rows with runs of pixels, in a zlib stream::

    unpacked size | zlib of: version, width, height, objects, 3 more | objects
    object: number, left, top, right, bottom, bytes, rows, 2 or 4 more | rows
    row: y, number of runs | runs: x, length

All are uint32. Where objects overlap, the later one has the pixel.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Final

import numpy as np

from xarray_nd2.errors import ND2FormatError, ND2UnsupportedError
from xarray_nd2.format.container import CHUNK_HEADER, parse_chunk_header
from xarray_nd2.format.mask_planes import OBJECT_DTYPE

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from xarray_nd2.format.mask_planes import MaskChunk

    Bytes = bytes | bytearray | memoryview
    Ints = NDArray[np.int64]

_WORD_BYTES: Final = OBJECT_DTYPE.itemsize
_HEAD_WORDS: Final = 7
_OBJECT_WORDS: Final = {2: 11, 3: 9}  # before its rows, by version
_BYTES_AT, _ROWS_AT = 5, 6  # words of an object that say how long it is
# A mask takes far fewer bytes than this; one that is damaged on purpose must not take all memory.
_MAX_BYTES_OF_PIXEL: Final = 16
_MAX_SMALL_BYTES: Final = 2**24  # whatever the number of pixels
_MAX_UNPACKED_BYTES: Final = 2**27
_MAX_STREAM_SURPLUS_BYTES: Final = 2**16  # that a stream may be longer than what it holds
# How often the pixels of a plane may be covered by objects on average, which bounds the time.
_MAX_LAYERED_OBJECTS: Final = 64
_MAX_SMALL_COVER: Final = 2**26  # pixels, whatever their number in the plane


def max_unpacked_bytes(height: int, width: int) -> int:
    """Bytes that the objects of a mask may take."""
    most = max(_MAX_SMALL_BYTES, _MAX_BYTES_OF_PIXEL * height * width)
    return min(_MAX_UNPACKED_BYTES, most)


def check_extent(chunk: MaskChunk, file_bytes: int, height: int, width: int) -> None:
    """Refuse a chunk that cannot be where the map says.

    Raises
    ------
    ND2FormatError
        It lies outside the file, or takes more than any mask of this size.
    """
    room = chunk.stop - chunk.offset
    most = max_unpacked_bytes(height, width) + _MAX_STREAM_SURPLUS_BYTES
    if not 0 < chunk.offset < chunk.stop <= file_bytes or room > most:
        raise ND2FormatError(
            f"the chunk {_shown(chunk)} is said to lie at bytes {chunk.offset}-{chunk.stop} "
            f"of {file_bytes}"
        )


def decode_chunk(chunk: MaskChunk, data: Bytes, height: int, width: int) -> NDArray[np.uint32]:
    """The mask that a chunk holds.

    Parameters
    ----------
    chunk : MaskChunk
        What the map says of it.
    data : bytes
        Of the file, from its offset to its stop.
    height, width : int
        Of the image.

    Returns
    -------
    ndarray of uint32, shape (height, width)
        Number of the object at each pixel, 0 where there is none; all 0 where the chunk is too
        short to hold a mask, which is how files say that there is none.

    Raises
    ------
    ND2FormatError
        The chunk is not what the map says, or does not hold a mask of this size.
    ND2UnsupportedError
        Its version is not known.
    """
    view = memoryview(data)
    head = bytes(view[: CHUNK_HEADER.size + len(chunk.name)])
    begin, length = parse_chunk_header(head, chunk.name, chunk.offset)
    if begin + length > len(view) or chunk.length not in (-1, length):
        raise ND2FormatError(
            f"the chunk {_shown(chunk)} at byte {chunk.offset} is said to have {length} bytes of "
            f"data, by the map {chunk.length}, in {len(view)} bytes of the file"
        )
    try:
        return decode_mask(view[begin : begin + length], height, width)
    except (ND2FormatError, ND2UnsupportedError) as error:
        raise type(error)(f"the chunk {_shown(chunk)} at byte {chunk.offset}: {error}") from None


def decode_mask(data: Bytes, height: int, width: int) -> NDArray[np.uint32]:
    """The mask in the data of a chunk; arguments and errors are those of `decode_chunk`."""
    if len(data) < _WORD_BYTES:
        return np.zeros((height, width), np.uint32)
    words = _inflated(memoryview(data), max_unpacked_bytes(height, width))
    version, stored_width, stored_height, objects = words[:4].tolist()
    if version not in _OBJECT_WORDS:
        raise ND2UnsupportedError(f"version {version} of masks is not known")
    if (stored_height, stored_width) != (height, width):
        raise ND2FormatError(
            f"the mask has {stored_height} x {stored_width} pixels, the image {height} x {width}"
        )
    numbers, rows = _rows_of_objects(words, objects, _OBJECT_WORDS[version])
    runs = words[rows + 1].astype(np.int64)
    ends = np.cumsum(runs)
    total = int(ends[-1]) if len(ends) else 0
    # The words of each run: the runs of a row follow it, and each other.
    at = np.repeat(rows + 2 - 2 * (ends - runs), runs) + 2 * np.arange(total)
    left, length = words[at].astype(np.int64), words[at + 1].astype(np.int64)
    top = np.repeat(words[rows].astype(np.int64), runs)
    if (top >= height).any() or (left + length > width).any():
        raise ND2FormatError("an object of the mask goes beyond the edges of the image")
    if int(length.sum()) > max(_MAX_SMALL_COVER, _MAX_LAYERED_OBJECTS * height * width):
        raise ND2FormatError("objects of the mask lie on top of each other beyond reason")
    painted = _painted(top * width + left, length, np.repeat(numbers, runs), height * width)
    return painted.reshape(height, width)


def _inflated(data: memoryview, most: int) -> NDArray[np.uint32]:
    """The words that are in the stream, behind the number of their bytes."""
    size = int.from_bytes(data[:_WORD_BYTES], "little")
    if not _HEAD_WORDS * _WORD_BYTES <= size <= most or size % _WORD_BYTES:
        raise ND2FormatError(f"the mask is said to take {size} bytes")
    inflater = zlib.decompressobj()
    try:
        content = inflater.decompress(data[_WORD_BYTES:], size)
        surplus = b"" if inflater.eof else inflater.decompress(inflater.unconsumed_tail, 1)
    except zlib.error as error:
        raise ND2FormatError(f"the mask does not inflate: {error}") from None
    if len(content) != size or surplus or not inflater.eof:
        raise ND2FormatError(f"the mask does not inflate to the {size} bytes that it should")
    return np.frombuffer(content, OBJECT_DTYPE).astype(np.uint32)


def _rows_of_objects(
    words: NDArray[np.uint32], objects: int, object_words: int
) -> tuple[NDArray[np.uint32], Ints]:
    """Where the words of each row start, and the number of the object that it is of."""
    items = words.data  # which gives plain integers
    if objects > len(items) // object_words:
        raise ND2FormatError(f"the mask is said to have {objects} objects in {len(items)} words")
    starts, rows = np.empty(objects, np.int64), np.empty(len(items) // 2, np.int64)
    # As plain memory, which is much quicker to write to one by one.
    start_of, row_of, found = starts.data, rows.data, 0
    at = _HEAD_WORDS
    for number in range(objects):
        if at + object_words > len(items):
            raise ND2FormatError(f"of {objects} objects the mask has {number}")
        size, count = items[at + _BYTES_AT], items[at + _ROWS_AT]
        end, last = at + size // _WORD_BYTES, found + count
        if size % _WORD_BYTES or end > len(items):
            raise ND2FormatError(f"an object of the mask is said to take {size} bytes")
        start_of[number] = at
        at += object_words
        while at + 2 <= end and found < last:
            row_of[found] = at
            found += 1
            at += 2 + 2 * items[at + 1]
        if at != end or found != last:
            raise ND2FormatError(f"an object of the mask is not {count} rows in {size} bytes")
    return np.repeat(words[starts], words[starts + _ROWS_AT]), rows[:found]


def _painted(
    starts: Ints, lengths: Ints, numbers: NDArray[np.uint32], pixels: int
) -> NDArray[np.uint32]:
    """A plane on which runs are painted, the later ones over the earlier."""
    stops = starts + lengths
    order = np.argsort(starts, kind="stable")
    reach = np.append(0, np.maximum.accumulate(stops[order]))
    apart = np.append(starts[order] >= reach[:-1], True)
    alone = order[apart[:-1] & apart[1:]]
    # Of runs that touch no pixel of others, gaps and runs alternate.
    values = np.zeros(2 * len(alone) + 1, np.uint32)
    values[1::2] = numbers[alone]
    counts = np.empty(len(values), np.int64)
    counts[1::2] = lengths[alone]
    counts[::2] = np.append(starts[alone], pixels) - np.append(0, stops[alone])
    painted = np.repeat(values, counts)
    overlapping = np.sort(order[~(apart[:-1] & apart[1:])])
    columns = (starts, stops, numbers)
    for start, stop, number in zip(*(each[overlapping] for each in columns), strict=True):
        painted[start:stop] = number
    return painted


def _shown(chunk: MaskChunk) -> str:
    return repr(chunk.name.decode("ascii", "replace"))
