"""A TIFF that is written plane by plane, and has its name only when it is whole."""

from __future__ import annotations

import math
import operator
import os
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from xarray_nd2 import __version__

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType
    from typing import Self

    from numpy.typing import NDArray

PART_ENDING: Final = ".part"
_LOSSLESS_COMPRESSIONS: Final = (None, "zlib", "zstd")
_TILE_UNIT_PIXELS: Final = 16
_MAX_CLASSIC_BYTES: Final = 2**32 - 2**25  # offsets have 32 bits; the rest is a margin
_DIRECTORY_BYTES: Final = 512  # at most, without what it says of each tile or strip
_LEAST_SEGMENT_BYTES: Final = 256  # a tile of 16 x 16 pixels of one byte
_SEGMENT_BYTES: Final = 32  # offset and length of a tile or strip, and what compression may add
_COLOR_SAMPLES: Final = 3


@dataclass(frozen=True)
class PlaneFormat:
    """How planes are stored.

    Attributes
    ----------
    compression : {None, "zlib", "zstd"}
        Without loss.
    tile : (int, int) or None
        Height and width of tiles, in pixels; None for strips.
    levels : int
        Smaller images beside each plane.

    Raises
    ------
    ImportError
        The package for a compression is missing.
    TypeError, ValueError
        One of them is not what it may be.
    """

    compression: str | None
    tile: tuple[int, int] | None
    levels: int

    def __post_init__(self) -> None:
        if self.compression not in _LOSSLESS_COMPRESSIONS:
            known = ", ".join(map(repr, _LOSSLESS_COMPRESSIONS))
            raise ValueError(f"compression must be one of {known}, not {self.compression!r}")
        if self.compression == "zstd" and find_spec("imagecodecs") is None:
            raise ImportError("compression 'zstd' needs: pip install imagecodecs")
        if self.tile is not None and not (
            len(self.tile) == 2
            and all(operator.index(n) > 0 and n % _TILE_UNIT_PIXELS == 0 for n in self.tile)
        ):
            raise ValueError(
                f"tile must be two multiples of {_TILE_UNIT_PIXELS}, height and width, "
                f"not {self.tile!r}"
            )
        if operator.index(self.levels) < 0:
            raise ValueError(f"levels must be at least 0, not {self.levels}")

    def check_size(self, height: int, width: int) -> None:
        """Raise ValueError if the smallest level would have no pixels."""
        if min(height, width) >> self.levels < 1:
            raise ValueError(f"planes of {height} x {width} pixels have no {self.levels} levels")


class PlaneWriter:
    """A file to which planes are appended; use it in a ``with`` statement.

    It is called `path` with ``.part`` behind until the end of the block. If the block fails it is
    removed.

    Parameters
    ----------
    path : Path
        What the file is called in the end.
    plane_format : PlaneFormat
        How planes are stored.
    description : bytes
        Of the first directory.
    plane_shape, dtype : tuple of int, numpy.dtype
        Of each plane: (Y, X) or (Y, X, S).
    plane_count : int
        Planes that will be written, levels not counted.

    Raises
    ------
    ImportError
        tifffile is missing.
    """

    def __init__(
        self,
        path: Path,
        plane_format: PlaneFormat,
        description: bytes,
        plane_shape: tuple[int, ...],
        dtype: np.dtype[Any],
        plane_count: int,
    ) -> None:
        try:
            import tifffile
        except ImportError as error:
            raise ImportError(
                "writing TIFF files needs tifffile: pip install 'xarray-nd2[export]'"
            ) from error
        self._path = path
        self._part = path.with_name(path.name + PART_ENDING)
        self._format = plane_format
        self._description: bytes | None = description
        largest = _largest_bytes(plane_format, plane_shape, dtype.itemsize, plane_count)
        largest += len(description)
        self._file = tifffile.TiffWriter(
            self._part, bigtiff=largest > _MAX_CLASSIC_BYTES, byteorder="<", ome=False, shaped=False
        )

    def __enter__(self) -> Self:
        return self

    def write(self, planes: NDArray[Any]) -> None:
        """Append planes.

        Parameters
        ----------
        planes : ndarray of shape (planes, Y, X) or (planes, Y, X, S)
            Their pixels.
        """
        self._append(planes, subifds=self._format.levels or None)
        for _ in range(self._format.levels):
            planes = half_size(planes)
            self._append(planes, subfiletype=1)

    def _append(self, planes: NDArray[Any], **options: Any) -> None:
        in_color = planes.ndim == 4
        description, self._description = self._description, None
        whole_numbers = planes.dtype.kind in "iu"
        self._file.write(
            planes,
            photometric="rgb" if in_color else "minisblack",
            planarconfig="contig" if in_color else None,
            extrasamples=["unassalpha"] * (planes.shape[3] - _COLOR_SAMPLES) if in_color else None,
            tile=self._format.tile,
            compression=self._format.compression,
            # Differences of neighbours compress better.
            predictor=whole_numbers if self._format.compression else None,
            description=description,
            software=f"xarray-nd2 {__version__}",
            metadata=None,
            **options,
        )

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._file.close()
        if kind is None:
            os.replace(self._part, self._path)  # noqa: PTH105
        else:
            self._part.unlink(missing_ok=True)


def half_size(planes: NDArray[Any]) -> NDArray[Any]:
    """Means of 2 x 2 pixels; of an odd size the last row or column is left out.

    Parameters
    ----------
    planes : ndarray of shape (planes, Y, X) or (planes, Y, X, S)
        Their pixels.

    Returns
    -------
    ndarray of shape (planes, Y // 2, X // 2) or (planes, Y // 2, X // 2, S)
        Of the same dtype; whole numbers are rounded, halves to the even one.

    Examples
    --------
    >>> half_size(np.array([[[1, 2, 9], [3, 4, 9]]], "uint8")).tolist()
    [[[2]]]
    """
    height, width = planes.shape[1] // 2 * 2, planes.shape[2] // 2 * 2
    # One plane after the other, so that no more than one is in memory in double precision.
    halves = np.empty((len(planes), height // 2, width // 2, *planes.shape[3:]), planes.dtype)
    for half, plane in zip(halves, planes, strict=True):
        corners = (plane[y:height:2, x:width:2] for y in (0, 1) for x in (0, 1))
        mean = sum((next(corners) for _ in range(3)), next(corners).astype(np.float64)) / 4
        half[...] = np.rint(mean) if planes.dtype.kind in "iu" else mean
    return halves


def _largest_bytes(
    plane_format: PlaneFormat, plane_shape: tuple[int, ...], itemsize: int, plane_count: int
) -> int:
    """At most so many bytes the planes have, should none become smaller by compression."""
    height, width, *samples = plane_shape
    plane_bytes = 0
    for level in range(1 + plane_format.levels):
        rows, columns = height >> level, width >> level
        if plane_format.tile is not None:
            rows, columns = (
                -(-size // unit) * unit
                for size, unit in zip((rows, columns), plane_format.tile, strict=True)
            )
        pixel_bytes = rows * columns * math.prod(samples) * itemsize
        segments = pixel_bytes // _LEAST_SEGMENT_BYTES + 1
        plane_bytes += pixel_bytes + segments * _SEGMENT_BYTES + _DIRECTORY_BYTES
    return plane_bytes * plane_count
