"""Messages as they may be shown: on one line, and without what the user gave as a secret."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from xarray_nd2.io.secrets import public_text, without_secrets

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_MAX_LINE_CHARACTERS: Final = 600


def safe_line(text: str, arguments: Sequence[str] = ()) -> str:
    """A text on one line, without the secrets that arguments and fsspec's settings hold.

    Parameters
    ----------
    text : str
        What is to be shown.
    arguments : sequence of str
        Those of the command line.

    Examples
    --------
    >>> safe_line("no user hush at https://me:pw@host/run.nd2?sig=1", ["-o", "secret=hush"])
    'no user *** at https://host/run.nd2'
    """
    for name, value in _given(arguments):
        text = without_secrets(text, value, {name: value})
    text = " ".join(public_text(without_secrets(text, "", _settings())).split())
    return text if len(text) <= _MAX_LINE_CHARACTERS else f"{text[:_MAX_LINE_CHARACTERS]} …"


def _given(arguments: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Names and values of all that looks like an option of a store, and URLs under no name."""
    for argument in arguments:
        # Also of one that is glued to its flag, such as -osecret=hush or --option=secret=hush.
        option = argument.removeprefix("--option=").removeprefix("--destination-option=")
        name, _, value = option.partition("=")
        yield ("", option) if "://" in name else (name, value.strip('"'))


def _settings() -> Mapping[str, Any]:
    """Options of filesystems that the environment sets."""
    from fsspec.config import conf

    return conf if isinstance(conf, Mapping) else {}
