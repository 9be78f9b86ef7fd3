"""Results one after the other, of which the next are already being made: in threads, or in tasks."""

from __future__ import annotations

import asyncio
import contextvars
from collections import deque
from concurrent import futures
from itertools import islice
from typing import TYPE_CHECKING, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Iterable

    Item = TypeVar("Item")
    Result = TypeVar("Result")

THREAD_NAME_PREFIX: Final = "xarray-nd2-batches"


def read_ahead(
    read: Callable[[Item], Result],
    items: Iterable[Item],
    count: int,
    handing_out: Callable[[Item], None],
) -> Generator[Result, None, None]:
    """Yield what is read of each item, in order, while the next ones are read in threads.

    Parameters
    ----------
    read : callable
        Reads an item. What it raises is raised when it is the item's turn.
    items : iterable
        What to read.
    count : int
        How many items are read, or being read, beyond those that were yielded; with 0 each is read
        in the calling thread when it is asked for.
    handing_out : callable
        Called with an item just before what was read of it is yielded.
    """
    # A result that was yielded is not kept here, so that no more than `count` are in memory.
    waiting = iter(items)
    if not count:
        for item in waiting:
            result = [read(item)]
            handing_out(item)
            yield result.pop()
        return
    pool = futures.ThreadPoolExecutor(count, THREAD_NAME_PREFIX)
    coming: deque[tuple[Item, futures.Future[Result]]] = deque()

    def begin(more: int) -> None:
        for item in islice(waiting, more):
            coming.append((item, pool.submit(contextvars.copy_context().run, read, item)))

    try:
        begin(count)
        while coming:
            item, future = coming[0]
            future.result()
            del future
            handing_out(item)
            ready = [coming.popleft()[1].result()]
            begin(1)
            yield ready.pop()
    finally:
        # A loop that is left does not wait for reads under way: their threads end with them.
        pool.shutdown(wait=False, cancel_futures=True)


async def read_ahead_in_tasks(
    read: Callable[[Item], Awaitable[Result]],
    items: Iterable[Item],
    count: int,
    handing_out: Callable[[Item], None],
) -> AsyncGenerator[Result, None]:
    """Do what `read_ahead` does in tasks of the running event loop."""
    waiting = iter(items)
    if not count:
        for item in waiting:
            result = [await read(item)]
            handing_out(item)
            yield result.pop()
        return
    coming: deque[tuple[Item, asyncio.Future[Result]]] = deque()

    def begin(more: int) -> None:
        for item in islice(waiting, more):
            coming.append((item, asyncio.ensure_future(read(item))))

    try:
        begin(count)
        while coming:
            item, future = coming[0]
            await asyncio.wait([future])
            future.result()
            del future
            handing_out(item)
            ready = [coming.popleft()[1].result()]
            begin(1)
            yield ready.pop()
    finally:
        tasks = [task for _, task in coming]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
