"""The loops of an image: from what the experiment says, and how many frames there are, to dimensions.

No frame is dropped. Where the experiment explains fewer frames than there are, its outermost loop goes
on; where it is damaged and does not come to their number, they are numbered along U.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from xarray_nd2.metadata.experiment import Experiment, Loop
    from xarray_nd2.metadata.tree import Oddities


@dataclass(frozen=True, eq=False, slots=True)
class StoredFrames:
    """What the file holds, by which is judged what it says of its sizes.

    Attributes
    ----------
    file_bytes : int
        Size of the file.
    largest_frame_bytes : int
        Size of the largest frame, as far as its map tells.
    numbers : ndarray of int64
        Numbers of the frames.
    rescue : bool
        Whether to make the best of it where something is lost.
    """

    file_bytes: int
    largest_frame_bytes: int
    numbers: NDArray[np.int64]
    rescue: bool = False

    @property
    def count(self) -> int:
        """Number of frames."""
        return len(self.numbers)

    @property
    def numbered(self) -> int:
        """One more than the highest number of a frame."""
        return int(self.numbers.max(initial=-1)) + 1

    def present(self, count: int) -> NDArray[np.bool_]:
        """Which of the frames 0 to `count` are there."""
        present = np.zeros(count, bool)
        present[self.numbers[self.numbers < count]] = True
        return present


@dataclass(frozen=True, eq=False, slots=True)
class Dimension:
    """A dimension of loops: its name, its size, and the loop; None for frames that are numbered."""

    name: str
    size: int
    loop: Loop | None


def is_time(dim: str) -> bool:
    """Whether a dimension is of times; along all others the stage may move."""
    return dim[0] == "T"


def loop_dimensions(
    experiment: Experiment, stored: StoredFrames, planned: int, oddities: Oddities
) -> list[Dimension]:
    """The dimensions that the frames are arranged along, the outermost first.

    Parameters
    ----------
    experiment : Experiment
        What it says of its loops.
    stored : StoredFrames
        What the file holds.
    planned : int
        Frames that were to be written, by the image attributes; 0 if these do not say. Only where
        the last frames may be lost does it count.
    oddities : Oddities
        Where to note that frames are numbered, or beyond the loops.

    Returns
    -------
    list of Dimension
        T, P, Z or U, and these with a number for a second loop of one kind.
    """
    numbered = max(stored.numbered, planned) if stored.rescue else stored.numbered
    loops = experiment.loops
    explained = math.prod(loop.count for loop in loops)
    if not experiment.sound and explained != numbered:
        loops = ()
        if numbered > 1:
            oddities.note("the experiment is damaged, so frames are numbered along U")
    elif not loops and numbered > 1:
        oddities.note("no loop arranges the frames, so they are numbered along U")
    if not loops:
        return [Dimension("U", numbered, None)] if numbered > 1 else []
    outer = loops[0].count
    if numbered > explained:
        inner = explained // outer
        outer = -(-numbered // inner)
        oddities.note(
            f"there are {numbered} frames, and the experiment explains {explained} of them, so its "
            f"outermost loop goes on from {loops[0].count} to {outer} steps"
        )
    dimensions: list[Dimension] = []
    for loop in loops:
        same = sum(1 for dimension in dimensions if dimension.name[0] == loop.kind)
        name = loop.kind if not same else f"{loop.kind}{same + 1}"
        dimensions.append(Dimension(name, loop.count if dimensions else outer, loop))
    return dimensions
