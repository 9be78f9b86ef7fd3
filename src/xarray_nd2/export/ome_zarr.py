"""`to_ome_zarr`: an ND2 file written as OME-Zarr."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from xarray_nd2.export.destination import Destination
from xarray_nd2.export.documents import OWN_ATTRIBUTE, group_document
from xarray_nd2.export.layout import ExportLayout, plan_layout
from xarray_nd2.export.resume import (
    ROOT_DOCUMENT,
    ExistingShards,
    begun_record,
    check_may_be_removed,
    check_same,
)
from xarray_nd2.export.run_tasks import run_tasks, worker_count
from xarray_nd2.export.source import ExportSource
from xarray_nd2.export.windows import display_windows
from xarray_nd2.export.write_shards import remaining_tasks
from xarray_nd2.lazy_chain import find_read_on_demand

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Mapping

    from xarray_nd2.datasets import MissingFrames

_DOCUMENT_THREADS: Final = 16
_MAX_COSTED_TASKS: Final = 100  # whose requests are planned; the others are taken to be alike


@dataclass(frozen=True)
class OmeZarrExport:
    """What an export writes.

    Attributes
    ----------
    destination : str
        Path or URL, without credentials.
    image_paths : tuple of str
        Group of each image below it; empty for the destination itself.
    axes : str
        Of ``tczyx``, those that images have, in this order.
    level_shapes, level_chunks, level_shards : tuple of tuple of int
        Of the arrays of an image, in pixels along `axes`.
    dtype : numpy.dtype
        Of the pixels.
    layers : tuple of str
        Names of the layers of masks, as groups of labels.
    tasks : int
        Of the whole export.
    tasks_to_do : int
        Those of them that were not done before.
    shards : int
        Objects that pixels are written in.
    pixel_bytes : int
        Of all shards, before they are compressed.
    bytes_to_read, requests : int
        What is fetched for `tasks_to_do` of the image, without masks; estimated where `exact` is
        false. Files at hand take no requests.
    exact : bool
        Whether that is what will happen, and no estimate.
    """

    destination: str
    image_paths: tuple[str, ...]
    axes: str
    level_shapes: tuple[tuple[int, ...], ...]
    level_chunks: tuple[tuple[int, ...], ...]
    level_shards: tuple[tuple[int, ...], ...]
    dtype: np.dtype[Any]
    layers: tuple[str, ...]
    tasks: int
    tasks_to_do: int
    shards: int
    pixel_bytes: int
    bytes_to_read: int
    requests: int
    exact: bool


def to_ome_zarr(
    source: Any,
    destination: str | os.PathLike[str],
    *,
    storage_options: Mapping[str, Any] | None = None,
    destination_options: Mapping[str, Any] | None = None,
    levels: int | None = None,
    chunks: Mapping[str, int] | None = None,
    shards: Mapping[str, int] | None = None,
    compressors: Any = "auto",
    scheduler: Any = "threads",
    max_workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
    dry_run: bool = False,
    overwrite: bool = False,
    missing_frames: MissingFrames = "zeros",
) -> OmeZarrExport:
    """Write an ND2 file as OME-Zarr 0.5, or go on with an export that was broken off.

    Pixels are as `xarray.open_dataset` gives them. One position is one image; several are in the
    layout of bioformats2raw, and in wells where each has one. What else the file has goes along:
    masks as labels, recorded data, events and regions as tables, the OME metadata as XML.

    Parameters
    ----------
    source : str, os.PathLike, UPath, fsspec OpenFile, open binary file or xarray object
        What the backend can open, or a Dataset, DataArray or DataTree that it has opened, whole or
        cropped. What is not the tree of a file has the image and its labels only.
    destination : str or os.PathLike
        A folder, by its path or the URL of any fsspec protocol that can write.
    storage_options, destination_options : mapping, optional
        Options of the filesystems of both URLs, such as credentials; never shown or stored.
    levels : int, optional
        Levels below the image; 0 for none. Unless given, so many that the smaller side of the last
        has at most 256 pixels. Levels that the file has are taken as they are, the others are means
        of 2 x 2 pixels of the level before, integers being rounded, halves up.
    chunks, shards : mapping of str to int, optional
        Pixels along ``t``, ``c``, ``z``, ``y`` and ``x``, -1 for all. Unless given, chunks are planes
        of 512 x 512, and shards are whole frames with all channels, up to 32 MiB, or strips of rows.
    compressors : optional
        As `zarr.create_array` takes it; zarr's default, which is Zstandard, unless given.
    scheduler : {"threads", "processes"} or distributed.Client
        Where frames are read and written.
    max_workers : int, optional
        Threads or processes; unless given, by the processors and so that 512 MiB suffice.
    progress : callable, optional
        Called in this thread as ``progress(tasks_done, tasks)``, at the beginning and after each task.
    dry_run : bool, default False
        Write nothing, and tell what would be written.
    overwrite : bool, default False
        Remove a Zarr that is at the destination before.
    missing_frames : {"zeros", "raise"}
        What a frame that the file has not is; of a source that is opened here.

    Returns
    -------
    OmeZarrExport
        What was written, or would be.

    Warns
    -----
    UserWarning
        As when opening the file. Also where masks are left out, which were opened with dask or do
        not have the loops and the size of the image.

    Raises
    ------
    FileExistsError
        There is something at the destination that this is not the continuation of.
    ND2Error
        The file cannot be read.
    OSError
        The destination cannot be written.
    TypeError, ValueError
        A keyword is not what it may be, or chunks, shards and levels do not go together.
    """
    _check_scheduler(scheduler, max_workers)
    target = Destination.of(destination, destination_options)
    _check_shared(target.name, target.is_shared_by_processes, scheduler)
    opened = ExportSource.of(source, storage_options, missing_frames)
    _check_shared("the source", opened.is_shared_by_processes, scheduler)
    layout = plan_layout(opened, target, levels, chunks or {}, shards or {}, compressors)
    record = {"source": opened.identity(), "settings": layout.settings()}
    begun = False
    if not target.is_empty():
        before = None if overwrite else begun_record(target)
        if overwrite:
            check_may_be_removed(target, opened)
        elif before is None:
            raise FileExistsError(
                f"{target.name}: is not empty, and no export that could be continued; "
                "choose another destination, or overwrite=True"
            )
        else:
            check_same(target, before, record)
            begun = True
    existing = ExistingShards(layout.export) if begun else None
    to_do = sum(1 for _ in remaining_tasks(layout.export, existing)) if begun else layout.task_count
    found = _summary(layout, target, to_do)
    if dry_run:
        return found
    if begun:
        target.remove_partial()
    elif overwrite and not target.is_empty():
        target.remove_all()
    if not begun:
        target.write(ROOT_DOCUMENT, group_document(attributes={OWN_ATTRIBUTE: record}))
    _write_documents(target, layout.array_documents())
    _run(layout, existing, scheduler, max_workers, found, progress)
    windows = display_windows(
        layout.export, layout.bits_significant, is_color="S" in opened.dataset["image"].dims
    )
    documents, root = layout.group_documents(windows, record)
    _write_documents(target, documents)
    _write_documents(target, {ROOT_DOCUMENT: root})  # last: now it is an image, or a collection
    return found


def _check_scheduler(scheduler: Any, max_workers: int | None) -> None:
    if isinstance(scheduler, str):
        if scheduler not in ("threads", "processes"):
            raise ValueError(
                f"scheduler must be 'threads', 'processes' or a Client, not {scheduler!r}"
            )
    elif not hasattr(scheduler, "submit") or not hasattr(scheduler, "scatter"):
        raise TypeError(f"scheduler must be a distributed.Client, not {type(scheduler).__name__}")
    if max_workers is not None and (type(max_workers) is not int or max_workers < 1):
        raise ValueError(f"max_workers must be at least 1, not {max_workers!r}")


def _check_shared(name: str, is_shared: bool, scheduler: Any) -> None:
    if not is_shared and scheduler != "threads":
        raise ValueError(f"{name} is in the memory of this process: take scheduler='threads'")


def _run(
    layout: ExportLayout,
    existing: ExistingShards | None,
    scheduler: Any,
    max_workers: int | None,
    found: OmeZarrExport,
    progress: Callable[[int, int], None] | None,
) -> None:
    count = found.tasks - found.tasks_to_do
    if progress is not None:
        progress(count, found.tasks)

    def done() -> None:
        nonlocal count
        count += 1
        if progress is not None:
            progress(count, found.tasks)

    if found.tasks_to_do:
        workers = worker_count(layout.task_bytes, max_workers)
        run_tasks(layout.export, remaining_tasks(layout.export, existing), scheduler, workers, done)


def _write_documents(target: Destination, documents: Mapping[str, bytes]) -> None:
    """Write objects that are not there as they should be."""

    def write(item: tuple[str, bytes]) -> None:
        path, data = item
        if target.read(path) != data:
            target.write(path, data)

    with ThreadPoolExecutor(_DOCUMENT_THREADS, "xarray-nd2-export") as pool:
        list(pool.map(write, documents.items()))


def _summary(layout: ExportLayout, target: Destination, to_do: int) -> OmeZarrExport:
    stacks = layout.export.stacks
    pyramid = stacks[0].pyramid
    bytes_to_read, requests, exact = _cost(layout, to_do)
    return OmeZarrExport(
        destination=target.name,
        image_paths=stacks[0].paths,
        axes=pyramid.axes,
        level_shapes=tuple(level.shape for level in pyramid.levels),
        level_chunks=tuple(level.chunks for level in pyramid.levels),
        level_shards=tuple(level.shards for level in pyramid.levels),
        dtype=stacks[0].pixels[0].dtype,
        layers=layout.layers,
        tasks=layout.task_count,
        tasks_to_do=to_do,
        shards=sum(stack.pyramid.shard_count * len(stack.paths) for stack in stacks),
        pixel_bytes=sum(
            stack.pyramid.itemsize
            * len(stack.paths)
            * sum(int(np.prod(level.shape, dtype=object)) for level in stack.pyramid.levels)
            for stack in stacks
        ),
        bytes_to_read=bytes_to_read,
        requests=requests,
        exact=exact,
    )


def _cost(layout: ExportLayout, to_do: int) -> tuple[int, int, bool]:
    """Bytes and requests of the tasks of the image; by some of them where they are many."""
    stack = layout.export.stacks[0]
    grid = (len(stack.paths), *stack.pyramid.grid)
    count = int(np.prod(grid, dtype=object))
    numbers = sorted({int(i) for i in np.linspace(0, count - 1, min(count, _MAX_COSTED_TASKS))})
    nbytes = requests = 0
    for number in numbers:
        image, *block = (int(i) for i in np.unravel_index(number, grid))
        for level in range(len(stack.pixels)):
            lazy = stack.lazy_part(image, tuple(block), level)
            found = find_read_on_demand(lazy)
            if found is not None and found[1] is not None and lazy.size:
                cost = found[0].read_cost(found[1])
                nbytes += cost.bytes_fetched
                # Files on disks of this machine have no latency, and take no requests.
                requests += cost.requests if found[0].source.link.latency else 0
    share = count * to_do / layout.task_count / len(numbers)
    exact = len(numbers) == count and to_do == layout.task_count
    return round(nbytes * share), round(requests * share), exact
