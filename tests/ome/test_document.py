"""The OME metadata of written, real, odd and damaged files."""

from __future__ import annotations

import io
import warnings
from typing import TYPE_CHECKING, Any

import nd2
import numpy as np
import ome_types
import pytest
import xarray as xr

import xarray_nd2
from tests.conftest import corpus_directory, corpus_files
from tests.damage import without_last_codestream
from tests.metadata.damaged import variants
from tests.metadata.test_damaged_metadata import FILES, written
from tests.ome.documents import cases, check, checked, valid
from tests.variants import VARIANTS
from xarray_nd2 import (
    ND2Error,
    ND2FormatError,
    ND2NotFoundError,
    ND2UnsupportedError,
    ome_metadata,
)
from xarray_nd2.testing import Channel, Plate, RangeServer, write_legacy_nd2, write_nd2

if TYPE_CHECKING:
    from pathlib import Path


STAGE = [(1.0, 2.0, 3.0), (4.0, 5.0, 6.0), (7.0, 8.0, 9.0)]


def document(dims: Any, sizes: tuple[int, ...], **options: Any) -> ome_types.OME:
    """The document of a written file, compared with its labels."""
    file = io.BytesIO()
    dtype = options.pop("dtype", "uint16")
    write_nd2(file, np.ones(sizes, dtype), dims, **options)
    return checked(file)[0]


def test_the_schema_is_at_hand() -> None:
    """The check of all documents here can fail; without the package they are only compared."""
    pytest.importorskip("xmlschema", reason="documents are not validated: needs xmlschema")
    text = document("YX", (5, 6)).to_xml()
    for right, wrong in (('SizeX="6"', 'SizeX="0"'), ('Type="uint16"', 'Type="float16"')):
        with pytest.raises(ValueError, match="(?i)valid"):
            ome_types.validate_xml(text.replace(right, wrong))


@pytest.mark.parametrize("name", VARIANTS)
def test_written_files(name: str, tmp_path: Path) -> None:
    checked(VARIANTS[name].write(tmp_path / "run.nd2"))


@pytest.mark.corpus
@pytest.mark.parametrize("path", corpus_files(), ids=lambda path: path.stem)
def test_real_files(path: Path) -> None:
    checked(path)


@pytest.mark.corpus
@pytest.mark.parametrize("path", cases(corpus_directory()), ids=lambda path: path.stem)
def test_cases(path: Path) -> None:
    checked(path)


def test_it_is_public_and_loaded_when_used() -> None:
    assert "ome_metadata" in dir(xarray_nd2)
    assert set(xarray_nd2.__all__) <= set(dir(xarray_nd2))
    with pytest.raises(AttributeError, match="has no attribute 'ome_metadat'"):
        _ = xarray_nd2.ome_metadat


def test_an_image_for_each_position() -> None:
    ome = document("TPZCYX", (2, 3, 4, 2, 5, 6), positions=["A1", "", "A1"], stage_positions=STAGE)
    assert [image.name for image in ome.images] == ["A1", "XYPos:1", "A1 (2)"]
    for image, (x, y, z) in zip(ome.images, STAGE, strict=True):
        planes = image.pixels.planes
        assert len(planes) == 2 * 4 * 2
        assert {(plane.position_x, plane.position_y) for plane in planes} == {(x, y)}
        assert [p.position_z for p in planes if p.the_t == 1 and p.the_c == 1] == [
            z + above for above in (-1.0, 0.0, 1.0, 2.0)
        ]
    ids = [c.id for image in ome.images for c in image.pixels.channels]
    assert len(set(ids)) == 6


