"""Opening and reading go on where releases of dask or xarray have other names than are known."""

from __future__ import annotations

import ast
import builtins
import importlib
import json
import subprocess
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dask.array as da
import numpy as np
import pytest
import xarray as xr
from xarray.core import indexing

import xarray_nd2
from xarray_nd2.testing import write_nd2

if TYPE_CHECKING:
    from collections.abc import Iterator

PACKAGE = Path(xarray_nd2.__file__).parent
FRAMES = np.random.default_rng(7).integers(0, 2**16, (4, 1, 40, 30)).astype("uint16")

CHUNKS: list[dict[str, int] | None] = [None, {}]


def imports_of(path: Path, library: str) -> Iterator[tuple[str, str]]:
    """Modules of a library that a file imports at its top, and the names it imports of them."""
    for node in ast.parse(path.read_text("utf-8")).body:
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(f"{library}."):
            for name in node.names:
                assert node.module is not None
                yield node.module, name.name


DASK_NAMES = list(imports_of(PACKAGE / "dask" / "tasks.py", "dask"))
XARRAY_NAMES = list(imports_of(PACKAGE / "lazy_chain.py", "xarray"))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("guard") / "run.nd2"
    write_nd2(path, FRAMES, "TCYX")
    return path


def open_and_read(path: Path) -> list[str]:
    """Open and read twice, lazily and with dask, and return all warnings."""
    rows, columns = np.array([3, 9])[:, None], np.array([[1, 2, 3], [4, 5, 6]])
    points = {
        "Y": xr.DataArray(rows[:, 0], dims="roi"),
        "X": xr.DataArray(columns, dims=("roi", "x")),
    }
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for chunks in CHUNKS * 2:
            image = xr.open_dataset(path, chunks=chunks).image
            crop = (image + 1).isel(T=2, Y=slice(4, 9)).compute(scheduler="sync")
            np.testing.assert_array_equal(crop.values, FRAMES[2, :, 4:9] + 1)
            crop = image.isel(T=1, Y=slice(4, 9)).isel(X=3).compute(scheduler="sync")
            np.testing.assert_array_equal(crop.values, FRAMES[1, :, 4:9, 3])
            if chunks is not None and not hasattr(image.data, "vindex"):
                continue  # with query planning
            pixels = image.isel(T=3).isel(points).compute(scheduler="sync")
            np.testing.assert_array_equal(pixels.values, FRAMES[3][:, rows, columns])
    return [str(warning.message) for warning in caught]


def without(patch: pytest.MonkeyPatch, importer: str, module: str, missing: str | None) -> None:
    """Have one module find no such name in another one, or no such module; all others find it."""
    importing = builtins.__import__

    def guarded(name: str, scope: Any = None, *rest: Any, **by_name: Any) -> Any:
        if name == module and (scope or {}).get("__name__") == importer:
            names = rest[1] if len(rest) > 1 else by_name.get("fromlist")
            if missing is None or missing in (names or ()):
                raise ImportError(f"cannot import name {missing!r} from {name!r}")
        return importing(name, scope, *rest, **by_name)

    patch.setattr(builtins, "__import__", guarded)


def test_nothing_is_missing_here(run: Path, plain_dask: Any) -> None:
    assert len(DASK_NAMES) > 15
    assert len(XARRAY_NAMES) > 5
    assert open_and_read(run) == []


