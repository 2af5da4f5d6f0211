"""Sphinx: the pages of this folder, and the reference out of the docstrings.

`make docs`, or `sphinx-build -n -W --keep-going -b html docs build/docs`; nothing is fetched.
"""

from __future__ import annotations

import importlib.machinery as machinery
import re
import sys
from typing import Any

from sphinx.application import Sphinx

# Modules that are compiled have no signatures: of those the source is read. What exists only as
# Cython is loaded as it was built.
sys.path_hooks.insert(
    0,
    machinery.FileFinder.path_hook(
        (machinery.SourceFileLoader, machinery.SOURCE_SUFFIXES),
        (machinery.ExtensionFileLoader, machinery.EXTENSION_SUFFIXES),
    ),
)
sys.path_importer_cache.clear()

import dicomcrypt  # noqa: E402

project = "dicomcrypt"
version = release = dicomcrypt.__version__
language = "en"

extensions = ["myst_parser", "sphinx.ext.autodoc"]
source_suffix = {".md": "markdown", ".rst": "restructuredtext"}
exclude_patterns = ["build"]
needs_sphinx = "8.1"

html_theme = "alabaster"
html_theme_options = {
    "description": "Encrypts DICOM files and archives, and gives every byte back",
    "fixed_sidebar": True,
    "page_width": "1100px",
    "sidebar_collapse": True,
}
smartquotes = False
html_copy_source = False
html_show_copyright = False
html_show_sphinx = False

# Headings get anchors as on GitHub, so that links to sections can be followed there and here.
myst_heading_anchors = 4
myst_links_external_new_tab = False

default_role = "literal"
autodoc_default_options = {"show-inheritance": True}
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_use_type_comments = False

#: What is named in signatures and not part of the reference.
nitpick_ignore_regex = [
    # Other libraries: their documentation is not fetched.
    ("py:.*", r"(?!dicomcrypt)(\w+\.)*\w+"),
    # Types by the module that has them: where it is not listed, callers only hand them on.
    ("py:class", r"dicomcrypt(\.\w+)+"),
    # Signatures of data classes with a factory, which do not parse, are cut at commas.
    ("py:class", r"(list\[)?tuple\[str"),
]


def as_rest(lines: list[str]) -> list[str]:
    """Turn a docstring, which is plain text, into reStructuredText.

    A paragraph that is indented becomes a literal block, names in single backticks are literals
    (`default_role`), and nothing else has a meaning. Examples after `>>>` stay as they are.
    """
    made: list[str] = []
    for block in re.split(r"\n\s*\n", "\n".join(lines).strip("\n")):
        if block.startswith(">>>"):
            made += [block, ""]
        elif block.startswith(" "):
            made += ["::", "", block, ""]
        else:
            made += [_escaped(block), ""]
    return "\n".join(made).split("\n")


def _escaped(block: str) -> str:
    """Escape what is markup to reStructuredText outside of backticks."""
    pieces = re.split(r"(`[^`]+`)", block)
    pieces[::2] = [re.sub(r"([\\*_|`])", r"\\\1", piece) for piece in pieces[::2]]
    return "".join(pieces)


def on_docstring(
    app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]
) -> None:
    lines[:] = as_rest(lines)


def setup(app: Sphinx) -> None:
    app.connect("autodoc-process-docstring", on_docstring)
