"""Embedded pyramids: the same frames with a half, a quarter… of their rows and columns."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np

from xarray_nd2.testing.checks import raise_unless, raise_unless_one_of
from xarray_nd2.testing.image import stored_frames

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from xarray_nd2.testing.chunks import ChunkWriter
    from xarray_nd2.testing.image import Image

__all__ = ["Levels", "append_levels", "stored_levels"]

StoredFrames: TypeAlias = Iterator[tuple[int, bytes | memoryview]]

_LARGEST_SIZE_WITHOUT_LEVEL = 512
_ROW_ALIGNMENT_BYTES = 4


@dataclass(frozen=True)
class Levels:
    """How many levels a file has, and how they are made.

    Parameters
    ----------
    count : int
        Levels; each has half as many rows and columns as the one before, rounded down.
    downsampling : {"stride", "mean"}, optional
        Every second pixel, or the mean of each two by two of them, rounded down, as the vendor's
        generator has it.
    """

    count: int
    downsampling: Literal["stride", "mean"] = "stride"


def stored_levels(
    image: Image, levels: Levels | int, order: Sequence[int], absent: set[int]
) -> dict[str, StoredFrames]:
    """The frames of each level as they lie in the file, by the name of their chunks.

    Parameters
    ----------
    image : Image
        What is downsampled.
    levels : Levels or int
        How many levels, and how they are made.
    order, absent
        As of `stored_frames`.

    Raises
    ------
    ValueError
        If the format has fewer levels for an image of this size.
    """
    asked = Levels(levels) if isinstance(levels, int) else levels
    raise_unless_one_of("downsampling", asked.downsampling, ["stride", "mean"])
    size = 1
    while size < max(image.sizes["Y"], image.sizes["X"]):
        size *= 2
    found: dict[str, StoredFrames] = {}
    for number in range(1, asked.count + 1):
        size //= 2
        image = _halved(image, asked.downsampling)
        raise_unless(
            size > _LARGEST_SIZE_WITHOUT_LEVEL and min(image.sizes["Y"], image.sizes["X"]) > 0,
            f"the image is too small for {asked.count} levels, it has {number - 1}",
        )
        stride = -(-image.row_bytes // _ROW_ALIGNMENT_BYTES) * _ROW_ALIGNMENT_BYTES
        name = f"CustomDataSeq|DownsampledColorData_{size}"
        found[name] = stored_frames(image, order, stride, None, 0, absent)
    return found


def append_levels(chunks: ChunkWriter, pyramid: dict[str, StoredFrames], i: int) -> None:
    """Write the levels of frame `i`, the next one that each of them has."""
    for name, frames in pyramid.items():
        chunks.append(f"{name}|{i}!", next(frames)[1])


def _halved(image: Image, downsampling: str) -> Image:
    """The image with half of its rows and columns."""
    height, width = image.sizes["Y"] // 2, image.sizes["X"] // 2
    sizes = dict(image.sizes) | {"Y": height, "X": width}
    shape = (image.channel_count, height, width, image.sample_count)
    given = tuple(n for dim, n in sizes.items() if dim in ("C", "Y", "X", "S"))

    def source(i: int) -> NDArray[Any]:
        pixels = image.frame(i)[:, : 2 * height, : 2 * width]
        if downsampling == "stride":
            halved = pixels[:, ::2, ::2]
        else:
            wide = pixels.astype(np.float64 if image.dtype.kind == "f" else np.int64)
            total = wide.reshape(shape[0], height, 2, width, 2, shape[3]).sum(axis=(2, 4))
            halved = (total / 4 if image.dtype.kind == "f" else total // 4).astype(image.dtype)
        return halved.reshape(given)

    return replace(image, sizes=sizes, source=source)
