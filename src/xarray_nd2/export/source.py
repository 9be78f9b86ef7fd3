"""What is exported: the lazy image of a file, its levels, and what else the file has."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from fsspec.implementations.local import LocalFileSystem
from xarray.core import indexing

from xarray_nd2.array import ND2BackendArray
from xarray_nd2.backend import ND2BackendEntrypoint
from xarray_nd2.dask.selected import selection_of
from xarray_nd2.io.urls import is_local, local_path
from xarray_nd2.lazy_chain import find_read_on_demand
from xarray_nd2.read.spacing import as_slice

if TYPE_CHECKING:
    from collections.abc import Mapping

    from xarray_nd2.datasets import MissingFrames
    from xarray_nd2.export.destination import Destination

_NO_LAZY_IMAGE = "is no lazy image of an ND2 file, or more than a selection of one"


@dataclass(frozen=True, eq=False)
class ExportSource:
    """What is exported.

    Attributes
    ----------
    dataset : xarray.Dataset
        The image with its labels.
    levels : tuple of xarray.Variable
        Pixels of the image, and of the levels below it that the file has.
    array : ND2BackendArray
        The image in its file.
    masks, recorded, rois, events : xarray.Dataset or None
        The groups that the file has.
    """

    dataset: xr.Dataset
    levels: tuple[xr.Variable, ...]
    array: ND2BackendArray
    groups: Mapping[str, xr.Dataset] = field(default_factory=dict)

    @classmethod
    def of(
        cls, source: Any, storage_options: Mapping[str, Any] | None, missing_frames: MissingFrames
    ) -> ExportSource:
        """Open a file, or take what was opened.

        Raises
        ------
        TypeError, ValueError
            It is not what can be exported.
        ND2Error
            The file cannot be opened.
        """
        if isinstance(source, xr.DataTree):
            groups = {name: node.to_dataset() for name, node in source.children.items()}
        elif isinstance(source, xr.DataArray):
            groups = {"image": source.to_dataset(name="image")}
        elif isinstance(source, xr.Dataset):
            groups = {"image": source}
        else:
            opened = ND2BackendEntrypoint().open_groups_as_dict(
                source, storage_options=storage_options, missing_frames=missing_frames
            )
            groups = {path.strip("/"): each for path, each in opened.items()}
            storage_options = None
        if storage_options is not None:
            raise TypeError("storage_options are of a target to be opened, not of what was opened")
        dataset = groups.pop("image", None)
        if dataset is None or "image" not in dataset.data_vars:
            raise ValueError("there is no variable 'image' to export")
        _check_sizes(dataset["image"])
        pixels = _lazily(dataset["image"])
        found = find_read_on_demand(pixels)
        if found is None or not isinstance(found[0], ND2BackendArray):
            raise TypeError(f"the image {_NO_LAZY_IMAGE}")
        levels = [pixels]
        while (group := groups.get(f"level{len(levels)}")) is not None:
            level = _lazily(group["image"])
            halved = {
                d: n >> len(levels) if d in ("Y", "X") else n for d, n in pixels.sizes.items()
            }
            if dict(level.sizes) != halved:
                break  # of an image that was cropped
            levels.append(level)
        return cls(dataset, tuple(levels), found[0], groups)

    def identity(self) -> dict[str, Any]:
        """What tells this source from others: the file, and what of it is exported. No secrets."""
        facts = self.array.source.facts
        labels = hashlib.sha256(repr(sorted(self.levels[0].sizes.items())).encode())
        labels.update(str(self.dataset["image"].dtype).encode())
        labels.update(self.array.layout.offsets.values().tobytes())
        for name, coordinate in sorted(self.dataset.coords.items(), key=lambda item: str(item[0])):
            labels.update(str(name).encode())
            labels.update(np.ascontiguousarray(coordinate.values).tobytes())
        return {
            "url": self._url,
            "size_bytes": self.array.source.size,
            "version": None if facts is None else facts.version,
            "labels_sha256": labels.hexdigest(),
        }

    def is_in(self, destination: Destination) -> bool:
        """Whether the file is at the destination or below it, so that both would be removed."""
        if isinstance(destination.filesystem, LocalFileSystem):
            if not is_local(self._url):
                return False
            return Path(self._url).resolve().is_relative_to(Path(destination.root).resolve())
        folder = destination.name.rstrip("/")
        return self._url == folder or self._url.startswith(f"{folder}/")

    @property
    def is_shared_by_processes(self) -> bool:
        """Whether other processes can read the file."""
        return not self._url.startswith("memory:")

    @property
    def _url(self) -> str:
        """Without secrets, and of a local file its path however it was given."""
        name = self.array.source.name
        return local_path(name) if is_local(name) else name

    @property
    def splits_rows(self) -> bool:
        """Whether rows of a frame can be read alone."""
        return self.array.layout.compression == "none"


def _check_sizes(image: xr.DataArray) -> None:
    if not {"Y", "X"} <= set(image.dims):
        raise ValueError("the image has no axes Y and X")
    if empty := [str(dim) for dim, size in image.sizes.items() if not size]:
        raise ValueError(f"nothing is selected along {' and '.join(empty)}")


def _lazily(image: xr.DataArray) -> xr.Variable:
    """The pixels of an image without dask, so that no frame is read by two tasks."""
    if image.chunks is None:
        return image.variable
    found = selection_of(image.data)
    if found is None:
        raise TypeError(f"the image {_NO_LAZY_IMAGE}")
    array, positions, axes = found
    variable = xr.Variable(array.dims, indexing.LazilyIndexedArray(array))
    parts = (part if isinstance(part, int) else as_slice(part) for part in positions)
    selected = variable.isel(dict(zip(array.dims, parts, strict=True)))
    # Not transposed: xarray would make keys of single pixels of that. Tasks put axes in order.
    names = {array.dims[axis]: dim for axis, dim in zip(axes, image.dims, strict=True)}
    return xr.Dataset({"image": selected}).rename(names)["image"].variable
