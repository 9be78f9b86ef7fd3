"""The command ``demo``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

from cyclopts import Parameter

from xarray_nd2.cli.extras import missing_packages
from xarray_nd2.cli.failing import CommandError, UsageError

_DEMO_PACKAGES: Final = ("flask", "matplotlib", "moto")
DEMO_EXAMPLES: Final = (
    "xarray-nd2 demo",
    "xarray-nd2 demo --size-mb 50 --workers 4 --latency-ms 50 --output cell.png",
)


def demo(
    *,
    size_mb: Annotated[int, Parameter(help="Size of the file in MB, 5 to 2,000.")] = 200,
    workers: Annotated[int, Parameter(help="Worker processes of dask, 1 to 64.")] = 2,
    latency_ms: Annotated[
        int,
        Parameter(
            help="Milliseconds, 0 to 1,000, by which the store delays each answer, as one that is "
            "far away does.",
            allow_leading_hyphen=True,
        ),
    ] = 20,
    output: Annotated[Path, Parameter(help="PNG file where the figure is saved.")] = Path(
        "xarray-nd2-demo.png"
    ),
) -> None:
    """Follow a cell through a time-lapse that lies in an object store.

    The file is synthetic and the store runs on this machine; both are removed at the end, only the
    figure stays.
    """
    for flag, value, least, most in (
        ("--size-mb", size_mb, 5, 2000),
        ("--workers", workers, 1, 64),
        ("--latency-ms", latency_ms, 0, 1000),
    ):
        if not least <= value <= most:
            raise UsageError(f"{flag} must be from {least} to {most}, not {value}")
    if output.suffix.lower() != ".png":
        raise UsageError(f"--output must end in .png, not {output.name!r}")
    if not output.absolute().parent.is_dir():
        raise UsageError(f"--output: there is no folder {str(output.parent)!r}")
    missing = missing_packages(_DEMO_PACKAGES)
    if missing:
        raise CommandError(f'the demo needs {", ".join(missing)}: pip install "xarray-nd2[demo]"')
    from xarray_nd2.cli.demo.demo import run_demo

    run_demo(size_mb, workers, latency_ms / 1000, output)
