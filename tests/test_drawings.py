"""The pictures of the documentation."""

import re
import runpy
from xml.etree import ElementTree

import pytest

from tests.helpers import ROOT

DOCS = ROOT / "docs"
MODULE = runpy.run_path(str(DOCS / "drawings.py"))


@pytest.mark.parametrize("name", MODULE["DRAWINGS"])
def test_a_drawing_is_whole(name):
    """Well-formed, with a title, and nothing outside of its canvas."""
    root = ElementTree.fromstring(MODULE["DRAWINGS"][name]().svg())
    _, _, width, height = map(float, root.get("viewBox").split())
    assert next(iter(root)).text
    for element in root.iter():
        numbers = {k: float(element.get(k)) for k in ("x", "y", "cx", "cy") if element.get(k)}
        for key, value in numbers.items():
            assert 0 <= value <= (width if "x" in key else height), (name, element.attrib)
        if element.tag.endswith("rect"):
            assert numbers["x"] + float(element.get("width")) <= width
            assert numbers["y"] + float(element.get("height")) <= height


def test_all_are_written_and_shown(tmp_path):
    MODULE["main"](tmp_path)
    written = {path.stem for path in tmp_path.iterdir()}
    pages = [*DOCS.rglob("*.rst"), DOCS / "conf.py"]
    text = "\n".join(page.read_text(encoding="utf-8") for page in pages)
    shown = set(re.findall(r"_drawings/(\w+)\.svg", text))
    assert written == shown == set(MODULE["DRAWINGS"])
