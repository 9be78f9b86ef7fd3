"""Reading the groups of a file: what it knows beside the image.

Each group is read in steps: it yields ranges of the file that it needs, goes on when they are held,
and returns what it holds. Groups that are read together take each step in one round trip.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

from xarray_nd2.errors import ND2FormatError, ND2UnsupportedError
from xarray_nd2.metadata.group import Group
from xarray_nd2.open.events import EVENT_CHUNKS, read_events
from xarray_nd2.open.levels import embedded_levels, read_level
from xarray_nd2.open.masks import LAYERS_CHUNK, TILED_LAYERS_CHUNK, read_masks
from xarray_nd2.open.recorded import COLUMNS_CHUNK, read_recorded
from xarray_nd2.open.rois import ROIS_CHUNK, read_rois

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from xarray_nd2.open.opening import OpenedFile
    from xarray_nd2.open.steps import Steps

IMAGE_GROUP: Final = "image"
"""Name of the image among the groups."""

_RECORDED_GROUP: Final = "recorded"


def read_groups(
    opened: OpenedFile, wanted: Collection[str] | None = None
) -> dict[str, Group | ND2FormatError | ND2UnsupportedError]:
    """Read groups of a file.

    Parameters
    ----------
    opened : OpenedFile
        The file.
    wanted : collection of str, optional
        Names of groups; all of them unless given.

    Returns
    -------
    dict of str to Group, ND2FormatError or ND2UnsupportedError
        Those that the file has; an error in place of one that is damaged, or cannot be decoded.

    Raises
    ------
    ND2SourceError
        The file cannot be read.
    """
    running = {
        name: start(opened)
        for name, start in _possible_groups(opened).items()
        if wanted is None or name in wanted
    }
    order = list(running)
    found: dict[str, Group | ND2FormatError | ND2UnsupportedError] = {}
    while running:
        needed: list[tuple[int, int]] = []
        for name, steps in list(running.items()):
            try:
                needed += next(steps)
                continue
            except StopIteration as end:
                if end.value is not None:
                    found[name] = end.value
            except (ND2FormatError, ND2UnsupportedError) as error:
                found[name] = error
            del running[name]
        opened.reader.prefetch(needed)
    return {name: found[name] for name in order if name in found}


def read_group(opened: OpenedFile, name: str) -> Group:
    """Read one group beside the image.

    Raises
    ------
    ND2FormatError
        The file has no such group, or it is damaged.
    ND2UnsupportedError
        It cannot be decoded.
    ND2SourceError
        The file cannot be read.
    """
    found = read_groups(opened, [name]).get(name)
    if found is None:
        there = ", ".join([IMAGE_GROUP, *read_groups(opened)])
        raise ND2FormatError(f"there is no group {name!r}; the file has: {there}")
    if isinstance(found, (ND2FormatError, ND2UnsupportedError)):
        raise found
    return found


def group_names(opened: OpenedFile) -> list[str]:
    """Names of the groups that can be read, without the values of recorded columns.

    Raises
    ------
    ND2SourceError
        The file cannot be read.
    """
    possible = list(_possible_groups(opened))
    # The values of the columns grow with the number of frames. The map tells that there are some.
    found = read_groups(opened, set(possible) - {_RECORDED_GROUP})
    return [
        name for name in possible if name == _RECORDED_GROUP or isinstance(found.get(name), Group)
    ]


def _possible_groups(opened: OpenedFile) -> dict[str, Callable[[OpenedFile], Steps[Group | None]]]:
    """How each group is read of which the map has a chunk, in the order in which they are shown.

    Where the chunk turns out to be empty, None is read.
    """
    possible: dict[str, Callable[[OpenedFile], Steps[Group | None]]] = {}
    if COLUMNS_CHUNK in opened.chunk_map.chunks:
        possible[_RECORDED_GROUP] = read_recorded
    if EVENT_CHUNKS & opened.chunk_map.chunks.keys():
        possible["events"] = read_events
    if ROIS_CHUNK in opened.chunk_map.chunks:
        possible["rois"] = read_rois
    if LAYERS_CHUNK in opened.chunk_map.chunks or TILED_LAYERS_CHUNK in opened.chunk_map.chunks:
        possible["masks"] = read_masks
    for level in embedded_levels(opened):
        possible[f"level{level.number}"] = partial(read_level, level=level)
    return possible
