"""The axes of an image in OME-Zarr, what a step along each is, and its channels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from xarray_nd2.ome.values import pixel_size_um, positive, spacing

if TYPE_CHECKING:
    import xarray as xr

_TYPE_OF_AXIS: Final = {"t": "time", "c": "channel", "z": "space", "y": "space", "x": "space"}
_SAMPLE_COLORS: Final = {"Red": "FF0000", "Green": "00FF00", "Blue": "0000FF", "Alpha": "FFFFFF"}


@dataclass(frozen=True)
class Axis:
    """One axis.

    Attributes
    ----------
    name : str
        Of ``tczyx``.
    step : float
        From one pixel to the next, in `unit`; 1 where it is not known.
    unit : str or None
        ``second`` or ``micrometer``; None where the step is not known.
    """

    name: str
    step: float = 1.0
    unit: str | None = None

    def document(self) -> dict[str, Any]:
        """As in the metadata."""
        unit = {} if self.unit is None else {"unit": self.unit}
        return {"name": self.name, "type": _TYPE_OF_AXIS[self.name], **unit}


def image_axes(dataset: xr.Dataset, *, channels: bool = True) -> list[Axis]:
    """The axes of the images of a dataset: t and z where it has them, c, y and x.

    A step along t is the mean one, along z the distance of planes whatever their direction.
    """
    dims = dataset["image"].dims
    axes = []
    if "T" in dims:
        axes.append(_axis("t", _mean_period_s(dataset), "second"))
    if channels:
        axes.append(Axis("c"))
    if "Z" in dims:
        axes.append(_axis("z", spacing(dataset, "Z", "µm"), "micrometer"))
    return axes + [
        _axis(name, pixel_size_um(dataset, dim), "micrometer") for name, dim in ("yY", "xX")
    ]


def _axis(name: str, step: float | None, unit: str) -> Axis:
    return Axis(name) if step is None else Axis(name, step, unit)


def _mean_period_s(dataset: xr.Dataset) -> float | None:
    even = spacing(dataset, "T", "s")
    if even is not None:
        return even
    if "T" not in dataset.coords or dataset["T"].attrs.get("units") != "s":
        return None
    times = np.atleast_1d(dataset["T"].values)
    return positive(float(times[-1] - times[0]) / (len(times) - 1)) if len(times) > 1 else None


def level_transformations(
    axes: list[Axis], level_count: int, embedded_count: int, *, means: bool
) -> list[list[dict[str, Any]]]:
    """Where the pixels of each level are, the image itself first.

    A mean of 2 x 2 pixels is half a pixel of theirs away from the first of them; pixels that were
    picked, and those of levels that the file has, are where the first of them was.
    """
    found = []
    shift = 0.0  # in pixels of the image
    for level in range(level_count + 1):
        if means and level > embedded_count:
            shift += 2 ** (level - 1) / 2
        scale = [axis.step * (2**level if axis.name in "yx" else 1) for axis in axes]
        moved = [axis.step * shift if axis.name in "yx" else 0.0 for axis in axes]
        transformations: list[dict[str, Any]] = [{"type": "scale", "scale": scale}]
        if shift:
            transformations.append({"type": "translation", "translation": moved})
        found.append(transformations)
    return found


def image_channels(dataset: xr.Dataset) -> list[tuple[str, str]]:
    """Name and colour (``RRGGBB``) of each channel; the samples of colour are channels."""
    image = dataset["image"]
    names = [str(name) for name in _along_channels(dataset, "C", "Channel")]
    colors = [str(color).lstrip("#") for color in _along_channels(dataset, "color", "")]
    if "S" not in image.dims:
        return [
            (name, color.upper() or "FFFFFF") for name, color in zip(names, colors, strict=True)
        ]
    samples = [str(name) for name in dataset["S"].values] if "S" in dataset.coords else []
    samples = samples or list(_SAMPLE_COLORS)[: image.sizes["S"]]
    prefixes = [f"{name} " for name in names] if len(names) > 1 else [""]
    return [
        (prefix + sample, _SAMPLE_COLORS.get(sample, "FFFFFF"))
        for prefix in prefixes
        for sample in samples
    ]


def _along_channels(dataset: xr.Dataset, name: str, default: str) -> list[Any]:
    count = dataset["image"].sizes.get("C", 1)
    if name not in dataset.coords:
        return [f"{default} {i}".strip() if default else "" for i in range(count)]
    values: list[Any] = np.atleast_1d(dataset[name].values).tolist()
    return values if len(values) == count else values * count
