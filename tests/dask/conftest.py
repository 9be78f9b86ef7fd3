"""What the tests of dask share: a process in which no file was opened before."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import dask.array as da
import pytest

from xarray_nd2.io.process import this_process

if TYPE_CHECKING:
    from collections.abc import Iterator

OPTIONAL = ("xarray_nd2.dask", "xarray_nd2.lazy_chain")


@pytest.fixture
def plain_dask() -> Iterator[Any]:
    """The attribute ``__dask_optimize__`` of dask's arrays, put back to what dask has there."""
    with pytest.MonkeyPatch.context() as patch:
        now = vars(da.Array)["__dask_optimize__"]
        plain = getattr(now, "before", now)
        patch.setattr(da.Array, "__dask_optimize__", plain)
        patch.setattr(this_process(), "warned_of", set())
        for name in list(sys.modules):
            if name.startswith(OPTIONAL):
                patch.delitem(sys.modules, name)
        yield plain
