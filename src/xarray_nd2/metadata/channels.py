"""The channels and colour samples: names, wavelengths, display colours."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from xarray_nd2.metadata.label import distinct_names

if TYPE_CHECKING:
    import nd2

    from xarray_nd2.format.layout import ImageShape
    from xarray_nd2.metadata.label import Coordinate

_SAMPLE_NAMES: Final = ("Red", "Green", "Blue", "Alpha")


def channel_coordinates(file: nd2.ND2File, image: ImageShape) -> dict[str, Coordinate]:
    """Names and facts of the channels, of a single one as scalars; names of the colour samples."""
    channels = [channel.channel for channel in file.metadata.channels or []]
    found = channels + [None] * (image.channels - len(channels))
    channel_names = distinct_names(
        [c.name if c and c.name else f"C{i}" for i, c in enumerate(found)]
    )
    facts: dict[str, tuple[list[Any], dict[str, Any]]] = {
        "C": (channel_names, {"long_name": "channel", "units": "1"}),
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
    coordinates: dict[str, Coordinate] = {
        name: (dims, np.array(values[: image.channels]) if dims else values[0], attrs)
        for name, (values, attrs) in facts.items()
    }
    if image.samples > 1:
        names = np.array(_SAMPLE_NAMES[: image.samples])
        coordinates["S"] = ("S",), names, {"units": "1", "long_name": "colour sample"}
    return coordinates


def _hex_color(color: Any) -> str:
    return f"#{color.r:02x}{color.g:02x}{color.b:02x}"
