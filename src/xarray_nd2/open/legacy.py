"""Opening a legacy file (version 1): from a source to layout and labels, by its map of boxes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from xarray_nd2.errors import ND2FormatError, ND2UnsupportedError
from xarray_nd2.format.boxes import (
    BOX_HEADER,
    box_data,
    parse_box_footer,
    parse_box_map,
    parse_image_header,
)
from xarray_nd2.format.codestream import SIZE_BYTES, codestream_size
from xarray_nd2.format.container import FILE_FOOTER
from xarray_nd2.format.layout import MISSING_OFFSET, FrameLayout, FrameTable
from xarray_nd2.metadata.coordinates import FrameTables
from xarray_nd2.metadata.file_metadata import Records, metadata_of
from xarray_nd2.metadata.legacy import (
    description_of,
    legacy_attributes,
    legacy_experiment,
    legacy_picture,
    told_dimensions,
)
from xarray_nd2.metadata.legacy_xml import decoded_xml
from xarray_nd2.metadata.loops import StoredFrames
from xarray_nd2.metadata.picture_planes import Components
from xarray_nd2.metadata.tree import Branch
from xarray_nd2.read.coalesce import coalesce_ranges

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from xarray_nd2.format.boxes import BoxMap, ImageHeader
    from xarray_nd2.metadata.file_metadata import FileMetadata
    from xarray_nd2.metadata.tree import Oddities
    from xarray_nd2.open.file_reader import FileReader

LEGACY_VERSION: Final = (1, 0)
"""Of the format."""
EVENTS_TAG: Final = b"IEVE"
"""Of the box of events."""

_SINGLE_TAGS: Final = (b"AIM1", b"AIMD", b"TINF", b"ARTT")
_FRAME_TAG: Final = b"VIMD"
_MAX_BOX_BYTES: Final = 2**25  # of one box of metadata
_MAX_DESCRIPTION_BYTES: Final = 16 * 1024 * 1024  # of the metadata of all frames
_MAX_DESCRIPTION_RANGES: Final = 64  # at so many places of the file
_MAX_GAP_BYTES: Final = 64 * 1024
_STAGE_NAMES: Final = {"x": "dXPos", "y": "dYPos", "z": "dZPos"}


@dataclass(frozen=True, eq=False)
class LegacyFile:
    """What opening a legacy file gives.

    Attributes
    ----------
    layout : FrameLayout
        Of its codestreams.
    metadata : FileMetadata
        What it says of itself.
    boxes : BoxMap
        Where its other boxes are.
    """

    layout: FrameLayout
    metadata: FileMetadata
    boxes: BoxMap


def open_legacy(reader: FileReader, oddities: Oddities) -> LegacyFile:
    """Open a legacy file.

    Parameters
    ----------
    reader : FileReader
        Of the file.
    oddities : Oddities
        Where to note what of the metadata could not be read.

    Raises
    ------
    ND2FormatError
        It has no usable map of boxes, does not tell the size of its image, or has no frame.
    ND2UnsupportedError
        Its pixels are of a kind that is not known.
    """
    boxes = _read_map(reader)
    streams = boxes.codestreams
    if boxes.header is None or not len(streams):
        lacking = "size of an image" if boxes.header is None else "frame"
        raise ND2FormatError(f"the map of boxes has no {lacking}")
    described = boxes.of_tag(_FRAME_TAG)
    first = [int(boxes.of_tag(tag)[0]) for tag in _SINGLE_TAGS if len(boxes.of_tag(tag))]
    wanted = [boxes.header, *first, *_to_read(boxes, described).tolist()]
    start = int(boxes.offsets[streams[0]])
    opening = (start, min(start + BOX_HEADER.size + SIZE_BYTES, reader.size))
    ranges = [_range(reader, boxes, number) for number in wanted]
    reader.prefetch([each for each in [*ranges, opening] if each and each[0] < each[1]])
    header_range = _range(reader, boxes, boxes.header)
    if header_range is None:
        raise ND2FormatError("the size of the image is said to lie outside of the file")
    header = parse_image_header(reader.read(*header_range), header_range[0])
    single = {tag: _xml(reader, boxes, tag, oddities) for tag in _SINGLE_TAGS}
    frames = [_picture(reader, boxes, number, oddities) for number in _to_read(boxes, described)]
    count = max(len(described), len(boxes.of_tag(b"VCAL")))
    picture = Branch(frames[0] if frames else None, "picture", oddities)
    if not frames:
        oddities.note(f"there is no box {_FRAME_TAG.decode()}")
    description = description_of(single[b"TINF"].values())
    told = told_dimensions(description)
    channels = _channel_count(picture, len(streams), count, told, oddities)
    samples = _samples(reader, opening, picture, channels, header)
    numbers = np.arange(-(-len(streams) // channels))
    largest = int((boxes.stops - boxes.offsets)[streams].max(initial=1))
    stored = StoredFrames(reader.size, min(largest, reader.size), numbers)
    attributes = legacy_attributes(header, channels * samples, len(numbers), single[b"ARTT"])
    records = Records(
        LEGACY_VERSION,
        Branch(attributes, "attributes", oddities),
        picture,
        Branch({"TextInfoItem_5": description}, "texts", oddities),
        legacy_experiment(single[b"AIM1"] or single[b"AIMD"], told, len(numbers), oddities),
        Components(channels, samples),
        "jpeg2000",
    )
    tables = _tables(frames) if len(frames) == len(numbers) else FrameTables(np.empty(0), {})
    metadata = metadata_of(records, tables, stored, oddities)
    return LegacyFile(_layout(metadata, boxes), metadata, boxes)


def _read_map(reader: FileReader) -> BoxMap:
    location = parse_box_footer(reader.tail, reader.size)
    if reader.size - location > _MAX_BOX_BYTES * 4:
        raise ND2FormatError(
            f"the map of boxes is said to start at byte {location} of {reader.size}"
        )
    reader.prefetch([(location, reader.size)])
    # Behind the entries is the footer.
    return parse_box_map(reader.read(location, reader.size - FILE_FOOTER.size), location)


def _range(reader: FileReader, boxes: BoxMap, number: int) -> tuple[int, int] | None:
    """Bytes of a box of metadata; None where it cannot be one."""
    start, stop = boxes.extent(number)
    if not 0 < start < stop <= reader.size or stop - start > _MAX_BOX_BYTES:
        return None
    return start, stop


def _to_read(boxes: BoxMap, described: NDArray[np.int64]) -> NDArray[np.int64]:
    """The boxes of frames to read: all where they are small and at few places, else the first one.

    They follow each other behind the pixels in the files that are known.
    """
    order = np.argsort(boxes.offsets[described], kind="stable")
    starts, stops = boxes.offsets[described][order], boxes.stops[described][order]
    places = len(coalesce_ranges(starts, stops, _MAX_GAP_BYTES)) - 1
    small = (stops - starts).sum() <= _MAX_DESCRIPTION_BYTES
    return described if small and places <= _MAX_DESCRIPTION_RANGES else described[:1]


def _content(reader: FileReader, boxes: BoxMap, number: int, oddities: Oddities) -> dict[str, Any]:
    """Values of a box of XML; none where it cannot be read."""
    tag = bytes(boxes.tags[number])
    place = _range(reader, boxes, number)
    if place is None:
        oddities.note(
            f"the box {tag.decode('ascii', 'replace')} is said to lie outside of the file"
        )
        return {}
    try:
        return decoded_xml(tag, box_data(reader.read(*place), place[0]))
    except ND2FormatError as error:
        oddities.note(str(error))
        return {}


def _xml(reader: FileReader, boxes: BoxMap, tag: bytes, oddities: Oddities) -> dict[str, Any]:
    found = boxes.of_tag(tag)
    return _content(reader, boxes, int(found[0]), oddities) if len(found) else {}


def _picture(reader: FileReader, boxes: BoxMap, number: int, oddities: Oddities) -> dict[str, Any]:
    return legacy_picture(_content(reader, boxes, number, oddities))


def _channel_count(
    picture: Branch,
    streams: int,
    described: int,
    told: list[tuple[str, int]],
    oddities: Oddities,
) -> int:
    """Channels, each with a codestream for each frame: by the planes, if that fits the frames.

    These are as many as have boxes, of which some may be lost, or as the description tells.
    """
    planes = len(picture.below("sPicturePlanes").below("sPlaneNew").values)
    by_frames = streams // described if described and streams % described == 0 else 0
    if planes and described and planes * described != streams:
        oddities.note(
            f"there are {streams} codestreams of {described} frames, and the picture has {planes} "
            "planes: codestreams are taken in their order, since they do not tell what they are of"
        )
    by_text = bool(told) and planes * math.prod(size for _, size in told) == streams
    if planes and (planes == by_frames or not by_frames or by_text):
        return min(planes, streams)
    return by_frames or 1


def _samples(
    reader: FileReader,
    opening: tuple[int, int],
    picture: Branch,
    channels: int,
    header: ImageHeader,
) -> int:
    """Components of a codestream: by the first one, or if that is damaged by the picture's planes."""
    try:
        start, stop = opening
        samples = codestream_size(reader.read(start, stop)[BOX_HEADER.size :]).components
    except ND2FormatError:
        planes = picture.below("sPicturePlanes").below("sPlaneNew").branches()
        told = {plane.whole("uiCompCount") for plane in planes}
        samples = (told.pop() if len(told) == 1 else None) or (
            header.components if channels == 1 else 1
        )
    if samples not in (1, 3, 4):
        raise ND2UnsupportedError(f"codestreams of {samples} components are not known")
    return samples


