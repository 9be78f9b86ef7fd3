"""The pixels of one frame as a file of a cache: a mark, a checksum of each row, and the rows.

Each row has a checksum of its own, so that a crop is checked by reading no more than its rows.
"""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any, Final

import numpy as np

try:
    from isal.isal_zlib import crc32
except ImportError:  # no wheel for this machine
    from zlib import crc32

if TYPE_CHECKING:
    from numpy.typing import NDArray

FRAME_FILE_MARK: Final = b"XND2FRM1"
"""The first bytes of the file; another number at its end means another order of what follows."""

_CHECKSUM_DTYPE: Final = np.dtype("<u4")


def header_bytes(height: int) -> int:
    """Bytes before the first row, in the file of a frame of so many rows."""
    return len(FRAME_FILE_MARK) + (height + 1) * _CHECKSUM_DTYPE.itemsize


def frame_file_parts(pixels: NDArray[Any]) -> tuple[bytes, memoryview]:
    """Header and rows of the file of a frame, an array of shape (C, Y, X, S).

    In a row the components of a pixel lie side by side, as in an ND2.
    """
    by_row = np.ascontiguousarray(pixels.transpose(1, 2, 0, 3))
    rows = by_row.reshape(len(by_row), -1).view(np.uint8)
    checksums = np.array([*map(crc32, rows)], _CHECKSUM_DTYPE).tobytes()
    header = (
        FRAME_FILE_MARK + checksums + crc32(checksums).to_bytes(_CHECKSUM_DTYPE.itemsize, "little")
    )
    return header, rows.reshape(-1).data


def read_checksums(header: bytes, height: int) -> NDArray[np.uint32] | None:
    """The checksums of rows in a header; None where it is damaged or of another kind of file."""
    at, end = len(FRAME_FILE_MARK), header_bytes(height) - _CHECKSUM_DTYPE.itemsize
    if len(header) != header_bytes(height) or header[:at] != FRAME_FILE_MARK:
        return None
    if crc32(header[at:end]) != int.from_bytes(header[end:], "little"):
        return None
    return np.frombuffer(header, _CHECKSUM_DTYPE, height, at)


def are_sound(rows: NDArray[np.uint8], checksums: NDArray[np.uint32]) -> bool:
    """Whether rows, shape (n, bytes of a row), have their checksums, shape (n,)."""
    return all(map(operator.eq, map(crc32, rows), checksums.tolist()))
