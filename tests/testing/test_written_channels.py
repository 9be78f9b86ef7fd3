"""Channels and colour of `write_nd2`, as ``nd2``, the vendor's names and the bytes tell them."""

from __future__ import annotations

import io
import re
import struct
import zlib
from typing import Any

import nd2
import numpy as np
import pytest

from tests.testing.written import (
    CONTAINER_VERSIONS,
    channels_of,
    chunks_of,
    frame_of,
    opened,
    pixels,
    raw_picture,
    written,
)
from xarray_nd2.testing import Channel
from xarray_nd2.testing.channel import MODALITY_BITS

# ---- colour


@pytest.mark.parametrize("compression", [None, "lossless"])
def test_colour_is_stored_blue_first(compression: str | None) -> None:
    data = np.zeros((2, 3, 3), "uint8")
    data[...] = 200, 100, 50  # Red, Green, Blue
    with opened(data, "YXS", compression=compression) as read:
        np.testing.assert_array_equal(read.asarray()[..., ::-1], data)
        assert read.asarray()[0, 0].tolist() == [50, 100, 200]


def test_alpha_stays_last() -> None:
    data = pixels(4, 5, 4)
    found = frame_of(written(data, "YXS", row_alignment=1), 0, "u2", 40, 4, 5, 4)
    np.testing.assert_array_equal(found, data[..., [2, 1, 0, 3]])


@pytest.mark.parametrize("compression", [None, "lossless"])
@pytest.mark.parametrize("colour_first", [True, False])
@pytest.mark.parametrize("components", [3, 4])
@pytest.mark.parametrize("version", CONTAINER_VERSIONS)
def test_colour_beside_channels(
    version: tuple[int, int], components: int, colour_first: bool, compression: str | None
) -> None:
    count = components + 2
    data = pixels(2, count, 4, 5, dtype="uint8")
    colour, others = Channel("Brightfield", components=components), [Channel("a"), Channel("b")]
    channels = [colour, *others] if colour_first else [*others, colour]
    file = written(
        data, "TCYX", channels=channels, version=version, row_alignment=1, compression=compression
    )
    blue_first = [2, 1, 0, 3][:components]
    order = (
        [*blue_first, components, components + 1]
        if colour_first
        else [0, 1, *(2 + i for i in blue_first)]
    )
    frame = chunks_of(file)["ImageDataSeq|1!"].data[8:]
    stored = frame if compression is None else zlib.decompress(frame)
    found = np.frombuffer(stored, "u1").reshape(4, 5, count)
    np.testing.assert_array_equal(found, data[1, order].transpose(1, 2, 0))
    planes = raw_picture(file)["sPicturePlanes"]
    assert planes["uiCount"] == 3
    assert planes["uiCompCount"] == count
    counts = [plane["uiCompCount"] for plane in planes["sPlaneNew"].values()]
    assert counts == ([components, 1, 1] if colour_first else [1, 1, components])
    with nd2.ND2File(io.BytesIO(file)) as read:
        assert read.attributes.componentCount == count


def test_a_callable_gives_colour_beside_channels() -> None:
    data = pixels(2, 4, 4, 5)
    channels = [Channel("a"), Channel("b", components=3)]
    expected = written(data, "TCYX", channels=channels)
    sizes = {"T": 2, "C": 4, "Y": 4, "X": 5}
    found = written(lambda i: data[i], "TCYX", channels=channels, sizes=sizes, dtype="uint16")
    assert found == expected


# ---- what is said of a channel


@pytest.mark.parametrize("version", CONTAINER_VERSIONS)
def test_settings_of_each_channel(version: tuple[int, int]) -> None:
    asked = [
        Channel("a", exposure=12.5, pinhole=39.5, camera="Fusion, SN:1", binning=2),
        Channel("b"),
        Channel("c", exposure=500, optical_configuration="Confocal: GFP"),
    ]
    file = written(pixels(3, 5, 8), "CYX", channels=asked, version=version)
    picture = raw_picture(file)["sPicturePlanes"]
    assert picture["uiSampleCount"] == 3
    assert [p["uiSampleIndex"] for p in picture["sPlaneNew"].values()] == [0, 1, 2]
    assert [p["dPinholeDiameter"] for p in picture["sPlaneNew"].values()] == [39.5, -1, -1]
    samples = picture["sSampleSetting"]
    assert [samples[f"a{i}"]["dExposureTime"] for i in range(3)] == [12.5, 0, 500]
    assert samples["a0"]["pCameraSetting"]["CameraUserName"] == "Fusion, SN:1"
    assert samples["a0"]["pCameraSetting"]["FormatQuality"]["fmtDesc"]["dBinningX"] == 2.0
    assert "pCameraSetting" not in samples["a1"]
    assert [samples[f"a{i}"]["uiOpticalConfigs"] for i in range(3)] == [0, 0, 1]
    configuration = samples["a2"]["sOpticalConfigs"]["i0000000000"]
    assert configuration == {"sOpticalConfigName": "Confocal: GFP"}
    with nd2.ND2File(io.BytesIO(file)) as read:
        pinholes = [channel.microscope.pinholeDiameterUm for channel in channels_of(read)]
    assert pinholes == [39.5, None, None]


