"""The coordinates of an image: where its pixels are in time, space and colour.

Positions, steps and names are those of the `nd2` library's structures. Worked out here is what it is
known to get wrong: time runs on through a loop of several periods instead of starting again, it is
in seconds, and names are distinct so that they can label a dimension.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from xarray_nd2.metadata.channels import channel_coordinates
from xarray_nd2.metadata.space import pixel_axes, position_axis, stage_position, z_axis
from xarray_nd2.metadata.times import first_along, measured_times, time_axis

if TYPE_CHECKING:
    from collections.abc import Mapping

    import nd2
    from numpy.typing import NDArray

    from xarray_nd2.format.layout import ImageShape
    from xarray_nd2.metadata.label import Coordinate


def read_coordinates(
    file: nd2.ND2File,
    image: ImageShape,
    picture: Mapping[str, Any],
    times: NDArray[np.float64] | None,
) -> dict[str, Coordinate]:
    """Coordinates of the image.

    Parameters
    ----------
    file : nd2.ND2File
        The open skeleton.
    image : ImageShape
        Shape of the image.
    picture : mapping
        Raw metadata of the first frame.
    times : ndarray of float64 or None
        Acquisition time of each frame in ms since the start.

    Returns
    -------
    dict of str to (dims, values, attrs)
        One for each dimension, and what else is known along the loops and channels.
    """
    coordinates: dict[str, Coordinate] = {}
    loop_dims = tuple(dim for dim, _ in image.loops)
    measured = measured_times(times, tuple(size for _, size in image.loops))
    if image.loops and not file.experiment:
        attrs = {"units": "1", "long_name": "number of the frame; the experiment is lost"}
        coordinates["U"] = ("U",), np.arange(image.loops[0][1]), attrs
    for (dim, size), loop in zip(image.loops, file.experiment, strict=bool(file.experiment)):
        if dim == "T":
            first = None if measured is None else first_along(measured, loop_dims.index("T"))
            coordinates[dim] = time_axis(loop, size, first)
        elif dim == "Z":
            coordinates[dim] = z_axis(loop, size)
        elif dim == "P":
            coordinates |= position_axis(loop, size)
    coordinates |= channel_coordinates(file, image)
    coordinates |= pixel_axes(file, image)
    if measured is not None:
        attrs = {"units": "s", "long_name": "acquisition time since the start, as measured"}
        coordinates["time"] = loop_dims, measured, attrs
    if "P" not in loop_dims:
        coordinates |= stage_position(picture)
    return coordinates
