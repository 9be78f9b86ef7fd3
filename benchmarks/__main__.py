"""``python -m benchmarks``: measure everything, or some of it."""

from __future__ import annotations

import argparse
import importlib
import tempfile
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import _report
from benchmarks._bench import Bench

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks._bench import Group

GROUP_NAMES = (
    "opening",
    "many",
    "crops",
    "frames",
    "stores",
    "gaps",
    "changes",
    "rois",
    "training",
    "loaders",
    "lossless",
    "small",
    "local",
    "disk",
    "shares",
    "memory",
    "export",
    "late",
    "patience",
)
"""Modules of this package, each with a function ``run(bench)``."""


def measure(names: Sequence[str], *, quick: bool) -> list[Group]:
    """Run groups of measurements and print their tables.

    Parameters
    ----------
    names : sequence of str
        Groups to run, of `GROUP_NAMES`.
    quick : bool
        Whether to read less and less often.
    """
    groups = []
    with (
        tempfile.TemporaryDirectory(prefix="benchmarks-") as folder,
        Bench(Path(folder), quick=quick) as bench,
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        for name in names:
            began = time.perf_counter()
            group: Group = importlib.import_module(f"benchmarks.{name}").run(bench)
            print(_report.group_text(group), flush=True)
            print(f"({name}: {time.perf_counter() - began:.0f} s)\n", flush=True)
            groups.append(group)
    return groups


def main(arguments: Sequence[str] | None = None) -> list[Group]:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="smaller files, fewer repetitions")
    parser.add_argument(
        "--only",
        nargs="+",
        choices=GROUP_NAMES,
        default=GROUP_NAMES,
        metavar="NAME",
        help=", ".join(GROUP_NAMES),
    )
    parser.add_argument(
        "--output",
        type=Path,
        help="folder for the tables and the plot, docs/measured; the page docs/measured.md beside it "
        "shows them, and the README two folders above the first of them after a complete run that "
        "is not quick",
    )
    chosen = parser.parse_args(arguments)
    groups = measure(chosen.only, quick=chosen.quick)
    for line in _report.missed_floors(groups):
        print(f"missed: {line}")
    if chosen.output is not None:
        _report.write_tables(chosen.output, groups, quick=chosen.quick)
        _report.update_page(chosen.output.with_suffix(".md"), chosen.output)
        readme = chosen.output.resolve().parents[1] / "README.md"
        if len(groups) == len(GROUP_NAMES) and not chosen.quick and readme.is_file():
            _report.update_readme(readme, groups)
    return groups


if __name__ == "__main__":
    main()
