"""Masks: which layers there are, and the labels of their planes."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from xarray_nd2.format.mask_planes import LAYER_DIM, MaskPlanes
from xarray_nd2.metadata.group import Group
from xarray_nd2.metadata.label import distinct_names, hex_color, text_array

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from xarray_nd2.format.chunk_map import ChunkMap
    from xarray_nd2.format.layout import ImageShape
    from xarray_nd2.metadata.label import Coordinate
    from xarray_nd2.metadata.tree import Branch, Oddities

_MAX_LAYERS: Final = 1024
_TYPE_PREFIX: Final = re.compile(r"^(?:m_)?[a-z]+(?=[A-Z])")
# Coordinates of whole numbers by the name of the value: of each its own name and what it is.
_NUMBERS_OF_LAYER: Final = {
    "BinLayerID": ("layer_id", "number by which NIS-Elements knows the layer"),
    "CompOrder": ("layer_component_order", "place of the layer's component among all, as stored"),
    "State": ("layer_state", "state of the layer, as stored"),
    "ColorMode": ("layer_color_mode", "how the layer is coloured, as stored"),
}


@dataclass(frozen=True)
class MaskLayer:
    """What the file says of a layer of masks.

    Attributes
    ----------
    tag : str
        Its part of the names of its chunks.
    name : str
        As NIS-Elements shows it; the tag where it has none.
    component : str
        Name of the channel that it belongs to; empty where that is not told.
    color : str
        ``#rrggbb``; empty where it is not told.
    numbers : mapping of str to int
        Those of `_NUMBERS_OF_LAYER` that are told.
    """

    tag: str
    name: str
    component: str
    color: str
    numbers: Mapping[str, int]


def read_layers(items: Branch) -> list[MaskLayer]:
    """The layers that a file describes, in its order.

    Parameters
    ----------
    items : Branch
        The description; what of it is odd is noted there. A layer is left out only if it does not
        tell which chunks are its own.
    """
    layers: dict[str, MaskLayer] = {}
    for stored in items.branches():
        # Names are found with and without the prefix that tells their type.
        plain = {_TYPE_PREFIX.sub("", name): value for name, value in stored.values.items()}
        item = stored.with_values(plain)
        tag = item.text("FileTag", needed=True)
        if tag is None:
            continue
        if not tag or not tag.isascii() or not tag.isprintable() or "!" in tag or tag in layers:
            item.note_odd("FileTag")
            continue
        if len(layers) == _MAX_LAYERS:
            item.oddities.note(f"there are more than {_MAX_LAYERS} layers")
            break
        told = {name: item.whole(name) for name in _NUMBERS_OF_LAYER}
        layers[tag] = MaskLayer(
            tag=tag,
            name=(item.text("Name") or "").strip() or tag,
            component=(item.text("CompName") or "").strip(),
            color=hex_color(item.whole("Color")),
            numbers={name: value for name, value in told.items() if value is not None},
        )
    return list(layers.values())


def masks_group(
    layers: Sequence[MaskLayer],
    image: ImageShape,
    chunk_map: ChunkMap,
    file_bytes: int,
    coordinates: Mapping[str, Coordinate],
    oddities: Oddities,
) -> Group:
    """The masks along layers and the loops of the image, read on demand.

    Parameters
    ----------
    layers : sequence of MaskLayer
        At least one.
    image : ImageShape
        The image that the masks are of.
    chunk_map : ChunkMap
        Of the file.
    file_bytes : int
        Size of the file.
    coordinates : mapping of str to (dims, values, attrs)
        Of the image; those along loops, Y and X are those of the group too.
    oddities : Oddities
        What was odd about the layers.

    Raises
    ------
    ND2FormatError
        There are more planes than can be.
    """
    tags = [layer.tag.encode("ascii") for layer in layers]
    planes = MaskPlanes.of(image, tags, chunk_map, file_bytes)
    numbers = [chunk_map.numbered.of_sequence(name).number for name in planes.sequences]
    beyond = sum(int(np.count_nonzero(each >= image.frame_count)) for each in numbers)
    if beyond:
        oddities.note(f"{beyond} masks are of frames that the image does not have")
    labels = {
        name: given
        for name, given in coordinates.items()
        if given[0] and set(given[0]) <= set(planes.dims)
    }
    labels |= _labels_of_layers(layers)
    mask_attrs = {
        "long_name": "number of the object",
        "comment": "0 where there is none; where objects overlap, the one that is later in the file",
    }
    valid_attrs = {"long_name": "whether the file has a mask of this layer and frame"}
    return Group(
        {
            "mask": (planes.dims, planes, mask_attrs),
            "mask_valid": (planes.dims[:-2], planes.present(), valid_attrs),
        },
        labels,
        oddities=oddities,
    )


def _labels_of_layers(layers: Sequence[MaskLayer]) -> dict[str, Coordinate]:
    """Coordinates along the layers; those of which nothing is told are left out."""
    texts = {
        "layer_component": ("channel that the layer belongs to", [x.component for x in layers]),
        "layer_color": ("display colour", [x.color for x in layers]),
        "layer_tag": ("part of the names of the layer's chunks", [x.tag for x in layers]),
    }
    names = text_array(distinct_names([layer.name for layer in layers]))
    labels: dict[str, Coordinate] = {LAYER_DIM: ((LAYER_DIM,), names, {"long_name": "layer"})}
    for name, (long_name, values) in texts.items():
        if any(values):
            labels[name] = (LAYER_DIM,), text_array(values), {"long_name": long_name}
    for stored, (name, long_name) in _NUMBERS_OF_LAYER.items():
        told = [layer.numbers.get(stored) for layer in layers]
        if any(value is not None for value in told):
            known = all(value is not None for value in told)
            numbers = np.array(
                [np.nan if value is None else value for value in told],
                np.int64 if known else np.float64,
            )
            labels[name] = (LAYER_DIM,), numbers, {"long_name": long_name}
    return labels
