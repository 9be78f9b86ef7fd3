"""Tasks of an export, some of them at a time: in threads, in processes or on a cluster."""

from __future__ import annotations

import multiprocessing
import os
from concurrent import futures
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from xarray_nd2.export.write_shards import Export, Task

MEMORY_BYTES: Final = 512 * 1024 * 1024
"""Bytes that the tasks of one process are to keep below, as far as one task does."""
_COPIES_OF_PIXELS: Final = 3  # of a task: as read, as encoded, and while it is being written
_TASKS_PER_THREAD: Final = 2  # of a cluster, so that no thread waits for its next one

_exports_of_process: dict[str, Export] = {}


def worker_count(task_bytes: int, asked: int | None) -> int:
    """Threads or processes that write at a time."""
    if asked is not None:
        return asked
    fitting = MEMORY_BYTES // max(1, _COPIES_OF_PIXELS * task_bytes)
    return max(1, min((os.cpu_count() or 1) + 2, fitting))


def run_tasks(
    export: Export, tasks: Iterable[Task], scheduler: Any, workers: int, done: Callable[[], None]
) -> None:
    """Do all tasks, no more of them in flight than can be worked on.

    Parameters
    ----------
    export : Export
        What they have in common; it goes once to each process or worker.
    tasks : iterable of Task
        Taken as they are begun.
    scheduler : {"threads", "processes"} or distributed.Client
        Where they run.
    workers : int
        Threads or processes; a cluster has its own.
    done : callable
        Called after each, in this thread.

    Raises
    ------
    ND2Error, OSError
        The first that a task raised; what others have written stays.
    """
    if scheduler == "threads":
        with futures.ThreadPoolExecutor(workers, "xarray-nd2-export") as pool:
            _run_in_pool(pool, export.write, iter(tasks), workers, done)
    elif scheduler == "processes":
        spawning = multiprocessing.get_context("spawn")  # a fork would copy connections
        with futures.ProcessPoolExecutor(workers, spawning, _keep_export, (export,)) as pool:
            _run_in_pool(pool, _write_in_process, iter(tasks), 2 * workers, done)
    else:
        _run_on_cluster(scheduler, export, iter(tasks), done)


def _run_in_pool(
    pool: futures.Executor,
    write: Callable[[Task], None],
    waiting: Iterator[Task],
    in_flight: int,
    done: Callable[[], None],
) -> None:
    running = {pool.submit(write, task) for task in islice(waiting, in_flight)}
    try:
        while running:
            finished, running = futures.wait(running, return_when=futures.FIRST_COMPLETED)
            for future in finished:
                future.result()
                done()
                running |= {pool.submit(write, task) for task in islice(waiting, 1)}
    finally:
        for future in running:
            future.cancel()


def _run_on_cluster(
    client: Any, export: Export, waiting: Iterator[Task], done: Callable[[], None]
) -> None:
    from distributed import wait

    threads = sum(client.nthreads().values())
    if not threads:
        raise RuntimeError("the cluster has no workers")
    shared = client.scatter(export, broadcast=True, hash=False)

    def begin(count: int) -> set[Any]:
        return {
            client.submit(_write_shared, shared, task, pure=False)
            for task in islice(waiting, count)
        }

    running = begin(_TASKS_PER_THREAD * threads)
    try:
        while running:
            with client.as_current():  # it need not be the default one
                finished, running = wait(running, return_when="FIRST_COMPLETED")
            for future in finished:
                future.result()
                done()
            running |= begin(len(finished))
    finally:
        client.cancel(list(running))


def _keep_export(export: Export) -> None:
    _exports_of_process["export"] = export


def _write_in_process(task: Task) -> None:
    _exports_of_process["export"].write(task)


def _write_shared(export: Export, task: Task) -> None:
    export.write(task)
