"""What an ND2 file says of itself, as plain values: sizes, coordinates and attributes.

The meaning of the metadata is the `nd2` library's, asked through its public interface of the
skeleton. Only where that is known to go wrong is it worked out here from the library's own
structures: loops of one plane stay, and the pixel type is the one that the file states.
"""

from __future__ import annotations

import dataclasses
import io
import json
import math
import operator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from xarray_nd2.errors import ND2Error, ND2FormatError, ND2UnsupportedError
from xarray_nd2.metadata.coordinates import pixel_size, read_coordinates

if TYPE_CHECKING:
    from collections.abc import Mapping

    import nd2
    from numpy.typing import NDArray

    from xarray_nd2.metadata.coordinates import Coordinate

TIMES_CHUNK = b"CustomData|AcqTimesCache!"
# Instead of picture metadata that is lost: no planes, no calibration.
NO_PICTURE = (
    b'<variant><no_name><bCalibrated runtype="bool" value="false"/>'
    b'<dCalibration runtype="double" value="0"/>'
    b'<sPicturePlanes><uiCount runtype="lx_uint32" value="0"/></sPicturePlanes></no_name></variant>'
)

# What a file may say of itself before that is taken for a lie.
_MAX_SIDE = 2**24  # pixels
_MAX_COMPONENTS = 4096
_MAX_LOOPS = 16
_MAX_OPTICS = 10_000  # characters of a text that the library searches
_MAX_EMPTY = 1_000_000  # frames that an experiment planned, however few of them were written
_MAX_INFLATION = 1032  # of zlib (https://zlib.net/zlib_tech.html)

_DIM_OF_LOOP = {"TimeLoop": "T", "NETimeLoop": "T", "XYPosLoop": "P", "ZStackLoop": "Z"}
# `ePixelType` of the attributes: signed, unsigned, real (Laboratory Imaging's limnd2).
_KIND_OF_PIXEL_TYPE = {0: "i", 1: "u", 2: "f"}


@dataclass(frozen=True, eq=False)
class ImageFacts:
    """Shape and encoding of the image.

    Attributes
    ----------
    loops : tuple of (str, int)
        Dimension and size of each loop of the experiment, outermost first.
    channels, height, width, samples : int
        Size of a frame; `samples` is above 1 for RGB(A) only.
    dtype : numpy.dtype
        Of one component, little-endian.
    row_stride : int
        Bytes from one row to the next.
    compression : {"none", "lossless"}
        Of the frames.
    """

    loops: tuple[tuple[str, int], ...]
    channels: int
    height: int
    width: int
    samples: int
    dtype: np.dtype[np.generic]
    row_stride: int
    compression: Literal["none", "lossless"]


@dataclass(frozen=True, slots=True)
class Stored:
    """What the file holds, by which is judged what it says of its sizes.

    Attributes
    ----------
    size : int
        Bytes of the file.
    frames : int
        Frames in it.
    largest : int
        Bytes of the largest of them, as far as its map tells.
    numbered : int
        One more than the highest number of a frame.
    rescue : bool
        Whether to make the best of it where something is lost.
    """

    size: int
    frames: int
    largest: int
    numbered: int
    rescue: bool = False


@dataclass(frozen=True, eq=False)
class Metadata:
    """Everything that is known of a file when it has been opened.

    Attributes
    ----------
    image : ImageFacts
        Shape and encoding.
    coordinates : dict of str to (dims, values, attrs)
        Of the image, non-index ones included.
    image_attrs, file_attrs : dict
        Plain JSON-able attributes.
    arranged : bool
        Whether an experiment tells what the loops are; otherwise frames are numbered along U.
    """

    image: ImageFacts
    coordinates: dict[str, Coordinate]
    image_attrs: dict[str, Any]
    file_attrs: dict[str, Any]
    arranged: bool


def metadata_chunks(version: tuple[int, int]) -> dict[str, bytes]:
    """Names of the metadata chunks that an open file needs, by what they hold."""
    suffix = b"LV" if version[0] >= 3 else b""
    return {
        "attributes": b"ImageAttributes" + suffix + b"!",
        "picture": b"ImageMetadataSeq" + suffix + b"|0!",
        "experiment": b"ImageMetadata" + suffix + b"!",
        "text": b"ImageTextInfo" + suffix + b"!",
    }


def read_metadata(
    skeleton: bytes,
    version: tuple[int, int],
    times: NDArray[np.float64] | None,
    stored: Stored,
) -> Metadata:
    """Read a file's metadata from its skeleton.

    Parameters
    ----------
    skeleton : bytes
        A valid ND2 file of the metadata chunks alone.
    version : tuple of int
        Of the format.
    times : ndarray of float64 or None
        Acquisition time of each frame in ms since the start, where the file has them.
    stored : Stored
        What the file holds.

    Returns
    -------
    Metadata

    Raises
    ------
    ND2FormatError
        The metadata is missing, cannot be understood, or describes more than the file can hold.
    ND2UnsupportedError
        The frames are compressed in a lossy way, or are of an unknown pixel type.
    """
    import nd2

    names = metadata_chunks(version)
    try:
        with nd2.ND2File(io.BytesIO(skeleton)) as file:
            attributes = _raw_chunk(file, names["attributes"], "SLxImageAttributes")
            picture = _raw_chunk(file, names["picture"], "SLxPictureMetadata")
            _check_planes(picture)
            image = _image_facts(file, attributes, stored)
            if len(file.text_info.get("optics", "")) > _MAX_OPTICS:
                raise ND2FormatError("the text on its optics is too long")  # noqa: TRY301
            return Metadata(
                image,
                read_coordinates(file, image, picture, times),
                _image_attrs(file),
                _file_attrs(file, version),
                arranged=bool(file.experiment) or not image.loops,
            )
    except ND2Error:
        raise
    except Exception as error:
        raise ND2FormatError(
            f"the metadata cannot be understood: {type(error).__name__}: {error}"
        ) from error


