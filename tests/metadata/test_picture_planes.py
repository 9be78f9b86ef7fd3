"""What the components of a pixel are, and what a file tells of its channels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.metadata.trees import branch, listed
from xarray_nd2.format.layout import ImageShape
from xarray_nd2.metadata.channels import channel_coordinates
from xarray_nd2.metadata.picture_planes import (
    Components,
    arranged_components,
    channel_names,
    read_picture_planes,
)

BGR, BGRA = (2, 1, 0), (2, 1, 0, 3)
NAN = float("nan")


def picture(*planes: dict[str, Any], samples: Any = None, **more: Any) -> dict[str, Any]:
    named = {f"a{number}": plane for number, plane in enumerate(planes)}
    settings = {f"a{number}": sample for number, sample in enumerate(samples or [])}
    return {"sPlaneNew": named, "sSampleSetting": settings} | more


def plane(name: str, components: Any = 1, **more: Any) -> dict[str, Any]:
    return {"sDescription": name, "uiCompCount": components} | more


def arranged(described: Any, components: int) -> tuple[Components, list[str], str]:
    root = branch(sPicturePlanes=described)
    planes = read_picture_planes(root, components)
    made = arranged_components(planes, components)
    return made, channel_names(planes, made.channels), str(root.oddities)


A, B = plane("A"), plane("B")
DIA = plane("Dia", 3)
CASES: dict[str, tuple[Any, int, Components, list[str]]] = {
    "mono": (picture(A, B), 2, Components(2, 1), ["A", "B"]),
    "unnamed": (picture(plane(""), B), 2, Components(2, 1), ["C0", "B"]),
    "colour": (picture(DIA), 3, Components(1, 3, (), BGR), ["Dia"]),
    "colour with alpha": (picture(plane("Dia", 4)), 4, Components(1, 4, (), BGRA), ["Dia"]),
    "four of colour": (
        picture(DIA, DIA, DIA, DIA),
        12,
        Components(4, 3, (), BGR),
        ["Dia"] * 4,
    ),
    "colour and mono": (
        picture(DIA, A),
        4,
        Components(4, 1, (2, 1, 0, 3)),
        ["Dia Red", "Dia Green", "Dia Blue", "A"],
    ),
    "mono and colour": (
        picture(A, DIA),
        4,
        Components(4, 1, (0, 3, 2, 1)),
        ["A", "Dia Red", "Dia Green", "Dia Blue"],
    ),
    "two in one": (picture(plane("A", 2)), 2, Components(2, 1), ["A 1", "A 2"]),
    "old name": ({"sPlane": {"a0": A}}, 1, Components(1, 1), ["A"]),
    "a count is lost": (picture({"sDescription": "A"}, DIA), 4, Components(4, 1, (0, 3, 2, 1)), []),
    "a lost count of colour": (picture({"sDescription": "A"}), 3, Components(1, 3, (), BGR), ["A"]),
    "a count is text": (picture(A, plane("B", "1")), 2, Components(2, 1), ["A", "B"]),
    "counts are lost": (picture({}, {}), 6, Components(2, 3, (), BGR), ["C0", "C1"]),
    "no planes, but colour": (
        {"uiCount": 1, "uiCompCount": 3},
        3,
        Components(1, 3, (), BGR),
        ["C0"],
    ),
    "no planes": ({}, 3, Components(3, 1), ["C0", "C1", "C2"]),
    "planes are text": ({"sPlaneNew": "text"}, 2, Components(2, 1), ["C0", "C1"]),
    "too few planes": (picture(A), 2, Components(2, 1), ["C0", "C1"]),
    "too many planes": (picture(A, B), 1, Components(1, 1), ["C0"]),
    "too many components": (picture(plane("A", 99)), 2, Components(2, 1), ["A 1", "A 2"]),
}


@pytest.mark.parametrize("name", CASES)
def test_components_are_arranged(name: str) -> None:
    described, components, expected, names = CASES[name]
    made, found, odd = arranged(described, components)
    assert made == expected
    assert not names or found == names
    sound = name.split(maxsplit=1)[0] in ("mono", "unnamed", "colour", "four", "two", "old")
    assert bool(odd) == (not sound)


def coordinates(*planes: dict[str, Any], samples: Any = None) -> dict[str, list[Any]]:
    components = sum(each.get("uiCompCount", 1) for each in planes)
    root = branch(sPicturePlanes=picture(*planes, samples=samples))
    found = read_picture_planes(root, components)
    made = arranged_components(found, components)
    image = ImageShape(
        (), made.channels, 2, 2, made.samples, np.dtype("u1"), 2 * components, "none"
    )
    labels = channel_coordinates(image, found)
    assert not root.oddities
    for name, (dims, values, attrs) in labels.items():
        assert dims == (("S",) if name == "S" else ("C",))
        assert len(attrs["long_name"]) < 25
        assert ("units" in attrs) == (values.dtype.kind == "f")
    return {name: values.tolist() for name, (_, values, _) in labels.items()}


def device(*lines: tuple[str, int, float, int]) -> dict[str, Any]:
    """Lines of lasers and lamps: key, nm, power, whether it was used."""
    values: dict[str, Any] = {}
    for key, nm, power, used in lines:
        values[f"m_bMultiLaser_LineUsedLineUsed{key}"] = used
        values[f"m_uiMultiLaser_LineUsedLineWavelength{key}"] = nm
        values[f"m_dMultiLaser_PowerLinePower{key}"] = power
    return {"pDeviceSetting": values}


def test_excitation_is_the_one_line_that_was_on() -> None:
    laser = [("0-00", 405, 84.0, 0), ("0-01", 488, 95.5, 0), ("1-00", 450, 5.0, 0)]
    first = device(*laser[:1], ("0-01", 488, 95.5, 1), laser[2])
    several = device(laser[0], ("0-01", 488, 95.5, 1), ("1-00", 450, 5.0, 1))
    found = coordinates(
        *(plane(name, uiSampleIndex=number) for number, name in enumerate("ABCD")),
        samples=[first, several, device(*laser), {}],
    )
    np.testing.assert_array_equal(found["excitation"], [488, NAN, NAN, NAN])
    np.testing.assert_array_equal(found["laser_power"], [95.5, NAN, NAN, NAN])


def test_a_filter_is_not_what_was_on() -> None:
    spectrum = {"uiCount": 1, "pPoint": {"Point0": {"eType": 4, "dWavelength": 405.0}}}
    filters = {"m_pFilter": listed({"m_ExcitationSpectrum": spectrum})}
    probe = {"m_ExcitationSpectrum": spectrum}
    found = coordinates(plane("A", pFilterPath=filters, pFluorescentProbe=probe))
    np.testing.assert_array_equal(found["excitation"], [NAN])


def test_colour_has_no_wavelengths() -> None:
    spectrum = {"pPoint": {"Point0": {"eType": 4, "dWavelength": 520.0}}}
    light = plane("Dia", 3, pFluorescentProbe={"m_EmissionSpectrum": spectrum})
    sample = device(("0-01", 488, 95.5, 1))
    for planes in ([light], [light, plane("A", uiSampleIndex=1)]):
        found = coordinates(*planes, samples=[sample, sample])
        assert np.isnan(found["emission"]).all()
        assert np.isnan(found["excitation"][:3]).all()
    assert found["C"] == ["Dia Red", "Dia Green", "Dia Blue", "A"]
    assert found["excitation"][3] == 488


def emission(*filters: dict[str, Any], probe: Any = None) -> float:
    spectra = [{"m_EmissionSpectrum": each.pop("spectrum"), **each} for each in filters]
    more: dict[str, Any] = {"pFilterPath": {"m_pFilter": listed(*spectra)}}
    if probe:
        more["pFluorescentProbe"] = {"m_EmissionSpectrum": probe}
    return float(coordinates(plane("A", **more))["emission"][0])


def spectrum(*points: tuple[int, float, float]) -> dict[str, Any]:
    return {
        "pPoint": {
            f"Point{number}": {"eType": kind, "dWavelength": nm, "dTValue": value}
            for number, (kind, nm, value) in enumerate(points)
        }
    }


PEAK, RISES, FALLS, SAMPLE = 4, 2, 3, 1


@pytest.mark.parametrize(
    ("filters", "probe", "nm"),
    [
        ([spectrum((PEAK, 525, 25))], None, 525),
        ([spectrum((PEAK, 525, 25))], spectrum((PEAK, 518, 1)), 518),
        ([spectrum((RISES, 500, 1), (FALLS, 550, 1))], None, 525),
        ([spectrum((SAMPLE, 500, 0.2), (SAMPLE, 510, 0.9), (SAMPLE, 530, 0.9))], None, 520),
        ([spectrum((PEAK, 460, 20), (PEAK, 525, 25))], None, NAN),  # of several bands, which?
        ([spectrum((PEAK, 525, 25)), spectrum((PEAK, 600, 25))], None, NAN),
        ([spectrum((PEAK, 525, 25)), spectrum((PEAK, 525, 50))], None, 525),
        ([spectrum((PEAK, 0, 0))], None, NAN),
        ([], None, NAN),
    ],
)
def test_emission_is_the_one_wavelength(filters: Any, probe: Any, nm: float) -> None:
    found = emission(*({"spectrum": each} for each in filters), probe=probe)
    np.testing.assert_equal(found, float(nm))


def test_an_emission_that_was_typed_in_counts() -> None:
    wheel = {"spectrum": spectrum((PEAK, 600, 25)), "m_ePlacement": 2}
    typed = {"spectrum": spectrum((PEAK, 525, 0)), "m_ePlacement": 6}
    assert emission(wheel, typed) == 525


def test_what_else_a_file_tells_of_channels() -> None:
    sample = {
        "dExposureTime": 20.0,
        "pCameraSetting": {
            "CameraUserName": "Fusion",
            "FormatQuality": {"fmtDesc": {"dBinningX": 2.0}},
        },
        "sOpticalConfigs": listed({"sOpticalConfigName": "Confocal"}, {"sOpticalConfigName": "x"}),
    }
    scanned = plane(
        "A", uiColor=0x0000FF, uiModalityMask=0x8000201, dPinholeDiameter=38.25, uiSampleIndex=0
    )
    found = coordinates(
        scanned, plane("B", uiSampleIndex=1), samples=[sample, {"dExposureTime": 0.0}]
    )
    np.testing.assert_array_equal(found.pop("exposure"), [20, NAN])
    np.testing.assert_array_equal(found.pop("pinhole"), [38.25, NAN])
    np.testing.assert_array_equal(found.pop("binning"), [2, NAN])
    assert found["modality"] == ["fluorescence, laser scanning confocal, GaAsP", ""]
    assert found["color"] == ["#ff0000", ""]
    assert found["camera"] == ["Fusion", ""]
    assert found["optical_configuration"] == ["Confocal, x", ""]


def test_nothing_is_said_where_nothing_is_told() -> None:
    found = coordinates(plane("A"))
    assert found.keys() == {
        "C",
        "emission",
        "excitation",
        "exposure",
        "pinhole",
        "modality",
        "color",
    }
