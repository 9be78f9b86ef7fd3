"""Damaged files: what is done to them, and what a reader may make of them.

Run as a program it damages files many times and examines every result, with a limit on memory:
``python -m tests.damage FIRST_SEED COUNT FILES...`` prints a line of JSON for each.
"""

from __future__ import annotations

import faulthandler
import io
import json
import re
import struct
import sys
import time
import warnings
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from benchmarks._peak_memory import peak_memory_bytes
from xarray_nd2 import ND2FormatError, ND2UnsupportedError
from xarray_nd2.format.container import CHUNK_ALIGNMENT_BYTES, CHUNK_HEADER
from xarray_nd2.testing.chunks import MAP_ENTRY_VALUES, ChunkWriter
from xarray_nd2.testing.variant import NUMBER_STRUCTS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Random = np.random.Generator
    Damage = Callable[[Random, bytearray], None]

MEMORY = 4 * 2**30  # bytes
EXTREME_INTEGERS = [
    0,
    1,
    2,
    127,
    255,
    2**15,
    2**16,
    2**31 - 1,
    2**31,
    2**32 - 1,
    2**40,
    2**62,
    2**63,
]
EXTREME_INTEGERS += [2**64 - CHUNK_ALIGNMENT_BYTES, 2**64 - 1]
BYTES_OF_NUMBER_TYPE = {int(code): packed.size for code, packed in NUMBER_STRUCTS.items()}
LITE_VARIANT_RECORD = re.compile(
    rb"([\x01-\x06\x08\x09\x0b])([\x02-\x40])((?:[A-Za-z0-9_]\0){1,63})\0\0"
)


def chunk_entries(data: bytes) -> dict[bytes, int]:
    """Position in the map of each chunk's offset and length, by name."""
    location = struct.unpack("<Q", data[-8:])[0]
    name_length = CHUNK_HEADER.unpack_from(data, location)[1]
    at = location + CHUNK_HEADER.size + name_length
    entries: dict[bytes, int] = {}
    while True:
        end = data.index(b"!", at) + 1
        if data[at:end].startswith(b"ND2 CHUNK MAP"):
            return entries
        entries[data[at:end]] = end
        at = end + MAP_ENTRY_VALUES.size


def chunk_parts(data: bytes, place: int) -> tuple[int, int, int]:
    """Where the chunk of an entry of the map starts, where its data starts and where it stops."""
    offset = MAP_ENTRY_VALUES.unpack_from(data, place)[0]
    _, name_length, length = CHUNK_HEADER.unpack_from(data, offset)
    start = offset + CHUNK_HEADER.size + name_length
    return offset, start, start + length


def rewritten(
    data: bytes, replaced: Mapping[bytes, bytes], least_name_area: int | None = None
) -> bytes:
    """The file with other data in some of its chunks, everything else being sound.

    The name areas of its frames are kept, or are as long as said, or as the name where that is longer.
    """
    sink = io.BytesIO()
    writer = ChunkWriter(sink, (int(data[51:52]), int(data[53:54])))
    for name, place in chunk_entries(data).items():
        offset, start, stop = chunk_parts(data, place)
        area = start - offset - CHUNK_HEADER.size if name.startswith(b"ImageDataSeq") else None
        if area is not None and least_name_area is not None:
            area = max(least_name_area, len(name))
        content = replaced.get(name, data[start:stop])
        writer.append(name.decode("ascii"), content, name_area=area)
    writer.finish(by_name=True)
    return sink.getvalue()


