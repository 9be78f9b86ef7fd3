"""Mounted shares, beside bare reads of the same bytes and a memory map; and what disks keep."""

from __future__ import annotations

import itertools
import os
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from benchmarks._bench import Group, faster_row, slower_row
from benchmarks._clients import open_ours
from benchmarks._files import FRAME_SIDE_PIXELS
from benchmarks._measure import Contender, in_turns
from benchmarks.crops import CROP_EDGE_PIXELS, CROP_WINDOW
from tests.servers import Missing, fuse
from xarray_nd2.io.mounts import DISK_MOUNT, Mount
from xarray_nd2.io.process import this_process
from xarray_nd2.read.coalesce import MAX_REQUEST_BYTES

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks._bench import Bench, Row

_DELAY_SECONDS = 0.02
_BARE_THREADS = 32
_MAX_PER_BARE = 1.4
_MAX_PER_KNOWN_DISK = 1.1
_OPENED_FILES = 20
_REGION_EDGE_PIXELS = 64
_TEXT = """\
A share is mounted here, by FUSE, whose every read takes {delay:.0f} ms; bare reads are those of the same
bytes by `os.pread`, {threads} at once. For the map the share is passed off as a disk. On a disk it is
the other way round: a file is passed off as one on a share. Where a folder lies is looked up once,
with the first file of it that is opened; compared is a folder of which it is known."""


def run(bench: Bench) -> Group:
    """Read from a share that is slow, and from the disk."""
    rows = _on_a_disk(bench)
    text = _TEXT.format(delay=1000 * _DELAY_SECONDS, threads=_BARE_THREADS).replace("\n", " ")
    try:
        with fuse.serve(bench.files.folder / "fuse") as share:
            rows = _on_a_share(bench, share) + rows
    except Missing as reason:
        text += f" The share is left out: {reason}."
    return Group("shares", "Mounted shares", text, rows)


def _on_a_share(bench: Bench, share: fuse.FuseShare) -> list[Row]:
    data = bench.files.few_frames.read_bytes()
    for name in ("run.nd2", "mapped/run.nd2"):
        share.put(name, data)
    path, mapped = share.path / "run.nd2", share.path / "mapped" / "run.nd2"
    this_process().keep_mount(str(mapped.parent), DISK_MOUNT)
    images = {"xarray-nd2": open_ours(str(path)).image, "memory map": open_ours(str(mapped)).image}
    window = {"T": bench.files.few_count // 2, **CROP_WINDOW}
    share.behave("read", delay_seconds=_DELAY_SECONDS)
    bare = {"bare reads": Contender(lambda _: _read_bare(path))}
    reading = in_turns(_readers(images, {}) | bare, bench.repetitions)
    cropping = in_turns(_readers(images, window), bench.repetitions)
    frames = f"{bench.files.few_count} frames, {len(data) / 1e6:.0f} MB"
    crop = f"a crop of {CROP_EDGE_PIXELS}²"
    return [
        slower_row(frames, reading, "xarray-nd2", "bare reads", _MAX_PER_BARE),
        faster_row(frames, reading, "xarray-nd2", "memory map"),
        faster_row(crop, cropping, "xarray-nd2", "memory map"),
    ]


def _readers(images: dict[str, Any], indexers: dict[str, Any]) -> dict[str, Contender]:
    def reader(image: Any) -> Contender:
        return Contender(lambda _: image.isel(indexers).values)

    return {name: reader(image) for name, image in images.items()}


def _read_bare(path: Path) -> None:
    with path.open("rb", buffering=0) as file, ThreadPoolExecutor(_BARE_THREADS) as threads:
        read = partial(os.pread, file.fileno(), MAX_REQUEST_BYTES)  # of what begins at
        size = os.fstat(file.fileno()).st_size
        assert sum(map(len, threads.map(read, range(0, size, MAX_REQUEST_BYTES)))) == size


def _on_a_disk(bench: Bench) -> list[Row]:
    path = bench.files.few_frames
    [as_share] = _linked(path, "as-share", 1, Mount("disk", "nfs4"))
    count = 200 if bench.quick else 2_000
    regions = _regions(bench.files.few_count, count)
    images = {
        "map": open_ours(str(path)).image,
        "reads as of a share": open_ours(str(as_share)).image,
    }
    reading = in_turns(_readers(images, regions), bench.repetitions)

    def open_all(paths: list[Path]) -> None:
        for each in paths:
            open_ours(str(each))

    numbers = itertools.count()

    def new_files(mount: Mount | None) -> list[Path]:
        return _linked(path, f"opened-{next(numbers)}", _OPENED_FILES, mount)

    opening = in_turns(
        {
            "xarray-nd2": Contender(open_all, lambda: new_files(None)),
            "known disk": Contender(open_all, lambda: new_files(DISK_MOUNT)),
        },
        bench.repetitions,
    )
    return [
        faster_row(f"a disk: {count:,} regions of 64²", reading, "map", "reads as of a share"),
        slower_row(
            f"a disk: opening {_OPENED_FILES} files",
            opening,
            "xarray-nd2",
            "known disk",
            _MAX_PER_KNOWN_DISK,
        ),
    ]


def _linked(path: Path, folder: str, count: int, mount: Mount | None) -> list[Path]:
    """So many names of a file in a new folder, of which it is known where it is `mount`-ed."""
    place = path.with_name(folder)
    place.mkdir()
    if mount is not None:
        this_process().keep_mount(str(place), mount)
    paths = [place / f"{number}.nd2" for number in range(count)]
    for each in paths:
        each.hardlink_to(path)
    return paths


def _regions(frames: int, count: int) -> dict[str, xr.DataArray]:
    rng = np.random.default_rng(5)
    steps = np.arange(_REGION_EDGE_PIXELS)
    tops, lefts = rng.integers(0, FRAME_SIDE_PIXELS - _REGION_EDGE_PIXELS, (2, count))
    return {
        "T": xr.DataArray(rng.integers(0, frames, count), dims="roi"),
        "Y": xr.DataArray(tops[:, None] + steps, dims=("roi", "y")),
        "X": xr.DataArray(lefts[:, None] + steps, dims=("roi", "x")),
    }
