"""What an ND2 file says of itself, as plain values: shape, coordinates and attributes.

The nd2 library decodes the metadata, through its public interface: records of named values, in two
encodings. What the values mean is worked out here, from one value at a time, so that one which is
missing, odd or beyond nd2 costs its own label and no other.
"""

from __future__ import annotations

import io
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from xarray_nd2.errors import ND2FormatError
from xarray_nd2.metadata.attributes import file_attrs, image_attrs, nd2_says
from xarray_nd2.metadata.chunk_names import metadata_chunks
from xarray_nd2.metadata.coordinates import read_coordinates
from xarray_nd2.metadata.dimensions import component_count, read_image_shape
from xarray_nd2.metadata.experiment import read_experiment
from xarray_nd2.metadata.loops import is_time, loop_dimensions
from xarray_nd2.metadata.picture_planes import arranged_components, read_picture_planes
from xarray_nd2.metadata.space import pixel_size_um
from xarray_nd2.metadata.times import read_clock, read_times
from xarray_nd2.metadata.tree import Branch, Oddities

if TYPE_CHECKING:
    from collections.abc import Collection

    import nd2

    from xarray_nd2.format.layout import Compression, ImageShape
    from xarray_nd2.metadata.coordinates import FrameTables
    from xarray_nd2.metadata.experiment import Experiment
    from xarray_nd2.metadata.label import Coordinate
    from xarray_nd2.metadata.loops import StoredFrames
    from xarray_nd2.metadata.picture_planes import Components
    from xarray_nd2.metadata.times import Clock

# The record that is all of a chunk in files of version 3.
_ROOT_OF_PART: Final = {
    "attributes": "SLxImageAttributes",
    "picture": "SLxPictureMetadata",
    "experiment": "SLxExperiment",
    "text": "SLxImageTextInfo",
}
_MAX_SEARCHED_CHARACTERS: Final = 10_000  # of a text that nd2 searches, in the square of its length
_MAX_LISTED: Final = 4096  # planes, and components of them, for which nd2 makes lists


@dataclass(frozen=True, eq=False)
class FileMetadata:
    """Everything that is known of a file when it has been opened.

    Attributes
    ----------
    image : ImageShape
        Shape and encoding.
    coordinates : dict of str to (dims, values, attrs)
        Of the image, non-index ones included.
    image_attrs, file_attrs : dict
        Plain JSON-able attributes.
    clock : Clock
        Of the experiment.
    """

    image: ImageShape
    coordinates: dict[str, Coordinate]
    image_attrs: dict[str, Any]
    file_attrs: dict[str, Any]
    clock: Clock


def read_metadata(
    skeleton: bytes,
    parts: Collection[str],
    damaged: Collection[str],
    version: tuple[int, int],
    tables: FrameTables,
    stored: StoredFrames,
    oddities: Oddities,
) -> FileMetadata:
    """Read a file's metadata from its skeleton.

    Parameters
    ----------
    skeleton : bytes
        A valid ND2 file of the metadata chunks alone.
    parts : collection of str
        Which of them it has: "attributes", and any of "picture", "experiment" and "text".
    damaged : collection of str
        Which of these are not complete.
    version : tuple of int
        Of the format.
    tables : FrameTables
        What was recorded of each frame.
    stored : StoredFrames
        What the file holds.
    oddities : Oddities
        Where to note what could not be read; its labels are neutral.

    Returns
    -------
    FileMetadata

    Raises
    ------
    ND2FormatError
        The image attributes cannot be understood, or describe more than the file can hold; or more
        frames are absent than can be.
    ND2UnsupportedError
        The frames are compressed in a lossy way, or are of an unknown pixel type.
    """
    import nd2

    try:
        file = nd2.ND2File(io.BytesIO(skeleton))
    except Exception as error:
        raise ND2FormatError(f"nd2 cannot open its metadata: {error}") from error
    with file:
        attributes, picture, experiment, texts = (
            _decoded(file, part, parts, version, oddities) for part in _ROOT_OF_PART
        )
        loops = read_experiment(experiment)
        if "experiment" in damaged or ("experiment" in parts and not experiment):
            loops = replace(loops, sound=False)
        records = Records(version, attributes, picture, texts, loops)
        metadata = metadata_of(records, tables, stored, oddities)
        if _is_bounded(picture, texts):
            metadata.file_attrs["nd2_metadata"] = nd2_says(file)
    return metadata


