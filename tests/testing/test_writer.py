"""Files of `write_nd2` hold what was asked for, as ``nd2`` and as the container itself say.

Pixels, loops and facts are read back with ``nd2``. Where ``nd2`` cannot tell (or is known to be
wrong: RGBA, signed and 64-bit pixels, name areas of another size) the bytes are read, by a few lines
that share nothing with the package. Colour is given as Red, Green, Blue, and nd2 gives it as stored.
"""

from __future__ import annotations

import io
import struct
import zlib
from typing import TYPE_CHECKING, Any

import nd2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nd2._parse._clx_lite import json_from_clx_lite_variant
from nd2._parse._clx_xml import json_from_clx_variant

from tests.conftest import corpus_files
from tests.skips import NO_CORPUS
from tests.testing.written import (
    CONTAINER_VERSIONS,
    channels_of,
    chunk_at,
    chunks_of,
    frame_of,
    opened,
    outermost_loop_parameters,
    pixels,
    raw_attributes,
    written,
)
from xarray_nd2.testing import Channel, write_nd2
from xarray_nd2.testing.variant import Flags, Typed, ValueType, lite_variant, variant_xml

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

CORPUS_PARAMETERS: list[Any] = corpus_files() or [
    pytest.param(None, id="none", marks=pytest.mark.skip(NO_CORPUS))
]


# ---- loops, channels and pixels, by nd2


@pytest.mark.parametrize("version", CONTAINER_VERSIONS)
@pytest.mark.parametrize("loops", ["", "T", "Z", "TZ", "ZT", "PT", "PTZ", "TPZ", "ZPT"])
def test_loops_are_nested_as_asked(loops: str, version: tuple[int, int]) -> None:
    counts = {"T": 3, "P": 2, "Z": 4}
    types = {"T": "TimeLoop", "P": "XYPosLoop", "Z": "ZStackLoop"}
    data = pixels(*(counts[dim] for dim in loops), 2, 5, 8)
    with opened(data, f"{loops}CYX", version=version) as read:
        assert read.version == version
        assert list(read.sizes.items()) == list(zip(f"{loops}CYX", data.shape, strict=True))
        found = [(loop.type, loop.count, loop.nestingLevel) for loop in read.experiment]
        assert found == [(types[dim], counts[dim], i) for i, dim in enumerate(loops)]
        assert read.attributes.sequenceCount == data[..., 0, 0, 0].size
        assert read.dtype == data.dtype
        np.testing.assert_array_equal(read.asarray(), data)


def test_a_loop_of_one_is_in_the_experiment() -> None:
    with opened(pixels(1, 1, 5, 8), "TZYX") as read:
        assert [(loop.type, loop.count) for loop in read.experiment] == [
            ("TimeLoop", 1),
            ("ZStackLoop", 1),
        ]
        assert dict(read.sizes) == {"Y": 5, "X": 8}


@pytest.mark.parametrize("width", [1, 7, 8])
@pytest.mark.parametrize("alignment", [1, 4, 64])
@pytest.mark.parametrize("compression", [None, "lossless"])
@pytest.mark.parametrize(("dims", "shape"), [("TYX", ()), ("TCYX", (3,)), ("TYXS", ())])
def test_rows_are_padded(
    dims: str, shape: tuple[int, ...], compression: str | None, alignment: int, width: int
) -> None:
    data = pixels(2, *shape, 6, width, *([3] if "S" in dims else []), dtype="uint8")
    row_bytes = data[0].size // 6
    with opened(data, dims, row_alignment=alignment, compression=compression) as read:
        assert read.attributes.widthPx == width
        assert read.attributes.widthBytes == int(np.ceil(row_bytes / alignment)) * alignment
        stored = data[..., ::-1] if "S" in dims else data
        np.testing.assert_array_equal(read.asarray().reshape(data.shape), stored)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("compression", [None, "lossless"])
def test_dtypes_nd2_knows(dtype: str, compression: str | None) -> None:
    data = pixels(2, 5, 8, dtype=dtype)
    with opened(data, "ZYX", compression=compression) as read:
        assert read.dtype == dtype
        np.testing.assert_array_equal(read.asarray(), data)


