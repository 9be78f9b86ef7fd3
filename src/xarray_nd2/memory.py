"""Values that stay in memory, and so are seen and can be selected by without a computation.

xarray wraps the data of every variable of a backend, which makes dask arrays of small coordinates with
``chunks={}``, and hides them in what is shown. It does so by assigning to `Variable.data`, which is
all that is relied upon here (since xarray 2025.11, which leaves what is in memory when it makes
dask arrays). This can be deleted once xarray leaves alone what a backend has in memory.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr


def keep_in_memory(dataset: xr.Dataset | xr.DataTree) -> None:
    """Make what is in memory stay as it is when xarray wraps the variables of a dataset.

    What is read on demand has preferred chunks.

    Parameters
    ----------
    dataset : xarray.Dataset or xarray.DataTree
        Its variables are changed in place; of a tree, those of its root.
    """
    for variable in dataset.variables.values():
        # Labels of a dimension are in memory anyway.
        if type(variable) is xr.Variable and "preferred_chunks" not in variable.encoding:
            variable.__class__ = _InMemoryVariable


class _InMemoryVariable(xr.Variable):
    """A variable that keeps its NumPy data, unwrapped, when some are assigned; then it is a plain one.

    So are all that are made of it.
    """

    __slots__ = ()

    def __new__(cls, *args: Any, **kwargs: Any) -> xr.Variable:  # type: ignore[misc]
        return xr.Variable(*args, **kwargs)

    def __reduce__(self) -> tuple[Any, ...]:
        return xr.Variable, (self.dims, super().data, self.attrs, self.encoding)

    def __reduce_ex__(self, protocol: object) -> tuple[Any, ...]:
        return self.__reduce__()

    @property
    def data(self) -> Any:
        """The data."""
        return super().data

    @data.setter
    def data(self, data: Any) -> None:
        self.__class__ = xr.Variable  # type: ignore[assignment]
        self.data = data if getattr(data, "chunks", None) is not None else np.asarray(data)
