"""One loop over batches: what it reads, and where it is."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from xarray_nd2.sampling.read_ahead import THREAD_NAME_PREFIX
from xarray_nd2.sampling.region_table import ROI_DIM

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import xarray as xr

    from xarray_nd2.sampling.epoch_order import EpochOrder


@dataclass(frozen=True)
class Place:
    """Where a loop is.

    Attributes
    ----------
    epoch : int
        Its epoch.
    position : int
        The next batch of the rank's list that is handed out.
    worker : (int, int) or None
        Whose share of the list this is about; None where nothing was shared out before it.
    """

    epoch: int
    position: int
    worker: tuple[int, int] | None


class BatchLoop:
    """A loop through the rest of an epoch.

    Parameters
    ----------
    regions : xarray.DataArray
        All of them.
    order : EpochOrder
        Which are in which batch.
    place : Place
        Where to begin.
    worker : (int, int) or None
        Who loops, if the batches of the rank are shared.
    options : dict
        With which batches are computed.
    move : callable
        Told of each new place.
    """

    def __init__(
        self,
        regions: xr.DataArray,
        order: EpochOrder,
        place: Place,
        worker: tuple[int, int] | None,
        options: dict[str, Any],
        move: Callable[[Place], None],
    ) -> None:
        if place.worker is not None and place.worker != worker:
            raise ValueError(
                f"the state is of worker {_named(place.worker)}, and this is {_named(worker)}"
            )
        self._regions = regions
        self._rows = order.rows(place.epoch)
        self._epoch = place.epoch
        index, self._step = worker or (0, 1)
        self._first = place.position + (index if place.worker is None else 0)
        self._worker = worker
        self._options = options
        self._move = move

    def numbers(self) -> range:
        """Which batches of the rank's list are handed out."""
        return range(self._first, len(self._rows), self._step)

    def read(self, number: int) -> xr.DataArray:
        """A batch in memory."""
        return self._select(number).load(**self._options)

    async def read_async(self, number: int) -> xr.DataArray:
        """A batch in memory, without blocking the event loop."""
        if _is_of_dask(self._regions):  # which computes in the calling thread
            return await asyncio.to_thread(self.read, number)
        return await self._select(number).load_async()

    def handing_out(self, number: int) -> None:
        """Note that the loop is beyond a batch."""
        beyond = min(number + self._step, len(self._rows))
        self._move(Place(self._epoch, beyond, self._worker))

    def finish(self) -> None:
        """Note that the epoch is over."""
        self._move(Place(self._epoch + 1, 0, None))

    def _select(self, number: int) -> xr.DataArray:
        return self._regions.isel({ROI_DIM: self._rows[number]})


def _is_of_dask(regions: xr.DataArray) -> bool:
    """Whether loading it computes with dask."""
    labels = (coordinate.variable for coordinate in regions.coords.values())
    return any(variable.chunks is not None for variable in (regions.variable, *labels))


@contextmanager
def threads_for_dask(regions: xr.DataArray) -> Iterator[dict[str, Any]]:
    """Options with which batches are computed.

    Dask keeps threads of its own for every thread that computes, also when that is gone. So it is
    given threads that are gone with the loop, unless the user told it how to compute.
    """
    if not _is_of_dask(regions):
        yield {}
        return
    import dask
    import dask.base

    told = dask.config.get("pool", None) or dask.config.get("num_workers", None)
    in_threads = dask.base.get_scheduler(scheduler="threads")
    if told or dask.base.get_scheduler(collections=[regions]) is not in_threads:
        yield {}
        return
    pool = ThreadPoolExecutor(thread_name_prefix=f"{THREAD_NAME_PREFIX}-dask")
    try:
        yield {"pool": pool}
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _named(worker: tuple[int, int] | None) -> str:
    return "no worker" if worker is None else f"{worker[0]} of {worker[1]}"
