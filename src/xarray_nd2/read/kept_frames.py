"""Whole frames that are kept as pixels, for people who look at the same ones again and again."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from xarray_nd2.read.spacing import as_slice

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Mapping

    import numpy as np
    from numpy.typing import NDArray

    from xarray_nd2.read.selection import Selection

    Pixels = NDArray[Any]


class KeptFrames:
    """The frames of files that were used last.

    Of each file as many bytes are kept as its reader allows, and of all of them no more than the
    capacity. What was used longest ago goes first: of its file, or of the file used longest ago.

    Parameters
    ----------
    capacity : int
        Bytes of pixels to keep of all files.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self._files: OrderedDict[Hashable, _FramesOfFile] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def nbytes(self) -> int:
        """Bytes of all that is kept."""
        with self._lock:
            return sum(frames.nbytes for frames in self._files.values())

    def missing(self, file: Hashable, keys: Iterable[int]) -> list[int]:
        """Those frames of a file that are not kept; that does not count as a use of the others."""
        with self._lock:
            frames = self._files.get(file)
            return [key for key in keys if frames is None or key not in frames.pixels]

    def get(self, file: Hashable, keys: Iterable[int]) -> dict[int, Pixels]:
        """Those frames of a file that are kept, by their keys; nobody may write to them."""
        with self._lock:
            frames = self._files.get(file)
            if frames is None:
                return {}
            self._files.move_to_end(file)
            found = {key: frames.pixels[key] for key in keys if key in frames.pixels}
            for key in found:
                frames.pixels.move_to_end(key)
            return found

    def put(self, file: Hashable, key: int, pixels: Pixels, limit: int) -> None:
        """Keep a frame, and of its file no more than `limit` bytes."""
        with self._lock:
            frames = self._files.setdefault(file, _FramesOfFile())
            self._files.move_to_end(file)
            frames.put(key, pixels)
            while frames.nbytes > limit:
                frames.forget_oldest()
            total = sum(each.nbytes for each in self._files.values())
            while total > self.capacity:
                name, oldest = next(iter(self._files.items()))
                if oldest.pixels:
                    total -= oldest.forget_oldest()
                else:
                    del self._files[name]


class _FramesOfFile:
    """What is kept of one file, in the order of use."""

    def __init__(self) -> None:
        self.pixels: OrderedDict[int, Pixels] = OrderedDict()
        self.nbytes = 0

    def put(self, key: int, pixels: Pixels) -> None:
        if key in self.pixels:
            self.nbytes -= self.pixels.pop(key).nbytes
        self.pixels[key] = pixels
        self.nbytes += pixels.nbytes

    def forget_oldest(self) -> int:
        """Forget the frame used longest ago, and return how many bytes it had."""
        _, pixels = self.pixels.popitem(last=False)
        self.nbytes -= pixels.nbytes
        return pixels.nbytes


def copy_from_frames(
    selection: Selection, keys: Iterable[int], frames: Mapping[int, Pixels], pixels: Pixels
) -> None:
    """Copy what is selected of whole frames to its tiles.

    Parameters
    ----------
    selection : Selection
        The pixels.
    keys : iterable of int
        Of the frame of each tile.
    frames : mapping of int to ndarray, shape (C, Y, X, S)
        Frames by their keys; tiles of others are left as they are.
    pixels : ndarray, shape (tiles, C, Y, X, S)
        Where to copy to.
    """
    for tile, key in enumerate(keys):
        frame = frames.get(key)
        if frame is not None:
            copy_tile(selection, tile, frame, pixels)


def copy_tile(
    selection: Selection,
    tile: int,
    frame: Pixels,
    pixels: Pixels,
    first_channel: int = 0,
    first_row: int = 0,
) -> None:
    """Copy what is selected for one tile.

    Parameters
    ----------
    selection : Selection
        The pixels.
    tile : int
        Number of the tile.
    frame : ndarray, shape (channels, rows, X, S)
        Its frame, from `first_channel` and `first_row` on.
    pixels : ndarray, shape (tiles, C, Y, X, S)
        Where to copy to.
    """
    window = 0 if selection.shared_window else tile
    along = (
        selection.channels[window] - first_channel,
        selection.rows[window] - first_row,
        selection.cols[window],
        selection.samples[window],
    )
    for axis, positions in enumerate(along):
        frame = frame[(slice(None),) * axis + (as_slice(positions),)]
    pixels[tile] = frame


def extent(positions: NDArray[np.int64]) -> range:
    """All positions from the first to the last of some, in whatever order these are."""
    return range(int(positions.min()), int(positions.max()) + 1)
