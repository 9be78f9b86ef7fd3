"""Whatever is wrong with a file, the error is one of the tree and names the file."""

from __future__ import annotations

import io
import pickle
import re
import struct
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import xarray as xr

import xarray_nd2
from tests.damage import rewritten
from tests.variants import VARIANTS
from xarray_nd2 import (
    ND2ChangedError,
    ND2Error,
    ND2FormatError,
    ND2NotFoundError,
    ND2PermissionError,
    ND2SourceError,
    ND2UnsupportedError,
)
from xarray_nd2.format.container import FILE_FOOTER, MAP_SIGNATURE
from xarray_nd2.testing import write_nd2

if TYPE_CHECKING:
    from pathlib import Path

    from xarray_nd2.testing import RangeServer, S3Server


def example(**options: Any) -> bytearray:
    file = io.BytesIO()
    frames = np.random.default_rng(1).integers(0, 2**12, (4, 2, 60, 50)).astype("uint16")
    write_nd2(file, frames, "TCYX", timestamps=[1.0, 2.0, 3.0, 4.0], **options)
    return bytearray(file.getvalue())


def read_all(target: Any, **options: Any) -> xr.Dataset:
    return xr.open_dataset(target, engine="nd2", **options).load()


def entry(data: bytearray, name: bytes) -> int:
    """Position in the file of a chunk's offset in the chunk map."""
    location = FILE_FOOTER.unpack(data[-40:])[1]
    return data.index(name, location) + len(name)


@pytest.mark.parametrize(
    "error", [getattr(xarray_nd2, name) for name in xarray_nd2.__all__ if "Error" in name]
)
def test_errors_pickle(error: type[ND2Error]) -> None:
    original = error("frame 3 is lost", "s3://bucket/run.nd2")
    copy = pickle.loads(pickle.dumps(original))
    assert type(copy) is error
    assert str(copy) == str(original) == "s3://bucket/run.nd2: frame 3 is lost"
    assert copy.url == "s3://bucket/run.nd2"


def test_errors_are_builtins_too() -> None:
    assert issubclass(ND2FormatError, ValueError)
    assert issubclass(ND2UnsupportedError, NotImplementedError)
    assert issubclass(ND2SourceError, OSError)
    assert issubclass(ND2NotFoundError, (ND2SourceError, FileNotFoundError))
    assert issubclass(ND2PermissionError, PermissionError)
    assert issubclass(ND2ChangedError, ND2SourceError)


@pytest.mark.parametrize(
    ("content", "error", "message"),
    [
        (b"", ND2FormatError, "empty"),
        (b"<!DOCTYPE html><html>Please log in</html>" * 99, ND2FormatError, "not an ND2 file"),
        (b"II*\0" + bytes(9999), ND2FormatError, "not an ND2 file"),
        (b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(9999), ND2FormatError, "no map of boxes"),
        (bytes(example(compression="lossy")), ND2UnsupportedError, "lossy"),
    ],
    ids=["empty", "html", "tiff", "legacy", "lossy"],
)
@pytest.mark.parametrize("way", ["path", "http", "s3"])
def test_other_files(
    content: bytes,
    error: type[Exception],
    message: str,
    way: str,
    tmp_path: Path,
    http: RangeServer,
    s3: S3Server,
) -> None:
    options = {}
    target = str(tmp_path / "other.nd2")
    if way == "path":
        (tmp_path / "other.nd2").write_bytes(content)
    elif way == "http":
        http.put("other.nd2", content)
        target = http.url("other.nd2")
    else:
        s3.put("bucket", "other.nd2", content)
        target, options = "s3://bucket/other.nd2", {"storage_options": s3.storage_options}
    with pytest.raises(error, match=message) as caught:
        read_all(target, **options)
    assert target in str(caught.value)


