"""Masks: layers of planes that say which object each pixel belongs to."""

from __future__ import annotations

import math
import re
import struct
import zlib
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from xarray_nd2.testing.checks import raise_unless, raise_unless_one_of
from xarray_nd2.testing.variant import variant_xml

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import ArrayLike, NDArray

    from xarray_nd2.testing.variant import Value

    Objects: TypeAlias = Sequence[tuple[int, NDArray[np.bool_]]]
    Plane: TypeAlias = ArrayLike | Objects | bytes | None

__all__ = ["MaskLayer", "encoded_mask", "mask_chunks"]

_OBJECT_WORDS = {2: 11, 3: 9}  # before its rows, by version


@dataclass(frozen=True)
class MaskLayer:
    """A layer of masks, and how it is called.

    Parameters
    ----------
    name : str
        As NIS-Elements shows it.
    data : array_like or callable
        Object numbers, 0 where there is none: loops x Y x X, or ``data(i)`` for the frame ``i``.
        That may also be a list of ``(number, pixels)`` with a boolean array of the pixels of each
        object, of which the later ones are on top; bytes, which are written as they are; or None,
        for no chunk at all.
    color : str, optional
        ``#rrggbb``.
    component : str, optional
        Name of the channel that it belongs to.
    component_order, layer_id : int, optional
        Further numbers; the ID counts from 1 unless given.
    tag : str, optional
        Name of the layer's chunks.
    version : {3, 2}, optional
        Of the planes.
    """

    name: str
    data: ArrayLike | Callable[[int], Plane]
    color: str | None = None
    component: str | None = None
    component_order: int | None = None
    layer_id: int | None = None
    tag: str | None = None
    version: int = 3


def mask_chunks(
    layers: Sequence[MaskLayer], frames: int, height: int, width: int
) -> dict[str, bytes]:
    """Chunks of masks by their names, the description of the layers last.

    Parameters
    ----------
    layers : sequence of MaskLayer
    frames : int
        Frames of the experiment, missing ones too.
    height, width : int
        Of the image.

    Returns
    -------
    dict of str to bytes
        Nothing where there are no layers.

    Raises
    ------
    ValueError
        If masks have another shape, or numbers that ND2 files cannot hold.
    """
    if not layers:
        return {}
    chunks: dict[str, bytes] = {}
    items: dict[str, dict[str, Value]] = {}
    for i, layer in enumerate(layers):
        raise_unless_one_of("version of a mask", layer.version, list(_OBJECT_WORDS))
        tag = f"RleZipBinarySequence_{i + 1}_v1" if layer.tag is None else layer.tag
        for frame in range(frames):
            plane = _plane(layer, frame, frames, height, width)
            if plane is not None:
                chunks[f"CustomDataSeq|{tag}|{frame}!"] = plane
        items[f"BinaryItem{i}"] = _item(layer, i + 1, tag)
    xml = variant_xml(items, "BinaryMetadata_v1")
    # The vendor gives the same name to all of them.
    xml = re.sub(rb"(</?BinaryItem)\d+", rb"\1", xml)
    return chunks | {"CustomDataVar|BinaryMetadata_v1!": xml}


def encoded_mask(objects: Objects, height: int, width: int, version: int = 3) -> bytes:
    """Data of the chunk of a plane.

    Parameters
    ----------
    objects : sequence of (int, ndarray of bool)
        Number and pixels of each.
    height, width : int
        Of the plane.
    version : {3, 2}, optional
        Of its encoding.
    """
    parts = [_encoded_object(number, pixels, version) for number, pixels in objects]
    content = b"".join(parts)
    last = len(content) - len(parts[-1]) if parts else 0
    head = struct.pack("<7I", version, width, height, len(parts), len(content), last, 0)
    return struct.pack("<I", len(head + content)) + zlib.compress(head + content)


def _item(layer: MaskLayer, number: int, tag: str) -> dict[str, Value]:
    """What is said of a layer."""
    item: dict[str, Value] = {
        "uiBinLayerID": number if layer.layer_id is None else layer.layer_id,
        "strName": layer.name,
        "uiState": 524288,
        "uiColorMode": 0,
        "strFileTag": tag,
    }
    if layer.component is not None:
        item["strCompName"] = layer.component
    if layer.component_order is not None:
        item["uiCompOrder"] = layer.component_order
    if layer.color is not None:
        item["uiColor"] = int.from_bytes(bytes.fromhex(layer.color.lstrip("#")), "little")
    return item


def _plane(layer: MaskLayer, frame: int, frames: int, height: int, width: int) -> bytes | None:
    """Data of the chunk of one frame."""
    data = layer.data
    if callable(data):
        plane: Any = data(frame)
    else:
        array = np.asarray(data)
        raise_unless(
            array.ndim >= 2
            and array.shape[-2:] == (height, width)
            and math.prod(array.shape[:-2]) == frames,
            f"masks {layer.name!r} have shape {array.shape}, {frames} frames {height} x {width}",
        )
        plane = array.reshape(frames, height, width)[frame]
    if plane is None or isinstance(plane, bytes):
        return plane
    if isinstance(plane, list):
        objects: list[tuple[int, NDArray[np.bool_]]] = plane
    else:
        labels = np.asarray(plane)
        objects = [(int(n), labels == n) for n in np.unique(labels) if n != 0]
        raise_unless(
            labels.shape == (height, width) and labels.dtype.kind in "iub",
            f"a mask of {layer.name!r} has {labels.dtype} of shape {labels.shape}",
        )
    for number, pixels in objects:
        raise_unless(
            0 <= number < 2**32 and np.shape(pixels) == (height, width),
            f"an object of {layer.name!r} has number {number} and shape {np.shape(pixels)}",
        )
    return encoded_mask(objects, height, width, layer.version)


def _encoded_object(number: int, pixels: NDArray[np.bool_], version: int) -> bytes:
    """An object: how it is called, its box and size, then its rows."""
    rows: list[bytes] = []
    edges = np.diff(np.pad(np.asarray(pixels, np.int8), ((0, 0), (1, 1))), axis=1)
    tops, begins = np.nonzero(edges == 1)
    lengths = np.nonzero(edges == -1)[1] - begins
    runs = zip(tops.tolist(), begins.tolist(), lengths.tolist(), strict=True)
    for y, of_row in groupby(runs, key=lambda run: run[0]):
        words = [word for _, *run in of_row for word in run]
        rows.append(struct.pack(f"<{2 + len(words)}I", y, len(words) // 2, *words))
    head_bytes = 4 * _OBJECT_WORDS[version]
    size = head_bytes + sum(map(len, rows))
    box = [0, 0, 0, 0]
    if len(tops):
        right = int((begins + lengths).max()) - 1
        box = [int(begins.min()), int(tops[0]), right, int(tops[-1])]
    last = size - len(rows[-1]) if rows else 0
    head = struct.pack("<9I", number, *box, size, len(rows), last, 0)
    return head.ljust(head_bytes, b"\0") + b"".join(rows)
