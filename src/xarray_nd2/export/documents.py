"""The metadata of groups: checked by yaozarrs, as the text of their ``zarr.json``."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from yaozarrs import v05

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from xarray_nd2.export.axes import Axis
    from xarray_nd2.export.images import Images

BIOFORMATS2RAW_LAYOUT: Final = 3
OWN_ATTRIBUTE: Final = "xarray_nd2"
"""What this package notes beside the metadata of OME."""
_METHOD_WORDS: Final = {
    "means": "means of 2 x 2 pixels",
    "picking": "the first of 2 x 2 pixels",
    "embedded": "as in the file",
}


def group_document(ome: Any = None, attributes: Mapping[str, Any] | None = None) -> bytes:
    """The ``zarr.json`` of a group.

    Parameters
    ----------
    ome : model of yaozarrs, optional
        What is said of it in the words of OME-Zarr.
    attributes : mapping, optional
        What else is said of it.
    """
    said = dict(attributes or {})
    if ome is not None:
        said["ome"] = ome.model_dump(mode="json", by_alias=True, exclude_none=True)
    document = {"zarr_format": 3, "node_type": "group", "attributes": said}
    return json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False).encode()


def multiscales(
    name: str,
    axes: Sequence[Axis],
    transformations: Sequence[list[dict[str, Any]]],
    embedded_count: int,
    halving: str,
) -> list[dict[str, Any]]:
    """The one pyramid of an image, as its metadata have it."""
    computed = len(transformations) - 1 - embedded_count
    methods = [_METHOD_WORDS["embedded"]] * bool(embedded_count) + [_METHOD_WORDS[halving]] * bool(
        computed
    )
    return [
        {
            "name": name,
            "axes": [axis.document() for axis in axes],
            "datasets": [
                {"path": str(level), "coordinateTransformations": each}
                for level, each in enumerate(transformations)
            ],
            **({"type": ", then ".join(methods)} if methods else {}),
        }
    ]


def image_model(
    pyramid: list[dict[str, Any]],
    channels: Sequence[tuple[str, str]],
    windows: Sequence[Mapping[str, float]],
    defaults: Mapping[str, int],
) -> v05.Image:
    """An image and how it is shown.

    Parameters
    ----------
    pyramid : list of dict
        By `multiscales`.
    channels : sequence of (str, str)
        Name and colour of each.
    windows : sequence of mapping of str to float
        ``min``, ``max``, ``start`` and ``end`` of each.
    defaults : mapping of str to int
        ``defaultT`` and ``defaultZ``: what is shown first.
    """
    shown = [
        {
            "label": name,
            "color": color,
            "window": dict(window),
            "active": name != "Alpha",
            "family": "linear",
            "coefficient": 1.0,
            "inverted": False,
        }
        for (name, color), window in zip(channels, windows, strict=True)
    ]
    model = "color" if len(channels) > 1 else "greyscale"
    omero = {"channels": shown, "rdefs": {"model": model, **defaults}}
    return v05.Image.model_validate({"version": "0.5", "multiscales": pyramid, "omero": omero})


def label_model(pyramid: list[dict[str, Any]]) -> v05.LabelImage:
    """A layer of masks of the image two groups above."""
    return v05.LabelImage.model_validate(
        {
            "version": "0.5",
            "multiscales": pyramid,
            "image-label": {"version": "0.5", "source": {"image": "../../"}},
        }
    )


def labels_model(names: Sequence[str]) -> v05.LabelsGroup:
    """The group of the layers of masks."""
    return v05.LabelsGroup(labels=list(names))


def collection_documents(images: Images) -> dict[str, bytes]:
    """The groups that are no images by their paths, without the root."""
    documents = {"OME": group_document()}
    if not images.is_single:
        documents["OME"] = group_document(v05.Series(series=list(images.paths)))
    for well, names in images.wells().items():
        documents[well] = group_document(
            v05.Well.model_validate({"well": {"images": [{"path": name} for name in names]}})
        )
        documents[well.partition("/")[0]] = group_document()
    return documents


def root_model(images: Images) -> Any:
    """What is said of the root where it is a plate, or a collection of images."""
    layout = {"version": "0.5", "bioformats2raw.layout": BIOFORMATS2RAW_LAYOUT}
    if images.plate:
        return v05.Plate.model_validate({**layout, "plate": images.plate})
    return v05.Bf2Raw.model_validate(layout)
