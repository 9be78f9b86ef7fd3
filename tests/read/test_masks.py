"""Decoding masks, sound and damaged."""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING

import numpy as np
import pytest

from xarray_nd2 import ND2FormatError, ND2UnsupportedError
from xarray_nd2.format.mask_planes import MaskChunk
from xarray_nd2.read.masks import check_extent, decode_chunk, decode_mask, max_unpacked_bytes
from xarray_nd2.testing.masks import encoded_mask

if TYPE_CHECKING:
    from numpy.typing import NDArray

HEIGHT, WIDTH = 20, 30
Objects = list[tuple[int, "NDArray[np.bool_]"]]


def blobs(seed: int, count: int) -> Objects:
    """Rectangles at random, many of which overlap, and pixels at random."""
    rng = np.random.default_rng(seed)
    objects: Objects = []
    for number in rng.permutation(count) + 1:
        pixels = rng.random((HEIGHT, WIDTH)) < (0.05 if number % 3 == 0 else 0)
        top, left = rng.integers(0, HEIGHT), rng.integers(0, WIDTH)
        pixels[top : top + rng.integers(1, 9), left : left + rng.integers(1, 9)] = True
        objects.append((int(number), pixels))
    return objects


def painted(objects: Objects) -> NDArray[np.uint32]:
    plane = np.zeros((HEIGHT, WIDTH), np.uint32)
    for number, pixels in objects:
        plane[pixels] = number
    return plane


def stream(words: list[int], *, size: int | None = None) -> bytes:
    content = struct.pack(f"<{len(words)}I", *words)
    return struct.pack("<I", len(content) if size is None else size) + zlib.compress(content)


def words_of(data: bytes) -> list[int]:
    content = zlib.decompress(data[4:])
    return list(struct.unpack(f"<{len(content) // 4}I", content))


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("count", [0, 1, 2, 7, 40])
def test_later_objects_win(version: int, count: int) -> None:
    for seed in range(5):
        objects = blobs(seed, count)
        mask = decode_mask(encoded_mask(objects, HEIGHT, WIDTH, version), HEIGHT, WIDTH)
        assert mask.dtype == np.uint32
        np.testing.assert_array_equal(mask, painted(objects))


def test_all_numbers_of_objects_are_held() -> None:
    whole = np.ones((HEIGHT, WIDTH), bool)
    for number in (1, 65_536, 2**32 - 1):
        mask = decode_mask(encoded_mask([(number, whole)], HEIGHT, WIDTH), HEIGHT, WIDTH)
        assert (mask == number).all()


@pytest.mark.parametrize("data", [b"", b"\0", b"\1\2\3"])
def test_too_short_for_a_mask(data: bytes) -> None:
    assert not decode_mask(data, HEIGHT, WIDTH).any()


HEAD = [3, WIDTH, HEIGHT, 1, 0, 0, 0]


def an_object(*rows: int, size: int | None = None, count: int = 1) -> list[int]:
    return [9, 0, 0, 0, 0, 36 + 4 * len(rows) if size is None else size, count, 0, 0, *rows]


@pytest.mark.parametrize(
    "words",
    [
        [3, WIDTH + 1, HEIGHT, 0, 0, 0, 0],
        [3, WIDTH, HEIGHT - 1, 0, 0, 0, 0],
        [3, HEIGHT, WIDTH, 0, 0, 0, 0],
        HEAD,
        [3, WIDTH, HEIGHT, 2**32 - 1, 0, 0, 0],
        HEAD + an_object(HEIGHT, 1, 0, 1),
        HEAD + an_object(0, 1, WIDTH - 1, 2),
        HEAD + an_object(0, 1, 2**32 - 1, 2**32 - 1),
        HEAD + an_object(0, 1, 1, 2**32 - 1),
        HEAD + an_object(0, 2, 0, 1),
        HEAD + an_object(0, 2**32 - 1, 0, 1),
        HEAD + an_object(0, 1, 0, 1, size=40),
        HEAD + an_object(0, 1, 0, 1, size=53),
        HEAD + an_object(0, 1, 0, 1, size=0),
        HEAD + an_object(0, 1, 0, 1, size=2**32 - 4),
        HEAD + an_object(0, 1, 0, 1, count=2),
        HEAD + an_object(0, 1, 0, 1, count=0),
        HEAD + an_object(0, 1, 0, 1, count=2**32 - 1),
        HEAD + an_object(0, 1, 0, 1, 1, 1, 0, 1, count=1),
    ],
)
def test_objects_that_cannot_be(words: list[int]) -> None:
    with pytest.raises(ND2FormatError):
        decode_mask(stream(words), HEIGHT, WIDTH)


def test_sound_words_for_comparison() -> None:
    words = HEAD + an_object(0, 2, 0, 1, WIDTH - 1, 1, HEIGHT - 1, 1, 0, WIDTH, count=2)
    mask = decode_mask(stream(words), HEIGHT, WIDTH)
    assert mask[0].tolist() == [9, *[0] * (WIDTH - 2), 9]
    assert (mask[-1] == 9).all()
    assert not mask[1:-1].any()


