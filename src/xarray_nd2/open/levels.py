"""Finding the frames of the embedded levels of an image."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from xarray_nd2.format.layout import MISSING_OFFSET
from xarray_nd2.format.levels import possible_levels
from xarray_nd2.metadata.levels import level_group
from xarray_nd2.open.frame_headers import read_layout_of

if TYPE_CHECKING:
    from xarray_nd2.format.levels import Level
    from xarray_nd2.metadata.group import Group
    from xarray_nd2.open.opening import OpenedFile
    from xarray_nd2.open.steps import Steps


def embedded_levels(opened: OpenedFile) -> list[Level]:
    """The levels of which the map of a file has frames, the largest first."""
    numbered = opened.chunk_map.numbered
    return [
        level
        for level in possible_levels(opened.layout)
        if len(numbered.of_sequence(level.sequence.name).number)
    ]


def read_level(opened: OpenedFile, level: Level) -> Steps[Group | None]:
    """Find the frames of a level of which the map has some; None where it has none of the image's.

    Raises
    ------
    ND2FormatError
        They are not in the file, or of another size than the level.
    """
    chunk_map = opened.chunk_map.with_frames(level.sequence.name)
    layout = yield from read_layout_of(opened.reader, chunk_map, level.image, level.sequence)
    if np.all(layout.offsets.values() == MISSING_OFFSET):
        return None
    return level_group(layout, level.number, opened.metadata)
