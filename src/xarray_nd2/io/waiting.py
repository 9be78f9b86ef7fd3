"""Waiting for coroutines: from another thread, and for two at once."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Coroutine

T = TypeVar("T")
S = TypeVar("S")


def wait_for(loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine on the I/O loop of another thread and wait for it."""
    with suppress(RuntimeError):
        if asyncio.get_running_loop() is loop:
            work.close()
            raise AssertionError("a blocking read on the event loop that would have to do it")
    future = asyncio.run_coroutine_threadsafe(work, loop)
    try:
        return future.result()
    finally:
        future.cancel()  # when this thread was interrupted while it waited


async def together(one: Coroutine[Any, Any, T], other: Coroutine[Any, Any, S]) -> tuple[T, S]:
    """Results of two coroutines; where one fails, the other is cancelled."""
    failed = None
    try:
        async with asyncio.TaskGroup() as group:
            tasks = group.create_task(one), group.create_task(other)
    except ExceptionGroup as all_failed:
        failed = all_failed.exceptions[0]
    if failed is not None:
        raise failed  # not in the handler: its context would be the group that holds it
    return tasks[0].result(), tasks[1].result()
