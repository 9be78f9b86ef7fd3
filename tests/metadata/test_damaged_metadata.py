"""No damage to descriptive metadata refuses a file, moves a pixel or spoils labels of another part."""

from __future__ import annotations

import io
import re
from collections import Counter
from functools import cache
from math import gcd
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

import numpy as np
import pytest
import xarray as xr

from tests.conftest import corpus_files
from tests.metadata.chunk_trees import LEVEL, LITE_VALUES, Record, XmlTree, decoded, level
from tests.metadata.damaged import (
    CHUNKS_OF_PART,
    PARTS,
    chunks_of,
    damages_of_keys,
    variants,
    with_chunks,
)
from tests.metadata.soundness import (
    Intact,
    problems_of,
    problems_of_attributes,
    problems_of_coordinates,
    problems_of_other_parts,
    problems_of_pixels,
    stored_frames,
    stored_order,
)
from xarray_nd2.testing import Channel, write_nd2

if TYPE_CHECKING:
    from pathlib import Path

    from tests.metadata.damaged import Variant

FAILURES_SHOWN = 10
DAMAGED_KEYS_OF_REAL_FILE = 40

CHANNELS = [Channel("DAPI", 450.0, 405.0, "#0033ff"), Channel("GFP", 512.0, 488.0)]
TEXTS = {"description": "Two lines\r\nof text", "date": "1/2/2024  3:04:05 PM", "optics": "20x"}
PLACES = [(10.0, 20.0, 30.0), (11.0, 22.0, 33.0)]
# Dimensions with their sizes, pixel type, options of the writer, and how many of the damages of
# keys are examined: one of so many.
FILES: dict[str, tuple[dict[str, int], str, dict[str, Any], int]] = {
    "time-positions-stack": (
        {"T": 3, "P": 2, "Z": 2, "C": 2, "Y": 6, "X": 8},
        "uint16",
        {
            "channels": CHANNELS,
            "timestamps": np.arange(12) * 0.25 + 0.125,
            "positions": ["A1", "A2"],
            "stage_positions": PLACES,
            "text_info": TEXTS,
        },
        3,
    ),
    "colour": ({"T": 2, "Y": 6, "X": 8, "S": 3}, "uint8", {"text_info": TEXTS}, 7),
    "frame": ({"Y": 6, "X": 8}, "uint16", {"timestamps": [0.5], "text_info": TEXTS}, 7),
    "xml": (
        {"T": 3, "Z": 2, "C": 2, "Y": 6, "X": 8},
        "uint16",
        {
            "version": (2, 1),
            "channels": CHANNELS,
            "timestamps": np.arange(6) * 0.5,
            "text_info": TEXTS,
        },
        7,
    ),
    "periods": (
        {"T": 5, "Y": 6, "X": 8},
        "uint16",
        {"periods": [(3, 1.0), (2, 5.0)], "timestamps": [0, 1, 2, 7, 12]},
        7,
    ),
    "three-channels": (
        {"Z": 4, "C": 3, "Y": 6, "X": 8},
        "float32",
        {"missing": [2], "compression": "lossless", "channels": ["Blue", "Green", "TxRed"]},
        7,
    ),
}
BOMBED = ("time-positions-stack", "xml")


@cache
def written(name: str) -> bytes:
    """A file whose every frame differs from all others."""
    sizes, dtype, options, _ = FILES[name]
    pixels = np.random.default_rng(3).integers(0, 250, tuple(sizes.values())).astype(dtype)
    file = io.BytesIO()
    write_nd2(file, pixels, "".join(sizes), **options)
    data = file.getvalue()
    return with_chunks(data, recorded_places(pixels)) if name == "time-positions-stack" else data


def recorded_places(frames: np.ndarray[Any, Any]) -> dict[bytes, bytes | None]:
    """Chunks of recorded columns: where the stage was at each frame of T, P and Z."""
    t, p, z = np.indices(frames.shape[:3], dtype="<f8").reshape(3, -1)
    x, y, home = np.array(PLACES, "<f8")[p.astype(int)].T
    columns = {"X": x, "Y": y, "Z": home + z + t / 100}
    tags = "".join(
        f'<Tag{i} runtype="CLxListVariant"><ID runtype="CLxStringW" value="{name}"/>'
        '<Type runtype="lx_int32" value="3"/><Group runtype="lx_int32" value="0"/>'
        f'<Size runtype="lx_int32" value="{len(t)}"/>'
        f'<Desc runtype="CLxStringW" value="{name} Coord"/>'
        '<Unit runtype="CLxStringW" value="µm"/>'
        f"</Tag{i}>"
        for i, name in enumerate(columns)
    )
    root = f'<CustomTagDescription_v1.0 runtype="CLxListVariant">{tags}</CustomTagDescription_v1.0>'
    prolog = '<?xml version="1.0" encoding="UTF-8"?>'
    description = f'{prolog}<variant version="1.0">{root}</variant>'
    tables = {f"CustomData|{name}!".encode(): c.tobytes() for name, c in columns.items()}
    return {b"CustomDataVar|CustomDataV2_0!": description.encode(), **tables}


