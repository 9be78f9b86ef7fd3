"""Legacy files: what opening them costs, and damaged ones."""

from __future__ import annotations

import struct
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest
import xarray as xr

from tests.contract.test_fuzz import check, examined
from tests.damage import examine, without_last_codestream
from xarray_nd2 import ND2FormatError, ND2UnsupportedError
from xarray_nd2.testing import write_legacy_nd2

if TYPE_CHECKING:
    from pathlib import Path

    from xarray_nd2.testing import RangeServer

PIXELS = np.random.default_rng(2).integers(0, 2**16, (4, 2, 2, 20, 24), "uint16")
DAMAGED = 250
LIES = [0, 1, 7, 8, 9, 255, 2**16, 2**31 - 1, 2**31, 2**32 - 1]


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("legacy") / "sound.nd2"
    write_legacy_nd2(path, PIXELS, "TZCYX", timestamps=list(range(8)))
    return path.read_bytes()


@pytest.fixture(scope="module")
def long(folder: Path) -> Path:
    """Of 8 MB and 3000 frames, whose map and metadata do not fit into what is read of the end."""
    path = folder / "long.nd2"
    if not path.exists():
        write_legacy_nd2(path, np.zeros((3000, 2, 8, 8), "uint16") + 7, "TCYX")
    return path


def test_opening_takes_few_round_trips(long: Path, http: RangeServer) -> None:
    http.latency = 0.05
    ds = xr.open_dataset(http.url(long.name))
    assert ds.image.shape == (3000, 2, 8, 8)
    assert http.log.round_trips <= 4
    assert http.log.requests <= 8
    assert (ds.image[2999, 1].values == 7).all()


def map_of(data: bytes) -> tuple[int, int]:
    """Where the map of boxes starts, and how many it has."""
    location = len(data) - struct.unpack("<Q", data[-8:])[0]
    return location, int.from_bytes(data[location : location + 4], "big")


