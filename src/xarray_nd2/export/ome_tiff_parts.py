"""In which parts the frames of an image are read: pure arithmetic."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    Part = dict[str, int | slice]


def parts_of(
    image_sizes: dict[str, int], plane_sizes: dict[str, int], max_frames: int
) -> Iterator[Part]:
    """Yield selections that hold all frames once, in the order in which an OME-TIFF has them.

    Parameters
    ----------
    image_sizes : dict of str to int
        The loops along which there are several images, which come one after the other.
    plane_sizes : dict of str to int
        The loops of the frames of an image, the slowest first.
    max_frames : int
        Frames of a part, at least 1.

    Yields
    ------
    dict of str to int or slice
        A number for each loop of `image_sizes`, a slice for each of `plane_sizes`.

    Examples
    --------
    >>> for part in parts_of({"P": 1}, {"T": 3, "Z": 2}, 4):
    ...     print(part)
    {'P': 0, 'T': slice(0, 2, None), 'Z': slice(0, 2, None)}
    {'P': 0, 'T': slice(2, 3, None), 'Z': slice(0, 2, None)}
    """
    room, steps = max_frames, {}
    for dim, size in reversed(plane_sizes.items()):
        steps[dim] = max(1, min(size, room))
        # Along the slower loops a part has one step, unless it has all frames of the faster ones.
        room = room // size if room >= size else 1
    starts = [range(0, size, steps[dim]) for dim, size in plane_sizes.items()]
    for image in np.ndindex(*image_sizes.values()):
        for at in itertools.product(*starts):
            slices = {
                dim: slice(start, min(start + steps[dim], size))
                for (dim, size), start in zip(plane_sizes.items(), at, strict=True)
            }
            yield {**dict(zip(image_sizes, image, strict=True)), **slices}