@settings(max_examples=80, deadline=None)
@given(
    loops=st.permutations("TPZ").flatmap(lambda p: st.integers(0, 3).map(lambda n: "".join(p[:n]))),
    counts=st.tuples(*[st.integers(2, 3)] * 3),
    frame=st.tuples(st.integers(2, 9), st.integers(2, 9)),
    extra=st.sampled_from(["", "C", "S"]),
    dtype=st.sampled_from(["uint8", "uint16", "float32"]),
    alignment=st.integers(1, 40),
    options=st.fixed_dictionaries(
        {
            "compression": st.sampled_from([None, "lossless"]),
            "version": st.sampled_from(CONTAINER_VERSIONS),
            "metadata_at": st.sampled_from(["start", "end"]),
            "map_order": st.sampled_from(["reversed", "sequence"]),
        }
    ),
)
def test_any_image_comes_back(
    loops: str,
    counts: tuple[int, ...],
    frame: tuple[int, int],
    extra: str,
    dtype: str,
    alignment: int,
    options: dict[str, Any],
) -> None:
    shape = (*counts[: len(loops)], *([2] * (extra == "C")), *frame, *([3] * (extra == "S")))
    dims = f"{loops}{'C' * (extra == 'C')}YX{'S' * (extra == 'S')}"
    data = pixels(*shape, dtype=dtype)
    alignment *= data.itemsize  # nd2 reads only strides of whole values
    with opened(data, dims, row_alignment=alignment, **options) as read:
        assert list(read.sizes.items()) == list(zip(dims, shape, strict=True))
        stored = data[..., ::-1] if extra == "S" else data
        np.testing.assert_array_equal(read.asarray(), stored)


# ---- facts, by nd2


@pytest.mark.parametrize("version", CONTAINER_VERSIONS)
def test_channels(version: tuple[int, int]) -> None:
    asked = [Channel("DAPI", emission=461, excitation=405.0, color="#10a0fF"), "GFP λ <&> \"'"]
    with opened(pixels(2, 5, 8), "CYX", channels=asked, version=version) as read:
        first, second = (channel.channel for channel in channels_of(read))
        flags = [channel.microscope.modalityFlags for channel in channels_of(read)]
    assert (first.name, first.emissionLambdaNm, first.excitationLambdaNm) == ("DAPI", 461, 405)
    assert (first.color.r, first.color.g, first.color.b) == (0x10, 0xA0, 0xFF)
    assert flags == [["fluorescence", "camera"]] * 2
    assert (second.name, second.emissionLambdaNm) == ("GFP λ <&> \"'", None)
    assert (second.color.r, second.color.g, second.color.b) == (255, 255, 255)


def test_channels_without_names_are_numbered() -> None:
    with opened(pixels(3, 5, 8), "CYX") as read:
        assert [channel.channel.name for channel in channels_of(read)] == ["Ch0", "Ch1", "Ch2"]


def test_rgb_is_one_channel_of_three_components() -> None:
    with opened(pixels(5, 8, 3, dtype="uint8"), "YXS", channels=["Brightfield"]) as read:
        assert read.is_rgb
        assert dict(read.sizes) == {"Y": 5, "X": 8, "S": 3}
        (channel,) = channels_of(read)
        assert channel.channel.name == "Brightfield"
        assert channel.volume.componentCount == 3
        assert channel.microscope.modalityFlags == ["brightfield", "camera"]


@pytest.mark.parametrize("version", CONTAINER_VERSIONS)
def test_voxel_size(version: tuple[int, int]) -> None:
    data = pixels(3, 5, 8)
    options = {"version": version, "timestamps": [0, 1, 2]}
    with opened(data, "ZYX", pixel_size=0.325, z_step=0.7, **options) as read:
        assert tuple(read.voxel_size()) == (0.325, 0.325, 0.7)
        assert outermost_loop_parameters(read).bottomToTop is True
        assert read.events(orient="list")["Z-Series"] == pytest.approx([-0.7, 0.0, 0.7])


def test_negative_z_step_goes_down() -> None:
    with opened(pixels(3, 5, 8), "ZYX", z_step=-0.7, timestamps=[0, 1, 2]) as read:
        assert read.voxel_size().z == 0.7
        assert outermost_loop_parameters(read).bottomToTop is False
        assert read.events(orient="list")["Z-Series"] == pytest.approx([0.7, 0.0, -0.7])


@pytest.mark.parametrize("version", CONTAINER_VERSIONS)
def test_period(version: tuple[int, int]) -> None:
    with opened(pixels(4, 5, 8), "TYX", period=0.25, version=version) as read:
        found = outermost_loop_parameters(read)
        assert (found.startMs, found.periodMs, found.durationMs) == (0, 250, 750)
        assert found.periodDiff.avg == 250


@pytest.mark.parametrize("version", CONTAINER_VERSIONS)
def test_periods(version: tuple[int, int]) -> None:
    data = pixels(6, 2, 5, 8)
    with opened(data, "TZYX", periods=[(1, 9), (2, 0.5), (3, 60)], version=version) as read:
        loop = read.experiment[0]
        assert (loop.type, loop.count) == ("NETimeLoop", 6)
        periods = [
            (p.count, p.periodMs, p.durationMs) for p in outermost_loop_parameters(read).periods
        ]
        assert periods == [(1, 9000, 0), (2, 500, 500), (3, 60000, 120000)]
        assert read.experiment[1].type == "ZStackLoop"
        np.testing.assert_array_equal(read.asarray(), data)


