"""The command ``export``."""

from __future__ import annotations

import time
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Annotated, Any, Final

from cyclopts import Parameter

from xarray_nd2.cli.extras import missing_packages
from xarray_nd2.cli.failing import CommandError, UsageError
from xarray_nd2.cli.options import (
    AsJSON,
    DestinationOptions,
    IndexSelections,
    LabelSelections,
    SourceOptions,
    SourceURL,
    parse_storage_options,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    import xarray as xr

    from xarray_nd2.export import OmeZarrExport

EXPORT_EXAMPLES: Final = (
    "xarray-nd2 export run42.nd2 run42.ome.zarr",
    "xarray-nd2 export run42.nd2 run42.ome.tif --isel T=0:2 --compression zlib",
    "xarray-nd2 export https://data.example.org/run42.nd2 s3://bucket/run42.ome.zarr --dry-run",
)
_TIFF_ENDINGS: Final = (".tif", ".tiff")
_EXPORT_PACKAGES: Final = ("tifffile", "yaozarrs", "zarr")
_NAMED_SCHEDULERS: Final = ("threads", "processes")


def export(
    url: SourceURL,
    destination: Annotated[
        str,
        Parameter(name="DEST", help="OME-Zarr: path or URL of a folder. OME-TIFF: path of a .tif."),
    ],
    /,
    *,
    sel: LabelSelections = None,
    isel: IndexSelections = None,
    levels: Annotated[
        int | None,
        Parameter(
            help="Smaller images to write beside the image, 0 for none. Of an OME-Zarr as many as "
            "viewers need unless given, of an OME-TIFF none."
        ),
    ] = None,
    compression: Annotated[
        str | None, Parameter(help="Of an OME-TIFF: zlib or zstd, none unless given.")
    ] = None,
    scheduler: Annotated[
        str,
        Parameter(
            help="Of an OME-Zarr: threads, processes, or the address of a dask scheduler "
            "(tcp://…), which writes on its workers."
        ),
    ] = "threads",
    max_workers: Annotated[
        int | None, Parameter(help="Of an OME-Zarr: threads or processes at most.")
    ] = None,
    dry_run: Annotated[
        bool,
        Parameter(
            negative="", help="Of an OME-Zarr: tell what would be read and written, and do neither."
        ),
    ] = False,
    overwrite: Annotated[
        bool, Parameter(negative="", help="Replace what is at the destination.")
    ] = False,
    option: SourceOptions = None,
    destination_option: DestinationOptions = None,
    json: AsJSON = False,
) -> None:
    """Write a file as OME-Zarr 0.5, or as OME-TIFF where DEST ends in .tif or .tiff.

    An export to OME-Zarr that was broken off goes on when the same command is run again. What else the
    file has goes along where nothing is selected: masks, tables of recorded data and regions.
    """
    as_tiff = PurePosixPath(destination).suffix.lower() in _TIFF_ENDINGS
    given = {
        "--compression": compression is not None,
        "--scheduler": scheduler != "threads",
        "--max-workers": max_workers is not None,
        "--dry-run": dry_run,
        "-O": bool(destination_option),
    }
    misplaced = [
        flag
        for flag, is_given in given.items()
        if is_given and as_tiff != (flag == "--compression")
    ]
    if misplaced:
        kind = "an OME-TIFF" if as_tiff else "an OME-Zarr"
        raise UsageError(f"{misplaced[0]} is not for {kind}, which {destination!r} is by its name")
    if levels is not None and levels < 0:
        raise UsageError(f"--levels must be at least 0, not {levels}")
    if max_workers is not None and max_workers < 1:
        raise UsageError(f"--max-workers must be at least 1, not {max_workers}")
    if scheduler not in _NAMED_SCHEDULERS and "://" not in scheduler:
        raise UsageError(
            f"--scheduler takes threads, processes or the address of a scheduler, not {scheduler!r}"
        )
    source_options = parse_storage_options(option)
    written_to = parse_storage_options(destination_option, "-O")
    missing = missing_packages(_EXPORT_PACKAGES)
    if missing:
        raise CommandError(f'export needs {", ".join(missing)}: pip install "xarray-nd2[export]"')
    from xarray_nd2.cli.console import print_json, print_rows
    from xarray_nd2.export import to_ome_tiff, to_ome_zarr

    began = time.monotonic()
    selected = _selected(url, source_options, sel, isel) if sel or isel else None
    source: dict[str, Any] = {"source": url if selected is None else selected}
    if selected is None:
        source["storage_options"] = source_options
    with ExitStack() as stack:
        progress = stack.enter_context(_progress("frames" if as_tiff else "tasks"))
        if as_tiff:
            path = to_ome_tiff(
                **source,
                destination=destination,
                levels=levels or 0,
                compression=compression,
                overwrite=overwrite,
                progress=progress,
            )
            told: dict[str, Any] = {"destination": str(path), "bytes": path.stat().st_size}
        else:
            stack.enter_context(_told_of_the_rest(overwrite))
            client = stack.enter_context(_client(scheduler))
            found = to_ome_zarr(
                **source,
                destination=destination,
                destination_options=written_to,
                levels=levels,
                scheduler=client,
                max_workers=max_workers,
                dry_run=dry_run,
                overwrite=overwrite,
                progress=progress,
            )
            told = asdict(found) | {"dtype": str(found.dtype), "dry_run": dry_run}
    seconds = time.monotonic() - began
    if json:
        print_json(told | {"seconds": seconds})
    elif as_tiff:
        print_rows(_tiff_rows(told, seconds))
    else:
        print_rows(_zarr_rows(found, seconds, dry_run=dry_run))


def _selected(
    url: str, options: dict[str, Any], sel: list[str] | None, isel: list[str] | None
) -> xr.Dataset:
    from xarray_nd2.cli.opening import CommandFile
    from xarray_nd2.cli.selections import selection_keys

    dataset = CommandFile(url, options).image
    return dataset.isel(selection_keys(dataset.image, sel, isel))


@contextmanager
def _client(scheduler: str) -> Iterator[Any]:
    """What `to_ome_zarr` takes as its scheduler."""
    if scheduler in _NAMED_SCHEDULERS:
        yield scheduler
        return
    from distributed import Client

    with Client(scheduler, set_as_default=False) as client:
        yield client


@contextmanager
def _told_of_the_rest(overwrite: bool) -> Iterator[None]:
    """Tell who interrupts an OME-Zarr that what is written stays."""
    try:
        yield
    except KeyboardInterrupt:
        same = "the same command without --overwrite" if overwrite else "the same command"
        message = f"interrupted; what is written stays, and {same} goes on from there"
        raise KeyboardInterrupt(message) from None


@contextmanager
def _progress(unit: str) -> Iterator[Any]:
    """A function that shows on a terminal how far an export is; None where there is no terminal."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    console = Console(stderr=True)
    if not console.is_terminal:
        yield None
        return
    columns = (BarColumn(), MofNCompleteColumn(), TextColumn(unit), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        shown = bar.add_task(unit, total=None)  # until the file is open
        yield lambda done, count: bar.update(shown, completed=done, total=count)


def _tiff_rows(told: dict[str, Any], seconds: float) -> list[tuple[str, str]]:
    from xarray_nd2.cli.console import in_bytes, in_seconds

    return [
        ("written", told["destination"]),
        ("size", in_bytes(told["bytes"])),
        ("took", in_seconds(seconds)),
    ]


def _zarr_rows(found: OmeZarrExport, seconds: float, *, dry_run: bool) -> list[tuple[str, str]]:
    from xarray_nd2.cli.console import in_bytes, in_requests, in_seconds

    def sizes(shape: tuple[int, ...]) -> str:
        return ", ".join(f"{axis} {size}" for axis, size in zip(found.axes, shape, strict=True))

    images = len(found.image_paths)
    about = "" if found.exact else "about "
    rows = [
        ("would write" if dry_run else "written", found.destination),
        ("images", f"{images}, {sizes(found.level_shapes[0])} of {found.dtype}"),
        ("levels", f"{len(found.level_shapes) - 1} below, to {sizes(found.level_shapes[-1])}"),
        ("shards", f"{found.shards:,} of {sizes(found.level_shards[0])}"),
        ("pixels", f"{in_bytes(found.pixel_bytes)} before compression"),
        ("read", f"{about}{in_bytes(found.bytes_to_read)}, {in_requests(found.requests)}"),
    ]
    if found.layers:
        rows.append(("labels", ", ".join(found.layers)))
    if found.tasks_to_do < found.tasks:
        rows.append(
            ("done before", f"{found.tasks - found.tasks_to_do:,} of {found.tasks:,} tasks")
        )
    if not dry_run:
        rows.append(("took", in_seconds(seconds)))
    return rows