@pytest.mark.parametrize("name", ["time-stack-channels", "lossless", "xml"])
def test_truncated_anywhere(name: str, tmp_path: Path) -> None:
    path = VARIANTS[name].write(tmp_path / "run.nd2")
    data = path.read_bytes()
    cuts = {0, 1, 15, 16, 100, 111, 112, 4096, 5000, len(data) - 1, len(data) - 40, len(data) - 41}
    for cut in sorted(cuts | set(range(0, len(data), len(data) // 40))):
        path.write_bytes(data[:cut])
        with pytest.raises(ND2FormatError, match="run.nd2: "):
            read_all(path)


@pytest.mark.parametrize("location", [0, 1, 5000, 2**40, 2**63])
def test_map_elsewhere(location: int, tmp_path: Path) -> None:
    data = example()
    data[-40:] = FILE_FOOTER.pack(MAP_SIGNATURE, location)
    path = tmp_path / "run.nd2"
    path.write_bytes(data)
    with pytest.raises(ND2FormatError, match="run.nd2: .*chunk"):
        read_all(path)


def test_frame_outside_of_the_file(tmp_path: Path) -> None:
    data = example()
    struct.pack_into("<Q", data, entry(data, b"ImageDataSeq|2!"), 2**40)
    path = tmp_path / "run.nd2"
    path.write_bytes(data)
    ds = xr.open_dataset(path)
    assert ds.image.isel(T=[0, 1, 3]).load().any()  # the others can still be read
    with pytest.raises(ND2FormatError, match="run.nd2: frame 2 "):
        ds.image.isel(T=2).load()


def test_every_frame_outside_of_the_file(tmp_path: Path) -> None:
    data = example()
    for i in range(4):
        struct.pack_into("<Q", data, entry(data, b"ImageDataSeq|%d!" % i), 2**40 + i * 8192)
    path = tmp_path / "run.nd2"
    path.write_bytes(data)
    with pytest.raises(ND2FormatError, match="every frame is said to lie outside"):
        xr.open_dataset(path)


def test_frame_on_something_else(tmp_path: Path) -> None:
    """An entry that points into another chunk must not give that chunk's bytes as pixels."""
    data = example()
    struct.pack_into("<Q", data, entry(data, b"ImageDataSeq|2!"), 4096)
    path = tmp_path / "run.nd2"
    path.write_bytes(data)
    ds = xr.open_dataset(path)
    with pytest.raises(
        ND2FormatError, match="frame 2 cannot be read: .* no header of a chunk tells"
    ):
        ds.image.isel(T=2).load()


DAMAGE_OF_A_CHUNK = ["absent", "zeros", "noise", "outside", "header"]


def with_damaged_chunk(data: bytearray, name: bytes, damage: str) -> bytes:
    place = entry(data, name)
    offset, length = struct.unpack_from("<QQ", data, place)
    name_length = struct.unpack_from("<I", data, offset + 4)[0]
    body = slice(offset + 16 + name_length, offset + 16 + name_length + length)
    if damage == "absent":
        data[place - len(name) : place] = b"Other" + name[5:]
    elif damage == "zeros":
        data[body] = bytes(length)
    elif damage == "noise":
        data[body] = np.random.default_rng(0).bytes(length)
    elif damage == "outside":
        struct.pack_into("<Q", data, place, len(data) - 7)
    elif damage == "header":
        data[offset : offset + 4] = b"oops"
    return bytes(data)


@pytest.mark.parametrize("damage", DAMAGE_OF_A_CHUNK)
def test_damaged_attributes(damage: str, tmp_path: Path) -> None:
    path = tmp_path / "run.nd2"
    path.write_bytes(with_damaged_chunk(example(), b"ImageAttributesLV!", damage))
    with pytest.raises(ND2FormatError, match="run.nd2: .*attributes|run.nd2: .*ImageAttributesLV"):
        read_all(path)


def odd_dataset(data: bytes, warning: str) -> xr.Dataset:
    """Open a file that gives the one warning; some of what it should say matches."""
    with pytest.warns(UserWarning, match="<BytesIO>: some of the metadata is odd: ") as caught:
        ds = xr.open_dataset(io.BytesIO(data), engine="nd2").load()
    assert [re.search(warning, str(one.message)) is not None for one in caught] == [True]
    return ds


@pytest.mark.parametrize("damage", DAMAGE_OF_A_CHUNK)
def test_damaged_picture(damage: str) -> None:
    """Labels that it tells are neutral, all others stand."""
    sound = read_all(io.BytesIO(example()))
    ds = odd_dataset(
        with_damaged_chunk(example(), b"ImageMetadataSeqLV|0!", damage), "ImageMetadataSeqLV.0"
    )
    xr.testing.assert_equal(ds.image.variable, sound.image.variable)
    for name in ("T", "time"):
        xr.testing.assert_identical(ds[name].variable, sound[name].variable)
    assert ds.C.values.tolist() == ["C0", "C1"]
    assert ds.color.values.tolist() == ds.modality.values.tolist() == ["", ""]
    for name in ("emission", "excitation", "exposure", "pinhole"):
        assert ds[name].dims == ("C",)
        assert ds[name].isnull().all()
    for dim in "YX":
        assert ds[dim].values.tolist() == list(range(ds.sizes[dim]))
        assert ds[dim].attrs["units"] == "1"
    assert not {"stage_x", "stage_y", "stage_z", "acquired"} & set(ds.coords)
    assert "pixel_size_um" not in ds.image.attrs
    assert "start" not in ds.attrs


@pytest.mark.parametrize("damage", DAMAGE_OF_A_CHUNK)
def test_damaged_experiment(damage: str) -> None:
    """Frames are numbered; what is known of channels and pixels stands."""
    sound = read_all(io.BytesIO(example()))
    ds = odd_dataset(
        with_damaged_chunk(example(), b"ImageMetadataLV!", damage),
        "numbered along U$",
    )
    assert ds.image.dims == ("U", "C", "Y", "X")
    assert ds.U.values.tolist() == [0, 1, 2, 3]
    np.testing.assert_array_equal(ds.image.values, sound.image.values)
    assert ds.time.dims == ("U",)
    assert ds.time.values.tolist() == [0, 1, 2, 3]
    kept = ["C", "Y", "X", "color"]
    for name in kept:
        xr.testing.assert_identical(ds[name].variable, sound[name].variable)


@pytest.mark.parametrize("damage", DAMAGE_OF_A_CHUNK)
def test_damaged_times(damage: str) -> None:
    """T follows the experiment; of noise those numbers are taken that could be times."""
    data = with_damaged_chunk(example(), b"CustomData|AcqTimesCache!", damage)
    if damage in ("outside", "header", "noise"):
        ds = odd_dataset(data, "AcqTimesCache")
    else:
        ds = read_all(io.BytesIO(data))
    sound = read_all(io.BytesIO(example()))
    np.testing.assert_array_equal(ds.image.values, sound.image.values)
    assert ds["T"].values.tolist() == [0, 1, 2, 3]
    if damage == "noise":
        assert np.nanmax(np.abs(ds.time.values)) < 4e9
    else:
        assert set(ds.coords) == set(sound.coords) - {"time"}


def test_damaged_texts() -> None:
    sound = read_all(io.BytesIO(example(text_info={"author": "R. Hooke"})))
    assert sound.attrs["author"] == "R. Hooke"
    data = example(text_info={"author": "R. Hooke"})
    ds = odd_dataset(with_damaged_chunk(data, b"ImageTextInfoLV!", "noise"), "ImageTextInfoLV")
    assert "author" not in ds.attrs
    xr.testing.assert_identical(ds.image, sound.image)


def test_lossless_frame_damaged(tmp_path: Path) -> None:
    path = VARIANTS["lossless"].write(tmp_path / "run.nd2")
    data = bytearray(path.read_bytes())
    offset = struct.unpack_from("<Q", data, entry(data, b"ImageDataSeq|1!"))[0]
    data[offset + 4096 + 40 : offset + 4096 + 60] = bytes(20)
    path.write_bytes(data)
    ds = xr.open_dataset(path)
    with pytest.raises(ND2FormatError, match="run.nd2: frame 1 does not inflate"):
        ds.image.load()


def test_bit_flips_never_raise_anything_else(tmp_path: Path) -> None:
    """Errors of the tree or an image, for noise in whatever is not pixels."""
    original = example()
    rng = np.random.default_rng(11)
    path = tmp_path / "run.nd2"
    failed = 0
    for _ in range(150):
        data = bytearray(original)
        for at in rng.integers(0, len(data), rng.integers(1, 60)):
            data[at] ^= 1 << rng.integers(0, 8)
        path.write_bytes(data)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                read_all(path)
        except ND2Error as error:
            failed += 1
            assert error.url == str(path)  # noqa: PT017
    assert failed > 20


def test_missing_file(tmp_path: Path, http: RangeServer, s3: S3Server) -> None:
    for target, options in (
        (str(tmp_path / "no.nd2"), {}),
        ("memory://nowhere/no.nd2", {}),
        (http.url("no.nd2"), {}),
        ("s3://bucket/no.nd2", {"storage_options": s3.storage_options}),
        ("s3://nobucket/no.nd2", {"storage_options": s3.storage_options}),
    ):
        with pytest.raises(FileNotFoundError) as caught:
            xr.open_dataset(target, engine="nd2", **options)  # type: ignore[arg-type]
        assert isinstance(caught.value, ND2NotFoundError)
        assert target in str(caught.value)


def test_directory(tmp_path: Path) -> None:
    with pytest.raises(ND2SourceError, match="is a directory"):
        xr.open_dataset(tmp_path, engine="nd2")


def test_no_permission(http: RangeServer) -> None:
    from xarray_nd2.testing import Fault

    http.put("run.nd2", bytes(example()))
    http.faults = lambda *_: Fault(403)
    with pytest.raises(ND2PermissionError, match="run.nd2: access was refused"):
        xr.open_dataset(http.url("run.nd2"))


def test_unknown_protocol() -> None:
    with pytest.raises(ND2SourceError, match="nowhere://x/run.nd2: connecting"):
        xr.open_dataset("nowhere://x/run.nd2", engine="nd2")


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"max_gap": -1}, ValueError, "max_gap must be"),
        ({"max_gap": 1.5}, TypeError, "float"),
        ({"version": 3}, TypeError, "version must be an entity tag, not int"),
        ({"max_concurrency": 0}, ValueError, "max_concurrency must be"),
        ({"max_concurrency": 2.5}, TypeError, "float"),
        ({"missing_frames": "nan"}, ValueError, "missing_frames must be"),
    ],
)
def test_options(
    options: dict[str, Any], error: type[Exception], message: str, tmp_path: Path
) -> None:
    with pytest.raises(error, match=message):
        xr.open_dataset(tmp_path / "run.nd2", engine="nd2", **options)