@pytest.mark.parametrize("version", CONTAINER_VERSIONS)
def test_positions(version: tuple[int, int]) -> None:
    stage = [(1.5, -2.25, 30), (4, 5, 6), (0, 0, -7.125)]
    with opened(
        pixels(3, 5, 8),
        "PYX",
        positions=["A1", "", "Ω 3"],
        stage_positions=stage,
        version=version,
    ) as read:
        points = outermost_loop_parameters(read).points
        assert [point.name for point in points] == ["A1", None, "Ω 3"]
        assert [tuple(point.stagePositionUm) for point in points] == stage
        assert [point.pfsOffset for point in points] == [None] * 3
        raw = read.unstructured_metadata(strip_prefix=False)
    if version == (3, 0):
        assert raw["ImageMetadataLV"]["SLxExperiment"]["pItemValid"] == [1, 1, 1]
    else:
        assert raw["ImageMetadata"]["pItemValid"] == {"_00": True, "_01": True, "_02": True}


def test_stage_position_without_loop() -> None:
    with opened(pixels(5, 8), "YX", stage_positions=[(1, 2, 3)], timestamps=[0]) as read:
        frame: Any = read.frame_metadata(0)
        assert tuple(frame.channels[0].position.stagePositionUm) == (1, 2, 3)


@pytest.mark.parametrize("version", CONTAINER_VERSIONS)
def test_timestamps(version: tuple[int, int]) -> None:
    seconds = np.array([0.0, 0.125, 2.5, 3.0])
    file = written(pixels(2, 2, 5, 8), "TZYX", timestamps=seconds, version=version, missing=[2])
    with nd2.ND2File(io.BytesIO(file)) as read:
        events = read.events(orient="list")
    assert events["Time [s]"] == seconds.tolist()
    assert events["T Index"] == [0, 0, 1, 1]
    before_pixels = {
        name: struct.unpack("<d", chunk.data[:8])[0]
        for name, chunk in chunks_of(file).items()
        if name.startswith("ImageDataSeq")
    }
    assert before_pixels == {
        "ImageDataSeq|3!": 3000.0,
        "ImageDataSeq|1!": 125.0,
        "ImageDataSeq|0!": 0.0,
    }


def test_no_table_of_times_without_timestamps() -> None:
    chunks = chunks_of(written(pixels(2, 5, 8), "TYX"))
    assert not [name for name in chunks if name.startswith("CustomData")]
    assert chunks["ImageDataSeq|1!"].data[:8] == bytes(8)


@pytest.mark.parametrize("version", CONTAINER_VERSIONS)
def test_text_info(version: tuple[int, int]) -> None:
    texts = {"description": "µ\r\n\ttwo <lines>", "date": "3/7/2025", "appVersion": "NIS"}
    with opened(pixels(5, 8), "YX", text_info=texts, version=version) as read:
        assert read.text_info == texts


def test_bits_significant() -> None:
    with opened(pixels(5, 8), "YX", bits_significant=12) as read:
        assert read.attributes.bitsPerComponentSignificant == 12
        assert read.attributes.bitsPerComponentInMemory == 16


# ---- the container, by its bytes


def check_container(file: bytes) -> None:
    """What holds for every file that a microscope or the vendor's writer wrote."""
    chunks = chunks_of(file)
    start = chunk_at(file, 0)
    assert start.name_area == b"ND2 FILE SIGNATURE CHUNK NAME01!"
    assert start.data.rstrip(b"\0") in (b"Ver3.0", b"Ver2.1")
    assert len(start.data) == 64
    assert list(chunks) == sorted(chunks, reverse=True)
    assert len(file) % 4096 == 0
    for name, chunk in chunks.items():
        assert chunk.offset % 4096 == 0
        assert chunk.name_area.rstrip(b"\0") == name.encode()
        assert chunk.length_in_map == len(chunk.data)
        if name.startswith("ImageDataSeq"):
            assert len(chunk.name_area) == 4072
        elif not name.startswith("CustomDataSeq"):
            assert (chunk.offset + 16 + len(chunk.name_area) + len(chunk.data)) % 4096 == 0


@pytest.mark.corpus
@pytest.mark.parametrize("path", CORPUS_PARAMETERS, ids=lambda path: getattr(path, "name", None))
def test_real_containers_are_like_this(path: Path) -> None:
    check_container(path.read_bytes())


