"""All that an export writes, planned: images, labels, tables and what is said of them."""

from __future__ import annotations

import json
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from xarray_nd2.export.axes import Axis, image_axes, image_channels, level_transformations
from xarray_nd2.export.documents import (
    OWN_ATTRIBUTE,
    collection_documents,
    group_document,
    image_model,
    label_model,
    labels_model,
    multiscales,
    root_model,
)
from xarray_nd2.export.images import Images, group_names, images_of
from xarray_nd2.export.shard_plan import default_level_count, plan_pyramid
from xarray_nd2.export.tables import table_documents
from xarray_nd2.export.write_shards import Export, Stack, array_document
from xarray_nd2.ome.document import ome_metadata

if TYPE_CHECKING:
    from collections.abc import Mapping

    from xarray_nd2.export.destination import Destination
    from xarray_nd2.export.source import ExportSource

_AXIS_ORDER: Final = "tczyx"
_MAX_LISTED_FRAMES: Final = 1000  # that are missing; the table of frames has all
_FORMAT_OF_EXPORT: Final = 1  # of what is written; an export of another is not continued


@dataclass(frozen=True, eq=False)
class ExportLayout:
    """What an export writes.

    Attributes
    ----------
    source : ExportSource
        What is exported.
    export : Export
        The shards: the first stack has the images, the others a layer of masks each.
    images : Images
        Where the images go.
    axes : list of Axis
        Of the images.
    layers : tuple of str
        Group of each layer of masks in the labels of an image.
    ome_xml : bytes
        The OME metadata.
    """

    source: ExportSource
    export: Export
    images: Images
    axes: list[Axis]
    layers: tuple[str, ...]
    ome_xml: bytes

    @property
    def task_count(self) -> int:
        """Tasks of the whole export."""
        return sum(stack.pyramid.task_count * len(stack.paths) for stack in self.export.stacks)

    @property
    def task_bytes(self) -> int:
        """Bytes of pixels of the largest task."""
        return max(stack.pyramid.task_bytes for stack in self.export.stacks)

    @property
    def bits_significant(self) -> int:
        """Of integers, how many bits have a value."""
        bits = self.source.dataset["image"].attrs.get("bits_significant")
        most = 8 * self.source.dataset["image"].dtype.itemsize
        return bits if type(bits) is int and 1 <= bits <= most else most

    def settings(self) -> dict[str, Any]:
        """What an export must have in common with the one that it continues."""
        return {
            "format": _FORMAT_OF_EXPORT,
            "images": len(self.images.paths),
            "layers": list(self.layers),
            "missing_frames": self.source.array.missing_frames,
            "arrays": [
                {
                    "shape": document["shape"],
                    "shards": document["chunk_grid"]["configuration"]["chunk_shape"],
                    "codecs": document["codecs"],
                }
                for document in self.export.stacks[0].documents
            ],
        }

    def array_documents(self) -> dict[str, bytes]:
        """The ``zarr.json`` of all arrays, by their paths."""
        return {
            "/".join(filter(None, [path, str(level), "zarr.json"])): json.dumps(document).encode()
            for stack in self.export.stacks
            for path in stack.paths
            for level, document in enumerate(stack.documents)
        }

    def group_documents(
        self, windows: list[dict[str, float]], record: dict[str, Any]
    ) -> tuple[dict[str, bytes], bytes]:
        """Metadata of all groups, tables and XML by their paths, and the ``zarr.json`` of the root.

        Parameters
        ----------
        windows : list of dict
            Between which values each channel is shown.
        record : dict
            What is noted of this export.
        """
        found = table_documents(self.source.dataset, self.source.groups, self.images)
        found["OME/METADATA.ome.xml"] = self.ome_xml
        for path, document in collection_documents(self.images).items():
            found[f"{path}/zarr.json"] = document
        stack = self.export.stacks[0]
        transformations = level_transformations(
            self.axes, len(stack.documents) - 1, len(stack.pixels) - 1, means=True
        )
        channels = image_channels(self.source.dataset)
        root = b""
        for number, (path, name) in enumerate(
            zip(self.images.paths, self.images.names, strict=True)
        ):
            scales = multiscales(
                name, self.axes, transformations, len(stack.pixels) - 1, stack.halving
            )
            model = image_model(scales, channels, windows, self._defaults())
            noted = self._missing_frames(number)
            if not path:
                root = group_document(model, {OWN_ATTRIBUTE: record | noted})
            else:
                found[f"{path}/zarr.json"] = group_document(
                    model, {OWN_ATTRIBUTE: noted} if noted else {}
                )
        found |= self._label_documents()
        if not self.images.is_single:
            root = group_document(root_model(self.images), {OWN_ATTRIBUTE: record})
        return found, root

    def _defaults(self) -> dict[str, int]:
        sizes = self.source.dataset["image"].sizes
        return {f"default{dim}": sizes[dim] // 2 if dim in sizes else 0 for dim in "TZ"}

    def _missing_frames(self, image: int) -> dict[str, Any]:
        """What is noted of the frames of an image that the file has not."""
        dataset = self.source.dataset
        if "frame_valid" not in dataset.coords:
            return {}
        valid = dataset["frame_valid"].isel(
            {d: i for d, i in self.images.steps[image].items() if d in dataset["frame_valid"].dims}
        )
        if "S" in dataset["image"].dims and "C" in valid.dims:
            valid = valid.all("C")  # the axis c is of all samples of all channels
        dims = [dim for dim in ("T", "Z", "C") if dim in valid.dims]
        places = np.argwhere(~valid.transpose(*dims).values)
        if not len(places):
            return {}
        axes = [dim.lower() for dim in dims]
        listed = [
            dict(zip(axes, place, strict=True)) for place in places[:_MAX_LISTED_FRAMES].tolist()
        ]
        return {"missing_frames": {"count": len(places), "read_as": "zeros", "frames": listed}}

    def _label_documents(self) -> dict[str, bytes]:
        found = {}
        for name, stack in zip(self.layers, self.export.stacks[1:], strict=True):
            axes = [axis for axis in self.axes if axis.name in stack.pyramid.axes]
            transformations = level_transformations(axes, len(stack.documents) - 1, 0, means=False)
            model = label_model(multiscales(name, axes, transformations, 0, stack.halving))
            for path in stack.paths:
                found[f"{path}/zarr.json"] = group_document(model, self._said_of_layer(name))
        if self.layers:
            for path in self.images.paths:
                base = "/".join(filter(None, [path, "labels", "zarr.json"]))
                found[base] = group_document(labels_model(self.layers))
        return found

    def _said_of_layer(self, name: str) -> dict[str, Any]:
        masks = self.source.groups["masks"].isel(layer=self.layers.index(name))
        said = {
            str(label): value.values.item()
            for label, value in masks.coords.items()
            if str(label).startswith("layer") and value.ndim == 0
        }
        return {OWN_ATTRIBUTE: {k: v for k, v in said.items() if v == v}}


def plan_layout(
    source: ExportSource,
    destination: Destination,
    levels: int | None,
    chunks: Mapping[str, int],
    shards: Mapping[str, int],
    compressors: Any,
) -> ExportLayout:
    """Plan an export; nothing is read or written.

    Parameters
    ----------
    source, destination
        What is exported, and where to.
    levels, chunks, shards, compressors
        As `to_ome_zarr` takes them.

    Raises
    ------
    ValueError
        These do not go together.
    """
    for name, given in (("chunks", chunks), ("shards", shards)):
        if unknown := set(given) - set(_AXIS_ORDER):
            raise ValueError(f"{name} has no axis {', '.join(sorted(map(str, unknown)))}")
    if levels is not None and (type(levels) is not int or levels < 0):
        raise ValueError(f"levels must be at least 0, not {levels!r}")
    document = ome_metadata(source.dataset)
    images = images_of(source.dataset, [image.name or "" for image in document.images])
    axes = image_axes(source.dataset)
    pixels = source.levels[0]
    sizes = {axis.name: pixels.sizes.get(axis.name.upper(), 1) for axis in axes}
    sizes["c"] *= pixels.sizes.get("S", 1)
    count = default_level_count(sizes["y"], sizes["x"]) if levels is None else levels
    pyramid = plan_pyramid(
        sizes, pixels.dtype.itemsize, count, chunks, shards, splits_rows=source.splits_rows
    )
    kept = source.levels[: count + 1]
    stacks = [
        Stack(
            pyramid,
            tuple(
                json.loads(array_document(pyramid, level, pixels.dtype, compressors))
                for level in range(count + 1)
            ),
            kept,
            images.paths,
            images.steps,
            "means",
        )
    ]
    layers, masks = _mask_stacks(source, images, sizes, count, chunks, compressors)
    return ExportLayout(
        source,
        Export((*stacks, *masks), destination),
        images,
        axes,
        layers,
        document.to_xml().encode(),
    )


def _mask_stacks(
    source: ExportSource,
    images: Images,
    image_sizes: Mapping[str, int],
    level_count: int,
    chunks: Mapping[str, int],
    compressors: Any,
) -> tuple[tuple[str, ...], list[Stack]]:
    """Names of the layers of masks, and what is written of each."""
    group = source.groups.get("masks")
    if group is None:
        return (), []
    mask = group["mask"]
    loops = {dim for dim in source.dataset["image"].dims if dim not in ("C", "S")}
    same = {d: mask.sizes.get(d) for d in loops} == {d: source.dataset.sizes[d] for d in loops}
    if not same or mask.chunks is not None:
        why = "were opened with dask" if same else "do not have the loops and size of the image"
        warnings.warn(f"masks are left out of the export: they {why}", UserWarning, stacklevel=2)
        return (), []
    sizes = {axis: size for axis, size in image_sizes.items() if axis != "c"}
    pyramid = plan_pyramid(sizes, mask.dtype.itemsize, level_count, chunks, {}, splits_rows=False)
    documents = tuple(
        json.loads(array_document(pyramid, level, mask.dtype, compressors))
        for level in range(level_count + 1)
    )
    layers = tuple(group_names([str(name) for name in group["layer"].values]))
    stacks = [
        Stack(
            pyramid,
            documents,
            (mask.variable,),
            tuple("/".join(filter(None, [path, "labels", name])) for path in images.paths),
            tuple({**step, "layer": number} for step in images.steps),
            "picking",
        )
        for number, name in enumerate(layers)
    ]
    return layers, stacks
