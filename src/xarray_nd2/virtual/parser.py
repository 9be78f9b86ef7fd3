"""`ND2Parser`: from a URL to a store of VirtualiZarr."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from xarray_nd2.datasets import (
    ReadOptions,
    group_dataset,
    image_dataset,
    root_dataset,
    warn_of_opening,
)
from xarray_nd2.errors import ND2FormatError, ND2UnsupportedError
from xarray_nd2.format.layout import FrameLayout
from xarray_nd2.format.mask_planes import MaskPlanes
from xarray_nd2.guard import warn_user
from xarray_nd2.io.failures import named_errors
from xarray_nd2.io.process import MAX_CONCURRENCY
from xarray_nd2.open.groups import IMAGE_GROUP, read_group, read_groups
from xarray_nd2.open.opening import open_nd2
from xarray_nd2.virtual.arrays import arrays_in_memory, referenced_array
from xarray_nd2.virtual.chunks import pixel_chunks
from xarray_nd2.virtual.store_source import source_in_registry

if TYPE_CHECKING:
    import xarray as xr
    from obspec_utils.registry import ObjectStoreRegistry
    from virtualizarr.manifests import ManifestGroup, ManifestStore

    from xarray_nd2.metadata.group import Group
    from xarray_nd2.open.opening import OpenedFile

_ROOT_GROUP: Final = ""
_READ_OPTIONS: Final = ReadOptions(None, MAX_CONCURRENCY, "zeros")


class ND2Parser:
    """Parse ND2 files for VirtualiZarr: their pixels as references, their labels in memory.

    An instance is what `virtualizarr.open_virtual_dataset` takes as its `parser`. What is made of
    the file can be read by zarr alone, with the codecs ``transpose``, ``bytes`` and
    ``numcodecs.zlib``.

    Parameters
    ----------
    group : str
        Which part of the file becomes the root of the store, as `xarray.open_dataset` has it: the
        image, or "level1", "recorded", …; "" gives all of them as groups, for
        `virtualizarr.open_virtual_datatree`.
    stored_order : bool
        Keep the dimensions Y, X, C(, S) in the order of the file, so that no chunk has to be
        transposed. Zarr version 2, and with it most of kerchunk, needs this where there are several
        channels.

    Raises
    ------
    ImportError
        VirtualiZarr is not installed.

    Notes
    -----
    Pixels are as stored. Labels follow them: samples of colour are called Blue, Green, Red, as no
    codec could put them in another order. Where rows are padded, chunks are wider than the image,
    or a chunk is one row.
    """

    def __init__(self, *, group: str = IMAGE_GROUP, stored_order: bool = False) -> None:
        if not isinstance(group, str):
            raise TypeError(f"group must be a name, not {type(group).__name__}")
        try:
            import virtualizarr  # noqa: F401
        except ImportError as error:
            raise ImportError(
                "ND2Parser needs VirtualiZarr, and so Python 3.12 or later: "
                "pip install 'xarray-nd2[virtual]'"
            ) from error
        self.group = group.strip("/")
        self.stored_order = stored_order

    def __repr__(self) -> str:
        return f"ND2Parser(group={self.group!r}, stored_order={self.stored_order!r})"

    def __call__(self, url: str, registry: ObjectStoreRegistry) -> ManifestStore:
        """Open a file and describe it as a store of Zarr.

        Parameters
        ----------
        url : str
            The file, such as ``s3://bucket/run42.nd2`` or ``file:///data/run42.nd2``.
        registry : obspec_utils.registry.ObjectStoreRegistry
            Has the store to read it from, with its credentials.

        Returns
        -------
        virtualizarr.manifests.ManifestStore
            With the array ``image``, its coordinates, and the attributes of the file.

        Warns
        -----
        UserWarning
            Frames are missing, or some of the metadata is odd, as `xarray.open_dataset` warns; or
            a group is left out.

        Raises
        ------
        ND2FormatError
            Not an ND2 file, or a damaged one; or it has no such group.
        ND2UnsupportedError
            The frames or the group cannot be expressed as chunks of Zarr.
        ND2SourceError
            The file cannot be read.
        ValueError
            The registry has no store for the URL.
        """
        from virtualizarr.manifests import ManifestStore

        opened = open_nd2(source_in_registry(url, registry))
        warn_of_opening(opened)
        with named_errors(opened.source.name):
            return ManifestStore(self._group_of(opened, url), registry=registry)

    def _group_of(self, opened: OpenedFile, url: str) -> ManifestGroup:
        if self.group == IMAGE_GROUP:
            return self._image(opened, url)
        if self.group == _ROOT_GROUP:
            return self._tree(opened, url)
        return self._beside_image(opened, url, self.group, read_group(opened, self.group))

    def _image(self, opened: OpenedFile, url: str) -> ManifestGroup:
        dataset = image_dataset(opened, _READ_OPTIONS)
        return self._manifest_group(opened, url, dataset, {"image": opened.layout})

    def _beside_image(
        self,
        opened: OpenedFile,
        url: str,
        name: str,
        found: Group,
        *,
        beside_image: bool = False,
    ) -> ManifestGroup:
        values = {key: each for key, (_, each, _) in found.variables.items()}
        if any(isinstance(each, MaskPlanes) for each in values.values()):
            raise ND2UnsupportedError(
                f"the group {name} is stored as runs of pixels, which no codec of Zarr decodes. "
                f'Save a copy instead: xr.open_dataset(url, engine="nd2", group="{name}", '
                "chunks={}).to_zarr(path)"
            )
        dataset = group_dataset(opened, _READ_OPTIONS, name, found, beside_image=beside_image)
        layouts = {key: each for key, each in values.items() if isinstance(each, FrameLayout)}
        return self._manifest_group(opened, url, dataset, layouts)

    def _tree(self, opened: OpenedFile, url: str) -> ManifestGroup:
        from virtualizarr.manifests import ManifestGroup

        groups = {IMAGE_GROUP: self._image(opened, url)}
        for name, each in read_groups(opened).items():
            try:
                if isinstance(each, (ND2FormatError, ND2UnsupportedError)):
                    raise each
                groups[name] = self._beside_image(opened, url, name, each, beside_image=True)
            except (ND2FormatError, ND2UnsupportedError) as error:
                warn_user(f"{opened.source.name}: the group {name} is left out: {error.message}")
        _, attrs = arrays_in_memory(root_dataset(opened, _READ_OPTIONS))
        return ManifestGroup(groups=groups, attributes=attrs)

    def _manifest_group(
        self, opened: OpenedFile, url: str, dataset: xr.Dataset, layouts: dict[str, FrameLayout]
    ) -> ManifestGroup:
        """A dataset as a group, with the pixels of `layouts` as references."""
        from virtualizarr.manifests import ManifestGroup

        arrays: dict[str, Any] = {}
        for name, layout in layouts.items():
            chunks = pixel_chunks(layout, opened.source.size, stored_order=self.stored_order)
            arrays[name] = referenced_array(chunks, url, layout.dtype, dataset[name].attrs)
        labels = dataset.drop_vars(list(layouts))
        for layout in layouts.values():
            labels = _as_stored(labels, layout)
        in_memory, attrs = arrays_in_memory(labels)
        return ManifestGroup(arrays=arrays | in_memory, attributes=attrs)


def _as_stored(labels: xr.Dataset, layout: FrameLayout) -> xr.Dataset:
    """Labels in the order in which pixels are stored."""
    orders = {"C": layout.channel_order, "S": layout.sample_order}
    return labels.isel(
        {dim: np.argsort(order) for dim, order in orders.items() if order and dim in labels.dims}
    )
