"""From what was opened to the datasets of xarray: the image, the root, and the groups."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
import xarray as xr
from xarray.core import indexing

from xarray_nd2.array import ND2BackendArray
from xarray_nd2.format.layout import MISSING_OFFSET, FrameLayout
from xarray_nd2.format.mask_planes import MaskPlanes
from xarray_nd2.guard import REGIONS_ARE_SLOW, going_on_without, warn_user
from xarray_nd2.io.urls import file_name
from xarray_nd2.keeping.whole_frames import NOTHING_KEPT, Keeping
from xarray_nd2.mask_array import ND2MaskArray
from xarray_nd2.read.blocks import preferred_blocks

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from xarray_nd2.metadata.group import Group
    from xarray_nd2.metadata.label import Coordinate
    from xarray_nd2.open.opening import OpenedFile

MissingFrames = Literal["zeros", "raise"]
_IDENTIFYING_ATTRS: Final = ("title", "source", "rescued")  # also of a group


@dataclass(frozen=True)
class ReadOptions:
    """How pixels are read, as `ND2BackendArray` takes it."""

    max_gap: int | None
    max_concurrency: int
    missing_frames: MissingFrames
    keeping: Keeping = NOTHING_KEPT


def warn_of_opening(opened: OpenedFile) -> None:
    """Warn of a file that was rescued, and of odd metadata, whatever of the file is shown."""
    if opened.rescued:
        warn_user(f"{opened.source.name}: {opened.rescued}")
    if opened.oddities:
        warn_user(f"{opened.source.name}: some of the metadata is odd: {opened.oddities}")


def image_dataset(opened: OpenedFile, options: ReadOptions) -> xr.Dataset:
    """The image under its labels, with the attributes of the file.

    Warns
    -----
    UserWarning
        Frames are missing.
    """
    layout, metadata = opened.layout, opened.metadata
    _warn_of_missing(opened, options, layout, "frames")
    coordinates = metadata.coordinates | _validity(layout)
    image = (layout.dims, layout, metadata.image_attrs)
    return _dataset(opened, options, {"image": image}, coordinates, file_attrs(opened))


def root_dataset(opened: OpenedFile, options: ReadOptions) -> xr.Dataset:
    """The attributes of the file and nothing else."""
    return _dataset(opened, options, {}, {}, file_attrs(opened))


def group_dataset(
    opened: OpenedFile, options: ReadOptions, name: str, group: Group, *, beside_image: bool
) -> xr.Dataset:
    """A group; what of it is not read on demand is in memory.

    Parameters
    ----------
    opened, options, name, group
        The file, how it is read, and the group.
    beside_image : bool
        Whether the image is opened too, so that frames which both lack have been told of.

    Warns
    -----
    UserWarning
        Some of it is odd, or frames of it are missing.
    """
    if group.oddities:
        warn_user(f"{opened.source.name}: some of the group {name} is odd: {group.oddities}")
    layouts = [each for _, each, _ in group.variables.values() if isinstance(each, FrameLayout)]
    for layout in layouts:
        told = beside_image and np.array_equal(_missing(layout), _missing(opened.layout))
        if not told:
            _warn_of_missing(opened, options, layout, f"frames of the group {name}")
    along_loops = {name for name, _ in opened.layout.loops} <= {
        dim for dims, _, _ in group.variables.values() for dim in dims
    }
    coordinates = dict(group.coordinates)
    for layout in layouts or [opened.layout] * along_loops:
        coordinates |= _validity(layout)
    attrs = {key: value for key, value in file_attrs(opened).items() if key in _IDENTIFYING_ATTRS}
    return _dataset(opened, options, group.variables, coordinates, attrs | group.attrs)


def file_attrs(opened: OpenedFile) -> dict[str, Any]:
    """The attributes of the file."""
    name = opened.source.name
    attrs: dict[str, Any] = {
        "title": file_name(name),
        "source": name,
        "file_bytes": opened.source.size,
    }
    if opened.rescued:
        attrs["rescued"] = opened.rescued
    return attrs | opened.metadata.file_attrs


def _missing(layout: FrameLayout) -> NDArray[np.bool_]:
    """Which frames the file does not have."""
    missing: NDArray[np.bool_] = layout.offsets.values() == MISSING_OFFSET
    return missing


def _warn_of_missing(
    opened: OpenedFile, options: ReadOptions, layout: FrameLayout, what: str
) -> None:
    missing = np.count_nonzero(_missing(layout))
    if missing:
        how = "read as zeros" if options.missing_frames == "zeros" else "cannot be read"
        warn_user(
            f"{opened.source.name}: {missing} of {layout.frame_count} {what} are not in the file "
            f"and {how}; see the coordinate frame_valid",
        )


def _validity(layout: FrameLayout) -> dict[str, Coordinate]:
    """The coordinate that tells which frames there are, where some are missing."""
    missing = _missing(layout)
    if not missing.any():
        return {}
    dims = tuple(name for name, _ in layout.loops)
    attrs = {"long_name": "whether the file has the frame"}
    return {"frame_valid": (dims, ~missing.reshape(layout.loop_shape), attrs)}


def _dataset(
    opened: OpenedFile,
    options: ReadOptions,
    variables: dict[str, Coordinate],
    coordinates: dict[str, Coordinate],
    attrs: dict[str, Any],
) -> xr.Dataset:
    made = {name: _variable(opened, options, *given) for name, given in variables.items()}
    dataset = xr.Dataset(made, coords=coordinates, attrs=attrs)
    # Set here so that xarray does not put a signed URL there.
    dataset.encoding["source"] = opened.source.name
    return dataset


def _variable(
    opened: OpenedFile,
    options: ReadOptions,
    dims: tuple[str, ...],
    values: Any,
    attrs: dict[str, Any],
) -> xr.Variable:
    """A variable of values, or of pixels that are read on demand where they are a layout or planes."""
    if isinstance(values, MaskPlanes):
        blocks = preferred_blocks(values.grid)
        encoding = {"preferred_chunks": {dim: blocks[dim] for dim in dims}}
        masks = ND2MaskArray(opened.source, values, options.max_concurrency)
        return xr.Variable(dims, _lazy(masks), attrs, encoding)
    if not isinstance(values, FrameLayout):
        return xr.Variable(dims, values, attrs)
    array = ND2BackendArray(
        opened.source,
        values,
        options.max_gap,
        options.max_concurrency,
        options.missing_frames,
        options.keeping,
    )
    encoding = {"preferred_chunks": preferred_blocks(values)}
    return xr.Variable(dims, _lazy(array), attrs, encoding)


def _lazy(array: ND2BackendArray | ND2MaskArray) -> indexing.LazilyIndexedArray:
    lazy = indexing.LazilyIndexedArray
    with going_on_without(REGIONS_ARE_SLOW):
        from xarray_nd2.lazy_chain import LazyImage as lazy  # noqa: N813
    return lazy(array)
