"""Files that lost their end: what was written is read, what was not is missing and said to be."""

from __future__ import annotations

import io
import math
import struct
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import xarray as xr

from tests.damage import chunk_entries, chunk_parts
from tests.variants import VARIANTS
from xarray_nd2 import ND2FormatError
from xarray_nd2.open.file_reader import FileReader
from xarray_nd2.open.rescue import find_chunks
from xarray_nd2.testing import write_nd2

if TYPE_CHECKING:
    from pathlib import Path

    from xarray_nd2.testing import RangeServer

ATTRIBUTES = {b"ImageAttributesLV!", b"ImageAttributes!"}
WRITTEN = [
    "time-stack-channels",
    "positions-time-stack",
    "lossless",
    "missing-frames",
    "xml",
    "frame",
]


def rescued(data: bytes | str, **options: Any) -> xr.Dataset:
    """Open with rescue; the only warnings are those that tell what is lost, each once."""
    target: Any = io.BytesIO(data) if isinstance(data, bytes) else data
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        ds = xr.open_dataset(target, engine="nd2", rescue=True, **options)
    told = [str(one.message) for one in caught if one.category is UserWarning]
    assert any(ds.attrs["rescued"] in text for text in told)
    lost = "picture" in ds.attrs["rescued"] or "U" in ds.image.dims
    assert sum("some of the metadata is odd" in text for text in told) == lost
    assert len(told) == 1 + ("frame_valid" in ds.coords) + lost
    assert len(told) == len(caught)
    return ds


def complete_chunks(data: bytes, size: int) -> set[bytes]:
    """Names of the chunks that lie within the first `size` bytes, by the map of the whole file."""
    entries = chunk_entries(data)
    return {name for name, place in entries.items() if chunk_parts(data, place)[2] <= size}


def cuts(data: bytes) -> list[int]:
    """Sizes to cut a file to: around the edges of its chunks, and between them."""
    edges = [0, 112, len(data)]
    for place in chunk_entries(data).values():
        edges += chunk_parts(data, place)
    around = {edge + step for edge in edges for step in (-4096, -1, 0, 1, 15, 16, 100, 2000)}
    return sorted(cut for cut in around if 0 <= cut < len(data))


def check_cut(data: bytes, size: int, whole: xr.Dataset) -> str:
    """Open the first `size` bytes of a file and compare with all of it."""
    left = complete_chunks(data, size)
    if not (left & ATTRIBUTES and any(name.startswith(b"ImageDataSeq|") for name in left)):
        with pytest.raises(ND2FormatError, match="<BytesIO>: ") as caught:
            rescued(data[:size])
        lost = "no frame is complete" if left & ATTRIBUTES else "ImageAttributes"
        assert size < 112 or lost in str(caught.value)
        return "refused"
    ds = rescued(data[:size])
    frames = whole.image.values.reshape(-1, *ds.image.isel(_first(ds)).shape)
    found = ds.image.values.reshape(frames.shape)
    for index, (frame, original) in enumerate(zip(found, frames, strict=True)):
        if b"ImageDataSeq|%d!" % index in left:
            np.testing.assert_array_equal(frame, original)
        else:
            assert not frame.any()
    if "frame_valid" in ds.coords:
        there = [b"ImageDataSeq|%d!" % index in left for index in range(len(frames))]
        assert ds.frame_valid.values.ravel().tolist() == there
    if "U" not in ds.image.dims:
        assert ds.image.dims == whole.image.dims
    return "numbered" if "U" in ds.image.dims else "read"


def _first(ds: xr.Dataset) -> dict[str, int]:
    return {str(dim): 0 for dim in ds.image.dims if dim in ("T", "P", "Z", "U")}


@pytest.mark.parametrize("metadata_at", ["start", "end"])
@pytest.mark.parametrize("name", WRITTEN)
def test_cut_anywhere(name: str, metadata_at: str) -> None:
    variant, file = VARIANTS[name], io.BytesIO()
    options = {**variant.options, "metadata_at": metadata_at}
    write_nd2(file, variant.pixels(), variant.dims, **options)
    data = file.getvalue()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*frames are not in the file")
        whole = xr.open_dataset(io.BytesIO(data), engine="nd2").load()
    outcomes = {check_cut(data, size, whole) for size in cuts(data)}
    assert {"refused", "read"} <= outcomes
    if metadata_at == "end" and "missing" not in variant.options and name != "frame":
        assert "numbered" in outcomes


@pytest.mark.corpus
def test_real_files_cut_anywhere(corpus: Path) -> None:
    for path in sorted(corpus.glob("*.nd2")):
        data = path.read_bytes()
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*frames are not in the file")
            whole = xr.open_dataset(path).load()
        places = cuts(data)
        for size in [*places[:: math.ceil(len(places) / 25)], len(data) - 1]:
            check_cut(data, size, whole)


