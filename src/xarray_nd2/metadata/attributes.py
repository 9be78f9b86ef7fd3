"""Attributes of the image and of the file: plain values that netCDF and Zarr can store."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Any

from xarray_nd2.metadata.space import pixel_size_um

if TYPE_CHECKING:
    import nd2


def read_image_attrs(file: nd2.ND2File) -> dict[str, Any]:
    """Attributes of the variable ``image``."""
    attrs: dict[str, Any] = {
        "long_name": "intensity",
        "bits_significant": int(file.attributes.bitsPerComponentSignificant),
    }
    pixel = pixel_size_um(file)
    if pixel is not None:
        attrs["pixel_size_um"] = list(pixel)
    microscope = next((c.microscope for c in file.metadata.channels or []), None)
    for key, name in (
        ("objective", "objectiveName"),
        ("magnification", "objectiveMagnification"),
        ("numerical_aperture", "objectiveNumericalAperture"),
        ("refractive_index", "immersionRefractiveIndex"),
        ("pinhole_um", "pinholeDiameterUm"),
    ):
        value = getattr(microscope, name, None)
        if value is not None:
            attrs[key] = value
    return attrs


def read_file_attrs(file: nd2.ND2File, version: tuple[int, int]) -> dict[str, Any]:
    """Attributes of the dataset: the format, its texts, and all of the metadata as JSON."""
    full = {
        "attributes": file.attributes._asdict(),
        "experiment": [dataclasses.asdict(loop) for loop in file.experiment],
        "metadata": dataclasses.asdict(file.metadata),
    }
    return {
        "format": f"ND2 {version[0]}.{version[1]}",
        **{key: str(value) for key, value in file.text_info.items()},
        # One string, since attributes of netCDF and Zarr do not nest alike.
        "nd2_metadata": json.dumps(full, default=str, ensure_ascii=False),
    }