@pytest.mark.parametrize("version", CONTAINER_VERSIONS)
@pytest.mark.parametrize("frames", [1, 3, 400])
def test_container(frames: int, version: tuple[int, int]) -> None:
    file = written(
        pixels(frames, 5, 7), "TYX", timestamps=np.arange(frames), text_info={}, version=version
    )
    check_container(file)
    (map_offset,) = struct.unpack("<Q", file[-8:])
    assert len(chunk_at(file, map_offset).name_area) == 32 + 4096  # as in every recent file
    lv = "LV" if version == (3, 0) else ""
    metadata = [f"ImageMetadata{lv}!", f"ImageMetadataSeq{lv}|0!", f"ImageTextInfo{lv}!"]
    assert set(chunks_of(file)) == {
        *metadata,
        f"ImageAttributes{lv}!",
        "CustomData|AcqTimesCache!",
        *(f"ImageDataSeq|{i}!" for i in range(frames)),
    }
    assert chunks_of(file)[metadata[0]].data[:5] == (
        b"\x0b\x0eS\x00L" if version == (3, 0) else b"<?xml"
    )


@pytest.mark.parametrize(
    ("metadata_at", "order"),
    [
        ("start", "ImageMetadata ImageMetadataSeq frames ImageTextInfo Times ImageAttributes"),
        ("end", "ImageAttributes frames ImageMetadata ImageMetadataSeq ImageTextInfo Times"),
    ],
)
def test_where_the_metadata_lies(metadata_at: str, order: str) -> None:
    file = written(
        pixels(2, 5, 8),
        "TYX",
        metadata_at=metadata_at,
        map_order="sequence",
        timestamps=[0, 1],
        text_info={"date": "today"},
    )
    names = {
        "ImageMetadata": ["ImageMetadataLV!"],
        "ImageMetadataSeq": ["ImageMetadataSeqLV|0!"],
        "frames": ["ImageDataSeq|0!", "ImageDataSeq|1!"],
        "ImageTextInfo": ["ImageTextInfoLV!"],
        "Times": ["CustomData|AcqTimesCache!"],
        "ImageAttributes": ["ImageAttributesLV!"],
    }
    chunks = chunks_of(file)
    assert list(chunks) == [name for word in order.split() for name in names[word]]
    offsets = [chunk.offset for chunk in chunks.values()]
    assert offsets == sorted(offsets)


@pytest.mark.parametrize("name_area", [15, 64, 4072, 5000])
def test_name_area(name_area: int) -> None:
    data = pixels(3, 5, 8)
    file = written(data, "TYX", name_area=name_area)
    for i in range(3):
        chunk = chunks_of(file)[f"ImageDataSeq|{i}!"]
        assert len(chunk.name_area) == name_area
        start = chunk.offset + 16 + name_area + 8
        assert file[start : start + data[i].nbytes] == data[i].tobytes()


@pytest.mark.parametrize(
    "dtype", ["i1", "i2", "i4", "u1", "u2", "u4", "f2", "f4", "f8", ">u2", ">f8"]
)
def test_every_dtype(dtype: str) -> None:
    data = pixels(2, 3, 5, 7, dtype=dtype)
    pixel_type = {"i": 0, "u": 1, "f": 2}[data.dtype.kind]
    if data.dtype.kind != "u":
        data -= 125
    file = written(data, "TCYX", row_alignment=64)
    attributes = raw_attributes(file)
    assert attributes["PixelType"] == pixel_type
    assert attributes["BpcInMemory"] == attributes["BpcSignificant"] == 8 * data.itemsize
    stored = data.dtype.newbyteorder("<").str
    for i in range(2):
        found = frame_of(file, i, stored, attributes["WidthBytes"], 5, 7, 3)
        np.testing.assert_array_equal(found, data[i].transpose(1, 2, 0))


@pytest.mark.parametrize("samples", [3, 4])
def test_samples_run_faster_than_channels(samples: int) -> None:
    data = pixels(2, 5, 7, samples, dtype="uint8")
    file = written(data, "CYXS", row_alignment=1)
    found = frame_of(file, 0, "u1", 7 * 2 * samples, 5, 7, 2 * samples)
    stored = data[..., [2, 1, 0, 3][:samples]]  # Blue, Green, Red, Alpha
    np.testing.assert_array_equal(found.reshape(5, 7, 2, samples), stored.transpose(1, 2, 0, 3))
    with nd2.ND2File(io.BytesIO(file)) as read:
        assert read.attributes.componentCount == 2 * samples
        assert read.attributes.channelCount == 2


