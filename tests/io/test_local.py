"""Files on disks of this machine: mapped, read at once, and maps that are kept for a moment."""

from __future__ import annotations

import gc
import os
import sys
import time
from typing import TYPE_CHECKING

import numpy as np
import pytest
import xarray as xr
from xarray.core.indexing import BasicIndexer

from tests.read.windows import windows_of
from xarray_nd2.errors import ND2ChangedError
from xarray_nd2.io.kept_maps import KeptMaps
from xarray_nd2.io.local import LocalFile
from xarray_nd2.io.process import this_process
from xarray_nd2.lazy_chain import find_nd2_array
from xarray_nd2.testing import write_nd2

if TYPE_CHECKING:
    from pathlib import Path

    from xarray_nd2.array import ND2BackendArray

FRAMES = np.random.default_rng(4).integers(0, 2**16, (4, 2, 80, 70)).astype("uint16")
MANY = 900


@pytest.fixture
def run(tmp_path: Path) -> Path:
    path = tmp_path / "run.nd2"
    write_nd2(path, FRAMES, "TCYX")
    return path


def array_of(run: Path) -> ND2BackendArray:
    found = find_nd2_array(xr.open_dataset(run).image)
    assert found is not None
    return found[0]


def read_many(array: ND2BackendArray) -> np.ndarray:
    rng = np.random.default_rng(5)
    frames, y0, x0 = rng.integers(0, (4, 80 - 30, 70 - 30), (MANY, 3)).T
    return array.read(windows_of(array.layout, frames, y0, x0, 30, 30))[..., 0]


def test_many_windows(run: Path) -> None:
    rng = np.random.default_rng(5)
    corners = rng.integers(0, (4, 80 - 30, 70 - 30), (MANY, 3))
    expected = np.stack([FRAMES[t, :, y : y + 30, x : x + 30] for t, y, x in corners])
    array = array_of(run)
    for _ in range(2):  # by a new map, and by the one that was kept
        np.testing.assert_array_equal(read_many(array), expected)


@pytest.mark.skipif(sys.platform == "win32", reason="there, maps are not kept")
@pytest.mark.parametrize("how", ["written over", "replaced", "cut", "grown"])
def test_a_kept_map_is_not_of_what_the_file_became(how: str, run: Path) -> None:
    array = array_of(run)
    read_many(array)
    data = run.read_bytes()
    if how == "replaced":
        run.with_suffix(".new").write_bytes(data)
        os.replace(run.with_suffix(".new"), run)  # noqa: PTH105
    elif how == "written over":
        with run.open("r+b") as file:
            file.write(data)
        os.utime(run, ns=(1, 1))
    else:
        os.truncate(run, len(data) + (1 if how == "grown" else -4096))
    with pytest.raises(ND2ChangedError):
        read_many(array)
    with pytest.raises(ND2ChangedError):  # nor is one window read
        array[BasicIndexer((1, 0, slice(3, 9), slice(3, 9)))]


@pytest.mark.skipif(sys.platform == "win32", reason="there, maps are not kept")
def test_maps_are_shared_and_let_go_of(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(this_process(), "maps", KeptMaps(kept_seconds=0.2))
    maps = this_process().maps
    file = LocalFile(str(run))
    one, facts = file.kept_map()
    again, facts_again = file.kept_map()
    assert one is again
    assert facts == facts_again
    assert len(maps) == 1
    np.testing.assert_array_equal(np.frombuffer(one, "u1"), np.frombuffer(run.read_bytes(), "u1"))
    deadline = time.monotonic() + 20
    while len(maps) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not len(maps)
    assert one[:4] == run.read_bytes()[:4]  # who has it can go on
    later, _ = file.kept_map()
    assert later is not one


def test_few_windows_leave_no_map(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(this_process(), "maps", KeptMaps())
    image = xr.open_dataset(run).image
    image.load()
    image = xr.open_dataset(run).image
    image.isel(T=xr.DataArray([0, 3], dims="roi"), Y=slice(3, 9)).load()
    image.isel(T=2, Y=slice(3, 9)).load()
    gc.collect()
    assert not len(this_process().maps)


def test_one_range_is_read_at_once(run: Path) -> None:
    data, facts = LocalFile(str(run)).read(10, 50)
    assert data == run.read_bytes()[10:50]
    assert facts.size == run.stat().st_size
    short, _ = LocalFile(str(run)).read(facts.size - 3, facts.size + 3)
    assert len(short) == 3
