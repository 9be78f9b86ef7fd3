"""Where the pixels of frames are: one damaged field says nothing about any other frame.

Fields of one frame are its chunk's header (magic, lengths, name) and its entry in the map (offset,
length). Whatever becomes of one of them, the other frames are read right, and that frame is read
right or refused.
"""

from __future__ import annotations

import io
import struct
import warnings
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import xarray as xr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.damage import chunk_entries, rewritten
from xarray_nd2 import ND2FormatError
from xarray_nd2.format.chunk_map import parse_chunk_map
from xarray_nd2.format.container import CHUNK_HEADER, MAP_NAME, frame_name
from xarray_nd2.format.layout import ImageShape
from xarray_nd2.open.file_reader import FileReader
from xarray_nd2.open.frame_headers import read_layout
from xarray_nd2.testing import write_nd2

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

SHAPE = (12, 10, 16)
AREAS = {"padded": 4072, "tight": 0, "odd": 64, "longest-name": 16}
FRAMES = [0, 1, 5, 10, 11]


@cache
def pixels(count: int = SHAPE[0]) -> NDArray[np.uint16]:
    return np.random.default_rng(5).integers(0, 2**16, (count, *SHAPE[1:]), np.uint16)


@cache
def written(
    layout: str, count: int = SHAPE[0], compression: str | None = None, order: str = "sequence"
) -> bytes:
    """A file whose frames lie in the order that is said of its map."""
    file = io.BytesIO()
    options: dict[str, Any] = {"compression": compression, "map_order": order}
    options["timestamps"] = 1 + np.arange(count) / 3
    write_nd2(file, pixels(count), "TYX", **options)
    return rewritten(file.getvalue(), {}, least_name_area=AREAS[layout])


def fields(data: bytes, frame: int) -> dict[str, tuple[int, int]]:
    """Where the fields of a frame are, and how many bytes they take."""
    entry = chunk_entries(data)[frame_name(frame)]
    chunk = struct.unpack_from("<Q", data, entry)[0]
    return {
        "magic": (chunk, 4),
        "name length": (chunk + 4, 4),
        "data length": (chunk + 8, 8),
        "name": (chunk + 16, len(frame_name(frame))),
        "offset in map": (entry, 8),
        "length in map": (entry + 8, 8),
    }


def with_bytes(data: bytes, at: int, new: bytes) -> bytes:
    return data[:at] + new + data[at + len(new) :]


def flipped(data: bytes, at: int, size: int) -> Iterator[bytes]:
    """The file with each bit of a field flipped in turn."""
    for bit in range(8 * size):
        place = at + bit // 8
        yield with_bytes(data, place, bytes([data[place] ^ 1 << bit % 8]))


def found(data: bytes, count: int, compression: str | None = None) -> list[int | None]:
    """Where the pixels of each frame are found, None where reading it is refused."""
    image = ImageShape(
        loops=(("T", count),),
        channels=1,
        height=SHAPE[1],
        width=SHAPE[2],
        samples=1,
        dtype=np.dtype("<u2"),
        row_stride_bytes=2 * SHAPE[2],
        compression="lossless" if compression else "none",
    )
    location = struct.unpack("<Q", data[-8:])[0]
    reader = FileReader(lambda ranges: [data[start:stop] for start, stop in ranges], len(data), b"")
    name_area = CHUNK_HEADER.unpack_from(data, location)[1]
    chunk_map = parse_chunk_map(data[location + CHUNK_HEADER.size + name_area :], location)
    assert data.startswith(MAP_NAME, location + CHUNK_HEADER.size)
    layout = read_layout(reader, chunk_map, image)
    least = 1 if compression else image.frame_bytes
    places = zip(layout.offsets.values().tolist(), layout.lengths.values().tolist(), strict=True)
    return [
        start if length >= least and start + least <= len(data) else None
        for start, length in places
    ]


def check(data: bytes, expected: list[int | None], frame: int, **options: Any) -> bool:
    """Check that all frames but one are found, and that one or none of it; whether it was found."""
    places = found(data, len(expected), **options)
    assert places[:frame] + places[frame + 1 :] == expected[:frame] + expected[frame + 1 :]
    assert places[frame] in (None, expected[frame])
    return places[frame] is not None