@pytest.mark.parametrize("level", [0, 1, 9])
def test_lossless_is_a_stream_of_the_padded_frame(level: int) -> None:
    data = pixels(2, 5, 7, dtype="uint8")
    file = written(data, "TYX", compression="lossless", compression_level=level)
    stream = chunks_of(file)["ImageDataSeq|1!"].data[8:]
    rows = np.pad(data[1], [(0, 0), (0, 1)])
    assert zlib.decompress(stream) == rows.tobytes()
    assert stream == zlib.compress(rows.tobytes(), level)
    with nd2.ND2File(io.BytesIO(file)) as read:
        assert read.attributes.compressionType == "lossless"
        assert read.attributes.compressionLevel == level


def test_lossy_is_junk_that_says_so() -> None:
    data = pixels(2, 50, 70)
    file = written(data, "TYX", compression="lossy")
    with nd2.ND2File(io.BytesIO(file)) as read:
        assert read.attributes.compressionType == "lossy"
        assert dict(read.sizes) == {"T": 2, "Y": 50, "X": 70}
    for i in range(2):
        junk = chunks_of(file)[f"ImageDataSeq|{i}!"].data[8:]
        assert 0 < len(junk) < data[i].nbytes
        assert junk not in data[i].tobytes()


@pytest.mark.parametrize("compression", [None, "lossless"])
def test_missing_frames_are_nowhere(compression: str | None) -> None:
    data = pixels(4, 2, 2, 5, 8)
    file = written(data, "TZCYX", missing=(0, 3, 6), compression=compression)
    frames = [name for name in chunks_of(file) if name.startswith("ImageDataSeq")]
    assert frames == [f"ImageDataSeq|{i}!" for i in (7, 5, 4, 2, 1)]
    assert file.count(b"ImageDataSeq|3!") == 0
    data.reshape(8, 2, 5, 8)[[0, 3, 6]] = 0
    with nd2.ND2File(io.BytesIO(file)) as read:
        assert read.attributes.sequenceCount == 8
        np.testing.assert_array_equal(read.asarray(), data)


# ---- where from, where to


def test_files_and_paths_get_the_same_bytes(tmp_path: Path) -> None:
    class Pipe:
        """Can only be written to."""

        def __init__(self) -> None:
            self.parts: list[bytes] = []

        def write(self, part: bytes) -> int:
            self.parts.append(bytes(part))
            return len(part)

    data = pixels(3, 5, 7)
    expected = written(data, "TYX")
    write_nd2(tmp_path / "path.nd2", data, "TYX")
    write_nd2(str(tmp_path / "text.nd2"), data, "TYX")
    pipe = Pipe()
    write_nd2(pipe, data, "TYX")  # type: ignore[arg-type]
    assert (tmp_path / "path.nd2").read_bytes() == expected
    assert (tmp_path / "text.nd2").read_bytes() == expected
    assert b"".join(pipe.parts) == expected


@pytest.mark.parametrize("dims", ["TYX", "TCYX", "TYXS"])
def test_a_callable_gives_the_same_bytes(dims: str) -> None:
    shape = {"T": 3, "C": 2, "Y": 5, "X": 7, "S": 3}
    data = pixels(*(shape[dim] for dim in dims), dtype="uint8")
    sizes = {dim: np.int64(shape[dim]) for dim in dims}
    expected = written(data, dims)
    assert written(lambda i: data[i], dims, sizes=sizes, dtype="uint8") == expected
    if "C" not in dims:
        assert written(lambda i: data[i][None], dims, sizes=sizes, dtype="uint8") == expected


def test_a_callable_is_asked_while_writing() -> None:
    file = io.BytesIO()
    asked = []

    def frame(i: int) -> NDArray[Any]:
        asked.append((i, file.tell()))
        return np.full((64, 64), i, "uint16")

    sizes = {"P": 2, "T": 3, "Y": 64, "X": 64}
    write_nd2(file, frame, "PTYX", sizes=sizes, dtype="uint16", missing=[4])
    assert [i for i, _ in asked] == [0, 1, 2, 3, 5]
    steps = np.diff([position for _, position in asked])
    assert steps.tolist() == [4096 + 2 * 64 * 64] * 4  # header, name and time; pixels


def test_non_contiguous_data() -> None:
    data = pixels(8, 5, 2, 3)[:, ::-1].transpose(3, 2, 1, 0)
    with opened(data, "TCYX") as read:
        np.testing.assert_array_equal(read.asarray(), data)


# ---- bad arguments

CALLABLE_ARGUMENTS: dict[str, Any] = {"data": lambda _: np.zeros((5, 8), "u1"), "dims": "TYX"}
CALLABLE_SIZES = {"T": 2, "Y": 5, "X": 8}