def test_images_for_loops_that_have_no_word() -> None:
    names = {"P": ["well A", "well B"], "P2": ["left", "left", "right"]}
    sizes = {"T": 2, "P": 2, "P2": 3, "U": 2, "Z": 3, "Y": 4, "X": 5}
    ome = document(
        list(sizes),
        tuple(sizes.values()),
        positions=names,
        stage_positions={"P": STAGE[:2], "P2": STAGE},
    )
    assert len(ome.images) == 12
    assert ome.images[3].name == "well A, P2 left (2), U 1"
    assert ome.images[11].name == "well B, P2 right, U 1"
    # It is not known how the places of nested points combine.
    assert ome.images[0].pixels.planes[0].position_x is None
    ome = document(["U", "Y", "X"], (3, 4, 5))
    assert [image.name for image in ome.images] == [f"<BytesIO>, U {i}" for i in range(3)]
    ome = document(["T", "T2", "Y", "X"], (2, 3, 4, 5), period={"T": 10.0, "T2": 1.0})
    assert [image.pixels.size_t for image in ome.images] == [2, 2, 2]
    assert ome.images[2].name == "<BytesIO>, T2 2.0"


@pytest.mark.parametrize(
    ("dims", "order"),
    [("TZYX", "XYCZT"), ("ZTYX", "XYCTZ"), ("ZPTYX", "XYCTZ"), ("TYX", "XYCZT"), ("YX", "XYCZT")],
)
def test_order_of_dimensions(dims: str, order: str) -> None:
    sizes = {"Z": 2, "T": 3, "P": 2, "Y": 4, "X": 5}
    ome = document(dims, tuple(sizes[dim] for dim in dims))
    assert ome.images[0].pixels.dimension_order.value == order


def test_sizes_and_steps() -> None:
    pixels = document("TZYX", (4, 3, 5, 6), pixel_size=0.1, z_step=-0.3, period=2.5)
    found = pixels.images[0].pixels
    assert (found.physical_size_x, found.physical_size_y, found.physical_size_z) == (0.1, 0.1, 0.3)
    assert found.time_increment == 2.5
    assert {found.physical_size_x_unit.value, found.physical_size_z_unit.value} == {"µm"}
    ome = document("TYX", (3, 5, 6), pixel_size=None, periods=[(2, 1.0), (1, 9.0)])
    found = ome.images[0].pixels
    assert found.physical_size_x is found.physical_size_z is None
    assert document("TYX", (3, 5, 6), timestamps=[0, 1, 5]).images[0].pixels.time_increment is None


def test_channels() -> None:
    channels = [
        Channel("DAPI", 450.0, 405.0, "#0033ff", exposure=20.0, camera="Fusion"),
        Channel("GFP", excitation=[488.0, 561.0], modality=["fluorescence", "GaAsP"]),
        Channel(
            "BF", pinhole=38.5, camera="Other", modality=["brightfield", "laser scanning confocal"]
        ),
        Channel("TIRF", camera="Fusion", modality=["fluorescence", "TIRF"]),
        Channel("SoRa", modality=["fluorescence", "spinning disk confocal", "SoRa"]),
        Channel("DIC", modality=["brightfield", "DIC"]),
        Channel("Both", modality=["fluorescence", "DIC"]),
    ]
    ome = document("CYX", (7, 5, 6), channels=channels, bits_significant=12)
    pixels = ome.images[0].pixels
    found = pixels.channels
    assert pixels.significant_bits == 12
    assert [c.emission_wavelength for c in found[:3]] == [450.0, None, None]
    assert [c.excitation_wavelength for c in found[:3]] == [405.0, None, None]
    assert [c.pinhole_size for c in found[:3]] == [None, None, 38.5]
    assert found[0].color is not None
    assert found[0].color.as_rgb_tuple(alpha=False) == (0, 0x33, 0xFF)
    assert [c.acquisition_mode and c.acquisition_mode.value for c in found] == [
        *("WideField", "WideField", "LaserScanningConfocalMicroscopy", "TotalInternalReflection"),
        *("SpinningDiskConfocal", "BrightField", "WideField"),
    ]
    assert [c.contrast_method and c.contrast_method.value for c in found[1:]] == [
        *("Fluorescence", "Brightfield", "Fluorescence", "Fluorescence", "DIC", None)
    ]
    assert [p.exposure_time for p in pixels.planes[:2]] == [0.02, None]
    (instrument,) = ome.instruments
    assert {detector.id: detector.model for detector in instrument.detectors} == {
        "Detector:0": "Fusion",
        "Detector:1": "Other",
    }
    settings = [c.detector_settings and c.detector_settings.id for c in found]
    assert settings[:4] == ["Detector:0", None, "Detector:1", "Detector:0"]


