"""Regions of an image in a file as an array that reads what it is indexed with, in one plan."""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from xarray.core import indexing

from xarray_nd2.array import ReadOnDemand
from xarray_nd2.read.cost import NOTHING_TO_READ
from xarray_nd2.read.selection import select_windows
from xarray_nd2.sampling.region_table import ROI_DIM

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from xarray_nd2.array import ND2BackendArray
    from xarray_nd2.read.cost import ReadCost
    from xarray_nd2.read.link import Link
    from xarray_nd2.read.selection import Selection
    from xarray_nd2.sampling.region_table import RegionTable

    Ints = NDArray[np.int64]
    Part = int | np.integer[Any] | slice | NDArray[Any]

_REGION_DIMS = ("Z", "C", "Y", "X", "S")


@dataclass(frozen=True, eq=False)
class ImagePart:
    """A part of the image of a file, as an outer selection of it.

    Attributes
    ----------
    array : ND2BackendArray
        The whole image.
    positions : dict of str to int or ndarray of int64
        What is selected along each dimension of the file; an int where the dimension was dropped.
    """

    array: ND2BackendArray
    positions: Mapping[str, int | Ints]

    @property
    def sizes(self) -> dict[str, int]:
        """Sizes by dimension."""
        return {dim: len(p) for dim, p in self.positions.items() if not isinstance(p, int)}


class RegionsArray(ReadOnDemand):
    """Regions of an image, read on demand; it pickles.

    Its dimensions are ``roi``, then Z of boxes, C, Y, X and S, as far as the image has them.

    Parameters
    ----------
    part : ImagePart
        The image.
    table : RegionTable
        Where the regions are in it.
    fill : scalar
        For what lies outside of the image.
    """

    def __init__(self, part: ImagePart, table: RegionTable, fill: Any) -> None:
        self.part = part
        self.table = table
        self.fill = fill
        sizes = {dim: size for dim, size in part.sizes.items() if dim in _REGION_DIMS}
        sizes |= table.size
        kept = (dim for dim in _REGION_DIMS if dim in table.size or (dim in "CS" and dim in sizes))
        self.dims = (ROI_DIM, *kept)
        self.shape = (table.count, *(sizes[dim] for dim in self.dims[1:]))
        self.dtype = part.array.dtype
        self.source = part.array.source
        self.adapts_to_link = part.array.adapts_to_link
        self.max_concurrency = part.array.max_concurrency

    def of_rows(self, rows: slice) -> RegionsArray:
        """The array of some of the regions."""
        return RegionsArray(self.part, self.table.take(rows), self.fill)

    @property
    def nbytes_of_region(self) -> int:
        """Bytes of the pixels of one region."""
        return math.prod(self.shape[1:]) * self.dtype.itemsize

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        return indexing.explicit_indexing_adapter(
            key, self.shape, indexing.IndexingSupport.OUTER, self._read
        )

    async def async_getitem(self, key: indexing.ExplicitIndexer) -> Any:
        """Read without blocking the event loop, for ``await da.load_async()``."""
        if isinstance(key, indexing.VectorizedIndexer):
            return await asyncio.to_thread(self.__getitem__, key)
        cut = self._cut(key.tuple)
        pixels = None
        if cut.selection is not None:
            pixels = await self.part.array.aread(cut.selection)
        return cut.arranged(pixels, self.fill, self.dtype)

    def read_cost(self, key: indexing.ExplicitIndexer, link: Link | None = None) -> ReadCost:
        """What it would cost to read a key; of one that is of points an estimate."""
        parts = key.tuple
        if isinstance(key, indexing.VectorizedIndexer):  # of which that is read which xarray reads
            parts = tuple(
                np.unique(np.arange(n)[p]) for p, n in zip(parts, self.shape, strict=True)
            )
        selection = self._cut(parts).selection
        if selection is None:
            return NOTHING_TO_READ
        cost = self.part.array.selection_cost(selection, link)
        return replace(cost, exact=cost.exact and parts is key.tuple)

    def _read(self, key: tuple[Part, ...]) -> NDArray[Any]:
        cut = self._cut(key)
        pixels = None
        if cut.selection is not None:
            pixels = self.part.array.read(cut.selection)
        return cut.arranged(pixels, self.fill, self.dtype)

    def _cut(self, key: tuple[Part, ...]) -> _Cut:
        """What a key reads of the file, and how that is arranged."""
        given = dict(zip(self.dims, key, strict=True))
        table = self.table.take(np.atleast_1d(np.arange(self.table.count)[given[ROI_DIM]]))
        sizes = self.part.sizes
        spans = {dim: _Span.of(given[dim], size) for dim, size in table.size.items()}
        planes = spans["Z"].length if "Z" in spans else 1
        start = {dim: table.first[dim] + span.start for dim, span in spans.items()}
        # A window is moved inside, and its pixels are moved back after reading.
        height, width = (min(spans[dim].length, sizes[dim]) for dim in "YX")
        moved = {
            dim: np.clip(start[dim], 0, sizes[dim] - length)
            for dim, length in (("Y", height), ("X", width))
        }
        there = np.ones((table.count, planes), bool)
        for dim in "YX":
            there &= ((start[dim] > -spans[dim].length) & (start[dim] < sizes[dim]))[:, None]
        loops = {dim: np.repeat(p, planes) for dim, p in table.loops.items()}
        if "Z" in spans:
            z = np.add.outer(start["Z"], np.arange(planes))
            there &= (z >= 0) & (z < sizes["Z"])
            loops["Z"] = z.ravel()
        inside = np.flatnonzero(there.ravel())
        region = inside // planes
        selection = self._selection(
            {dim: p[inside] for dim, p in loops.items()},
            np.add.outer(moved["Y"][region], np.arange(height)),
            np.add.outer(moved["X"][region], np.arange(width)),
            {dim: given[dim] for dim in "CS" if dim in given},
        )
        shift = {dim: moved[dim][region] - start[dim][region] for dim in "YX"}
        channels, samples = (
            np.size(np.arange(sizes[dim])[given[dim]]) if dim in given else 1 for dim in "CS"
        )
        return _Cut(
            selection, inside, shift, there.shape, spans, (channels, samples), self.dims, given
        )

    def _selection(
        self, loops: dict[str, Ints], rows: Ints, cols: Ints, others: Mapping[str, Part]
    ) -> Selection | None:
        """The windows as a selection of the file; None where nothing is selected."""
        layout = self.part.array.layout
        # What is selected along each dimension of the file, of a dropped one its only position.
        held = {dim: np.atleast_1d(p) for dim, p in self.part.positions.items()}
        held.setdefault("S", np.zeros(1, np.int64))
        sizes = {dim: size for dim, size in layout.loops if dim != "C"}
        key = [held[dim][loops.get(dim, np.zeros(len(rows), np.int64))] for dim in sizes]
        frames = np.zeros(len(rows), np.int64)
        if key:
            frames = np.ravel_multi_index(key, tuple(sizes.values())).astype(np.int64)
        channels, samples = (np.atleast_1d(held[dim][others.get(dim, slice(None))]) for dim in "CS")
        selection = select_windows(
            layout, frames, held["Y"][rows], held["X"][cols], channels, samples
        )
        return selection if selection.size else None


