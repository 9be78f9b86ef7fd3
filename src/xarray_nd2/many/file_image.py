"""One of many files: its image and labels as plain variables, which are changed one by one."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from xarray_nd2.metadata.label import distinct_names

if TYPE_CHECKING:
    from collections.abc import Sequence

    import xarray as xr


@dataclass(frozen=True, eq=False)
class FileImage:
    """The image of one file.

    Attributes
    ----------
    name : str
        Of the file, and of no other of those that are joined.
    image : xarray.Variable
        A dask array.
    labels : mapping of str to xarray.Variable
        Its coordinates, in memory.
    attrs : mapping of str to value
        Of the file.
    new_dim : str
        A dimension of one step that the image is given when it is joined with others.
    """

    name: str
    image: xr.Variable
    labels: dict[str, xr.Variable]
    attrs: dict[str, Any]
    new_dim: str = ""

    @classmethod
    def of(cls, name: str, dataset: xr.Dataset) -> FileImage:
        """The image of an opened file."""
        variables = dataset.variables
        labels = {str(key): variables[key].to_base_variable() for key in dataset.coords}
        return cls(name, variables["image"], labels, dict(dataset.attrs))

    @property
    def dims(self) -> tuple[str, ...]:
        """Dimensions of the image."""
        return tuple(self.sizes)

    @property
    def sizes(self) -> dict[str, int]:
        """Sizes of the image."""
        new = {self.new_dim: 1} if self.new_dim else {}
        return new | {str(dim): size for dim, size in self.image.sizes.items()}

    def relabelled(self, **labels: xr.Variable) -> FileImage:
        """The same with other labels."""
        return replace(self, labels=self.labels | labels)

    def first_date(self) -> np.datetime64 | None:
        """When the first frame was taken, UTC; None if the file does not tell."""
        acquired = self.labels.get("acquired")
        if acquired is not None:
            date: np.datetime64 = np.ravel(acquired.values)[0]
            if not np.isnat(date):
                return date
        start = self.attrs.get("start")
        return np.datetime64(start.removesuffix("Z"), "ns") if isinstance(start, str) else None


def short_names(titles: Sequence[str], sources: Sequence[str]) -> list[str]:
    """The shortest names that tell files apart: with as many folders as that takes.

    Parameters
    ----------
    titles : sequence of str
        Names of the files without folders.
    sources : sequence of str
        Their paths and URLs.

    Examples
    --------
    >>> short_names(["run.nd2", "run.nd2"], ["s3://bucket/mon/run.nd2", "s3://bucket/tue/run.nd2"])
    ['mon/run.nd2', 'tue/run.nd2']
    """
    choices = [list(titles)]
    if not any("::" in source for source in sources):  # where the last is no name of the file
        parts = [re.split(r"[/\\]", source) for source in sources]
        counts = range(2, max(map(len, parts), default=0))
        choices += [["/".join(part[-count:]) for part in parts] for count in counts]
    choices.append(list(sources))
    for names in choices:
        if len(set(names)) == len(names):
            return names
    return distinct_names(list(titles))
