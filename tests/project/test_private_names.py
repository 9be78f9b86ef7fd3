"""Private names of dask and of xarray stay in the one file that is for them."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

from tests.project.test_house import MODULES, name_of

if TYPE_CHECKING:
    from collections.abc import Iterator

PUBLIC_OF_DASK = {"dask", "dask.array", "dask.base", "dask.config", "dask.delayed"}
# Of xarray.core.indexing, which xarray's docs tell writers of backends to use.
PUBLIC_OF_INDEXING = {"ExplicitIndexer", "LazilyIndexedArray", "VectorizedIndexer"}


def files_with_private_names(library: str) -> set[str]:
    return {
        name_of(path)
        for path in MODULES
        if any(private(ast.parse(path.read_text("utf-8")), library))
    }


def private(tree: ast.Module, library: str) -> Iterator[bool]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == library:
            if library == "dask":
                yield node.module not in PUBLIC_OF_DASK
            elif node.module == "xarray.core.indexing":
                yield not {alias.name for alias in node.names} <= PUBLIC_OF_INDEXING
        elif isinstance(node, ast.Attribute) and ast.unparse(node.value) == "indexing":
            yield library == "xarray" and node.attr not in PUBLIC_OF_INDEXING


def test_dask() -> None:
    assert files_with_private_names("dask") == {"dask/tasks"}


def test_xarray() -> None:
    assert files_with_private_names("xarray") == {"lazy_chain"}