@dataclass(frozen=True, eq=False)
class Records:
    """The values of the metadata chunks, with the names of version 3.

    Attributes
    ----------
    version : tuple of int
        Of the format.
    attributes, picture, texts : Branch
        Of the image, of the first frame, and what the user wrote.
    experiment : Experiment
        The loops.
    components : Components or None
        How the components of a pixel are delivered; by the planes of the picture where None.
    compression : {"none", "lossless", "jpeg2000"} or None
        Of the frames; by the attributes where None.
    """

    version: tuple[int, int]
    attributes: Branch
    picture: Branch
    texts: Branch
    experiment: Experiment
    components: Components | None = None
    compression: Compression | None = None


def metadata_of(
    records: Records, tables: FrameTables, stored: StoredFrames, oddities: Oddities
) -> FileMetadata:
    """Everything that the records of a file tell, but for what nd2 makes of them.

    Parameters
    ----------
    records : Records
        Decoded.
    tables, stored, oddities
        As of `read_metadata`, which raises the same.
    """
    attributes, picture = records.attributes, records.picture
    components = component_count(attributes)
    planes = read_picture_planes(picture, components)
    planned = attributes.whole("uiSequenceCount") or 0
    dimensions = loop_dimensions(records.experiment, stored, planned, oddities)
    arranged = records.components or arranged_components(planes, components)
    image = read_image_shape(attributes, arranged, dimensions, stored, records.compression)
    present = stored.present(image.frame_count)
    times = read_times(tables.times, present, picture)
    return FileMetadata(
        image,
        read_coordinates(image, dimensions, picture, planes, tables, times, present),
        image_attrs(attributes, picture, planes, pixel_size_um(picture)),
        file_attrs(records.version, picture, records.texts),
        read_clock(times, picture),
    )


def rows_of_first_time(skeleton: bytes, version: tuple[int, int], stored: StoredFrames) -> int:
    """How many of the first frames hold the first time point, of all other loops.

    Parameters
    ----------
    skeleton : bytes
        A valid ND2 file that has the experiment.
    version : tuple of int
        Of the format.
    stored : StoredFrames
        What the file holds.
    """
    import nd2

    oddities = Oddities()
    with nd2.ND2File(io.BytesIO(skeleton)) as file:
        experiment = _decoded(file, "experiment", ["experiment"], version, oddities)
    dimensions = loop_dimensions(read_experiment(experiment), stored, 0, oddities)
    last, after = 0, 1
    for dimension in reversed(dimensions):
        if not is_time(dimension.name):
            last += (dimension.size - 1) * after
        after *= dimension.size
    return last + 1


def _decoded(
    file: nd2.ND2File,
    part: str,
    parts: Collection[str],
    version: tuple[int, int],
    oddities: Oddities,
) -> Branch:
    """The values of a chunk; an empty branch if it is not there, or cannot be decoded."""
    if part not in parts:
        return Branch(None, part, oddities)
    key = metadata_chunks(version)[part].decode().rstrip("!")
    decoded = file.unstructured_metadata(strip_prefix=False, include={key}).get(key)
    values = decoded.get(_ROOT_OF_PART[part], decoded) if isinstance(decoded, dict) else None
    if not isinstance(values, dict) or not values:
        oddities.note(f"the chunk {key} cannot be decoded")
    return Branch(values, part, oddities)


def _is_bounded(picture: Branch, texts: Branch) -> bool:
    """Whether nd2 takes bounded time and memory for what it makes of planes and texts."""
    optics = texts.values.get("TextInfoItem_13")
    planes = picture.values.get("sPicturePlanes")
    listed = planes.get("sPlaneNew") or planes.get("sPlane") if isinstance(planes, dict) else None
    counts = [
        plane.get("uiCompCount", 1) if isinstance(plane, dict) else 1
        for plane in (listed.values() if isinstance(listed, dict) else ())
    ]
    total = sum(count if isinstance(count, int) else _MAX_LISTED + 1 for count in counts)
    texts_fit = not isinstance(optics, str) or len(optics) <= _MAX_SEARCHED_CHARACTERS
    return texts_fit and len(counts) <= _MAX_LISTED and 0 <= total <= _MAX_LISTED
