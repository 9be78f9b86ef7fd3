"""Batches of regions for training: shuffled, shared between ranks, read ahead, and resumed."""

from __future__ import annotations

from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import xarray as xr

from xarray_nd2.sampling.batch_loop import BatchLoop, Place, threads_for_dask
from xarray_nd2.sampling.epoch_order import EpochOrder, whole_number
from xarray_nd2.sampling.loader_worker import checked_worker, worker_of_loader
from xarray_nd2.sampling.read_ahead import read_ahead, read_ahead_in_tasks
from xarray_nd2.sampling.region_table import ROI_DIM

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator, Iterator, Mapping


def batches(
    regions: xr.DataArray,
    size: int,
    *,
    seed: int | None,
    rank: int = 0,
    world_size: int = 1,
    prefetch: int = 2,
    worker: tuple[int, int] | None = None,
) -> Batches:
    """Deal regions out in batches for training, and read them ahead of the loop.

    Parameters
    ----------
    regions : xarray.DataArray
        With the dimension ``roi``, as `regions` returns it: lazy, of dask, or in memory.
    size : int
        Regions of each batch.
    seed : int or None
        Of the order: each epoch has another permutation of all regions, the same on all ranks. With
        None every epoch has the order of the table.
    rank, world_size : int
        The number of this process among those that train together, and how many they are. In each
        epoch all have equally many batches, and none has a region of another. Regions that do
        not fill a batch for every rank are left out of that epoch.
    prefetch : int
        Batches that are read in the background beyond the one that the loop works on, and how many
        are read at once. That many are kept in memory besides the loop's own. With 0 each is read
        when it is asked for.
    worker : (int, int), optional
        Number of this worker among those that share the batches of the rank, and how many they are.
        Unless it is given, a worker process of a ``torch.utils.data.DataLoader`` finds it out.

    Returns
    -------
    Batches
        For ``for`` and ``async for``.

    Raises
    ------
    TypeError
        `regions` is not a DataArray, or a number is not whole.
    ValueError
        `regions` has no dimension ``roi`` or too few regions, or a number is not what it may be.

    Examples
    --------
    >>> import numpy as np
    >>> import xarray as xr
    >>> image = xr.DataArray(np.arange(48).reshape(2, 4, 6), dims=("T", "Y", "X"))
    >>> from xarray_nd2 import regions
    >>> cells = regions(image, {"T": [0, 1, 0, 1], "Y": [1, 2, 3, 1], "X": [1, 3, 2, 4]}, 2)
    >>> for batch in batches(cells, 2, seed=None):
    ...     print(batch.roi.values, batch.shape)
    [0 1] (2, 2, 2)
    [2 3] (2, 2, 2)
    """
    return Batches(
        regions,
        size,
        seed=seed,
        rank=rank,
        world_size=world_size,
        prefetch=prefetch,
        worker=worker,
    )