@cache
def variants_of_written(name: str) -> list[Variant]:
    return list(variants(written(name), every=FILES[name][3], bombs=name in BOMBED))


def sample_of_real(data: bytes) -> list[Variant]:
    """Of the keys of each name the first, and of its damages some."""
    chunks = chunks_of(data)
    names = [name for names in CHUNKS_OF_PART.values() for name in names if name in chunks]
    trees = [decoded(chunks[name]) for name in names]
    count = sum(len(list(damages_of_keys(tree, each_name_once=True))) for tree in trees)
    every = max(1, count // DAMAGED_KEYS_OF_REAL_FILE)
    while every > 1 and any(gcd(every, 1 + len(tree.replacements)) > 1 for tree in trees):
        every += 1  # so that each kind of damage has its turn
    return list(variants(data, each_name_once=True, every=every, bombs=False))


def check(data: bytes, damaged: list[Variant]) -> None:
    intact = Intact.of(data)
    failures = [f"{v}: {p}" for v in damaged for p in problems_of(v, intact)]
    kinds = Counter(failure.split(": ")[3] for failure in failures)
    shown = "\n".join(failures[:: max(1, len(failures) // FAILURES_SHOWN)])
    assert not failures, f"{len(damaged)} variants, problems: {dict(kinds)}\n{shown}"


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("name", FILES)
def test_written_files(name: str, part: str) -> None:
    damaged = [v for v in variants_of_written(name) if v.part == part]
    check(written(name), damaged)


@pytest.mark.corpus
@pytest.mark.parametrize("path", corpus_files(), ids=lambda path: path.stem)
def test_real_files(path: Path) -> None:
    data = path.read_bytes()
    check(data, sample_of_real(data))


def test_number_of_variants() -> None:
    """All keys and all kinds of damage are among them."""
    every = [v for name in FILES for v in variants_of_written(name)]
    assert len(every) > 1500
    whole = variants_of_written("time-positions-stack")
    assert {v.part for v in whole} == set(PARTS)
    damages = Counter(v.damage for v in whole)
    assert min(damages[damage] for damage in ("deleted", *LITE_VALUES)) > 40
    keys = {v.where.split("/")[-1] for v in whole}
    assert {"uLoopPars", "dPosName", "m_uiColor", "uiCompCount", "TextInfoItem_13"} <= keys


def test_each_variant_is_another_file() -> None:
    data = written("frame")
    files = {variant.applied(data) for variant in variants_of_written("frame")}
    # A value may be replaced by itself.
    assert len(files) > 0.9 * len(variants_of_written("frame"))


@pytest.mark.parametrize("name", FILES)
def test_unchanged_trees_of_written_files(name: str) -> None:
    chunks = chunks_of(written(name))
    described = [c for n, c in chunks.items() if n.startswith((b"ImageM", b"ImageA", b"ImageT"))]
    assert len(described) >= 2
    for chunk in described:
        assert decoded(chunk).encoded() == chunk


@pytest.mark.corpus
def test_unchanged_trees_of_real_files(corpus: Path) -> None:
    kinds: Counter[str] = Counter()
    for path in corpus.glob("*.nd2"):
        for name, chunk in chunks_of(path.read_bytes()).items():
            starts_like_tree = chunk.startswith((b"\x0b", b"LV0Z")) or b"<variant" in chunk[:100]
            if name.startswith((b"ImageData", b"CustomDataSeq")) or not starts_like_tree:
                continue
            tree = decoded(chunk)
            if b"GrabberCameraSettings" in name:  # it writes line ends in a way of its own
                assert isinstance(tree, XmlTree)
                assert ET.canonicalize(tree.encoded()) == ET.canonicalize(chunk)
            else:
                assert tree.encoded() == chunk
            kinds[type(tree).__name__] += 1
    assert min(kinds.values()) >= 10


def test_odd_records() -> None:
    """What real files have: no name or half of one, offsets in any order or none, odd flags."""
    flag = Record(1, b"", b"\7")
    odd = Record(3, "uiCon20(L\0".encode("utf-16-le"), b"\1\0\0\0")
    unfinished = Record(8, "n".encode("utf-16-le"), b"\x00\xd8\0\0")  # half of a character
    array = Record(9, b"\0\0", (3).to_bytes(8, "little") + b"\x0b\2\0")
    compressed = Record(76, b"", b"V0Z" + bytes(9))
    turned = Record(LEVEL, b"\0\0", b"", (flag, odd, unfinished), (2, 0, 1))
    without_offsets = Record(LEVEL, b"", b"", (array, turned), None)
    chunk = b"".join(
        record.encoded
        for record in (without_offsets, level(b"a\0\0\0", [odd, flag]), array, compressed)
    )
    tree = decoded(chunk)
    assert tree.encoded() == chunk
    assert len(list(tree.paths())) == 11
    assert tree.keys((0, 1, 1)) == ["", "", "uiCon20(L"]
    assert decoded(tree.without((0, 1, 1))).encoded() == tree.without((0, 1, 1))
    with pytest.raises(ValueError, match="a record of type 99"):
        decoded(bytes([99, 0]))


def test_stored_frames_are_those_that_were_written() -> None:
    sizes, dtype, _, _ = FILES["three-channels"]
    pixels = np.random.default_rng(3).integers(0, 250, tuple(sizes.values())).astype(dtype)
    frames = stored_frames(written("three-channels"))
    assert set(frames) == {0, 1, 3}
    for number, frame in frames.items():
        np.testing.assert_array_equal(frame, pixels[number].transpose(1, 2, 0))


def changed(ds: xr.Dataset, name: str, values: Any, **attrs: Any) -> xr.Dataset:
    """The dataset with other labels."""
    return ds.assign_coords({name: (ds[name].dims, np.array(values), attrs)})


def test_what_is_wrong_is_found() -> None:
    """The checks, on datasets that are wrong in one way each."""
    intact = Intact.of(written("time-positions-stack"))
    ds = intact.dataset
    assert ds is not None
    assert not [*problems_of_pixels(ds.image, intact), *problems_of_coordinates(ds)]
    assert not list(problems_of_attributes(ds))
    valid = xr.DataArray(np.arange(12).reshape(3, 2, 2) > 0, dims=["T", "P", "Z"])
    for image, problem in (
        (ds.image.isel(Z=[1, 0]), "pixels: frame 0 is wrong"),
        (ds.image.isel(C=[1, 0]), "pixels: frame 0 is wrong"),
        (ds.image.isel(T=slice(2)), "lost: .* no place for frame 11"),
        (ds.image.isel(Y=slice(3)), "shape: "),
        (ds.image.transpose("Z", "T", ...), "pixels: frame 1 is wrong"),
        (ds.image.transpose(..., "C"), "shape: the dimensions"),
        (ds.image.pad(T=(0, 1), constant_values=0), "validity: nothing tells"),
        (ds.image.assign_coords(frame_valid=valid), "validity: frame_valid is wrong"),
    ):
        found = list(problems_of_pixels(image, intact))
        assert any(re.match(problem, text) for text in found), (problem, found)
    for wrong, problem in (
        (changed(ds, "T", [0, 2, 1]), "T is not monotonic"),
        (changed(ds, "T", [0, 1, np.nan]), "T is not finite"),
        (changed(ds, "T", [1, 2, 3]), "T does not start at 0"),
        (changed(ds, "T", list("abc")), "T has labels of <U1"),
        (changed(ds, "P", ["a", "a"]), "P is not distinct"),
        (changed(ds, "C", [0, 1]), "C is no text"),
        (ds.drop_vars("Z"), "Z has no labels"),
    ):
        assert f"coordinates: {problem}" in list(problems_of_coordinates(wrong))
    for value in (np.float64(1), None, {"a": 1}, [np.int64(1)], float("nan"), [float("inf")]):
        assert list(problems_of_attributes(ds.assign_attrs(a=value)))
    nothing = variants_of_written("time-positions-stack")[0]
    assert not list(problems_of_other_parts(nothing, ds, ds))
    for wrong in (
        changed(ds, "P", ["a", "b"]),
        ds.drop_vars("emission"),
        ds.assign_coords(strange=1),
        ds.assign_attrs(description="another"),
        ds.isel(Z=[0]),
        ds.isel(C=[0]),
    ):
        assert list(problems_of_other_parts(nothing, wrong, ds))


@pytest.mark.parametrize(
    ("names", "samples", "order"),
    [
        (["a", "b", "c"], None, [0, 1, 2]),
        (["a"], ["Red", "Green", "Blue"], [2, 1, 0]),
        (["a"], ["Blue", "Green", "Red"], [0, 1, 2]),
        (["a"], ["Red", "Green", "Blue", "Alpha"], [2, 1, 0, 3]),
        (["a", "b"], ["Red", "Green", "Blue"], [2, 1, 0, 5, 4, 3]),
        (["DAPI", "BF Red", "BF Green", "BF Blue"], None, [0, 3, 2, 1]),
        (["Red", "Green", "Blue", "Red (2)", "Green (2)", "Blue (2)"], None, [2, 1, 0, 5, 4, 3]),
        (["TxRed", "Green", "Blue"], None, [0, 1, 2]),
    ],
)
def test_stored_order(names: list[str], samples: list[str] | None, order: list[int]) -> None:
    coords = {"C": names} if samples is None else {"C": names, "S": samples}
    image = xr.DataArray(np.zeros([len(c) for c in coords.values()]), coords, list(coords))
    assert stored_order(image) == order