@pytest.mark.parametrize(("module", "name"), [*DASK_NAMES, ("dask._task_spec", None)])
def test_a_name_of_dask_is_missing(
    module: str, name: str | None, run: Path, plain_dask: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    without(monkeypatch, "xarray_nd2.dask.tasks", module, name)
    [warning] = open_and_read(run)
    assert warning == (
        "xarray-nd2: crops of dask arrays read more than they need; "
        f"ImportError: cannot import name {name!r} from {module!r}"
    )


@pytest.mark.parametrize(("module", "name"), XARRAY_NAMES)
def test_a_name_of_xarray_is_missing(
    module: str, name: str, run: Path, plain_dask: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    without(monkeypatch, "xarray_nd2.lazy_chain", module, name)
    found = open_and_read(run)
    assert len(found) == 2
    assert all(repr(name) in warning for warning in found)
    assert "crops of dask arrays read more" in found[0]
    assert "selections of many points take longer" in found[1]
    lazy: Any = xr.open_dataset(run).image.variable._data
    assert type(lazy.array.array) is indexing.LazilyIndexedArray


def test_a_method_of_xarray_is_missing(plain_dask: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(indexing.LazilyIndexedArray, "_vindex_get")
    with pytest.raises(ImportError, match="_vindex_get"):
        importlib.import_module("xarray_nd2.lazy_chain")


@pytest.mark.parametrize("missing", ["xarray_nd2.dask.tasks", "xarray_nd2.dask.register"])
def test_a_module_is_missing(
    missing: str, run: Path, plain_dask: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    [warning] = open_and_read(run)
    assert warning.startswith("xarray-nd2: crops of dask arrays read more than they need; Mod")
    assert missing in warning


def test_the_room_is_missing_in_a_new_process(run: Path) -> None:
    [warning] = in_new_process(run, "sys.modules['xarray_nd2.dask'] = None")
    assert warning.startswith("xarray-nd2: crops of dask arrays read more than they need; Mod")
    assert "xarray_nd2.dask" in warning


def test_query_planning_of_dask(run: Path) -> None:
    """Dask's expressions, which are another class of arrays, read what they did without us."""
    code = "import os; os.environ['DASK_ARRAY__QUERY_PLANNING'] = 'true'"
    check = "import dask.array as da; assert da.array_expr_enabled()"
    assert in_new_process(run, code, check) == []


def in_new_process(run: Path, before: str, after: str = "") -> list[str]:
    """Warnings of `open_and_read` in a new process."""
    code = f"""
import json, sys
from pathlib import Path
{before}
from tests.dask import test_guard
test_guard.FRAMES = test_guard.FRAMES.astype("int64")
{after}
print(json.dumps(test_guard.open_and_read(Path(sys.argv[1]))))
"""
    command = [sys.executable, "-c", code, str(run)]
    root = Path(__file__).parents[2]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found: list[str] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.parametrize(
    "at",
    [
        "dask.register.join_crops",
        "dask.join_crops.find_read_on_demand",
        "dask.join_crops.tasks_by_key",
        "dask.push_crops.arguments_of",
        "dask.join_crops.read_another_part",
    ],
)
@pytest.mark.parametrize("error", [AttributeError, TypeError, KeyError, RecursionError])
def test_optimization_fails(
    error: type[Exception], at: str, run: Path, plain_dask: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: Any, **kwargs: Any) -> Any:
        raise error("'Task' object has no attribute 'args'")

    xr.open_dataset(run)  # imports what is patched
    module, _, name = f"xarray_nd2.{at}".rpartition(".")
    monkeypatch.setattr(sys.modules[module], name, fail)
    [warning] = open_and_read(run)
    assert warning.startswith("xarray-nd2: crops of dask arrays read more than they need; ")
    assert f"{error.__name__}: " in warning
    assert "'Task' object has no attribute 'args'" in warning


def test_dask_fails_with_what_it_is_given(
    run: Path, plain_dask: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    xr.open_dataset(run)
    register = sys.modules["xarray_nd2.dask.register"]
    monkeypatch.setattr(register, "join_crops", lambda *_: "not a graph")
    assert len(open_and_read(run)) == 1


def test_what_another_optimization_raises_is_not_for_us_to_say(
    run: Path, plain_dask: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(dsk: Any, keys: Any, **kwargs: Any) -> Any:
        raise ValueError("of another library")

    monkeypatch.setattr(da.Array, "__dask_optimize__", staticmethod(fail))
    crop = xr.open_dataset(run, chunks={}).image[..., :3]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ValueError, match="of another library") as caught:
            crop.compute()
    assert caught.value.__cause__ is caught.value.__context__ is None


def test_the_warning_is_at_the_line_of_the_user(
    run: Path, plain_dask: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "xarray_nd2.dask.tasks", None)
    with pytest.warns(RuntimeWarning, match="crops of dask arrays read more") as caught:
        xr.open_dataset(run)
    assert [warning.filename for warning in caught] == [__file__]
