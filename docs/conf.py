"""Settings of the documentation. License: BSD-3-Clause."""

import doctest
import os
import re
from pathlib import Path

from docutils import nodes

from sktwotower import __version__

project = "sktwotower"
author = "The sktwotower developers"
project_copyright = f"{author} (BSD-3-Clause)"
version = release = __version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.doctest",
    "sphinx.ext.mathjax",
    "numpydoc",
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = ["_build", "_templates"]
templates_path = ["_templates"]
default_role = "literal"  # `name` in single backquotes is code
doctest_default_flags = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
toc_object_entries_show_parents = "hide"

# The class template lists the methods itself, to leave out what only scikit-learn owns.
numpydoc_show_class_members = False
autodoc_typehints = "none"  # the docstrings say the types, with shapes

os.environ.setdefault("COLUMNS", "102")  # of progress bars: what a page has

sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "auto_examples",
    "filename_pattern": r"plot_",
    "ignore_pattern": r"^(?!.*plot_)",  # other scripts are not part of the gallery
    "reference_url": {"sktwotower": None},  # names in the code link to the API pages
    "doc_module": ("sktwotower",),
    "backreferences_dir": None,
    "download_all_examples": False,
    "show_memory": False,
}

html_theme = "pydata_sphinx_theme"
html_title = f"sktwotower {release}"
html_theme_options = {
    "logo": {"text": "sktwotower"},
    "navigation_with_keys": False,
    "show_nav_level": 2,
    "show_toc_level": 2,
    "footer_start": ["copyright"],
    "footer_end": ["sphinx-version"],
}
# Pages without pages below them need no list of those, and examples have wide lines.
html_sidebars = dict.fromkeys(
    ["conventions", "principles", "contributing", "changelog", "auto_examples/*"], []
)
html_show_sourcelink = False
html_copy_source = False

CHANGELOG = Path(__file__).parents[1] / "CHANGELOG.md"


def markdown_to_rst(text):
    """Convert what a changelog uses: headings, flat lists, links, code, bold."""
    text = re.sub(r"(?<!`)`([^`]+)`(?!`)", r"``\1``", text)
    text = re.sub(r"\[([^\]]+)\]\(([^)]+)\)", r"`\1 <\2>`__", text)
    return re.sub(r"^(#{1,4}) +(.+)$", _underline, text, flags=re.MULTILINE)


def _underline(heading):
    marks, title = heading.groups()
    return f"{title}\n{'=-~^'[len(marks) - 1] * len(title)}"


def include_changelog(app, docname, source):
    """Put CHANGELOG.md in the place of the page `changelog`."""
    if docname == "changelog":
        app.env.note_dependency(str(CHANGELOG))
        source[0] = markdown_to_rst(CHANGELOG.read_text(encoding="utf-8"))


def unlink_metrics(app, doctree):
    """Undo what docutils makes of NDCG@10: a mail address."""
    for link in list(doctree.findall(nodes.reference)):
        if re.fullmatch(r"mailto:\w+@\d+", link.get("refuri", "")):
            link.replace_self(link.children)


def setup(app):
    """Connect what this file adds to Sphinx."""
    app.connect("doctree-read", unlink_metrics)
    app.connect("source-read", include_changelog)