def damaged(sound: bytes, seed: int) -> bytes:
    """A file that is cut, flipped, overwritten or lies of lengths, counts, offsets or sizes."""
    rng = np.random.default_rng(seed)
    data = bytearray(sound)
    location, count = map_of(sound)
    entry = location + 4 + 16 * int(rng.integers(count))
    (offset,) = struct.unpack_from("<Q", sound, entry + 8)
    lie = int(rng.choice(LIES))
    match seed % 8:
        case 0:
            del data[int(rng.integers(len(data))) : -40 if seed % 3 else None]
        case 1:
            for at in rng.integers(0, len(data), int(rng.integers(1, 40))):
                data[at] ^= 1 << int(rng.integers(8))
        case 2:
            struct.pack_into(">I", data, offset, lie)
        case 3:
            struct.pack_into(">I", data, location, lie)
        case 4:
            struct.pack_into(
                "<Q", data, entry + 8, lie * int(rng.choice([1, 2**20, 2**32])) % 2**64
            )
        case 5:
            at = sound.index(b"\xff\x4f\xff\x51", min(offset, location // 3))
            struct.pack_into(">I", data, at + 2 + 2 * int(rng.integers(60)), lie)
        case 6:
            struct.pack_into(">I", data, sound.index(b"ihdr") + 4 * int(rng.integers(1, 4)), lie)
        case 7:
            start = int(rng.integers(location // 3 * 2, len(data)))
            data[start : start + 40] = rng.bytes(40)
    return bytes(data)


def test_damaged_files(sound: bytes) -> None:
    outcomes = [examine(damaged(sound, seed)) for seed in range(DAMAGED)]
    assert set(outcomes) <= {"read", "ND2FormatError", "ND2UnsupportedError"}
    assert min(outcomes.count("read"), outcomes.count("ND2FormatError")) > 20


@pytest.mark.skipif(sys.platform == "win32", reason="limits memory as POSIX does")
def test_damaged_files_take_bounded_memory_and_time(sound: bytes, tmp_path: Path) -> None:
    paths = []
    for seed in range(64):
        paths.append(tmp_path / f"{seed}.nd2")
        paths[-1].write_bytes(damaged(sound, 1000 + seed))
    outcomes = check(examined(paths))
    assert sum(outcomes.values()) == len(paths)


def with_header(sound: bytes, height: int, width: int) -> bytes:
    data = bytearray(sound)
    struct.pack_into(">II", data, sound.index(b"ihdr") + 4, height, width)
    return bytes(data)


def test_bombs_are_refused(sound: bytes, tmp_path: Path) -> None:
    """A few bytes that claim to be a large image."""
    with pytest.raises(ND2FormatError, match="of which there can be"):
        xr.open_dataset(_put(tmp_path, with_header(sound, 2**23, 2**23)))
    image = xr.open_dataset(_put(tmp_path, with_header(sound, 5000, 5000))).image
    with pytest.raises(
        ND2FormatError, match="20 by 24 pixels of 1 components of 16 bits in an image of 5000"
    ):
        image[0, 0, 0, 0, 0].load()


def test_a_codestream_of_another_size_fails_alone(sound: bytes, tmp_path: Path) -> None:
    data = bytearray(sound)
    at = [i for i in range(len(sound)) if sound.startswith(b"\xff\x4f\xff\x51", i)][5]
    struct.pack_into(">I", data, at + 8, 25)
    image = xr.open_dataset(_put(tmp_path, bytes(data))).image
    with pytest.raises(ND2FormatError, match="channel 1 of frame 2 at byte .* cannot be decoded"):
        image[1].load()
    np.testing.assert_array_equal(image[1, 0, 0].values, PIXELS[1, 0, 0])
    np.testing.assert_array_equal(image[2:].values, PIXELS[2:])


def test_truncated_codestream(sound: bytes, tmp_path: Path) -> None:
    """Its data end before its pixels do."""
    data = bytearray(sound)
    at = sound.index(b"jp2c") - 4
    length = int.from_bytes(sound[at : at + 4], "big")
    struct.pack_into(">I", data, at, length // 2)
    image = xr.open_dataset(_put(tmp_path, bytes(data))).image
    with pytest.raises(ND2FormatError, match="channel 0 of frame 0"):
        image[0, 0, 0].load()


def test_two_frames_at_one_place(sound: bytes, tmp_path: Path) -> None:
    """Which of them is there is not known, so neither is given."""
    data = bytearray(sound)
    location, _ = map_of(sound)
    data[location + 4 + 16 * 3 + 8 : location + 4 + 16 * 4] = data[
        location + 4 + 16 * 4 + 8 : location + 4 + 16 * 5
    ]
    image = xr.open_dataset(_put(tmp_path, bytes(data))).image
    for channel in (0, 1):
        with pytest.raises(ND2FormatError, match="cannot be read"):
            image[0, 0, channel].load()
    np.testing.assert_array_equal(image[0, 1].values, PIXELS[0, 1])


def test_frames_lost_at_the_end(sound: bytes, tmp_path: Path) -> None:
    path = _put(tmp_path, without_last_codestream(sound))
    which = "15 codestreams of 8 frames, and the picture has 2 planes: .* do not tell"
    with (
        pytest.warns(UserWarning, match=which),
        pytest.warns(UserWarning, match="1 of 16 frames are not in the file"),
    ):
        ds = xr.open_dataset(path)
    assert ds.frame_valid.dims == ("T", "Z", "C")
    assert (~ds.frame_valid.values).ravel().nonzero()[0].tolist() == [15]
    assert not ds.image[-1, -1, -1].values.any()
    np.testing.assert_array_equal(ds.image[-1, -1, 0].values, PIXELS[-1, -1, 0])
    with pytest.warns(UserWarning, match=which), pytest.warns(UserWarning, match="cannot be read"):
        image = xr.open_dataset(path, missing_frames="raise").image
    with pytest.raises(ND2FormatError, match="the first of them channel 1 of frame 7"):
        image[-1].load()


def test_frames_that_are_not_described(sound: bytes, tmp_path: Path) -> None:
    """Of eight frames one has a description: its planes are the channels, not all codestreams."""
    data = bytearray(sound)
    for tag in (b"xml VIMD", b"xml VCAL"):
        at = data.index(tag, map_of(sound)[0])
        while (at := data.find(tag, at + 1)) >= 0:
            data[at : at + 4] = b"free"
            data[at + 4 : at + 8] = b"LOST"
    with pytest.warns(UserWarning, match="16 codestreams of 1 frames"):
        image = xr.open_dataset(_put(tmp_path, bytes(data))).image
    np.testing.assert_array_equal(image.values, PIXELS)


def test_components_that_are_not_known(sound: bytes, tmp_path: Path) -> None:
    data = bytearray(sound)
    at = sound.index(b"\xff\x4f\xff\x51")
    struct.pack_into(">H", data, at + 4, 44)  # of the segment
    struct.pack_into(">H", data, at + 40, 2)  # components
    with pytest.raises(ND2UnsupportedError, match="2 components"):
        xr.open_dataset(_put(tmp_path, bytes(data)))


def _put(folder: Path, data: bytes) -> Path:
    path = folder / f"{abs(hash(data))}.nd2"
    path.write_bytes(data)
    return path