def _raw_chunk(file: nd2.ND2File, name: bytes, wrapper: str) -> Mapping[str, Any]:
    """The chunk as nested mappings, without the wrapper it has in version 3."""
    key = name.decode().rstrip("!")
    chunk = file.unstructured_metadata(strip_prefix=False, include={key})[key]
    raw: Mapping[str, Any] = chunk.get(wrapper, chunk)
    return raw


def _check_planes(picture: Mapping[str, Any]) -> None:
    """Check the numbers of components, for which the library makes lists."""
    planes = picture.get("sPicturePlanes", {})
    planes = planes.get("sPlaneNew") or planes.get("sPlane", {})
    if len(planes) > _MAX_COMPONENTS:
        raise ND2FormatError(f"an impossible number of planes: {len(planes)}")
    counts = [plane.get("uiCompCount", 1) for plane in planes.values()]
    if min(counts, default=0) < 0 or sum(counts) > _MAX_COMPONENTS:
        raise ND2FormatError(f"impossible numbers of components: {counts[:8]}")


def _image_facts(file: nd2.ND2File, raw: Mapping[str, Any], stored: Stored) -> ImageFacts:
    attributes = file.attributes
    if attributes.compressionType == "lossy":
        raise ND2UnsupportedError("its frames are compressed in a lossy way")
    bits = operator.index(attributes.bitsPerComponentInMemory)
    components = operator.index(attributes.componentCount)
    kind = _KIND_OF_PIXEL_TYPE.get(raw.get("ePixelType", -1), attributes.pixelDataType[0])
    if bits not in ((16, 32, 64) if kind == "f" else (8, 16, 32)):
        raise ND2UnsupportedError(f"pixels of {bits} bits of kind {kind!r} are not known")
    dtype = np.dtype(f"<{kind}{bits // 8}")
    height = operator.index(attributes.heightPx)
    width = operator.index(attributes.widthPx or 0)
    channels = operator.index(attributes.channelCount or components)
    samples = components // channels
    # Colour is three or four components in one channel; any other number is channels.
    if channels * samples != components or samples not in (1, 3, 4):
        channels, samples = components, 1
    row = width * components * dtype.itemsize
    row_stride = operator.index(attributes.widthBytes or row)
    if (
        not (0 < height <= _MAX_SIDE and 0 < width <= _MAX_SIDE)
        or not 0 < components <= _MAX_COMPONENTS
        or row_stride < row
    ):
        raise ND2FormatError(
            f"impossible frames: {width} by {height} pixels of {components} components, "
            f"{row_stride} bytes a row"
        )
    compression: Literal["none", "lossless"] = (
        "lossless" if attributes.compressionType == "lossless" else "none"
    )
    most = stored.size if compression == "none" else stored.largest * _MAX_INFLATION
    if height * row_stride > most:
        raise ND2FormatError(
            f"a frame is said to take {height * row_stride} bytes, of which there can be {most}"
        )
    return ImageFacts(
        _loops(file, stored), channels, height, width, samples, dtype, row_stride, compression
    )


def _loops(file: nd2.ND2File, stored: Stored) -> tuple[tuple[str, int], ...]:
    loops: dict[str, int] = {}
    for loop in file.experiment:
        dim = _DIM_OF_LOOP.get(loop.type, "U")
        loops[dim if dim not in loops else f"{dim}{len(loops)}"] = operator.index(loop.count)
    if len(loops) > _MAX_LOOPS:
        raise ND2FormatError(f"an impossible number of loops: {len(loops)}")
    numbered = stored.numbered
    if stored.rescue:  # the last frames may be lost
        numbered = max(numbered, operator.index(file.attributes.sequenceCount))
    if not loops and numbered > 1:
        if not stored.rescue:
            raise ND2FormatError(
                f"there are {stored.frames} frames, but no experiment that arranges them; "
                "rescue=True numbers them"
            )
        loops["U"] = numbered
    most = max(_MAX_EMPTY, 100 * stored.frames)
    if math.prod(loops.values()) > most or min(loops.values(), default=1) < 1:
        raise ND2FormatError(
            f"an impossible number of frames: {loops}, of which the file has {stored.frames}"
        )
    return tuple(loops.items())


def _image_attrs(file: nd2.ND2File) -> dict[str, Any]:
    attrs: dict[str, Any] = {
        "long_name": "intensity",
        "bits_significant": int(file.attributes.bitsPerComponentSignificant),
    }
    pixel = pixel_size(file)
    if pixel is not None:
        attrs["pixel_size_um"] = list(pixel)
    microscope = next((c.microscope for c in file.metadata.channels or []), None)
    for key, name in (
        ("objective", "objectiveName"),
        ("magnification", "objectiveMagnification"),
        ("numerical_aperture", "objectiveNumericalAperture"),
        ("refractive_index", "immersionRefractiveIndex"),
        ("pinhole_um", "pinholeDiameterUm"),
    ):
        value = getattr(microscope, name, None)
        if value is not None:
            attrs[key] = value
    return attrs


def _file_attrs(file: nd2.ND2File, version: tuple[int, int]) -> dict[str, Any]:
    full = {
        "attributes": file.attributes._asdict(),
        "experiment": [dataclasses.asdict(loop) for loop in file.experiment],
        "metadata": dataclasses.asdict(file.metadata),
    }
    return {
        "format": f"ND2 {version[0]}.{version[1]}",
        **{key: str(value) for key, value in file.text_info.items()},
        # One string, since attributes of netCDF and Zarr do not nest alike.
        "nd2_metadata": json.dumps(full, default=str, ensure_ascii=False),
    }
