"""Which pixels a picture is made of, and the reading of no more than these."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from xarray_nd2.cli.failing import UsageError
from xarray_nd2.cli.opening import CommandFile, Cost
from xarray_nd2.cli.selections import select
from xarray_nd2.traces import trace

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import xarray as xr
    from numpy.typing import NDArray

_ENOUGH_BYTES: Final = 8 * 1024 * 1024  # that a picture may read, however large the share
_ENOUGH_BYTES_OF_PLANE: Final = 2 * 1024 * 1024  # likewise of each of many planes
_MAX_FRAME_SHARE: Final = 0.08
_ROWS_PER_PIXEL: Final = 2  # of the picture: more hardly show


@dataclass(frozen=True, eq=False)
class PicturePixels:
    """Pixels of a picture.

    Attributes
    ----------
    values : ndarray, shape (C, Y, X) or (Y, X, S)
        As stored, rows left out evenly.
    colors : list of str or None
        Of each channel, as ``#rrggbb``; None of what is stored in colour.
    bits : int or None
        That are used of integers.
    height_per_width : float
        Of what is shown.
    shown, how : str
        What of the image it is, and by what it was read.
    cost : Cost
        Of opening the file and reading.
    file_bytes : int
        Of the whole file.
    """

    values: NDArray[Any]
    colors: list[str] | None
    bits: int | None
    height_per_width: float
    shown: str
    how: str
    cost: Cost
    file_bytes: int


def read_pixels(
    target: str,
    storage_options: Mapping[str, Any],
    width: int,
    sel: Sequence[str] | None,
    isel: Sequence[str] | None,
    *,
    project_z: bool,
) -> PicturePixels:
    """Read what a picture needs.

    Parameters
    ----------
    target : str
        Path or URL of the file.
    storage_options : mapping
        Of its store.
    width : int
        Of the picture, in pixels.
    sel, isel : sequence of str or None
        Selections, as `select` takes them.
    project_z : bool
        The maximum along Z rather than one plane.

    Raises
    ------
    UsageError
        A selection is none, or leaves several times or positions.
    ND2Error
        The file cannot be read.
    """
    with trace() as traced:
        # Gaps between rows are what is not to be read.
        file = CommandFile(target, storage_options, max_gap=0)
        selected = select(file.image.image, sel, isel)
        for dim in ("Y", "X"):
            if dim not in selected.dims:
                raise UsageError(f"one {dim} is no picture: select a slice, such as {dim}=0:256")
        aspect = _height_per_width(selected)
        given = {text.partition("=")[0].strip() for text in (*(sel or ()), *(isel or ()))}
        whole = not given & {"Y", "X"}
        part = _one_picture(selected, given, project_z=project_z)
        how = ""
        number = _level_number(file, part, width) if whole else 0
        if number:
            level = file.level(number)
            if level is not None:
                part = _one_picture(select(level.image, sel, isel), given, project_z=project_z)
                how = f"embedded level {number}"
        step = _row_step(part, round(width * aspect))
        if file.opened.layout.compression != "none":
            step = 1  # rows of compressed frames cannot be left out
        how = how or ("every row" if step == 1 else f"every {_ordinal(step)} row")
        pixels = part.isel(Y=slice(step // 2, None, step)).load()
    if "Z" in pixels.dims:
        pixels = pixels.max("Z")
    order = ("Y", "X", "S") if "S" in pixels.dims else ("C", "Y", "X")
    colors = None if "S" in pixels.dims else [str(each) for each in np.atleast_1d(pixels["color"])]
    return PicturePixels(
        pixels.transpose(*order).values,
        colors,
        selected.attrs.get("bits_significant"),
        aspect,
        _shown(pixels, selected, project_z=project_z),
        how,
        Cost(traced.requests, traced.bytes, traced.seconds),
        file.opened.source.size,
    )


def _one_picture(image: xr.DataArray, given: set[str], *, project_z: bool) -> xr.DataArray:
    """An image without dimensions but Y, X, C or S, and Z where that is projected."""
    for dim, size in image.sizes.items():
        if dim in ("Y", "X", "C", "S") or (dim == "Z" and (project_z or "Z" in given)):
            continue
        if dim in given and size > 1:
            raise UsageError(f"a picture is of one {dim}, not of {size}: select one")
        image = image.isel({dim: size // 2 if dim == "Z" else 0})
    if "Z" in image.dims and not project_z:
        if image.sizes["Z"] > 1:
            raise UsageError("several planes make one picture by --project max")
        image = image.isel(Z=0)
    if "S" in image.dims:
        return image.isel(C=0) if "C" in image.dims else image
    return image if "C" in image.dims else image.expand_dims("C")


def _height_per_width(image: xr.DataArray) -> float:
    """Of the field, by the distances of its pixels where they are known."""
    rows, columns = image.sizes["Y"], image.sizes["X"]
    distances = []
    for dim in ("Y", "X"):
        labels = image[dim].values
        known = len(labels) > 1 and image[dim].attrs.get("units") == "µm"
        distances.append(abs(float(labels[1] - labels[0])) if known else 1.0)
    ratio = rows * distances[0] / (columns * distances[1])
    return ratio if math.isfinite(ratio) and ratio > 0 else rows / columns


def _level_number(file: CommandFile, image: xr.DataArray, width: int) -> int:
    """Of the smallest embedded level with enough pixels, else of the largest; 0 if there is none."""
    numbers = [
        int(name.removeprefix("level")) for name in file.level_names if image.sizes["X"] > width
    ]
    return max(
        (number for number in numbers if image.sizes["X"] >> number >= width),
        default=min(numbers, default=0) if _row_step(image, width) > 1 else 0,
    )


def _row_step(image: xr.DataArray, height: int) -> int:
    """Which rows are read, as the step between them."""
    rows = image.sizes["Y"]
    row_bytes = image.nbytes // rows
    if image.nbytes <= _ENOUGH_BYTES:
        return 1
    planes = image.sizes.get("Z", 1)
    enough = max(
        _ENOUGH_BYTES, _ENOUGH_BYTES_OF_PLANE * planes, int(_MAX_FRAME_SHARE * image.nbytes)
    )
    read_rows = max(1, min(_ROWS_PER_PIXEL * height, enough // row_bytes))
    return max(1, math.ceil(rows / read_rows))


def _shown(pixels: xr.DataArray, selected: xr.DataArray, *, project_z: bool) -> str:
    parts = []
    for dim in selected.dims:
        if dim in ("C", "Y", "X", "S"):
            continue
        if dim == "Z" and project_z:
            parts.append(f"maximum of {selected.sizes['Z']} planes")
        elif str(dim) in pixels.coords:
            label = pixels[dim].item()
            units = selected[dim].attrs.get("units", "")
            units = f" {units}" if units not in ("", "1") else ""
            text = f"{label:.4g}{units}" if isinstance(label, float) else str(label)
            parts.append(f"{dim} {text}")
    if "C" in pixels.dims:
        parts.append(", ".join(str(name) for name in np.atleast_1d(pixels["C"].values)))
    return ", ".join(parts) or "the image"


def _ordinal(number: int) -> str:
    ending = {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{'th' if number % 100 in (11, 12, 13) else ending}"
