"""Very many small frames: the size of dask's graph and of what is sent to workers."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Any

import numpy as np
from dask.base import optimize

from benchmarks._bench import Floor, Group, Row, faster_row
from benchmarks._clients import open_nd2, open_ours
from benchmarks._measure import Contender, in_turns

if TYPE_CHECKING:
    from benchmarks._bench import Bench


_COMPUTED_FRAMES = 2_000  # frames, for nd2 takes long


def run(bench: Bench) -> Group:
    """Take the mean of all frames."""
    path = str(bench.files.small)
    image = open_ours(path, chunks={}).image
    optimize(image.mean())
    part = {"T": slice(_COMPUTED_FRAMES)}
    with open_nd2(path) as file:
        theirs = file.to_xarray()
        tasks = _count_tasks(theirs.mean())
        building = in_turns(
            {
                "xarray-nd2": Contender(lambda _: optimize(image.mean()) and None),
                "nd2": Contender(lambda _: optimize(theirs.mean()) and None),
            },
            1,
            warm=False,
        )
        computing = in_turns(
            {
                "xarray-nd2": Contender(lambda _: _rounded_mean(image.isel(part))),
                "nd2": Contender(lambda _: _rounded_mean(theirs.isel(part))),
            },
            1,
            warm=False,
        )
    ours, nd2s = building["xarray-nd2"].median, building["nd2"].median
    sent = len(pickle.dumps(image.variable))
    lazy = len(pickle.dumps(open_ours(path).image.variable))
    labelled = len(pickle.dumps(image))
    what = "mean of all"
    return Group(
        "small",
        "Many small frames",
        f"A local file of {bench.files.small_count:,} frames of 16² pixels, with dask. What is "
        "pickled is the array without its coordinates; the times of the frames take "
        f"{labelled - sent:,} bytes more.",
        [
            Row(what, "tasks", _count_tasks(image.mean()), "nd2", tasks, floor=Floor(800)),
            Row(f"{what}, optimizing the graph", "s", ours, "nd2", nd2s, floor=Floor(2.0)),
            Row("pickled, dask", "B", sent, floor=Floor(600_000, aim=20_000)),
            Row("pickled, lazy", "B", lazy, floor=Floor(600_000, aim=20_000)),
            faster_row(f"mean of {_COMPUTED_FRAMES:,}, computing", computing, "xarray-nd2", "nd2"),
        ],
    )


def _count_tasks(array: Any) -> int:
    return len(dict(array.__dask_graph__()))


def _rounded_mean(image: Any) -> Any:
    return np.round(image.mean().values[None], 6)