def truncate(rng: Random, data: bytearray) -> None:
    step = int(rng.choice([1, 8, CHUNK_ALIGNMENT_BYTES]))
    del data[int(rng.integers(0, len(data))) // step * step :]


def flip_bits(rng: Random, data: bytearray) -> None:
    for at in rng.integers(0, len(data), rng.integers(1, 60)):
        data[at] ^= 1 << int(rng.integers(0, 8))


def flip_bits_of_metadata(rng: Random, data: bytearray) -> None:
    start, stop = _some_metadata_chunk(rng, data)
    for at in rng.integers(start, stop, rng.integers(1, 12)):
        data[at] ^= 1 << int(rng.integers(0, 8))


def overwrite(rng: Random, data: bytearray) -> None:
    start = int(rng.integers(0, len(data)))
    length = min(len(data) - start, int(2 ** rng.uniform(0, 14)))
    data[start : start + length] = rng.choice(
        np.array([bytes(length), b"\xff" * length, b"!" * length, rng.bytes(length)], object)
    )


def overwrite_metadata(rng: Random, data: bytearray) -> None:
    start, stop = _some_metadata_chunk(rng, data)
    at = int(rng.integers(start, stop))
    length = min(stop - at, int(2 ** rng.uniform(0, 8)))
    data[at : at + length] = rng.bytes(length)


def move_blocks(rng: Random, data: bytearray) -> None:
    blocks = len(data) // CHUNK_ALIGNMENT_BYTES
    one, other = (int(at) * CHUNK_ALIGNMENT_BYTES for at in rng.integers(0, blocks, 2))
    way = rng.integers(0, 4)
    if way == 0:
        data[one : one + CHUNK_ALIGNMENT_BYTES], data[other : other + CHUNK_ALIGNMENT_BYTES] = (
            data[other : other + CHUNK_ALIGNMENT_BYTES],
            data[one : one + CHUNK_ALIGNMENT_BYTES],
        )
    elif way == 1:
        del data[one : one + int(rng.integers(1, 9000))]
    elif way == 2:
        data[one:one] = data[other : other + CHUNK_ALIGNMENT_BYTES]
    else:
        data[one : one + CHUNK_ALIGNMENT_BYTES] = data[other : other + CHUNK_ALIGNMENT_BYTES]


def lie_in_map(rng: Random, data: bytearray) -> None:
    places = list(chunk_entries(bytes(data)).values())
    for _ in range(int(rng.integers(1, 5))):
        place, other = (places[i] for i in rng.integers(0, len(places), 2))
        offset, length = MAP_ENTRY_VALUES.unpack_from(data, place)
        elsewhere = MAP_ENTRY_VALUES.unpack_from(data, other)[0]
        nearby = int(rng.choice([-CHUNK_ALIGNMENT_BYTES, -1, 1, 16, CHUNK_ALIGNMENT_BYTES, 40_000]))
        lies = [elsewhere, offset + nearby, int(rng.integers(0, len(data))), _extreme(rng)]
        if rng.random() < 0.7:
            offset = lies[int(rng.integers(0, len(lies)))]
        else:
            length = [offset, length + nearby, _extreme(rng)][int(rng.integers(0, 3))]
        MAP_ENTRY_VALUES.pack_into(data, place, offset % 2**64, length % 2**64)


def rename_in_map(rng: Random, data: bytearray) -> None:
    entries = chunk_entries(bytes(data))
    name = list(entries)[int(rng.integers(0, len(entries)))]
    at = entries[name] - 1 - int(rng.integers(1, len(name)))
    data[at] = int(rng.choice(list(b"0123456789!|ABx\0")))


def lie_in_header(rng: Random, data: bytearray) -> None:
    places = list(chunk_entries(bytes(data)).values())
    offset = MAP_ENTRY_VALUES.unpack_from(data, places[int(rng.integers(0, len(places)))])[0]
    if rng.random() < 0.5:
        struct.pack_into("<I", data, offset + 4, _extreme(rng) % 2**32)
    else:
        struct.pack_into("<Q", data, offset + 8, _extreme(rng))


def lie_at_the_end(rng: Random, data: bytearray) -> None:
    location = struct.unpack("<Q", data[-8:])[0]
    lies = [
        _extreme(rng),
        location + 1,
        location - CHUNK_ALIGNMENT_BYTES,
        CHUNK_ALIGNMENT_BYTES,
        0,
        len(data) - 40,
    ]
    struct.pack_into("<Q", data, len(data) - 8, lies[int(rng.integers(0, len(lies)))] % 2**64)


def lie_in_metadata(rng: Random, data: bytearray) -> None:
    """Other values or types of named records, or of XML attributes."""
    for _ in range(int(rng.integers(1, 4))):
        start, stop = _some_metadata_chunk(rng, data)
        chunk = bytes(data[start:stop])
        records = list(LITE_VARIANT_RECORD.finditer(chunk)) or list(
            re.finditer(rb'value="(-?\d+)', chunk)
        )
        if not records:
            continue
        record = records[int(rng.integers(0, len(records)))]
        if record.re is not LITE_VARIANT_RECORD:
            begin, end = record.span(1)
            digits = str(_extreme(rng)).encode()
            data[start + begin : start + end] = digits[: end - begin].rjust(end - begin, b"0")
            continue
        size = BYTES_OF_NUMBER_TYPE.get(record[1][0], 8)
        if rng.random() < 0.2:
            data[start + record.start()] = int(rng.choice([*BYTES_OF_NUMBER_TYPE, 0, 8, 9, 11, 76]))
        elif record[1] == b"\x06":
            value = float(rng.choice([0, -1, 1e300, np.nan, np.inf, -np.inf, 1e-300]))
            struct.pack_into("<d", data, start + record.end(), value)
        elif start + record.end() + size <= len(data):
            value_bytes = (_extreme(rng) % 2 ** (8 * size)).to_bytes(size, "little")
            data[start + record.end() : start + record.end() + size] = value_bytes


DAMAGE_KINDS: list[Damage] = [
    truncate,
    flip_bits,
    flip_bits_of_metadata,
    overwrite,
    overwrite_metadata,
    move_blocks,
    lie_in_map,
    rename_in_map,
    lie_in_header,
    lie_at_the_end,
    lie_in_metadata,
    lie_in_metadata,
]


def damaged(data: bytes, seed: int) -> tuple[str, bytes]:
    """The file with one or two kinds of damage, and their names."""
    rng = np.random.default_rng(seed)
    copy = bytearray(data)
    names = []
    for index in range(1 + int(rng.random() < 0.2)):
        # Each kind in turn; what needs a map comes first.
        damage = DAMAGE_KINDS[(seed + 7 * index) % len(DAMAGE_KINDS)]
        try:
            damage(rng, copy)
        except (ValueError, OverflowError, struct.error):
            if index == 0:
                raise
        names.append(damage.__name__)
    return "+".join(names), bytes(copy)


def _extreme(rng: Random) -> int:
    return EXTREME_INTEGERS[int(rng.integers(0, len(EXTREME_INTEGERS)))]


def _some_metadata_chunk(rng: Random, data: bytearray) -> tuple[int, int]:
    """Part of the file that is the data of one of the metadata chunks that opening reads."""
    entries = chunk_entries(bytes(data))
    named = [name for name in entries if re.match(rb"Image(Attr|Meta|Text)|.*AcqTimesC", name)]
    _, start, stop = chunk_parts(bytes(data), entries[named[int(rng.integers(0, len(named)))]])
    return start, min(stop, len(data))


def examine(data: bytes, **options: Any) -> str:
    """Open and read: "read", or the name of an error that says the file is at fault.

    Every other exception is a failure, and so is an error for want of memory: what was asked for
    should have been refused before. And so is every warning that is not for the user.
    """
    return str(examine_closely(data, **options)["outcome"])


def examine_closely(data: bytes, **options: Any) -> dict[str, Any]:
    """The outcome; what was read and what the user is warned of, or the message of the error.

    Of the image these are the dimensions, the names of the first channels and a checksum of all pixels.
    """
    found: dict[str, Any] = {}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            ds = xr.open_dataset(io.BytesIO(data), engine="nd2", **options)
            found["dims"] = "".join(map(str, ds.image.dims))
            found["channels"] = ds.C.values[:8].tolist()
            found["checksum"] = _read_image(ds)
        except (ND2FormatError, ND2UnsupportedError) as error:
            refused: Exception | None = error
        else:
            refused = None
    told = [str(one.message) for one in caught]
    assert {one.category for one in caught} <= {UserWarning}, told
    if refused is None:
        return found | {"outcome": "read", "warnings": told}
    assert not isinstance(refused.__cause__, MemoryError), refused
    assert str(refused).startswith("<BytesIO>: "), refused
    return {"outcome": type(refused).__name__, "message": str(refused)}


def _read_image(ds: xr.Dataset) -> int | None:
    """Read an image, or the corners of a large one; a checksum if it was all of it."""
    image = ds.image
    json.dumps([ds.attrs, image.attrs])
    for name, coordinate in ds.coords.items():
        assert all(coordinate.sizes[dim] == image.sizes[dim] for dim in coordinate.dims), name
    if image.nbytes > 64 * 2**20:
        # The first frame and the last, and of them a corner each.
        for end in (slice(0, 1), slice(-1, None)):
            corner = image.isel(dict.fromkeys(image.dims, end))
            assert corner.values.shape == (1,) * image.ndim
        return None
    assert image.values.shape == image.shape
    assert image.values.dtype == image.dtype
    return zlib.crc32(image.values.tobytes())


def without_last_codestream(data: bytes) -> bytes:
    """A legacy file whose map lacks the last of its codestreams, so the last channel of a frame."""
    copy = bytearray(data)
    at = copy.rindex(b"jp2cLUNK")
    copy[at : at + 4] = b"free"
    return bytes(copy)


def _examine_all(paths: list[str], first: int, count: int) -> None:
    """Examine files with limited memory, each as it is (count 0) or damaged `count` times."""
    import resource

    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    for path in paths:
        data = Path(path).read_bytes()
        for seed in range(first, first + max(1, count)):
            name, copy = damaged(data, seed) if count else (Path(path).stem, data)
            faulthandler.dump_traceback_later(120, exit=True)
            began = time.process_time()
            try:
                found = examine_closely(copy, rescue=seed % 3 == 0)
            except BaseException as error:  # noqa: BLE001
                found = {"outcome": f"FAILED {type(error).__name__}: {error}"[:300]}
            seconds = time.process_time() - began
            peak = peak_memory_bytes() // 2**20
            case = {"file": Path(path).name, "seed": seed, "damage": name}
            print(json.dumps(case | found | {"seconds": seconds, "MiB": peak}))
    faulthandler.cancel_dump_traceback_later()


if __name__ == "__main__":
    _examine_all(sys.argv[3:], int(sys.argv[1]), int(sys.argv[2]))