@pytest.mark.parametrize(
    ("message", "options"),
    [
        ("dims must be", {"dims": "TXY"}),
        ("dims must be", {"dims": "CTYX", "data": np.zeros((2, 2, 5, 8), "u1")}),
        ("dims must be", {"dims": "TTYX", "data": np.zeros((2, 2, 5, 8), "u1")}),
        ("dims must be", {"dims": "TYXQ", "data": np.zeros((2, 5, 8, 3), "u1")}),
        ("data has 3 axes", {"dims": "TZYX"}),
        ("not sizes", {"sizes": {"T": 3, "Y": 5, "X": 8}}),
        ("data has uint8, not uint16", {"dtype": "uint16"}),
        ("every size must be at least 1", {"data": np.zeros((2, 0, 8), "u1")}),
        ("S must be 3 or 4, not 2", {"dims": "YXS", "data": np.zeros((5, 8, 2), "u1")}),
        ("hold no int64", {"data": np.zeros((2, 5, 8), "int64")}),
        ("hold no bool", {"data": np.zeros((2, 5, 8), bool)}),
        ("hold no complex64", {"data": np.zeros((2, 5, 8), "complex64")}),
        ("callable needs sizes and dtype", CALLABLE_ARGUMENTS),
        ("callable needs sizes and dtype", {**CALLABLE_ARGUMENTS, "sizes": CALLABLE_SIZES}),
        ("callable needs sizes and dtype", {**CALLABLE_ARGUMENTS, "dtype": "u1"}),
        ("sizes are of", {**CALLABLE_ARGUMENTS, "dtype": "u1", "sizes": {"Y": 5, "X": 8, "T": 2}}),
        (
            r"frame 0 is uint8\(5, 8\), not",
            {**CALLABLE_ARGUMENTS, "dtype": "u2", "sizes": CALLABLE_SIZES},
        ),
        (
            r"frame 0 is .*\(5, 9\)",
            {**CALLABLE_ARGUMENTS, "dtype": "u1", "sizes": {**CALLABLE_SIZES, "X": 9}},
        ),
        ("2 channels are described, the image has 1", {"channels": ["a", "b"]}),
        ("pixel_size must be positive", {"pixel_size": 0}),
        ("z_step must not be 0", {"z_step": 0}),
        ("a period cannot be negative", {"period": -1}),
        ("a period cannot be negative", {"periods": [(1, 1), (1, -1)]}),
        ("periods have", {"periods": [(1, 1), (2, 1)]}),
        ("periods have", {"periods": [(2, 1), (0, 1)]}),
        ("periods have", {"periods": []}),
        ("dims have no T", {"dims": "ZYX", "periods": [(2, 1)]}),
        ("dims have no P", {"positions": ["A1"]}),
        ("3 names, P is 2", {"dims": "PYX", "positions": ["A1", "A2", "A3"]}),
        ("must be 2 of", {"dims": "PYX", "stage_positions": [(1, 2, 3)]}),
        ("must be 2 of", {"dims": "PYX", "stage_positions": [(1, 2), (3, 4)]}),
        ("timestamps have shape", {"timestamps": [0, 1, 2]}),
        ("row_alignment must be at least 1", {"row_alignment": 0}),
        ("compression must be one of", {"compression": "zip"}),
        ("compression_level is 10", {"compression_level": 10}),
        (r"missing has frames.*\[2\]", {"missing": [2]}),
        (r"missing has frames.*\[-1\]", {"missing": [-1]}),
        ("version must be one of", {"version": (1, 0)}),
        ("metadata_at must be one of", {"metadata_at": "middle"}),
        ("map_order must be one of", {"map_order": "random"}),
        ("text_info has no", {"text_info": {"colour": "red"}}),
        ("name_area must be at least 15", {"name_area": 14}),
        ("bits_significant is 9 of 8", {"bits_significant": 9}),
        ("bits_significant is 0 of 8", {"bits_significant": 0}),
        ("cannot hold", {"channels": ["a\0b"]}),
        ("4 channels are described, the image has 1", {"channels": [Channel("a", components=4)]}),
        (
            "the image has an S axis",
            {
                "dims": "CYXS",
                "data": np.zeros((3, 5, 8, 3), "u1"),
                "channels": [Channel("a", components=3)],
            },
        ),
        ("camera_to_stage must be four", {"camera_to_stage": [1, 0, 0]}),
        ("isoformat", {"start": "yesterday"}),
        ("start is no time", {"start": np.datetime64("NaT")}),
        ("a period cannot be negative", {"average_period": -1}),
        ("a period cannot be negative", {"periods": [(2, 1, -1)]}),
        ("dims have no T", {"dims": "ZYX", "average_period": 1}),
        ("period is given for .'T2'., such loops are .'T'.", {"period": {"T2": 1}}),
        ("z_step must not be 0", {"dims": "ZYX", "z_step": {"Z": 0}}),
        ("z_home is 2, planes are 0 to 1", {"dims": "ZYX", "z_home": 2}),
        ("z_home is -1", {"dims": "ZYX", "z_home": -1}),
        ("dims have no Z", {"z_home": 0}),
        ("dims have no P", {"skipped_points": [0]}),
        ("skipped_points are not among 0 to 2", {"dims": "PYX", "skipped_points": [3]}),
        ("2 names, P is 3", {"dims": "PYX", "skipped_points": [1], "positions": ["a", "b"]}),
        ("stage_positions is given for .'Q'.", {"dims": "PYX", "stage_positions": {"Q": []}}),
        ("stage_positions is given for .'P'.", {"stage_positions": {"P": [(1, 2, 3)]}}),
        ("planned has .'Z'., the loops are .'T'.", {"planned": {"Z": 2}}),
        ("planned is", {"planned": {"T": -1}}),
        ("loop_kinds has .'Y'.", {"loop_kinds": {"Y": 3}}),
        (r"recorded 'X' has shape \(1,\)", {"recorded": {"X": [1.0]}}),
        ("beyond 32 bits", {"recorded": {"I": [0, 2**31]}}),
        ("cannot hold complex128", {"recorded": {"I": [0, 1j]}}),
        ("more than 255 characters", {"recorded": {"I": ["", "a" * 256]}}),
        ("cannot be called 'a!'", {"recorded": {"a!": [1.0, 2.0]}}),
        ("cannot be called 'µ'", {"recorded": {"µ": [1.0, 2.0]}}),
    ],
)
def test_bad_arguments(message: str, options: dict[str, Any], tmp_path: Path) -> None:
    arguments = {"data": np.zeros((2, 5, 8), "u1"), "dims": "TYX", **options}
    path = tmp_path / "bad.nd2"
    with pytest.raises(ValueError, match=message):
        write_nd2(path, **arguments)
    # Only what a callable returns cannot be known before the file is open.
    assert path.exists() == message.startswith(r"frame 0")


