"""What an ND2 file says about its image, as trees of the vendor's names and values.

Every tree says as little as a reader needs: the loops of the experiment, the planes of a picture,
the attributes of a frame, the texts. Names and enumerations are the vendor's. Lengths are in µm,
durations in seconds as everywhere in this package; the files hold milliseconds.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from xarray_nd2.testing.variant import Flags

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from xarray_nd2.testing.variant import Tree

__all__ = [
    "Channel",
    "Loop",
    "Point",
    "attributes",
    "experiment",
    "periods_loop",
    "picture",
    "positions_loop",
    "text_info",
    "time_loop",
    "z_loop",
]

Point = tuple[float, float, float]

_COMPRESSION_CODES = {"lossless": 0, "lossy": 1, None: 2}
_PIXEL_TYPE_CODES = {"i": 0, "u": 1, "f": 2}
_CAMERA_MODALITY = 0x100
_FLUORESCENCE_MODALITY, _BRIGHTFIELD_MODALITY = 0x1, 0x2
_PEAK_POINT_KIND = 4  # of a point of a spectrum
_TEXT_INFO_NAMES = (
    "imageId",
    "type",
    "group",
    "sampleId",
    "author",
    "description",
    "capturing",
    "sampling",
    "location",
    "date",
    "conclusion",
    "info1",
    "info2",
    "optics",
    "appVersion",
)


@dataclass(frozen=True)
class Channel:
    """What a file says about one channel.

    Parameters
    ----------
    name : str
        As the microscope names it; names need not be unique.
    emission, excitation : float, optional
        Peak wavelengths in nm.
    color : str, optional
        Display colour as ``"#rrggbb"``, white unless given.

    Raises
    ------
    ValueError
        If the colour is not written as ``"#rrggbb"``.
    """

    name: str
    emission: float | None = None
    excitation: float | None = None
    color: str | None = None

    def __post_init__(self) -> None:
        if self.color is not None and not re.fullmatch("#[0-9a-fA-F]{6}", self.color):
            raise ValueError(f"color must look like '#rrggbb', not {self.color!r}")

    @property
    def bgr(self) -> int:
        """The colour as the file has it: red in the lowest byte."""
        return int.from_bytes(bytes.fromhex((self.color or "#ffffff")[1:]), "little")


@dataclass(frozen=True)
class Loop:
    """One loop of an experiment: the vendor's type code and its parameters."""

    type: int
    parameters: Tree
    valid: Flags | None = None


def time_loop(count: int, period: float) -> Loop:
    """Loop over `count` equidistant times, `period` seconds apart."""
    return Loop(1, _time_loop_parameters(count, period))


def periods_loop(periods: Sequence[tuple[int, float]]) -> Loop:
    """Loop over several runs of equidistant times, each with its own period in seconds."""
    return Loop(
        8,
        {
            "uiCount": sum(count for count, _ in periods),
            "uiPeriodCount": len(periods),
            "pPeriod": [_time_loop_parameters(count, period) for count, period in periods],
            "pPeriodValid": Flags([True] * len(periods)),
        },
    )


def _time_loop_parameters(count: int, period: float) -> Tree:
    """Parameters of `count` equidistant times, `period` seconds apart."""
    milliseconds = 1000.0 * float(period)
    return {
        "uiCount": count,
        "dStart": 0.0,
        "dPeriod": milliseconds,
        "dDuration": milliseconds * (count - 1),
        "dMinPeriodDiff": milliseconds,
        "dMaxPeriodDiff": milliseconds,
        "dAvgPeriodDiff": milliseconds,
        "wsPhaseName": "",
        "uiLoopType": 0,
        "uiGroup": 0,
    }


