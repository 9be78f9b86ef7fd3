"""How dask comes to optimize graphs of ND2 files, and what of dask stays as it was."""

from __future__ import annotations

import copy
import importlib
import importlib.util
import pickle
from typing import TYPE_CHECKING, Any

import dask
import dask.array as da
import dask.config
import numpy as np
import pytest
import xarray as xr

from xarray_nd2.dask.join_crops import join_crops
from xarray_nd2.testing import write_nd2

if TYPE_CHECKING:
    from pathlib import Path

FRAMES = np.random.default_rng(6).integers(0, 2**16, (6, 1, 40, 30)).astype("uint16")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("register") / "run.nd2"
    write_nd2(path, FRAMES, "TCYX")
    return path


def cropped(run: Path) -> xr.DataArray:
    """A crop that dask alone does not join with the reading."""
    image: xr.DataArray = xr.open_dataset(run, chunks={}).image + 1
    return image.isel(T=3, Y=slice(4, 8))


def optimized(array: da.Array) -> dict[Any, Any]:
    """Tasks of an array after its optimization."""
    return dict(array.__dask_optimize__(array.dask, array.__dask_keys__()))


def foreign() -> Any:
    x = da.from_array(np.arange(10_000).reshape(100, 100), chunks=20)
    return ((x + 1).T @ x)[3:50, ::2].sum(axis=0) * 2


def own(dsk: Any, keys: Any, **kwargs: Any) -> Any:
    own.calls += 1  # type: ignore[attr-defined]
    return dsk


def test_configuration_is_left_alone(run: Path, plain_dask: Any) -> None:
    import distributed  # noqa: F401  (which adds defaults of its own)

    before = copy.deepcopy(dask.config.config)
    sent = dask.config.serialize(dask.config.global_config)
    cropped(run).compute()
    assert vars(da.Array)["__dask_optimize__"] is not plain_dask
    assert dask.config.config == before
    assert dask.config.serialize(dask.config.global_config) == sent


def test_is_registered_once(run: Path, plain_dask: Any) -> None:
    cropped(run)
    hook = vars(da.Array)["__dask_optimize__"]
    cropped(run)
    assert vars(da.Array)["__dask_optimize__"] is hook
    assert hook.before is plain_dask


@pytest.mark.parametrize("opened_first", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("way", ["globally", "with"])
@pytest.mark.parametrize("value", [None, False, "", own], ids=repr)
def test_a_users_choice_is_that_of_plain_dask(
    value: Any,
    way: str,
    opened_first: bool,
    run: Path,
    plain_dask: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(own, "calls", 0, raising=False)
    array = cropped(run) if opened_first else None
    if way == "globally":
        monkeypatch.setitem(dask.config.config, "array_optimize", value)
    with dask.config.set({} if way == "globally" else {"array_optimize": value}):
        array = cropped(run) if array is None else array
        assert dask.config.get("array_optimize") is value
        chosen = plain_dask.__get__(None, da.Array)
        assert da.Array.__dask_optimize__ is chosen
        assert array.data.__dask_optimize__ is chosen
        assert chosen(array.data.dask, array.data.__dask_keys__()) is array.data.dask
        np.testing.assert_array_equal(array.compute(), FRAMES[3, :, 4:8] + 1)
        assert own.calls == (2 if value is own else 0)  # type: ignore[attr-defined]
    if way == "with":
        assert len(optimized(array.data)) < len(array.data.dask)


def test_other_graphs_are_optimized_by_dask_alone(run: Path, plain_dask: Any) -> None:
    names = [
        sorted(map(str, dict(plain_dask.__get__(None, da.Array)(x.dask, x.__dask_keys__()))))
        for x in [foreign()]
    ]
    cropped(run)
    assert names == [sorted(map(str, optimized(foreign())))]
    graph = foreign().dask
    made = {name: layer.is_materialized() for name, layer in graph.layers.items()}
    assert join_crops(graph, []) is None
    assert made == {name: layer.is_materialized() for name, layer in graph.layers.items()}
    assert not all(made.values())


def test_all_arrays_of_one_compute_are_optimized_together(run: Path) -> None:
    # Dask groups them by the optimization.
    assert cropped(run).data.__dask_optimize__ == foreign().__dask_optimize__
    assert hash(cropped(run).data.__dask_optimize__) == hash(foreign().__dask_optimize__)


class Library:
    """What another library may put in place of dask's attribute."""

    def __init__(self) -> None:
        self.graphs: list[Any] = []

    def optimize(self, dsk: Any, keys: Any, **kwargs: Any) -> Any:
        self.graphs.append(dsk)
        return dsk


@pytest.mark.parametrize("order", ["before", "after"])
def test_another_librarys_optimization_comes_after(
    order: str, run: Path, plain_dask: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = Library()
    if order == "after":
        cropped(run)
    monkeypatch.setattr(da.Array, "__dask_optimize__", staticmethod(library.optimize))
    array = cropped(run)
    np.testing.assert_array_equal(array.compute(), FRAMES[3, :, 4:8] + 1)
    [graph] = library.graphs
    assert any(str(key).startswith("('read-") for key in graph)
    other = foreign()
    assert other.__dask_optimize__(other.dask, other.__dask_keys__()) is other.dask


def test_no_optimization_at_all_stays(
    run: Path, plain_dask: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(da.Array, "__dask_optimize__", None)
    assert cropped(run).data.__dask_optimize__ is None
    np.testing.assert_array_equal(cropped(run).compute(), FRAMES[3, :, 4:8] + 1)


def test_schedulers_without_this_package_optimize_other_graphs(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    optimization = cropped(run).data.__dask_optimize__
    sent = pickle.dumps(optimization)
    assert pickle.loads(sent) == optimization
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert pickle.loads(sent) is optimization.then
