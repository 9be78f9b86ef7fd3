"""The OME document of an image, which says where in the file its planes are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from xarray_nd2.ome.document import ome_metadata

if TYPE_CHECKING:
    import xarray as xr


def described_planes(dataset: xr.Dataset, planes_of_image: int) -> bytes:
    """The document of images whose planes lie in a file one after the other.

    Parameters
    ----------
    dataset : xarray.Dataset
        The image.
    planes_of_image : int
        Directories of the file for each image of the document, in its ``DimensionOrder``.

    Returns
    -------
    bytes
        XML in UTF-8, valid by the schema.

    Raises
    ------
    ND2UnsupportedError
        As of `ome_metadata`.
    """
    from ome_types import model

    document = ome_metadata(dataset)
    for number, image in enumerate(document.images):
        image.pixels.metadata_only = None
        image.pixels.tiff_data_blocks = [
            model.TiffData(ifd=number * planes_of_image, plane_count=planes_of_image)
        ]
    xml: str = document.to_xml(validate=False)
    return xml.encode("utf-8")
