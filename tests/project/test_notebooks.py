"""The notebooks of the docs: building the docs runs them, and the extra `docs` is enough for that."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from typing import TYPE_CHECKING

import pytest
from packaging.requirements import Requirement

from tests.conftest import ROOT

if TYPE_CHECKING:
    from pathlib import Path

FOLDER = ROOT / "docs" / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.md"))
HEADER = "---\nfile_format: mystnb\nkernelspec:\n  name: python3\n---\n"
OTHER_BLOCKS = {"{code-block} python"}  # what needs a cluster, and is not run
# What comes along with a package that the extra or the package itself names.
BROUGHT_ALONG = {"pandas": "xarray", "distributed": "dask"}


def fences_of(path: Path) -> list[tuple[str, str]]:
    """What is said behind each opening fence, and the text up to the next one."""
    text = path.read_text("utf-8")
    return re.findall(r"^```(\S.*)\n((?:.*\n)*?)```$", text, re.M)


def cells_of(path: Path) -> list[str]:
    """The code of a notebook's cells."""
    cells = [code for word, code in fences_of(path) if word == "{code-cell}"]
    return [re.sub(r"^:tags:.*\n", "", code) for code in cells]


def packages_in(code: str) -> set[str]:
    """Third-party packages that a piece of code imports."""
    found = set()
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module or "")
    return {name.partition(".")[0] for name in found} - sys.stdlib_module_names - {"xarray_nd2"}


def docs_packages() -> set[str]:
    """What is installed with the extra ``docs``, as far as pyproject.toml says."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    extras = project["optional-dependencies"]
    waiting, seen = [*project["dependencies"], *extras["docs"]], set()
    while waiting:
        requirement = Requirement(waiting.pop())
        if requirement.name == "xarray-nd2":
            waiting += [line for extra in requirement.extras for line in extras[extra]]
        seen |= {requirement.name.replace("-", "_"), *requirement.extras}
    return seen


def test_there_are_notebooks() -> None:
    assert {path.stem for path in NOTEBOOKS} >= {"first-hour", "cookbook", "clusters", "training"}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_is_run_and_found(path: Path) -> None:
    """It has the header that makes Sphinx run it, cells, and a place on the front page."""
    assert path.read_text("utf-8").startswith(HEADER)
    assert len(cells_of(path)) > 5
    assert {word for word, _ in fences_of(path)} <= OTHER_BLOCKS | {"{code-cell}"}
    index = (ROOT / "docs" / "index.md").read_text("utf-8")
    assert f"\nnotebooks/{path.stem}\n" in index
    assert f"(notebooks/{path.name})" in index


@pytest.mark.parametrize("path", [*NOTEBOOKS, FOLDER / "sample_files.py"], ids=lambda p: p.stem)
def test_extra_docs_has_what_it_imports(path: Path) -> None:
    codes = cells_of(path) if path.suffix == ".md" else [path.read_text("utf-8")]
    used = set().union(*map(packages_in, codes)) - {"sample_files"}
    assert {BROUGHT_ALONG.get(name, name) for name in used} <= docs_packages()


def test_errors_and_warnings_in_notebooks_end_the_build() -> None:
    settings = (ROOT / "docs" / "conf.py").read_text("utf-8")
    for line in (
        'nb_execution_mode = "force"',
        "nb_execution_raise_on_error = True",
        'nb_output_stderr = "warn"',
    ):
        assert f"\n{line}\n" in settings
    assert "sphinx-build -W -n -q docs" in (ROOT / ".ci" / "run").read_text("utf-8")
