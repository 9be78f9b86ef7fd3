"""Blocks that suit dask: their sizes."""

from __future__ import annotations

import numpy as np
import pytest

from tests.read.test_plan import layout_of
from xarray_nd2.read.blocks import preferred_blocks


@pytest.mark.parametrize(
    ("loops", "frame", "expected"),
    [
        ((("T", 100),), (2, 1024, 1024), {"T": 8}),  # 4 MiB each
        ((("T", 10), ("Z", 20)), (1, 1024, 1024), {"T": 1, "Z": 10}),
        ((("T", 20_000),), (1, 16, 16), {"T": 20_000}),
        ((("T", 50), ("Z", 4)), (1, 512, 512), {"T": 13, "Z": 4}),
        ((), (1, 8192, 8192), {"Y": 2048}),
        ((("T", 3),), (1, 6000, 8192), {"T": 1, "Y": 2000}),
    ],
)
def test_blocks(
    loops: tuple[tuple[str, int], ...], frame: tuple[int, int, int], expected: dict[str, int]
) -> None:
    layout = layout_of(loops, *frame)
    blocks = preferred_blocks(layout)
    assert blocks == dict(layout.sizes) | expected
    assert np.prod(list(blocks.values())) * 2 <= 32 * 2**20
