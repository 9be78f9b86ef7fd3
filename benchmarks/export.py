"""An export to OME-Zarr, beside that of nd2, and beside reading and writing alone."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import nd2
import numpy as np
import zarr

from benchmarks._bench import Group, faster_row, slower_row
from benchmarks._clients import open_ours
from benchmarks._files import FRAME_BYTES, FRAME_SIDE_PIXELS
from benchmarks._measure import Contender, Times, in_turns
from xarray_nd2.export import to_ome_zarr

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks._bench import Bench

_CHUNK_PIXELS = 512
_CHUNK_SHAPE = (1, 1, _CHUNK_PIXELS, _CHUNK_PIXELS)
_SHARD_SHAPE = (1, 2, FRAME_SIDE_PIXELS, FRAME_SIDE_PIXELS)


def run(bench: Bench) -> Group:
    """Export by both, and do both halves of it alone."""
    path = bench.files.frames
    folder = path.with_name("exports")
    folder.mkdir(exist_ok=True)
    pixels = open_ours(str(path)).image.values

    def empty() -> Path:
        shutil.rmtree(folder)
        folder.mkdir()
        return folder / "out.zarr"

    def ours(target: Any) -> None:
        chunks = {"y": _CHUNK_PIXELS, "x": _CHUNK_PIXELS}
        to_ome_zarr(path, target, levels=0, chunks=chunks, shards={"t": 1, "c": -1})

    def theirs(target: Any) -> None:
        with nd2.ND2File(path) as file:
            file.write_ome_zarr(
                target, chunk_shape=_CHUNK_SHAPE, shard_shape=_SHARD_SHAPE, backend="zarr"
            )

    def write(target: Any) -> None:
        array = zarr.create_array(
            str(target),
            shape=pixels.shape,
            dtype=pixels.dtype,
            chunks=_CHUNK_SHAPE,
            shards=_SHARD_SHAPE,
        )
        array[...] = pixels

    def read(_: Any) -> None:
        image = open_ours(str(path)).image
        for step in range(image.sizes["T"]):
            np.asarray(image.isel(T=step))

    times = in_turns(
        {
            "ours": Contender(ours, empty),
            "nd2": Contender(theirs, empty),
            "read": Contender(read),
            "write": Contender(write, empty),
        },
        bench.repetitions,
    )
    both = zip(times["read"].seconds, times["write"].seconds, strict=True)
    times["read, then write"] = Times(tuple(map(sum, both)))
    what = f"{bench.files.frame_count * FRAME_BYTES / 1e6:.0f} MB, no levels"
    return Group(
        "export",
        "Export to OME-Zarr",
        "A file on a disk, in shards of one frame with chunks of 512², compressed by Zstandard as zarr "
        "does by default. nd2 writes with `write_ome_zarr` and zarr, in the same chunks and shards. "
        "*Read, then write* is reading all frames by xarray-nd2, and writing the pixels from memory "
        "by zarr.",
        [
            faster_row(what, times, "ours", "nd2", 1.0),
            slower_row(what, times, "ours", "read, then write", 1.3),
        ],
    )