def test_colour_is_one_channel_of_several_samples() -> None:
    pixels = document("CYXS", (2, 5, 6, 3), channels=["a", "b"]).images[0].pixels
    assert (pixels.size_c, pixels.interleaved) == (6, True)
    assert [channel.samples_per_pixel for channel in pixels.channels] == [3, 3]
    assert [plane.the_c for plane in pixels.planes] == [0, 1]
    assert document("YXS", (5, 6, 4)).images[0].pixels.channels[0].samples_per_pixel == 4


def test_colour_and_mono_are_a_channel_for_each_component() -> None:
    channels = [Channel("Brightfield", components=3), Channel("DAPI", 450.0, 405.0)]
    pixels = document("CYX", (4, 6, 7), channels=channels).images[0].pixels
    names = ["Brightfield Red", "Brightfield Green", "Brightfield Blue", "DAPI"]
    assert [channel.name for channel in pixels.channels] == names
    assert (pixels.size_c, pixels.interleaved) == (4, None)
    assert [c.excitation_wavelength for c in pixels.channels] == [None, None, None, 405.0]


def test_frames_that_are_not_in_the_file() -> None:
    ome = document("TCYX", (4, 2, 5, 6), timestamps=[0, 1, 2, 3], missing=[1, 3])
    planes = ome.images[0].pixels.planes
    assert [plane.delta_t for plane in planes] == [0, 0, None, None, 2, 2, None, None]
    file = io.BytesIO()
    write_nd2(file, np.ones((4, 5, 6), "u2"), "TYX", missing=[1, 3])
    with pytest.warns(UserWarning, match="2 of 4 frames are not in the file"):
        ome_metadata(file)


def test_a_channel_that_is_not_in_the_file() -> None:
    """Of legacy files a frame may lack one of its channels."""
    file = io.BytesIO()
    channels = [Channel("a", exposure=20.0), Channel("b", exposure=30.0)]
    pixels = np.ones((3, 2, 5, 6), "u2")
    write_legacy_nd2(file, pixels, "TCYX", channels=channels, timestamps=[0, 1, 2])
    ome, _ = checked(io.BytesIO(without_last_codestream(file.getvalue())))
    planes = ome.images[0].pixels.planes
    assert [plane.delta_t for plane in planes] == [0, 0, 1, 1, 2, None]
    assert [plane.exposure_time for plane in planes] == [0.02, 0.03] * 2 + [0.02, None]


def test_dates_and_texts() -> None:
    ome = document(
        "PTYX",
        (2, 3, 5, 6),
        start="2024-05-06T07:08:09.250",
        timestamps=[0.445 + i for i in range(6)],
        text_info={"description": "Two lines\r\nof <text> & more", "optics": "20x"},
    )
    for image in ome.images:  # a date and a time since then, which is of the plane
        assert image.acquisition_date is not None
        assert image.acquisition_date.isoformat() == "2024-05-06T07:08:09.250000+00:00"
        assert image.description == "Two lines\nof <text> & more"
    assert [plane.delta_t for plane in ome.images[1].pixels.planes] == [3, 4, 5]
    image = document("TYX", (3, 5, 6), start="2024-05-06T07:08:09").images[0]
    assert image.acquisition_date is not None
    assert image.acquisition_date.isoformat() == "2024-05-06T07:08:09+00:00"
    assert image.pixels.planes[0].delta_t is None
    assert document("TYX", (3, 5, 6)).images[0].acquisition_date is None


def opened(dims: Any = "PYX", sizes: tuple[int, ...] = (3, 5, 6), **options: Any) -> xr.Dataset:
    file = io.BytesIO()
    write_nd2(file, np.ones(sizes, "uint16"), dims, **options)
    return xr.open_dataset(file, engine="nd2")


