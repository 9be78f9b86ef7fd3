"""How labels go on from one file to the next along the dimension in which files are joined."""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import xarray as xr

from xarray_nd2.many.fitting import MAX_LABEL_DEVIATION
from xarray_nd2.metadata.label import distinct_names, rounded

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from xarray_nd2.many.file_image import FileImage

_MEANT_FOR_LABELS: Final = re.compile(r"[TPZUCYXS][0-9]*")  # dimensions that only a file can have
_OF_FRAMES: Final = ("time", "acquired", "frame_valid")


def continued(files: Sequence[FileImage], dim: str) -> list[FileImage]:
    """The files in the order in which they are joined, their labels along the dimension going on.

    Parameters
    ----------
    files : sequence of FileImage
        Files that fit together.
    dim : str
        Along which they are joined. If they do not have it, each has one step along it afterwards.

    Raises
    ------
    ValueError
        They cannot be joined along it.
    """
    has_dim = dim in files[0].dims
    if dim == "T":
        return _in_time(files if has_dim else [_with_time(file) for file in files])
    if not has_dim:
        return _along_new(files, dim)
    if dim == "S":
        raise ValueError("files cannot be joined along S, which is the colours of one image")
    if dim[0] in "PC":
        return _with_distinct_names(files, dim)
    if dim[0] == "U":
        return _counted_on(files, dim)
    if dim == "Z":
        files = _by_height(files)
    _check_monotonic(files, dim)
    return list(files)


def _along_new(files: Sequence[FileImage], dim: str) -> list[FileImage]:
    if dim != "P" and _MEANT_FOR_LABELS.fullmatch(dim):
        raise ValueError(f"the files have no dimension {dim}: they have {', '.join(files[0].dims)}")
    for file in files:
        if dim in file.labels or dim == "image":
            raise ValueError(f"{dim!r} is a variable of {file.name}; call the dimension otherwise")
    attrs = {"long_name": "file"}
    return [
        replace(file, new_dim=dim).relabelled(**{dim: xr.Variable((dim,), [file.name], attrs)})
        for file in files
    ]


def _with_time(file: FileImage) -> FileImage:
    """A file without a time loop, as the one time point that it is."""
    of_frames = {
        name: file.labels[name].set_dims(("T", *file.labels[name].dims))
        for name in _OF_FRAMES
        if name in file.labels
    }
    attrs = {"long_name": "time", "units": "s", "axis": "T"}
    label = xr.Variable(("T",), np.zeros(1), attrs)
    return replace(file, new_dim="T").relabelled(T=label, **of_frames)


def _in_time(files: Sequence[FileImage]) -> list[FileImage]:
    """Files in the order of their dates, where T and time go on since the first frame of all."""
    is_timed = any(
        file.labels["T"].attrs.get("units") == "s" or "time" in file.labels for file in files
    )
    dated = [(file, file.first_date()) for file in files]
    lacking = [file.name for file, date in dated if date is None]
    if lacking and is_timed and len(files) > 1:
        raise ValueError(
            f"{lacking[0]} does not say when it was taken, so it cannot be joined along T with others"
        )
    ordered = list(files)
    if not lacking:
        dates = np.array([date for _, date in dated], "M8[ns]")
        seconds = (dates - dates.min()).astype(np.int64) / 1e9
        order = np.argsort(seconds, kind="stable")
        ordered = [_later(files[at], float(seconds[at])) for at in order]
    if ordered[0].labels["T"].attrs.get("units") != "s":
        return _counted_on(ordered, "T")
    for before, after in pairwise(ordered):
        ends, begins = before.labels["T"].values[-1], after.labels["T"].values[0]
        if not begins > ends:
            raise ValueError(
                f"{after.name} begins before {before.name} ends, {begins:.6g} s and {ends:.6g} s "
                "after the first frame of all: they cannot be joined along T"
            )
    if len(files) == 1:
        return ordered
    comment = "since the first frame of all files; each file begins at its date"
    return [_commented(file, "T", comment) for file in ordered]


