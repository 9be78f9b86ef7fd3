"""The table of frames."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from xarray_nd2.format.layout import FrameTable


@given(st.lists(st.integers(-(2**40), 2**40), max_size=40))
def test_table_keeps_any_values(values: list[int]) -> None:
    table = FrameTable.from_values(np.array(values, np.int64))
    assert table.values().tolist() == values


def test_regular_table_is_small() -> None:
    values = np.arange(1_000_000, dtype=np.int64) * 4096 + 77
    values[500_000:] += 8192
    table = FrameTable.from_values(values)
    assert table.start.nbytes < 100
    picked = np.array([0, 499_999, 500_000, 999_999])
    assert table.take(picked).tolist() == values[picked].tolist()