def test_name_areas_that_lead_astray() -> None:
    """An empty chunk, the data of which would lie where nothing was read yet."""
    file = io.BytesIO()
    frames = np.arange(40 * 128 * 128, dtype="uint16").reshape(40, 1, 128, 128)
    write_nd2(file, frames, "TCYX")
    for name in (b"ImageMetadataSeqLV|0!", b"ImageAttributesLV!"):
        data = bytearray(file.getvalue())
        at = data.index(name) - 16
        data[at : at + 16] = struct.pack("<IIQ", 0x0ABECEDA, 600_000, 0)
        if name == b"ImageAttributesLV!":
            with pytest.raises(ND2FormatError):
                xr.open_dataset(io.BytesIO(bytes(data)), engine="nd2")
        else:
            ds = odd_dataset(bytes(data), "ImageMetadataSeqLV.0")
            np.testing.assert_array_equal(ds.image.values, frames)
            assert ds.C.values.tolist() == ["C0"]


@pytest.mark.parametrize("rescue", [False, True])
def test_name_areas_without_padding(rescue: bool) -> None:
    """Then the data of frame 10 starts one byte later in its chunk than that of frame 9."""
    frames = np.random.default_rng(0).integers(0, 60000, (101, 33, 40)).astype("u2")
    file = io.BytesIO()
    write_nd2(file, frames, "TYX", metadata_at="end")
    data = rewritten(file.getvalue(), {}, least_name_area=0)
    if rescue:
        data = data[: FILE_FOOTER.unpack(data[-40:])[1]]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ds = xr.open_dataset(io.BytesIO(data), engine="nd2", rescue=rescue)
    np.testing.assert_array_equal(ds.image.squeeze("C").values, frames)


def test_changed_file(tmp_path: Path) -> None:
    path = VARIANTS["frame"].write(tmp_path / "run.nd2")
    ds = xr.open_dataset(path)
    VARIANTS["time"].write(path)
    with pytest.raises(ND2ChangedError, match="run.nd2: the object has changed"):
        ds.load()


def test_changed_object(http: RangeServer) -> None:
    http.put("run.nd2", bytes(example()))
    ds = xr.open_dataset(http.url("run.nd2"), chunks={})
    changed = example()
    changed[-9000] ^= 1  # of the same size
    http.put("run.nd2", bytes(changed))
    with pytest.raises(ND2ChangedError, match="run.nd2: the object has changed"):
        ds.image.compute()


def test_version(http: RangeServer) -> None:
    http.put("run.nd2", bytes(example()))
    url = http.url("run.nd2")
    with pytest.raises(ND2ChangedError, match="version abc was asked for"):
        xr.open_dataset(url, version="abc")
    import urllib.request

    with urllib.request.urlopen(url) as response:
        tag = response.headers["ETag"]
    ds = xr.open_dataset(url, version=tag, chunks={})
    assert ds.image.data.name != xr.open_dataset(url, chunks={}).image.data.name
