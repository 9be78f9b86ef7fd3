"""Sphinx configuration."""

from __future__ import annotations

import os
from pathlib import Path

import xarray_nd2

project = "xarray-nd2"
author = "The xarray-nd2 developers"
project_copyright = "2026, The xarray-nd2 developers"
release = version = xarray_nd2.__version__

extensions = ["myst_nb", "numpydoc", "sphinx.ext.autodoc"]
# The tables in measured/ are in measured.md.
exclude_patterns = ["_build", "measured"]
myst_heading_anchors = 3

# Notebooks are run anew by each build, in a folder of their own; they import notebooks/sample_files.py.
# An error ends the build, and what is printed to stderr counts as a warning of Sphinx.
nb_execution_mode = "force"
nb_execution_in_temp = True
nb_execution_raise_on_error = True
nb_execution_timeout = 120
nb_output_stderr = "warn"
nb_merge_streams = True
_import_path = [str(Path(__file__).parent / "notebooks"), os.environ.get("PYTHONPATH")]
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, _import_path))

html_theme = "furo"
html_title = f"{project} {release}"
html_static_path = ["_static"]
html_css_files = ["xarray.css"]

# Names in docstrings are in single backticks.
default_role = "literal"
autodoc_typehints = "none"
autodoc_member_order = "bysource"
numpydoc_show_class_members = False
