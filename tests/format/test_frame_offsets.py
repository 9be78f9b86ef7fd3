"""Which frames are where they are presumed to be, and which are in doubt."""

from __future__ import annotations

from tests.format.test_chunk_map import map_of
from xarray_nd2.format.chunk_map import parse_chunk_map
from xarray_nd2.format.frame_offsets import presume_frame_offsets


def test_offsets_are_checked_against_the_neighbours() -> None:
    # Pixels of 8 bytes: 4096 + 8 + 8 fit in two pages.
    entries = [
        (b"ImageDataSeq|0!", 4096, 16),
        (b"ImageDataSeq|1!", 12288, 16),  # no room for the usual name area
        (b"ImageDataSeq|3!", 16384, 16),  # far from the next chunk
        (b"ImageDataSeq|9!", 40960, 16),  # not one of the image's frames
    ]
    chunk_map = parse_chunk_map(map_of(entries), 49152)
    offset, length, doubtful = presume_frame_offsets(chunk_map, 4, frame_bytes=8)
    assert offset.tolist() == [4096 + 4088, 12288 + 4088, -1, 16384 + 4088]
    assert length.tolist() == [16, 16, -1, 16]
    assert doubtful.tolist() == [False, True, False, True]


def test_frames_in_doubt() -> None:
    """What the map says of them does not go together; only their headers can tell."""
    entries = [
        (b"ImageDataSeq|0!", 4096, 16),
        (b"ImageDataSeq|1!", 12288 - 64, 16),  # chunks start on pages
        (b"ImageDataSeq|2!", 20480, 16),
        (b"ImageDataSeq|3!", 28672, 17),  # longer than the others
        (b"ImageDataSeq|2!", 36864, 16),  # the same frame once more
        (b"ImageDataSeq|04!", 45056, 16),  # not a number
        (b"ImageDataSeq|5!", 53248, 53248),  # of unknown length
    ]
    chunk_map = parse_chunk_map(map_of(entries), 61440)
    _, _, doubtful = presume_frame_offsets(chunk_map, 6, frame_bytes=8)
    assert doubtful.tolist() == [False, True, True, True, False, False]
    offset, length, doubtful = presume_frame_offsets(
        chunk_map, 6, frame_bytes=None, name_area_bytes=24
    )
    assert offset.tolist()[::5] == [4136, 53288]
    assert length[5] == 61440 - 53288
    assert not doubtful[5]


def test_places_of_other_chunks() -> None:
    """A frame cannot lie within another chunk, nor where the file's signature is."""
    entries = [
        (b"ImageDataSeq|0!", 0, 16),
        (b"CustomData|a!", 4096, 20_000),
        (b"ImageDataSeq|1!", 16384, 16),  # as far from the next chunk as it should be
        (b"ImageDataSeq|2!", 24576, 16),
    ]
    chunk_map = parse_chunk_map(map_of(entries), 32768)
    assert chunk_map.contested.tolist() == [16384]
    _, _, doubtful = presume_frame_offsets(chunk_map, 3, frame_bytes=8)
    assert doubtful.tolist() == [True, True, False]
    _, _, doubtful = presume_frame_offsets(chunk_map, 3, frame_bytes=8, name_area_bytes=0)
    assert doubtful.tolist() == [True, True, True]
