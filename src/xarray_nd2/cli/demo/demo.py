"""The demo: a cell is followed through a time-lapse that lies in an object store.

The file is synthetic, so it is known where the cell was. The store is a server on loopback that
counts what it sends. The workers are processes, which read the windows themselves.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import tempfile
import threading
import time
from contextlib import ExitStack, contextmanager
from multiprocessing import forkserver
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import xarray as xr

from xarray_nd2.cli.demo.sample import Sample
from xarray_nd2.cli.demo.track import measure_whole_frames, track_cell, whole_frame_jobs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from distributed import Client
    from numpy.typing import NDArray
    from rich.console import Console
    from rich.table import Table

    from xarray_nd2.cli.demo.track import Look
    from xarray_nd2.testing import S3Server

    Floats = NDArray[np.floating[Any]]

_BUCKET_NAME, _OBJECT_KEY = "microscope", "run42.nd2"
_OBJECT_URL = f"s3://{_BUCKET_NAME}/{_OBJECT_KEY}"
_THREADS_PER_WORKER = 2
_FORK_METHOD = "forkserver"
_WORKER_PACKAGES = ("distributed", "nd2", "s3fs", "aiobotocore.session", "xarray_nd2.backend")
_SLOW_LINK_BITS_PER_SECOND = 100e6


class Cost(NamedTuple):
    """What a way of reading took.

    Attributes
    ----------
    fetched_bytes, requests : int
        As counted by the server.
    seconds : float
        As measured here.
    """

    fetched_bytes: int
    requests: int
    seconds: float


_NO_COST = Cost(0, 0, 0.0)


def run_demo(megabytes: float, workers: int, latency_seconds: float, output: Path) -> None:
    """Write a file, serve it, follow the cell in it, and show what that cost.

    Parameters
    ----------
    megabytes : float
        Size of the file.
    workers : int
        Number of worker processes.
    latency_seconds : float
        By which the store delays each answer.
    output : Path
        Where the figure is saved.
    """
    from rich.console import Console

    from xarray_nd2.testing import S3Server

    console = Console(highlight=False)
    sample = Sample.of_size(megabytes)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="xarray-nd2-demo-")))
        stack.enter_context(_environment_without_settings(folder))
        _begin_to_load_packages()
        with _timed_step(console, f"Writing a file of {sample.stack_count} stacks of images"):
            sample.write(folder / _OBJECT_KEY)
        with _timed_step(
            console, "Starting an S3 store on this machine, and uploading the file to it"
        ):
            server = stack.enter_context(S3Server())
            server.create_bucket(_BUCKET_NAME)
            server.upload(folder / _OBJECT_KEY, _BUCKET_NAME, _OBJECT_KEY)
            server.latency = latency_seconds
        with _timed_step(console, f"Starting dask with {workers} worker processes"):
            client = stack.enter_context(_dask_client(workers, folder))
        with _timed_step(console, "Connecting them to the store"):
            _make_connections(_OBJECT_URL, server.storage_options)
            client.run(_make_connections, _OBJECT_URL, server.storage_options)
        _follow_and_compare(
            console, sample, server, client, (folder / _OBJECT_KEY).stat().st_size, output
        )
        with _timed_step(console, "Stopping the workers and the store, removing the file"):
            stack.close()


def _follow_and_compare(
    console: Console, sample: Sample, server: S3Server, client: Client, size: int, output: Path
) -> None:
    """Follow the cell, compare with reading whole frames, and show what came out."""
    from xarray_nd2.cli.demo.figure import save_figure

    cost = _start_cost_count(server)
    ds = xr.open_dataset(
        _OBJECT_URL, engine="nd2", chunks={}, storage_options=server.storage_options
    )
    opening = cost()
    console.print(
        f"\nOpened {_OBJECT_URL} by reading {opening.fetched_bytes / 1e6:.1f}"
        f" of {size / 1e6:.1f} MB:\n"
    )
    console.print(repr(ds), markup=False, soft_wrap=True, style="dim")
    console.print()
    image = ds.image.reset_coords(drop=True)

    with _timed_step(console, "Following the cell through time and Z, by windows") as show_progress:
        cost = _start_cost_count(server, opening)
        start = sample.place(0) + np.array([1.0, 3.0, -3.0])
        looks, found = track_cell(
            image, start, lambda done: show_progress(f"{done} of {sample.stack_count} times")
        )
        windows = cost()
    with _timed_step(console, "The same with whole frames, read by nd2"):
        cost = _start_cost_count(server)
        whole_places = _places_from_whole_frames(client, image, looks, server.storage_options)
        whole = cost()
    with _timed_step(console, f"Saving the figure as {output}"):
        overview = image.sel(C="DAPI").isel(T=-1).sel(Z=6.0, method="nearest").compute()
        save_figure(output, overview, looks, found, sample)

    places = np.array([each.place for each in found])
    console.print(_cost_table(size, sum(look.window.nbytes for look in looks), windows, whole))
    errors = np.linalg.norm(places - sample.place(np.arange(sample.stack_count)), axis=1)
    same = "the same" if np.array_equal(places, whole_places) else "not the same"
    link = f"{_SLOW_LINK_BITS_PER_SECOND / 1e6:.0f} Mbit/s"
    seconds = [cost.fetched_bytes * 8 / _SLOW_LINK_BITS_PER_SECOND for cost in (windows, whole)]
    console.print(
        f"The cell was found at most {errors.max():.2f} µm from where it was.\n"
        f"Cut from whole frames, the places are {same}.\n"
        "What lies between the rows of a window is fetched too: to ask for each row takes longer.\n"
        f"The store counts bytes and requests. It delays each answer by {server.latency * 1e3:.0f} ms,"
        f" but is on this\nmachine: at {link} the bytes alone would take {seconds[0]:.1f} s and {seconds[1]:.1f} s.\n",
        soft_wrap=True,
    )


def _places_from_whole_frames(
    client: Client, image: xr.DataArray, looks: list[Look], options: dict[str, Any]
) -> Floats:
    """Places found in the same windows, cut from whole frames by every thread of the workers."""
    threads = [address for address, count in client.nthreads().items() for _ in range(count)]
    todo = whole_frame_jobs(image, looks)
    futures = [
        client.submit(
            measure_whole_frames, _OBJECT_URL, options, todo[i :: len(threads)], workers=worker
        )
        for i, worker in enumerate(threads)
    ]
    places = np.empty((len(todo), 3))
    for i, found in enumerate(client.gather(futures)):
        places[i :: len(threads)] = np.reshape(found, (-1, 3))
    return places


def _cost_table(size: int, needed: int, windows: Cost, whole: Cost) -> Table:
    """Costs of both ways side by side; `size` of the file and `needed` are in bytes."""
    from rich.box import SIMPLE
    from rich.table import Table

    table = Table(box=SIMPLE)
    table.add_column("")
    for title in ("windows, by xarray-nd2", "whole frames, by nd2"):
        table.add_column(title, justify="right")

    def add(name: str, values: tuple[float, float], form: str) -> None:
        table.add_row(name, *(form.format(value) for value in values))

    add("in the file", (size / 1e6, size / 1e6), "{:.1f} MB")
    add("needed for the windows", (needed / 1e6, needed / 1e6), "{:.1f} MB")
    add(
        "fetched, opening included",
        (windows.fetched_bytes / 1e6, whole.fetched_bytes / 1e6),
        "{:.1f} MB",
    )
    add("requests", (windows.requests, whole.requests), "{:d}")
    add("seconds", (windows.seconds, whole.seconds), "{:.1f}")
    return table


def _start_cost_count(server: S3Server, before: Cost = _NO_COST) -> Callable[[], Cost]:
    """Function that gives the cost from now until it is called, added to that `before`."""
    server.log.clear()
    began = time.perf_counter()

    def cost() -> Cost:
        seconds = time.perf_counter() - began
        log = server.log
        return Cost(
            before.fetched_bytes + log.bytes,
            before.requests + log.requests,
            before.seconds + seconds,
        )

    return cost


@contextmanager
def _timed_step(console: Console, what: str) -> Iterator[Callable[[str], None]]:
    """Show what is done, and then how long it took; what it yields changes a note beside it."""
    began = time.perf_counter()
    with console.status(f"{what} …") as status:
        yield lambda note: status.update(f"{what}: {note} …")
    console.print(f"{what}: {time.perf_counter() - began:.1f} s", soft_wrap=True, markup=False)


@contextmanager
def _dask_client(workers: int, folder: Path) -> Iterator[Client]:
    """Client of a new local cluster, which keeps its temporary files in a folder."""
    import dask
    from distributed import Client, LocalCluster

    asyncio_log = logging.getLogger("asyncio")
    with ExitStack() as stack:
        # Interrupted requests end in errors that nobody waits for.
        stack.callback(asyncio_log.setLevel, asyncio_log.level)
        asyncio_log.setLevel(logging.CRITICAL)
        settings = {"temporary_directory": str(folder)}
        if _FORK_METHOD in multiprocessing.get_all_start_methods():
            settings["distributed.worker.multiprocessing-method"] = _FORK_METHOD
        stack.enter_context(dask.config.set(settings))
        with _ignoring_interrupts():  # by the workers, for good: they inherit it
            cluster = stack.enter_context(
                LocalCluster(
                    n_workers=workers,
                    threads_per_worker=_THREADS_PER_WORKER,
                    dashboard_address="127.0.0.1:0",
                    silence_logs=logging.CRITICAL,
                )
            )
        yield stack.enter_context(Client(cluster))


def _begin_to_load_packages() -> None:
    """Load what workers need in a process that they are forked from, so that it is loaded once.

    It goes on while the file is written. Where there is no such process each worker loads for itself.
    """
    if _FORK_METHOD in multiprocessing.get_all_start_methods():
        multiprocessing.get_context(_FORK_METHOD).set_forkserver_preload(list(_WORKER_PACKAGES))
        with _ignoring_interrupts():
            forkserver.ensure_running()


@contextmanager
def _ignoring_interrupts() -> Iterator[None]:
    """Ignore SIGINT; does nothing outside the main thread, which alone can do so."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    kept = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, kept)


def _make_connections(url: str, options: dict[str, Any]) -> None:
    """Load what reading needs and make its connections, which is done once in every process."""
    import nd2

    ds = xr.open_dataset(url, engine="nd2", storage_options=options)
    ds.image[(0,) * ds.image.ndim].load()
    with nd2.ND2File(url, storage_options=options) as file:
        file.read_frame(0)


@contextmanager
def _environment_without_settings(folder: Path) -> Iterator[None]:
    """Hide settings of this machine from the clients of the store, here and in the workers."""
    nothing = str(folder / "none")
    changed = {
        "AWS_CONFIG_FILE": nothing,
        "AWS_SHARED_CREDENTIALS_FILE": nothing,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "NO_PROXY": "127.0.0.1",
        "no_proxy": "127.0.0.1",
    }
    kept = dict(os.environ)
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        del os.environ[name]
    os.environ.update(changed)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(kept)
