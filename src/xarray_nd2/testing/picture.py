"""The picture metadata of the first frame, as a tree of the vendor's names and values.

They hold the calibration, the place of the stage and the clock, and for each channel a plane and a
sample setting.
"""

from __future__ import annotations

import datetime as dt
import struct
from typing import TYPE_CHECKING

import numpy as np

from xarray_nd2.testing.checks import raise_unless
from xarray_nd2.testing.variant import Typed, ValueType

if TYPE_CHECKING:
    from collections.abc import Sequence

    from xarray_nd2.testing.channel import Channel
    from xarray_nd2.testing.experiment import Point
    from xarray_nd2.testing.variant import Tree

__all__ = ["julian_date", "picture"]

_PEAK_POINT_KIND = 4  # of a point of a spectrum
_UNIX_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_UNIX_EPOCH_JULIAN_DATE = 2440587.5


def julian_date(start: str | dt.datetime | np.datetime64 | None) -> float:
    """Julian date of a time in UTC; 0.0 for None.

    Raises
    ------
    ValueError
        If a text is not ISO 8601, or there is no time in a ``datetime64``.
    """
    if start is None:
        return 0.0
    if isinstance(start, str):
        time = dt.datetime.fromisoformat(start)
    elif isinstance(start, np.datetime64):
        raise_unless(not np.isnat(start), "start is no time")
        time = _UNIX_EPOCH + dt.timedelta(
            microseconds=int(start.astype("datetime64[us]").view("i8"))
        )
    else:
        time = start
    if time.tzinfo is None:
        time = time.replace(tzinfo=dt.UTC)
    return _UNIX_EPOCH_JULIAN_DATE + (time - _UNIX_EPOCH) / dt.timedelta(days=1)


def picture(
    channels: Sequence[Channel],
    *,
    samples: int,
    pixel_size: float | None,
    stage: Point,
    start_julian_date: float = 0.0,
    time_ms: float = 0.0,
    camera_to_stage: Sequence[float] | None = None,
    matrix_of_samples: bool = True,
) -> Tree:
    """Picture metadata of the first frame.

    Parameters
    ----------
    channels : sequence of Channel
        What is said of each.
    samples : int
        Size of the S axis, 1 without.
    pixel_size : float, optional
        In µm; None where the image is not calibrated.
    stage : (x, y, z)
        Where the frame was taken, in µm.
    start_julian_date, time_ms : float, optional
        When it was taken: as a date, and on the clock of the frames.
    camera_to_stage : sequence of float, optional
        The matrix, row by row.
    matrix_of_samples : bool, optional
        Whether it stands in each sample setting, too.
    """
    x, y, z = stage
    components = [channel.components * samples for channel in channels]
    matrix: Tree = {}
    if camera_to_stage is not None:
        raise_unless(
            np.shape(camera_to_stage) == (4,),
            f"camera_to_stage must be four numbers, not {camera_to_stage}",
        )
        names = [f"dStgLgCT{ij}" for ij in (11, 12, 21, 22)]
        matrix = dict(zip(names, map(float, camera_to_stage), strict=True))
    lines = sorted({line for channel in channels for line in channel.lines})
    of_samples = camera_to_stage if matrix_of_samples else None
    return {
        "dTimeAbsolute": start_julian_date,
        "dTimeMSec": time_ms,
        "dXPos": float(x),
        "dYPos": float(y),
        "dZPos": float(z),
        "sPicturePlanes": {
            "uiCount": len(channels),
            "uiCompCount": sum(components),
            "sPlaneNew": {
                f"a{i}": _plane(channel, i, count)
                for i, (channel, count) in enumerate(zip(channels, components, strict=True))
            },
            "uiSampleCount": len(channels),
            "sSampleSetting": {
                f"a{i}": _sample(channel, lines, of_samples) for i, channel in enumerate(channels)
            },
            "eRepresentation": 0,
        },
        "dCalibration": 1.0 if pixel_size is None else float(pixel_size),
        "dAspect": 1.0,
        "bCalibrated": pixel_size is not None,
        "wsObjectiveName": "",
        "dObjectiveMag": -1.0,
        "dObjectiveNA": -1.0,
        "dZoom": -1.0,
        "ePictureXAxis": 0,
        "ePictureYAxis": 1,
        **matrix,
    }


