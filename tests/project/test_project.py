"""What surrounds the code agrees with it: versions, dependencies, commands, imports, docs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import yaml  # type: ignore[import-untyped]
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import xarray_nd2
from tests.conftest import ROOT
from tests.project.test_house import IMPURE_PACKAGES
from xarray_nd2.testing import write_nd2

if TYPE_CHECKING:
    from pathlib import Path

# Names on conda-forge that are not those on PyPI.
CONDA_NAMES = {
    "isal": "python-isal",
    "matplotlib": "matplotlib-base",
    "universal-pathlib": "universal_pathlib",
    "cf-xarray": "cf_xarray",
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
    for name, version in (
        ("CITATION.cff", citation()["version"]),
        ("recipe", recipe()["context"]["version"]),
    ):
        assert str(version) == project["version"], name


def citation() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    return found


def recipe() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((ROOT / "recipe" / "recipe.yaml").read_text("utf-8"))
    return found


def test_citation_says_what_the_package_says(project: dict[str, Any]) -> None:
    cited = citation()
    assert cited["title"] == project["name"]
    assert cited["abstract"] == project["description"]
    assert cited["license"] == project["license"]
    assert cited["keywords"] == project["keywords"]
    assert [author["name"] for author in cited["authors"]] == [
        author["name"] for author in project["authors"]
    ]


def test_recipe_needs_what_the_package_needs(project: dict[str, Any]) -> None:
    made = recipe()
    requirements = [Requirement(line) for line in project["dependencies"]]
    expected = {conda_name(each): str(each.specifier) for each in requirements}
    expected["distributed"] = expected["dask"]  # an extra on PyPI, a package on conda-forge
    lowest_python = made["context"]["python_min"]
    assert project["requires-python"] == f">={lowest_python}"
    run = dict(line.split(" ", 1) for line in made["requirements"]["run"])
    assert run.pop("python") == ">=${{ python_min }}"
    assert run == expected
    with (ROOT / "pyproject.toml").open("rb") as file:
        [backend] = tomllib.load(file)["build-system"]["requires"]
    assert Requirement(backend) in [Requirement(line) for line in made["requirements"]["host"][1:]]
    scripts = [f"{name} = {target}" for name, target in project["scripts"].items()]
    assert made["build"]["python"]["entry_points"] == scripts
    assert made["about"]["license"] == project["license"]


def test_workflows_call_what_is_checked_here() -> None:
    """They run the scripts of .ci, with every Python that the package says it supports."""
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text("utf-8"))
    jobs = workflow["jobs"]
    called = {step.get("run") for job in jobs.values() for step in job["steps"]}
    assert {".ci/run", ".ci/upstream"} <= called
    release = (ROOT / ".github" / "workflows" / "release.yml").read_text("utf-8")
    assert ".ci/package dist" in release
    for script in ("run", "upstream", "package", "servers"):
        assert os.access(ROOT / ".ci" / script, os.X_OK)
        subprocess.run(["bash", "-n", str(ROOT / ".ci" / script)], check=True)
    with (ROOT / "pyproject.toml").open("rb") as file:
        classifiers = tomllib.load(file)["project"]["classifiers"]
    listed = {line.rpartition(" ")[2] for line in classifiers if re.search(r":: 3\.\d+$", line)}
    assert listed <= set(jobs["everything"]["strategy"]["matrix"]["python"])


def test_conda_environment_has_the_same_bounds(
    project: dict[str, Any], environment: dict[str, str]
) -> None:
    extras = project["optional-dependencies"]
    told = ("cli", "preview", "export", "legacy", "demo", "test")
    lines = project["dependencies"] + [line for extra in told for line in extras[extra]]
    requirements = [Requirement(line) for line in lines if not line.startswith("xarray-nd2[")]
    expected = {conda_name(requirement): str(requirement.specifier) for requirement in requirements}
    for requirement in requirements:
        # What is an extra on PyPI is a package on conda-forge.
        if requirement.name == "dask":
            expected["distributed"] = str(requirement.specifier)
    expected["python"] = project["requires-python"]
    assert {name: environment.get(name) for name in expected} == expected
    assert set(environment) - set(expected) == {"pip"}


def commands(document: str) -> list[str]:
    """Lines of the bash blocks of a document."""
    blocks = re.findall(r"^```bash\n(.*?)^```", (ROOT / document).read_text("utf-8"), re.M | re.S)
    return [line for block in blocks for line in block.splitlines()]


def test_readme_test_command_is_what_is_checked() -> None:
    checked = (ROOT / ".ci" / "run").read_text("utf-8").splitlines()
    [command] = [line for line in commands("README.md") if "pytest" in line]
    assert command in [line.strip() for line in checked]
    assert f"`{command}`" in (ROOT / "CONTRIBUTING.md").read_text("utf-8")


def imported(code: str, *arguments: str) -> set[str]:
    """Packages that are loaded after running some code in a new interpreter."""
    code += "\nimport sys; print(*{name.partition('.')[0] for name in sys.modules})"
    command = [sys.executable, "-c", code, *arguments]
    return set(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split())


def test_importing_the_package_is_light() -> None:
    loaded = imported("import xarray_nd2")
    assert not loaded & {"s3fs", "ome_types", "nd2", "moto", "matplotlib", "zarr", "yaozarrs"}
    assert not loaded & IMPURE_PACKAGES


def test_opening_a_local_file_loads_no_client_of_a_store(tmp_path: Path) -> None:
    write_nd2(tmp_path / "run.nd2", np.zeros((2, 8, 8), "uint16"), "TYX")
    code = "import sys, xarray; xarray.open_dataset(sys.argv[1], engine='nd2').load()"
    loaded = imported(code, str(tmp_path / "run.nd2"))
    assert "nd2" in loaded
    assert not loaded & {"s3fs", "aiohttp", "ome_types", "moto", "matplotlib"}
