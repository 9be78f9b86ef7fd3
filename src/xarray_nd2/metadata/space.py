"""Where the pixels are: the labels along Y and X, the points, and the positions of the stage."""

from __future__ import annotations

import math
import struct
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from xarray_nd2.metadata.label import distinct_names, rounded, rounded_steps, text_array
from xarray_nd2.metadata.tree import MAX_MAGNITUDE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from xarray_nd2.format.layout import ImageShape
    from xarray_nd2.metadata.experiment import Loop
    from xarray_nd2.metadata.label import Coordinate
    from xarray_nd2.metadata.picture_planes import PicturePlane
    from xarray_nd2.metadata.tree import Branch

_MATRIX_STRUCT: Final = struct.Struct("<4d")
_MATRIX_NAMES: Final = ("dStgLgCT11", "dStgLgCT12", "dStgLgCT21", "dStgLgCT22")


def pixel_size_um(picture: Branch) -> float | None:
    """Height and width of a pixel in µm; None where the file was not calibrated, or tells nonsense."""
    if not picture or not picture.flag("bCalibrated", needed=True):
        return None
    size = picture.number("dCalibration", needed=True)
    return size if size is not None and size > 0 else None


def pixel_axes(image: ImageShape, pixel_um: float | None) -> dict[str, Coordinate]:
    """Labels along Y and X: µm, or numbers where the file was not calibrated."""
    axes: dict[str, Coordinate] = {}
    for dim, size in (("Y", image.height), ("X", image.width)):
        attrs = {"long_name": dim, "units": "µm", "comment": "from the centre of the first pixel"}
        values = np.arange(size, dtype=np.float64)
        if pixel_um is None:
            attrs |= {"units": "1", "comment": "number of the pixel; the file is not calibrated"}
        else:
            values = rounded_steps(values * pixel_um)
        axes[dim] = (dim,), values, attrs | {"axis": dim}
    return axes


def position_axis(loop: Loop, dim: str, size: int) -> dict[str, Coordinate]:
    """Labels along the points of a loop: distinct names, the file's names, and places of the stage.

    Parameters
    ----------
    loop : Loop
        Over positions.
    dim : str
        Its dimension: P, or P2 for a second such loop, of which all labels get that number.
    size : int
        Points; there may be more of them than the loop has.
    """
    number = dim[1:]
    names = [_name(point) for point in loop.items] + [""] * (size - len(loop.items))
    distinct = distinct_names([name or f"XYPos:{i}" for i, name in enumerate(names)])
    coordinates: dict[str, Coordinate] = {
        dim: ((dim,), np.array(distinct), {"long_name": "position"}),
        f"position_name{number}": ((dim,), text_array(names), {"long_name": "position name"}),
    }
    relative = loop.parameters.flag("bRelativeXY") or False
    for axis in "xy":
        upper = axis.upper()
        origin = loop.parameters.number(f"dReference{upper}") if relative else 0.0
        if origin is None:
            continue
        places = np.full(size, np.nan)
        for index, point in enumerate(loop.items):
            place = point.number(f"dPos{upper}")
            places[index] = math.nan if place is None else origin + place
        coordinates[f"stage_{axis}{number}"] = (dim,), rounded(places), stage_attrs(axis)
    return coordinates


def _name(point: Branch) -> str:
    return point.text("dPosName") or point.text("pPosName") or ""


def stage_position(picture: Branch) -> dict[str, Coordinate]:
    """Where the stage was, in µm, by the metadata of the first frame, as far as that tells."""
    places = {axis: picture.number(f"d{axis.upper()}Pos") for axis in "xy"}
    return {
        f"stage_{axis}": ((), float(rounded(place)), stage_attrs(axis))
        for axis, place in places.items()
        if place is not None
    }


def stage_attrs(axis: str) -> dict[str, Any]:
    """Attributes of a position of the stage."""
    return {"long_name": f"stage {axis}", "units": "µm"}


def camera_to_stage(picture: Branch, planes: Sequence[PicturePlane]) -> list[float] | None:
    """Matrix from directions on the camera to those of the stage, row by row.

    That of the planes where they have one and agree, else that of the picture; one of zeros stands
    for "not known".
    """
    found = []
    for plane in planes:
        matrix = plane.sample.below("matCameraToStage")
        data = matrix.bytes_of("Data") or b""
        if (matrix.whole("Rows"), matrix.whole("Columns"), len(data)) == (
            2,
            2,
            _MATRIX_STRUCT.size,
        ):
            found.append(list(_MATRIX_STRUCT.unpack(data)))
    known = [
        matrix
        for matrix in found
        if any(matrix) and all(abs(each) < MAX_MAGNITUDE for each in matrix)
    ]
    if known:
        return known[0] if np.allclose(known, known[0], rtol=0, atol=1e-3) else None
    values = [picture.number(name) for name in _MATRIX_NAMES]
    told = [value for value in values if value is not None]
    return told if len(told) == len(values) and any(told) else None