def test_wells() -> None:
    ds = opened("PUYX", (4, 2, 5, 6))
    for nowhere, dtype in ((-1, int), (np.nan, float)):
        wells = ds.assign_coords(
            well=("P", ["A1", "B12", "A1", ""]),
            well_row=("P", np.array([0, 1, 0, nowhere], dtype)),
            well_column=("P", np.array([0, 11, 0, nowhere], dtype)),
        )
        wells["well"].attrs |= {"plate": "a plate", "plate_rows": 8, "plate_columns": 0}
        wells["well"].attrs |= {"plate_row_naming": "Letter", "plate_column_naming": "roman"}
        (plate,) = valid(ome_metadata(wells)).plates
        assert [(well.row, well.column, well.external_identifier) for well in plate.wells] == [
            (0, 0, "A1"),
            (1, 11, "B12"),
        ]
        samples = [[s.image_ref and s.image_ref.id for s in w.well_samples] for w in plate.wells]
        assert samples == [
            ["Image:0", "Image:1", "Image:4", "Image:5"],
            ["Image:2", "Image:3"],
        ]
        assert (plate.name, plate.rows, plate.columns) == ("a plate", 8, None)
        assert plate.row_naming_convention is not None
        assert plate.row_naming_convention.value == "letter"
        assert plate.column_naming_convention is None
    assert ome_metadata(ds).plates == []
    assert ome_metadata(ds.assign_coords(well=("P", ["A1", "", "", ""]))).plates == []
    unknown = ds.assign_coords(well_row=("P", [np.nan] * 4), well_column=("P", [0, 1, 2, 3]))
    assert ome_metadata(unknown).plates == []


def test_wells_as_files_have_them() -> None:
    plate = Plate(["B03", "C12", "B03"], name="a plate", rows=8, columns=12)
    ome = document("TPYX", (2, 3, 5, 6), wells=plate)
    (found,) = ome.plates
    assert (found.name, found.rows, found.columns) == ("a plate", 8, 12)
    assert {
        well.external_identifier: (well.row, well.column, [s.index for s in well.well_samples])
        for well in found.wells
    } == {"B03": (1, 2, [0, 2]), "C12": (2, 11, [1])}


def test_wells_of_an_inner_loop_and_of_a_whole_file() -> None:
    ds = opened(["P", "P2", "Y", "X"], (2, 3, 5, 6))
    inner = ds.assign_coords(well_row2=("P2", [0, 0, 1]), well_column2=("P2", [0, 1, 0]))
    (plate,) = valid(ome_metadata(inner)).plates
    assert [[s.index for s in well.well_samples] for well in plate.wells] == [
        [0, 3],
        [1, 4],
        [2, 5],
    ]
    (plate,) = valid(ome_metadata(opened("TYX").assign_coords(well_row=2, well_column=3))).plates
    assert [(w.row, w.column, len(w.well_samples)) for w in plate.wells] == [(2, 3, 1)]


def test_characters_that_xml_cannot_hold() -> None:
    ds = opened()
    bad = "a\0\x0b\x1f\ud800\ufffe]]>&<\t\n"
    ds = ds.assign_coords(P=[bad, "b", "c"], C=[bad], camera=("C", [bad]))
    ds = ds.assign_attrs(description=bad, title=bad)
    ds.image.attrs["objective"] = bad
    ome = valid(ome_metadata(ds))
    clean = "a\ufffd\ufffd\ufffd\ufffd\ufffd]]>&<\t\n"
    assert ome.images[0].name == ome.images[0].pixels.channels[0].name == clean
    assert ome.instruments[0].detectors[0].model == ome.instruments[0].objectives[0].model == clean


