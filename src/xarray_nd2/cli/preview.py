"""The command ``preview``."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003  (cyclopts reads the annotations)
from typing import Annotated, Final, Literal

from cyclopts import Parameter

from xarray_nd2.cli.extras import missing_packages
from xarray_nd2.cli.failing import CommandError, UsageError
from xarray_nd2.cli.options import (
    IndexSelections,
    LabelSelections,
    SourceOptions,
    SourceURL,
    parse_storage_options,
)

MIN_WIDTH_PIXELS: Final = 100
MAX_WIDTH_PIXELS: Final = 2048
PREVIEW_EXAMPLES: Final = (
    "xarray-nd2 preview run42.nd2 run42.png",
    "xarray-nd2 preview run42.nd2 run42.png --project max --isel T=-1 --sel C=GFP",
    "xarray-nd2 preview s3://bucket/run42.nd2 run42.png -o anon=true --width 400",
)


def preview(
    url: SourceURL,
    output: Annotated[Path, Parameter(name="OUTPUT", help="PNG file to write.")],
    /,
    *,
    width: Annotated[
        int, Parameter(help="Of the picture, in pixels: 100 to 2,048. Its height follows.")
    ] = 1024,
    project: Annotated[
        Literal["max"] | None,
        Parameter(help="Along Z: the maximum of all planes, rather than the middle one."),
    ] = None,
    contrast: Annotated[
        tuple[float, float],
        Parameter(help="Percentiles of the pixels of a channel that are shown black and full."),
    ] = (1.0, 99.8),
    sel: LabelSelections = None,
    isel: IndexSelections = None,
    option: SourceOptions = None,
) -> None:
    """Make a picture of the image, reading little of it.

    Channels are in the colours of the file and added; what is stored in colour stays as it is. Shown
    is the first time and position, and the middle plane, unless selected otherwise. Read is an embedded
    level of the image that suffices, or else as many rows as do; of large frames at most 8 %.
    """
    low, high = contrast
    if not MIN_WIDTH_PIXELS <= width <= MAX_WIDTH_PIXELS:
        raise UsageError(
            f"--width must be from {MIN_WIDTH_PIXELS} to {MAX_WIDTH_PIXELS}, not {width}"
        )
    if not 0 <= low < high <= 100:
        raise UsageError(
            f"--contrast takes two percentiles, 0 to 100, the lower first: not {contrast}"
        )
    if output.suffix.lower() != ".png":
        raise UsageError(f"OUTPUT must end in .png, not {output.name!r}")
    if not output.absolute().parent.is_dir():
        raise UsageError(f"there is no folder {str(output.parent)!r}")
    options = parse_storage_options(option)
    if missing_packages(["PIL"]):
        raise CommandError('preview needs pillow: pip install "xarray-nd2[preview]"')
    from xarray_nd2.cli.console import in_bytes, in_requests, in_seconds, print_rows
    from xarray_nd2.cli.picture import compose
    from xarray_nd2.cli.picture_pixels import read_pixels

    read = read_pixels(url, options, width, sel, isel, project_z=project == "max")
    picture = compose(read, width, (low, high))
    picture.save(output)
    cost = read.cost
    share = (
        f" ({cost.bytes / read.file_bytes:.1%} of the file)" if cost.bytes < read.file_bytes else ""
    )
    told = f"{in_requests(cost.requests)}, {in_bytes(cost.bytes)}"
    print_rows(
        [
            ("picture", f"{output}, {picture.width} × {picture.height}"),
            ("shows", read.shown),
            ("read", f"{read.how}: {told}{share}, {in_seconds(cost.seconds)}"),
        ]
    )
