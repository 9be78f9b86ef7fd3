"""Where the pixels are in time, space and colour: the coordinates of an image.

Positions, steps and names are those of the `nd2` library's structures. Worked out here is what it is
known to get wrong: time runs on through a loop of several periods instead of starting again, it is
in seconds, and names are distinct so that they can label a dimension.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    import nd2
    from numpy.typing import NDArray

    from xarray_nd2.metadata.reading import ImageFacts

Coordinate = tuple[tuple[str, ...], Any, dict[str, Any]]
"""Dimensions, values and attributes."""

SAMPLE_NAMES = ("Red", "Green", "Blue", "Alpha")
_DECIMALS = 9  # of seconds and µm, far below what either is known to
_LONGEST_NAME = 255  # characters; an array of names takes as much for each as for the longest


def read_coordinates(
    file: nd2.ND2File,
    image: ImageFacts,
    picture: Mapping[str, Any],
    times: NDArray[np.float64] | None,
) -> dict[str, Coordinate]:
    """Coordinates of the image.

    Parameters
    ----------
    file : nd2.ND2File
        The open skeleton.
    image : ImageFacts
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
    measured = _measured_times(times, tuple(size for _, size in image.loops))
    if image.loops and not file.experiment:
        attrs = {"units": "1", "long_name": "number of the frame; the experiment is lost"}
        coordinates["U"] = ("U",), np.arange(image.loops[0][1]), attrs
    for (dim, size), loop in zip(image.loops, file.experiment, strict=bool(file.experiment)):
        if dim == "T":
            first = None if measured is None else _first_along(measured, loop_dims.index("T"))
            coordinates[dim] = _time_axis(loop, size, first)
        elif dim == "Z":
            coordinates[dim] = _z_axis(loop, size)
        elif dim == "P":
            coordinates |= _positions(loop, size)
    coordinates |= _channels(file, image)
    coordinates |= _pixel_axes(file, image)
    if measured is not None:
        attrs = {"units": "s", "long_name": "acquisition time since the start, as measured"}
        coordinates["time"] = loop_dims, measured, attrs
    if "P" not in loop_dims:
        for axis in "xyz":
            where = picture.get(f"d{axis.upper()}Pos")
            if isinstance(where, float):
                coordinates[f"stage_{axis}"] = (), where, _stage_attrs(axis)
    return coordinates


def pixel_size(file: nd2.ND2File) -> tuple[float, float] | None:
    """Height and width of a pixel in µm; None where the file was not calibrated, or tells nonsense."""
    channels = file.metadata.channels or []
    if not channels or not all(channels[0].volume.axesCalibrated[:2]):
        return None
    voxel = file.voxel_size()
    size = float(voxel.y), float(voxel.x)
    return size if all(0 < step < math.inf for step in size) else None


def _pixel_axes(file: nd2.ND2File, image: ImageFacts) -> dict[str, Coordinate]:
    pixel = pixel_size(file)
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
        axes[dim] = (dim,), _decimal(np.arange(size) * pixel[number]), attrs
    if image.samples > 1:
        names = np.array(SAMPLE_NAMES[: image.samples])
        axes["S"] = ("S",), names, {"units": "1", "long_name": "colour sample"}
    return axes


def _measured_times(
    times: NDArray[np.float64] | None, loop_shape: tuple[int, ...]
) -> NDArray[np.float64] | None:
    """Times of all frames in seconds, shaped as the loops; NaN past the end of the file's table."""
    if times is None or not len(times):
        return None
    count = math.prod(loop_shape)
    seconds = np.full(count, np.nan)
    seconds[: len(times)] = times[:count] / 1000
    return seconds.reshape(loop_shape)


