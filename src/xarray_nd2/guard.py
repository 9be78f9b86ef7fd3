"""What builds on private names of dask and xarray may fail with any of their releases.

Then opening and reading go on by what they document, which reads more or takes longer, and one warning
says so.
"""

from __future__ import annotations

import sys
import warnings
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Final

from xarray_nd2.io.process import this_process

if TYPE_CHECKING:
    from collections.abc import Iterator

CROPS_READ_MORE: Final = "crops of dask arrays read more than they need"
REGIONS_ARE_SLOW: Final = "selections of many points take longer to prepare"

Held = list[tuple[str, type[Warning]]]
"""Messages and categories of warnings."""

_HELD_WARNINGS: Final[ContextVar[Held | None]] = ContextVar("_HELD_WARNINGS", default=None)
_CALLERS_OF_US: Final = frozenset({"xarray_nd2", "xarray", "dask", "contextlib"})


@contextmanager
def going_on_without(consequence: str) -> Iterator[None]:
    """Go on after any exception inside, and warn once per process of its consequence and cause.

    Parameters
    ----------
    consequence : str
        What is lost without the code inside.
    """
    try:
        yield
    except Exception as error:  # noqa: BLE001  (whatever another release may raise)
        warned_of = this_process().warned_of
        if consequence not in warned_of:
            warned_of.add(consequence)
            cause = f"{type(error).__name__}: {error}"
            warn_user(f"xarray-nd2: {consequence}; {cause}", RuntimeWarning)


@contextmanager
def holding_warnings() -> Iterator[Held]:
    """Hold back what `warn_user` is told inside, in a thread that has no line of the user."""
    held: Held = []
    token = _HELD_WARNINGS.set(held)
    try:
        yield held
    finally:
        _HELD_WARNINGS.reset(token)


def warn_user(message: str, category: type[Warning] = UserWarning) -> None:
    """Warn at the line of the user, outside of this package and of those that call it."""
    held = _HELD_WARNINGS.get()
    if held is not None:
        held.append((message, category))
        return
    level, frame = 1, sys._getframe()  # noqa: SLF001  (of inspect, which is slow)
    while frame.f_back and frame.f_globals.get("__name__", "").partition(".")[0] in _CALLERS_OF_US:
        level, frame = level + 1, frame.f_back
    warnings.warn(message, category, stacklevel=level)
