"""Tables of the docs and the README, and their plot."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from benchmarks._bench import Group, Row

TABLE_MARKS = ("<!-- measured:start -->", "<!-- measured:end -->")
PLOT_NAME = "measured.png"
TIMES_SIGN = "\N{MULTIPLICATION SIGN}"
_GROUP_HEADER = ("what", "unit", "xarray-nd2", "other", "compared", "ratio", "floor", "")
_VERSIONED_PACKAGES = ("xarray-nd2", "nd2", "xarray", "dask", "fsspec", "aiohttp", "zarr", "numpy")


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Markdown table, its columns aligned so that it can be read as it stands."""
    lines = [header, *rows]
    widths = [max(3, *(len(line[i]) for line in lines)) for i in range(len(header))]

    def joined(line: Sequence[str]) -> str:
        cells = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        return f"| {' | '.join(cells)} |"

    rule = f"|{'|'.join('-' * (width + 2) for width in widths)}|"
    return "\n".join([joined(header), rule, *map(joined, rows)])


def shown_number(value: float | None, unit: str) -> str:
    """A value as it is shown in a column that names its unit."""
    if value is None:
        return ""
    if unit == "B":
        return f"{value:,.0f}"
    if unit == "s":
        return f"{value:.3g}"
    return f"{value:,.0f}"


def verdict(row: Row) -> str:
    """Whether the floor is reached, and if not by how much it is missed."""
    if row.floor is None:
        return ""
    if not row.reached:
        times = row.floor.times_missed(row.judged)
        return f"missed by {times - 1:.0%}" if times < 2 else f"missed {times:.1f}-fold"
    aim = row.floor.aim
    if aim is None or type(row.floor)(aim, row.floor.side).reached(row.judged):
        return "reached"
    return f"reached; aim {aim:g}"


def row_cells(row: Row) -> tuple[str, ...]:
    """Columns of a row."""
    ratio = floor = ""
    if row.ratio is not None:
        ratio = f"{row.ratio.median:.3g}"
        if row.ratio.low != row.ratio.high:
            ratio += f" ({row.ratio.low:.3g} to {row.ratio.high:.3g})"
    if row.floor is not None:
        limit = f"{row.floor.limit:,.0f}" if row.floor.limit > 100 else f"{row.floor.limit:g}"
        floor = f"{'≤' if row.floor.side == 'most' else '≥'} {limit}"
    theirs = shown_number(row.theirs, row.unit)
    return (
        row.what,
        row.unit,
        shown_number(row.ours, row.unit),
        row.against,
        theirs,
        ratio,
        floor,
        verdict(row),
    )


def group_text(group: Group) -> str:
    """Section of the docs for a group."""
    parts = [f"## {group.title}", group.text]
    if group.rows:
        parts.append(markdown_table(_GROUP_HEADER, [row_cells(row) for row in group.rows]))
    parts += [markdown_table(header, rows) for header, rows in group.tables]
    return "\n\n".join(parts) + "\n"


def missed_floors(groups: Sequence[Group]) -> list[str]:
    """A line for each floor that is missed."""
    return [
        f"{group.name}: {row.what}, {row.unit}{row.against and f' against {row.against}'}: "
        f"{verdict(row)}"
        for group in groups
        for row in group.rows
        if not row.reached
    ]


def write_tables(output: Path, groups: Sequence[Group], *, quick: bool) -> None:
    """Write a Markdown table for each group, the overview and the plot."""
    output.mkdir(parents=True, exist_ok=True)
    for group in groups:
        (output / f"{group.name}.md").write_text(group_text(group), "utf-8")
    plot_headlines(output / PLOT_NAME, groups)
    # Named so that it comes first.
    (output / "0-overview.md").write_text(_overview(groups, quick=quick), "utf-8")


_HOW_MEASURED = """\
Each number stands beside that of another way to read the same pixels in the same run. Times are
medians, and a ratio is the median of those of repetitions taken in turns, with the lowest and the
highest in brackets. With a floor of *at least* (≥), or none against nd2 and Zarr, it is the other's
time divided by that of xarray-nd2; with one of *at most* (≤) the other way round. The server is a
process of its own on the same machine, which delays its answers; files are in the page cache."""