def _first_along(values: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
    """First of the values at each step along `axis`."""
    return np.moveaxis(values, axis, 0).reshape(values.shape[axis], -1)[:, 0]


def _time_axis(loop: Any, size: int, measured: NDArray[np.float64] | None) -> Coordinate:
    """Nominal time of each step of a time loop; where it has none, the time measured."""
    periods = getattr(loop.parameters, "periods", None) or [loop.parameters]
    steps = [_period_ms(period) for period in periods]
    how = "by the average period as run" if any(map(_average_ms, periods)) else "as planned"
    attrs = {"units": "s", "long_name": f"time since the first frame, {how}"}
    if all(0 < step < math.inf for step in steps):
        counts = [getattr(period, "count", size) for period in periods]
        if sum(counts) >= size:
            # One period after another: the next begins a step after the last frame of this one.
            begin = np.concatenate([[0.0], np.cumsum(np.multiply(steps, counts))[:-1]])
            runs = [
                b + np.arange(n) * step for b, n, step in zip(begin, counts, steps, strict=True)
            ]
            return ("T",), _decimal(np.concatenate(runs)[:size] / 1000), attrs
    filled = None if measured is None else _without_gaps(measured)
    if filled is not None:
        attrs["long_name"] = "time since the first frame, as measured"
        return ("T",), filled - filled[0], attrs
    attrs = {"units": "1", "long_name": "number of the time point; the file has no timing"}
    return ("T",), np.arange(size, dtype=np.float64), attrs


def _average_ms(period: Any) -> float:
    average = period.periodDiff.avg if period.periodDiff is not None else 0
    return float(average) if average and average > 0 else 0.0


def _period_ms(period: Any) -> float:
    return _average_ms(period) or float(period.periodMs or 0)


def _without_gaps(measured: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """Measured times with those that are lacking in between; None if too few are there, or they lie.

    A frame that was not taken has the time 0, or none.
    """
    steps = np.arange(len(measured))
    known = np.isfinite(measured) & ((measured > 0) | (steps == 0))
    rises = np.diff(measured[known]) / np.diff(steps[known])
    if not len(rises) or not (rises > 0).all():
        return None
    first, last = steps[known][[0, -1]]
    filled = np.interp(steps, steps[known], measured[known])
    outside = np.where(steps < first, steps - first, np.maximum(steps - last, 0))
    times: NDArray[np.float64] = filled + outside * np.median(rises)
    return times


def _z_axis(loop: Any, size: int) -> Coordinate:
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
    return ("Z",), _decimal(np.arange(size) * step), attrs


def _decimal(values: NDArray[np.floating[Any]]) -> NDArray[np.floating[Any]]:
    """Multiples of a step as one would write them: 0.3 instead of 0.30000000000000004.

    So a label that was typed is found, and a slice has both of its ends.
    """
    rounded = np.round(values, _DECIMALS)
    return rounded if (np.diff(rounded) > 0).all() else values


def _positions(loop: Any, size: int) -> dict[str, Coordinate]:
    points = loop.parameters.points[:size]
    names = _unique([point.name or f"XYPos:{i}" for i, point in enumerate(points)])
    stage = np.array([point.stagePositionUm for point in points], np.float64).reshape(size, 3)
    coordinates: dict[str, Coordinate] = {
        "P": (("P",), np.array(names), {"long_name": "position", "units": "1"})
    }
    for number, axis in enumerate("xyz"):
        if axis != "z" or loop.parameters.isSettingZ:
            coordinates[f"stage_{axis}"] = ("P",), stage[:, number], _stage_attrs(axis)
    return coordinates


def _stage_attrs(axis: str) -> dict[str, Any]:
    return {"units": "µm", "long_name": f"stage position, {axis}"}


def _channels(file: nd2.ND2File, image: ImageFacts) -> dict[str, Coordinate]:
    """Names and facts of the channels; of a single one as scalars."""
    channels = [channel.channel for channel in file.metadata.channels or []]
    found = channels + [None] * (image.channels - len(channels))
    names = _unique([c.name if c and c.name else f"C{i}" for i, c in enumerate(found)])
    facts: dict[str, tuple[list[Any], dict[str, Any]]] = {
        "C": (names, {"long_name": "channel", "units": "1"}),
        "emission": (
            [c.emissionLambdaNm if c and c.emissionLambdaNm else math.nan for c in found],
            {"units": "nm", "long_name": "emission wavelength"},
        ),
        "excitation": (
            [c.excitationLambdaNm if c and c.excitationLambdaNm else math.nan for c in found],
            {"units": "nm", "long_name": "excitation wavelength"},
        ),
        "color": (
            [_hex_color(c.color) if c else "" for c in found],
            {"units": "1", "long_name": "display colour of the channel"},
        ),
    }
    dims = ("C",) if image.channels > 1 else ()
    return {
        name: (dims, np.array(values[: image.channels]) if dims else values[0], attrs)
        for name, (values, attrs) in facts.items()
    }


def _hex_color(color: Any) -> str:
    return f"#{color.r:02x}{color.g:02x}{color.b:02x}"


def _unique(names: list[str]) -> list[str]:
    """Names made distinct by numbering those that come again.

    Examples
    --------
    >>> _unique(["DAPI", "GFP", "DAPI"])
    ['DAPI', 'GFP', 'DAPI (2)']
    """
    taken: dict[str, int] = {}
    result = []
    for given in names:
        name = distinct = str(given)[:_LONGEST_NAME]
        while distinct in taken:
            taken[name] += 1
            distinct = f"{name} ({taken[name]})"
        taken[distinct] = 1
        result.append(distinct)
    return result