@pytest.mark.parametrize("color", ["red", "#fff", "#gggggg", "#ffffff\n"])
def test_bad_color(color: str) -> None:
    with pytest.raises(ValueError, match="#rrggbb"):
        Channel("DAPI", color=color)


@pytest.mark.parametrize(
    ("message", "options"),
    [
        ("components must be 1, 3 or 4, not 2", {"components": 2}),
        ("excitation must be in whole nm, not 488.5", {"excitation": 488.5}),
        ("excitation must be in whole nm", {"excitation": [488, 0]}),
        ("laser_power is given without excitation", {"laser_power": 5}),
        ("modality is of .*, not .'fluorescent'.", {"modality": "fluorescent"}),
    ],
)
def test_bad_channel(message: str, options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=message):
        Channel("DAPI", **options)


# ---- the encodings of metadata

METADATA_TEXTS = st.text(
    st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\ufeff\ufffe\uffff")
    | st.sampled_from("\r\n\t"),
    max_size=12,
)
VALUE_NAMES = st.text("abcXYZ019_", max_size=6).map("X{}".format)
NAMED_VALUES = st.one_of(
    st.tuples(VALUE_NAMES.map("ui{}".format), st.integers(0, 2**64 - 1)),
    st.tuples(VALUE_NAMES.map("i{}".format), st.integers(-(2**63), 2**63 - 1)),
    st.tuples(VALUE_NAMES.map("d{}".format), st.floats(allow_nan=False)),
    st.tuples(VALUE_NAMES.map("b{}".format), st.booleans()),
    st.tuples(VALUE_NAMES.map("ws{}".format), METADATA_TEXTS),
)
METADATA_TREES = st.recursive(
    st.lists(NAMED_VALUES, min_size=1, max_size=4).map(dict),
    lambda tree: st.dictionaries(
        VALUE_NAMES.map("p{}".format), tree | st.lists(tree, max_size=3), min_size=1, max_size=3
    ),
    max_leaves=12,
)
TREE_ENCODINGS = [
    pytest.param(lite_variant, json_from_clx_lite_variant, id="lite"),
    pytest.param(variant_xml, json_from_clx_variant, id="xml"),
]


def as_nd2_says(value: Any) -> Any:
    """Lists become mappings with the names ``i0000000000``, ``i0000000001``…."""
    if isinstance(value, list):
        return {f"i{i:010}": as_nd2_says(item) for i, item in enumerate(value)}
    if isinstance(value, dict):
        return {name: as_nd2_says(item) for name, item in value.items()}
    return value


@pytest.mark.parametrize(("encode", "decode"), TREE_ENCODINGS)
@given(tree=METADATA_TREES)
def test_trees_come_back(encode: Any, decode: Any, tree: dict[str, Any]) -> None:
    assert decode(encode({"Root": tree}), strip_prefix=False) == {"Root": as_nd2_says(tree)}


