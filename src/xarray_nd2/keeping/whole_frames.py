"""Reading a selection out of whole frames: those that are kept, and others that are fetched to be kept."""

from __future__ import annotations

from collections import defaultdict
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from xarray_nd2.format.layout import MISSING_OFFSET
from xarray_nd2.io.process import this_process
from xarray_nd2.keeping.object_name import object_name
from xarray_nd2.read.kept_frames import copy_from_frames, copy_tile, extent

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from xarray_nd2.format.layout import FrameLayout
    from xarray_nd2.io.source import ByteSource
    from xarray_nd2.keeping.disk_cache import DiskCache
    from xarray_nd2.read.plan import ReadPlan

    Pixels = NDArray[Any]

# Whole frames that are read at a time to be kept: as much as may be in flight.
_MAX_PART_BYTES: Final = 64 * 1024 * 1024


@dataclass(frozen=True)
class Keeping:
    """Where whole frames are kept.

    Attributes
    ----------
    memory_bytes : int
        Bytes of pixels to keep of a file in each process that reads; 0 for none.
    disk : DiskCache or None
        A folder on a disk of this machine.
    """

    memory_bytes: int = 0
    disk: DiskCache | None = None

    def __bool__(self) -> bool:
        return bool(self.memory_bytes or self.disk)


NOTHING_KEPT: Final = Keeping()


