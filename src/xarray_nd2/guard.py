"""What builds on private names of dask and xarray may fail with any of their releases.

Then opening and reading go on by what they document, which reads more, and one warning says so.
"""

from __future__ import annotations

import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from xarray_nd2.io.process import this_process

if TYPE_CHECKING:
    from collections.abc import Iterator

CROPS_READ_MORE: Final = "crops of dask arrays read more than they need"
REGIONS_ARE_SLOW: Final = "selections of many points take longer to prepare"


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
            warnings.warn(f"xarray-nd2: {consequence}; {cause}", RuntimeWarning, stacklevel=3)
