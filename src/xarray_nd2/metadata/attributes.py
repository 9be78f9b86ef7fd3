"""Attributes of the image and of the file: plain values that netCDF and Zarr can store."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from typing import TYPE_CHECKING, Any, Final

from xarray_nd2.metadata.space import camera_to_stage
from xarray_nd2.metadata.times import first_frame_date, iso_text

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import nd2

    from xarray_nd2.metadata.picture_planes import PicturePlane
    from xarray_nd2.metadata.tree import Branch

# The texts of a file, in its order (Laboratory Imaging's limnd2), under nd2's names.
_TEXT_NAMES: Final = (
    "imageId",
    "type",
    "group",
    "sampleId",
    "author",
    "description",
    "capturing",
    "sampling",
    "location",
    "date",
    "conclusion",
    "info1",
    "info2",
    "optics",
    "appVersion",
)
_MAGNIFICATION_PATTERN: Final = re.compile(r"(\d{1,4}(?:\.\d{1,3})?)\s?x", re.IGNORECASE)
_MAX_OBJECTIVE_CHARACTERS: Final = 1000


def image_attrs(
    attributes: Branch, picture: Branch, planes: Sequence[PicturePlane], pixel_um: float | None
) -> dict[str, Any]:
    """Attributes of the variable ``image``, as far as the file tells.

    Parameters
    ----------
    attributes, picture : Branch
        The image attributes, and the metadata of the first frame.
    planes : sequence of PicturePlane
        Of the picture.
    pixel_um : float or None
        Height and width of a pixel.
    """
    objective = planes[0].sample.below("pObjectiveSetting") if planes else picture.with_values({})
    aspect = picture.positive("dAspect")
    name = picture.text("wsObjectiveName") or objective.text("wsObjectiveName") or ""
    found = {
        "bits_significant": attributes.whole("uiBpcSignificant"),
        "pixel_size_um": None if pixel_um is None else [pixel_um, pixel_um],
        "objective": name or None,
        "magnification": picture.positive("dObjectiveMag")
        or objective.positive("dObjectiveMag")
        or _magnification(name),
        "numerical_aperture": picture.positive("dObjectiveNA")
        or objective.positive("dObjectiveNA"),
        "refractive_index": picture.positive("dRefractIndex1")
        or picture.positive("dRefractIndex2")
        or objective.positive("dRefractIndex"),
        "zoom": picture.positive("dZoom"),
        "pixel_aspect_ratio": None if aspect == 1 else aspect,
        "camera_to_stage": camera_to_stage(picture, planes),
    }
    known = {key: value for key, value in found.items() if value is not None}
    return {"long_name": "intensity", **known}


def _magnification(objective: str) -> float | None:
    """Magnification that the name of an objective tells, such as "Plan Apo 20x"."""
    match = _MAGNIFICATION_PATTERN.search(objective[:_MAX_OBJECTIVE_CHARACTERS])
    return float(match[1]) or None if match else None


def file_attrs(version: tuple[int, int], picture: Branch, texts: Branch) -> dict[str, Any]:
    """Attributes of the dataset: the format, the start, and the texts of the file.

    Parameters
    ----------
    version : tuple of int
        Of the format.
    picture, texts : Branch
        The metadata of the first frame, and the texts.
    """
    attrs = {"format": f"ND2 {version[0]}.{version[1]}"}
    start = first_frame_date(picture)
    if start is not None:
        attrs["start"] = iso_text(start)
    for number, name in enumerate(_TEXT_NAMES):
        text = texts.text(f"TextInfoItem_{number}")
        if text:
            attrs[name] = text.replace("\r\n", "\n").replace("\r", "\n")
    return attrs


def nd2_says(file: nd2.ND2File) -> str:
    """What nd2 makes of attributes, experiment and metadata, as JSON; null for what it cannot read.

    One text, since attributes of netCDF and Zarr do not nest alike.
    """
    asked: dict[str, Callable[[], Any]] = {
        "attributes": lambda: dict(file.attributes._asdict()),
        "experiment": lambda: [dataclasses.asdict(loop) for loop in file.experiment],
        "metadata": lambda: dataclasses.asdict(file.metadata),
    }
    return json.dumps(
        {key: _tried(ask) for key, ask in asked.items()}, default=str, ensure_ascii=False
    )


def _tried(ask: Callable[[], Any]) -> Any:
    try:
        return _plain(ask())
    except Exception:  # noqa: BLE001  (whatever nd2 may raise of metadata that it does not understand)
        return None


def _plain(value: Any) -> Any:
    """The value with null for numbers that JSON does not have."""
    if isinstance(value, dict):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
