"""Selections as they are written on the command line: ``T=3``, ``C=DAPI``, ``Y=0:256:2``, ``T=0,3,5``."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from xarray_nd2.cli.failing import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import xarray as xr

_SHOWN_LABELS: Final = 12
_WHOLE_NUMBER: Final = re.compile(r"[+-]?\d+")
_STEP_TOLERANCE: Final = 0.501  # of a step, by which a label may lie beyond the outermost ones


def select(
    image: xr.DataArray, sel: Sequence[str] | None, isel: Sequence[str] | None
) -> xr.DataArray:
    """Select a part of a lazy image, as `selection_keys` says, whose errors it raises."""
    return image.isel(selection_keys(image, sel, isel))


def selection_keys(
    image: xr.DataArray, sel: Sequence[str] | None, isel: Sequence[str] | None
) -> dict[str, Any]:
    """Places of a selection along the dimensions of an image.

    Numbers select the nearest label, as long as they lie no more than half a step outside of the
    labels; texts select the label that is exactly so. Slices of labels include both ends, in
    whichever order they are given.

    Parameters
    ----------
    image : xarray.DataArray
        Lazy.
    sel, isel : sequence of str or None
        By labels and by place, ``DIM=WHAT`` each.

    Returns
    -------
    dict of str to int, slice or list of int
        For ``image.isel``.

    Raises
    ------
    UsageError
        There is no such dimension or label, or nothing is selected. Tells what there is.
    """
    keys = dict(_index_key(image, *_parts(image, each, "--isel")) for each in isel or ())
    for each in sel or ():
        dim, key = _label_key(image, *_parts(image, each, "--sel"))
        if dim in keys:
            raise UsageError(f"{dim} is selected twice")
        keys[dim] = key
    if len(keys) < len(isel or ()) + len(sel or ()):
        raise UsageError("a dimension is selected twice")
    empty = [str(dim) for dim, size in image.isel(keys).sizes.items() if not size]
    if empty:
        dim = empty[0]
        raise UsageError(f"nothing of {dim} is selected; {_what_there_is(image, dim)}")
    return keys


def _parts(image: xr.DataArray, text: str, flag: str) -> tuple[str, str]:
    dim, equals, value = text.partition("=")
    dim, value = dim.strip(), value.strip()
    if not equals or not value:
        raise UsageError(f"{flag} takes DIM=WHAT, such as {flag} T=3, not {text!r}")
    if dim not in image.dims:
        there = ", ".join(f"{each} ({size})" for each, size in image.sizes.items())
        raise UsageError(f"there is no dimension {dim!r}; there are {there}")
    return dim, value


def _index_key(image: xr.DataArray, dim: str, value: str) -> tuple[str, Any]:
    size = image.sizes[dim]

    def number(text: str) -> int:
        if _WHOLE_NUMBER.fullmatch(text.strip()) is None:
            raise UsageError(f"--isel {dim}={value}: {text!r} is no whole number")
        return int(text)

    if ":" in value:
        return dim, _slice(f"--isel {dim}={value}", value, number)
    indices = [number(text) for text in value.split(",")]
    outside = [index for index in indices if not -size <= index < size]
    if outside:
        raise UsageError(f"--isel {dim}={outside[0]}: {dim} has {size}, 0 to {size - 1}")
    return dim, indices if "," in value else indices[0]


def _slice(what: str, value: str, number: Callable[[str], float]) -> slice:
    bounds = value.split(":")
    if len(bounds) > 3:
        raise UsageError(f"{what}: a slice is START:STOP or START:STOP:STEP")
    start, stop, step = [number(text) if text.strip() else None for text in (*bounds, "", "")[:3]]
    if step is not None and step < 1:
        raise UsageError(f"{what}: the step must be 1 or more")
    return slice(start, stop, step)


def _label_key(image: xr.DataArray, dim: str, value: str) -> tuple[str, Any]:
    if dim not in image.coords:
        raise UsageError(f"{dim} has no labels: use --isel")
    labels = image[dim].values
    if not np.issubdtype(labels.dtype, np.number):
        return dim, _text_key(image, dim, value, [str(label) for label in labels])

    def number(text: str) -> float:
        try:
            found = float(text)
        except ValueError:
            found = np.nan
        if not np.isfinite(found):
            raise UsageError(
                f"--sel {dim}={value}: {text!r} is no number; {_what_there_is(image, dim)}"
            )
        return found

    if ":" in value:
        return dim, _label_slice(image, dim, value, number)
    indices = [_nearest(image, dim, labels, number(text)) for text in value.split(",")]
    return dim, indices if "," in value else indices[0]


def _label_slice(
    image: xr.DataArray, dim: str, value: str, number: Callable[[str], float]
) -> slice:
    """Places of the labels between two numbers, both included."""
    what = f"--sel {dim}={value}"
    part = _slice(what, value, number)
    labels = image[dim].values
    bounds = [part.start, part.stop]
    if part.start is not None and part.stop is not None:
        bounds = sorted(bounds)
    elif len(labels) > 1 and labels[1] < labels[0]:  # a stack that was taken downwards
        bounds.reverse()
    low = -np.inf if bounds[0] is None else bounds[0]
    high = np.inf if bounds[1] is None else bounds[1]
    inside = np.flatnonzero((labels >= low) & (labels <= high))
    if part.step is not None and part.step != int(part.step):
        raise UsageError(f"{what}: the step is a number of labels")
    if not len(inside):
        raise UsageError(f"nothing of {dim} is selected; {_what_there_is(image, dim)}")
    step = None if part.step is None else int(part.step)
    return slice(int(inside[0]), int(inside[-1]) + 1, step)


def _nearest(image: xr.DataArray, dim: str, labels: Any, wanted: float) -> int:
    """Place of the label next to a number."""
    index = int(np.abs(labels - wanted).argmin())
    steps = np.abs(np.diff(labels))
    beyond = max(labels.min() - wanted, wanted - labels.max(), 0.0)
    outermost = steps.max() if len(steps) else max(1.0, abs(wanted) * 1e-6)
    if beyond > _STEP_TOLERANCE * outermost:
        raise UsageError(f"{dim} has no label near {wanted:g}; {_what_there_is(image, dim)}")
    return index


def _text_key(image: xr.DataArray, dim: str, value: str, labels: list[str]) -> Any:
    # A name may hold what else separates names.
    if value in labels:
        return labels.index(value)
    names = value.split(",") if "," in value else value.split(":") if ":" in value else [value]
    absent = [name for name in names if name and name not in labels]
    if absent or (":" in value and len(names) != 2):
        name = (absent or [value])[0]
        raise UsageError(f"{dim} has no label {name!r}; {_what_there_is(image, dim)}")
    places = [labels.index(name) if name else None for name in names]
    if "," in value:
        return places
    start, stop = places
    return slice(start, None if stop is None else stop + 1)


def _what_there_is(image: xr.DataArray, dim: str) -> str:
    """Labels of a dimension, for messages."""
    if dim not in image.coords:
        return f"{dim} has {image.sizes[dim]}"
    labels = image[dim].values
    if np.issubdtype(labels.dtype, np.number):
        units = image[dim].attrs.get("units", "")
        units = f" {units}" if units not in ("", "1") else ""
        return f"{dim} goes from {labels.min():g} to {labels.max():g}{units}"
    names = ", ".join(map(str, labels[:_SHOWN_LABELS]))
    more = len(labels) - _SHOWN_LABELS
    return f"there are {names}" + (f" and {more} more" if more > 0 else "")