class WholeFrames:
    """The frames of a plan, which are read whole if they are not kept.

    A frame is known by where it lies in the file.

    Parameters
    ----------
    source : ByteSource
        The opened file.
    layout : FrameLayout
        Of its frames.
    keeping : Keeping
        Where they are kept.
    plan : ReadPlan
        Of the pixels that are asked for.
    """

    def __init__(
        self, source: ByteSource, layout: FrameLayout, keeping: Keeping, plan: ReadPlan
    ) -> None:
        self._file = source.identity
        self._layout = layout
        self._selection = plan.selection
        self._memory_bytes = keeping.memory_bytes
        self._disk = keeping.disk if keeping.disk and keeping.disk.fits(layout) else None
        self._frames = self._to_keep(source, keeping, plan)
        if self._frames and self._disk:
            self._name = object_name(source, _decoding(layout))

    def __bool__(self) -> bool:
        """Whether the plan is to be carried out by whole frames.

        It is not where they would not fit, or keeping them would gain nothing or is not safe.
        """
        return bool(self._frames)

    @property
    def is_shared(self) -> bool:
        """Whether other processes may keep frames, or drop them, at any time."""
        return bool(self._frames) and self._disk is not None

    def missing(self) -> list[int]:
        """Sequence indices of the frames that are not kept."""
        offsets = list(self._frames)
        if self._memory_bytes:
            offsets = this_process().kept_frames.missing(self._file, offsets)
        if self._disk:
            offsets = self._disk.missing(self._name, offsets)
        return [self._frames[at] for at in offsets]

    def parts(self, frames: list[int]) -> list[list[int]]:
        """Frames in parts that are read one after the other, and are in memory twice for that long."""
        count = max(1, _MAX_PART_BYTES // _frame_bytes(self._layout))
        return [frames[at : at + count] for at in range(0, len(frames), count)]

    def copy(self, pixels: Pixels, fetch: Callable[[list[int]], Pixels]) -> None:
        """Copy the pixels that are asked for to their tiles.

        Parameters
        ----------
        pixels : ndarray, shape (tiles, C, Y, X, S)
            Where to copy to; tiles of frames that the file does not have are left as they are.
        fetch : callable
            Called with sequence indices, reads these frames whole, shape (frames, C, Y, X, S).
        """
        process, file = this_process(), self._file
        missing = self._copy_kept(list(self._frames), pixels)
        for part in self.parts([self._frames[at] for at in missing]):
            places = self._layout.offsets.take(np.array(part, np.int64)).tolist()
            with ExitStack() as stack:
                # In the order of the file, so that no two threads wait for each other.
                for at in sorted(places):
                    stack.enter_context(process.reading_frames.holding((file, at)))
                # Which others have read in the meantime.
                places = self._copy_kept(places, pixels)
                if not places:
                    continue
                fetched = fetch([self._frames[at] for at in places])
                frames = dict(zip(places, fetched, strict=True))
                self._keep(frames)
            copy_from_frames(self._selection, self._tile_offsets(), frames, pixels)

    def _copy_kept(self, offsets: list[int], pixels: Pixels) -> list[int]:
        """Copy from the frames that are kept; returns those that are not."""
        if self._memory_bytes:
            kept = this_process().kept_frames.get(self._file, offsets)
            copy_from_frames(self._selection, self._tile_offsets(), kept, pixels)
            offsets = [at for at in offsets if at not in kept]
        if not (self._disk and offsets):
            return offsets
        tiles_of = defaultdict(list)
        for tile, at in enumerate(self._tile_offsets()):
            tiles_of[at].append(tile)

        def copy(at: int) -> bool:
            return self._copy_from_disk(at, tiles_of[at], pixels)

        in_threads = len(offsets) > 1
        copied = (this_process().decode_threads.map if in_threads else map)(copy, offsets)
        return [at for at, done in zip(offsets, list(copied), strict=True) if not done]

    def _copy_from_disk(self, at: int, tiles: list[int], pixels: Pixels) -> bool:
        """Copy the tiles of one frame from the disk; whether it is there and sound."""
        assert self._disk is not None
        rows = [extent(self._selection.rows[self._window(tile)]) for tile in tiles]
        whole = range(self._layout.height)
        with self._disk.opened(self._name, at, self._layout) as file:
            if file is None:
                return False
            if self._memory_bytes or sum(map(len, rows)) >= len(whole):
                frame = file.read(whole)
                if frame is None:
                    return False
                if self._memory_bytes:
                    kept = this_process().kept_frames
                    kept.put(self._file, at, frame, self._memory_bytes)
                for tile in tiles:
                    copy_tile(self._selection, tile, frame, pixels)
                return True
            for tile, part in zip(tiles, rows, strict=True):
                some = file.read(part)
                if some is None:
                    return False
                copy_tile(self._selection, tile, some, pixels, first_row=part.start)
        return True

    def _keep(self, frames: dict[int, Pixels]) -> None:
        """Keep frames that were fetched."""
        process = this_process()
        if self._memory_bytes:
            for at, frame in frames.items():
                alone = frame.copy(order="K")  # and so not all of its part
                process.kept_frames.put(self._file, at, alone, self._memory_bytes)
        if self._disk:
            put = partial(self._disk.put, self._name)
            for error in list(process.decode_threads.map(put, frames, frames.values())):
                if error:
                    self._disk.warn_once(error)

    def _to_keep(self, source: ByteSource, keeping: Keeping, plan: ReadPlan) -> dict[int, int]:
        """The frames of the plan by where they lie in the file; none if they are not to be kept."""
        layout = self._layout
        if not (keeping and plan.requests) or source.is_mapped or source.identity is None:
            return {}
        frames = np.unique(plan.selection.frames)
        offsets = layout.offsets.take(frames)
        frames, offsets = frames[offsets != MISSING_OFFSET], offsets[offsets != MISSING_OFFSET]
        if layout.compression == "none":
            ends = offsets + layout.frame_bytes
        else:
            ends = offsets + layout.lengths.take(frames)
        # Of a frame that goes on behind the end of the file a crop may be there all the same.
        if (ends > source.size).any():
            return {}
        room = min(keeping.memory_bytes, this_process().kept_frames.capacity)
        if len(frames) * _frame_bytes(layout) > room:
            self._memory_bytes = 0  # or one frame of the plan would drive out another
        if not (self._memory_bytes or self._disk):
            return {}
        return dict(zip(offsets.tolist(), frames.tolist(), strict=True))

    def _tile_offsets(self) -> list[int]:
        """Where the frame of each tile lies."""
        offsets: list[int] = self._layout.offsets.take(self._selection.frames).tolist()
        return offsets

    def _window(self, tile: int) -> int:
        return 0 if self._selection.shared_window else tile


def _frame_bytes(layout: FrameLayout) -> int:
    """Bytes of the pixels of a whole frame."""
    return layout.height * layout.width * layout.pixel_bytes


def _decoding(layout: FrameLayout) -> tuple[object, ...]:
    """How the bytes of frames become the pixels that are kept."""
    return (
        *(layout.channels, layout.height, layout.width, layout.samples, layout.dtype.str),
        *(layout.row_stride_bytes, layout.compression, layout.channel_order, layout.sample_order),
    )