def test_numbers_that_the_schema_cannot_hold() -> None:
    for value in (np.nan, np.inf, -np.inf, 1e39, -1e300):
        ds = opened("TYX").assign_coords(stage_z=value, time=("T", [value] * 3))
        ds = ds.assign_coords(exposure=("C", [value]), pinhole=("C", [value]))
        ds = ds.assign_coords(emission=("C", [value]), excitation=("C", [-1.0]))
        ds.image.attrs.update(magnification=value, pixel_size_um=[value, value])
        ds.image.attrs.update(bits_significant=2**70, refractive_index=value)
        pixels = valid(ome_metadata(ds.drop_vars(["Y", "X"]))).images[0].pixels
        plane = pixels.planes[1]
        assert plane.position_z is plane.delta_t is plane.exposure_time is None
        assert pixels.physical_size_x is pixels.significant_bits is None
        assert pixels.channels[0].emission_wavelength is None


def test_a_dataset_that_was_opened_and_cropped() -> None:
    ds = opened("TZCYX", (4, 3, 2, 8, 10), pixel_size=0.5, channels=["a", "b"])
    check(ome_metadata(ds), ds)
    crop = ds.isel(T=slice(1, 3), C=[1], Y=slice(0, 8, 2), X=slice(3, 9))
    ome = ome_metadata(crop)
    check(ome, crop)
    assert ome.images[0].pixels.physical_size_y == 1.0
    assert ome.images[0].pixels.physical_size_x == 0.5
    plane = valid(ome_metadata(ds.isel(T=2, Z=1, C=1))).images[0].pixels
    assert (plane.size_t, plane.size_z, plane.size_c, len(plane.planes)) == (1, 1, 1, 1)
    assert plane.channels[0].name == "b"
    with pytest.raises(TypeError, match="storage_options are of a target"):
        ome_metadata(ds, {"anon": True})
    with pytest.raises(ValueError, match="has no variable 'image'"):
        ome_metadata(ds.drop_vars("image"))


def test_what_has_no_word() -> None:
    ds = opened()
    with pytest.raises(ND2UnsupportedError, match="no word for pixels of type int64"):
        ome_metadata(ds.astype("int64"))
    many = xr.Dataset({"image": (("U", "C", "Y", "X"), np.zeros((100_001, 1, 1, 1), "u1"))})
    with pytest.raises(ND2UnsupportedError, match="100001 images, one for each step along U"):
        ome_metadata(many)


def test_what_cannot_be_opened(tmp_path: Path) -> None:
    (tmp_path / "run.nd2").write_bytes(b"no ND2 at all" * 1000)
    with pytest.raises(ND2FormatError):
        ome_metadata(tmp_path / "run.nd2")
    with pytest.raises(ND2NotFoundError):
        ome_metadata(tmp_path / "none.nd2")


def test_it_costs_what_opening_costs(http: RangeServer) -> None:
    file = io.BytesIO()
    times = np.arange(3000) * 0.1
    write_nd2(
        file,
        lambda number: np.full((2, 32, 32), number % 2**16, "uint16"),
        "TCYX",
        sizes={"T": 3000, "C": 2, "Y": 32, "X": 32},
        dtype="uint16",
        timestamps=times,
        recorded=dict.fromkeys("XYZ", times),
    )
    http.put("run.nd2", file.getvalue())
    costs = []
    for _ in range(2):
        xr.open_dataset(http.url("run.nd2"))  # what is learnt of the link counts for both
        http.log.clear()
        xr.open_dataset(http.url("run.nd2"))
        costs.append((http.log.requests, http.log.bytes))
        http.log.clear()
        ome = ome_metadata(http.url("run.nd2"))
        costs.append((http.log.requests, http.log.bytes))
    assert len(set(costs)) == 1
    assert len(ome.images[0].pixels.planes) == 6000


@pytest.mark.parametrize("name", FILES)
def test_damaged_files(name: str) -> None:
    """A document that is valid, or an error of this package."""
    made = 0
    for variant in variants(written(name), every=1 + 30 * FILES[name][3], bombs=False):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                ome = ome_metadata(io.BytesIO(variant.applied(written(name))))
            except ND2Error:
                assert variant.may_refuse
                continue
        valid(ome)
        made += 1
    assert made > 20