class Batches:
    """Batches of regions, in memory and with their labels; `batches` makes it.

    ``for batch in it`` and ``async for batch in it`` go through the rest of the epoch, and a loop
    that came to its end leaves it at the start of the next epoch. A loop that was left, or in which
    a batch could not be read, is gone on with by the next one. It pickles, also while a loop runs.

    Parameters are those of `batches`.
    """

    def __init__(
        self,
        regions: xr.DataArray,
        size: int,
        *,
        seed: int | None,
        rank: int = 0,
        world_size: int = 1,
        prefetch: int = 2,
        worker: tuple[int, int] | None = None,
    ) -> None:
        if not isinstance(regions, xr.DataArray):
            raise TypeError(f"regions must be a DataArray, not {type(regions).__name__}")
        if ROI_DIM not in regions.dims:
            raise ValueError(f"the regions have no dimension {ROI_DIM!r}: they have {regions.dims}")
        self._order = EpochOrder(
            regions.sizes[ROI_DIM],
            whole_number("size", size, 1),
            None if seed is None else whole_number("seed", seed, 0),
            whole_number("rank", rank, 0),
            whole_number("world_size", world_size, 1),
        )
        self._regions = regions
        self._prefetch = whole_number("prefetch", prefetch, 0)
        self._given_worker = None if worker is None else checked_worker(*worker)
        self._place = Place(0, 0, None)
        self._loops_begun = 0

    def __repr__(self) -> str:
        order, place = self._order, self._place
        return (
            f"<Batches: {order.batches} of {order.size} regions in each epoch, "
            f"rank {order.rank} of {order.world_size}; epoch {place.epoch}, at {place.position}>"
        )

    def __len__(self) -> int:
        """Number of batches that a loop through a whole epoch yields here."""
        index, count = self._worker() or (0, 1)
        return len(range(index, self._order.batches, count))

    def __iter__(self) -> Generator[xr.DataArray, None, None]:
        with self._loop() as loop:
            yield from read_ahead(loop.read, loop.numbers(), self._prefetch, loop.handing_out)
            loop.finish()

    async def __aiter__(self) -> AsyncGenerator[xr.DataArray, None]:
        with self._loop() as loop:
            reading = read_ahead_in_tasks(
                loop.read_async, loop.numbers(), self._prefetch, loop.handing_out
            )
            try:
                with suppress(StopAsyncIteration):
                    while True:  # as `async for` does, which would keep the batch
                        yield await anext(reading)
            finally:
                await reading.aclose()
            loop.finish()

    def set_epoch(self, epoch: int) -> None:
        """Go to the start of an epoch; stay where it is if this is the epoch already.

        Parameters
        ----------
        epoch : int
            Its number, from 0 on. Epochs can be taken in any order.
        """
        epoch = whole_number("epoch", epoch, 0)
        if epoch != self._place.epoch:
            self._go_to(Place(epoch, 0, None))

    def state_dict(self) -> dict[str, Any]:
        """Where the loop is, as plain values.

        Returns
        -------
        dict
            ``position`` counts the batches of the rank's list that were handed out, so a state of
            one rank serves all of them. In a worker of a loader it is the next batch of that
            worker's share, which ``worker`` names.
        """
        order, place = self._order, self._place
        return {
            "seed": order.seed,
            "size": order.size,
            "world_size": order.world_size,
            "regions": order.regions,
            "epoch": place.epoch,
            "position": place.position,
            "worker": None if place.worker is None else list(place.worker),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where another loop was, as `state_dict` told it.

        Parameters
        ----------
        state : mapping
            Of batches with the same seed, size, world size and number of regions.

        Raises
        ------
        ValueError
            The state is of other batches; what differs is named.
        """
        own = self.state_dict()
        if lacking := own.keys() - state.keys():
            raise ValueError(f"the state has no {', '.join(sorted(lacking))}")
        for name in ("seed", "size", "world_size", "regions"):
            if state[name] != own[name]:
                raise ValueError(
                    f"the state is of batches with {name} {state[name]!r}, not {own[name]!r}"
                )
        worker = state["worker"]
        position = whole_number("position", state["position"], 0)
        if position > self._order.batches:
            raise ValueError(f"position must be up to {self._order.batches}, not {position}")
        self._go_to(
            Place(
                whole_number("epoch", state["epoch"], 0),
                position,
                None if worker is None else checked_worker(*worker),
            )
        )

    def _worker(self) -> tuple[int, int] | None:
        return self._given_worker or worker_of_loader()

    def _go_to(self, place: Place) -> None:
        self._place = place
        self._loops_begun += 1  # which ends the loop that runs, if any

    @contextmanager
    def _loop(self) -> Iterator[BatchLoop]:
        """Begin a loop at the place where the last one was."""
        self._loops_begun += 1
        begun = self._loops_begun

        def move(place: Place) -> None:
            if self._loops_begun != begun:
                raise RuntimeError("another loop began over these batches, or their place was set")
            self._place = place

        worker = self._worker()
        with threads_for_dask(self._regions) as options:
            yield BatchLoop(self._regions, self._order, self._place, worker, options, move)
