"""What a selection will cost, told before anything is read."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from html import escape
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import xarray as xr

from xarray_nd2.guard import CROPS_READ_MORE, going_on_without
from xarray_nd2.lazy_chain import find_read_on_demand

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Iterator

    from numpy.typing import NDArray

    from xarray_nd2.array import ReadOnDemand
    from xarray_nd2.read.cost import ReadCost
    from xarray_nd2.read.link import Link

_UNITS_OF_BYTES: Final = ("B", "kB", "MB", "GB", "TB", "PB")
_MAX_SHOWN_OPERATIONS: Final = 8


@dataclass(frozen=True)
class WholeBlocks:
    """Blocks of dask that are read whole though only a part of them is used.

    Attributes
    ----------
    operation : str
        What is done to all of each block before it is cropped, as dask calls it.
    blocks : int
        How many there are.
    bytes_fetched : int
        What is fetched for them.
    """

    operation: str
    blocks: int
    bytes_fetched: int


@dataclass(frozen=True)
class Explanation:
    """What a selection will cost; `explain` makes it.

    Attributes
    ----------
    frames : int
        Different frames that are read from.
    bytes_needed, bytes_fetched : int
        Of the pixels that are asked for, each as often as it is; and of all that will travel for
        them, once.
    requests : int
        Ranges of bytes that will be asked for; none of files that are at hand.
    seconds : float
        In which one process transfers that over `link`, without decoding.
    link : Link or None
        What the connection is like; of several files the first one's. None where nothing is read.
    exact : bool
        Whether this is what will happen, and no estimate.
    reads : int
        Selections of files that are read: tasks of dask, or one.
    whole_blocks : tuple of WholeBlocks
        Blocks of dask that are read whole because of an operation before their crop.
    names : tuple of str
        The files, without secrets.
    """

    frames: int
    bytes_needed: int
    bytes_fetched: int
    requests: int
    seconds: float
    link: Link | None
    exact: bool
    reads: int
    whole_blocks: tuple[WholeBlocks, ...] = ()
    names: tuple[str, ...] = field(default=())

    def __repr__(self) -> str:
        rows = [f"  {name + ':':<15} {value}" for name, value in self._rows()]
        return "\n".join([self._title(), *rows])

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><th style='text-align:left'>{escape(name)}</th>"
            f"<td style='text-align:left'>{escape(value)}</td></tr>"
            for name, value in self._rows()
        )
        return f"<table><caption>{escape(self._title())}</caption>{rows}</table>"

    def _title(self) -> str:
        if not self.reads:
            return "Nothing will be read: everything is in memory"
        return "What will be read" if self.exact else "What will be read, estimated"

    def _rows(self) -> Iterator[tuple[str, str]]:
        """What is shown, as name and value."""
        for name in self.names[:3]:
            yield "file", name
        if len(self.names) > 3:
            yield "", f"and {len(self.names) - 3} more"
        if not self.reads:
            return
        times = self.bytes_fetched / self.bytes_needed if self.bytes_needed else 1.0
        yield "frames", f"{self.frames:,}"
        yield "bytes needed", _size(self.bytes_needed)
        yield "bytes fetched", f"{_size(self.bytes_fetched)} ({times:.3g} times what is needed)"
        reads = "one read" if self.reads == 1 else f"{self.reads:,} reads"
        count = f"{self.requests:,}" if self.requests else "none"
        yield "requests", f"{count} in {reads}"
        yield "transfer", f"about {_seconds(self.seconds)}{self._over_link()}"
        for block in self.whole_blocks[:_MAX_SHOWN_OPERATIONS]:
            blocks = "one block" if block.blocks == 1 else f"{block.blocks:,} blocks"
            fetched = _size(block.bytes_fetched)
            yield "read whole", f"{blocks} ({fetched}), because of {block.operation!r}"

    def _over_link(self) -> str:
        if self.link is None or not self.link.latency:
            return ""
        latency, rate = _seconds(self.link.latency), _size(int(self.link.bandwidth))
        return f" at {latency} a request and {rate}/s"


def explain(obj: xr.DataArray | xr.Dataset, *, link: Link | None = None) -> Explanation:
    """Tell what computing or loading an object will read of ND2 files. Nothing is read for it.

    Parameters
    ----------
    obj : xarray.DataArray or xarray.Dataset
        Lazy, or of dask arrays after any operations.
    link : Link, optional
        What the connection is to be like; what this process has learnt of it unless given.

    Returns
    -------
    Explanation
        Of dask arrays the sum over the tasks of the optimized graph. It is exact for the next read
        of a lazy object in this process, and of dask with an integer `max_gap`. It is an estimate
        where workers choose their gaps themselves, where `link` is given in place of what this
        process knows, for crops of compressed frames, since their bytes are counted only as they
        are inflated, and for dask and several arrays of files with `cache_bytes`: each frame that
        is not kept now counts for every read of it.

    Raises
    ------
    TypeError
        The object is neither a DataArray nor a Dataset.
    ND2FormatError
        A frame is not where the file says, or is missing and must not be.

    Examples
    --------
    >>> import numpy as np
    >>> import xarray as xr
    >>> explain(xr.DataArray(np.zeros(3)))
    Nothing will be read: everything is in memory
    """
    if not isinstance(obj, (xr.DataArray, xr.Dataset)):
        raise TypeError(f"obj must be a DataArray or a Dataset, not {type(obj).__name__}")
    dataset = obj if isinstance(obj, xr.Dataset) else obj.to_dataset(name="explained")
    parts = _Parts(link)
    graphs = {}
    for name, variable in dataset.variables.items():
        if variable.chunks is not None:
            graphs[name] = variable
        elif find_read_on_demand(variable):
            parts.add(variable, by_this_process=True)
    whole: list[tuple[str, ReadCost]] = []
    if graphs:
        # Imported here, since it needs dask.
        from xarray_nd2.dask.reads import blocks_read_whole, reads_of

        lazy = xr.Dataset(graphs)
        for selected in reads_of([variable.data for variable in graphs.values()]):
            parts.add(selected, by_this_process=False)
        with going_on_without(CROPS_READ_MORE):
            whole = [(b.operation, _cost(b.selected, link)[1]) for b in blocks_read_whole(lazy)]
    return parts.explanation(_by_operation(whole))


class _Parts:
    """The reads of an explanation, added up."""

    def __init__(self, link: Link | None) -> None:
        self._link = link
        self._names: dict[str, None] = {}
        self._frames: dict[Hashable, list[NDArray[np.int64]]] = {}  # of each array
        self._totals: dict[Hashable, list[int]] = {}  # requests and bytes of each file
        self._links: dict[Hashable, tuple[Link, int]] = {}
        self._needed = 0
        self._exact = True
        self._reads = 0
        self._reads_that_keep = 0

    def add(self, selected: Any, *, by_this_process: bool) -> None:
        """Add the read of a lazy selection."""
        array, cost = _cost(selected, self._link)
        name: Hashable = array.source.identity or id(array.source)
        self._names[array.source.name] = None
        self._frames.setdefault((name, array.shape), []).append(cost.frames)
        totals = self._totals.setdefault(name, [0, 0])
        at_hand = not array.source.link.latency  # which a file on a disk of this machine has not
        totals[0] += 0 if at_hand else cost.requests
        totals[1] += cost.bytes_fetched
        self._links.setdefault(name, (self._link or array.source.link, array.max_concurrency))
        self._needed += cost.bytes_needed
        self._reads += 1
        self._reads_that_keep += cost.keeps_frames
        as_here = by_this_process and self._link is None
        self._exact &= cost.exact and (as_here or not array.adapts_to_link)
        # Another process keeps other frames.
        self._exact &= by_this_process or not cost.keeps_frames

    def explanation(self, whole: Iterable[WholeBlocks]) -> Explanation:
        """The sum."""
        seconds = 0.0
        for name, (requests, nbytes) in self._totals.items():
            link, concurrency = self._links[name]
            seconds += float(link.seconds(np.array(requests), np.array(nbytes), concurrency))
        links = [link for link, _ in self._links.values()]
        return Explanation(
            frames=sum(len(np.unique(np.concatenate(f))) for f in self._frames.values()),
            bytes_needed=self._needed,
            bytes_fetched=sum(nbytes for _, nbytes in self._totals.values()),
            requests=sum(requests for requests, _ in self._totals.values()),
            seconds=seconds,
            link=links[0] if links else None,
            # What one read keeps, the next does not read.
            exact=self._exact and self._reads_that_keep < 2,
            reads=self._reads,
            whole_blocks=tuple(whole),
            names=tuple(self._names),
        )


def _cost(selected: Any, link: Link | None) -> tuple[ReadOnDemand, ReadCost]:
    """The array that a lazy selection is of, and what reading it costs."""
    found = find_read_on_demand(selected)
    assert found is not None, "this is of no ND2 file"
    array, key = found
    if key is None:
        raise ValueError("a selection of a selection was made that xarray does not tell of")
    return array, array.read_cost(key, link)


def _by_operation(blocks: Iterable[tuple[str, ReadCost]]) -> list[WholeBlocks]:
    """Blocks that are read whole, added up by operation, those of most bytes first."""
    counts: Counter[str] = Counter()
    fetched: Counter[str] = Counter()
    for operation, cost in blocks:
        counts[operation] += 1
        fetched[operation] += cost.bytes_fetched
    return [WholeBlocks(name, counts[name], nbytes) for name, nbytes in fetched.most_common()]


def _size(nbytes: int) -> str:
    """Bytes with three digits and a decimal unit."""
    value = float(nbytes)
    for unit in _UNITS_OF_BYTES:
        if value < 999.5 or unit == _UNITS_OF_BYTES[-1]:
            break
        value /= 1000
    return f"{value:.3g} {unit}"


def _seconds(seconds: float) -> str:
    """Seconds with two digits, as ms where they are few."""
    return f"{seconds * 1000:.2g} ms" if seconds < 0.9995 else f"{seconds:.3g} s"