def z_loop(count: int, step: float) -> Loop:
    """Loop over `count` planes, `step` µm apart; a negative step goes from top to bottom."""
    step, top_down = abs(float(step)), step < 0
    return Loop(
        4,
        {
            "uiCount": count,
            "dZLow": 0.0,
            "dZHigh": step * (count - 1),
            "dZHome": step * ((count - 1) // 2),
            "dZStep": step,
            "dReferencePosition": 0.0,
            "iType": 4 if top_down else 0,
            "bAbsolute": True,
            "bZInverted": False,
            "wsZDevice": "",
        },
    )


def positions_loop(names: Sequence[str], stage: Sequence[Point], *, use_z: bool) -> Loop:
    """Loop over positions: a name and a place of the stage (x, y, z in µm) for each."""
    return Loop(
        2,
        {
            "uiCount": len(names),
            "bUseZ": use_z,
            "bRelativeXY": False,
            "dReferenceX": 0.0,
            "dReferenceY": 0.0,
            "Points": [
                {
                    "dPosX": float(x),
                    "dPosY": float(y),
                    "dPosZ": float(z),
                    "dPFSOffset": -1.0,
                    "dPosName": name,
                }
                for name, (x, y, z) in zip(names, stage, strict=True)
            ],
        },
        Flags([True] * len(names)),
    )


def experiment(loops: Sequence[Loop]) -> Tree:
    """Nested loops, the outermost first (at least one)."""
    loop, *inner = loops
    valid: Tree = {} if loop.valid is None else {"pItemValid": loop.valid}
    below: Tree = {"ppNextLevelEx": [experiment(inner)]} if inner else {}
    return {
        "eType": loop.type,
        "wsApplicationDesc": "",
        "wsUserDesc": "",
        "uLoopPars": loop.parameters,
        **valid,
        "uiRepeatCount": 1,
        "uiNextLevelCount": len(below),
        **below,
    }


def attributes(
    *,
    shape: tuple[int, int, int],
    kind: str,
    bits: int,
    bits_significant: int,
    row_stride: int,
    frames: int,
    compression: str | None,
    compression_level: int,
) -> Tree:
    """How a frame is stored.

    Parameters
    ----------
    shape : (int, int, int)
        Height, width and components.
    kind : {"u", "i", "f"}
        Unsigned, signed or floating, as in `numpy.dtype.kind`.
    bits, bits_significant : int
        Of a component in memory, and those that carry a value.
    row_stride : int
        Bytes from one row to the next.
    frames : int
        Frames of the experiment, missing ones too.
    compression : {"lossless", "lossy"} or None
        How frames are compressed.
    compression_level : int
        0 to 9; written only with a compression.
    """
    height, width, components = shape
    return {
        "uiWidth": width,
        "uiWidthBytes": row_stride,
        "uiHeight": height,
        "uiComp": components,
        "uiBpcInMemory": bits,
        "uiBpcSignificant": bits_significant,
        "uiSequenceCount": frames,
        "uiTileWidth": width,
        "uiTileHeight": height,
        "eCompression": _COMPRESSION_CODES[compression],
        "dCompressionParam": 0.0 if compression is None else float(compression_level),
        "ePixelType": _PIXEL_TYPE_CODES[kind],
        "uiVirtualComponents": components,
    }


def picture(channels: Sequence[Channel], *, samples: int, pixel_size: float, stage: Point) -> Tree:
    """Calibration (µm per pixel), stage position (µm) and channels of `samples` components."""
    x, y, z = stage
    return {
        "dTimeAbsolute": 0.0,
        "dTimeMSec": 0.0,
        "dXPos": float(x),
        "dYPos": float(y),
        "dZPos": float(z),
        "sPicturePlanes": {
            "uiCount": len(channels),
            "uiCompCount": len(channels) * samples,
            "sPlaneNew": {f"a{i}": _picture_plane(c, i, samples) for i, c in enumerate(channels)},
            "eRepresentation": 0,
        },
        "dCalibration": float(pixel_size),
        "dAspect": 1.0,
        "bCalibrated": True,
        "wsObjectiveName": "",
        "dObjectiveMag": -1.0,
        "dObjectiveNA": -1.0,
        "dZoom": -1.0,
        "ePictureXAxis": 0,
        "ePictureYAxis": 1,
    }


def _picture_plane(channel: Channel, index: int, samples: int) -> Tree:
    """What the picture metadata say of one channel of `samples` components."""
    light = _FLUORESCENCE_MODALITY if samples == 1 else _BRIGHTFIELD_MODALITY
    return {
        "uiCompCount": samples,
        "uiSampleIndex": index,
        "uiModalityMask": light | _CAMERA_MODALITY,
        "pFluorescentProbe": {
            "m_sName": channel.name,
            "m_uiColor": channel.bgr,
            "m_ExcitationSpectrum": _spectrum_of_peak(channel.excitation),
            "m_EmissionSpectrum": _spectrum_of_peak(channel.emission),
        },
        "pFilterPath": {"m_sDescr": "", "m_uiCount": 0, "m_pFilter": []},
        "uiColor": channel.bgr,
        "sDescription": channel.name,
        "dPinholeDiameter": -1.0,
    }


def _spectrum_of_peak(peak: float | None) -> Tree:
    """Spectrum of one point at a wavelength in nm; empty for None."""
    if peak is None:
        return {"uiCount": 0, "bPoints": False, "pPoint": {}}
    point: Tree = {"eType": _PEAK_POINT_KIND, "dWavelength": float(peak), "dTValue": 1.0}
    return {"uiCount": 1, "bPoints": False, "pPoint": {"Point0": point}}


def text_info(texts: Mapping[str, str]) -> Tree:
    """Free texts under the names that ``nd2`` gives them.

    Raises
    ------
    ValueError
        If ND2 files have no text of one of the names.
    """
    if unknown := sorted(set(texts) - set(_TEXT_INFO_NAMES)):
        raise ValueError(f"text_info has no {unknown}; the names are {list(_TEXT_INFO_NAMES)}")
    return {f"TextInfoItem_{i}": texts.get(name, "") for i, name in enumerate(_TEXT_INFO_NAMES)}
