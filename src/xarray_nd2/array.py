"""The image as xarray sees it: an array that plans, fetches and decodes what it is indexed with."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from xarray.backends import BackendArray
from xarray.core import indexing

from xarray_nd2.errors import ND2FormatError
from xarray_nd2.io.failures import named_errors
from xarray_nd2.io.process import this_process
from xarray_nd2.io.source import MAX_INLINE_DECODE_BYTES
from xarray_nd2.io.watch import count_local
from xarray_nd2.keeping.whole_frames import NOTHING_KEPT, WholeFrames
from xarray_nd2.read.cost import cost_of_kept, read_cost
from xarray_nd2.read.decode import empty_pixels, rounds
from xarray_nd2.read.mapped import mapped_tiles, strided_window
from xarray_nd2.read.plan import plan_read
from xarray_nd2.read.selection import select_frames, select_outer, select_points

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from xarray_nd2.format.layout import FrameLayout
    from xarray_nd2.io.source import ByteSource
    from xarray_nd2.keeping.whole_frames import Keeping
    from xarray_nd2.read.cost import ReadCost
    from xarray_nd2.read.decode import Round
    from xarray_nd2.read.link import Link
    from xarray_nd2.read.plan import ReadPlan
    from xarray_nd2.read.selection import Selection


class ReadOnDemand(BackendArray, ABC):
    """An array in a file that can tell what reading a part of it costs.

    Attributes
    ----------
    source : ByteSource
        The opened file.
    dims, shape : tuple
        Names and sizes of the dimensions.
    max_concurrency : int
        Requests in flight.
    adapts_to_link : bool
        Whether what is read over depends on the link, and so on the process that reads.
    """

    source: ByteSource
    dims: tuple[str, ...]
    shape: tuple[int, ...]
    max_concurrency: int
    adapts_to_link: bool

    @abstractmethod
    def read_cost(self, key: indexing.ExplicitIndexer, link: Link | None = None) -> ReadCost:
        """What it would cost to read a key, over a link if that is given."""


class ND2BackendArray(ReadOnDemand):
    """An image in a file, read on demand.

    It holds values only, no handle: it can be read from many threads, and pickled to read in
    another process.

    Parameters
    ----------
    source : ByteSource
        The opened file.
    layout : FrameLayout
        Of its frames.
    max_gap : int or None
        Merge ranges that are up to this many bytes apart; None for what is fastest.
    max_concurrency : int
        Requests in flight.
    missing_frames : {"zeros", "raise"}
        What a frame that the file does not have reads as.
    keeping : Keeping
        Where whole frames are kept.
    """

    def __init__(
        self,
        source: ByteSource,
        layout: FrameLayout,
        max_gap: int | None,
        max_concurrency: int,
        missing_frames: str,
        keeping: Keeping = NOTHING_KEPT,
    ) -> None:
        self.source = source
        self.layout = layout
        self.max_gap = max_gap
        self.max_concurrency = max_concurrency
        self.missing_frames = missing_frames
        self.keeping = keeping
        self.dims = layout.dims
        self.adapts_to_link = max_gap is None
        self.shape = layout.shape
        self.dtype = layout.dtype

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        if not isinstance(key, indexing.VectorizedIndexer):
            window = strided_window(self.layout, key.tuple, self.source.size)
            if window is not None:
                data = self.source.read_on_disk(window.start, window.stop)
                if data is not None and len(data) == window.stop - window.start:
                    count_local(((window.start, window.stop),))
                    return window.copied(data)
        return self.read(self._select(key))

    async def async_getitem(self, key: indexing.ExplicitIndexer) -> Any:
        """Read without blocking the event loop, for ``await ds.load_async()``."""
        return await self.aread(self._select(key))

    def _select(self, key: indexing.ExplicitIndexer) -> Selection:
        # Every key that xarray has is understood, so none needs its adapter, which takes keys
        # apart into what a backend can do and what NumPy does after it.
        if isinstance(key, indexing.VectorizedIndexer):
            return select_points(self.layout, key_as_arrays(key.tuple, self.shape))
        return select_outer(self.layout, key.tuple)

    def read_cost(self, key: indexing.ExplicitIndexer, link: Link | None = None) -> ReadCost:
        """What it would cost to read a key, over a link if that is given."""
        return self.selection_cost(self._select(key), link)

    def selection_cost(self, selection: Selection, link: Link | None = None) -> ReadCost:
        """What it would cost to read a selection, over a link if that is given."""
        plan = self.plan(selection, link)
        kept = WholeFrames(self.source, self.layout, self.keeping, plan)
        if not kept:
            return self._cost_of(plan)
        missing = kept.missing()
        costs = [self._cost_of(self._plan_whole(part, link)) for part in kept.parts(missing)]
        alone = not kept.is_shared
        return cost_of_kept(
            plan, missing, costs, same_gap=self.max_gap is not None, by_this_process=alone
        )

    def _cost_of(self, plan: ReadPlan) -> ReadCost:
        if self.layout.compression == "none":
            return read_cost(plan)
        return read_cost(plan, this_process().frame_cache, self.source.identity)

    def plan(self, selection: Selection, link: Link | None = None) -> ReadPlan:
        """Plan the read of a selection.

        Parameters
        ----------
        selection : Selection
            The pixels.
        link : Link, optional
            What the connection is like; what this process knows of it unless given.

        Raises
        ------
        ND2FormatError
            A frame of it is not where the file says, or is missing and must not be.
        """
        with named_errors(self.source.name):
            plan = plan_read(
                self.layout,
                selection,
                self.max_gap,
                link or self.source.link,
                self.max_concurrency,
                probing=True,
            )
            plan.check(self.source.size)
            if len(plan.missing) and self.missing_frames == "raise":
                first = self.layout.name_of(int(selection.frames[plan.missing[0]]))
                raise ND2FormatError(
                    f"{len(plan.missing)} of the frames asked for are not in the file, the first "
                    f"of them {first}"
                )
        return plan

    def read(self, selection: Selection) -> NDArray[Any]:
        """Read a selection.

        Raises
        ------
        ND2FormatError
            A frame of it is not where the file says, or is missing and must not be.
        ND2SourceError
            The file cannot be read, or has changed.
        """
        pixels = self._read_mapped(selection)
        if pixels is None:
            plan = self.plan(selection)
            kept = WholeFrames(self.source, self.layout, self.keeping, plan)
            if kept:
                pixels = empty_pixels(plan)
                kept.copy(pixels, lambda frames: self._carry_out(self._plan_whole(frames)))
            else:
                pixels = self._carry_out(plan)
        return selection.arrangement.apply(pixels)

    def _carry_out(self, plan: ReadPlan) -> NDArray[Any]:
        """Read the pixels of the tiles of a plan."""
        pixels = empty_pixels(plan)
        with named_errors(self.source.name):
            for ranges, deliver in self._rounds(plan, pixels):
                self.source.read(ranges, deliver, self.max_concurrency, self._max_inline_bytes)
        return pixels

    async def aread(self, selection: Selection) -> NDArray[Any]:
        """Do what `read` does, without blocking the event loop of the caller."""
        if self.keeping:  # it may have to wait for another thread that reads the same frame
            return await asyncio.to_thread(self.read, selection)
        pixels = await asyncio.to_thread(self._read_mapped, selection)
        if pixels is None:
            plan = await asyncio.to_thread(self.plan, selection)  # which may have to connect first
            pixels = empty_pixels(plan)
            with named_errors(self.source.name):
                for ranges, deliver in self._rounds(plan, pixels):
                    await self.source.aread(
                        ranges, deliver, self.max_concurrency, self._max_inline_bytes
                    )
        return selection.arrangement.apply(pixels)

    def _read_mapped(self, selection: Selection) -> NDArray[Any] | None:
        """Pixels of the tiles of a selection, where that takes no plan; None where it does."""
        if not self.source.is_mapped:
            return None
        tiles = mapped_tiles(self.layout, selection, self.source.size)
        if tiles is None or (len(tiles.missing) and self.missing_frames == "raise"):
            return None
        file = self.source.mapped(keep=tiles.are_many)
        if file is None:
            return None
        pixels = tiles.gathered(file)
        if pixels is None:
            pixels = empty_pixels(tiles)
            copy = partial(tiles.copy, file, pixels)
            several = len(tiles.batches) > 1
            list((this_process().decode_threads.map if several else map)(copy, tiles.batches))
        count_local(((0, pixels.nbytes),))
        return pixels

    @property
    def _max_inline_bytes(self) -> int:
        """Ranges up to here are decoded on the event loop; no codestream, which may be small and slow."""
        return 0 if self.layout.compression == "jpeg2000" else MAX_INLINE_DECODE_BYTES

    def _plan_whole(self, frames: list[int], link: Link | None = None) -> ReadPlan:
        return self.plan(select_frames(self.layout, np.array(frames, np.int64)), link)

    def _rounds(self, plan: ReadPlan, pixels: NDArray[Any]) -> Iterator[Round]:
        if self.layout.compression == "none":
            return rounds(plan, pixels)
        return rounds(plan, pixels, this_process().frame_cache, self.source.identity)


def key_as_arrays(
    key: tuple[slice | NDArray[Any], ...], shape: tuple[int, ...]
) -> list[NDArray[np.int64]]:
    """A vectorized key with its slices as arrays too, on axes after those of the others."""
    ndim = max((part.ndim for part in key if not isinstance(part, slice)), default=0)
    slices = sum(isinstance(part, slice) for part in key)
    arrays = []
    number = 0
    for part, size in zip(key, shape, strict=True):
        if isinstance(part, slice):
            axes = [1] * (ndim + slices)
            axes[ndim + number] = -1
            number += 1
            arrays.append(np.arange(size)[part].reshape(axes))
        else:
            before = (1,) * (ndim - part.ndim)
            arrays.append(part.reshape(before + part.shape + (1,) * slices))
    return arrays
