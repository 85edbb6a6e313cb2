"""The order of the layers of the package, read from its import statements."""

import ast
from collections import defaultdict
from typing import NamedTuple

import pytest

from tests.helpers import ROOT

PACKAGE = "sktwotower"
# From the bottom up. A module imports modules of lower layers and of its own room.
LAYERS = [
    {"utils", "_version"},
    {"_nn", "_search", "history", "preprocessing"},
    {"_data"},
    {"metrics", "model_selection", "datasets"},
    {"_training"},
    {"_serving"},
    {"base"},
    {"_embedding_recommender", "baselines"},
    {"_two_tower"},
    {"pipeline", "inspection", "_persistence", "_onnx"},
    {"_command_line"},
    {"__main__"},
]
# The only imports upwards: module, function and what the function imports.
LATE = {
    ("_two_tower", "save", "_persistence.saving"),
    ("_two_tower", "export_onnx", "_onnx.export"),
}


class Import(NamedTuple):
    """One module of the package imports another one; names are without the package's."""

    importer: str
    line: int
    function: str  # the innermost one around the statement, or ""
    imported: str
    level: int  # dots of a relative import


def sources_of(folder):
    """Source of each module of a package, by its name inside the package."""
    sources = {}
    for path in sorted(folder.rglob("*.py")):
        parts = path.relative_to(folder).with_suffix("").parts
        sources[".".join(parts)] = path.read_text(encoding="utf-8")
    return sources


def imports_of(sources):
    """All imports within the package, in functions and under TYPE_CHECKING as well."""
    found = []
    for importer, source in sources.items():
        for node, function in _statements(ast.parse(source)):
            level = getattr(node, "level", 0)
            for name in _names(node, importer):
                head, _, rest = name.partition(".")
                if head == PACKAGE:
                    imported = _module(rest, sources)
                    found.append(Import(importer, node.lineno, function, imported, level))
    return list(dict.fromkeys(found))


def _statements(node, function=""):
    if isinstance(node, ast.Import | ast.ImportFrom):
        yield node, function
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        function = node.name
    for child in ast.iter_child_nodes(node):
        yield from _statements(child, function)