@pytest.mark.parametrize("compression", [None, "lossless"])
@pytest.mark.parametrize("layout", AREAS)
def test_flipped_bits(layout: str, compression: str | None) -> None:
    data = written(layout, compression=compression)
    expected = found(data, SHAPE[0], compression)
    assert None not in expected
    for frame in FRAMES:
        for name, (at, size) in fields(data, frame).items():
            for copy in flipped(data, at, size):
                read = check(copy, expected, frame, compression=compression)
                assert read or layout != "padded" or name not in ("name length", "data length")


@pytest.mark.parametrize("value", [0, 1, 15, 16, 17, 64, 4071, 4072, 4073, 2**31, 2**32 - 1])
@pytest.mark.parametrize("layout", ["padded", "tight", "odd"])
def test_lengths_of_the_name(layout: str, value: int) -> None:
    data = written(layout)
    expected = found(data, SHAPE[0])
    for frame in FRAMES:
        at, _ = fields(data, frame)["name length"]
        check(with_bytes(data, at, struct.pack("<I", value)), expected, frame)


@pytest.mark.parametrize("value", [0, 1, 8, 327, 329, 4096, 2**31, 2**63, 2**64 - 1])
@pytest.mark.parametrize("field", ["data length", "offset in map", "length in map"])
@pytest.mark.parametrize("layout", AREAS)
def test_lengths_and_offsets(layout: str, field: str, value: int) -> None:
    data = written(layout)
    expected = found(data, SHAPE[0])
    for frame in FRAMES:
        at, _ = fields(data, frame)[field]
        check(with_bytes(data, at, struct.pack("<Q", value)), expected, frame)


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    layout=st.sampled_from(["padded", "tight", "odd"]),
    count=st.sampled_from([2, 3, 12]),
    order=st.sampled_from(["sequence", "reversed"]),
    frame=st.integers(0, 11),
    field=st.sampled_from(sorted(fields(written("padded"), 0))),
    value=st.one_of(
        st.binary(min_size=8, max_size=8), st.integers(0, 20_000).map(struct.Struct("<Q").pack)
    ),
)
def test_any_damage_of_one_field(
    layout: str, count: int, order: str, frame: int, field: str, value: bytes
) -> None:
    data = written(layout, count, order=order)
    frame %= count
    at, size = fields(data, frame)[field]
    expected = found(data, count)
    if layout == "odd" and count == 2:
        # There are no two others that could agree.
        places = found(with_bytes(data, at, value[:size]), count)
        assert all(place in (None, sound) for place, sound in zip(places, expected, strict=True))
    else:
        check(with_bytes(data, at, value[:size]), expected, frame)


def opened(data: bytes) -> xr.DataArray:
    image: xr.DataArray = xr.open_dataset(io.BytesIO(data), engine="nd2").image
    return image


def one_channel(data: bytes) -> xr.DataArray:
    """The image of a file that has one channel, without C."""
    return opened(data).squeeze("C")


@pytest.mark.parametrize("layout", AREAS)
@pytest.mark.parametrize("compression", [None, "lossless"])
def test_unusual_but_sound(layout: str, compression: str | None) -> None:
    data = written(layout, compression=compression)
    np.testing.assert_array_equal(one_channel(data).values, pixels())


@pytest.mark.parametrize("layout", ["padded", "tight"])
def test_one_frame_with_a_usual_header(layout: str) -> None:
    np.testing.assert_array_equal(one_channel(written(layout, 1)).values, pixels(1))


@pytest.mark.parametrize("count", [1, 2, 12])
@pytest.mark.parametrize("layout", ["padded", "tight"])
def test_dark_frames_without_times(layout: str, count: int) -> None:
    data, frames = dark_at_the_start(layout, 100, count)
    np.testing.assert_array_equal(one_channel(data).values, frames)