def _overview(groups: Sequence[Group], *, quick: bool) -> str:
    versions = ", ".join(
        f"{name} {importlib.metadata.version(name)}" for name in _VERSIONED_PACKAGES
    )
    machine = (
        f"Measured with {versions}; Python {platform.python_version()} on {platform.system()} "
        f"with {os.cpu_count()} processors"
    )
    lost = missed_floors(groups)
    floors = sum(row.floor is not None for group in groups for row in group.rows)
    parts = [
        f"![How many times as long nd2 takes]({PLOT_FOLDER}/{PLOT_NAME})",
        machine + (", with smaller files and few repetitions." if quick else "."),
        _HOW_MEASURED,
        f"Of {floors} floors {floors - len(lost)} are reached" + ("; missed:" if lost else "."),
    ]
    if lost:
        parts.append("\n".join(f"- {line}" for line in lost))
    return "\n\n".join(parts) + "\n"


PLOT_FOLDER = "measured"
"""Folder of the plot, from the page that the tables are put into."""


def headlines(groups: Sequence[Group]) -> list[Row]:
    """Rows that the README shows."""
    return [row for group in groups for row in group.rows if row.headline]


def readme_table(groups: Sequence[Group]) -> str:
    """Table of the README."""
    rows = []
    for row in headlines(groups):
        ratio = "" if row.ratio is None else f"{row.ratio.median:.2g}{TIMES_SIGN}"
        ours, theirs = (
            f"{value:.2g} s" if row.unit == "s" else f"{shown_number(value, row.unit)} {row.unit}"
            for value in (row.ours, row.theirs)
        )
        rows.append((row.headline, ours, theirs, ratio))
    return markdown_table(("", "xarray-nd2", "nd2", "faster"), rows)


def update_readme(readme: Path, groups: Sequence[Group]) -> None:
    """Put the table between the marks of the README."""
    note = (
        "Over HTTP with the latency and bandwidth given, from a server on the same machine, beside "
        f"`nd2` {importlib.metadata.version('nd2')} in the same run. "
        "[All numbers and how they were taken](docs/measured.md)."
    )
    _put_between_marks(readme, f"{readme_table(groups)}\n\n{note}")


def update_page(page: Path, folder: Path) -> None:
    """Put all tables of a folder between the marks of the page of the docs."""
    parts = sorted(folder.glob("*.md"))
    _put_between_marks(page, "\n\n".join(part.read_text("utf-8").strip() for part in parts))


def _put_between_marks(page: Path, block: str) -> None:
    start, end = TABLE_MARKS
    updated, count = re.subn(
        f"{re.escape(start)}.*?{re.escape(end)}",
        lambda _: f"{start}\n{block}\n{end}",
        page.read_text("utf-8"),
        flags=re.DOTALL,
    )
    if count != 1:
        raise ValueError(f"{page} has {count} places for the tables, not 1")
    page.write_text(updated, "utf-8")


def plot_headlines(path: Path, groups: Sequence[Group]) -> None:
    """Plot how many times as long nd2 takes, with the floors."""
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot as plt

    rows = [row for row in headlines(groups) if row.ratio is not None][::-1]
    figure, axes = plt.subplots(figsize=(8, 1.2 + 0.45 * max(1, len(rows))), layout="constrained")
    for at, row in enumerate(rows):
        assert row.ratio is not None
        spread = [[row.ratio.median - row.ratio.low], [row.ratio.high - row.ratio.median]]
        axes.barh(at, row.ratio.median, color="#3b7ea1", xerr=spread, ecolor="#555555", height=0.6)
        if row.floor is not None:
            axes.plot([row.floor.limit] * 2, [at - 0.4, at + 0.4], color="#c43e3e", linewidth=2)
        axes.annotate(
            f"{row.ratio.median:.2g}{TIMES_SIGN}",
            (row.ratio.high, at),
            xytext=(5, 0),
            textcoords="offset points",
            va="center",
        )
    axes.set_yticks(range(len(rows)), [row.headline for row in rows])
    axes.set_xscale("log")
    axes.margins(x=0.12)
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set_xlabel("time of nd2 / time of xarray-nd2 (red: floor)")
    axes.spines[["top", "right"]].set_visible(False)
    # Without the date, so that the same numbers give the same file.
    figure.savefig(path, dpi=120, metadata={"Software": None})
    plt.close(figure)
