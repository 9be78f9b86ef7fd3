"""What xarray's indexing asks of the array: every key gives what NumPy gives."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import xarray as xr
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from xarray_nd2.testing import write_nd2

if TYPE_CHECKING:
    from pathlib import Path

SIZES = {"T": 4, "C": 2, "Y": 20, "X": 13}
BACKWARDS_FOR_NOTHING = {"Y": slice(4, 19, -1)}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("indexing") / "run.nd2"
    frames = np.random.default_rng(9).integers(0, 2**16, tuple(SIZES.values())).astype("uint16")
    write_nd2(path, frames, "".join(SIZES))
    return path


def keys_of(size: int) -> st.SearchStrategy[Any]:
    position = st.integers(-size, size - 1)
    # xarray itself goes wrong where a slice backwards begins before the first position.
    end = st.one_of(st.none(), st.integers(-size, size + 2))
    step = st.sampled_from([None, 1, 2, 7, -1, -3])
    return st.one_of(
        position, st.builds(slice, end, end, step), st.lists(position, max_size=5).map(_as_ints)
    )


def _as_ints(positions: list[int]) -> np.ndarray:
    return np.array(positions, int)


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    key=st.fixed_dictionaries({}, optional={dim: keys_of(size) for dim, size in SIZES.items()}),
    chunks=st.sampled_from([None, {}, {"T": 1}]),
)
@example(key=BACKWARDS_FOR_NOTHING, chunks=None)
@example(key=BACKWARDS_FOR_NOTHING, chunks={})
def test_any_key(run: Path, key: dict[str, Any], chunks: dict[str, int] | None) -> None:
    image = xr.open_dataset(run, chunks=chunks).image
    expected = xr.open_dataset(run).image.load()
    xr.testing.assert_identical(image.isel(key).compute(), expected.isel(key))


async def test_any_key_without_blocking(run: Path) -> None:
    expected = xr.open_dataset(run).image.load()
    for key in (BACKWARDS_FOR_NOTHING, {"T": [3, 0, 3]}, {"Y": slice(None, None, -7), "C": 1}):
        loaded = await xr.open_dataset(run).image.isel(key).load_async()
        xr.testing.assert_identical(loaded, expected.isel(key))
