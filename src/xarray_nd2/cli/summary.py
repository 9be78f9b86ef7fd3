"""What ``info`` tells of a file, as plain values: one dictionary, which is its JSON."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

import numpy as np

if TYPE_CHECKING:
    import xarray as xr

    from xarray_nd2.cli.opening import CommandFile

# Of each channel: name in the summary, by the coordinate that tells it.
_CHANNEL_FACTS: Final = {
    "color": "color",
    "emission_nm": "emission",
    "excitation_nm": "excitation",
    "exposure_ms": "exposure",
    "pinhole_um": "pinhole",
    "modality": "modality",
}
_OPTICAL_FACTS: Final = ("objective", "magnification", "numerical_aperture", "refractive_index")


def summarize(file: CommandFile) -> dict[str, Any]:
    """Tell what is in a file.

    Parameters
    ----------
    file : CommandFile
        The file.

    Returns
    -------
    dict
        ``url``, ``file_bytes``, ``sizes``, ``dtype``, ``bits_significant``, ``image_bytes``,
        ``compression``, ``channels``, ``pixel_size_um`` (X, Y), ``z_step_um``, ``time`` (start, end,
        seconds, period), ``positions``, the optics, ``missing_frames``, ``groups``, ``version``, and
        ``opening``. What the file does not say is None or NaN.
    """
    dataset = file.image
    image, layout = dataset.image, file.opened.layout
    valid = dataset.coords.get("frame_valid")
    facts = file.opened.source.facts
    size = image.attrs.get("pixel_size_um")
    groups = file.group_names
    return {
        "url": file.name,
        "format": dataset.attrs.get("format"),
        "file_bytes": file.opened.source.size,
        "sizes": {str(dim): int(size) for dim, size in image.sizes.items()},
        "dtype": str(image.dtype),
        "bits_significant": image.attrs.get("bits_significant"),
        "image_bytes": int(image.nbytes),
        "compression": None if layout.compression == "none" else layout.compression,
        "channels": _channels(dataset),
        "pixel_size_um": None if size is None else [float(each) for each in size],
        "z_step_um": _step(dataset, "Z", "µm"),
        "time": _time(dataset),
        "positions": [str(name) for name in np.atleast_1d(dataset["P"].values)]
        if "P" in dataset.coords
        else [],
        **{name: image.attrs.get(name) for name in _OPTICAL_FACTS},
        "missing_frames": 0 if valid is None else int((~valid).sum()),
        "groups": groups,
        "version": None if facts is None else facts.version,
        "opening": asdict(file.opening_cost),
    }


def _channels(dataset: xr.Dataset) -> list[dict[str, Any]]:
    """Facts of each channel."""
    coordinates = {
        fact: dataset[name].values
        for fact, name in _CHANNEL_FACTS.items()
        if name in dataset.coords and dataset[name].dims == ("C",)
    }
    return [
        {"name": str(name)} | {fact: values[number].item() for fact, values in coordinates.items()}
        for number, name in enumerate(dataset["C"].values)
    ]


def _step(dataset: xr.Dataset, dim: str, units: str) -> float | None:
    """Mean step along a dimension that has these units."""
    values = dataset[dim].values if dim in dataset.coords else np.empty(0)
    if len(values) < 2 or dataset[dim].attrs.get("units") != units:
        return None
    return float(np.abs(np.diff(values)).mean())


def _time(dataset: xr.Dataset) -> dict[str, Any]:
    """From when to when frames were taken."""
    seconds = dataset["time"].values if "time" in dataset.coords else np.empty(0)
    known = seconds[np.isfinite(seconds)]
    acquired = dataset["acquired"].values.ravel() if "acquired" in dataset.coords else np.empty(0)
    dates = acquired[~np.isnat(acquired)] if acquired.size else acquired
    return {
        "start": dataset.attrs.get("start"),
        "end": f"{np.datetime_as_string(dates.max(), 'ms')}Z" if dates.size else None,
        "seconds": float(known.max() - known.min()) if known.size else None,
        "period_seconds": _step(dataset, "T", "s"),
    }
