"""Labels of legacy files: from what is written to what is read, by the facts that libraries tell of them."""

from __future__ import annotations

import itertools
import json
import warnings
from typing import TYPE_CHECKING, Any

import nd2
import numpy as np
import pytest
import xarray as xr

from xarray_nd2 import ND2FormatError
from xarray_nd2.metadata.legacy import description_of, legacy_experiment, told_dimensions
from xarray_nd2.metadata.legacy_xml import decoded_xml
from xarray_nd2.metadata.tree import Oddities
from xarray_nd2.testing import Channel, Event, write_legacy_nd2

if TYPE_CHECKING:
    from pathlib import Path

SIZES = {"T": 3, "P": 2, "Z": 4, "C": 2, "Y": 6, "X": 5}
POINTS = [(10.0, -20.0, 100.0), (30.0, 40.0, 110.0)]


def written(path: Path, dims: str, **options: Any) -> Path:
    shape = [SIZES[dim] for dim in dims]
    pixels = (
        np.random.default_rng(5).integers(0, 2**16, shape).astype(options.pop("dtype", "uint16"))
    )
    write_legacy_nd2(path, pixels, dims, **options)
    return path


NESTINGS = [
    "".join(order) + rest
    for count in range(4)
    for order in itertools.permutations("TPZ", count)
    for rest in ("YX", "CYX")
]


@pytest.mark.parametrize("listed_loops", [False, True])
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("dims", NESTINGS)
def test_every_nesting_reads_as_nd2_reads_it(
    dims: str, dtype: str, listed_loops: bool, tmp_path: Path
) -> None:
    path = written(tmp_path / "nested.nd2", dims, dtype=dtype, listed_loops=listed_loops)
    with nd2.ND2File(path) as file:
        expected, sizes = file.asarray(), dict(file.sizes)
    ds = xr.open_dataset(path)
    assert {dim: size for dim, size in ds.image.sizes.items() if size > 1} == sizes
    assert ds.image.dtype == expected.dtype
    np.testing.assert_array_equal(ds.image.values.squeeze(), expected)


def test_labels(tmp_path: Path) -> None:
    channels = [
        Channel("DAPI", color="#0000ff", exposure=20.0, camera="DS-Qi1", binning=2.0),
        Channel("GFP", color="#00ff00", exposure=150.0),
    ]
    times = np.arange(24) * 0.5 + 2.0
    path = written(
        tmp_path / "labels.nd2",
        "TPZCYX",
        channels=channels,
        pixel_size=0.32,
        z_step=-0.7,
        z_home=1,
        period=4.0,
        stage_positions=POINTS,
        start="2008-03-06T10:58:30",
        timestamps=times.tolist(),
    )
    ds = xr.open_dataset(path)
    assert ds.C.values.tolist() == ["DAPI", "GFP"]
    assert ds.color.values.tolist() == ["#0000ff", "#00ff00"]
    assert ds.exposure.values.tolist() == [20.0, 150.0]
    assert ds.camera.values.tolist() == ["DS-Qi1", ""]
    assert ds.binning.values[0] == 2.0
    assert ds.T.values.tolist() == [0.0, 4.0, 8.0]
    assert ds.Z.values.tolist() == [0.7, 0.0, -0.7, -1.4]
    assert ds.Z.attrs["direction"] == "top to bottom"
    assert ds.stage_x.values.tolist() == [10.0, 30.0]
    assert ds.stage_y.values.tolist() == [-20.0, 40.0]
    np.testing.assert_allclose(ds.stage_z.values[:, 0], [100.0, 110.0])
    np.testing.assert_allclose(ds.stage_z.values[0], [100.0, 99.3, 98.6, 97.9])
    np.testing.assert_allclose(ds.time.values.ravel(), np.arange(24) * 0.5)
    assert ds.acquired.values.flat[0] == np.datetime64("2008-03-06T10:58:30")
    assert ds.acquired.values.flat[-1] == np.datetime64("2008-03-06T10:58:41.500")
    np.testing.assert_allclose(ds.X.values, np.arange(5) * 0.32)
    assert ds.image.attrs["pixel_size_um"] == [0.32, 0.32]
    assert ds.image.attrs["bits_significant"] == 16
    assert ds.attrs["format"] == "ND2 1.0"
    assert ds.attrs["start"] == "2008-03-06T10:58:30.000Z"
    assert ds.attrs["description"].startswith("Metadata:\nDimensions: T(3) x XY(2) x Z(4) x λ(2)")
    json.dumps(ds.attrs)
    ds.to_netcdf(tmp_path / "labels.nc", engine="h5netcdf")


def test_uncalibrated(tmp_path: Path) -> None:
    ds = xr.open_dataset(written(tmp_path / "no.nd2", "YX", pixel_size=None))
    assert ds.X.attrs["units"] == "1"


def test_colour_is_as_decoded(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (2, 8, 9, 3), "uint8")
    write_legacy_nd2(tmp_path / "rgb.nd2", pixels, "TYXS")
    ds = xr.open_dataset(tmp_path / "rgb.nd2")
    assert ds.S.values.tolist() == ["Red", "Green", "Blue"]
    np.testing.assert_array_equal(ds.image.values[:, 0], pixels)
    np.testing.assert_array_equal(ds.image[1, 0, 2:5, 3, 1:].values, pixels[1, 2:5, 3, 1:])


