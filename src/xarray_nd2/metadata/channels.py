"""The channels: names, light, camera, display colours."""

from __future__ import annotations

import math
import re
from enum import IntEnum
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from xarray_nd2.metadata.label import distinct_names, hex_color, text_array
from xarray_nd2.metadata.picture_planes import COLOR_SAMPLES, channel_names, planes_of_channels

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from xarray_nd2.format.layout import ImageShape
    from xarray_nd2.metadata.label import Coordinate
    from xarray_nd2.metadata.picture_planes import PicturePlane
    from xarray_nd2.metadata.tree import Branch

# Bits of `uiModalityMask` (Laboratory Imaging's limnd2).
_MODALITY_OF_BIT: Final = {
    0x1: "fluorescence",
    0x2: "brightfield",
    0x4: "darkfield",
    0x8: "NAMC",
    0x10: "phase contrast",
    0x20: "DIC",
    0x40: "RCM",
    0x80: "VCS",
    0x100: "camera",
    0x200: "laser scanning confocal",
    0x400: "spinning disk confocal",
    0x800: "swept field confocal, slit",
    0x1000: "swept field confocal, pinholes",
    0x2000: "DSD confocal",
    0x4000: "SIM",
    0x8000: "iSIM",
    0x10000: "multiphoton",
    0x20000: "TIRF",
    0x40000: "Live-SR",
    0x80000: "light sheet",
    0x100000: "PMT",
    0x200000: "spectral",
    0x1000000: "transmitted light detector",
    0x2000000: "non-descanned detector",
    0x4000000: "virtual filter",
    0x8000000: "GaAsP",
    0x20000000: "AUX",
    0x40000000: "SoRa",
    0x100000000: "STED",
    0x200000000: "galvano",
    0x400000000: "resonant",
    0x4000000000: "NSPARC",
}
_LINE_USED: Final = re.compile(r"m_bMultiLaser_LineUsedLineUsed(\d+-\d+)")
_NO_CAMERA: Final = "N/A"  # as tools write it
_USER_OVERRIDE: Final = 6  # place of a filter: not in the light, but typed in (limnd2)


class _Point(IntEnum):
    """Kinds of points of a spectrum (limnd2)."""

    SAMPLE = 1
    RISING_EDGE = 2
    FALLING_EDGE = 3
    PEAK = 4


def channel_coordinates(image: ImageShape, planes: Sequence[PicturePlane]) -> dict[str, Coordinate]:
    """Coordinates along C and S.

    Parameters
    ----------
    image : ImageShape
        Shape of the image.
    planes : sequence of PicturePlane
        What the file says of its channels.

    Returns
    -------
    dict of str to (dims, values, attrs)
        NaN and "" where the file does not say.
    """
    names = distinct_names(channel_names(planes, image.channels))
    found = planes_of_channels(planes, image.channels)

    def along(
        value: Callable[[PicturePlane], Any], unknown: Any, name: str, **attrs: str
    ) -> Coordinate:
        values = [unknown if plane is None else value(plane) for plane in found]
        values = [unknown if each is None else each for each in values]
        array = text_array(values) if isinstance(unknown, str) else np.array(values)
        return ("C",), array, {"long_name": name, **attrs}

    nan = math.nan
    coordinates: dict[str, Coordinate] = {
        "C": (("C",), np.array(names), {"long_name": "channel"}),
        "emission": along(_emission_nm, nan, "emission wavelength", units="nm"),
        "excitation": along(_excitation_nm, nan, "excitation wavelength", units="nm"),
        "exposure": along(_exposure_ms, nan, "exposure time", units="ms"),
        "pinhole": along(_pinhole_um, nan, "pinhole diameter", units="µm"),
        "modality": along(_modality, "", "modality"),
        "color": along(_hex_color, "", "display colour"),
    }
    optional = {
        "laser_power": along(_laser_power, nan, "laser power", units="percent"),
        "binning": along(_binning, nan, "camera binning", units="1"),
        "camera": along(_camera, "", "camera"),
        "optical_configuration": along(_optical_configuration, "", "optical configuration"),
    }
    coordinates |= {name: found for name, found in optional.items() if _tells(found[1])}
    if image.samples > 1:
        names = list(COLOR_SAMPLES[: image.samples])
        coordinates["S"] = ("S",), np.array(names), {"long_name": "colour"}
    return coordinates


