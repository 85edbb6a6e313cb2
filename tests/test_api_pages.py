"""The pages of the API reference."""

import importlib
import re

import pytest

from tests.helpers import ROOT

PAGES = ROOT / "docs" / "api"
MODULES = ["sktwotower"] + [
    f"sktwotower.{page.stem}"
    for page in PAGES.glob("*.rst")
    if page.stem not in ("index", "recommender")
]


@pytest.mark.parametrize("module", MODULES)
def test_a_page_has_the_public_names_of_its_module(module):
    page = "recommender" if module == "sktwotower" else module.partition(".")[2]
    text = (PAGES / f"{page}.rst").read_text(encoding="utf-8")
    names = re.findall(r"^   (\w+)$", text, re.MULTILINE)
    names += re.findall(
        r"^\.\. (?:autoclass|py:data):: (?:[\w.]+\.)?(\w+)$", text, re.MULTILINE
    )
    public = importlib.import_module(module).__all__
    assert sorted(names) == sorted(name for name in public if name != "__version__")


def test_every_public_module_has_a_page_and_a_line_in_the_overview():
    package = ROOT / "sktwotower"
    public = {
        f"sktwotower.{path.stem}"
        for path in [
            *package.glob("*.py"),
            *(one.parent for one in package.glob("*/__init__.py")),
        ]
        if not path.stem.startswith("_") and path.stem not in ("base", "utils")
    }
    assert {*MODULES} == {"sktwotower", *public}
    overview = (PAGES / "index.rst").read_text(encoding="utf-8")
    assert {*re.findall(r":doc:`([\w.]+) <\w+>`", overview)} == {*MODULES}
