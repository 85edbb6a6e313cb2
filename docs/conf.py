"""Settings of the documentation. License: BSD-3-Clause."""

import doctest
import os
import re
import runpy
from pathlib import Path

from docutils import nodes
from sklearn.experimental import enable_halving_search_cv  # noqa: F401 (linked to)
from sphinx import addnodes

from sktwotower import __version__

project = "sktwotower"
author = "The sktwotower developers"
project_copyright = f"{author} (BSD-3-Clause)"
version = release = __version__

HERE = Path(__file__).parent
# The pictures of the guide, and the logo.
runpy.run_path(str(HERE / "drawings.py"))["main"](HERE / "_drawings")
inventories = runpy.run_path(str(HERE / "inventories.py"))
intersphinx_mapping = inventories["mapping"](HERE / "_drawings" / "inventories")
intersphinx_timeout = 5

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.doctest",
    "sphinx.ext.intersphinx",
    "sphinx.ext.mathjax",
    "myst_parser",
    "numpydoc",
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = ["_build", "_drawings", "_templates"]
myst_enable_extensions = ["dollarmath"]
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
    "backreferences_dir": "generated/backreferences",  # for "Examples using"
    "download_all_examples": False,
    "show_memory": False,
    "parallel": True,  # as many examples at a time as Sphinx has processes
    "remove_config_comments": True,  # which picture is the thumbnail
}

html_theme = "pydata_sphinx_theme"
html_static_path = ["_static"]
html_css_files = ["layout.css"]
html_title = f"sktwotower {release}"
html_logo = html_favicon = "_drawings/logo.svg"
html_theme_options = {
    "logo": {"text": "sktwotower"},
    "navigation_with_keys": False,
    "show_nav_level": 1,
    "show_toc_level": 2,
    "footer_start": ["copyright"],
    "footer_end": ["sphinx-version"],
}
# Pages without pages below them need no list of those, and examples have wide lines.
html_sidebars = dict.fromkeys(
    [
        "conventions",
        "principles",
        "performance",
        "contributing",
        "changelog",
        "auto_examples/*",
    ],
    [],
)
html_show_sourcelink = False
html_copy_source = False


def unlink_metrics(app, doctree):
    """Undo what docutils makes of NDCG@10: a mail address."""
    for link in list(doctree.findall(nodes.reference)):
        if re.fullmatch(r"mailto:\w+@\d+", link.get("refuri", "")):
            link.replace_self(link.children)


# The parameter with which each group of TwoTowerRecommender's parameters begins.
PARAMETER_GROUPS = {
    "user_column": "Data",
    "user_features": "Features",
    "user_id_embedding": "Ids, history and popularity",
    "embedding_dim": "Towers",
    "loss": "Objective",
    "optimizer": "Optimisation",
    "early_stopping": "Stopping",
    "warm_start": "The rest",
}


def group_parameters(app, doctree):
    """Put headings into the long list of the recommender's parameters and its contents."""
    page, name = app.env.docname, "sktwotower.TwoTowerRecommender"
    if page != f"generated/{name}":
        return
    (signature,) = (
        one for one in doctree.findall(addnodes.desc_signature) if name in one["ids"]
    )
    fields = next(iter(signature.parent.findall(nodes.field_list)))
    (parameters,) = fields[0].findall(nodes.definition_list)
    (contents,) = (
        link.parent.next_node(nodes.bullet_list, descend=False, siblings=True)
        for link in app.env.tocs[page].findall(nodes.reference)
        if link["anchorname"] == f"#{name}"
    )
    parts, entries, left = [], [], dict(PARAMETER_GROUPS)
    for item in parameters.children:
        (parameter, *_) = item[0].findall(nodes.strong)
        first = parameter.astext().partition(",")[0]
        anchor = nodes.make_id(f"parameter {first}")
        item[0]["ids"].append(anchor)
        item[0] += nodes.reference("", "#", refid=anchor, classes=["headerlink"])
        if title := left.pop(first, None):
            anchor = nodes.make_id(f"parameters {title}")
            heading = nodes.rubric(title, title, ids=[anchor], classes=["group"])
            heading["heading-level"] = 3
            heading += nodes.reference("", "#", refid=anchor, classes=["headerlink"])
            parts += [heading, nodes.definition_list()]
            link = nodes.reference(
                "", title, internal=True, refuri=page, anchorname=f"#{anchor}"
            )
            entries.append(nodes.list_item("", addnodes.compact_paragraph("", "", link)))
        parts[-1] += item
    assert not left, f"These parameters begin a group, and do not exist: {[*left]}"
    parameters.replace_self(parts)
    contents.insert(0, entries)


def setup(app):
    """Connect what this file adds to Sphinx."""
    app.connect("doctree-read", unlink_metrics)
    app.connect("doctree-read", group_parameters)
