"""Private names of dask and of xarray stay in the one file that is for them."""

from __future__ import annotations

import ast
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING

import pytest

from tests.project.test_house import MODULES, name_of, runtime_nodes

if TYPE_CHECKING:
    from collections.abc import Iterator

PUBLIC_MODULES = {
    *("dask", "dask.array", "dask.base", "dask.config", "dask.delayed"),
    *("xarray", "xarray.backends", "xarray.core.indexing"),
}
# Of xarray.core.indexing what xarray's docs tell writers of backends to use.
PUBLIC_OF_INDEXING = {
    *("ExplicitIndexer", "IndexingSupport", "LazilyIndexedArray", "VectorizedIndexer"),
    "explicit_indexing_adapter",
}


def full_names(tree: ast.Module) -> Iterator[str]:
    """Full names of all that a module imports, and of their attributes that it uses."""
    imported: dict[str, str] = {}
    for node in runtime_nodes(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                bound = alias.name if alias.asname else alias.name.partition(".")[0]
                imported[alias.asname or bound] = bound
                yield alias.name
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                imported[alias.asname or alias.name] = f"{node.module}.{alias.name}"
                yield f"{node.module}.{alias.name}"
    for node in runtime_nodes(tree):
        if isinstance(node, ast.Attribute):
            first, *rest = ast.unparse(node).split(".")
            if first in imported and all(part.isidentifier() for part in rest):
                yield ".".join([imported[first], *rest])


def is_private(name: str) -> bool:
    """Whether the full name of a module, or of something in one, is private."""
    parts = name.split(".")
    modules = [".".join(parts[:count]) for count in range(1, len(parts) + 1)]
    module = modules[0]
    for longer in modules[1:]:
        if not is_module(longer):
            break
        module = longer
    inside = name.removeprefix(module).removeprefix(".").partition(".")[0]
    if module == "xarray.core.indexing" and inside:
        return inside not in PUBLIC_OF_INDEXING
    return module not in PUBLIC_MODULES or any(part.startswith("_") for part in parts)


def is_module(name: str) -> bool:
    """Whether a name that lies in a module or package is a module itself."""
    parent = name.rpartition(".")[0]
    return hasattr(import_module(parent), "__path__") and find_spec(name) is not None


def private_names(tree: ast.Module, library: str) -> set[str]:
    """Private names of a library."""
    found = {name for name in full_names(tree) if name.partition(".")[0] == library}
    return set(filter(is_private, found))


@pytest.mark.parametrize(("library", "room"), [("dask", "dask/tasks"), ("xarray", "lazy_chain")])
def test_in_one_file(library: str, room: str) -> None:
    trees = {name_of(path): ast.parse(path.read_text("utf-8")) for path in MODULES}
    assert {name for name, tree in trees.items() if private_names(tree, library)} == {room}


@pytest.mark.parametrize(
    "code",
    [
        "import dask._task_spec",
        "from dask._task_spec import Task",
        "from dask import highlevelgraph",
        "from dask.highlevelgraph import HighLevelGraph",
        "from dask.array import optimization",
        "from dask.array.core import getter",
        "import dask.array.core as core",
        "import dask.array\ndask.array.core.getter",
        "import dask.array as da\nda.core.getter",
        "import dask.array as da\nda._shuffle",
        "from dask.core import flatten",
        "def late():\n    from dask.array import chunk",
        "from xarray.core.variable import Variable",
        "from xarray.core.indexing import MemoryCachedArray",
        "from xarray.core import indexing as i\ni.CopyOnWriteArray",
        "import xarray.core.indexing as ix\nix.CopyOnWriteArray",
        "import xarray as xr\nxr.core.indexing.CopyOnWriteArray",
    ],
)
def test_private_names_are_found_out(code: str) -> None:
    assert private_names(ast.parse(code), "dask" if "dask" in code else "xarray")


@pytest.mark.parametrize(
    "code",
    [
        "import dask.config\ndask.config.get('x')",
        "import dask.array as da\nda.from_array(1)",
        "from dask.base import compute",
        "import xarray as xr\nxr.Dataset.sel",
        "from xarray.core import indexing\nindexing.VectorizedIndexer",
        "from xarray.backends import BackendArray",
    ],
)
def test_public_names_are_not(code: str) -> None:
    assert not private_names(ast.parse(code), "dask" if "dask" in code else "xarray")
