"""Joining the images of files along one dimension, with all that they are labelled by."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import xarray as xr

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from xarray_nd2.many.file_image import FileImage

FILE_COORDINATE: Final = "file"
# Of the first file, as the labels that these go with.
_ATTRS_OF_FIRST: Final = ("pixel_size_um",)


def join(files: Sequence[FileImage], dim: str) -> xr.Dataset:
    """Join files that fit together along all other dimensions.

    Parameters
    ----------
    files : sequence of FileImage
        In this order, all with `dim` and labels along it.
    dim : str
        Along which they are joined.

    Returns
    -------
    xarray.Dataset
        Along the other dimensions the labels are those of the first file. Other coordinates that
        are not the same in all files are along `dim` too.
    """
    first = files[0]
    image = xr.Variable.concat([file.image for file in files], dim)
    kept = {key: value for key, value in first.image.attrs.items() if key in _ATTRS_OF_FIRST}
    image.attrs = common_attrs([file.image.attrs for file in files]) | kept
    image.encoding = {}  # blocks that suit one file do not say more than the blocks that there are
    names = dict.fromkeys(name for file in files for name in file.labels)
    labels = {
        name: first.labels[name]
        if name in first.dims and name != dim
        else _joined(files, name, dim)
        for name in names
    }
    if FILE_COORDINATE not in labels:
        labels[FILE_COORDINATE] = _file_of_each_step(files, dim)
    return xr.Dataset({"image": image}, coords=labels, attrs=_file_attrs(files))


def common_attrs(all_attrs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Attributes that are the same everywhere."""
    return {
        key: value
        for key, value in all_attrs[0].items()
        if all(key in attrs and _is_same(attrs[key], value) for attrs in all_attrs[1:])
    }


def _is_same(one: Any, other: Any) -> bool:
    return type(one) is type(other) and bool(np.array_equal(one, other))


def _file_attrs(files: Sequence[FileImage]) -> dict[str, Any]:
    """Attributes that all files share, and when the first frame of all was taken."""
    attrs = common_attrs([file.attrs for file in files])
    if len(files) > 1:
        attrs.pop("file_bytes", None)  # of each alone, even if it is the same
    starts = [file.attrs["start"] for file in files if "start" in file.attrs]
    if len(starts) == len(files):
        # In the place that it has in one file, before what is long.
        early = {key: attrs.pop(key) for key in list(attrs) if key in ("format", "start")}
        attrs = {**early, "start": min(starts), **attrs}
    return attrs


def _file_of_each_step(files: Sequence[FileImage], dim: str) -> xr.Variable:
    names = np.array([file.name for file in files], np.str_)
    values = np.repeat(names, [file.sizes[dim] for file in files])
    return xr.Variable((dim,), values, {"long_name": "file"})


def _joined(files: Sequence[FileImage], name: str, dim: str) -> xr.Variable:
    """A coordinate of all files: one for all if it is the same, and else along the dimension."""
    there = [file.labels[name] for file in files if name in file.labels]
    attrs = common_attrs([label.attrs for label in there])
    dims = tuple(each for each in files[0].dims if any(each in label.dims for label in there))
    labels = [
        file.labels[name] if name in file.labels else _absent(name, file, dims, there)
        for file in files
    ]
    first = labels[0]
    if dim not in dims and all(_is_equal(first, label) for label in labels[1:]):
        return xr.Variable(first.dims, first.values, attrs)
    dims = tuple(each for each in files[0].dims if each in {*dims, dim})
    values = [
        label.set_dims({each: file.sizes[each] for each in dims}).transpose(*dims).values
        for label, file in zip(labels, files, strict=True)
    ]
    return xr.Variable(dims, np.concatenate(values, axis=dims.index(dim)), attrs)


def _is_equal(one: xr.Variable, other: xr.Variable) -> bool:
    if (one.dims, one.dtype, one.shape) != (other.dims, other.dtype, other.shape):
        return bool(one.equals(other))
    # Which is quick, and of most labels of most files.
    return one.values.tobytes() == other.values.tobytes() or bool(one.equals(other))


def _absent(
    name: str, file: FileImage, dims: tuple[str, ...], there: Sequence[xr.Variable]
) -> xr.Variable:
    """What stands for a coordinate in a file that does not have it."""
    kind = np.result_type(*(label.dtype for label in there))
    shape = tuple(file.sizes[dim] for dim in dims)
    values: NDArray[Any]
    if name == "frame_valid":  # is only where frames are missing
        values = np.ones(shape, np.bool_)
    elif kind.kind == "U":
        values = np.zeros(shape, kind)
    elif kind.kind == "M":
        values = np.full(shape, np.datetime64("NaT", "ns"))
    else:
        values = np.full(shape, np.nan)
    return xr.Variable(dims, values)
