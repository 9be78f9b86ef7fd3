"""The coordinates of an image: where its pixels are in time, space and colour."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from xarray_nd2.metadata.channels import channel_coordinates
from xarray_nd2.metadata.focus import recorded_heights, stage_heights, z_axis
from xarray_nd2.metadata.label import along
from xarray_nd2.metadata.space import pixel_axes, pixel_size_um, position_axis, stage_position
from xarray_nd2.metadata.time_axis import time_axis
from xarray_nd2.metadata.times import acquired, first_frame_date
from xarray_nd2.metadata.wells import well_coordinates

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from xarray_nd2.format.layout import ImageShape
    from xarray_nd2.metadata.label import Coordinate
    from xarray_nd2.metadata.loops import Dimension
    from xarray_nd2.metadata.picture_planes import PicturePlane
    from xarray_nd2.metadata.times import MeasuredTimes
    from xarray_nd2.metadata.tree import Branch
    from xarray_nd2.metadata.wells import FrameWells

    Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class FrameTables:
    """What a file has recorded of each frame, one value for each.

    Attributes
    ----------
    times : ndarray of float64
        Acquisition times, ms; empty where there are none.
    stage : mapping of str to ndarray of float64
        Places of the stage along "x", "y" and "z", µm, as far as there are any: of the first time
        point at least along z.
    wells : FrameWells or None
        Wells of a plate, if there was one.
    """

    times: Floats
    stage: Mapping[str, Floats]
    wells: FrameWells | None = None


def read_coordinates(
    image: ImageShape,
    dimensions: Sequence[Dimension],
    picture: Branch,
    planes: Sequence[PicturePlane],
    tables: FrameTables,
    times: MeasuredTimes | None,
    present: NDArray[np.bool_],
) -> dict[str, Coordinate]:
    """Coordinates of the image.

    Parameters
    ----------
    image : ImageShape
        Shape of the image.
    dimensions : sequence of Dimension
        Its loops.
    picture : Branch
        Metadata of the first frame.
    planes : sequence of PicturePlane
        Of the picture.
    tables : FrameTables
        What was recorded of each frame.
    times : MeasuredTimes or None
        What its table of times tells.
    present : ndarray of bool, shape (frames,)
        Which frames the file has.

    Returns
    -------
    dict of str to (dims, values, attrs)
        One for each dimension, and what else is known along the loops and channels.
    """
    heights = recorded_heights(tables.stage, image.loops, present)
    axes = _loop_axes(dimensions, image, times, heights)
    coordinates = axes | channel_coordinates(image, planes)
    coordinates |= pixel_axes(image, pixel_size_um(picture))
    coordinates |= _frame_times(image, times, picture)
    if not any(dimension.name[0] in "PU" for dimension in dimensions):
        coordinates |= stage_position(picture)
    if tables.wells is not None:
        coordinates |= well_coordinates(tables.wells, dimensions, present, picture.oddities)
    return coordinates | stage_heights(heights, axes, dimensions, picture)


def _loop_axes(
    dimensions: Sequence[Dimension],
    image: ImageShape,
    times: MeasuredTimes | None,
    heights: Floats | None,
) -> dict[str, Coordinate]:
    """Labels along the loops."""
    measured = None if times is None else times.seconds.reshape(image.loop_shape)
    axes: dict[str, Coordinate] = {}
    for axis, dimension in enumerate(dimensions):
        name, size, loop = dimension.name, dimension.size, dimension.loop
        if loop is None or loop.kind == "U":
            attrs = {"long_name": "number", "units": "1", "comment": "of the frame or step"}
            axes[name] = (name,), np.arange(size), attrs
        elif loop.kind == "T":
            axes[name] = time_axis(
                loop, name, size, None if measured is None else along(measured, axis)
            )
        elif loop.kind == "Z":
            axes[name] = z_axis(
                loop, name, size, None if heights is None else along(heights, axis)[:, 0]
            )
        elif loop.kind == "P":
            axes |= position_axis(loop, name, size)
    for name in axes.keys() & {"T", "Z"}:
        axes[name][2]["axis"] = name
    return axes


def _frame_times(
    image: ImageShape, times: MeasuredTimes | None, picture: Branch
) -> dict[str, Coordinate]:
    """When each frame was taken: seconds since the first, and dates."""
    found: dict[str, Coordinate] = {}
    if times is not None and not times.stood_still:
        dims = tuple(dim for dim, _ in image.loops)
        attrs = {"long_name": "time as measured", "units": "s"}
        found["time"] = dims, times.seconds.reshape(image.loop_shape), attrs
    date = acquired(first_frame_date(picture), times, image.loops)
    return found if date is None else found | {"acquired": date}