def _tables(frames: list[dict[str, Any]]) -> FrameTables:
    """Times and places of the stage, of all frames."""
    columns = {
        name: np.array([_number(each.get(name)) for each in frames])
        for name in ("dTimeMSec", *_STAGE_NAMES.values())
    }
    times = columns["dTimeMSec"]
    stage = {axis: columns[name] for axis, name in _STAGE_NAMES.items()}
    known = {axis: places for axis, places in stage.items() if np.isfinite(places).any()}
    return FrameTables(
        np.nan_to_num(times) if np.isfinite(times).any() else np.empty(0),
        known if "z" in known else {},
    )


def _number(value: object) -> float:
    plain = isinstance(value, (int, float)) and not isinstance(value, bool)
    return float(value) if plain else np.nan  # type: ignore[arg-type]


def _layout(metadata: FileMetadata, boxes: BoxMap) -> FrameLayout:
    """Where the codestreams are, with the channels of each frame one after the other."""
    image = metadata.image.with_channels_apart()
    streams = boxes.codestreams[: image.frame_count]
    offsets = np.full(image.frame_count, MISSING_OFFSET, np.int64)
    lengths = np.zeros(image.frame_count, np.int64)
    offsets[: len(streams)] = boxes.offsets[streams]
    room = (boxes.stops - boxes.offsets)[streams]
    # Of two boxes at one place it is not known which is there.
    lengths[: len(streams)] = np.where(boxes.contested[streams], 0, room)
    return FrameLayout.of(image, FrameTable.from_values(offsets), FrameTable.from_values(lengths))