def _names(node, importer):
    """Full dotted names that a statement imports."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    start = node.module or ""
    if node.level:
        around = [PACKAGE, *importer.split(".")][: -node.level]
        start = ".".join([*around, *([node.module] if node.module else [])])
    return [f"{start}.{alias.name}" for alias in node.names]


def _module(name, sources):
    """The module that a dotted name is, or is in."""
    parts = name.split(".") if name else []
    while parts:
        for module in (".".join(parts), ".".join([*parts, "__init__"])):
            if module in sources:
                return module
        parts.pop()
    return "__init__"


def room_of(module):
    return module.partition(".")[0]


def upward(found, layers, late):
    """A line for each import of a layer above, or of another room of the same layer."""
    heights = {room: height for height, layer in enumerate(layers) for room in layer}
    heights["__init__"] = len(layers)
    lines = []
    for one in found:
        source, target = room_of(one.importer), room_of(one.imported)
        place = f"{one.importer}:{one.line} imports {one.imported}"
        unknown = sorted({source, target} - set(heights))
        if unknown:
            lines.append(f"{place}, but {unknown} is in no layer")
        elif source != target and heights[target] >= heights[source]:
            if (one.importer, one.function, one.imported) not in late:
                lines.append(f"{place}: layer {heights[source]} imports {heights[target]}")
    return lines


def circles(found):
    """Modules that import each other directly or by way of others, each group once."""
    graph = defaultdict(set)
    for one in found:
        if one.importer != one.imported:
            graph[one.importer].add(one.imported)
    reached = {module: _reachable(module, graph) for module in list(graph)}
    groups = {
        frozenset(other for other in reached[module] if module in reached.get(other, ()))
        for module in graph
        if module in reached[module]
    }
    return sorted(" <-> ".join(sorted(group)) for group in groups)


def _reachable(module, graph):
    found, left = set(), [module]
    while left:
        for other in graph.get(left.pop(), ()):
            if other not in found:
                found.add(other)
                left.append(other)
    return found


def names_twice(sources):
    """Modules of different rooms with one name, and classes with one name."""
    modules, classes = defaultdict(list), defaultdict(list)
    for module, source in sources.items():
        name = module.rpartition(".")[2]
        if name not in ("__init__", "_base"):
            modules[name.lstrip("_")].append(module)
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.ClassDef):
                classes[node.name].append(module)
    return [
        f"{kind} {name}: {', '.join(places)}"
        for kind, names in (("module", modules), ("class", classes))
        for name, places in sorted(names.items())
        if len(places) > 1
    ]


def assert_none(lines):
    assert not lines, "\n" + "\n".join(lines)


# --- the package ---------------------------------------------------------------------


@pytest.fixture(scope="module")
def sources():
    return sources_of(ROOT / PACKAGE)


@pytest.fixture(scope="module")
def imports(sources):
    return imports_of(sources)


def test_imports_go_down(imports):
    assert len(imports) > 100
    assert_none(upward(imports, LAYERS, LATE))


def test_the_late_imports_are_still_there(imports):
    assert {(one.importer, one.function, one.imported) for one in imports} >= LATE


def test_no_module_imports_itself_by_way_of_others(imports):
    early = [
        one for one in imports if (one.importer, one.function, one.imported) not in LATE
    ]
    assert_none(circles(early))


def test_imports_are_absolute(imports):
    assert_none([f"{one.importer}:{one.line}" for one in imports if one.level])


def test_every_room_is_in_a_layer(sources):
    rooms = {room_of(module) for module in sources} - {"__init__"}
    assert rooms == set().union(*LAYERS)


def test_few_things_lie_at_the_top():
    folder = ROOT / PACKAGE
    rooms = [path.name for path in folder.iterdir() if (path / "__init__.py").exists()]
    modules = [path.name for path in folder.glob("*.py")]
    private = [name for name in modules if name.startswith("_") and name != "__init__.py"]
    assert len(rooms + modules) <= 24, sorted(rooms + modules)
    assert len(private) <= 4, sorted(private)


def test_no_name_twice(sources):
    assert_none(names_twice(sources))


# --- the walk itself, on packages made by hand -----------------------------------------

EXAMPLE = {
    "__init__": "from sktwotower._top import Top\n",
    "low.__init__": "",
    "low.one": "import numpy\nfrom sktwotower import low\n",
    "middle.__init__": "from sktwotower.low.one import f, g\n",
    "middle._two": "import sktwotower.low.one\nfrom sktwotower.middle import f\n",
    "_top": "from sktwotower.low import one as two, name\n",
}
ORDER = [{"low"}, {"middle"}, {"_top"}]


def with_module(name, source):
    return imports_of(EXAMPLE | {name: source})


def test_names_are_resolved_to_modules():
    found = {(one.importer, one.line, one.imported) for one in imports_of(EXAMPLE)}
    assert found == {
        ("__init__", 1, "_top"),
        ("low.one", 2, "low.__init__"),
        ("middle.__init__", 1, "low.one"),
        ("middle._two", 1, "low.one"),
        ("middle._two", 2, "middle.__init__"),
        ("_top", 1, "low.one"),
        ("_top", 1, "low.__init__"),
    }
    assert upward(imports_of(EXAMPLE), ORDER, set()) == []
    assert circles(imports_of(EXAMPLE)) == []


@pytest.mark.parametrize(
    "source",
    [
        "import sktwotower._top",
        "from sktwotower import _top",
        "from sktwotower._top import Top",
        "from .. import _top",
        "from .._top import Top",
        "def f():\n    from sktwotower._top import Top",
        "class A:\n    async def f(self):\n        import sktwotower._top",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import sktwotower._top",
        "try:\n    import sktwotower._top\nexcept ImportError:\n    pass",
    ],
)
def test_an_import_upwards_is_found(source):
    (line,) = upward(with_module("low.new", source), ORDER, set())
    n_line = 1 + source[: source.index("_top")].count("\n")
    assert line == f"low.new:{n_line} imports _top: layer 0 imports 2"


def test_imports_of_all_and_of_neighbours_are_upwards():
    assert upward(with_module("low.new", "import sktwotower"), ORDER, set())
    beside = [{"low", "middle"}, {"_top"}]
    assert len(upward(imports_of(EXAMPLE), beside, set())) == 2
    (line,) = upward(with_module("attic", "import sktwotower.low"), ORDER, set())
    assert line.endswith("['attic'] is in no layer")


def test_late_imports_are_by_function():
    late = {("low.new", "save", "_top")}
    inside = "class A:\n    def save(self):\n        from sktwotower._top import Top"
    assert upward(with_module("low.new", inside), ORDER, late) == []
    for other in (inside.replace("save", "load"), "import sktwotower._top"):
        assert upward(with_module("low.new", other), ORDER, late)


def test_circles_are_found():
    two = imports_of({"a": "import sktwotower.b", "b": "from sktwotower import a"})
    assert circles(two) == ["a <-> b"]
    three = {
        "a": "from sktwotower.b import f",
        "b": "def f():\n    import sktwotower.c",
        "c": "import sktwotower.a",
        "d": "import sktwotower.a",
    }
    assert circles(imports_of(three)) == ["a <-> b <-> c"]


def test_relative_imports_are_marked():
    found = with_module("low.new", "from .one import f\nfrom sktwotower.low import one")
    assert [one.level for one in found if one.importer == "low.new"] == [1, 0]
    assert [one.imported for one in found if one.importer == "low.new"] == ["low.one"] * 2


def test_names_that_are_there_twice():
    sources = {
        "a.__init__": "",
        "b.__init__": "",
        "a._base": "",
        "b._base": "",
        "a._index": "class Index:\n    pass",
        "b.index": "class Row:\n    class Index:\n        pass",
    }
    assert names_twice(sources) == [
        "module index: a._index, b.index",
        "class Index: a._index, b.index",
    ]
