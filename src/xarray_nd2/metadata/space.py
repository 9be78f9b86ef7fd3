"""Where the pixels are: the labels along Z, Y and X, and the positions of the stage."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from xarray_nd2.metadata.label import distinct_names, rounded_steps

if TYPE_CHECKING:
    from collections.abc import Mapping

    import nd2

    from xarray_nd2.format.layout import ImageShape
    from xarray_nd2.metadata.label import Coordinate


def pixel_size_um(file: nd2.ND2File) -> tuple[float, float] | None:
    """Height and width of a pixel in µm; None where the file was not calibrated, or tells nonsense."""
    channels = file.metadata.channels or []
    if not channels or not all(channels[0].volume.axesCalibrated[:2]):
        return None
    voxel = file.voxel_size()
    size = float(voxel.y), float(voxel.x)
    return size if all(0 < step < math.inf for step in size) else None


def pixel_axes(file: nd2.ND2File, image: ImageShape) -> dict[str, Coordinate]:
    """Labels along Y and X: µm, or numbers where the file was not calibrated."""
    pixel = pixel_size_um(file)
    axes: dict[str, Coordinate] = {}
    for number, (dim, size) in enumerate((("Y", image.height), ("X", image.width))):
        if pixel is None:
            attrs = {"units": "1", "long_name": f"number of the pixel along {dim}"}
            axes[dim] = (dim,), np.arange(size, dtype=np.float64), attrs
            continue
        attrs = {
            "units": "µm",
            "long_name": f"{dim} position",
            "comment": "from the centre of the first pixel",
        }
        axes[dim] = (dim,), rounded_steps(np.arange(size) * pixel[number]), attrs
    return axes


def z_axis(loop: Any, size: int) -> Coordinate:
    """Labels along the `size` planes of a Z loop: µm, or numbers where it has no step."""
    parameters = loop.parameters
    attrs = {
        "units": "µm",
        "long_name": "Z from the first plane",
        "home_index": int(parameters.homeIndex),
        "direction": "bottom to top" if parameters.bottomToTop else "top to bottom",
    }
    # Without a step the planes still need distinct labels.
    step = abs(float(parameters.stepUm))
    if not 0 < step < math.inf:
        step = 1.0
        attrs |= {"units": "1", "long_name": "number of the plane; the file has no step"}
    return ("Z",), rounded_steps(np.arange(size) * step), attrs


def position_axis(loop: Any, size: int) -> dict[str, Coordinate]:
    """Labels along the first `size` points of a position loop: names and places of the stage."""
    points = loop.parameters.points[:size]
    names = distinct_names([point.name or f"XYPos:{i}" for i, point in enumerate(points)])
    stage = np.array([point.stagePositionUm for point in points], np.float64).reshape(size, 3)
    coordinates: dict[str, Coordinate] = {
        "P": (("P",), np.array(names), {"long_name": "position", "units": "1"})
    }
    for number, axis in enumerate("xyz"):
        if axis != "z" or loop.parameters.isSettingZ:
            coordinates[f"stage_{axis}"] = ("P",), stage[:, number], _stage_attrs(axis)
    return coordinates


def stage_position(picture: Mapping[str, Any]) -> dict[str, Coordinate]:
    """Where the stage was, in µm, by the raw metadata of the first frame, as far as that tells."""
    places = {axis: picture.get(f"d{axis.upper()}Pos") for axis in "xyz"}
    return {
        f"stage_{axis}": ((), place, _stage_attrs(axis))
        for axis, place in places.items()
        if isinstance(place, float)
    }


def _stage_attrs(axis: str) -> dict[str, Any]:
    return {"units": "µm", "long_name": f"stage position, {axis}"}
