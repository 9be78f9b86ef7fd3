"""The subcommands, and what they have in common on the command line."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cyclopts import App

from xarray_nd2 import __version__
from xarray_nd2.cli.demo.command import DEMO_EXAMPLES, demo
from xarray_nd2.cli.doctor.command import DOCTOR_EXAMPLES, doctor
from xarray_nd2.cli.explain import EXPLAIN_EXAMPLES, explain
from xarray_nd2.cli.export import EXPORT_EXAMPLES, export
from xarray_nd2.cli.info import INFO_EXAMPLES, info
from xarray_nd2.cli.preview import PREVIEW_EXAMPLES, preview

if TYPE_CHECKING:
    from collections.abc import Callable

_APP_HELP = """Nikon ND2 files, on disk or in an object store, as labelled, lazy xarray images.

Every command takes a path, or the URL of any store that fsspec reaches. Options of the store are given by -o, or by fsspec's own settings (FSSPEC_S3_ANON=true and the like)."""
_APP_EXAMPLES = (
    "xarray-nd2 info run42.nd2",
    "xarray-nd2 info s3://bucket/run42.nd2 -o anon=true",
    "xarray-nd2 preview https://data.example.org/run42.nd2 run42.png",
)
_EXIT_CODES = "Exit codes: 0; 1 for a failure; 2 for wrong arguments; 130 when interrupted."
# In the order of the help.
_APP_COMMANDS: tuple[tuple[Callable[..., int | None], tuple[str, ...]], ...] = (
    (info, INFO_EXAMPLES),
    (preview, PREVIEW_EXAMPLES),
    (explain, EXPLAIN_EXAMPLES),
    (export, EXPORT_EXAMPLES),
    (doctor, DOCTOR_EXAMPLES),
    (demo, DEMO_EXAMPLES),
)


def new_app() -> App:
    """The command with all of its subcommands."""
    app = App(
        name="xarray-nd2",
        help=_APP_HELP,
        help_epilogue=f"{_shown(_APP_EXAMPLES)}\n\n{_EXIT_CODES}",
        help_format="plaintext",
        version=f"xarray-nd2 {__version__}",
        suppress_keyboard_interrupt=False,
    )
    for command, examples in _APP_COMMANDS:
        app.command(command, help_epilogue=_shown(examples))
    return app


def command_names() -> list[str]:
    """Names of the subcommands."""
    return [command.__name__ for command, _ in _APP_COMMANDS]


def _shown(examples: tuple[str, ...]) -> str:
    return "\n".join(["Examples:", "", *(f"  {line}" for line in examples)])
