"""What surrounds the code agrees with it: versions, dependencies, commands, imports, docs."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import yaml  # type: ignore[import-untyped]
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import xarray_nd2
from xarray_nd2.testing import write_nd2

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "xarray_nd2"
MODULES = sorted(PACKAGE.rglob("*.py"))

PURE = [
    "errors",
    "_blocks",
    "_container",
    "_cost",
    "_decode",
    "_inflate",
    "_layout",
    "_location",
    "_plan",
    "_rescue",
    "_screen",
    "_selection",
]
IMPURE_PACKAGES = {"fsspec", "xarray", "dask", "nd2", "s3fs", "aiohttp"}

# Names on conda-forge that are not those on PyPI.
CONDA_NAMES = {
    "isal": "python-isal",
    "matplotlib": "matplotlib-base",
    "universal-pathlib": "universal_pathlib",
}


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    with (ROOT / "pyproject.toml").open("rb") as file:
        project: dict[str, Any] = tomllib.load(file)["project"]
    return project


@pytest.fixture(scope="module")
def environment() -> dict[str, str]:
    """Version specifiers of environment.yml by package."""
    listed = yaml.safe_load((ROOT / "environment.yml").read_text("utf-8"))["dependencies"]
    names = [re.match(r"[\w-]+", line) for line in listed if isinstance(line, str)]
    lines = [line for line in listed if isinstance(line, str)]
    return {
        name[0]: line[name.end() :].strip()
        for name, line in zip(names, lines, strict=True)
        if name is not None
    }


def conda_name(requirement: Requirement) -> str:
    name = canonicalize_name(requirement.name)
    return CONDA_NAMES.get(name, name)


def test_version(project: dict[str, Any]) -> None:
    assert project["version"] == xarray_nd2.__version__
    assert f"## [{project['version']}]" in (ROOT / "CHANGELOG.md").read_text("utf-8")


def test_conda_environment_has_the_same_bounds(
    project: dict[str, Any], environment: dict[str, str]
) -> None:
    extras = project["optional-dependencies"]
    lines = project["dependencies"] + extras["demo"] + extras["test"]
    requirements = [Requirement(line) for line in lines if not line.startswith("xarray-nd2[")]
    expected = {conda_name(requirement): str(requirement.specifier) for requirement in requirements}
    for requirement in requirements:
        # What is an extra on PyPI is a package on conda-forge.
        if requirement.name == "dask":
            expected["distributed"] = str(requirement.specifier)
    expected["python"] = project["requires-python"]
    assert {name: environment.get(name) for name in expected} == expected
    assert set(environment) - set(expected) == {"pip", "aiohttp"}


def commands(document: str) -> list[str]:
    """Lines of the bash blocks of a document."""
    blocks = re.findall(r"^```bash\n(.*?)^```", (ROOT / document).read_text("utf-8"), re.M | re.S)
    return [line for block in blocks for line in block.splitlines()]


def test_readme_test_command_is_what_is_checked() -> None:
    checked = (ROOT / ".ci" / "run").read_text("utf-8").splitlines()
    [command] = [line for line in commands("README.md") if "pytest" in line]
    assert command in [line.strip() for line in checked]
    assert f"`{command}`" in (ROOT / "CONTRIBUTING.md").read_text("utf-8")


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_module_is_small(path: Path) -> None:
    lines = path.read_text("utf-8").count("\n")
    assert lines < 400


def runtime_nodes(node: ast.AST) -> Iterator[ast.AST]:
    """All nodes below `node` that exist when the code runs."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        yield child
        yield from runtime_nodes(child)


def imports(path: Path) -> set[str]:
    """Full names of the modules that a file imports, those in its functions included."""
    found = set()
    for node in runtime_nodes(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            assert node.module is not None
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def third_party(path: Path) -> set[str]:
    """Packages that a file imports, besides the standard library and this one."""
    packages = {name.partition(".")[0] for name in imports(path)}
    return packages - sys.stdlib_module_names - {"xarray_nd2"}


def module_path(name: str) -> Path | None:
    """File of a module of this package, None for another name."""
    parts = name.split(".")
    base = PACKAGE.parent.joinpath(*parts)
    found = (path for path in (base.with_suffix(".py"), base / "__init__.py") if path.is_file())
    return next(found, None) if parts[0] == "xarray_nd2" else None


def reachable(path: Path) -> set[Path]:
    """Files of this package that importing a file imports, itself included."""
    seen: set[Path] = set()
    waiting = [path, PACKAGE / "__init__.py"]
    while waiting:
        at = waiting.pop()
        if at not in seen:
            seen.add(at)
            waiting += [found for found in map(module_path, imports(at)) if found is not None]
    return seen


@pytest.mark.parametrize("name", PURE)
def test_pure_module(name: str) -> None:
    for path in reachable(PACKAGE / f"{name}.py"):
        assert not third_party(path) & IMPURE_PACKAGES, path


def test_impure_modules_are_found_out() -> None:
    # The check above can fail: it sees imports, and through others, where they are.
    assert PACKAGE / "_transport.py" in reachable(PACKAGE / "backend.py")
    assert third_party(PACKAGE / "_transport.py") & IMPURE_PACKAGES


def test_docs_name_the_pure_modules() -> None:
    text = (ROOT / "docs" / "design.md").read_text("utf-8")
    named = re.findall(r"^\| `(\w+)` \| \*pure\*", text, re.M)
    assert sorted({"errors", *named}) == sorted(PURE)


def imported(code: str, *arguments: str) -> set[str]:
    """Packages that are loaded after running some code in a new interpreter."""
    code += "\nimport sys; print(*{name.partition('.')[0] for name in sys.modules})"
    command = [sys.executable, "-c", code, *arguments]
    return set(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split())


def test_importing_the_package_is_light() -> None:
    loaded = imported("import xarray_nd2")
    assert not loaded & {"s3fs", "ome_types", "nd2", "moto", "matplotlib"}
    assert not loaded & IMPURE_PACKAGES


def test_opening_a_local_file_loads_no_client_of_a_store(tmp_path: Path) -> None:
    write_nd2(tmp_path / "run.nd2", np.zeros((2, 8, 8), "uint16"), "TYX")
    code = "import sys, xarray; xarray.open_dataset(sys.argv[1], engine='nd2').load()"
    loaded = imported(code, str(tmp_path / "run.nd2"))
    assert "nd2" in loaded
    assert not loaded & {"s3fs", "aiohttp", "ome_types", "moto", "matplotlib"}


def test_table_of_modules() -> None:
    """The table in the docs names every module, and all that it imports."""
    text = (ROOT / "docs" / "design.md").read_text("utf-8")
    table = {
        module: {name.strip() for name in allowed.split(",")}
        for module, allowed in re.findall(r"^\| `(\w+)` \| .* \| (.*?) ?\|$", text, re.M)
    }
    found = {
        path.stem if path.name != "__init__.py" else path.parent.name: path
        for path in [*PACKAGE.glob("*.py"), *PACKAGE.glob("*/__init__.py")]
    }
    del found["xarray_nd2"]
    assert set(table) == set(found)
    for module, path in found.items():
        files = [path] if path.name != "__init__.py" else list(path.parent.glob("*.py"))
        used = set().union(*map(third_party, files))
        assert used <= table[module], module
