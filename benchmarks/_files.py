"""The files that are read: synthetic, and each written when it is first needed."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from xarray_nd2.testing import write_nd2

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

CHANNEL_NAMES = ("DAPI", "GFP")
FRAME_SIDE_PIXELS = 1024  # pixels of the frames of `Files.frames`, whose channels are two
FRAME_ROW_BYTES = FRAME_SIDE_PIXELS * len(CHANNEL_NAMES) * 2
FRAME_BYTES = FRAME_SIDE_PIXELS * FRAME_ROW_BYTES


class Files:
    """ND2 files, and copies of some of them as uncompressed Zarr.

    Parameters
    ----------
    folder : Path
        Where to write them.
    quick : bool
        Whether to write smaller ones.
    """

    def __init__(self, folder: Path, *, quick: bool) -> None:
        self.folder = folder
        self._names = 0
        # Above 32 MiB, where it can be: smaller files nd2 reads as a whole.
        self.frame_count = 12 if quick else 100
        self.lossless_count = 8 if quick else 36
        self.huge_side = 4224 if quick else 8192
        self.few_count = 12 if quick else 20
        self.joined_count = 20 if quick else 100
        self.small_count = 5_000 if quick else 20_000
        self.middle = self.frame_count // 10 if quick else 10

    @cached_property
    def frames(self) -> Path:
        """Frames of 1024² pixels and two channels."""
        return self._write_frames("frames.nd2", self.frame_count)

    @cached_property
    def few_frames(self) -> Path:
        """The same, but fewer of them."""
        return self._write_frames("few-frames.nd2", self.few_count)

    @cached_property
    def huge(self) -> Path:
        """One large frame."""
        path = self.folder / "huge.nd2"
        sizes = {"Y": self.huge_side, "X": self.huge_side}
        write_nd2(path, _stamped(1, self.huge_side), "YX", sizes=sizes, dtype="u2")
        return path

    @cached_property
    def joined(self) -> list[Path]:
        """Many files of few frames, all with the same content."""
        path = self.folder / "joined.nd2"
        side, count = 256, 6
        write_nd2(
            path,
            _stamped(2, side),
            "TCYX",
            sizes={"T": count, "C": len(CHANNEL_NAMES), "Y": side, "X": side},
            dtype="u2",
            channels=CHANNEL_NAMES,
            start="2026-01-15T09:30:00",
            timestamps=np.arange(count),
        )
        return [self.renamed(path) for _ in range(self.joined_count)]

    @cached_property
    def small(self) -> Path:
        """Many frames of 16² pixels, with the time of each."""
        path = self.folder / "small.nd2"
        sizes = {"T": self.small_count, "Y": 16, "X": 16}
        times = np.arange(self.small_count) * 0.1
        frame = _stamped(1, 16)
        write_nd2(path, frame, "TYX", sizes=sizes, dtype="u2", period=0.1, timestamps=times)
        return path

    @cached_property
    def lossless(self) -> Path:
        """Losslessly compressed frames of what a camera counts: smooth light with its shot noise."""
        path = self.folder / "lossless.nd2"
        rng = np.random.default_rng(7)
        y, x = np.mgrid[:FRAME_SIDE_PIXELS, :FRAME_SIDE_PIXELS] / FRAME_SIDE_PIXELS
        light = 110 + 60 * np.exp(-((y - 0.5) ** 2 + (x - 0.4) ** 2) * 8)
        for top, left in rng.integers(0, FRAME_SIDE_PIXELS - 40, (60, 2)):  # cells
            light[top : top + 40, left : left + 40] += 300

        def counts(_: int) -> NDArray[np.uint16]:
            counted: NDArray[np.uint16] = rng.poisson(light).astype(np.uint16)
            return counted

        sizes = {"T": self.lossless_count, "Y": FRAME_SIDE_PIXELS, "X": FRAME_SIDE_PIXELS}
        write_nd2(path, counts, "TYX", sizes=sizes, dtype="u2", compression="lossless")
        return path

    def renamed(self, path: Path) -> Path:
        """The same file under a name that nobody has read."""
        self._names += 1
        link = path.with_stem(f"{path.stem}-{self._names}")
        link.hardlink_to(path)
        return link

    @cached_property
    def frames_planes(self) -> Path:
        """Zarr copy of all frames, a chunk for each plane."""
        return self._copy_frames("frames-planes.zarr", FRAME_SIDE_PIXELS, range(self.frame_count))

    @cached_property
    def frames_tiles(self) -> Path:
        """Zarr copy of the one frame that is cropped, in chunks of 256² pixels."""
        return self._copy_frames("frames-tiles.zarr", 256, range(self.middle, self.middle + 1))

    @cached_property
    def huge_tiles(self) -> Path:
        """Zarr copy of the large frame, in chunks of 256² pixels."""
        path = self.folder / "huge-tiles.zarr"
        side = self.huge_side
        array = _new_zarr(path, {"C": 1, "Y": side, "X": side}, (1, 256, 256))
        array[:] = _stamped(1, side)(0)
        _consolidate(path)
        return path

    def _write_frames(self, name: str, count: int) -> Path:
        path = self.folder / name
        sizes = {
            "T": count,
            "C": len(CHANNEL_NAMES),
            "Y": FRAME_SIDE_PIXELS,
            "X": FRAME_SIDE_PIXELS,
        }
        write_nd2(
            path,
            _stamped(2, FRAME_SIDE_PIXELS),
            "TCYX",
            sizes=sizes,
            dtype="u2",
            channels=CHANNEL_NAMES,
        )
        return path

    def _copy_frames(self, name: str, side: int, frames: range) -> Path:
        path = self.folder / name
        sizes = {
            "T": self.frame_count,
            "C": len(CHANNEL_NAMES),
            "Y": FRAME_SIDE_PIXELS,
            "X": FRAME_SIDE_PIXELS,
        }
        array = _new_zarr(path, sizes, (1, 1, side, side))
        pixels = _stamped(2, FRAME_SIDE_PIXELS)
        for t in frames:
            array[t] = pixels(t)
        _consolidate(path)
        return path


def _stamped(channels: int, side: int) -> Callable[[int], NDArray[np.uint16]]:
    """Frames that differ by their number in the first pixel of each row."""
    rng = np.random.default_rng(channels * side)
    frame = rng.integers(0, 2**12, (channels, side, side), np.uint16)

    def numbered(index: int) -> NDArray[np.uint16]:
        frame[:, :, 0] = index % 2**16
        return frame

    return numbered


def _new_zarr(path: Path, sizes: dict[str, int], chunks: tuple[int, ...]) -> Any:
    import zarr  # not in every worker process

    group = zarr.open_group(str(path), mode="w", zarr_format=2)
    return group.create_array(
        "image",
        shape=tuple(sizes.values()),
        chunks=chunks,
        dtype="uint16",
        compressors=None,
        filters=None,
        attributes={"_ARRAY_DIMENSIONS": list(sizes)},
    )


def _consolidate(path: Path) -> None:
    import zarr

    zarr.consolidate_metadata(str(path), zarr_format=2)
