"""An image as one OME-TIFF: read in parts, a few ahead, and written as they come."""

from __future__ import annotations

import math
import os
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import xarray as xr

from xarray_nd2.backend import ND2BackendEntrypoint
from xarray_nd2.export.ome_tiff_document import described_planes
from xarray_nd2.export.ome_tiff_file import PlaneFormat, PlaneWriter
from xarray_nd2.export.ome_tiff_parts import parts_of
from xarray_nd2.io.urls import is_local, local_path
from xarray_nd2.sampling.read_ahead import read_ahead

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from xarray_nd2.export.ome_tiff_parts import Part

_MAX_PART_BYTES: Final = 4 * 1024 * 1024  # of frames that are read together
_MAX_BYTES_AHEAD: Final = 64 * 1024 * 1024
_MAX_PARTS_AHEAD: Final = 8
_FRAME_DIMS: Final = ("C", "Y", "X", "S")
_STORED_TYPES: Final = {"float16": "float32"}  # which holds the same values, and has a word in OME
_FILE_ENDINGS: Final = (".tif", ".tiff")


def to_ome_tiff(
    source: Any,
    destination: str | os.PathLike[str],
    *,
    compression: str | None = None,
    tile: tuple[int, int] | None = None,
    levels: int = 0,
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
    storage_options: Mapping[str, Any] | None = None,
) -> Path:
    """Write an image as an OME-TIFF, with the metadata of `xarray_nd2.ome_metadata`.

    Frames are read a few ahead, each of them once with all of its channels, and written as they come:
    about three frames are in memory, or 64 MB of small ones. The file has one image, or series, for
    each position, and for each combination with the steps of loops that OME has no word for. It is a
    BigTIFF where its pixels may not fit into 4 GB.

    Parameters
    ----------
    source : str, os.PathLike, UPath, fsspec OpenFile, open binary file or xarray.Dataset
        What the backend can open, or an image that it has opened, whole or a selection of it such as
        ``ds.isel(T=slice(0, 3))``.
    destination : str or os.PathLike
        A local path that ends in ``.tif`` or ``.tiff``, best in ``.ome.tif``. Until all is written
        the file is called so with ``.part`` behind; what is left of an earlier run is replaced.
    compression : {None, "zlib", "zstd"}
        How planes are compressed, without loss. "zstd" needs the package imagecodecs.
    tile : (int, int), optional
        Height and width of tiles in pixels, both multiples of 16; strips of rows unless given.
    levels : int, default 0
        Smaller images of each plane to store beside it for viewers, each half as high and wide as the
        one before, of the means of 2 x 2 pixels.
    overwrite : bool, default False
        Replace a file that is there.
    progress : callable, optional
        Called with the number of frames written and of all frames, after each part.
    storage_options : mapping, optional
        Options of the filesystem of the source's URL, such as credentials.

    Returns
    -------
    pathlib.Path
        The file. Its pixels are as read, in colour red first; those of 16-bit floats have 32 bits,
        which hold the same values, since TIFF readers and OME do not know them. Frames that the
        source does not have are zeros, and have no time in the metadata.

    Warns
    -----
    UserWarning
        As when opening the file.

    Raises
    ------
    FileExistsError
        There is such a file, and `overwrite` is not set, or it is the source.
    FileNotFoundError, IsADirectoryError
        The folder to write to is not there, or the destination is a folder.
    ImportError
        tifffile is missing, or imagecodecs where it is needed; ``pip install 'xarray-nd2[export]'``.
    ND2UnsupportedError
        OME has no word for the type of the pixels, or the document would have too many images.
    ND2Error, TypeError, ValueError
        As when opening and reading the file; also if an argument is not what it may be.

    Examples
    --------
    >>> import io, tempfile
    >>> import numpy as np
    >>> from xarray_nd2.testing import write_nd2
    >>> file = io.BytesIO()
    >>> write_nd2(file, np.zeros((3, 2, 8, 8), "uint16"), "TCYX", channels=["DAPI", "GFP"])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = to_ome_tiff(file, f"{folder}/run.ome.tif")
    ...     path.name, path.stat().st_size > 3 * 2 * 8 * 8 * 2
    ('run.ome.tif', True)
    """
    path = _local_destination(destination)
    plane_format = PlaneFormat(compression, tile, levels)
    if not overwrite and os.path.lexists(path):
        raise FileExistsError(f"{path} is there; overwrite=True replaces it")
    dataset = _image_dataset(source, storage_options)
    image = dataset["image"].variable
    _check_is_not_source(path, dataset)
    plane_format.check_size(image.sizes["Y"], image.sizes["X"])

    loop_sizes = {str(dim): n for dim, n in image.sizes.items() if dim not in _FRAME_DIMS}
    image_sizes = {dim: size for dim, size in loop_sizes.items() if dim not in ("T", "Z")}
    plane_sizes = {dim: size for dim, size in loop_sizes.items() if dim in ("T", "Z")}
    frame_bytes = math.prod(image.sizes.get(dim, 1) for dim in _FRAME_DIMS) * image.dtype.itemsize
    part_frames = max(1, _MAX_PART_BYTES // frame_bytes)
    ahead = max(1, min(_MAX_PARTS_AHEAD, _MAX_BYTES_AHEAD // (part_frames * frame_bytes)))
    channels, total = image.sizes.get("C", 1), math.prod(loop_sizes.values())
    description = described_planes(dataset, math.prod(plane_sizes.values()) * channels)

    def read(part: Part) -> NDArray[Any]:
        return _planes(image, part)

    plane_shape = tuple(image.sizes[dim] for dim in _FRAME_DIMS[1:] if dim in image.sizes)
    stored = np.dtype(_STORED_TYPES.get(image.dtype.name, image.dtype))
    with (
        PlaneWriter(path, plane_format, description, plane_shape, stored, total * channels) as file,
        closing(
            read_ahead(read, parts_of(image_sizes, plane_sizes, part_frames), ahead, _nothing)
        ) as read_parts,
    ):
        done = 0
        for planes in read_parts:
            file.write(planes.astype(stored, copy=False))
            done += len(planes) // channels
            if progress is not None:
                progress(done, total)
    return path


def _local_destination(destination: str | os.PathLike[str]) -> Path:
    """Path to write to.

    Raises
    ------
    TypeError, ValueError
        It is no path of this machine, or of another ending.
    """
    name = os.fspath(destination)
    if not isinstance(name, str):
        raise TypeError(f"destination must be a path, not {type(destination).__name__}")
    if not is_local(name):
        raise ValueError("an OME-TIFF is written to a local path, not to a URL")
    path = Path(local_path(name)).absolute()
    if path.suffix.lower() not in _FILE_ENDINGS:
        raise ValueError(f"{path.name} does not end in {' or '.join(_FILE_ENDINGS)}")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{path.parent}: there is no such folder to write to")
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder, and is not replaced by a file")
    return path


def _check_is_not_source(path: Path, dataset: xr.Dataset) -> None:
    """Raise FileExistsError if the file that would be replaced is the one that is read."""
    source = dataset.encoding.get("source")
    if isinstance(source, str) and is_local(source) and path.exists():
        opened = Path(local_path(source))
        if opened.exists() and path.samefile(opened):
            raise FileExistsError(f"{path} is the source, and is not replaced")


def _image_dataset(source: Any, storage_options: Mapping[str, Any] | None) -> xr.Dataset:
    """A dataset with an image whose planes can be written."""
    if isinstance(source, xr.DataArray):
        raise TypeError("a DataArray has not all labels of the image: give the dataset it is of")
    if isinstance(source, xr.Dataset):
        if storage_options is not None:
            raise TypeError("storage_options are of a source to be opened, not of a dataset")
        dataset = source
    else:
        dataset = xr.open_dataset(
            source, engine=ND2BackendEntrypoint, storage_options=storage_options, cache=False
        )
    if "image" not in dataset.data_vars:
        raise ValueError("the dataset has no variable 'image'")
    sizes = dataset["image"].sizes
    if missing := [dim for dim in ("Y", "X") if dim not in sizes]:
        raise ValueError(f"the image has no dimension {' and '.join(missing)}, so it has no planes")
    if empty := [str(dim) for dim, size in sizes.items() if not size]:
        raise ValueError(f"nothing is selected along {' and '.join(empty)}")
    return dataset


def _planes(image: xr.Variable, part: Part) -> NDArray[Any]:
    """Pixels of a part, of shape (planes, Y, X) or (planes, Y, X, S)."""
    selected = image.isel(part)
    loops = [dim for dim in selected.dims if dim not in _FRAME_DIMS]
    frame = [dim for dim in _FRAME_DIMS if dim in selected.dims]
    pixels = selected.transpose(*loops, *frame).values
    plane_ndim = 2 + ("S" in frame)
    planes: NDArray[Any] = pixels.reshape(-1, *pixels.shape[pixels.ndim - plane_ndim :])
    return planes


def _nothing(_: Part) -> None:
    """Nothing is kept of what was handed out."""