@pytest.mark.corpus
def test_all_of_a_real_file_is_found(corpus: Path) -> None:
    """Without its last byte a file lost nothing but its map."""
    for path in sorted(corpus.glob("*.nd2")):
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*frames are not in the file")
            whole = xr.open_dataset(path).load()
        ds = rescued(path.read_bytes()[:-1]).load()
        del ds.attrs["rescued"]
        for name in ("title", "source", "file_bytes"):
            del ds.attrs[name], whole.attrs[name]
        xr.testing.assert_identical(ds, whole)


def test_off_by_default_and_named_in_the_error() -> None:
    file = io.BytesIO()
    write_nd2(file, np.zeros((3, 8, 8), "uint8"), "TYX")
    cut = io.BytesIO(file.getvalue()[:-1])
    with pytest.raises(ND2FormatError, match="rescue=True opens what is left"):
        xr.open_dataset(cut, engine="nd2")
    # A sound file is opened by its map.
    assert "rescued" not in xr.open_dataset(file, engine="nd2", rescue=True).attrs


def test_what_was_lost_is_told() -> None:
    file = io.BytesIO()
    frames = np.arange(6 * 8 * 8, dtype="uint16").reshape(6, 8, 8)
    write_nd2(file, frames, "TYX", metadata_at="end", channels=["GFP"])
    data = file.getvalue()
    _, start, stop = chunk_parts(data, chunk_entries(data)[b"ImageDataSeq|4!"])
    ds = rescued(data[: (start + stop) // 2])
    assert ds.attrs["rescued"] == (
        "rescued without a chunk map: in bytes 0-40960 of 45116 there are 4 of 6 frames; "
        "'ImageDataSeq|4!' is incomplete; not found of the metadata: picture, experiment, text, "
        "times; so channels have no names and pixels no size; so frames are numbered along U "
        "instead of arranged"
    )
    assert ds.frame_valid.values.tolist() == [True] * 4 + [False] * 2
    assert ds.U.values.tolist() == [0, 1, 2, 3, 4, 5]
    assert ds.C.values.tolist() == ["C0"]
    assert ds.X.attrs["units"] == "1"
    assert "pixel_size_um" not in ds.image.attrs
    with pytest.raises(ND2FormatError, match="not in the file"):
        rescued(data[:45120], missing_frames="raise").image.load()


def test_components_without_picture_are_channels() -> None:
    file = io.BytesIO()
    frames = np.arange(2 * 3 * 8 * 8, dtype="uint16").reshape(2, 3, 8, 8)
    write_nd2(file, frames, "TCYX", metadata_at="end")
    _, _, stop = chunk_parts(file.getvalue(), chunk_entries(file.getvalue())[b"ImageDataSeq|1!"])
    ds = rescued(file.getvalue()[:stop])
    assert ds.image.dims == ("U", "C", "Y", "X")
    assert ds.C.values.tolist() == ["C0", "C1", "C2"]
    np.testing.assert_array_equal(ds.image.values, frames)


def test_damaged_map() -> None:
    """A map that is there but of no use, and a frame that is there twice: either may be another."""
    file = io.BytesIO()
    write_nd2(file, np.full((2, 8, 8), 7, "uint8"), "TYX")
    data = bytearray(file.getvalue())
    location = struct.unpack("<Q", data[-8:])[0]
    data[location : location + 4] = b"oops"
    assert (rescued(bytes(data)).image.values == 7).all()
    first = chunk_entries(file.getvalue())[b"ImageDataSeq|0!"]
    offset, start, stop = chunk_parts(file.getvalue(), first)
    again = bytearray(data[offset:stop])
    again[start - offset + 8 :] = bytes([9]) * 64
    ds = rescued(bytes(data[:location] + again))
    assert ds.frame_valid.values.tolist() == [False, True]
    assert (ds.image.isel(T=1).values == 7).all()


def test_nothing_to_rescue() -> None:
    with pytest.raises(ND2FormatError, match="it cannot be rescued: .*'ImageAttributesLV!'"):
        rescued(VARIANTS_HEAD + bytes(9000))
    with pytest.raises(ND2FormatError, match="not an ND2 file"):
        rescued(b"<html>" * 999)


VARIANTS_HEAD = (
    struct.pack("<IIQ", 0x0ABECEDA, 32, 64) + b"ND2 FILE SIGNATURE CHUNK NAME01!" + b"Ver3.0"
).ljust(4096, b"\0")


def chunk(name: bytes, size: int) -> bytes:
    """A frame's chunk of some size in the file."""
    head = struct.pack("<IIQ", 0x0ABECEDA, 4072, size - 4088) + name
    return head.ljust(size, b"\0")


class Counted:
    """A file that counts the requests and the turns that are taken to read it."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.turns = self.requests = self.bytes = 0

    def fetch(self, ranges: list[tuple[int, int]]) -> list[bytes]:
        self.turns += 1
        self.requests += len(ranges)
        self.bytes += sum(stop - start for start, stop in ranges)
        assert all(0 <= start < stop <= len(self.data) for start, stop in ranges)
        return [self.data[start:stop] for start, stop in ranges]


@pytest.mark.parametrize(
    ("sizes", "turns", "requests"),
    [
        ([131_072] * 200, 14, 210),  # one size
        ([131_072, 69_632] * 100, 16, 210),  # two in turns
        ([8192] * 5000, 20, 25),  # small ones share requests
        (None, 205, 410),  # no two alike
        ("small", 150, 150),  # no two alike, but small
    ],
)
def test_scan_is_bounded(sizes: Any, turns: int, requests: int) -> None:
    rng = np.random.default_rng(6)
    if sizes is None:
        sizes = rng.permutation(np.arange(20, 220) * 4096).tolist()
    elif sizes == "small":
        sizes = (rng.integers(2, 9, 1000) * 4096).tolist()
    kinds = [b"ImageDataSeq|%d!", b"CustomDataSeq|Level|%d!"]
    alternate = len(set(sizes)) == 2
    chunks = [chunk(kinds[i % 2 if alternate else 0] % i, size) for i, size in enumerate(sizes)]
    file = Counted(VARIANTS_HEAD + b"".join(chunks))
    found = find_chunks(FileReader(file.fetch, len(file.data), file.data[:4096]))
    assert [c.stop - c.offset for c in found.chunks[1:]] == sizes
    assert file.turns <= turns
    assert file.requests <= requests
    assert file.bytes <= (len(sizes) + 1) * 70_000


def test_remote_file(http: RangeServer) -> None:
    frames = np.random.default_rng(1).integers(0, 2**16, (300, 96, 400)).astype("uint16")
    file = io.BytesIO()
    write_nd2(file, frames, "TYX", metadata_at="end")
    http.put("cut.nd2", file.getvalue()[:-100])
    ds = rescued(http.url("cut.nd2"))
    assert http.log.requests <= 330
    assert http.log.bytes <= 2 * 256 * 1024 + 330 * 256 + 70_000
    http.log.clear()
    np.testing.assert_array_equal(ds.image.isel(T=[7, 299], C=0).values, frames[[7, 299]])
    assert http.log.requests == 2


@pytest.mark.parametrize("end", ["zeros", "noise", "liar"])
def test_junk_behind_the_chunks(end: str) -> None:
    file = io.BytesIO()
    write_nd2(file, np.full((2, 8, 8), 7, "uint8"), "TYX", metadata_at="end")
    location = struct.unpack("<Q", file.getvalue()[-8:])[0]
    junk = {
        "zeros": bytes(50_000),
        "noise": np.random.default_rng(0).bytes(50_000),
        "liar": struct.pack("<IIQ", 0x0ABECEDA, 2**32 - 1, 2**64 - 1) + b"ImageDataSeq|1!",
    }[end]
    ds = rescued(file.getvalue()[:location] + junk)
    assert (ds.image.values == 7).all()
    assert ("is incomplete" if end == "liar" else "no chunk starts") in ds.attrs["rescued"]


@pytest.mark.parametrize(
    ("frame", "name"), [(2, b"|1!"), (1, b"|2!"), (11, b"|1!!"), (11, b"|01!")]
)
def test_a_frame_under_the_name_of_another(frame: int, name: bytes) -> None:
    """None of the two is read as what may be the other one."""
    frames = np.random.default_rng(3).integers(0, 2**16, (12, 8, 10), np.uint16)
    file = io.BytesIO()
    write_nd2(file, frames, "TYX", metadata_at="end")
    data = file.getvalue()
    place = chunk_entries(data)[b"ImageDataSeq|%d!" % frame]
    at = chunk_parts(data, place)[0] + 16 + len(b"ImageDataSeq")
    copy = data[:at] + name + data[at + len(name) :]
    ds = rescued(copy[: struct.unpack("<Q", data[-8:])[0]])
    lost = [frame] if name == b"|01!" else [frame, int(name.strip(b"|!"))]
    expected = frames.copy()
    expected[lost] = 0
    np.testing.assert_array_equal(ds.image.squeeze("C").values, expected)
    assert np.flatnonzero(~ds.frame_valid.values).tolist() == sorted(lost)
    assert ("2 frames do not have a number of their own" in ds.attrs["rescued"]) == (len(lost) > 1)
