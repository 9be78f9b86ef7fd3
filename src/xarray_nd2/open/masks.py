"""Fetching the masks: which layers there are. Their planes are read when they are needed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from xarray_nd2.errors import ND2FormatError, ND2UnsupportedError
from xarray_nd2.metadata.masks import masks_group, read_layers
from xarray_nd2.metadata.tree import Oddities

if TYPE_CHECKING:
    from xarray_nd2.metadata.group import Group
    from xarray_nd2.open.opening import OpenedFile
    from xarray_nd2.open.steps import Steps

LAYERS_CHUNK: Final = b"CustomDataVar|BinaryMetadata_v1!"
"""Describes the layers."""
TILED_LAYERS_CHUNK: Final = b"CustomData|BinaryMetadata_v2!"
"""Describes layers of another kind, whose planes are tiles of pixels: they are not decoded."""
_EMPTY_JSON: Final = (b"", b"[]", b"{}", b"null")


def read_masks(opened: OpenedFile) -> Steps[Group | None]:
    """Read what a file says of its masks, whose map has a chunk that describes layers.

    Raises
    ------
    ND2FormatError
        That chunk cannot be read, or there are layers and none that could be understood.
    ND2UnsupportedError
        The file has layers, but none that are decoded.
    """
    oddities, chunks = Oddities(), opened.chunk_map.chunks
    if LAYERS_CHUNK in chunks:
        yield [opened.range_of(LAYERS_CHUNK)]
        items = opened.records_of(LAYERS_CHUNK, "BinaryMetadata_v1", oddities)
        layers = read_layers(items)
        if layers:
            return masks_group(
                layers,
                opened.layout,
                opened.chunk_map,
                opened.source.size,
                opened.metadata.coordinates,
                oddities,
            )
        if oddities:
            raise ND2FormatError(f"no layer of masks can be understood: {oddities}")
    if TILED_LAYERS_CHUNK in chunks:
        yield [opened.range_of(TILED_LAYERS_CHUNK)]
        if opened.data_of(TILED_LAYERS_CHUNK).strip(b" \t\r\n\0") not in _EMPTY_JSON:
            raise ND2UnsupportedError(
                "its masks are tiled (BinaryMetadata_v2), which are not decoded: only those of "
                "BinaryMetadata_v1 are"
            )
    return None
