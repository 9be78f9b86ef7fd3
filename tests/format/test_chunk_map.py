"""The chunk map, whatever is in it."""

from __future__ import annotations

import struct

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from xarray_nd2.errors import ND2FormatError
from xarray_nd2.format.chunk_map import ChunkExtent, parse_chunk_map
from xarray_nd2.format.container import FILE_FOOTER, MAP_SIGNATURE


def map_of(entries: list[tuple[bytes, int, int]]) -> bytes:
    data = b"".join(name + struct.pack("<QQ", *place) for name, *place in entries)
    return data + MAP_SIGNATURE + struct.pack("<Q", 10**12) + bytes(100)


def test_map_values_may_hold_the_mark() -> None:
    """Offsets and lengths with the byte of ``!`` in them do not split entries."""
    place = int.from_bytes(b"!!!!!!\0\0", "little")
    parsed = parse_chunk_map(
        map_of([(b"ImageDataSeq|7!", place, 33), (b"ImageAttributesLV!", 33, place)]), 999
    )
    assert parsed.frame_index.tolist() == [7]
    assert parsed.frame_offset.tolist() == [place]
    assert parsed.chunks[b"ImageAttributesLV!"].length == place


def test_map_sorts_out_sequences() -> None:
    parsed = parse_chunk_map(
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
    assert parsed.chunks[b"ImageMetadataSeqLV|0!"] == ChunkExtent(24576, 9, 28672)
    assert parsed.chunks[b"X!"].stop == 40960
    assert parsed.bytes_to_next_chunk(parsed.frame_offset).tolist() == [4096, 4096]


@given(st.binary(max_size=200))
def test_map_of_anything(data: bytes) -> None:
    try:
        parse_chunk_map(data, 5)
    except ND2FormatError as error:
        assert "ends without its signature" in str(error)  # noqa: PT017


@given(
    st.lists(
        st.tuples(st.integers(0, 10**9), st.integers(0, 2**62), st.integers(0, 2**62)), max_size=20
    )
)
def test_map_keeps_every_frame(frames: list[tuple[int, int, int]]) -> None:
    parsed = parse_chunk_map(
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
    ) + FILE_FOOTER.pack(MAP_SIGNATURE, 5)
    parsed = parse_chunk_map(data, 2**40)
    np.testing.assert_array_equal(parsed.frame_index, np.arange(count))
    np.testing.assert_array_equal(parsed.frame_offset, values[:, 0])
