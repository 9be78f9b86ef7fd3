"""The house is as docs/design.md draws it: rooms, what each may import, no circles, plain names."""

from __future__ import annotations

import ast
import re
import sys
from graphlib import CycleError, TopologicalSorter
from typing import TYPE_CHECKING, Final

import pytest

from tests.conftest import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PACKAGE: Final = ROOT / "src" / "xarray_nd2"
MODULES: Final = sorted(PACKAGE.rglob("*.py"))
PURE_ROOMS: Final = ("format", "read")
IMPURE_PACKAGES: Final = {"fsspec", "xarray", "dask", "nd2", "s3fs", "aiohttp"}
# What the pure rooms are made of: nothing of it reads or writes, or keeps state of a process.
PURE_PACKAGES: Final = {
    *("__future__", "bisect", "collections", "dataclasses", "enum", "functools", "itertools"),
    *("math", "operator", "re", "struct", "threading", "types", "typing", "zlib"),
    *("imagecodecs", "isal", "numpy"),
}
MAX_MODULE_LINES: Final = 400


def name_of(path: Path) -> str:
    """Name of a module as the docs have it: its path in the package, of a room's own file the room."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return "/".join(parts[:-1] if parts[-1] == "__init__" else parts) or "__init__"


def nodes_of(tree: ast.AST, *, type_checking: bool) -> Iterator[ast.AST]:
    """All nodes below a tree, or those that only a type checker sees."""
    for child in ast.iter_child_nodes(tree):
        guarded = isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test)
        if guarded and type_checking:
            yield from ast.walk(child)
        elif not guarded:
            if not type_checking:
                yield child
            yield from nodes_of(child, type_checking=type_checking)


def runtime_nodes(tree: ast.AST) -> Iterator[ast.AST]:
    """All nodes below a tree that exist when the code runs."""
    return nodes_of(tree, type_checking=False)


def imports(path: Path, *, type_checking: bool = False) -> set[str]:
    """Full names of the modules that a file imports, those in its functions included."""
    found = set()
    for node in nodes_of(ast.parse(path.read_text("utf-8")), type_checking=type_checking):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            assert node.module is not None
            members = {f"{node.module}.{alias.name}" for alias in node.names}
            modules = set(filter(module_path, members))  # a room is not what its modules need
            found |= modules | ({node.module} if modules < members else set())
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


def own_imports(path: Path, *, type_checking: bool = False) -> set[Path]:
    """Files of this package that a file imports."""
    found = map(module_path, imports(path, type_checking=type_checking))
    return {each for each in found if each is not None}


def reachable(path: Path) -> set[Path]:
    """Files of this package that importing a file imports, itself included."""
    seen: set[Path] = set()
    waiting = [path, PACKAGE / "__init__.py"]
    while waiting:
        at = waiting.pop()
        if at not in seen:
            seen.add(at)
            waiting += own_imports(at)
    return seen


def room_of(path: Path) -> str:
    """The room of a file, or its own name where it stands beside the rooms."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def table(heading: str) -> dict[str, tuple[str, ...]]:
    """Cells by the name in the first column, of the first table under a heading of the design."""
    text = (ROOT / "docs" / "design.md").read_text("utf-8")
    section = text.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    rows = re.findall(r"^\| `([\w/]+)`(?: \(.*?\))? \| (.*?) ?\|$", section, re.M)
    return {name: tuple(cell.strip() for cell in cells.split("|")) for name, cells in rows}


def cell_names(cell: str) -> set[str]:
    return {name.strip(" `") for name in cell.split(",")} - {""}


def check_no_circle(graph: dict[Path, set[Path]]) -> None:
    try:
        tuple(TopologicalSorter(graph).static_order())
    except CycleError as error:
        pytest.fail("a circle: " + " > ".join(name_of(path) for path in error.args[1]))


def test_no_circles() -> None:
    """No module needs, through others, itself; imports inside functions count."""
    check_no_circle({path: own_imports(path) for path in MODULES})


