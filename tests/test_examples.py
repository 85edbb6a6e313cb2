"""The notebooks in examples/ are their scripts, executed."""

import json

import pytest

from tests.helpers import EXAMPLES, example

pytest.importorskip("sphinx_gallery")

NOTEBOOKS = sorted(EXAMPLES.glob("*.ipynb"))


@pytest.fixture(scope="module")
def convert():
    return example("make_notebooks").convert


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def path(request):
    return request.param


def code_cells(path):
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return [cell for cell in cells if cell["cell_type"] == "code"]


def test_the_notebooks_are_there():
    assert [path.stem for path in NOTEBOOKS] == [
        "plot_compare",
        "plot_next_item",
        "plot_shop",
        "plot_tune",
    ]


def test_cells_are_those_of_the_script(path, convert):
    notebook = json.loads(path.read_text(encoding="utf-8"))
    made = [(cell["cell_type"], "".join(cell["source"])) for cell in notebook["cells"]]
    script = convert(path.with_suffix(".py"))
    wanted = [(cell["cell_type"], cell["source"]) for cell in script["cells"]]
    assert made == wanted, f"{path.name} is not its script; run `make notebooks`."


def test_executed_in_order_without_error_or_warning(path):
    cells = code_cells(path)
    assert [cell["execution_count"] for cell in cells] == [*range(1, len(cells) + 1)]
    outputs = [output for cell in cells for output in cell["outputs"]]
    assert {output["output_type"] for output in outputs} <= {
        "stream",
        "display_data",
        "execute_result",
    }
    assert all(output.get("name", "stdout") == "stdout" for output in outputs)


def test_tables_and_pictures_are_in_it_and_nothing_of_the_machine(path):
    notebook = json.loads(path.read_text(encoding="utf-8"))
    outputs = [output for cell in code_cells(path) for output in cell["outputs"]]
    kinds = {kind for output in outputs for kind in output.get("data", {})}
    assert kinds == {"text/plain", "text/html", "image/png"}
    assert all(cell["metadata"] == {} for cell in notebook["cells"])
    assert notebook["metadata"]["language_info"] == {"name": "python"}
    assert set(notebook["metadata"]) == {"kernelspec", "language_info"}
    assert path.stat().st_size < 400_000
