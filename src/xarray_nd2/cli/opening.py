"""A file that a command has opened: its image, its groups, and what opening took."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from xarray_nd2.datasets import ReadOptions, group_dataset, image_dataset, warn_of_opening
from xarray_nd2.io.failures import named_errors
from xarray_nd2.io.process import MAX_CONCURRENCY
from xarray_nd2.io.source import ByteSource
from xarray_nd2.metadata.group import Group
from xarray_nd2.open.groups import IMAGE_GROUP, group_names, read_groups
from xarray_nd2.open.levels import embedded_levels
from xarray_nd2.open.opening import open_nd2
from xarray_nd2.traces import trace

if TYPE_CHECKING:
    from collections.abc import Mapping

    import xarray as xr

    from xarray_nd2.open.opening import OpenedFile


@dataclass(frozen=True)
class Cost:
    """What was read.

    Attributes
    ----------
    requests, bytes : int
        Requests that were sent, and bytes that came; those of disks of this machine take none.
    seconds : float
        That it took.
    """

    requests: int
    bytes: int
    seconds: float


class CommandFile:
    """A file that is open, the image lazy.

    Parameters
    ----------
    target : str
        Path or URL.
    storage_options : mapping
        Of its store.
    max_gap : int, optional
        As of `xarray.open_dataset`.

    Raises
    ------
    ND2Error
        It cannot be opened.

    Attributes
    ----------
    opening_cost : Cost
        What was read for it, `group_names` not included.
    """

    def __init__(
        self, target: str, storage_options: Mapping[str, Any], *, max_gap: int | None = None
    ) -> None:
        self._options = ReadOptions(max_gap, MAX_CONCURRENCY, "zeros")
        with trace() as traced:
            self.opened: OpenedFile = open_nd2(ByteSource.of(target, storage_options))
        self.opening_cost = Cost(traced.requests, traced.bytes, traced.seconds)
        warn_of_opening(self.opened)

    @property
    def name(self) -> str:
        """URL or path without secrets."""
        return self.opened.source.name

    @cached_property
    def image(self) -> xr.Dataset:
        """The dataset of the image."""
        return image_dataset(self.opened, self._options)

    @cached_property
    def group_names(self) -> list[str]:
        """Names of the groups, the image first."""
        with named_errors(self.name):
            return [IMAGE_GROUP, *group_names(self.opened)]

    @cached_property
    def level_names(self) -> list[str]:
        """Names of the embedded levels of which the map tells, the largest first."""
        return [f"level{level.number}" for level in embedded_levels(self.opened)]

    def level(self, number: int) -> xr.Dataset | None:
        """An embedded level; None where it is not there, or damaged."""
        name = f"level{number}"
        with named_errors(self.name):
            found = read_groups(self.opened, [name]).get(name)
        if not isinstance(found, Group):
            return None
        return group_dataset(self.opened, self._options, name, found, beside_image=True)
