"""What the reading of a plan costs, before it is read."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from xarray_nd2.format.layout import MISSING_OFFSET
from xarray_nd2.read.coalesce import coalesce_ranges
from xarray_nd2.read.decode import frame_streams, request_bytes_of

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Sequence

    from numpy.typing import NDArray

    from xarray_nd2.read.inflate import FrameCache
    from xarray_nd2.read.plan import ReadPlan


@dataclass(frozen=True, eq=False, slots=True)
class ReadCost:
    """What one read costs.

    Attributes
    ----------
    frames : ndarray of int64
        Sequence indices of the frames that are read from, each once, all channels counting as one.
    bytes_needed, bytes_fetched : int
        Of the pixels that are asked for, and of all that travels for them.
    requests : int
        Ranges that are asked for.
    exact : bool
        Whether that is certain of this plan. Of compressed frames it is not known before how many
        bytes hold the rows of a crop.
    keeps_frames : bool
        Whether it depends on frames that are kept, and changes which are.
    """

    frames: NDArray[np.int64]
    bytes_needed: int
    bytes_fetched: int
    requests: int
    exact: bool
    keeps_frames: bool = False


NOTHING_TO_READ: Final = ReadCost(np.empty(0, np.int64), 0, 0, 0, exact=True)
"""What it costs to read nothing."""


def read_cost(plan: ReadPlan, cache: FrameCache | None = None, file: Hashable = None) -> ReadCost:
    """What it costs to carry out a plan.

    Parameters
    ----------
    plan : ReadPlan
        Of the read.
    cache : FrameCache, optional
        Of inflated frames, which need not be read again.
    file : hashable, optional
        The file's key in the cache.
    """
    frames = np.unique(plan.selection.frames) if plan.selection.size else np.empty(0, np.int64)
    frames = frames[plan.layout.offsets.take(frames) != MISSING_OFFSET]
    if plan.layout.compression == "none":
        return ReadCost(frames, plan.bytes_needed, plan.bytes_fetched, plan.requests, exact=True)
    cached = None if file is None else cache
    parts: list[tuple[int, int]] = []
    read: list[int] = []
    exact = True
    for _, stream, needed in frame_streams(plan, cached):
        if cached is not None and cached.get((file, stream.frame), needed) is not None:
            continue
        parts.append((stream.start, stream.fetch_to))
        read.append(stream.frame)
        exact &= stream.fetches_all
    starts, stops = np.array(parts, np.int64).reshape(-1, 2).T
    bounds = coalesce_ranges(starts, stops, plan.gap, request_bytes_of(plan.layout))
    first = bounds[:-1]
    ends = np.maximum.reduceat(stops, first) if len(first) else first
    return ReadCost(
        np.unique(np.array(read, np.int64) // plan.layout.channels_apart),
        int((stops - starts).sum()),
        int((ends - starts[first]).sum()),
        len(first),
        exact=exact,
        keeps_frames=bool(len(frames)) and cached is not None,
    )


def cost_of_kept(
    plan: ReadPlan,
    frames: Iterable[int],
    costs: Sequence[ReadCost],
    *,
    same_gap: bool,
    by_this_process: bool,
) -> ReadCost:
    """What it costs to carry out a plan by reading frames whole that are not kept yet.

    Parameters
    ----------
    plan : ReadPlan
        Of the pixels that are asked for.
    frames : iterable of int
        Sequence indices of those that are not kept.
    costs : sequence of ReadCost
        Of reading them, one part of them after the other.
    same_gap : bool
        Whether the parts are planned alike, whatever is learnt of the link from those before.
    by_this_process : bool
        Whether frames are kept and dropped by this process alone.
    """
    missing = np.array(list(frames), np.int64)
    needed = sum(cost.bytes_needed for cost in costs)
    if plan.layout.compression == "none":
        _, *window = plan.selection.shape
        tiles = int(np.isin(plan.selection.frames, missing).sum())
        needed = tiles * math.prod(window) * plan.layout.dtype.itemsize
    return ReadCost(
        np.unique(np.concatenate([cost.frames for cost in costs])) if costs else missing,
        needed,
        sum(cost.bytes_fetched for cost in costs),
        sum(cost.requests for cost in costs),
        exact=by_this_process
        and all(cost.exact for cost in costs)
        and (same_gap or len(costs) < 2),
        keeps_frames=True,
    )