def _tells(values: NDArray[Any]) -> bool:
    """Whether any of the values is known."""
    return bool(np.isfinite(values).any() if values.dtype.kind == "f" else (values != "").any())


def lines_used(sample: Branch) -> list[str]:
    """Keys of the lines of lasers and lamps that were on, such as ``0-01``: device 0, line 1."""
    device = sample.below("pDeviceSetting")
    lines = [match[1] for match in map(_LINE_USED.fullmatch, device.values) if match]
    return [line for line in lines if device.flag(f"m_bMultiLaser_LineUsedLineUsed{line}")]


def _excitation_nm(plane: PicturePlane) -> float | None:
    """Wavelength of the one line that was on; several lines or white light have none."""
    lines = lines_used(plane.sample)
    if plane.in_color or len(lines) != 1:
        return None
    device = plane.sample.below("pDeviceSetting")
    return device.positive(f"m_uiMultiLaser_LineUsedLineWavelength{lines[0]}")


def _laser_power(plane: PicturePlane) -> float | None:
    lines = lines_used(plane.sample)
    if plane.in_color or len(lines) != 1:
        return None
    return plane.sample.below("pDeviceSetting").number(f"m_dMultiLaser_PowerLinePower{lines[0]}")


def _emission_nm(plane: PicturePlane) -> float | None:
    """Wavelength of the probe, or that which was typed in, or of the one emission filter."""
    if plane.in_color:
        return None
    probe = _wavelength(plane.picture.below("pFluorescentProbe").below("m_EmissionSpectrum"))
    if probe:
        return probe
    filters = plane.picture.below("pFilterPath").below("m_pFilter").branches()
    typed = [each for each in filters if each.whole("m_ePlacement") == _USER_OVERRIDE]
    told = {_wavelength(each.below("m_EmissionSpectrum")) for each in typed or filters} - {None}
    return told.pop() if len(told) == 1 else None


def _wavelength(spectrum: Branch) -> float | None:
    """The one wavelength of a spectrum: its peak, or the middle of its band; None for several."""
    points = [
        (point.whole("eType"), point.number("dWavelength"), point.number("dTValue"))
        for point in spectrum.below("pPoint").branches()
    ]
    known = [(kind, nm, value or 0.0) for kind, nm, value in points if nm is not None and nm > 0]
    peaks = {nm for kind, nm, _ in known if kind == _Point.PEAK}
    rises = [nm for kind, nm, _ in known if kind == _Point.RISING_EDGE]
    falls = [nm for kind, nm, _ in known if kind == _Point.FALLING_EDGE]
    samples = [(value, nm) for kind, nm, value in known if kind == _Point.SAMPLE]
    if len(peaks) == 1 and not rises and not falls:
        return peaks.pop()
    if not peaks and len(rises) == len(falls) == 1 and rises[0] < falls[0]:
        return (rises[0] + falls[0]) / 2
    if samples and not peaks and not rises and not falls:
        highest = max(samples)[0]
        plateau = [nm for value, nm in samples if value == highest]
        return (min(plateau) + max(plateau)) / 2
    return None


def _exposure_ms(plane: PicturePlane) -> float | None:
    return plane.sample.positive("dExposureTime")


def _pinhole_um(plane: PicturePlane) -> float | None:
    return plane.picture.positive("dPinholeDiameter")


def _modality(plane: PicturePlane) -> str:
    mask = plane.picture.whole("uiModalityMask") or 0
    return ", ".join(word for bit, word in _MODALITY_OF_BIT.items() if mask & bit)


def _hex_color(plane: PicturePlane) -> str:
    return hex_color(plane.picture.whole("uiColor"))


def _camera(plane: PicturePlane) -> str | None:
    name = plane.sample.below("pCameraSetting").text("CameraUserName")
    return None if name == _NO_CAMERA else name


def _binning(plane: PicturePlane) -> float | None:
    quality = plane.sample.below("pCameraSetting").below("FormatQuality")
    return quality.below("fmtDesc").positive("dBinningX")


def _optical_configuration(plane: PicturePlane) -> str | None:
    configurations = plane.sample.below("sOpticalConfigs").branches()
    names = [each.text("sOpticalConfigName") for each in configurations]
    return ", ".join(name for name in names if name)
