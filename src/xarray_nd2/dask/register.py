"""How dask comes to call this room: in place of the optimization of arrays that is its default.

Dask looks up the optimization of a graph as ``Array.__dask_optimize__``, which gives the user's
configuration ``array_optimize`` or a default. Here that attribute is wrapped. A user's choice is given
unchanged; in place of a default comes `CropsFirst`, which ends with that default. Where another
library has put an attribute of its own there, it is taken for the default. Nothing is put into
dask's configuration, which is the user's, and is sent to workers.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any

import dask.config

from xarray_nd2.dask.join_crops import join_crops
from xarray_nd2.dask.tasks import GraphArray
from xarray_nd2.guard import CROPS_READ_MORE, going_on_without

if TYPE_CHECKING:
    from collections.abc import Callable


def register() -> None:
    """Have dask join crops with the reading of ND2 files, unless its user configured another way.

    It may be called any number of times.

    Raises
    ------
    KeyError
        Dask's arrays do not say how they are optimized.
    """
    before = vars(GraphArray)["__dask_optimize__"]
    if not isinstance(before, _CropsFirstByDefault):
        GraphArray.__dask_optimize__ = _CropsFirstByDefault(before)


@dataclass(frozen=True)
class CropsFirst:
    """An optimization of graphs: crops become reads of less, and then comes another optimization.

    Attributes
    ----------
    then : callable
        The other one, which alone is called for a graph without an ND2 file, or if this one fails.
    """

    then: Callable[..., Any]

    def __call__(self, dsk: Any, keys: Any, **kwargs: Any) -> Any:
        """Optimize a graph for the keys that are asked for."""
        try:
            joined = join_crops(dsk, keys)
            if joined is not None:
                return self.then(joined, keys, **kwargs)
            failed = None
        except Exception as error:  # noqa: BLE001  (whatever another release may raise)
            failed = error
        optimized = self.then(dsk, keys, **kwargs)  # where that fails too, it is not for us to say
        if failed is not None:
            with going_on_without(CROPS_READ_MORE):
                raise failed
        return optimized

    def __reduce__(self) -> tuple[Any, ...]:
        # Graphs are sent to dask's scheduler together with their optimization. One that has not
        # this package must be able to optimize graphs without an ND2 file.
        names = {"load": resolve_name, "find": find_spec, "then": self.then}
        path = f"{__name__}:{type(self).__name__}"
        return eval, (f"load('{path}')(then) if find('xarray_nd2') else then", names)


class _CropsFirstByDefault:
    """The attribute ``__dask_optimize__`` of dask's arrays, around the one that was there `before`."""

    def __init__(self, before: Any) -> None:
        self.before = before

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        bind = getattr(type(self.before), "__get__", None)
        chosen = self.before if bind is None else bind(self.before, instance, owner)
        if "array_optimize" in dask.config.config or chosen is None:  # None: not to be optimized
            return chosen
        return CropsFirst(chosen)
