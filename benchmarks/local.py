"""Local files, beside the memory map of nd2."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import nd2
import numpy as np

from benchmarks._bench import Group, slower_row
from benchmarks._clients import open_nd2, open_ours
from benchmarks._measure import Contender, in_turns
from benchmarks.crops import CROP_WINDOW, crop_by_nd2

if TYPE_CHECKING:
    from benchmarks._bench import Bench

_MAX_RATIO = 1.05
_READS_PER_TIMING = 20  # a short reading is done so many times over


def run(bench: Bench) -> Group:
    """Open, crop and read a file."""
    path = str(bench.files.frames)
    count = bench.files.frame_count
    one: dict[str, Any] = {"T": bench.files.middle, **CROP_WINDOW}
    window: dict[str, Any] = {**CROP_WINDOW}
    lazy, dask = open_ours(path).image, open_ours(path, chunks={}).image

    def open_with_nd2(_: Any) -> None:
        for _turn in range(_READS_PER_TIMING):
            with nd2.ND2File(path) as file:
                file.to_xarray()

    def open_with_ours(_: Any) -> None:
        for _turn in range(_READS_PER_TIMING):
            open_ours(path, chunks={})

    with open_nd2(path) as file:
        delayed = file.to_xarray()
        opening = in_turns(
            {"xarray-nd2": Contender(open_with_ours), "nd2": Contender(open_with_nd2)},
            bench.repetitions,
        )
        cropping = in_turns(
            {
                "lazy": Contender(lambda _: _read_repeatedly(lambda: lazy.isel(one).values)),
                "dask": Contender(lambda _: _read_repeatedly(lambda: dask.isel(one).values)),
                "nd2": Contender(lambda _: _read_repeatedly(lambda: crop_by_nd2(file, one))),
                "nd2, dask": Contender(
                    lambda _: _read_repeatedly(lambda: delayed.isel(one).values)
                ),
            },
            bench.repetitions,
        )
        windows = in_turns(
            {
                "lazy": Contender(lambda _: lazy.isel(window).values),
                "dask": Contender(lambda _: dask.isel(window).values),
                "nd2": Contender(
                    lambda _: np.stack([crop_by_nd2(file, window | {"T": t}) for t in range(count)])
                ),
                "nd2, dask": Contender(lambda _: delayed.isel(window).values),
            },
            bench.repetitions,
        )
        reading = in_turns(
            {
                "lazy": Contender(lambda _: lazy.isel().values),
                "dask": Contender(lambda _: dask.values),
                "nd2": Contender(lambda _: file.asarray()),
                "nd2, dask": Contender(lambda _: delayed.data.compute(scheduler="threads")),
            },
            bench.repetitions,
        )
    size = f"all of {bench.files.frames.stat().st_size / 1e6:.0f} MB"
    crop, crops = f"one crop, {_READS_PER_TIMING} times", f"the crop of {count} frames"
    return Group(
        "local",
        "Local files",
        f"A file of {count} frames of two channels, which nd2 maps into memory. Its `read_frame` is a "
        "view of the map, so that cropping it copies the crop and does nothing else; what is copied "
        "is the same. Opening means `to_xarray()` and `chunks={}`.",
        [
            slower_row(
                f"opening, {_READS_PER_TIMING} times", opening, "xarray-nd2", "nd2", _MAX_RATIO
            ),
            slower_row(f"{crop}, lazy", cropping, "lazy", "nd2", _MAX_RATIO),
            slower_row(f"{crop}, dask", cropping, "dask", "nd2, dask", _MAX_RATIO),
            slower_row(f"{crops}, lazy", windows, "lazy", "nd2", _MAX_RATIO),
            slower_row(f"{crops}, dask", windows, "dask", "nd2, dask", _MAX_RATIO),
            slower_row(f"{size}, lazy", reading, "lazy", "nd2", _MAX_RATIO),
            slower_row(f"{size}, dask", reading, "dask", "nd2, dask", _MAX_RATIO),
        ],
    )


def _read_repeatedly(read: Any) -> Any:
    for _ in range(_READS_PER_TIMING - 1):
        read()
    return read()