def test_one_frame_with_an_unusual_header() -> None:
    """There is nothing that could tell it from a damaged one."""
    image = one_channel(written("odd", 1))
    with pytest.raises(ND2FormatError, match="<BytesIO>: frame 0 cannot be read: .* no header"):
        image.load()


def test_a_damaged_header_of_a_few() -> None:
    """A usual header is believed against one that is not, and two that agree against one."""
    for layout, count in (("padded", 2), ("tight", 2), ("odd", 3)):
        data = written(layout, count)
        at, _ = fields(data, 0)["name length"]
        damaged = one_channel(with_bytes(data, at, struct.pack("<I", 77)))
        np.testing.assert_array_equal(damaged.values, pixels(count))


def test_two_unusual_headers_that_disagree() -> None:
    data = written("odd", 2)
    at, _ = fields(data, 0)["name length"]
    image = one_channel(with_bytes(data, at, struct.pack("<I", 77)))
    for frame in range(2):
        with pytest.raises(ND2FormatError, match=f"frame {frame} cannot be read"):
            image[frame].load()


@pytest.mark.parametrize("length", [0, 100, 2**40])
def test_the_map_tells_the_length_that_the_first_header_lost(length: int) -> None:
    for layout in AREAS:
        data = written(layout)
        at, _ = fields(data, 0)["data length"]
        image = one_channel(with_bytes(data, at, struct.pack("<Q", length)))
        np.testing.assert_array_equal(image.values, pixels())


def test_others_tell_the_length_that_the_first_header_lost() -> None:
    """Where the map tells none."""
    data = written("padded")
    for frame in range(SHAPE[0]):
        fields_of_frame = fields(data, frame)
        offset = data[fields_of_frame["offset in map"][0] :][:8]
        data = with_bytes(data, fields_of_frame["length in map"][0], offset)
    at, _ = fields(data, 0)["data length"]
    np.testing.assert_array_equal(one_channel(with_bytes(data, at, bytes(8))).values, pixels())


def dark_at_the_start(layout: str, width: int, count: int) -> tuple[bytes, NDArray[np.uint16]]:
    """A file without times, the first pixels of which are zeros as padding is."""
    frames = np.random.default_rng(6).integers(1, 2**16, (count, 10, width), np.uint16)
    frames[:, 0] = 0
    file = io.BytesIO()
    write_nd2(file, frames, "TYX", map_order="sequence")
    return rewritten(file.getvalue(), {}, least_name_area=AREAS[layout]), frames


@pytest.mark.parametrize("count", [2, 3, 5])
def test_a_padded_name_area_that_is_said_to_be_tight(count: int) -> None:
    """Where the room up to the next chunk allows both, as 4080 bytes of pixels do."""
    data, frames = dark_at_the_start("padded", 204, count)
    for frame in range(count):
        at, _ = fields(data, frame)["name length"]
        image = one_channel(with_bytes(data, at, struct.pack("<I", 15)))
        for other in range(count):
            try:
                values = image[other].values
            except ND2FormatError:
                assert other == frame or count == 2
            else:
                np.testing.assert_array_equal(values, frames[other])


@pytest.mark.corpus
def test_real_files_with_flipped_lengths(corpus: Path) -> None:
    """Every bit of both lengths of the first frame's header: no pixel is another one."""
    cases = refused = 0
    for path in sorted(corpus.glob("*.nd2")):
        data = path.read_bytes()
        crop = {"Y": slice(3, 9), "X": slice(5, 30, 7)}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that frames are missing
            sound = opened(data).isel(crop)
            frames = [int(name[13:-1]) for name in chunk_entries(data) if b"ImageDataSeq" in name]
            first = fields(data, min(frames))
            for field in ("name length", "data length"):
                for copy in flipped(data, *first[field]):
                    cases += 1
                    try:
                        values = opened(copy).isel(crop).values
                    except ND2FormatError:
                        refused += 1
                        assert len(frames) == 1
                    else:
                        np.testing.assert_array_equal(values, sound.values)
    assert cases == 96 * len(list(corpus.glob("*.nd2"))) > 0
    assert refused <= cases / 9
