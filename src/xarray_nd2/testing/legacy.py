"""Write legacy ND2 files (version 1): JPEG 2000 boxes, a codestream for each channel of each frame.

No microscope writes such files any more. These have what libraries that read them look for.
"""

from __future__ import annotations

import struct
from itertools import product
from typing import TYPE_CHECKING, Any, BinaryIO
from xml.etree import ElementTree as ET

import numpy as np

from xarray_nd2.format.boxes import (
    BOX_HEADER,
    BOX_MAP_COUNT,
    BOX_MAP_SIGNATURE,
    CODESTREAM_BOX,
    HEADER_BOX,
    IMAGE_HEADER,
)
from xarray_nd2.format.container import FILE_FOOTER
from xarray_nd2.testing.channel import Channel
from xarray_nd2.testing.checks import raise_unless
from xarray_nd2.testing.experiment import Loop as LoopTree
from xarray_nd2.testing.experiment import experiment, time_loop
from xarray_nd2.testing.picture import julian_date
from xarray_nd2.testing.variant import Typed, ValueType, variant_xml

if TYPE_CHECKING:
    import datetime as dt
    import os
    from collections.abc import Mapping, Sequence

    from numpy.typing import ArrayLike

    from xarray_nd2.testing.events import Event
    from xarray_nd2.testing.experiment import Point
    from xarray_nd2.testing.variant import Tree

__all__ = ["write_legacy_nd2"]

_FRAME_DIMS = "CYXS"
_WORD_OF_DIM = {"T": "T", "P": "XY", "Z": "Z", "C": "λ"}
_MAP_ENTRY = struct.Struct("<4s4sQ")