@pytest.mark.parametrize(
    ("name", "value", "code", "runtype", "body"),
    [
        ("bUsed", True, 1, "bool", b"\x01"),
        ("bUsed", 0, 1, "bool", b"\x00"),
        ("iCount", 5, 2, "lx_int32", b"\x05\0\0\0"),
        ("eType", 5, 2, "lx_int32", b"\x05\0\0\0"),
        ("Other", -5, 2, "lx_int32", b"\xfb\xff\xff\xff"),
        ("uiCount", 2**32 - 1, 3, "lx_uint32", b"\xff\xff\xff\xff"),
        ("m_uiColor", 7, 3, "lx_uint32", b"\x07\0\0\0"),
        ("iBig", 2**31, 4, "lx_int64", b"\0\0\0\x80\0\0\0\0"),
        ("uiBig", 2**32, 5, "lx_uint64", b"\0\0\0\0\x01\0\0\0"),
        ("dStep", 2, 6, "double", struct.pack("<d", 2.0)),
        ("dStep", 0.1, 6, "double", struct.pack("<d", 0.1)),
        ("wsName", "aµ", 8, "CLxStringW", b"a\0\xb5\0\0\0"),
        ("baData", b"\1\2", 9, "CLxByteArray", b"\x02\0\0\0\0\0\0\0\1\2"),
        ("bFlag", Typed(1, ValueType.INT32), 2, "lx_int32", b"\1\0\0\0"),
        ("Rows", Typed(2, ValueType.UINT32), 3, "lx_uint32", b"\2\0\0\0"),
        ("uiMask", Typed(257, ValueType.UINT64), 5, "lx_uint64", b"\1\1\0\0\0\0\0\0"),
        ("pItemValid", Flags([True, False]), 9, "CLxListVariant", b"\x02\0\0\0\0\0\0\0\1\0"),
    ],
)
def test_types_of_values(name: str, value: Any, code: int, runtype: str, body: bytes) -> None:
    encoded = name.encode("utf-16-le") + b"\0\0"
    assert lite_variant({name: value}) == bytes([code, len(name) + 1]) + encoded + body
    assert f'<{name} runtype="{runtype}"'.encode() in variant_xml({name: value})


def test_flags_of_both_encodings() -> None:
    tree = {"pItemValid": Flags([True, False, True])}
    lite = json_from_clx_lite_variant(lite_variant(tree), strip_prefix=False)
    assert lite == {"pItemValid": [1, 0, 1]}
    assert b'<_01 runtype="bool" value="false" />' in variant_xml(tree)
    xml = json_from_clx_variant(variant_xml(tree))
    assert xml == {"pItemValid": {"_00": True, "_01": False, "_02": True}}


def test_offsets_of_a_level_are_sorted_by_name() -> None:
    encoded = lite_variant({"L": {"iB": 1, "iA": 2}})
    head = 2 + 2 * len("L\0") + 12
    record = 2 + 2 * len("iA\0") + 4
    count, length = struct.unpack("<IQ", encoded[head - 12 : head])
    assert (count, length) == (2, head + 2 * record)
    assert struct.unpack("<QQ", encoded[length:]) == (head + record, head)


@pytest.mark.corpus
@pytest.mark.parametrize("path", CORPUS_PARAMETERS, ids=lambda path: getattr(path, "name", None))
def test_real_texts_are_encoded_alike(path: Path) -> None:
    chunk = chunks_of(path.read_bytes()).get("ImageTextInfoLV!")
    if chunk is None:
        pytest.skip("the file has no texts")
    tree = json_from_clx_lite_variant(chunk.data, strip_prefix=False)
    assert lite_variant(tree) == chunk.data  # type: ignore[arg-type]


@pytest.mark.parametrize("encode", [lite_variant, variant_xml])
@pytest.mark.parametrize(
    ("tree", "error"),
    [
        ({"uiCount": -1}, ValueError),
        ({"uiCount": 2**64}, ValueError),
        ({"iCount": 2**63}, ValueError),
        ({"wsName": "a\0b"}, ValueError),
        ({"wsName": "\ud800"}, ValueError),
        ({"pNothing": None}, TypeError),
        ({"dComplex": 1j}, TypeError),
    ],
)
def test_what_metadata_cannot_hold(
    encode: Any, tree: Mapping[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error, match=next(iter(tree))):
        encode(tree)


def test_names_of_lite_variants_are_short() -> None:
    longest = "x" * 254
    assert json_from_clx_lite_variant(lite_variant({longest: 1}), False) == {longest: 1}
    with pytest.raises(ValueError, match="more than 254 characters"):
        lite_variant({longest + "x": 1})
