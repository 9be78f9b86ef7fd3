"""The container's parsing, and what it refuses."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xarray_nd2.errors import ND2FormatError, ND2UnsupportedError
from xarray_nd2.format import container
from xarray_nd2.format.layout import frame_offsets

SIGNATURE = (
    container.CHUNK_HEADER.pack(container.CHUNK_MAGIC, 32, 64)
    + container.FILE_SIGNATURE
    + b"Ver3.0".ljust(64, b"\0")
)


def map_of(entries: list[tuple[bytes, int, int]]) -> bytes:
    data = b"".join(name + struct.pack("<QQ", *place) for name, *place in entries)
    return data + container.MAP_SIGNATURE + struct.pack("<Q", 10**12) + bytes(100)


@pytest.mark.parametrize(("text", "version"), [(b"Ver3.0", (3, 0)), (b"Ver2.1", (2, 1))])
def test_signature(text: bytes, version: tuple[int, int]) -> None:
    assert container.parse_signature(SIGNATURE.replace(b"Ver3.0", text)) == version


@pytest.mark.parametrize(
    ("head", "error", "message"),
    [
        (b"", ND2FormatError, "the file is empty"),
        (b"<html><body>Sign in</body>", ND2FormatError, "not an ND2 file: it starts with b'<html>"),
        (SIGNATURE[:50], ND2FormatError, "truncated: only 50 bytes"),
        (SIGNATURE.replace(b"NAME01!", b"NAME02!"), ND2FormatError, "corrupt file signature"),
        (SIGNATURE.replace(b"Ver3.0", b"Vex3.0"), ND2FormatError, "unknown version"),
        (SIGNATURE.replace(b"Ver3.0", b"Ver9.0"), ND2UnsupportedError, "version 9.0"),
        (b"\0\0\0\x0cjP  \r\n\x87\n", ND2UnsupportedError, "legacy ND2"),
    ],
)
def test_signature_refused(head: bytes, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        container.parse_signature(head)


@pytest.mark.parametrize("location", [0, 111, 961, 2**63])
def test_footer_outside_of_the_file(location: int) -> None:
    with pytest.raises(ND2FormatError, match=f"said to be at byte {location} of 1000"):
        container.parse_footer(container.FOOTER.pack(container.MAP_SIGNATURE, location), 1000)


@pytest.mark.parametrize("tail", [b"", b"x" * 39, b"x" * 40])
def test_no_footer(tail: bytes) -> None:
    with pytest.raises(ND2FormatError, match="no chunk map signature"):
        container.parse_footer(tail, 1000)


def test_map_values_may_hold_the_mark() -> None:
    """Offsets and lengths with the byte of ``!`` in them do not split entries."""
    place = int.from_bytes(b"!!!!!!\0\0", "little")
    parsed = container.parse_chunk_map(
        map_of([(b"ImageDataSeq|7!", place, 33), (b"ImageAttributesLV!", 33, place)]), 999
    )
    assert parsed.frame_index.tolist() == [7]
    assert parsed.frame_offset.tolist() == [place]
    assert parsed.chunks[b"ImageAttributesLV!"].length == place


def test_map_sorts_out_sequences() -> None:
    parsed = container.parse_chunk_map(
        map_of(
            [
                (b"ImageDataSeq|0!", 4096, 100),
                (b"ImageDataSeq|12!", 16384, 16384),
                (b"CustomDataSeq|DownsampledColorData_1024|0!", 8192, 7),
                (b"CustomDataSeq|DownsampledColorData_1024|3!", 12288, 7),
                (b"CustomData|Camera_ExposureTime1!", 20480, 8),
                (b"ImageMetadataSeqLV|0!", 24576, 9),
                (b"ImageMetadataSeqLV|1!", 28672, 9),
                (b"X!", 32768, 2**64 - 1),
            ]
        ),
        40960,
    )
    assert parsed.frame_index.tolist() == [0, 12]
    assert parsed.frame_length.tolist() == [100, -1]  # equal to the offset: not known
    assert set(parsed.chunks) == {
        b"CustomDataSeq|DownsampledColorData_1024|0!",
        b"CustomData|Camera_ExposureTime1!",
        b"ImageMetadataSeqLV|0!",
        b"X!",
    }
    assert parsed.chunks[b"ImageMetadataSeqLV|0!"] == container.ChunkExtent(24576, 9, 28672)
    assert parsed.chunks[b"X!"].stop == 40960
    assert parsed.room(parsed.frame_offset).tolist() == [4096, 4096]


@given(st.binary(max_size=200))
def test_map_of_anything(data: bytes) -> None:
    try:
        container.parse_chunk_map(data, 5)
    except ND2FormatError as error:
        assert "ends without its signature" in str(error)  # noqa: PT017


@given(
    st.lists(
        st.tuples(st.integers(0, 10**9), st.integers(0, 2**62), st.integers(0, 2**62)), max_size=20
    )
)
def test_map_keeps_every_frame(frames: list[tuple[int, int, int]]) -> None:
    parsed = container.parse_chunk_map(
        map_of([(b"ImageDataSeq|%d!" % i, offset, size) for i, offset, size in frames]), 5
    )
    assert parsed.frame_index.tolist() == [i for i, _, _ in frames]
    assert parsed.frame_offset.tolist() == [offset for _, offset, _ in frames]
    assert parsed.frame_length.tolist() == [
        size if size != offset else -1 for _, offset, size in frames
    ]


def test_million_entries() -> None:
    count = 1_000_000
    values = np.empty((count, 2), "<u8")
    values[:, 0] = np.arange(count) * 12288 + 4096
    values[:, 1] = 8200
    packed = values.tobytes()
    data = b"".join(
        b"ImageDataSeq|%d!" % i + packed[16 * i : 16 * i + 16] for i in range(count)
    ) + container.FOOTER.pack(container.MAP_SIGNATURE, 5)
    parsed = container.parse_chunk_map(data, 2**40)
    np.testing.assert_array_equal(parsed.frame_index, np.arange(count))
    np.testing.assert_array_equal(parsed.frame_offset, values[:, 0])


def test_offsets_are_checked_against_the_neighbours() -> None:
    # Pixels of 8 bytes: 4096 + 8 + 8 fit in two pages.
    entries = [
        (b"ImageDataSeq|0!", 4096, 16),
        (b"ImageDataSeq|1!", 12288, 16),  # no room for the usual name area
        (b"ImageDataSeq|3!", 16384, 16),  # far from the next chunk
        (b"ImageDataSeq|9!", 40960, 16),  # not one of the image's frames
    ]
    chunk_map = container.parse_chunk_map(map_of(entries), 49152)
    offset, length, doubtful = frame_offsets(chunk_map, 4, frame_size=8)
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
    chunk_map = container.parse_chunk_map(map_of(entries), 61440)
    _, _, doubtful = frame_offsets(chunk_map, 6, frame_size=8)
    assert doubtful.tolist() == [False, True, True, True, False, False]
    offset, length, doubtful = frame_offsets(chunk_map, 6, frame_size=None, skip=40)
    assert offset.tolist()[::5] == [4136, 53288]
    assert length[5] == 61440 - 53288
    assert not doubtful[5]


def test_skeleton_is_a_file() -> None:
    skeleton = container.build_skeleton(SIGNATURE, {b"A!": b"abc", b"B|0!": b"x" * 5000})
    location = container.parse_footer(skeleton[-40:], len(skeleton))
    start, length = container.parse_chunk_header(skeleton[location:], container.MAP_NAME, location)
    data = skeleton[location + start : location + start + length]
    chunks = container.parse_chunk_map(data, location).chunks
    assert {name: extent.length for name, extent in chunks.items()} == {b"A!": 3, b"B|0!": 5000}
    for name, extent in chunks.items():
        skip, size = container.parse_chunk_header(skeleton[extent.offset :], name, extent.offset)
        assert skeleton[extent.offset + skip :][:size] in (b"abc", b"x" * 5000)