@pytest.mark.parametrize("version", [0, 1, 4, 2**31])
def test_unknown_versions(version: int) -> None:
    with pytest.raises(ND2UnsupportedError, match="version"):
        decode_mask(stream([version, WIDTH, HEIGHT, 0, 0, 0, 0]), HEIGHT, WIDTH)


def test_bombs() -> None:
    most = max_unpacked_bytes(HEIGHT, WIDTH)
    bomb = zlib.compress(bytes(most + 4))
    for size in (most + 4, most, 28, 0, 2**32 - 1):
        with pytest.raises(ND2FormatError):
            decode_mask(struct.pack("<I", size) + bomb, HEIGHT, WIDTH)
    # So many objects upon each other that painting them would take long.
    whole = [word for row in range(1000) for word in (row, 1, 0, 1000)]
    objects = an_object(*whole, count=1000) * 70
    with pytest.raises(ND2FormatError, match="on top of each other"):
        decode_mask(stream([3, 1000, 1000, 70, 0, 0, 0, *objects]), 1000, 1000)


def test_any_byte_of_the_chunk_damaged() -> None:
    """Checksums tell: an error, or the right values."""
    objects = blobs(1, 12)
    data, right = encoded_mask(objects, HEIGHT, WIDTH), painted(objects)
    rng = np.random.default_rng(0)
    refused = 0
    for at in range(len(data)):
        damaged = bytearray(data)
        damaged[at] ^= int(rng.integers(1, 256))
        try:
            np.testing.assert_array_equal(decode_mask(bytes(damaged), HEIGHT, WIDTH), right)
        except ND2FormatError:
            refused += 1
    assert refused > 0.9 * len(data)
    for stop in range(4, len(data)):
        with pytest.raises(ND2FormatError):
            decode_mask(data[:stop], HEIGHT, WIDTH)


@pytest.mark.parametrize("version", [2, 3])
def test_any_word_of_the_objects_damaged(version: int) -> None:
    """Whatever they say under a right checksum: an error, or some mask of the right size."""
    words = words_of(encoded_mask(blobs(2, 4), HEIGHT, WIDTH, version))
    outcomes = {True: 0, False: 0}
    for at in range(len(words)):
        for value in (0, 1, words[at] + 1, words[at] ^ 4, 2**16, 2**31, 2**32 - 1):
            damaged = [*words[:at], value, *words[at + 1 :]]
            try:
                mask = decode_mask(stream(damaged), HEIGHT, WIDTH)
            except (ND2FormatError, ND2UnsupportedError):
                outcomes[False] += 1
            else:
                assert mask.shape == (HEIGHT, WIDTH)
                outcomes[True] += 1
    assert min(outcomes.values()) > 50


NAME = b"CustomDataSeq|Tag|3!"
DATA = encoded_mask(blobs(3, 3), HEIGHT, WIDTH)
HEADER = struct.pack("<IIQ", 0x0ABECEDA, 100, len(DATA)) + NAME.ljust(100, b"\0")


def chunk(length: int = len(DATA), name: bytes = NAME) -> MaskChunk:
    return MaskChunk(0, name, 4096, 4096 + len(HEADER + DATA), length)


@pytest.mark.parametrize("length", [len(DATA), -1])
def test_the_header_says_where_the_data_are(length: int) -> None:
    for behind in (b"", bytes(500)):
        mask = decode_chunk(chunk(length), HEADER + DATA + behind, HEIGHT, WIDTH)
        np.testing.assert_array_equal(mask, painted(blobs(3, 3)))


def test_headers_that_do_not_fit() -> None:
    whole = HEADER + DATA
    cases = [
        (chunk(len(DATA) - 1), whole),
        (chunk(2), whole),
        (chunk(name=b"CustomDataSeq|Tag|4!"), whole),
        (chunk(), whole[:-1]),
        (chunk(-1), whole[:-1]),
        (chunk(), whole[:20]),
        (chunk(), b""),
        (chunk(), b"\0" + whole[1:]),
        (chunk(-1), struct.pack("<IIQ", 0x0ABECEDA, 2**32 - 1, len(DATA)) + whole[16:]),
        (chunk(-1), struct.pack("<IIQ", 0x0ABECEDA, 100, 2**64 - 1) + whole[16:]),
    ]
    for of_map, data in cases:
        with pytest.raises(ND2FormatError, match="CustomDataSeq|truncated"):
            decode_chunk(of_map, data, HEIGHT, WIDTH)


def test_extents_that_cannot_be() -> None:
    check_extent(chunk(), 10_000, HEIGHT, WIDTH)
    for offset, stop in ((0, 100), (-5, 100), (500, 500), (500, 10_001), (1, 2**40)):
        with pytest.raises(ND2FormatError, match="said to lie"):
            check_extent(MaskChunk(0, NAME, offset, stop, -1), 10_000, HEIGHT, WIDTH)
    with pytest.raises(ND2FormatError, match="said to lie"):
        check_extent(MaskChunk(0, NAME, 1, 2**40, -1), 2**41, HEIGHT, WIDTH)