@pytest.mark.corpus
def test_true_values_of_real_files(corpus: Path) -> None:
    stack = ome_metadata(corpus / "example-zstack.nd2").images[0].pixels
    heights: Any = [plane.position_z for plane in stack.planes]
    np.testing.assert_allclose(heights, 8806.58 + 6 * np.arange(11), rtol=0, atol=1e-3)
    assert stack.physical_size_z == 6
    colour = ome_metadata(corpus / "ga3-children-node-rgb.nd2").images[0].pixels
    (channel,) = colour.channels
    assert (colour.size_c, channel.samples_per_pixel) == (3, 3)
    assert channel.excitation_wavelength is channel.emission_wavelength is None
    several = ome_metadata(corpus / "example-multichannel.nd2").images[0].pixels
    assert [c.excitation_wavelength for c in several.channels] == [None, 405, 488, 561]
    assert [c.emission_wavelength for c in several.channels] == [None, 450, 512, 595]
    assert [plane.exposure_time for plane in several.planes] == [0.02, 1, 1, 1]
    cluster = ome_metadata(corpus / "cluster.nd2").images[0].pixels
    assert cluster.planes[0].position_z == pytest.approx(3914.34, abs=0.01)
    assert cluster.significant_bits == 12


TIMED_FILES = [path for path in corpus_files() if not path.stem.startswith("lim-")]


@pytest.mark.corpus
@pytest.mark.parametrize("path", TIMED_FILES, ids=lambda path: path.stem)
def test_as_nd2_says_where_it_is_right(path: Path) -> None:
    """Not compared: its heights, the same for all planes, and its excitation, a filter's first line.

    Of files without a table of times it makes no document. It counts times from when the clock of
    the computer began, and so not from its own date.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ours = ome_metadata(path)
        dataset = xr.open_dataset(path)
        with nd2.ND2File(path) as file:
            theirs = file.ome_metadata(include_unstructured=False)
    assert len(ours.images) == len(theirs.images)
    for image, reference in zip(ours.images, theirs.images, strict=True):
        check_against_nd2(image, reference, dataset)


def check_against_nd2(image: Any, reference: Any, dataset: xr.Dataset) -> None:
    pixels, expected = image.pixels, reference.pixels
    for field in ("size_x", "size_y", "size_z", "size_t", "type", "significant_bits"):
        assert getattr(pixels, field) == getattr(expected, field), field
    if {"T", "Z"} <= dataset.sizes.keys():  # otherwise several orders are right
        assert pixels.dimension_order == expected.dimension_order
    # It counts a colour as one of C, and the schema each of its samples.
    assert pixels.size_c == expected.size_c * dataset.sizes.get("S", 1)
    assert pixels.physical_size_x == pytest.approx(expected.physical_size_x)
    if expected.physical_size_z is not None:
        assert pixels.physical_size_z == pytest.approx(expected.physical_size_z)
    names = [c.name for c in expected.channels]
    assert [c.name for c in pixels.channels] == [name or f"C{i}" for i, name in enumerate(names)]
    assert [c.pinhole_size for c in pixels.channels] == [
        c.pinhole_size if (c.pinhole_size or 0) > 0 else None for c in expected.channels
    ]
    if "S" not in dataset.dims:
        assert [c.color for c in pixels.channels] == [c.color for c in expected.channels]
    assert len(pixels.planes) == len(expected.planes)
    of_place = {(p.the_t, p.the_z, p.the_c): p for p in pixels.planes}
    first = min(p.delta_t for p in expected.planes)
    for theirs in expected.planes:
        ours = of_place[theirs.the_t, theirs.the_z, theirs.the_c]
        assert ours.delta_t == pytest.approx((theirs.delta_t - first) / 1000, abs=1e-5)
        assert (ours.exposure_time is None) == (theirs.exposure_time is None)
        if ours.exposure_time is not None:
            assert ours.exposure_time == pytest.approx(theirs.exposure_time / 1000)
        assert ours.position_x == pytest.approx(theirs.position_x, abs=1e-5)
        if "Z" not in dataset.dims:
            assert ours.position_z == pytest.approx(theirs.position_z, abs=1e-5)
    assert abs(image.acquisition_date - reference.acquisition_date).total_seconds() < 1e-3
