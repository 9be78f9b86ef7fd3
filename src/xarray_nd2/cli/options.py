"""Arguments that several commands have: the file, options of stores, selections."""

from __future__ import annotations

import json
from typing import Annotated, Any

from cyclopts import Parameter

from xarray_nd2.cli.failing import UsageError

SourceURL = Annotated[str, Parameter(name="URL", help="Path or URL of the file.")]
SourceOptions = Annotated[
    list[str] | None,
    Parameter(
        name=["--option", "-o"],
        negative="",
        show_default=False,
        help="KEY=VALUE, a storage option of the file's store; repeat it for more. Dots make nested "
        "ones (client_kwargs.endpoint_url=http://…), values are JSON where they parse, else text.",
    ),
]
DestinationOptions = Annotated[
    list[str] | None,
    Parameter(
        name=["--destination-option", "-O"],
        negative="",
        show_default=False,
        help="KEY=VALUE, a storage option of the store that is written to, as -o is of the source.",
    ),
]
LabelSelections = Annotated[
    list[str] | None,
    Parameter(
        name="--sel",
        negative="",
        show_default=False,
        allow_leading_hyphen=True,
        help="DIM=LABEL by labels: T=3, C=DAPI, Z=-2:2 (both ends included), T=0,3,5; of numbers "
        "the nearest.",
    ),
]
IndexSelections = Annotated[
    list[str] | None,
    Parameter(
        name="--isel",
        negative="",
        show_default=False,
        allow_leading_hyphen=True,
        help="DIM=NUMBER by place, from 0: T=3, Z=-1, Y=0:256, Y=0:256:2, T=0,3,5.",
    ),
]
AsJSON = Annotated[
    bool, Parameter(name="--json", negative="", help="Print one JSON object, for scripts.")
]


def parse_storage_options(given: list[str] | None, flag: str = "-o") -> dict[str, Any]:
    """Nested options of ``key=value``.

    Parameters
    ----------
    given : list of str or None
        As on the command line.
    flag : str
        That they were given by, for messages.

    Raises
    ------
    UsageError
        One is no ``key=value``, or they contradict each other. Values are not shown.

    Examples
    --------
    >>> parse_storage_options(["anon=true", "client_kwargs.region_name=eu-west-1"])
    {'anon': True, 'client_kwargs': {'region_name': 'eu-west-1'}}
    """
    options: dict[str, Any] = {}
    for each in given or []:
        key, equals, text = each.partition("=")
        *parents, name = key.split(".")
        if not equals or not all([*parents, name]):
            raise UsageError(f"{flag} takes KEY=VALUE, such as {flag} anon=true")
        at: Any = options
        for parent in parents:
            at = at.setdefault(parent, {})
            if not isinstance(at, dict):
                raise UsageError(f"{flag} {key}: {parent} has a value already")
        if name in at:
            raise UsageError(f"{flag} {key} is given twice")
        at[name] = _value(text)
    return options


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