def lines_on(sample: dict[str, Any]) -> dict[int, float | None]:
    """Power by wavelength of the lines that were on, as a reader of real files looks for them."""
    device = sample.get("pDeviceSetting", {})
    found = {}
    for name, on in device.items():
        if match := re.fullmatch(r"m_bMultiLaser_LineUsedLineUsed(\d+-\d\d)", name):
            assert type(on) is int  # and no flag
            if on:
                line = match[1]
                wavelength = device[f"m_uiMultiLaser_LineUsedLineWavelength{line}"]
                found[wavelength] = device.get(f"m_dMultiLaser_PowerLinePower{line}")
    return found


@pytest.mark.parametrize("version", CONTAINER_VERSIONS)
def test_lines_that_were_on(version: tuple[int, int]) -> None:
    asked = [
        Channel("none"),
        Channel("one", excitation=561.0),
        Channel("two", excitation=[405, 640], laser_power=12.5),
        Channel("first", excitation=405, laser_power=3),
    ]
    file = written(pixels(4, 5, 8), "CYX", channels=asked, version=version)
    samples = raw_picture(file)["sPicturePlanes"]["sSampleSetting"]
    assert [lines_on(sample) for sample in samples.values()] == [
        {},
        {561: None},
        {405: 12.5, 640: 12.5},
        {405: 3.0},
    ]
    device = samples["a1"]["pDeviceSetting"]
    assert device["m_uiMultiLaser_LineUsedLines0"] == 3
    assert device["m_vectMultiLaser_LineUsed_size"] == 1
    assert device["m_iMultiLaser_LineUsedUse0"] == device["m_ibMultiLaser_LineUsedValid0"] == 1
    assert [device[f"m_uiMultiLaser_LineUsedLineWavelength0-0{i}"] for i in range(3)] == [
        405,
        561,
        640,
    ]
    with nd2.ND2File(io.BytesIO(file)) as read:
        excitations = [channel.channel.excitationLambdaNm for channel in channels_of(read)]
    assert excitations == [None, 561, 405, 405]


def test_without_lines_there_is_no_laser() -> None:
    samples = raw_picture(written(pixels(5, 8), "YX"))["sPicturePlanes"]["sSampleSetting"]
    assert list(samples) == ["a0"]
    assert "pDeviceSetting" not in samples["a0"]


@pytest.mark.parametrize("word", MODALITY_BITS)
def test_every_word_of_a_modality(word: str) -> None:
    head, *tail = word.split()
    flag = head + "".join(part.capitalize() for part in tail)
    light = "brightfield" if word != "brightfield" else "fluorescence"
    with opened(pixels(5, 8), "YX", channels=[Channel("a", modality=[word, light])]) as read:
        assert set(channels_of(read)[0].microscope.modalityFlags) == {flag, light}


def test_modality_is_of_64_bits() -> None:
    file = written(pixels(5, 8), "YX", channels=[Channel("a", modality="brightfield")])
    name = "uiModalityMask".encode("utf-16-le") + b"\0\0"
    assert (
        b"\x05\x0f" + name + struct.pack("<Q", 2) in chunks_of(file)["ImageMetadataSeqLV|0!"].data
    )


# ---- of the whole picture


@pytest.mark.parametrize("version", CONTAINER_VERSIONS)
def test_camera_to_stage(version: tuple[int, int]) -> None:
    matrix = (0.25, -1.5, 1.0, 0.125)
    file = written(pixels(2, 5, 8), "CYX", camera_to_stage=matrix, version=version)
    picture = raw_picture(file)
    assert [picture[f"dStgLgCT{ij}"] for ij in (11, 12, 21, 22)] == list(matrix)
    samples = picture["sPicturePlanes"]["sSampleSetting"].values()
    if version == (3, 0):
        for sample in samples:
            stored = sample["matCameraToStage"]
            assert (stored["Rows"], stored["Columns"]) == (2, 2)
            assert struct.unpack("<4d", bytes(stored["Data"])) == matrix
    else:
        assert not any("matCameraToStage" in sample for sample in samples)
    with nd2.ND2File(io.BytesIO(file)) as read:
        found = [channel.volume.cameraTransformationMatrix for channel in channels_of(read)]
    assert found == [matrix, matrix]


def test_no_camera_to_stage() -> None:
    picture = raw_picture(written(pixels(5, 8), "YX"))
    assert not [name for name in picture if name.startswith("dStgLg")]
    assert "matCameraToStage" not in picture["sPicturePlanes"]["sSampleSetting"]["a0"]


@pytest.mark.parametrize("version", CONTAINER_VERSIONS)
@pytest.mark.parametrize("pixel_size", [None, 0.25])
def test_calibration(pixel_size: float | None, version: tuple[int, int]) -> None:
    with opened(pixels(5, 8), "YX", pixel_size=pixel_size, version=version) as read:
        calibrated = channels_of(read)[0].volume.axesCalibrated[:2]
        assert tuple(calibrated) == (pixel_size is not None,) * 2
        assert read.voxel_size().x == (pixel_size or 1.0)
