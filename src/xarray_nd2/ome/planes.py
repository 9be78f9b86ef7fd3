"""Planes of an image as OME has them: where and when each was taken."""

from __future__ import annotations

import datetime as dt
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from xarray_nd2.ome.channels import exposures_s
from xarray_nd2.ome.values import along, number

if TYPE_CHECKING:
    import xarray as xr
    from numpy.typing import NDArray
    from ome_types import model

_PLANE_DIMS = ("T", "Z")


@dataclass(frozen=True, eq=False)
class Frames:
    """The frames of a dataset, by the image of the document that they are in.

    Attributes
    ----------
    image_sizes : dict of str to int
        The loops that OME has no word for: there is an image for each of their combinations.
    plane_sizes : dict of str to int
        Those of T and Z that there are, in their order.
    seconds, x_um, y_um, z_um : ndarray of float64 or None
        Of each frame, of shape (images, frames of an image).
    valid : ndarray of bool or None
        Whether the file has them, of shape (images, frames of an image, channels).
    exposures_s : list of float or None
        Of each channel.
    """

    image_sizes: dict[str, int]
    plane_sizes: dict[str, int]
    seconds: NDArray[Any] | None
    x_um: NDArray[Any] | None
    y_um: NDArray[Any] | None
    z_um: NDArray[Any] | None
    valid: NDArray[Any] | None
    exposures_s: list[float | None]

    @classmethod
    def of(cls, dataset: xr.Dataset) -> Frames:
        """The frames of a dataset."""
        sizes = {str(dim): size for dim, size in dataset["image"].sizes.items()}
        loops = {dim: size for dim, size in sizes.items() if dim not in {"C", "Y", "X", "S"}}
        planes = {dim: size for dim, size in loops.items() if dim in _PLANE_DIMS}
        images = {dim: size for dim, size in loops.items() if dim not in planes}

        exposures = exposures_s(dataset)

        def values(name: str) -> NDArray[Any] | None:
            found = along(dataset, name, images | planes)
            # Where loops over points are nested, it is not known how their places combine.
            if found is None or (name in {"stage_x", "stage_y"} and f"{name}2" in dataset.coords):
                return None
            return found.reshape(math.prod(images.values()), -1)

        # Of legacy files a frame may lack one channel.
        valid = along(dataset, "frame_valid", images | planes | {"C": len(exposures)})
        return cls(
            images,
            planes,
            seconds=values("time"),
            x_um=values("stage_x"),
            y_um=values("stage_y"),
            z_um=values("stage_z"),
            valid=None
            if valid is None
            else valid.reshape(math.prod(images.values()), -1, len(exposures)),
            exposures_s=exposures,
        )

    @property
    def image_count(self) -> int:
        """Images of the document."""
        return math.prod(self.image_sizes.values())


def planes_of_image(frames: Frames, image: int) -> list[model.Plane]:
    """The planes of an image, one for each frame and channel.

    Parameters
    ----------
    frames : Frames
        Of the dataset.
    image : int
        Number of the image among those of the document.

    Returns
    -------
    list of ome_types.model.Plane
        Without times where the file does not have the frame.
    """
    from ome_types.model import Plane, UnitsLength

    exposures: list[dict[str, Any]] = [
        {} if exposure is None else {"exposure_time": exposure} for exposure in frames.exposures_s
    ]
    axis_of = {dim: axis for axis, dim in enumerate(frames.plane_sizes)}
    time_axis, z_axis = axis_of.get("T"), axis_of.get("Z")
    positions = {"position_x": frames.x_um, "position_y": frames.y_um, "position_z": frames.z_um}
    planes = []
    # Made by its constructor, since `model_construct` of pydantic takes ten times as long.
    for frame, index in enumerate(np.ndindex(*frames.plane_sizes.values())):
        fields: dict[str, Any] = {
            "the_t": 0 if time_axis is None else index[time_axis],
            "the_z": 0 if z_axis is None else index[z_axis],
        }
        for name, values in positions.items():
            position = None if values is None else number(values[image, frame])
            if position is not None:
                fields[name] = position
                fields[f"{name}_unit"] = UnitsLength.MICROMETER
        seconds = None if frames.seconds is None else number(frames.seconds[image, frame])
        times = {} if seconds is None else {"delta_t": seconds}
        for channel, exposure in enumerate(exposures):
            valid = frames.valid is None or frames.valid[image, frame, channel]
            taken = times | exposure if valid else {}
            planes.append(Plane(the_c=channel, **fields, **taken))
    return planes


def clock_start(dataset: xr.Dataset) -> dt.datetime | None:
    """The date at which the times of the planes start to count, UTC; None if it is not known.

    So it and the time of a plane are together the date at which the plane was taken.
    """
    if "acquired" in dataset.coords:
        acquired = dataset["acquired"]
        since = dataset["time"] if "time" in dataset.coords else acquired.astype("float64") * 0.0
        starts = (acquired - (since * 1e9).round().astype("timedelta64[ns]")).values.ravel()
        known = starts[~np.isnat(starts)]
        if known.size:
            microseconds = (int(known[0].astype("datetime64[ns]").astype(np.int64)) + 500) // 1000
            return dt.datetime(1970, 1, 1, tzinfo=dt.UTC) + dt.timedelta(microseconds=microseconds)
    start = dataset.attrs.get("start")
    try:
        return dt.datetime.fromisoformat(start) if isinstance(start, str) else None
    except ValueError:
        return None
