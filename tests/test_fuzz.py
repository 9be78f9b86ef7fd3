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
from itertools import cycle
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from xarray_nd2.testing import _metadata as trees
from xarray_nd2.testing import write_nd2
from xarray_nd2.testing._variant import lite_variant

from .conftest import ROOT
from .damage import MEMORY, chunk_entries, examine, rewritten
from .variants import VARIANTS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
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
    write_nd2(file, frames, "TCYX", text_info={"optics": "20x"}, **options)
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
        "elements": b"<variant>" + b"<a/>" * 1_000_000 + b"</variant>",
        "nested-elements": b"<variant>" + b"<a>" * 200_000 + b"</a>" * 200_000 + b"</variant>",
    }


def picture(**changes: Any) -> dict[str, Any]:
    channels = [trees.Channel("a"), trees.Channel("b")]
    tree = dict(trees.picture(channels, samples=1, pixel_size=1.0, stage=(0, 0, 0)))
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
        trees.Loop(kind, dict(trees.time_loop(3, 1.0).parameters) | {"uiCount": n} | changes)
        for n in counts
    ]
    return dict(trees.experiment(every))


def periods(*counts: int) -> dict[str, Any]:
    return dict(trees.experiment([trees.periods_loop([(n, 1.0) for n in counts])]))


def points(count: int, name: str) -> dict[str, Any]:
    loop = trees.positions_loop([name] * count, [(0.0, 0.0, 0.0)] * count, use_z=True)
    return dict(trees.experiment([loop]))


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
    "optics": ("ImageTextInfoLV!", dict(trees.text_info({"optics": "7" * 100_000}))),
}  # fmt: skip
ROOTS = {
    "ImageAttributesLV!": "SLxImageAttributes",
    "ImageMetadataSeqLV|0!": "SLxPictureMetadata",
    "ImageMetadataLV!": "SLxExperiment",
    "ImageTextInfoLV!": "SLxImageTextInfo",
}


def test_metadata_that_would_explode(tmp_path: Path) -> None:
    paths = []
    parts = cycle(["ImageMetadataSeq{}|0!", "ImageTextInfo{}!", "ImageAttributes{}!"])
    for version, suffix in (((3, 0), "LV"), ((2, 1), "")):
        data = sound(version=version)
        for (name, bomb), part in zip(metadata_bombs().items(), parts, strict=False):
            path = tmp_path / f"{name}{suffix}.nd2"
            path.write_bytes(rewritten(data, {part.format(suffix).encode(): bomb}))
            paths.append(path)
    cases = examined(paths)
    check(cases)
    assert {case["outcome"] for case in cases} == {"ND2FormatError"}


def test_lies_about_sizes(tmp_path: Path) -> None:
    data = sound()
    paths = []
    for name, (chunk, tree) in LIES.items():
        path = tmp_path / f"{name}.nd2"
        path.write_bytes(rewritten(data, {chunk.encode(): lite_variant({ROOTS[chunk]: tree})}))
        paths.append(path)
    cases = examined(paths)
    check(cases)
    outcomes = {case["damage"]: case["outcome"] for case in cases}
    readable = {name for name, outcome in outcomes.items() if outcome == "read"}
    assert {"plane-name", "calibration", "million-times", "positions"} <= readable
    assert not {"wide-lossless", "times", "periods", "few-millions", "optics"} & readable


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
    assert [case["outcome"] for case in cases] == ["read", "ND2FormatError"]


@pytest.mark.parametrize("size", range(200_000, 600_000, 50_000))
def test_metadata_across_the_ends_that_are_read_first(size: int) -> None:
    """Of a file smaller than both ends together, each end holds a part of one chunk."""
    chunk = lite_variant({"SLxImageTextInfo": {**trees.text_info({}), "x": bytes(size)}})
    assert examine(rewritten(sound(), {b"ImageTextInfoLV!": chunk})) == "read"


def test_frames_in_one_place() -> None:
    """A frame whose place is that of another has no pixels of its own."""
    data = bytearray(sound())
    entries = chunk_entries(bytes(data))
    first = data[entries[b"ImageDataSeq|0!"] :][:16]
    data[entries[b"ImageDataSeq|2!"] : entries[b"ImageDataSeq|2!"] + 16] = first
    assert examine(bytes(data)) == "ND2FormatError"