def test_no_circles_for_type_checking() -> None:
    """Not even by what is imported for a type checker alone, unless the docs list it."""
    text = (ROOT / "docs" / "design.md").read_text("utf-8")
    listed = set(re.findall(r"^- `([\w/]+ > [\w/]+)` for type checking", text, re.M))
    found = {path: own_imports(path, type_checking=True) for path in MODULES}
    check_no_circle(
        {
            path: own_imports(path)
            | {each for each in typed if f"{name_of(path)} > {name_of(each)}" not in listed}
            for path, typed in found.items()
        }
    )
    order = list(table("Rooms"))
    for path, typed in found.items():
        for each in typed:
            if {room_of(path), room_of(each)} <= set(order):
                goes_down = order.index(room_of(path)) <= order.index(room_of(each))
                assert goes_down or f"{name_of(path)} > {name_of(each)}" in listed


def test_circles_are_found_out(tmp_path: Path) -> None:
    # The check above can fail: an import that only a function makes is seen.
    module = tmp_path / "module.py"
    module.write_text("def late():\n    from xarray_nd2.io import source\n", "utf-8")
    assert own_imports(module) == {PACKAGE / "io" / "source.py"}
    module.write_text("if TYPE_CHECKING:\n    from xarray_nd2.io import source\n", "utf-8")
    assert own_imports(module) == set()
    assert own_imports(module, type_checking=True) == {PACKAGE / "io" / "source.py"}


def test_rooms_import_what_the_docs_allow() -> None:
    """The table of rooms names every room; each imports only the rooms that stand in its row."""
    allowed = {room: cell_names(cells[-1]) for room, cells in table("Rooms").items()}
    assert set(allowed) == {room_of(path) for path in MODULES} - {"__init__"}
    order = list(allowed)
    for room, below in allowed.items():
        assert all(order.index(other) > order.index(room) for other in below), f"{room} looks up"
    for path in MODULES:
        used = {room_of(found) for found in own_imports(path)} - {room_of(path), "__init__"}
        if room_of(path) != "__init__":
            assert used <= allowed[room_of(path)], path


def test_modules_are_in_the_table() -> None:
    """The table of modules names every one, and the packages that it imports."""
    modules = table("Modules")
    found = {
        name_of(path): path for path in MODULES if path.name not in ("__init__.py", "__main__.py")
    }
    listed = set()
    for name, cells in modules.items():
        if name in found:
            files = [found[name]]
        else:  # a folder, as a whole
            files = [path for other, path in found.items() if other.startswith(f"{name}/")]
        assert files, f"{name} is no module"
        listed |= {name_of(path) for path in files}
        used = set().union(*map(third_party, files))
        assert used <= cell_names(cells[-1]), name
    assert listed == set(found)


@pytest.mark.parametrize(
    "path",
    [path for room in PURE_ROOMS for path in sorted((PACKAGE / room).glob("*.py"))],
    ids=name_of,
)
def test_pure_module(path: Path) -> None:
    """It imports nothing that could read or write, and does not call `open`."""
    for at in reachable(path) - {PACKAGE / "__init__.py"}:
        packages = {name.partition(".")[0] for name in imports(at)}
        assert packages <= PURE_PACKAGES | {"xarray_nd2"}, at
        called = {
            node.func.id
            for node in runtime_nodes(ast.parse(at.read_text("utf-8")))
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
        }
        assert not called & {"open", "print", "input"}, at


def test_impure_modules_are_found_out() -> None:
    # The check above can fail: it sees imports, and through others, where they are.
    assert PACKAGE / "io" / "filesystems.py" in reachable(PACKAGE / "backend.py")
    assert third_party(PACKAGE / "io" / "filesystems.py") & IMPURE_PACKAGES


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_module_is_small(path: Path) -> None:
    assert path.read_text("utf-8").count("\n") < MAX_MODULE_LINES


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_constants_say_what_they_are(path: Path) -> None:
    """No module has a constant of a single word, which one could not grep for."""
    assigned = set()
    for node in ast.parse(path.read_text("utf-8")).body:
        targets = node.targets if isinstance(node, ast.Assign) else []
        targets += [node.target] if isinstance(node, ast.AnnAssign) else []
        for target in targets:
            assigned |= {part.id for part in ast.walk(target) if isinstance(part, ast.Name)}
    constants = {name for name in assigned if name.isupper() and len(name.strip("_")) > 1}
    assert not {name for name in constants if "_" not in name.strip("_")}
