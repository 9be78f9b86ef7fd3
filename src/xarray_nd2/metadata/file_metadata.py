"""What an ND2 file says of itself, as plain values: shape, coordinates and attributes.

The meaning of the metadata is the `nd2` library's, asked through its public interface of the
skeleton. Only where that is known to go wrong is it worked out from the library's own structures:
loops of one plane stay, and the pixel type is the one that the file states.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from xarray_nd2.errors import ND2Error, ND2FormatError
from xarray_nd2.metadata.attributes import read_file_attrs, read_image_attrs
from xarray_nd2.metadata.chunk_names import metadata_chunks
from xarray_nd2.metadata.coordinates import read_coordinates
from xarray_nd2.metadata.dimensions import MAX_COMPONENTS, read_image_shape

if TYPE_CHECKING:
    from collections.abc import Mapping

    import nd2
    import numpy as np
    from numpy.typing import NDArray

    from xarray_nd2.format.layout import ImageShape
    from xarray_nd2.metadata.dimensions import StoredFrames
    from xarray_nd2.metadata.label import Coordinate

_MAX_OPTICS_CHARACTERS: Final = 10_000  # of a text that the library searches


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
    arranged : bool
        Whether an experiment tells what the loops are; otherwise frames are numbered along U.
    """

    image: ImageShape
    coordinates: dict[str, Coordinate]
    image_attrs: dict[str, Any]
    file_attrs: dict[str, Any]
    arranged: bool


def read_metadata(
    skeleton: bytes,
    version: tuple[int, int],
    times: NDArray[np.float64] | None,
    stored: StoredFrames,
) -> FileMetadata:
    """Read a file's metadata from its skeleton.

    Parameters
    ----------
    skeleton : bytes
        A valid ND2 file of the metadata chunks alone.
    version : tuple of int
        Of the format.
    times : ndarray of float64 or None
        Acquisition time of each frame in ms since the start, where the file has them.
    stored : StoredFrames
        What the file holds.

    Returns
    -------
    FileMetadata

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
            image = read_image_shape(file, attributes, stored)
            if len(file.text_info.get("optics", "")) > _MAX_OPTICS_CHARACTERS:
                raise ND2FormatError("the text on its optics is too long")  # noqa: TRY301
            return FileMetadata(
                image,
                read_coordinates(file, image, picture, times),
                read_image_attrs(file),
                read_file_attrs(file, version),
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
    if len(planes) > MAX_COMPONENTS:
        raise ND2FormatError(f"an impossible number of planes: {len(planes)}")
    counts = [plane.get("uiCompCount", 1) for plane in planes.values()]
    if min(counts, default=0) < 0 or sum(counts) > MAX_COMPONENTS:
        raise ND2FormatError(f"impossible numbers of components: {counts[:8]}")
