"""The masks as xarray sees them: an array that reads and decodes the planes it is indexed with."""

from __future__ import annotations

import asyncio
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from xarray.core import indexing

from xarray_nd2.array import ReadOnDemand, key_as_arrays
from xarray_nd2.errors import ND2FormatError
from xarray_nd2.io.failures import named_errors
from xarray_nd2.io.process import this_process
from xarray_nd2.read.coalesce import coalesce_ranges
from xarray_nd2.read.cost import NOTHING_TO_READ, ReadCost
from xarray_nd2.read.masks import check_extent, decode_chunk
from xarray_nd2.read.selection import select_outer, select_points
from xarray_nd2.read.spacing import as_slice

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from xarray_nd2.format.mask_planes import MaskChunk, MaskPlanes
    from xarray_nd2.io.source import ByteSource
    from xarray_nd2.read.link import Link
    from xarray_nd2.read.selection import Selection

    Bytes = bytes | bytearray | memoryview
    Reading = tuple[NDArray[Any], list[tuple[int, int]], Callable[[int, Bytes], None]]

# Planes that touch are read together up to here, so that several are decoded at a time.
_MAX_JOINED_BYTES: Final = 1024 * 1024
# Few bytes can take long to decode, which must not stop the event loop.
_MAX_INLINE_BYTES: Final = 0


class ND2MaskArray(ReadOnDemand):
    """The masks in a file, read on demand: all bytes of the planes that a key selects, and no others.

    It holds values only, no handle: it can be read from many threads, and pickled to read in
    another process.

    Parameters
    ----------
    source : ByteSource
        The opened file.
    planes : MaskPlanes
        Where the masks are.
    max_concurrency : int
        Requests in flight.
    """

    def __init__(self, source: ByteSource, planes: MaskPlanes, max_concurrency: int) -> None:
        self.source = source
        self.planes = planes
        self.max_concurrency = max_concurrency
        self.dims = planes.dims
        self.shape = planes.shape
        self.dtype = planes.grid.dtype
        self.adapts_to_link = False

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        selection = self._select(key)
        with named_errors(self.source.name):
            pixels, ranges, deliver = self._prepare(selection)
            self.source.read(ranges, deliver, self.max_concurrency, _MAX_INLINE_BYTES)
        return selection.arrangement.apply(pixels)

    async def async_getitem(self, key: indexing.ExplicitIndexer) -> Any:
        """Read without blocking the event loop, for ``await ds.load_async()``."""
        selection = self._select(key)
        with named_errors(self.source.name):
            pixels, ranges, deliver = await asyncio.to_thread(self._prepare, selection)
            await self.source.aread(ranges, deliver, self.max_concurrency, _MAX_INLINE_BYTES)
        return selection.arrangement.apply(pixels)

    def read_cost(self, key: indexing.ExplicitIndexer, link: Link | None = None) -> ReadCost:  # noqa: ARG002
        """What it would cost to read a key; of masks the link changes nothing."""
        selection = self._select(key)
        if not selection.size:
            return NOTHING_TO_READ
        chunks = [
            chunk
            for chunk in self.planes.chunks_of(np.unique(selection.frames))
            if self._kept(chunk) is None
        ]
        nbytes = sum(chunk.stop - chunk.offset for chunk in chunks)
        planes = np.array([chunk.plane for chunk in chunks], np.int64)
        return ReadCost(planes, nbytes, nbytes, len(_read_together(chunks)), exact=True)

    def _select(self, key: indexing.ExplicitIndexer) -> Selection:
        # The grid has a channel, which the key has not: there is one, and it is dropped.
        grid = self.planes.grid
        if isinstance(key, indexing.VectorizedIndexer):
            *loops, rows, columns = key_as_arrays(key.tuple, self.shape)
            return select_points(grid, [*loops, np.zeros((1,) * rows.ndim, int), rows, columns])
        *others, along_y, along_x = key.tuple
        return select_outer(grid, [*others, 0, along_y, along_x])

    def _prepare(self, selection: Selection) -> Reading:
        """Pixels, of which those are there that need no reading; what to read, and what to do with it.

        Raises
        ------
        ND2FormatError
            A plane is not where the file says.
        """
        grid = self.planes.grid
        try:
            # Zeros take no memory until they are written to.
            pixels = np.zeros(selection.shape, grid.dtype)
        except MemoryError:
            raise ND2FormatError("zeros for all masks asked for do not fit into memory") from None
        if not selection.size:
            return pixels, [], partial(_nothing)
        order = np.argsort(selection.frames, kind="stable")
        in_order = selection.frames[order]
        place = partial(_place, pixels, selection, order, in_order)
        missing: list[MaskChunk] = []
        for chunk in self.planes.chunks_of(np.unique(in_order)):
            mask = self._kept(chunk)
            if mask is None:
                check_extent(chunk, self.source.size, grid.height, grid.width)
                missing.append(chunk)
            else:
                place(chunk.plane, mask)
        groups = _read_together(missing)
        ranges = [(group[0].offset, max(chunk.stop for chunk in group)) for group in groups]

        def deliver(index: int, data: Bytes) -> None:
            view, base = memoryview(data), groups[index][0].offset
            for chunk in groups[index]:
                of_chunk = view[chunk.offset - base : chunk.stop - base]
                mask = decode_chunk(chunk, of_chunk, grid.height, grid.width)
                self._keep(chunk, mask)
                place(chunk.plane, mask)

        return pixels, ranges, deliver

    def _kept(self, chunk: MaskChunk) -> NDArray[np.uint32] | None:
        """A mask that this process has decoded already."""
        file, grid = self.source.identity, self.planes.grid
        if file is None:
            return None
        kept = this_process().frame_cache.get((file, chunk.name), grid.frame_bytes)
        if kept is None:
            return None
        return np.frombuffer(kept, np.uint32).reshape(grid.height, grid.width)

    def _keep(self, chunk: MaskChunk, mask: NDArray[np.uint32]) -> None:
        file, cache = self.source.identity, this_process().frame_cache
        if file is not None and cache.fits(mask.nbytes):
            cache.put((file, chunk.name), mask.tobytes())


def _read_together(chunks: list[MaskChunk]) -> list[list[MaskChunk]]:
    """Chunks, in the order of the file, in groups that touch: each is read by one request."""
    if not chunks:
        return []
    starts = np.array([chunk.offset for chunk in chunks], np.int64)
    stops = np.array([chunk.stop for chunk in chunks], np.int64)
    bounds = coalesce_ranges(starts, stops, 0, _MAX_JOINED_BYTES).tolist()
    return [chunks[i:j] for i, j in pairwise(bounds)]


def _nothing(index: int, data: Bytes) -> None:
    """Do nothing with what was not asked for."""


def _place(
    pixels: NDArray[Any],
    selection: Selection,
    order: NDArray[np.int64],
    in_order: NDArray[np.int64],
    plane: int,
    mask: NDArray[np.uint32],
) -> None:
    """Copy what is selected of one plane to its tiles, which writes no other's part of the pixels."""
    first, last = np.searchsorted(in_order, [plane, plane + 1])
    tiles = order[first:last]
    if selection.shared_window:
        window = mask[as_slice(selection.rows[0])][:, as_slice(selection.cols[0])]
        pixels[tiles, 0, :, :, 0] = window
    else:
        rows, cols = selection.rows[tiles], selection.cols[tiles]
        pixels[tiles, 0, :, :, 0] = mask[rows[:, :, None], cols[:, None, :]]
