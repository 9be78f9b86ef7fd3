"""Fetching the regions of interest."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from xarray_nd2.metadata.roi_variables import rois_group
from xarray_nd2.metadata.rois import listed_rois
from xarray_nd2.metadata.tree import Oddities

if TYPE_CHECKING:
    from xarray_nd2.metadata.group import Group
    from xarray_nd2.open.opening import OpenedFile
    from xarray_nd2.open.steps import Steps

ROIS_CHUNK: Final = b"CustomData|RoiMetadata_v1!"
"""Files of NIS-Elements have it without regions, too."""


def read_rois(opened: OpenedFile) -> Steps[Group | None]:
    """Read the regions of interest of a file whose map has the chunk of them.

    Raises
    ------
    ND2FormatError
        That chunk cannot be read.
    """
    oddities = Oddities()
    yield [opened.range_of(ROIS_CHUNK)]
    rois = listed_rois(opened.records_of(ROIS_CHUNK, "RoiMetadata_v1", oddities))
    if not rois:
        return None
    image, attrs = opened.metadata.image, opened.metadata.image_attrs
    return rois_group(rois, (image.height, image.width), attrs, oddities)