def write_legacy_nd2(
    file: str | os.PathLike[str] | BinaryIO,
    data: ArrayLike,
    dims: str,
    *,
    channels: Sequence[str | Channel] | None = None,
    pixel_size: float | None = 0.5,
    z_step: float = 1.0,
    z_home: int = 0,
    period: float = 1.0,
    stage_positions: Sequence[Point] | None = None,
    start: str | dt.datetime | np.datetime64 | None = None,
    timestamps: Sequence[float] | None = None,
    events: Sequence[Event] | None = None,
    description: str | None = None,
    planned: Mapping[str, int] | None = None,
    listed_loops: bool = False,
    reversible: bool = True,
    bits: int | None = None,
) -> None:
    """Write a legacy ND2 file; it needs ``pip install "xarray-nd2[legacy]"``.

    Parameters
    ----------
    file : str, os.PathLike or binary file object
        Where to write.
    data : array_like
        Pixels, uint8 or uint16, one axis for each of `dims`.
    dims : str
        Any of the loops T, P and Z in the order of their nesting, then optionally C, then Y and X, then
        optionally S: components of one codestream, red, green and blue.
    channels : sequence of str or Channel, optional
        One for each channel; of a `Channel` name, color, exposure, camera and binning are written.
    pixel_size : float, optional
        Height and width of a pixel in µm; None for an image that is not calibrated.
    z_step : float, optional
        Distance of planes in µm; negative for a stack from top to bottom.
    z_home : int, optional
        Number of the home plane.
    period : float, optional
        Seconds from one time to the next.
    stage_positions : sequence of (x, y, z), optional
        Place of each of P in µm.
    start, timestamps : optional
        When the first frame was taken, UTC, and seconds of each frame.
    events : sequence of Event, optional
        Of the experiment.
    description : str, optional
        Text that tells the dimensions; "" for none. By the data unless given.
    planned : mapping of str to int, optional
        Sizes of loops that the experiment tells otherwise.
    listed_loops : bool, optional
        Whether loops are listed side by side, as in the oldest files, or nested.
    reversible : bool, optional
        Whether pixels keep their values.
    bits : int, optional
        Of a component; all of the data type unless given.

    Raises
    ------
    ImportError
        The encoder is not installed.
    ValueError
        If the arguments contradict each other or the format.
    """
    from imagecodecs import jpeg2k_encode

    pixels = np.asarray(data)
    raise_unless(pixels.dtype in (np.uint8, np.uint16), f"pixels are {pixels.dtype}")
    raise_unless(pixels.ndim == len(dims), f"data has {pixels.ndim} axes, dims are {dims!r}")
    sizes = dict(zip(dims, pixels.shape, strict=True))
    loops = [dim for dim in dims if dim not in _FRAME_DIMS]
    raise_unless(set(loops) <= set("TPZ"), f"legacy files have the loops T, P and Z, not {dims!r}")
    frame_shape = (sizes.get("C", 1), sizes["Y"], sizes["X"], sizes.get("S", 1))
    frames = pixels.reshape(-1, *frame_shape)
    bits = bits or 8 * pixels.dtype.itemsize
    described = [
        each if isinstance(each, Channel) else Channel(each)
        for each in channels or [f"Ch{i}" for i in range(frame_shape[0])]
    ]
    raise_unless(len(described) == frame_shape[0], f"{len(described)} channels are described")
    points = list(stage_positions or [(0.0, 0.0, 0.0)] * sizes.get("P", 1))
    raise_unless(len(points) == sizes.get("P", 1), f"{len(points)} stage positions")
    told = sizes | dict(planned or {})
    boxes = _Boxes()
    boxes.append(b"jP  ", b"LUNK", b"\r\n\x87\n")
    boxes.append(b"ftyp", b"LUNK", b"jp2 \0\0\0\0jp2 ")
    header = IMAGE_HEADER.pack(
        IMAGE_HEADER.size, b"ihdr", sizes["Y"], sizes["X"], frame_shape[3], bits - 1, 7, 0, 0
    )
    boxes.append(HEADER_BOX, b"LUNK", header)
    for frame, channel in product(frames, range(frame_shape[0])):
        plane = frame[channel] if frame_shape[3] > 1 else frame[channel, ..., 0]
        codestream = jpeg2k_encode(
            np.ascontiguousarray(plane),
            level=0 if reversible else 40,
            codecformat="J2K",
            reversible=reversible,
            bitspersample=bits,
        )
        boxes.append(CODESTREAM_BOX, b"LUNK", bytes(codestream))
    for number in range(len(frames)):
        boxes.append(b"xml ", b"VCAL", _xml("CalibrationSeq", {"dCalibration": pixel_size or 1.0}))
        places = np.unravel_index(number, [sizes[dim] for dim in loops]) if loops else ()
        place = dict(zip(loops, map(int, places), strict=True))
        x, y, z = points[place.get("P", 0)]
        seconds = timestamps[number] if timestamps is not None else 0.0
        tree = _picture(
            described, frame_shape[3], pixel_size, (x, y, z + z_step * place.get("Z", 0))
        )
        clock = {"dTimeMSec": 1000.0 * seconds, "dTimeAbsolute": julian_date(start)}
        boxes.append(b"xml ", b"VIMD", _xml("MetadataSeq", {**clock, **tree}))
    levels = [_loop(dim, told[dim], period, z_step, z_home, points) for dim in loops]
    levels.append(LoopTree(6, {"uiCount": frame_shape[0]}))  # of the channels
    boxes.append(b"xml ", *_experiment(levels, listed=listed_loops))
    if description is None:
        each = " x ".join(f"{_WORD_OF_DIM[dim]}({sizes[dim]})" for dim in dims if dim not in "YXS")
        description = f"Metadata:\r\nDimensions: {each}\r\n"
    boxes.append(b"xml ", b"TINF", _texts(description))
    boxes.append(b"xml ", b"ARTT", _xml("AdvancedImageAttributes", {"uiSignificantBits": bits}))
    if events is not None:
        listed = [_event(event) for event in events]
        boxes.append(
            b"xml ", b"IEVE", _xml("Events", {"uiCount": len(listed), "pFirstEvent": listed})
        )
    content = boxes.finished()
    if hasattr(file, "write"):
        file.write(content)
    else:
        with open(file, "wb") as sink:  # noqa: PTH123
            sink.write(content)


