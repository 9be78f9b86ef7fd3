"""The command ``xarray-nd2``: runs a subcommand, and makes of what goes wrong a line and an exit code."""

from __future__ import annotations

import os
import sys
import warnings
from typing import TYPE_CHECKING, Any, Final

from xarray_nd2.cli.extras import missing_packages
from xarray_nd2.cli.safe_text import safe_line

if TYPE_CHECKING:
    from collections.abc import Sequence

_CLI_PACKAGES: Final = ("cyclopts", "rich")
_FAILURE_EXIT_CODE: Final = 1
_USAGE_EXIT_CODE: Final = 2
_INTERRUPTED_EXIT_CODE: Final = 130
_BROKEN_PIPE_EXIT_CODE: Final = 141


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments, those of the process unless given.

    Returns
    -------
    int
        Exit code: 0, 1 for a failure, 2 for arguments that are wrong, 130 when interrupted.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    missing = missing_packages(_CLI_PACKAGES)
    if missing:
        return _fail(f'this needs {", ".join(missing)}: pip install "xarray-nd2[cli]"', arguments)
    from cyclopts import CycloptsError

    from xarray_nd2.cli.app import command_names, new_app
    from xarray_nd2.cli.failing import CommandError, UsageError

    if not arguments:
        message = f"give a command: {', '.join(command_names())} (see --help)"
        return _fail(message, arguments, _USAGE_EXIT_CODE)

    def show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
        print(f"xarray-nd2: warning: {safe_line(str(message), arguments)}", file=sys.stderr)

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("default", UserWarning)
            warnings.showwarning = show_warning
            code = new_app()(
                arguments, exit_on_error=False, print_error=False, result_action="return_value"
            )
            sys.stdout.flush()
    except (CycloptsError, UsageError) as error:
        message = safe_line(str(error), arguments).rstrip(".")
        return _fail(f"{message} (see --help)", arguments, _USAGE_EXIT_CODE)
    except KeyboardInterrupt as error:
        message = str(error) or "interrupted; everything it had started is stopped and removed"
        return _fail(message, arguments, _INTERRUPTED_EXIT_CODE)
    except BrokenPipeError:  # whoever reads the output has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _BROKEN_PIPE_EXIT_CODE
    except MemoryError:
        return _fail("not enough memory", arguments)
    except (CommandError, OSError, ValueError, NotImplementedError) as error:
        return _fail(str(error), arguments)
    except Exception as error:  # noqa: BLE001  (a traceback could hold secrets)
        return _fail(f"{type(error).__name__}: {error}", arguments)
    return code if isinstance(code, int) else 0


def _fail(message: str, arguments: Sequence[str], code: int = _FAILURE_EXIT_CODE) -> int:
    """Print a message to the standard error; gives back the exit code."""
    print(f"xarray-nd2: {safe_line(message, arguments)}", file=sys.stderr)
    return code
