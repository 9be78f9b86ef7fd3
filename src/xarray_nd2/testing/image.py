"""The pixels to write: their sizes and dtype checked, then one frame after another as stored.

A stored frame is (Y, X, component), little-endian, where component = channel and sample with the
sample running faster, and where each row may be padded. Colour is given as Red, Green, Blue(,
Alpha) and stored as Blue, Green, Red(, Alpha).
"""

from __future__ import annotations

import math
import re
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from xarray_nd2.testing.checks import raise_unless

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from numpy.typing import ArrayLike, DTypeLike, NDArray

__all__ = [
    "Image",
    "checked_image",
    "loop_dims",
    "stored_components",
    "stored_frames",
]

_LOOP_KINDS = "TPZU"
_DIMS_PATTERN = re.compile("([TPZU][2-9]? )*(C )?Y X( S)?")  # separated by spaces
_STORED_COLOURS = (2, 1, 0, 3)  # of Red, Green, Blue and Alpha
_WRITABLE_DTYPES = ["u1", "u2", "u4", "i1", "i2", "i4", "f2", "f4", "f8"]


@dataclass(frozen=True)
class Image:
    """Pixels of known sizes and dtype, produced frame by frame.

    Attributes
    ----------
    sizes : mapping of str to int
        Size of each dimension, in their order.
    dtype : numpy.dtype
        Of the pixels.
    source : callable
        ``source(i)`` gives the pixels of frame ``i``.
    """

    sizes: Mapping[str, int]
    dtype: np.dtype[Any]
    source: Callable[[int], NDArray[Any]]

    @property
    def frame_count(self) -> int:
        """Frames of the experiment, absent ones too."""
        return math.prod(self.sizes[dim] for dim in loop_dims(self.sizes))

    @property
    def channel_count(self) -> int:
        """Positions along C."""
        return self.sizes.get("C", 1)

    @property
    def sample_count(self) -> int:
        """Samples of a channel: 1, or 3 or 4 for RGB or RGBA."""
        return self.sizes.get("S", 1)

    @property
    def component_count(self) -> int:
        """Values of a pixel."""
        return self.channel_count * self.sample_count

    @property
    def row_bytes(self) -> int:
        """Bytes of a row without padding."""
        return self.sizes["X"] * self.component_count * self.dtype.itemsize

    def frame(self, i: int) -> NDArray[Any]:
        """Pixels of frame `i` as (channel, Y, X, sample).

        Raises
        ------
        ValueError
            If the source gives another shape or dtype.
        """
        pixels = self.source(i)
        asked = tuple(n for dim, n in self.sizes.items() if dim[0] not in _LOOP_KINDS)
        shapes = [asked] if "C" in self.sizes else [asked, (1, *asked)]
        if pixels.shape not in shapes or pixels.dtype != self.dtype:
            raise ValueError(f"frame {i} is {pixels.dtype}{pixels.shape}, not {self.dtype}{asked}")
        return pixels.reshape(
            self.channel_count, self.sizes["Y"], self.sizes["X"], self.sample_count
        )


def loop_dims(dims: Mapping[str, int] | Sequence[str], kinds: str = _LOOP_KINDS) -> list[str]:
    """Those of `dims` that are loops of some kinds, in their order."""
    return [dim for dim in dims if dim[0] in kinds]


def stored_components(planes: Sequence[int]) -> list[int]:
    """For each component of a file the one that is given for it.

    Parameters
    ----------
    planes : sequence of int
        Components of each channel: 1, or 3 or 4 for colour.
    """
    order: list[int] = []
    for count in planes:
        colours = _STORED_COLOURS[:count] if count > 1 else (0,)
        order += [len(order) + given for given in colours]
    return order


def checked_image(
    data: ArrayLike | Callable[[int], ArrayLike],
    dims: str | Sequence[str],
    sizes: Mapping[str, int] | None,
    dtype: DTypeLike | None,
) -> Image:
    """Image of checked sizes and dtype.

    Parameters
    ----------
    data, dims, sizes, dtype
        As `write_nd2` takes them.

    Returns
    -------
    Image

    Raises
    ------
    ValueError
        If they contradict each other or the format.
    """
    known = _DIMS_PATTERN.fullmatch(" ".join(dims)) is not None
    raise_unless(
        known and len(set(dims)) == len(dims),
        f"dims must be some of T, P, Z, U (T2… for a second loop of a kind), then C (optional), "
        f"Y, X, then S (optional), not {dims!r}",
    )
    if callable(data):
        if sizes is None or dtype is None:
            raise ValueError("a callable needs sizes and dtype")
        image = Image(
            {dim: int(n) for dim, n in sizes.items()},
            np.dtype(dtype),
            lambda i: np.asarray(data(i)),
        )
    else:
        array = np.asarray(data)
        raise_unless(array.ndim == len(dims), f"data has {array.ndim} axes, dims are {dims!r}")
        found = dict(zip(dims, array.shape, strict=True))
        raise_unless(sizes is None or dict(sizes) == found, f"data has {found}, not sizes {sizes}")
        raise_unless(
            dtype is None or np.dtype(dtype) == array.dtype, f"data has {array.dtype}, not {dtype}"
        )
        shape = tuple(found[dim] for dim in loop_dims(dims))
        image = Image(found, array.dtype, lambda i: array[np.unravel_index(i, shape)])
    raise_unless(
        list(image.sizes) == list(dims), f"sizes are of {list(image.sizes)}, dims are {dims!r}"
    )
    raise_unless(min(image.sizes.values()) >= 1, f"every size must be at least 1: {image.sizes}")
    raise_unless(image.sizes.get("S", 3) in (3, 4), f"S must be 3 or 4, not {image.sample_count}")
    raise_unless(
        image.dtype.newbyteorder("<") in _WRITABLE_DTYPES, f"ND2 files hold no {image.dtype}"
    )
    return image


def stored_frames(
    image: Image,
    order: Sequence[int],
    row_stride: int,
    compression: str | None,
    level: int,
    absent: set[int],
) -> Iterator[tuple[int, bytes | memoryview]]:
    """Frames as they lie in the file.

    Parameters
    ----------
    image : Image
        What to store.
    order : sequence of int
        For each component of the file the one that is given for it.
    row_stride : int
        Bytes from one row to the next.
    compression : {"lossless", "lossy"} or None
        How to compress each frame; lossy ones are junk.
    level : int
        Of lossless compression, 0 to 9.
    absent : set of int
        Frames to leave out.

    Yields
    ------
    int, bytes or memoryview
        Number of a frame and its bytes, which are valid until the next frame is asked for.
    """
    height, width = image.sizes["Y"], image.sizes["X"]
    rows = np.zeros((height, row_stride), np.uint8)
    stored = rows[:, : image.row_bytes].view(image.dtype.newbyteorder("<"))
    pixels = stored.reshape(height, width, image.component_count)
    for i in range(image.frame_count):
        if i in absent:
            continue
        if compression == "lossy":
            yield i, b"\xa5" * max(1, rows.size // 8)
            continue
        planes = image.frame(i)
        for component, given in enumerate(order):  # several times faster than all at once
            channel, sample = divmod(given, image.sample_count)
            pixels[:, :, component] = planes[channel, :, :, sample]
        yield i, rows.data.cast("B") if compression is None else zlib.compress(rows.data, level)
