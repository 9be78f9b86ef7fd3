"""Frames as chunks of a Zarr array: which shape they have, how they are decoded, where they lie.

A chunk of Zarr is decoded to pixels by codecs that know nothing of ND2. Rows that are padded become
chunks that are wider than the array, of which Zarr leaves out what is beyond its edge.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from xarray_nd2.errors import ND2FormatError, ND2UnsupportedError
from xarray_nd2.format.layout import MISSING_OFFSET

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from xarray_nd2.format.layout import FrameLayout


@dataclass(frozen=True, eq=False, slots=True)
class PixelChunks:
    """An image as chunks of a Zarr array.

    Attributes
    ----------
    dims : tuple of str
        Names of the dimensions.
    shape, chunk_shape : tuple of int
        Of the array, and of each chunk; a chunk may be wider than the array.
    order : tuple of int
        Dimensions in the order in which a chunk stores them; empty where that is theirs.
    is_zlib : bool
        Whether each chunk is a zlib stream.
    offsets, lengths : ndarray of int64, in the shape of the grid of chunks
        First byte in the file and number of bytes of each chunk; `MISSING_OFFSET` where the file
        does not have it.
    """

    dims: tuple[str, ...]
    shape: tuple[int, ...]
    chunk_shape: tuple[int, ...]
    order: tuple[int, ...]
    is_zlib: bool
    offsets: NDArray[np.int64]
    lengths: NDArray[np.int64]


def pixel_chunks(layout: FrameLayout, file_bytes: int, *, stored_order: bool) -> PixelChunks:
    """Describe an image as chunks.

    Parameters
    ----------
    layout : FrameLayout
        Of the image.
    file_bytes : int
        Size of the file.
    stored_order : bool
        Keep Y, X, C(, S) as they are stored, so that no codec has to transpose a chunk.

    Raises
    ------
    ND2FormatError
        A frame is not where the file says.
    ND2UnsupportedError
        The rows of lossless frames end amid a pixel, which no codec can leave out; or a legacy file.
    """
    if layout.compression == "jpeg2000":
        raise ND2UnsupportedError(
            "it is a legacy file, whose frames are boxes of JPEG 2000 that no codec of Zarr decodes. "
            'Save a copy instead: xr.open_dataset(url, engine="nd2", chunks={}).to_zarr(path)'
        )
    offsets, lengths = _frame_ranges(layout, file_bytes)
    rows = layout.height
    width, rest = divmod(layout.row_stride_bytes, layout.pixel_bytes)
    if rest and layout.compression == "lossless":
        raise ND2UnsupportedError(
            f"its rows take {layout.row_stride_bytes} bytes, which is no whole number of pixels of "
            f"{layout.pixel_bytes} bytes, and its frames are compressed; no chunk of Zarr can be "
            "made of these. Save a copy instead: "
            'xr.open_dataset(url, engine="nd2", chunks={}).to_zarr(path)'
        )
    if rest:  # one chunk a row, without what fills it up
        rows, width = 1, layout.width
        starts = np.arange(layout.height) * layout.row_stride_bytes
        offsets = np.where(
            offsets[:, None] == MISSING_OFFSET, MISSING_OFFSET, offsets[:, None] + starts
        )
        lengths = np.full(offsets.shape, layout.width * layout.pixel_bytes, np.int64)

    sizes = layout.sizes
    chunk_sizes = dict.fromkeys(sizes, 1) | {"C": layout.channels, "Y": rows, "X": width}
    if "S" in sizes:
        chunk_sizes["S"] = layout.samples
    dims = stored = _stored_dims(layout)
    if not stored_order:
        dims = layout.dims
    grid = [-(-sizes[dim] // chunk_sizes[dim]) for dim in dims]
    # An axis of one element can be anywhere.
    order = () if layout.channels == 1 else tuple(dims.index(dim) for dim in stored)
    return PixelChunks(
        dims=dims,
        shape=tuple(sizes[dim] for dim in dims),
        chunk_shape=tuple(chunk_sizes[dim] for dim in dims),
        order=() if order == tuple(range(len(dims))) else order,
        is_zlib=layout.compression == "lossless",
        offsets=offsets.reshape(grid),
        lengths=lengths.reshape(grid),
    )


def _stored_dims(layout: FrameLayout) -> tuple[str, ...]:
    """Dimensions of an image as its frames are stored: colour last, before it the channels."""
    loops = tuple(name for name, _ in layout.loops)
    return (*loops, "Y", "X", "C") + (("S",) if layout.samples > 1 else ())


def _frame_ranges(
    layout: FrameLayout, file_bytes: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """First byte and number of bytes of each frame, shape (frames,), all of them in the file."""
    offsets, stored = layout.offsets.values(), layout.lengths.values()
    present = offsets != MISSING_OFFSET
    least = layout.frame_bytes if layout.compression == "none" else 1
    short = np.flatnonzero(present & (stored < least))
    if len(short):
        number = int(short[0])
        raise ND2FormatError(
            f"frame {number} has {max(0, int(stored[number]))} bytes in the file that are certain, "
            f"fewer than its {least}, so no reference to it can be made"
        )
    lengths = np.full_like(stored, least) if layout.compression == "none" else stored
    outside = np.flatnonzero(present & (offsets + lengths > file_bytes))
    if len(outside):
        number = int(outside[0])
        raise ND2FormatError(
            f"frame {number} is said to lie at bytes {offsets[number]}-"
            f"{offsets[number] + lengths[number]} of {file_bytes}"
        )
    return offsets, lengths
