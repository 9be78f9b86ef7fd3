"""Damaged and hostile files: refused with an error of the tree or read, in bounded time and memory."""

from __future__ import annotations

import io
import json
import os
import struct
import subprocess
import sys
import zlib
from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import xarray as xr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.conftest import ROOT
from tests.damage import (
    MEMORY,
    chunk_entries,
    chunk_parts,
    examine,
    examine_closely,
    rewritten,
)
from tests.variants import VARIANTS
from xarray_nd2 import ND2FormatError
from xarray_nd2.testing import Channel, write_nd2
from xarray_nd2.testing import experiment as experiments
from xarray_nd2.testing import metadata as trees
from xarray_nd2.testing.picture import picture as picture_tree
from xarray_nd2.testing.variant import lite_variant

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="limits memory as POSIX does")

SYNTHETIC = ["time-stack-channels", "positions", "lossless", "missing-frames", "xml", "rgb"]
PER_FILE = int(os.environ.get("ND2_FUZZ_VARIANTS", "72"))
SECONDS = 5.0  # of the processor, for one file
PEAK = MEMORY // 2**20 // 2


def examined(paths: Iterable[Path], count: int = 0) -> list[dict[str, Any]]:
    """Outcomes of examining files in a process of its own, damaged `count` times or as they are."""
    command = [sys.executable, "-m", "tests.damage", "0", str(count), *map(str, paths)]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=1800)
    assert ran.returncode == 0, ran.stdout[-500:] + ran.stderr[-3000:]
    return [json.loads(line) for line in ran.stdout.splitlines()]


def check(cases: list[dict[str, Any]]) -> Counter[str]:
    bad = [
        case
        for case in cases
        if case["outcome"].startswith("FAILED") or case["seconds"] > SECONDS or case["MiB"] > PEAK
    ]
    assert not bad, "\n".join(map(str, bad[:20]))
    return Counter(case["outcome"] for case in cases)


def test_synthetic_files_damaged(tmp_path: Path) -> None:
    paths = [VARIANTS[name].write(tmp_path / f"{name}.nd2") for name in SYNTHETIC]
    outcomes = check(examined(paths, PER_FILE))
    assert sum(outcomes.values()) == len(paths) * PER_FILE
    assert min(outcomes["read"], outcomes["ND2FormatError"]) > 20


@pytest.mark.corpus
def test_real_files_damaged(corpus: Path) -> None:
    paths = sorted(corpus.glob("*.nd2"))
    outcomes = check(examined(paths, PER_FILE))
    assert sum(outcomes.values()) >= min(600, len(paths) * PER_FILE)
    assert min(outcomes["read"], outcomes["ND2FormatError"]) > 20


SMALL = io.BytesIO()
write_nd2(
    SMALL, np.arange(3 * 8 * 10, dtype="uint16").reshape(3, 8, 10), "TYX", timestamps=[1, 2, 3]
)


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    edits=st.lists(
        st.tuples(
            st.integers(0, len(SMALL.getvalue()) - 1),
            st.one_of(
                st.binary(min_size=1, max_size=16),
                st.integers(0, 2**64 - 1).map(struct.Struct("<Q").pack),
            ),
        ),
        max_size=6,
    ),
    length=st.one_of(st.none(), st.integers(0, len(SMALL.getvalue()))),
    rescue=st.booleans(),
)
def test_small_file_with_any_edits(
    edits: list[tuple[int, bytes]], length: int | None, rescue: bool
) -> None:
    data = bytearray(SMALL.getvalue())
    for at, new in edits:
        data[at : at + len(new)] = new
    assert examine(bytes(data[:length]), rescue=rescue) in ("read", "ND2FormatError")


def sound(**options: Any) -> bytes:
    file = io.BytesIO()
    frames = np.random.default_rng(1).integers(0, 2**12, (3, 2, 20, 30)).astype("uint16")
    write_nd2(file, frames, "TCYX", channels=["a", "b"], text_info={"optics": "20x"}, **options)
    return file.getvalue()


