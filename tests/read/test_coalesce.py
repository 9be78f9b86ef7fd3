"""Which ranges are read together."""

from __future__ import annotations

import numpy as np
import pytest

from xarray_nd2.read.coalesce import coalesce_ranges


@pytest.mark.parametrize(
    ("starts", "stops", "max_gap", "max_request", "bounds"),
    [
        ([], [], 0, None, [0]),
        ([5], [9], 0, None, [0, 1]),
        ([0, 10], [10, 20], 0, None, [0, 2]),
        ([0, 11], [10, 20], 0, None, [0, 1, 2]),
        ([0, 11], [10, 20], 1, None, [0, 2]),
        ([0, 2, 30], [40, 8, 35], 0, None, [0, 3]),  # inside one another
        ([0, 10, 20, 30], [10, 20, 30, 40], 0, 20, [0, 2, 4]),
        ([0, 100], [100, 200], 0, 50, [0, 1, 2]),  # larger than may be, but whole
    ],
)
def test_coalesce(
    starts: list[int], stops: list[int], max_gap: int, max_request: int | None, bounds: list[int]
) -> None:
    groups = coalesce_ranges(np.array(starts, int), np.array(stops, int), max_gap, max_request)
    assert groups.tolist() == bounds