def _later(file: FileImage, seconds: float) -> FileImage:
    shifted = {name: _shifted(file, name, seconds) for name in ("T", "time") if name in file.labels}
    return file.relabelled(**shifted)


def _shifted(file: FileImage, name: str, by: float) -> xr.Variable:
    label = file.labels[name]
    return xr.Variable(label.dims, rounded(label.values + by), label.attrs) if by else label


def _commented(file: FileImage, name: str, comment: str) -> FileImage:
    label = file.labels[name].copy(deep=False)
    label.attrs = {**label.attrs, "comment": comment}
    return file.relabelled(**{name: label})


def _counted_on(files: Sequence[FileImage], dim: str) -> list[FileImage]:
    """Files whose numbers of steps go on."""
    numbered, begin = [], 0
    for file in files:
        label = file.labels[dim]
        numbers = np.arange(begin, begin + label.size, dtype=label.dtype)
        numbered.append(file.relabelled(**{dim: xr.Variable((dim,), numbers, label.attrs)}))
        begin += label.size
    return numbered


def _with_distinct_names(files: Sequence[FileImage], dim: str) -> list[FileImage]:
    """Files whose names of positions or channels are made distinct."""
    names = distinct_names([str(name) for file in files for name in file.labels[dim].values])
    renamed, begin = [], 0
    for file in files:
        label = file.labels[dim]
        own = np.array(names[begin : begin + label.size], np.str_)
        renamed.append(file.relabelled(**{dim: xr.Variable((dim,), own, label.attrs)}))
        begin += label.size
    return renamed


def _by_height(files: Sequence[FileImage]) -> Sequence[FileImage]:
    """Files whose Z is from the home plane of the first, where all tell how high the stage was."""
    homes = [_home_height(file) for file in files]
    known = [home for home in homes if home is not None]
    if len(known) < len(files) or len(files) == 1:
        return files
    first = files[0].labels["Z"].attrs
    moved = []
    for file, home in zip(files, known, strict=True):
        label = _shifted(file, "Z", float(rounded(home - known[0]))).copy(deep=False)
        # The number of the home plane is that of the first file, which comes first.
        attrs: dict[str, Any] = {**label.attrs, "comment": "from the home plane of the first file"}
        attrs.pop("home_index", None)
        if "home_index" in first:
            attrs["home_index"] = first["home_index"]
        label.attrs = attrs
        moved.append(file.relabelled(Z=label))
    return moved


def _home_height(file: FileImage) -> float | None:
    """Height of the stage at Z = 0; None if it is not known, or not the same everywhere."""
    height, z = file.labels.get("stage_z"), file.labels["Z"]
    if height is None or "Z" not in height.dims or z.attrs.get("units") == "1":
        return None
    homes: NDArray[np.float64] = (height - z).values
    home = float(np.median(homes))
    steps = np.abs(np.diff(z.values))
    limit = MAX_LABEL_DEVIATION * steps.min() if steps.size else 0.0
    return home if (np.abs(homes - home) <= limit).all() else None


def _check_monotonic(files: Sequence[FileImage], dim: str) -> None:
    values = np.concatenate([file.labels[dim].values for file in files])
    falls = values[-1] < values[0]
    for before, after in pairwise(files):
        ends, begins = before.labels[dim].values[-1], after.labels[dim].values[0]
        if not (begins < ends if falls else begins > ends):
            raise ValueError(
                f"{before.name} ends at {dim} = {ends:.6g} and {after.name} begins at {begins:.6g}: "
                f"they overlap, or are in no order, and cannot be joined along {dim}"
            )
    steps = np.diff(values)
    if not ((steps > 0).all() or (steps < 0).all()):
        raise ValueError(
            f"{dim} rises in some of the files and falls in others, so they cannot be joined along it"
        )