def test_description_overrules_the_loops(tmp_path: Path) -> None:
    """Of the points that an experiment lists, the description tells how many were visited."""
    path = written(tmp_path / "more.nd2", "TPCYX", stage_positions=POINTS, planned={"P": 7, "T": 9})
    ds = xr.open_dataset(path)
    assert dict(ds.image.sizes) == {"T": 3, "P": 2, "C": 2, "Y": 6, "X": 5}
    assert ds.stage_x.values.tolist() == [10.0, 30.0]
    written(path, "TPCYX", stage_positions=POINTS, planned={"P": 7}, description="")
    with pytest.warns(UserWarning, match="explains 21|are not in the file"):
        assert xr.open_dataset(path).image.sizes["P"] == 7


def test_loops_of_the_description_alone() -> None:
    found = legacy_experiment({}, [("T", 2), ("Z", 3)], 6, Oddities())
    assert [(loop.kind, loop.count) for loop in found.loops] == [("T", 2), ("Z", 3)]
    assert not legacy_experiment({}, [("T", 2), ("Z", 3)], 7, Oddities()).loops


def test_one_of_several_phases() -> None:
    phases = {f"_0000{i}": {"uiCount": n, "dPeriod": 1000.0 * n} for i, n in enumerate((5, 3, 9))}
    tree = {"eType": 8, "uLoopPars": {"uiCount": 17, "pPeriod": phases}}
    (loop,) = legacy_experiment({"vMetadata": tree}, [("T", 3)], 3, Oddities()).loops
    assert (loop.count, loop.items[0].number("dPeriod")) == (3, 3000.0)
    (loop,) = legacy_experiment({"vMetadata": tree}, [], 17, Oddities()).loops
    assert (loop.count, len(loop.items)) == (17, 3)


def test_repeated_levels() -> None:
    """Some files have a level twice; the first of them counts."""
    inner = {"eType": 4, "uLoopPars": {"uiCount": 2, "dZStep": 1.0, "dZLow": 0.0, "dZHigh": 1.0}}
    level = {
        "eType": 8,
        "uLoopPars": {"pPeriod": {"a0": {"uiCount": 3}}},
        "ppNextLevelEx": {"i0000000000": inner, "i0000000001": inner},
    }
    found = legacy_experiment(level, [], 6, Oddities())
    assert [(loop.kind, loop.count) for loop in found.loops] == [("T", 3), ("Z", 2)]


@pytest.mark.parametrize("count", [1, 3])
def test_events(count: int, tmp_path: Path) -> None:
    events = [Event(1.5 + i, 7, f"Wait({i});", "x") for i in range(count)]
    path = written(tmp_path / "events.nd2", "TYX", events=events, timestamps=[1.0, 2.0, 3.0])
    group = xr.open_datatree(path)["events"].to_dataset()
    assert group.description.values.tolist() == [f"Wait({i});" for i in range(count)]
    np.testing.assert_allclose(group.time.values, 0.5 + np.arange(count))
    assert set(group.kind_code.values) == {7}


def test_dimensions_and_descriptions() -> None:
    assert told_dimensions("Dimensions: XY(3) x T'(12) x λ(2) x U(5)\r\nMore: T(9)") == [
        ("P", 3),
        ("T", 12),
    ]
    assert told_dimensions("Dimensions: " + "T(" * 10**6) == []
    assert description_of([{"Text": "no"}, {"Text": "Metadata: yes"}, 3]) == "Metadata: yes"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "no XML"),
        (b"<a", "no XML"),
        (b'<!DOCTYPE a [<!ENTITY b "c">]><a/>', "declares a document type"),
        (b"<a>" * 200 + b"</a>" * 200, "nested too deeply"),
        (b"<a" + b' b="1"' * 600_000 + b"/>", "too many elements"),
    ],
)
def test_xml_refused(data: bytes, message: str) -> None:
    with pytest.raises(ND2FormatError, match=message):
        decoded_xml(b"VIMD", data)


def test_metadata_that_is_lost_costs_its_labels_only(tmp_path: Path) -> None:
    path = written(tmp_path / "lost.nd2", "TCYX")
    data = (
        path.read_bytes()
        .replace(b"<TextInfo", b"<<extInfo")
        .replace(b"<Metadata_V", b"<<etadata_V")
    )
    data = data.replace(b"<MetadataSeq", b"<<etadataSeq")
    path.write_bytes(data)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        ds = xr.open_dataset(path)
    assert "VIMD holds no XML" in str(caught[0].message)
    assert dict(ds.image.sizes) == {"U": 3, "C": 2, "Y": 6, "X": 5}
    assert ds.image.values.any()


def test_a_single_text() -> None:
    """A list of one item is a list."""
    data = b'<TextInfo _VERSION="1.000000"><TextInfoItem Index="5" Text="Metadata: a"/></TextInfo>'
    assert description_of(decoded_xml(b"TINF", data).values()) == "Metadata: a"
