"""Frames as chunks: arithmetic alone, without VirtualiZarr."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from xarray_nd2 import ND2FormatError, ND2UnsupportedError
from xarray_nd2.format.layout import MISSING_OFFSET, FrameLayout, FrameTable
from xarray_nd2.virtual.chunks import pixel_chunks


def layout_of(offsets: Any, lengths: Any = 64, **shape: Any) -> FrameLayout:
    """A layout of frames along T, of 4 rows of 8 uint16 unless said otherwise."""
    starts = np.asarray(offsets, np.int64)
    stored = np.broadcast_to(np.asarray(lengths, np.int64), starts.shape)
    given: dict[str, Any] = {
        "loops": (("T", len(starts)),),
        "channels": 1,
        "height": 4,
        "width": 8,
        "samples": 1,
        "dtype": np.dtype("<u2"),
        "row_stride_bytes": 16,
        "compression": "none",
    } | shape
    offset_table, length_table = FrameTable.from_values(starts), FrameTable.from_values(stored)
    return FrameLayout(**given, offsets=offset_table, lengths=length_table)


def test_frames_are_chunks() -> None:
    chunks = pixel_chunks(layout_of([4096, MISSING_OFFSET]), 1 << 20, stored_order=False)
    assert chunks.dims == ("T", "C", "Y", "X")
    assert (chunks.shape, chunks.chunk_shape) == ((2, 1, 4, 8), (1, 1, 4, 8))
    assert chunks.offsets.ravel().tolist() == [4096, MISSING_OFFSET]
    assert chunks.lengths.ravel().tolist()[0] == 64
    assert (chunks.order, chunks.is_zlib) == ((), False)


def test_channels_are_transposed_or_left_in_stored_order() -> None:
    layout = layout_of([4096], 128, channels=2, row_stride_bytes=32)
    chunks = pixel_chunks(layout, 1 << 20, stored_order=False)
    assert (chunks.dims, chunks.order) == (("T", "C", "Y", "X"), (0, 2, 3, 1))
    chunks = pixel_chunks(layout, 1 << 20, stored_order=True)
    assert (chunks.dims, chunks.order) == (("T", "Y", "X", "C"), ())


def test_rows_as_chunks() -> None:
    layout = layout_of([4096, MISSING_OFFSET], 68, row_stride_bytes=17)
    chunks = pixel_chunks(layout, 1 << 20, stored_order=False)
    assert chunks.offsets.shape == (2, 1, 4, 1)
    assert chunks.offsets[0].ravel().tolist() == [4096, 4113, 4130, 4147]
    assert (chunks.offsets[1] == MISSING_OFFSET).all()
    assert (chunks.lengths == 16).all()


def test_lossless_frames_have_the_length_that_is_stored() -> None:
    layout = layout_of([4096, 8192], [31, 45], row_stride_bytes=20, compression="lossless")
    chunks = pixel_chunks(layout, 1 << 20, stored_order=False)
    assert chunks.is_zlib
    assert chunks.chunk_shape == (1, 1, 4, 10)
    assert chunks.lengths.ravel().tolist() == [31, 45]


def test_refusals() -> None:
    lossless = layout_of([4096], row_stride_bytes=17, compression="lossless")
    with pytest.raises(ND2UnsupportedError, match="17 bytes"):
        pixel_chunks(lossless, 1 << 20, stored_order=False)
    with pytest.raises(ND2FormatError, match="frame 1 has 10 bytes"):
        pixel_chunks(layout_of([4096, 8192], [64, 10]), 1 << 20, stored_order=False)
    with pytest.raises(ND2FormatError, match="frame 0 is said to lie"):
        pixel_chunks(layout_of([4096]), 4100, stored_order=False)
