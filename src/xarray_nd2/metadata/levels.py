"""What a level of an embedded pyramid holds: fewer pixels under some of the image's labels."""

from __future__ import annotations

from typing import TYPE_CHECKING

from xarray_nd2.metadata.group import Group

if TYPE_CHECKING:
    from xarray_nd2.format.layout import FrameLayout
    from xarray_nd2.metadata.file_metadata import FileMetadata
    from xarray_nd2.metadata.label import Coordinate


def level_group(layout: FrameLayout, number: int, metadata: FileMetadata) -> Group:
    """A level: the variable ``image`` under every 2**number-th label of Y and X, and all others.

    Parameters
    ----------
    layout : FrameLayout
        Of its frames.
    number : int
        Of the level.
    metadata : FileMetadata
        Of the file.
    """
    step = 2**number
    attrs = metadata.image_attrs | {"downsampling": step}
    if "pixel_size_um" in attrs:
        attrs["pixel_size_um"] = [size * step for size in attrs["pixel_size_um"]]
    coordinates: dict[str, Coordinate] = {}
    for name, (dims, values, its_attrs) in metadata.coordinates.items():
        kept = tuple(
            slice(0, step * layout.sizes[dim], step) if dim in ("Y", "X") else slice(None)
            for dim in dims
        )
        coordinates[name] = dims, values[kept] if kept else values, its_attrs
    return Group({"image": (layout.dims, layout, attrs)}, coordinates)