@dataclass(frozen=True)
class _Span:
    """A part of a window's axis: positions from `start`, of which `index` gives what was asked for."""

    start: int
    length: int
    index: Any

    @classmethod
    def of(cls, part: Part, size: int) -> _Span:
        asked = np.arange(size)[part]
        flat = np.atleast_1d(asked)
        if not len(flat):
            return cls(0, 0, slice(0, 0))
        start = int(flat.min())
        index: Any = asked - start
        if isinstance(part, slice) and (part.step or 1) > 0:
            index = slice(0, None, part.step)
        return cls(start, int(flat.max()) - start + 1, index)


@dataclass(frozen=True, eq=False)
class _Cut:
    """What is read for a key of regions, and where its pixels go.

    Attributes
    ----------
    selection : Selection or None
        Windows, with pixels of the axes (tile, C, Y, X, S).
    inside : ndarray of int64
        The number of each among all planes of all regions.
    shift : dict of str to ndarray of int64
        How far each window was moved along Y and X to lie inside.
    planes : tuple of int
        Number of regions, and of planes of each.
    spans : dict of str to _Span
        What is read of each window.
    components : tuple of int
        Number of channels and of samples that are read.
    dims : tuple of str
        Of the regions.
    given : dict of str to int, slice or ndarray
        The key, by dimension.
    """

    selection: Selection | None
    inside: Ints
    shift: dict[str, Ints]
    planes: tuple[int, int]
    spans: dict[str, _Span]
    components: tuple[int, int]
    dims: tuple[str, ...]
    given: dict[str, Part]

    def arranged(
        self, pixels: NDArray[Any] | None, fill: Any, dtype: np.dtype[Any]
    ) -> NDArray[Any]:
        """The pixels of all planes, those outside filled, in the shape of the key."""
        count = self.planes[0] * self.planes[1]
        height, width = self.spans["Y"].length, self.spans["X"].length
        channels, samples = self.components
        shape = (count, channels, height, width, samples)
        moved = (self.shift["Y"] != 0) | (self.shift["X"] != 0)
        whole = pixels is not None and pixels.shape == shape and not moved.any()
        if not whole:
            full = np.full(shape, fill, dtype)
            if pixels is not None:
                self._place(full, pixels, moved)
            pixels = full
        assert pixels is not None
        pixels = pixels.reshape(*self.planes, *shape[1:])
        index: list[Any] = [
            0 if isinstance(self.given[ROI_DIM], (int, np.integer)) else slice(None)
        ]
        index.append(self.spans["Z"].index if "Z" in self.spans else 0)
        for dim in "CYXS":
            if dim in self.spans:
                index.append(self.spans[dim].index)
            else:
                dropped = dim not in self.dims or isinstance(self.given[dim], (int, np.integer))
                index.append(0 if dropped else slice(None))
        return _outer(pixels, index)

    def _place(self, full: NDArray[Any], pixels: NDArray[Any], moved: NDArray[np.bool_]) -> None:
        """Put windows where they belong."""
        as_they_are = pixels.shape[2:4] == full.shape[2:4]
        if as_they_are:
            full[self.inside[~moved]] = pixels[~moved]
        for tile in np.flatnonzero(moved) if as_they_are else range(len(pixels)):
            source, target = [], []
            for dim, axis in (("Y", 2), ("X", 3)):
                shift = int(self.shift[dim][tile])
                skip, at = max(-shift, 0), max(shift, 0)
                length = min(pixels.shape[axis] - skip, full.shape[axis] - at)
                source.append(slice(skip, skip + length))
                target.append(slice(at, at + length))
            full[self.inside[tile], :, *target] = pixels[tile, :, *source]


def _outer(pixels: NDArray[Any], index: list[Any]) -> NDArray[Any]:
    """Index each axis alone."""
    for axis, part in reversed(list(enumerate(index))):
        pixels = pixels[(slice(None),) * axis + (part,)]
    return pixels
