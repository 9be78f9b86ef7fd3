"""Sphinx configuration."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import xarray_nd2

if TYPE_CHECKING:
    from sphinx.application import Sphinx

project = "xarray-nd2"
author = "The xarray-nd2 developers"
project_copyright = "2026, The xarray-nd2 developers"
release = version = xarray_nd2.__version__

extensions = ["myst_parser", "numpydoc", "sphinx.ext.autodoc"]
# The tables in measured/ are put into measured.md.
exclude_patterns = ["_build", "measured"]
myst_heading_anchors = 3

html_theme = "furo"
html_title = f"{project} {release}"

# Names in docstrings are in single backticks.
default_role = "literal"
autodoc_typehints = "none"
autodoc_member_order = "bysource"
numpydoc_show_class_members = False

MEASURED_MARK = "<!-- measured -->"


def include_measured(app: Sphinx, docname: str, source: list[str]) -> None:
    """Put the tables that the benchmarks wrote in the place that is marked for them."""
    if docname == "measured":
        tables = sorted((Path(app.srcdir) / "measured").glob("*.md"))
        text = "\n\n".join(table.read_text("utf-8").strip() for table in tables)
        source[0] = source[0].replace(MEASURED_MARK, text or "No tables yet.")


def setup(app: Sphinx) -> None:
    app.connect("source-read", include_measured)
