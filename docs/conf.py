"""Sphinx configuration."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from sphinx.errors import SphinxError

import xarray_nd2

if TYPE_CHECKING:
    from sphinx.application import Sphinx

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


def setup(app: Sphinx) -> None:
    """Have the build fail where a page shows a picture that is not there.

    The front page shows one that a notebook made. It is among the files of the build only because
    the notebook shows it as well, and Sphinx does not look.
    """
    app.connect("build-finished", _check_pictures)


def _check_pictures(app: Sphinx, exception: Exception | None) -> None:
    if exception is None and app.builder.format == "html":
        for page in Path(app.outdir).rglob("*.html"):
            for source in re.findall(r'<img[^>]* src="([^":]+)"', page.read_text("utf-8")):
                if not (page.parent / source).is_file():
                    raise SphinxError(f"{page.name} shows {source}, which is not there")
