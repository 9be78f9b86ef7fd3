"""OME documents: whether they are valid, and whether they say what the labels of the image say."""

from __future__ import annotations

import datetime as dt
import importlib.util
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import ome_types
import pytest
import xarray as xr

from xarray_nd2 import ome_metadata

if TYPE_CHECKING:
    from pathlib import Path

EXACT_FIELDS = {"position_x": "stage_x", "position_y": "stage_y", "position_z": "stage_z"}


def valid(document: ome_types.OME) -> ome_types.OME:
    """The document, which is valid by the schema and is the same after having been written.

    Without xmlschema, of the extra 'test', it is not held against the schema; a test says so.
    """
    text = document.to_xml(validate=False)
    if importlib.util.find_spec("xmlschema") is not None:
        ome_types.validate_xml(text)
    assert ome_types.from_xml(text, validate=False) == document
    return document


def checked(target: Any) -> tuple[ome_types.OME, xr.Dataset]:
    """The document of a file and its dataset, which have been compared."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*(frames are not in the file|metadata is odd)")
        document = ome_metadata(target)
        dataset = xr.open_dataset(target, engine="nd2")
    check(document, dataset)
    return document, dataset


def check(document: ome_types.OME, dataset: xr.Dataset) -> None:
    valid(document)
    image_loops = [dim for dim in dataset.image.dims if dim not in ("T", "Z", "C", "Y", "X", "S")]
    indices = list(np.ndindex(*(dataset.sizes[dim] for dim in image_loops)))
    assert len(document.images) == len(indices)
    assert len({image.name for image in document.images}) == len(indices)
    for image, index in zip(document.images, indices, strict=True):
        part = dataset.isel(dict(zip(image_loops, index, strict=True)))
        check_pixels(image.pixels, part)
        for plane in image.pixels.planes:
            check_plane(plane, part, image.acquisition_date)


def check_pixels(pixels: Any, part: xr.Dataset) -> None:
    sizes = part.image.sizes
    samples = sizes.get("S", 1)
    assert [pixels.size_x, pixels.size_y, pixels.size_z, pixels.size_t, pixels.size_c] == [
        *(sizes["X"], sizes["Y"], sizes.get("Z", 1), sizes.get("T", 1)),
        sizes["C"] * samples,
    ]
    dtype = {"float16": "float", "float32": "float", "float64": "double"}
    assert pixels.type.value == dtype.get(str(part.image.dtype), str(part.image.dtype))
    assert [channel.name for channel in pixels.channels] == part.C.values.tolist()
    assert {channel.samples_per_pixel for channel in pixels.channels} == {samples}
    told = {
        (plane.the_t, plane.the_z, plane.the_c): number
        for number, plane in enumerate(pixels.planes)
    }
    assert pixels.dimension_order.value.startswith("XYC")
    counts = {"T": sizes.get("T", 1), "Z": sizes.get("Z", 1), "C": sizes["C"]}
    slowest_first = pixels.dimension_order.value[:1:-1]
    every = [
        dict(zip(slowest_first, index, strict=True))
        for index in np.ndindex(*(counts[dim] for dim in slowest_first))
    ]
    # All of them are there, in the order that the document says the frames have.
    assert list(told) == [(at["T"], at["Z"], at["C"]) for at in every]


def check_plane(plane: Any, part: xr.Dataset, date: dt.datetime | None) -> None:
    place = {"T": plane.the_t, "Z": plane.the_z, "C": plane.the_c}
    labels = part.isel({dim: at for dim, at in place.items() if dim in part.dims})
    valid = bool(labels.get("frame_valid", True))
    for field, name in EXACT_FIELDS.items():
        found = getattr(plane, field)
        # It is not known how the places of nested points combine.
        nested = f"{name}2" in labels.coords and name != "stage_z"
        if not nested and name in labels.coords and np.isfinite(labels[name]):
            assert found == labels[name].item()
            assert getattr(plane, f"{field}_unit").value == "µm"
        else:
            assert found is None
    if valid and "time" in labels.coords and np.isfinite(labels.time):
        assert plane.delta_t == labels.time.item()
        assert plane.delta_t_unit.value == "s"
        if "acquired" in labels.coords:
            assert date is not None
            apart = date + dt.timedelta(seconds=plane.delta_t) - utc(labels.acquired.values)
            assert abs(apart) <= dt.timedelta(microseconds=2)
    else:
        assert plane.delta_t is None
    exposure_ms = labels.exposure.item()
    if valid and np.isfinite(exposure_ms):
        assert plane.exposure_time == pytest.approx(exposure_ms / 1000, rel=1e-12)
        assert plane.exposure_time_unit.value == "s"
    else:
        assert plane.exposure_time is None


def utc(date: np.ndarray) -> dt.datetime:
    moment: dt.datetime = date.astype("datetime64[us]").item()
    return moment.replace(tzinfo=dt.UTC)


def cases(corpus: Path | None) -> list[Path]:
    """Files with one odd trait each, which lie beside the real ones."""
    return [] if corpus is None else sorted((corpus.parent / "cases").glob("*.nd2"))
