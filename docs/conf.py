"""Sphinx configuration."""

from __future__ import annotations

import xarray_nd2

project = "xarray-nd2"
author = "The xarray-nd2 developers"
project_copyright = "2026, The xarray-nd2 developers"
release = version = xarray_nd2.__version__

extensions = ["myst_parser", "numpydoc", "sphinx.ext.autodoc"]
# The tables in measured/ are in measured.md.
exclude_patterns = ["_build", "measured"]
myst_heading_anchors = 3

html_theme = "furo"
html_title = f"{project} {release}"

# Names in docstrings are in single backticks.
default_role = "literal"
autodoc_typehints = "none"
autodoc_member_order = "bysource"
numpydoc_show_class_members = False
