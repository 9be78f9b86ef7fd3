"""Values that an OME document can hold: of its numbers and texts some are not to be written."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

import numpy as np

if TYPE_CHECKING:
    import xarray as xr
    from numpy.typing import NDArray

_ILLEGAL_IN_XML: Final = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_LARGEST_FLOAT: Final = float(np.finfo(np.float32).max)  # the schema's numbers have 32 bits
_SMALLEST_FLOAT: Final = float(np.finfo(np.float32).tiny)
_LABEL_DECIMALS: Final = 9  # that labels are rounded to
_SAME_SIZE_TOLERANCE: Final = 1e-6  # of labels that are rounded
_MAX_ROUNDING: Final = 2e-9  # of the distance of two labels


def xml_text(value: Any) -> str:
    """A text, with U+FFFD in place of characters that XML cannot hold."""
    return _ILLEGAL_IN_XML.sub("\ufffd", str(value))


def number(value: Any) -> float | None:
    """A number as a float; None where it is not known, or none that the schema can hold."""
    if not isinstance(value, (int, float, np.integer, np.floating)):
        return None
    found = float(value)
    return found if abs(found) <= _LARGEST_FLOAT else None


def positive(value: Any) -> float | None:
    """A number that is above 0; else None."""
    found = number(value)
    return found if found is not None and found >= _SMALLEST_FLOAT else None


def known(**fields: Any) -> dict[str, Any]:
    """The fields that have a value."""
    return {name: value for name, value in fields.items() if value is not None}


def along(dataset: xr.Dataset, name: str, sizes: dict[str, int]) -> NDArray[Any] | None:
    """Values of a coordinate along dimensions, repeated where it does not vary; None without it."""
    if name not in dataset.coords or not set(dataset[name].dims) <= set(sizes):
        return None
    values: NDArray[Any] = dataset[name].variable.set_dims(sizes).transpose(*sizes).values
    return values


def spacing(dataset: xr.Dataset, dim: str, unit: str) -> float | None:
    """Distance of labels that are in a unit and all equally far from each other; else None."""
    if dim not in dataset.coords or dataset[dim].attrs.get("units") != unit:
        return None
    labels = np.atleast_1d(dataset[dim].values)
    if len(labels) < 2:
        return None
    step = float(labels[-1] - labels[0]) / (len(labels) - 1)
    if not np.allclose(np.diff(labels), step, rtol=1e-6, atol=_MAX_ROUNDING):
        return None
    return positive(round(abs(step), _LABEL_DECIMALS) or abs(step))


def pixel_size_um(dataset: xr.Dataset, dim: str) -> float | None:
    """Height or width of a pixel: as the file has it, or as the labels of a crop say."""
    sizes = dataset["image"].attrs.get("pixel_size_um")
    told = positive(sizes["YX".index(dim)]) if isinstance(sizes, list) else None
    labelled = spacing(dataset, dim, "µm")
    if told is None or labelled is None:
        return told or labelled
    return told if abs(labelled / told - 1) < _SAME_SIZE_TOLERANCE else labelled
