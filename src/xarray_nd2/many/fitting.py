"""Whether the images of files fit together, and in what they do not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from numpy.typing import NDArray

    from xarray_nd2.many.file_image import FileImage

# Of a step: less than what anybody would see, and more than what a stage or a clock differs by.
MAX_LABEL_DEVIATION: Final = 0.1

_WORDS_FOR_STEPS: Final = {
    "T": "time points",
    "P": "positions",
    "Z": "planes",
    "C": "channels",
    "Y": "pixels",
    "X": "pixels",
    "S": "samples",
}


def check_fit(files: Sequence[FileImage], dim: str) -> None:
    """Check that all files fit the first of them.

    Parameters
    ----------
    files : sequence of FileImage
        The files.
    dim : str
        Along which they will be joined, and may differ.

    Raises
    ------
    ValueError
        One of them does not fit.
    """
    for other in files[1:]:
        misfits = list(_misfits(files[0], other, dim))
        if misfits:
            raise ValueError(f"{other.name} does not fit {files[0].name}: {'; '.join(misfits)}")


def _misfits(first: FileImage, other: FileImage, joined: str) -> Iterator[str]:
    if other.dims != first.dims:
        yield f"its dimensions are {_listed(other.dims)} instead of {_listed(first.dims)}"
        return
    if other.image.dtype != first.image.dtype:
        yield f"its pixels are {other.image.dtype} instead of {first.image.dtype}"
    for dim in first.dims:
        expected, found = first.labels[dim], other.labels[dim]
        if found.attrs.get("units") != expected.attrs.get("units"):
            yield f"{dim} is in units of {_unit(found.attrs)} instead of {_unit(expected.attrs)}"
        elif dim == joined:
            continue
        elif found.size != expected.size:
            words = _WORDS_FOR_STEPS.get(dim[0], "steps")
            yield f"{dim} has {found.size} {words} instead of {expected.size}"
        elif misfit := _label_misfit(dim, expected.values, found.values):
            yield misfit


def _label_misfit(dim: str, expected: NDArray[Any], found: NDArray[Any]) -> str:
    """In what the labels along a dimension differ; empty if in nothing that matters."""
    if expected.dtype.kind not in "fiu":
        differs = bool((expected != found).any())
        return f"{dim} is {_listed(found)} instead of {_listed(expected)}" if differs else ""
    apart = np.abs(found - expected)
    steps = np.abs(np.diff(expected))
    limit = MAX_LABEL_DEVIATION * steps.min() if steps.size else 0.0
    if dim[0] == "T" and steps.size:
        # Clocks drift apart: as with one file's times, each step counts, and the sum of them less.
        drift = np.abs(np.diff(found) - np.diff(expected))
        if (drift <= MAX_LABEL_DEVIATION * steps).all():
            limit = steps.max()
    at = int(apart.argmax())
    if apart[at] <= limit:
        return ""
    return f"{dim} is {found[at]:.6g} instead of {expected[at]:.6g} at position {at}"


def _listed(names: Iterable[object]) -> str:
    return ", ".join(map(str, names)) or "none"


def _unit(attrs: dict[str, Any]) -> str:
    unit = attrs.get("units", "1")
    return "1, a number," if unit == "1" else str(unit)
