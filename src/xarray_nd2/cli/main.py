"""The command ``xarray-nd2``.

Every subcommand is a function that takes the parsed options and returns the exit code. What it needs
is imported when it runs, so that ``--help`` answers at once.
"""

from __future__ import annotations

import argparse
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from xarray_nd2 import __version__

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_DEMO_PACKAGES = ("flask", "matplotlib", "moto", "rich")
_INTERRUPTED_EXIT_CODE = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments, those of the process unless given.

    Returns
    -------
    int
        Exit code.
    """
    options = _command_parser().parse_args(argv)
    run: Callable[[argparse.Namespace], int] = options.run
    try:
        return run(options)
    except KeyboardInterrupt:
        return _print_failure(
            "interrupted; everything it had started is stopped and removed", _INTERRUPTED_EXIT_CODE
        )
    except OSError as error:
        return _print_failure(str(error))


def _command_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="xarray-nd2", description="Nikon ND2 files as labelled, lazy xarray images."
    )
    parser.add_argument("--version", action="version", version=f"xarray-nd2 {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_demo_command(commands)
    return parser


def _add_demo_command(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    summary = "follow a cell through a time-lapse that lies in an object store"
    demo = commands.add_parser(
        "demo",
        help=summary,
        description=f"{summary.capitalize()}. The file is synthetic and the store runs on this "
        "machine; both are removed at the end, only the figure stays.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    demo.add_argument(
        "--size-mb",
        type=_whole_number_parser(5, 2000),
        default=200,
        metavar="MB",
        help="size of the file",
    )
    demo.add_argument(
        "--workers",
        type=_whole_number_parser(1, 64),
        default=2,
        metavar="N",
        help="worker processes of dask",
    )
    demo.add_argument(
        "--latency-ms",
        type=_whole_number_parser(0, 1000),
        default=20,
        metavar="MS",
        help="milliseconds by which the store delays each answer, as one that is far away does",
    )
    demo.add_argument(
        "--output",
        type=_parse_figure_path,
        default="xarray-nd2-demo.png",
        metavar="PNG",
        help="where the figure is saved",
    )
    demo.set_defaults(run=_run_demo_command)


def _run_demo_command(options: argparse.Namespace) -> int:
    missing = [name for name in _DEMO_PACKAGES if find_spec(name) is None]
    if missing:
        return _print_failure(
            f'the demo needs {", ".join(missing)}: pip install "xarray-nd2[demo]"'
        )
    from xarray_nd2.cli.demo.demo import run_demo

    run_demo(options.size_mb, options.workers, options.latency_ms / 1000, options.output)
    return 0


def _print_failure(message: str, code: int = 1) -> int:
    """Print a message to the standard error; gives back the exit code."""
    print(f"xarray-nd2: {message}", file=sys.stderr)
    return code


def _whole_number_parser(least: int, most: int) -> Callable[[str], int]:
    """Make a parser of whole numbers from `least` to `most`."""

    def parse(text: str) -> int:
        if not text.isascii() or not text.isdigit() or not least <= int(text) <= most:
            raise argparse.ArgumentTypeError(
                f"must be a whole number from {least} to {most}, not {text!r}"
            )
        return int(text)

    return parse


def _parse_figure_path(text: str) -> Path:
    """Path that ends in .png, in a folder that exists; for argparse."""
    path = Path(text)
    if path.suffix.lower() != ".png":
        raise argparse.ArgumentTypeError(f"must end in .png, not {text!r}")
    if not path.absolute().parent.is_dir():
        raise argparse.ArgumentTypeError(f"there is no folder {str(path.parent)!r}")
    return path