class _Boxes:
    """Boxes one after the other, and their map."""

    def __init__(self) -> None:
        self._content = bytearray()
        self._map: list[bytes] = []

    def append(self, kind: bytes, tag: bytes, data: bytes) -> None:
        self._map.append(_MAP_ENTRY.pack(kind, tag, len(self._content)))
        self._content += BOX_HEADER.pack(BOX_HEADER.size + len(data), kind) + data

    def finished(self) -> bytes:
        index = BOX_MAP_COUNT.pack(len(self._map)) + b"".join(self._map)
        footer = FILE_FOOTER.pack(BOX_MAP_SIGNATURE, len(index) + FILE_FOOTER.size)
        return bytes(self._content) + index + footer


def _xml(root: str, tree: Tree) -> bytes:
    """A tree below a root element, as these files have it."""
    inside = ET.fromstring(variant_xml(tree).split(b"?>", 1)[-1])  # noqa: S314  (it was written here)
    outer = ET.Element(root, {"_VERSION": "1.000000"})
    outer.append(inside)
    content: bytes = ET.tostring(outer, "utf-8", xml_declaration=True)
    return content


def _texts(description: str) -> bytes:
    root = ET.Element("TextInfo", {"_VERSION": "1.000000"})
    for number, text in enumerate(["", description]):
        ET.SubElement(root, "TextInfoItem", {"Index": str(4 + number), "Text": text})
    content: bytes = ET.tostring(root, "utf-8")
    return content


def _picture(
    channels: Sequence[Channel], samples: int, pixel_size: float | None, stage: Point
) -> Tree:
    planes: dict[str, Tree] = {}
    for number, channel in enumerate(channels):
        camera: dict[str, Any] = {"dExposure": float(channel.exposure or 0.0)}
        if channel.camera is not None:
            camera["sCameraName"] = channel.camera
        if channel.binning is not None:
            camera["dCamBinningX"] = float(channel.binning)
        planes[f"a{number}"] = {
            "uiCompCount": samples,
            "sOpticalConfigName": channel.name,
            "sCameraSetting": camera,
            "uiColor": channel.bgr,
        }
    x, y, z = map(float, stage)
    return {
        "dXPos": x,
        "dYPos": y,
        "dZPos": z,
        "sPicturePlanes": {
            "uiCount": len(channels),
            "uiCompCount": samples * len(channels),
            "sPlane": planes,
        },
        "dCalibration": 1.0 if pixel_size is None else float(pixel_size),
        "dAspect": 1.0,
        "bCalibrated": pixel_size is not None,
    }


def _loop(
    dim: str, count: int, period: float, z_step: float, z_home: int, points: Sequence[Point]
) -> LoopTree:
    """One loop, with its values as these files have them."""
    if dim == "T":
        phase = time_loop(count, period).parameters
        return LoopTree(8, {"uiCount": count, "uiPeriodCount": 1, "pPeriod": {"_00000": phase}})
    if dim == "Z":
        heights = {"dZLow": 0.0, "dZHigh": z_step * (count - 1), "dZHome": z_step * z_home}
        return LoopTree(4, {"uiCount": count, "dZStep": abs(z_step), "bAbsolute": False, **heights})
    # The last point comes first; there may be more of them than were visited.
    more = [(-1.0, -1.0, -1.0)] * (count - len(points))
    stored = list(reversed([*points, *more]))
    columns = {
        name: {f"_{i:05}": float(point[axis]) for i, point in enumerate(stored)}
        for axis, name in enumerate(("dPosX", "dPosY", "dPosZ"))
    }
    offsets = {"dPFSOffset": {f"_{i:05}": -1.0 for i in range(len(stored))}}
    return LoopTree(2, {"uiCount": count, "bUseZ": True, **columns, **offsets})


def _experiment(levels: Sequence[LoopTree], *, listed: bool) -> tuple[bytes, bytes]:
    """Tag and data of the box of the experiment."""
    if listed:
        tree = {f"LoopNo{i:02}": experiment([level]) for i, level in enumerate(levels)}
        return b"AIMD", _xml("Metadata", tree)
    return b"AIM1", _xml(
        "Metadata_V1.2", {"vMetadata": experiment(levels), "vUnknownData": {"uiCount": 0}}
    )


def _event(event: Event) -> Tree:
    return {
        "dTime": 1000.0 * event.time,
        "eMeaning": Typed(event.kind, ValueType.UINT32),
        "wsDescription": event.description or "",
        "wsData": event.data or "",
    }