def level(inside: bytes, count: int = 1, name: bytes = b"") -> bytes:
    """A record that holds records."""
    head = bytes([11, len(name) // 2 + 1]) + name + b"\0\0"
    length = len(head) + 12 + len(inside)
    return head + struct.pack("<IQ", count, length) + inside + bytes(8 * count)


def nested(record: Callable[[bytes], bytes], inside: bytes, depth: int) -> bytes:
    for _ in range(depth):
        inside = record(inside)
    return inside


def byte_array(inside: bytes) -> bytes:
    return bytes([9, 2]) + b"a\0\0\0" + struct.pack("<Q", len(inside)) + inside


def inflating(inside: bytes) -> bytes:
    return bytes([76, 0]) + bytes(10) + zlib.compress(inside)


def text(name: str, value: bytes) -> bytes:
    return bytes([8, len(name) + 1]) + name.encode("utf-16-le") + b"\0\0" + value


def laughs(before: bytes = b"") -> bytes:
    """Entities that each stand for ten of the one before."""
    entities = ['<!ENTITY e0 "ha">']
    entities += [f'<!ENTITY e{i} "{f"&e{i - 1};" * 10}">' for i in range(1, 12)]
    declared = f"<!DOCTYPE variant [{''.join(entities)}]>"
    value = '<a runtype="CLxStringW" value="&e11;">&e11;</a>'
    return before + f"{declared}<variant><no_name>{value}</no_name></variant>".encode()


def metadata_bombs() -> dict[str, bytes]:
    megabyte = bytes(2**20)
    bomb = inflating(bytes(2**28))
    return {
        "levels": nested(level, b"", 5_000),
        "levels-of-a-megabyte": nested(level, megabyte, 900),
        "arrays": nested(byte_array, b"", 5_000),
        "arrays-of-a-megabyte": nested(byte_array, megabyte, 900),
        "inflating": bomb,
        "inflating-twice": inflating(bomb),
        "inflating-inside": level(level(bomb)),
        "endless-text": text("a", b"a\0" * 1_000_000),
        "records": level(bytes([1, 1, 0, 0, 1]) * 2_000_000, 2_000_000),
        "promised-records": bytes([11, 1, 0, 0]) + struct.pack("<IQ", 2**32 - 1, 16),
        "laughs": laughs(),
        "laughs-declared": laughs(b'<?xml version="1.0" encoding="UTF-8"?>'),
        "laughs-in-utf-16": laughs().decode().encode("utf-16-le"),
        "arrays-of-bytes": level(byte_array(bytes(2**20)) * 60, 60),
        "laughs-with-a-stray-byte": laughs().replace(b"<!DOC", b"<!DOC\xff"),
        "xml-attributes": b"<variant><a " + b'b="" ' * 1_000_000 + b"/></variant>",
        "elements": b"<variant>" + b"<a/>" * 1_000_000 + b"</variant>",
        "nested-elements": b"<variant>" + b"<a>" * 200_000 + b"</a>" * 200_000 + b"</variant>",
    }


def picture(**changes: Any) -> dict[str, Any]:
    channels = [Channel("a"), Channel("b")]
    tree = dict(picture_tree(channels, samples=1, pixel_size=1.0, stage=(0, 0, 0)))
    return tree | changes


def planes(**changes: Any) -> dict[str, Any]:
    tree: dict[str, Any] = picture()
    tree["sPicturePlanes"]["sPlaneNew"]["a0"] |= changes
    return tree


def attributes(**changes: Any) -> dict[str, Any]:
    tree = trees.attributes(
        shape=(20, 30, 2),
        kind="u",
        bits=16,
        bits_significant=16,
        row_stride=120,
        frames=3,
        compression=None,
        compression_level=6,
    )
    return dict(tree) | changes


def loops(*counts: int, kind: int = 1, **changes: Any) -> dict[str, Any]:
    every = [
        experiments.Loop(
            kind, dict(experiments.time_loop(3, 1.0).parameters) | {"uiCount": n} | changes
        )
        for n in counts
    ]
    return dict(experiments.experiment(every))


def periods(*counts: int) -> dict[str, Any]:
    return dict(experiments.experiment([experiments.periods_loop([(n, 1.0) for n in counts])]))


def points(count: int, name: str, first: str | None = None) -> dict[str, Any]:
    names = [first or name] + [name] * (count - 1)
    loop = experiments.positions_loop(names, [(0.0, 0.0, 0.0)] * count, use_z=True)
    return dict(experiments.experiment([loop]))


def many_planes(count: int) -> dict[str, Any]:
    """Planes that say that they have no component."""
    tree: dict[str, Any] = picture()
    plane = dict(tree["sPicturePlanes"]["sPlaneNew"]["a0"]) | {"uiCompCount": 0}
    tree["sPicturePlanes"]["sPlaneNew"] = {f"a{i}": plane for i in range(count)}
    return tree


LIES: dict[str, tuple[str, dict[str, Any]]] = {
    **{
        f"{key}-{value}": ("ImageAttributesLV!", attributes(**{key: value}))
        for key in ("uiWidth", "uiHeight", "uiComp", "uiWidthBytes", "uiBpcInMemory", "uiSequenceCount")
        for value in (0, 1, 2**31, 2**32 - 1, 2**63)
    },
    "wide": ("ImageAttributesLV!", attributes(uiWidth=2**31, uiWidthBytes=2**33, uiHeight=1)),
    "wide-lossless": (
        "ImageAttributesLV!",
        attributes(uiWidth=2**31, uiWidthBytes=2**33, uiHeight=1, eCompression=0),
    ),
    "many-components": (
        "ImageAttributesLV!",
        attributes(uiWidth=1, uiHeight=1, uiComp=2**31, uiWidthBytes=2**32, eCompression=0),
    ),
    "real-width": ("ImageAttributesLV!", attributes(uiWidth=30.0)),
    "components-of-a-plane": ("ImageMetadataSeqLV|0!", planes(uiCompCount=2**32 - 1)),
    "negative-components": ("ImageMetadataSeqLV|0!", planes(uiCompCount=-1.0)),
    "many-planes": ("ImageMetadataSeqLV|0!", many_planes(5000)),
    "many-loops": ("ImageMetadataLV!", loops(*[1] * 70)),
    "fewer-rows": ("ImageAttributesLV!", attributes(uiHeight=2, uiWidthBytes=6400)),
    "plane-name": ("ImageMetadataSeqLV|0!", planes(sDescription="x" * 100_000)),
    "calibration": ("ImageMetadataSeqLV|0!", picture(dCalibration=float("nan"))),
    "times": ("ImageMetadataLV!", loops(2**32 - 1)),
    "times-product": ("ImageMetadataLV!", loops(2**16, 2**16, 2**16, 2**16, kind=4)),
    "times-negative": ("ImageMetadataLV!", loops(1, uiCount=-5.0)),
    "million-times": ("ImageMetadataLV!", loops(1_000_000)),
    "few-millions": ("ImageMetadataLV!", loops(1_000_001)),
    "endless-period": ("ImageMetadataLV!", loops(3, dPeriod=float("inf"), dAvgPeriodDiff=float("nan"))),
    "periods": ("ImageMetadataLV!", periods(2**32 - 1, 2**32 - 1)),
    "unknown-loop": ("ImageMetadataLV!", loops(3, kind=99)),
    "positions": ("ImageMetadataLV!", points(20_000, "A1")),
    "position-names": ("ImageMetadataLV!", points(300, "x" * 20_000)),
    "one-long-name": ("ImageMetadataLV!", points(5000, "A1", first="x" * 100_000)),
    "optics": ("ImageTextInfoLV!", dict(trees.text_info({"optics": "7" * 100_000}))),
}  # fmt: skip
REFUSED_LIES = {
    *(f"{key}-{2**63}" for key in ("uiWidth", "uiHeight", "uiComp", "uiWidthBytes")),
    *(f"{key}-{n}" for key in ("uiWidth", "uiHeight", "uiComp") for n in (0, 2**31, 2**32 - 1)),
    *(f"uiWidthBytes-{value}" for value in (1, 2**31, 2**32 - 1)),
    *(f"uiBpcInMemory-{value}" for value in (0, 1, 2**31, 2**32 - 1, 2**63)),
    *(f"uiSequenceCount-{value}" for value in (2**31, 2**32 - 1)),  # which counts for a rescue
    *("wide", "wide-lossless", "many-components", "real-width", "fewer-rows"),
    *("times", "times-product", "periods"),
}
LIES_ABOUT_LOOPS = {"million-times", "few-millions", "positions", "one-long-name"}
LIES_ABOUT_NAMES = {"many-planes": "", "plane-name": ["x" * 255, "b"]}
ROOTS = {
    "ImageAttributesLV!": "SLxImageAttributes",
    "ImageMetadataSeqLV|0!": "SLxPictureMetadata",
    "ImageMetadataLV!": "SLxExperiment",
    "ImageTextInfoLV!": "SLxImageTextInfo",
}


PARTS = ["ImageAttributes{}!", "ImageTextInfo{}!", "ImageMetadata{}!", "ImageMetadataSeq{}|0!"]
ODD = "<BytesIO>: some of the metadata is odd: "
NUMBERED = "numbered along U"


def check_read(case: dict[str, Any], dims: str = "TCYX", channels: Sequence[str] = "ab") -> str:
    """Check that a damaged copy of the sound file is read, with at most one warning of what is odd.

    All pixels are those of the sound file. Returns what is said to be odd.
    """
    assert case["outcome"] == "read", case
    assert case["checksum"] == examine_closely(sound())["checksum"], case
    assert case["dims"] == dims, case
    assert case["channels"] == (list(channels) or ["C0", "C1"]), case
    told = "".join(case["warnings"])
    assert len(case["warnings"]) <= 1, case
    assert told.startswith(ODD) or not told, case
    return told.removeprefix(ODD)


@pytest.mark.parametrize("version", [(3, 0), (2, 1)])
def test_metadata_that_would_explode(version: tuple[int, int], tmp_path: Path) -> None:
    """Without the attributes a file is refused; without any other part it is read."""
    data = sound(version=version)
    names = [part.format("LV" if version[0] == 3 else "") for part in PARTS]
    paths = {}
    for bomb, content in metadata_bombs().items():
        for number, name in enumerate(names):
            if number < 2 or len(content) < 2**24:
                path = tmp_path / f"{bomb}-{number}.nd2"
                path.write_bytes(rewritten(data, {name.encode(): content}))
                paths[path] = bomb, number
    cases = examined(paths)
    check(cases)
    for case, (bomb, number) in zip(cases, paths.values(), strict=True):
        if number == 0:
            assert case["outcome"] == "ND2FormatError", case
            continue
        told = check_read(case, "UCYX" if number == 2 else "TCYX", "" if number == 3 else "ab")
        assert (NUMBERED in told) == (number == 2)
        if bomb == "promised-records":  # a level without any record
            assert number == 1 or "is missing" in told
        else:
            assert names[number].rstrip("!") in told


def test_lies_about_sizes(tmp_path: Path) -> None:
    data = sound()
    paths = []
    for name, (chunk, tree) in LIES.items():
        path = tmp_path / f"{name}.nd2"
        path.write_bytes(rewritten(data, {chunk.encode(): lite_variant({ROOTS[chunk]: tree})}))
        paths.append(path)
    cases = examined(paths)
    check(cases)
    found = {case["damage"]: case for case in cases}
    for name in REFUSED_LIES:
        assert found[name]["outcome"] in ("ND2FormatError", "ND2UnsupportedError"), found[name]
    for name in set(LIES) - REFUSED_LIES:
        assert found[name]["outcome"] == "read", found[name]
    # What does not tell of sizes costs its own label.
    numbered = {"many-loops", "times-negative", "position-names"}
    for name, (chunk, _) in LIES.items():
        if chunk != "ImageAttributesLV!" and name not in REFUSED_LIES | LIES_ABOUT_LOOPS:
            unknown = name in numbered | {"unknown-loop"}
            told = check_read(
                found[name], "UCYX" if unknown else "TCYX", LIES_ABOUT_NAMES.get(name, "ab")
            )
            assert bool(told) == (name not in ("plane-name", "optics")), found[name]
            assert (NUMBERED in told) == (name in numbered)
    absent = {"million-times": 999_997, "few-millions": 999_998, "positions": 19_997}
    for name, count in (absent | {"one-long-name": 4997}).items():
        (told,) = found[name]["warnings"]
        assert told.startswith(f"<BytesIO>: {count} of {count + 3} frames are not in the file")
    assert found["positions"]["dims"] == found["one-long-name"]["dims"] == "PCYX"


def test_frames_that_would_explode(tmp_path: Path) -> None:
    frame = bytes(8) + zlib.compress(bytes(2**27), 1)
    data = sound(compression="lossless")
    bomb = tmp_path / "frame.nd2"
    bomb.write_bytes(rewritten(data, {b"ImageDataSeq|1!": frame}))
    large = attributes(uiWidth=2**15, uiWidthBytes=2**17, uiHeight=2**13, eCompression=0)
    encoded = lite_variant({"SLxImageAttributes": large})
    lie = tmp_path / "size.nd2"
    lie.write_bytes(rewritten(data, {b"ImageAttributesLV!": encoded}))
    cases = examined([bomb, lie])
    check(cases)
    assert [case["outcome"] for case in cases] == ["ND2FormatError"] * 2


@pytest.mark.parametrize("size", range(200_000, 600_000, 50_000))
def test_metadata_across_the_ends_that_are_read_first(size: int) -> None:
    """Of a file smaller than both ends together, each end holds a part of one chunk."""
    chunk = lite_variant({"SLxImageTextInfo": {**trees.text_info({}), "x": bytes(size)}})
    assert examine(rewritten(sound(), {b"ImageTextInfoLV!": chunk})) == "read"


def moved(data: bytes, names: list[bytes], by: int) -> bytes:
    """The file with other offsets in its map."""
    copy = bytearray(data)
    for name, place in chunk_entries(data).items():
        if name in names:
            offset = struct.unpack_from("<Q", copy, place)[0]
            struct.pack_into("<Q", copy, place, offset + by)
    return bytes(copy)


@pytest.mark.parametrize("by", [-4096, -2048, -64, -1, 1, 8, 4096])
@pytest.mark.parametrize("compression", [None, "lossless"])
def test_offsets_that_are_a_little_off(by: int, compression: str | None) -> None:
    """Whether one is or all of them are: never other pixels than those that were written."""
    data = sound(compression=compression)
    frames = [b"ImageDataSeq|%d!" % i for i in range(3)]
    for names in (frames, frames[1:2], frames[:1]):
        assert examine(moved(data, names, by)) == "ND2FormatError"


@pytest.mark.parametrize("name_area", [24, 4000, 4072, 4073, 4080, 6000])
def test_any_name_area(name_area: int) -> None:
    file = io.BytesIO()
    frames = np.arange(5 * 20 * 30, dtype="uint16").reshape(5, 20, 30)
    write_nd2(file, frames, "TYX", name_area=name_area)
    np.testing.assert_array_equal(xr.open_dataset(file, engine="nd2").image[:, 0].values, frames)


def test_frames_under_one_number() -> None:
    """A digit of the map that was flipped gives a frame two places; neither is taken on trust."""
    data = bytearray(sound())
    place = chunk_entries(bytes(data))[b"ImageDataSeq|1!"]
    data[place - 2 : place - 1] = b"2"
    with pytest.warns(UserWarning, match="1 of 3 frames are not in the file"):
        ds = xr.open_dataset(io.BytesIO(data), engine="nd2")
    expected = xr.open_dataset(io.BytesIO(sound()), engine="nd2")
    np.testing.assert_array_equal(ds.image[0].values, expected.image[0].values)
    try:
        values = ds.image[2].values
    except ND2FormatError:
        pass
    else:
        np.testing.assert_array_equal(values, expected.image[2].values)


def test_every_flipped_bit_of_a_stream_is_noticed() -> None:
    data = sound(compression="lossless")
    _, start, stop = chunk_parts(data, chunk_entries(data)[b"ImageDataSeq|1!"])
    rng = np.random.default_rng(4)
    for at, bit in zip(rng.integers(start + 8, stop, 300), rng.integers(0, 8, 300), strict=True):
        copy = bytearray(data)
        copy[at] ^= 1 << int(bit)
        assert examine(bytes(copy)) == "ND2FormatError"


def test_compression_that_is_denied() -> None:
    tree = lite_variant({"SLxImageAttributes": attributes(eCompression=2)})
    assert examine(rewritten(sound(compression="lossless"), {b"ImageAttributesLV!": tree})) == (
        "ND2FormatError"
    )


@pytest.mark.parametrize("rescue", [False, True])
def test_lost_experiment(rescue: bool) -> None:
    """No frame is hidden: they are numbered."""
    data = sound().replace(b"ImageMetadataLV!", b"ImageMetadataLW!")
    told = "no loop arranges the frames, so they are numbered along U"
    with pytest.warns(UserWarning, match=f"{ODD}{told}$") as caught:
        ds = xr.open_dataset(io.BytesIO(data), engine="nd2", rescue=rescue)
    assert len(caught) == 1
    assert "rescued" not in ds.attrs
    expected = xr.open_dataset(io.BytesIO(sound()), engine="nd2")
    assert dict(ds.image.sizes) == {"U": 3, "C": 2, "Y": 20, "X": 30}
    np.testing.assert_array_equal(ds.image.values, expected.image.values)


class Counting(io.BytesIO):
    """A file that counts what is read of it."""

    reads = nbytes = 0

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(size)
        self.reads += 1
        self.nbytes += len(data)
        return data


def test_many_frames_in_one_place() -> None:
    """A map full of frames that all need a look costs few requests."""
    data = sound()
    location = struct.unpack("<Q", data[-8:])[0]
    entries = b"".join(
        b"ImageDataSeq|%d!" % i + struct.pack("<QQ", 4096 * (i % 20), 7) for i in range(20_000)
    )
    old = data[location + 16 + 32 : -40]
    content = entries + old + data[-40:]
    header = struct.pack("<IIQ", 0x0ABECEDA, 32, len(content)) + b"ND2 FILEMAP SIGNATURE NAME 0001!"
    file = Counting(bytes(2**23).join([data[:location], b""]) + header + content)
    grown = bytearray(file.getvalue())
    struct.pack_into("<Q", grown, len(grown) - 8, location + 2**23)
    file = Counting(bytes(grown))
    with pytest.warns(UserWarning, match="there are 20000 frames, and the experiment explains 3"):
        ds = xr.open_dataset(file, engine="nd2")
    assert ds.sizes["T"] == 20_000
    assert file.reads < 20
    assert file.nbytes < 3 * 2**20


def test_map_that_claims_the_whole_file() -> None:
    size = 2**25
    data = bytearray(size)
    data[:4096] = sound()[:4096]
    header = struct.pack("<IIQ", 0x0ABECEDA, 32, size - 4096 - 48)
    data[4096:4144] = header + b"ND2 FILEMAP SIGNATURE NAME 0001!"
    data[-40:] = b"ND2 CHUNK MAP SIGNATURE 0000001!" + struct.pack("<Q", 4096)
    file = Counting(bytes(data))
    with pytest.raises(ND2FormatError, match="the chunk map at byte 4096 is said to end at"):
        xr.open_dataset(file, engine="nd2")
    assert file.nbytes < 5 * 2**20


def test_a_corner_of_a_frame_that_is_mostly_zeros(tmp_path: Path) -> None:
    """It is inflated up to the corner, but not kept."""
    side = 20_000
    stream = zlib.compressobj(1)
    parts = [stream.compress(bytes(2 * side * 1000)) for _ in range(side // 1000)]
    frame = bytes(8) + b"".join(parts) + stream.flush()
    tree = attributes(uiWidth=side, uiHeight=side, uiWidthBytes=2 * side, uiComp=1, eCompression=0)
    plane = dict(picture_tree([Channel("a")], samples=1, pixel_size=1.0, stage=(0, 0, 0)))
    data = rewritten(
        sound(compression="lossless"),
        {
            b"ImageAttributesLV!": lite_variant({"SLxImageAttributes": tree}),
            b"ImageMetadataSeqLV|0!": lite_variant({"SLxPictureMetadata": plane}),
            b"ImageDataSeq|2!": frame,
        },
    )
    path = tmp_path / "zeros.nd2"
    path.write_bytes(data)
    cases = examined([path])
    check(cases)
    assert cases[0]["MiB"] < 500


def test_frames_in_one_place() -> None:
    """A frame whose place is that of another has no pixels of its own."""
    data = bytearray(sound())
    entries = chunk_entries(bytes(data))
    first = data[entries[b"ImageDataSeq|0!"] :][:16]
    data[entries[b"ImageDataSeq|2!"] : entries[b"ImageDataSeq|2!"] + 16] = first
    assert examine(bytes(data)) == "ND2FormatError"
