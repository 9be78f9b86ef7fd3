"""What headers of frames prove of where the frames' data starts."""

from __future__ import annotations

import pytest

from xarray_nd2 import ND2FormatError
from xarray_nd2.format.container import CHUNK_HEADER, CHUNK_MAGIC, frame_name
from xarray_nd2.format.name_areas import (
    FrameHeader,
    agreed_name_area,
    data_starts,
    parse_frame_header,
)
from xarray_nd2.format.sequences import IMAGE_FRAMES

PADDED, TIGHT = 4072, 0
HEADER_BYTES = IMAGE_FRAMES.header_bytes


def header(
    area: int, *, frame: int = 0, data: int = 1000, behind: bytes = b"", room: int = 8192
) -> FrameHeader:
    """A header as it is read; `behind` is what follows the name, then zeros."""
    name = frame_name(frame)
    buffer = CHUNK_HEADER.pack(CHUNK_MAGIC, area, data) + name + behind
    buffer = buffer.ljust(HEADER_BYTES, b"\0")
    return parse_frame_header(buffer[:HEADER_BYTES], frame, 4096, room)


def test_usual_headers_are_proof() -> None:
    assert header(PADDED).told == PADDED
    assert header(PADDED).is_proof
    assert header(15, behind=b"time", room=4096).told == TIGHT
    assert header(15, behind=b"time", room=4096).is_proof
    assert header(15, behind=bytes(10) + b"pixels", room=4096).is_proof  # of time 0
    assert header(PADDED).data_offset == 4096 + 4088


@pytest.mark.parametrize(
    "doubted",
    [
        header(4073),
        header(64, room=4096),
        header(PADDED, behind=b"pixels"),  # padding is zeros
        header(15, data=4090, room=8192),  # zeros may be padding
    ],
)
def test_headers_that_are_no_proof(doubted: FrameHeader) -> None:
    assert doubted.told is None
    assert not doubted.is_proof
    assert not doubted.tells_place(None)
    assert agreed_name_area([doubted]) is None


def test_a_usual_header_against_the_map() -> None:
    """Another one may be wrong about its room, so it is no proof, but it is believed if none objects."""
    lone = header(PADDED, room=4096)
    assert not lone.is_proof
    assert agreed_name_area([lone]) == PADDED
    assert agreed_name_area([lone, header(64, room=4096)]) is None
    assert lone.tells_place(PADDED)


def test_a_dark_frame_without_a_time() -> None:
    """The zeros behind its name may be padding, where there is room for that."""
    dark = header(15, room=4096)
    assert dark.told is None
    assert agreed_name_area([dark]) == TIGHT
    assert agreed_name_area([dark, dark]) == TIGHT
    assert agreed_name_area([dark, header(64, room=4096)]) is None


def test_what_headers_agree_about() -> None:
    padded, tight, odd = header(PADDED), header(15, behind=b"t", room=4096), header(77, room=4096)
    assert agreed_name_area([]) is None
    assert agreed_name_area([padded, odd]) == PADDED
    assert agreed_name_area([tight, odd]) == TIGHT
    assert agreed_name_area([padded, tight]) is None
    assert agreed_name_area([padded, tight, tight]) == TIGHT
    assert agreed_name_area([odd, odd]) == 77
    assert agreed_name_area([odd, header(78, room=4096)]) is None
    assert agreed_name_area([padded, odd, odd]) == 77
    assert agreed_name_area([header(PADDED, behind=b"pixels"), odd, odd]) == 77


def test_an_area_as_long_as_the_longest_name() -> None:
    """Frames with that name look tight, those with shorter names do not."""
    one, ten = header(16, room=4096), header(16, frame=10, behind=b"t", room=4096)
    assert agreed_name_area([one, one, ten]) == 16
    assert agreed_name_area([ten, ten]) == TIGHT
    assert not ten.is_proof
    assert agreed_name_area([ten]) == TIGHT  # there is no other frame
    assert agreed_name_area([header(15, behind=b"t", room=4096), ten]) == TIGHT
    assert data_starts(16, 12).tolist() == [32] * 12
    assert data_starts(TIGHT, 12).tolist() == [31] * 10 + [32] * 2


def test_other_chunks_are_no_headers() -> None:
    with pytest.raises(ND2FormatError, match="expected the chunk 'ImageDataSeq.1!' at byte 4096"):
        parse_frame_header(CHUNK_HEADER.pack(CHUNK_MAGIC, 40, 8) + frame_name(0), 1, 4096, 8192)
