"""Wells of a plate: labels of the points, true or absent, whatever becomes of the chunks."""

from __future__ import annotations

import io
import json
import warnings
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import xarray as xr

from tests.metadata.damaged import chunks_of, with_chunks
from xarray_nd2.testing import Plate, Well, write_nd2
from xarray_nd2.testing.variant import lite_variant

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from xarray_nd2.testing import RangeServer

WELLS, PLATE = b"CustomData|WellPlateFrameInfoZJSON!", b"CustomData|WellPlateDesc_0!"
LABELS = ("well", "well_row", "well_column")
SIZES = {"T": 2, "P": 3, "Z": 2}
NAMES = ["A01", "B03", "H12"]


def written(sizes: dict[str, int] | None = None, **options: Any) -> bytes:
    sizes = (SIZES if sizes is None else sizes) | {"Y": 6, "X": 8}
    file = io.BytesIO()
    frames = np.arange(np.prod(list(sizes.values()))).reshape(tuple(sizes.values()))
    write_nd2(file, frames.astype("uint16"), list(sizes), **{"wells": NAMES, **options})
    return file.getvalue()


def opened(data: bytes, **options: Any) -> tuple[xr.Dataset, list[str]]:
    """The image, and what is warned of."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        ds = xr.open_dataset(io.BytesIO(data), engine="nd2", **options)
    assert {one.category for one in caught} <= {UserWarning}
    return ds, [str(one.message) for one in caught]


def frames_of(data: bytes) -> list[dict[str, Any]]:
    frames: list[dict[str, Any]] = json.loads(zlib.decompress(chunks_of(data)[WELLS]))
    return frames


def with_frames(data: bytes, frames: Any) -> bytes:
    return with_chunks(data, {WELLS: zlib.compress(json.dumps(frames).encode())})


@pytest.mark.parametrize("version", [(3, 0), (2, 1)])
def test_wells_along_points(version: tuple[int, int]) -> None:
    ds, told = opened(written(version=version), chunks={})
    assert not told
    assert ds.well.dims == ds.well_row.dims == ds.well_column.dims == ("P",)
    assert ds.well.values.tolist() == NAMES
    assert ds.well_row.values.tolist() == [0, 1, 7]
    assert ds.well_column.values.tolist() == [0, 2, 11]
    assert ds.well_row.dtype == ds.well_column.dtype == np.int64
    assert ds.well.attrs == {
        "long_name": "well",
        "plate": "96 Well Plate",
        "plate_rows": 8,
        "plate_columns": 12,
        "plate_row_naming": "letters",
        "plate_column_naming": "numbers",
    }
    assert ds.well_row.attrs["comment"] == "from 0"
    assert isinstance(ds.well.variable._data, np.ndarray)
    assert ds.image.where(ds.well == "B03", drop=True).sizes["P"] == 1


def test_no_wells() -> None:
    ds, told = opened(written(wells=None))
    assert not told
    assert not set(LABELS) & set(ds.coords)
    ds, told = opened(with_chunks(written(), {WELLS: None}))  # a plate alone says nothing
    assert not told
    assert not set(LABELS) & set(ds.coords)


@pytest.mark.parametrize("sizes", [{}, {"T": 3, "Z": 2}])
def test_a_single_well(sizes: dict[str, int]) -> None:
    ds, told = opened(written(sizes, wells=[Well("C4", 2, 3)]))
    assert not told
    assert [ds[label].dims for label in LABELS] == [()] * 3
    assert [ds[label].item() for label in LABELS] == ["C4", 2, 3]


def test_wells_of_the_inner_points() -> None:
    """Of two loops over points the one that has a well for each step."""
    data = written({"P": 3, "P2": 2}, wells=NAMES)
    ds, _ = opened(data)
    assert ds.well.dims == ("P",)
    inner = [{**frame, "wellName": f"A{frame['seqIndex'] % 2}"} for frame in frames_of(data)]
    for frame in inner:
        frame |= {"wellRowIndex": 0, "wellColIndex": frame["seqIndex"] % 2}
    ds, told = opened(with_frames(data, inner))
    assert not told
    assert ds.well2.dims == ds.well_row2.dims == ("P2",)
    assert ds.well2.values.tolist() == ["A0", "A1"]
    assert "well" not in ds.coords


def test_wells_without_a_plate() -> None:
    ds, told = opened(with_chunks(written(), {PLATE: None}))
    assert not told
    assert ds.well.values.tolist() == NAMES
    assert ds.well.attrs == {"long_name": "well"}


def test_compact_names() -> None:
    data = written()
    frames = [
        {**frame, "wellName": "", "wellCompactName": frame["wellName"][:1] + "7"}
        for frame in frames_of(data)
    ]
    ds, told = opened(with_frames(data, frames))
    assert not told
    assert ds.well.values.tolist() == ["A7", "B7", "H7"]


def test_several_plates() -> None:
    """What is told of the first plate is not said of wells of others."""
    data = written()
    frames = [{**frame, "plateIndex": frame["seqIndex"] % 2} for frame in frames_of(data)]
    ds, told = opened(with_frames(data, frames))
    assert not told
    assert ds.well.attrs == {"long_name": "well"}


def test_frames_that_were_never_taken_need_no_well() -> None:
    """An acquisition that was stopped tells wells of the frames that there are."""
    data = written(missing=[10, 11])
    ds, told = opened(with_frames(data, frames_of(data)[:10]))
    assert [text for text in told if "odd" in text] == []
    assert ds.well.values.tolist() == NAMES


def test_a_frame_lacks() -> None:
    data = written()
    ds, (told,) = opened(with_frames(data, frames_of(data)[:-1]))
    assert "well is not the same, or not told, for all frames of a point" in told
    assert ds.well.values.tolist() == ["A01", "B03", ""]
    np.testing.assert_array_equal(ds.well_row.values, [0, 1, np.nan])


@pytest.mark.parametrize("same_frame", [False, True])
def test_contradictions(same_frame: bool) -> None:
    """Frames of a point in two wells, or a frame in two: the point has none."""
    data = written()
    frames = frames_of(data)
    other = {**frames[0], "wellName": "G09"}
    frames = [*frames, other] if same_frame else [other, *frames[1:]]
    ds, (told,) = opened(with_frames(data, frames))
    assert "well is not the same" in told
    assert ds.well.values.tolist() == ["", "B03", "H12"]
    assert ds.well_row.values.tolist() == [0, 1, 7]  # which they agree about


def test_frames_beyond_the_image_do_not_count() -> None:
    data = written()
    extra = [{**frames_of(data)[0], "seqIndex": n, "wellName": "G09"} for n in (12, 10**9, 2**62)]
    ds, told = opened(with_frames(data, frames_of(data) + extra))
    assert not told
    assert ds.well.values.tolist() == NAMES


ODD_VALUES: list[Any] = [
    "deleted",
    None,
    [],
    {},
    "",
    "x",
    "\0",
    "\ud800",
    "a\nb",
    -1,
    1.5,
    True,
    2**70,
    1e400,
]


@pytest.mark.parametrize("value", ODD_VALUES, ids=repr)
@pytest.mark.parametrize("key", ["seqIndex", "wellName", "wellRowIndex", "wellColIndex"])
@pytest.mark.parametrize("every", [False, True], ids=["one", "every"])
def test_odd_values(key: str, value: Any, every: bool) -> None:
    """A key that is missing or of another kind costs its own label, of the points it is said of."""
    if key == "wellName" and value == "x":
        pytest.skip("a name like another")
    data = written()
    frames = frames_of(data)
    for frame in frames if every else frames[:1]:
        if value == "deleted":
            del frame[key]
        else:
            frame[key] = value
    ds, (told,) = opened(with_frames(data, frames))
    assert f"{WELLS.decode()[:-1]}/{key} is" in told
    whole, _ = opened(written())
    np.testing.assert_array_equal(ds.image.values, whole.image.values)
    for label, of in zip(LABELS, ("wellName", "wellRowIndex", "wellColIndex"), strict=True):
        if key not in (of, "seqIndex"):
            assert ds[label].variable.identical(whole[label].variable), label
        elif every:
            assert label not in ds.coords
        else:
            np.testing.assert_array_equal(ds[label].values[1:], whole[label].values[1:])
            assert ds[label].values[0] != whole[label].values[0]


def deep(opening: str, closing: str, depth: int = 100_000) -> bytes:
    return (opening * depth + closing * depth).encode()


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda chunk: b"",
    "junk": lambda chunk: np.random.default_rng(5).bytes(500),
    "half": lambda chunk: chunk[: len(chunk) // 2],
    "all but a byte": lambda chunk: chunk[:-1],
    "a flipped bit": lambda chunk: bytes([*chunk[:40], chunk[40] ^ 4, *chunk[41:]]),
    "not compressed": zlib.decompress,
    "no json": lambda chunk: zlib.compress(b"[{]"),
    "nothing": lambda chunk: zlib.compress(b""),
    "half of the json": lambda chunk: zlib.compress(zlib.decompress(chunk)[:-100]),
    "no text": lambda chunk: zlib.compress(b'["\xff\xfe"]'),
    "an object": lambda chunk: zlib.compress(b"{}"),
    "a number": lambda chunk: zlib.compress(b"5"),
    "null": lambda chunk: zlib.compress(b"null"),
    "a bomb": lambda chunk: zlib.compress(bytes(2**28)),
    "a bomb of spaces": lambda chunk: zlib.compress(b"[" + b" " * 2**28 + b"]"),
    "lists": lambda chunk: zlib.compress(b"[" + b"[]," * 15_000_000 + b"[]]"),
    "numbers": lambda chunk: zlib.compress(b"[" + b"1," * 30_000_000 + b"1]"),
    "digits": lambda chunk: zlib.compress(b'[{"seqIndex":' + b"1" * 10_000_000 + b"}]"),
    "deep lists": lambda chunk: zlib.compress(deep("[", "]")),
    "deep objects": lambda chunk: zlib.compress(deep('{"a":', "}")),
    "items of another kind": lambda chunk: zlib.compress(b'[1, null, "a", [], true]'),
    "objects": lambda chunk: zlib.compress(b"[" + b"{}," * 900_000 + b"{}]"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_chunks(damage: str) -> None:
    """One warning; the image opens with all of its other labels."""
    data = written()
    copy = with_chunks(data, {WELLS: DAMAGES[damage](chunks_of(data)[WELLS])})
    ds, (told,) = opened(copy)
    assert told.startswith("<BytesIO>: some of the metadata is odd: ")
    assert WELLS.decode()[:-1] in told
    whole, _ = opened(data)
    expected = whole.drop_vars(LABELS)
    expected.attrs["file_bytes"] = len(copy)
    xr.testing.assert_identical(ds, expected)


def test_no_frame_has_a_well() -> None:
    ds, told = opened(with_frames(written(), []))
    assert not told
    assert not set(LABELS) & set(ds.coords)


@pytest.mark.parametrize(
    "plate",
    [b"", b"junk", lite_variant({"PlateDesc": {"name": 5, "rows": "a"}}), b"\x0b\x02a\0\0\0" * 9],
)
def test_a_damaged_plate(plate: bytes) -> None:
    ds, (told,) = opened(with_chunks(written(), {PLATE: plate}))
    assert "PlateDesc" in told
    assert ds.well.values.tolist() == NAMES
    assert ds.well.attrs == {"long_name": "well"}


def test_wells_where_the_map_lies() -> None:
    data = written()
    renamed = WELLS.replace(b"JSON", b"jSON")
    lost = data.replace(WELLS, renamed, 1)  # in the chunk's header, not in the map
    assert lost != data
    ds, (told,) = opened(lost)
    assert "expected the chunk 'CustomData|WellPlateFrameInfoZJSON!'" in told
    assert not set(LABELS) & set(ds.coords)


def test_wells_are_labels_of_levels_and_columns() -> None:
    sizes = {"P": 3, "Y": 1030, "X": 6}
    file = io.BytesIO()
    frames = np.ones(tuple(sizes.values()), "uint8")
    write_nd2(file, frames, "PYX", wells=Plate(NAMES), levels=1, recorded={"Z1": [1.0, 2.0, 3.0]})
    tree = xr.open_datatree(file, engine="nd2")
    assert list(tree.children) == ["image", "recorded", "level1"]
    for node in tree.children.values():
        assert node["well"].variable.identical(tree["image/well"].variable)


def test_wells_cost_no_round_trip(folder: Path, http: RangeServer) -> None:
    """They come with the other metadata."""
    sizes = {"P": 3, "Y": 900, "X": 900}
    trips = []
    for wells in (None, NAMES):
        path = folder / "wells.nd2"
        write_nd2(path, np.ones(tuple(sizes.values()), "uint16"), "PYX", wells=wells)
        http.latency = 0.05
        http.log.clear()
        ds = xr.open_dataset(http.url(path.name))
        trips.append((http.log.round_trips, http.log.requests))
    assert trips[0] == trips[1]
    assert ds.well.values.tolist() == NAMES
