"""The OME metadata of a file: a document of its images, made from the labels of its dataset."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import xarray as xr

from xarray_nd2.backend import ND2BackendEntrypoint
from xarray_nd2.errors import ND2UnsupportedError
from xarray_nd2.ome.channels import INSTRUMENT_ID, channel_fields, instrument, objective_settings
from xarray_nd2.ome.planes import Frames, clock_start, planes_of_image
from xarray_nd2.ome.plates import plates
from xarray_nd2.ome.values import along, known, pixel_size_um, spacing, xml_text

if TYPE_CHECKING:
    from collections.abc import Mapping

    import ome_types

_CREATOR_NAME: Final = "xarray-nd2"
_MAX_IMAGES: Final = 100_000  # which take most of a minute
# Those of 32 bits hold all values of 16, for which OME has no word.
_PIXEL_TYPES: Final = {
    **{f"{kind}{bits}": f"{kind}{bits}" for kind in ("uint", "int") for bits in (8, 16, 32)},
    "float16": "float",
    "float32": "float",
    "float64": "double",
}


def ome_metadata(target: Any, storage_options: Mapping[str, Any] | None = None) -> ome_types.OME:
    """Describe a file in the words of the Open Microscopy Environment; no pixels are read.

    There is an image for each position, and for each combination with the steps of loops that OME
    has no word for (``U``, and second loops such as ``P2``). The labels are those of
    `xarray.open_dataset`, and what they do not tell is left out.

    Parameters
    ----------
    target : str, os.PathLike, UPath, fsspec OpenFile, open binary file or xarray.Dataset
        What the backend can open, or an image that it has opened, whole or cropped.
    storage_options : mapping, optional
        Options of the URL's filesystem, such as credentials.

    Returns
    -------
    ome_types.OME
        Valid by the schema. Where its pixels are is not said (``MetadataOnly``). Lengths and
        positions are in µm, wavelengths in nm, times in s; ``AcquisitionDate`` of all images is
        the date at which ``DeltaT`` of all planes starts to count, in UTC. A channel in colour has
        several samples, red first. A plane that the file does not have is there without times.
        Pixels that are floats of 16 bits are called ``float``, since OME has no word for them and
        those of 32 bits hold all of their values.

    Warns
    -----
    UserWarning
        As when opening the file.

    Raises
    ------
    ND2UnsupportedError
        The document would have more than 100,000 images, or the dataset holds numbers that OME
        has no word for.
    ND2Error, TypeError, ValueError
        As when opening the file; ValueError also if a dataset has no variable ``image``.

    Examples
    --------
    >>> import io
    >>> import numpy as np
    >>> from xarray_nd2.testing import write_nd2
    >>> file = io.BytesIO()
    >>> write_nd2(file, np.zeros((3, 2, 8, 8), "uint16"), "TCYX", channels=["DAPI", "GFP"])
    >>> pixels = ome_metadata(file).images[0].pixels
    >>> pixels.size_t, [channel.name for channel in pixels.channels]
    (3, ['DAPI', 'GFP'])
    """
    if isinstance(target, xr.Dataset):
        if storage_options is not None:
            raise TypeError("storage_options are of a target to be opened, not of a dataset")
        return _document(target)
    dataset = xr.open_dataset(target, engine=ND2BackendEntrypoint, storage_options=storage_options)
    return _document(dataset)


def _document(dataset: xr.Dataset) -> ome_types.OME:
    from ome_types import model

    if "image" not in dataset.data_vars:
        raise ValueError("the dataset has no variable 'image'")
    frames = Frames.of(dataset)
    if frames.image_count > _MAX_IMAGES:
        raise ND2UnsupportedError(
            f"OME metadata would have {frames.image_count} images, one for each step along "
            f"{', '.join(frames.image_sizes)}; at most {_MAX_IMAGES} are made"
        )
    microscope = instrument(dataset)
    shared = known(
        acquisition_date=clock_start(dataset),
        description=xml_text(dataset.attrs["description"])
        if dataset.attrs.get("description")
        else None,
    )
    if microscope is not None:
        shared["instrument_ref"] = {"id": INSTRUMENT_ID}
    pixels, channels = _pixel_fields(dataset, frames), channel_fields(dataset)
    attrs = dataset["image"].attrs
    images = [
        model.Image(
            id=f"Image:{number}",
            name=name,
            pixels=model.Pixels(
                id=f"Pixels:{number}",
                channels=[
                    model.Channel(id=f"Channel:{number}:{place}", **fields)
                    for place, fields in enumerate(channels)
                ],
                metadata_only=model.MetadataOnly(),
                **pixels,
            ),
            **known(objective_settings=objective_settings(attrs)),
            **shared,
        )
        for number, name in enumerate(_names(dataset, frames.image_sizes))
    ]
    document = model.OME(
        creator=_CREATOR_NAME,
        images=images,
        instruments=[] if microscope is None else [microscope],
        plates=plates(dataset, frames.image_sizes),
    )
    # Only now, since the document looks for references in all that it is made of.
    for number, image in enumerate(document.images):
        image.pixels.planes = planes_of_image(frames, number)
    return document


def _pixel_fields(dataset: xr.Dataset, frames: Frames) -> dict[str, Any]:
    """What is told of the pixels of each image, as fields of `ome_types.model.Pixels`."""
    image = dataset["image"]
    if image.dtype.name not in _PIXEL_TYPES:
        raise ND2UnsupportedError(f"OME has no word for pixels of type {image.dtype}")
    bits = image.attrs.get("bits_significant")
    has_bits = type(bits) is int and 1 <= bits <= 8 * image.dtype.itemsize
    samples = image.sizes.get("S", 1)
    return known(
        dimension_order="XYCTZ" if list(frames.plane_sizes) == ["Z", "T"] else "XYCZT",
        type=_PIXEL_TYPES[image.dtype.name],
        size_x=image.sizes.get("X", 1),
        size_y=image.sizes.get("Y", 1),
        size_c=image.sizes.get("C", 1) * samples,
        size_z=image.sizes.get("Z", 1),
        size_t=image.sizes.get("T", 1),
        significant_bits=bits if has_bits else None,
        interleaved=True if samples > 1 else None,
        physical_size_x=pixel_size_um(dataset, "X"),
        physical_size_y=pixel_size_um(dataset, "Y"),
        physical_size_z=spacing(dataset, "Z", "µm"),
        time_increment=spacing(dataset, "T", "s"),
    )


def _names(dataset: xr.Dataset, sizes: dict[str, int]) -> list[str]:
    """Name of each image: of its position, else of the file; and its step along other loops."""
    labels = {}
    for dim, size in sizes.items():
        told = along(dataset, dim, {dim: size})
        labels[dim] = [str(label) for label in (range(size) if told is None else told.tolist())]
    stem = PurePosixPath(str(dataset.attrs.get("title", "image"))).stem
    names = []
    for index in np.ndindex(*sizes.values()):
        steps = {dim: labels[dim][step] for dim, step in zip(sizes, index, strict=True)}
        parts = [steps.pop("P", stem), *(f"{dim} {label}" for dim, label in steps.items())]
        names.append(xml_text(", ".join(parts)))
    return names
