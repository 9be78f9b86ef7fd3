"""The benchmarks run, and what they count keeps to its floors; times are not judged here."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.conftest import ROOT

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks._bench import Group

MARKED = "before\n<!-- measured:start -->\nold\n<!-- measured:end -->\nafter\n"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder that stands in for the repository."""
    folder = tmp_path_factory.mktemp("project")
    (folder / "docs").mkdir()
    for name in ("README.md", "docs/measured.md"):
        (folder / name).write_text(MARKED, "utf-8")
    return folder


@pytest.fixture(scope="module")
def groups(project: Path) -> list[Group]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT)
        from benchmarks.__main__ import main

        output = str(project / "docs" / "measured")
        return main(["--quick", "--only", "opening", "crops", "--output", output])


def test_counted_floors_are_reached(groups: list[Group]) -> None:
    assert [group.name for group in groups] == ["opening", "crops"]
    judged = [row for group in groups for row in group.rows if row.counted and row.floor]
    assert len(judged) >= 15
    assert [row for row in judged if not row.reached] == []


def test_every_time_is_compared(groups: list[Group]) -> None:
    for group in groups:
        for row in group.rows:
            assert row.counted or row.theirs


def test_tables_are_written(groups: list[Group], project: Path) -> None:
    output = project / "docs" / "measured"
    assert {path.name for path in output.iterdir()} == {
        "0-overview.md",
        "crops.md",
        "measured.png",
        "opening.md",
    }
    assert (output / "measured.png").read_bytes().startswith(b"\x89PNG")
    table = (output / "crops.md").read_text("utf-8")
    assert table.startswith("## Crops\n")
    assert all(f"| {row.what} " in table for row in groups[1].rows)
    page = (project / "docs" / "measured.md").read_text("utf-8")
    assert page.startswith("before\n<!-- measured:start -->\n![")
    assert page.index("missed:" if "missed:" in page else "reached.") < page.index(table.strip())


def test_readme_is_updated_after_complete_runs_only(groups: list[Group], project: Path) -> None:
    from benchmarks._report import update_readme

    readme = project / "README.md"
    assert readme.read_text("utf-8") == MARKED
    update_readme(readme, groups)
    update_readme(readme, groups)
    text = readme.read_text("utf-8")
    assert text.startswith("before\n<!-- measured:start -->\n|")
    assert text.endswith("<!-- measured:end -->\nafter\n")
    assert "old" not in text
    assert text.count("| Open ") == 3