def _plane(channel: Channel, index: int, components: int) -> Tree:
    """What is said of the image of a channel."""
    emission = () if channel.emission is None else (float(channel.emission),)
    return {
        "uiCompCount": components,
        "uiSampleIndex": index,
        "uiModalityMask": Typed(channel.modality_mask(components), ValueType.UINT64),
        "pFluorescentProbe": {
            "m_sName": channel.name,
            "m_uiColor": channel.bgr,
            "m_ExcitationSpectrum": _spectrum_of_peaks(channel.lines),
            "m_EmissionSpectrum": _spectrum_of_peaks(emission),
        },
        "pFilterPath": {"m_sDescr": "", "m_uiCount": 0, "m_pFilter": []},
        "uiColor": channel.bgr,
        "sDescription": channel.name,
        "dPinholeDiameter": -1.0 if channel.pinhole is None else float(channel.pinhole),
    }


def _spectrum_of_peaks(wavelengths: Sequence[float]) -> Tree:
    """Spectrum of points of equal height at wavelengths in nm."""
    points: Tree = {
        f"Point{i}": {"eType": _PEAK_POINT_KIND, "dWavelength": float(nm), "dTValue": 1.0}
        for i, nm in enumerate(wavelengths)
    }
    return {"uiCount": len(points), "bPoints": False, "pPoint": points}


def _sample(channel: Channel, lines: Sequence[int], matrix: Sequence[float] | None) -> Tree:
    """With which settings a channel was taken, where the laser has `lines` in nm."""
    setting: dict[str, Tree] = {}
    camera: Tree = {} if channel.camera is None else {"CameraUserName": channel.camera}
    if channel.binning is not None:
        binning = float(channel.binning)
        format_: Tree = {"fmtDesc": {"dBinningX": binning, "dBinningY": binning}}
        camera = {**camera, "FormatQuality": format_}
    if camera:
        setting["pCameraSetting"] = camera
    if lines:
        setting["pDeviceSetting"] = _laser(channel, lines)
    if matrix is not None:
        setting["matCameraToStage"] = {
            "Columns": Typed(2, ValueType.UINT32),
            "Rows": Typed(2, ValueType.UINT32),
            "Data": struct.pack("<4d", *matrix),
        }
    name = channel.optical_configuration
    configurations: list[Tree] = [] if name is None else [{"sOpticalConfigName": name}]
    return {
        **setting,
        "uiOpticalConfigs": len(configurations),
        "sOpticalConfigs": configurations,
        "dExposureTime": 0.0 if channel.exposure is None else float(channel.exposure),
    }


def _laser(channel: Channel, lines: Sequence[int]) -> Tree:
    """A laser with `lines` in nm, those of the channel on; flags are integers there."""
    used: dict[str, int | str | Typed] = {
        "m_vectMultiLaser_LineUsed_size": Typed(1, ValueType.INT32),
        "m_iMultiLaser_LineUsedUse0": 1,
        "m_ibMultiLaser_LineUsedExist0": 1,
        "m_sMultiLaser_LineUsedKey0": "Laser",
        "m_uiMultiLaser_LineUsedLines0": len(lines),
    }
    power: dict[str, int | float | str | Typed] = {
        "m_vectMultiLaser_Power_size": Typed(1, ValueType.INT32),
        "m_iMultiLaser_PowerUse0": 1,
        "m_ibMultiLaser_PowerExist0": 1,
        "m_sMultiLaser_PowerKey0": "Laser",
        "m_uiMultiLaser_PowerLines0": len(lines),
    }
    for i, nm in enumerate(lines):
        on = nm in channel.lines
        used[f"m_bMultiLaser_LineUsedLineUsed0-{i:02}"] = Typed(int(on), ValueType.INT32)
        used[f"m_uiMultiLaser_LineUsedLineWavelength0-{i:02}"] = nm
        percent = float(channel.laser_power or 0.0) if on else 0.0
        power[f"m_uiMultiLaser_PowerLineWavelength0-{i:02}"] = nm
        power[f"m_dMultiLaser_PowerLinePower0-{i:02}"] = percent
    used["m_ibMultiLaser_LineUsedValid0"] = 1
    power["m_ibMultiLaser_PowerValid0"] = 1
    return used if channel.laser_power is None else {**used, **power}
