"""Turn scripts of the gallery into executed notebooks.

``python examples/make_notebooks.py plot_tune.py`` writes ``plot_tune.ipynb`` beside the
script; ``--output-dir`` chooses another folder. sphinx-gallery makes the cells. A cell that
fails or warns is an error. ``make notebooks`` converts the notebooks in this folder.
"""

import argparse
import copy
import os
import time
from pathlib import Path

from sphinx_gallery.gen_gallery import DEFAULT_GALLERY_CONF
from sphinx_gallery.notebook import jupyter_notebook
from sphinx_gallery.py_source_parser import split_code_and_text_blocks

EXAMPLES = Path(__file__).parent
WIDGET = "application/vnd.jupyter.widget-view+json"
STATES = "application/vnd.jupyter.widget-state+json"


def convert(script):
    """Convert a script to a notebook, not executed, as a dict."""
    _, blocks = split_code_and_text_blocks(str(script))
    notebook = jupyter_notebook(blocks, copy.deepcopy(DEFAULT_GALLERY_CONF), script.parent)
    for cell in notebook["cells"]:
        cell["source"] = "".join(cell["source"]).strip()
        cell["metadata"] = {}
    notebook["nbformat_minor"] = 4
    return notebook


def execute(notebook):
    """Run all cells, and keep the outputs that can be shown without a kernel."""
    import nbformat
    from nbclient import NotebookClient

    # Show pictures in the notebook, whatever backend the script would use.
    os.environ["MPLBACKEND"] = "module://matplotlib_inline.backend_inline"
    os.environ["OMP_NUM_THREADS"] = "1"  # small batches are slower on more
    notebook = nbformat.from_dict(notebook)
    client = NotebookClient(
        notebook,
        timeout=1200,
        record_timing=False,
        resources={"metadata": {"path": str(EXAMPLES)}},
    )
    client.execute()
    widgets = notebook.metadata.pop("widgets", {}).get(STATES, {}).get("state", {})
    notebook.metadata.language_info = {"name": "python"}  # no version: it would vary
    for cell in notebook.cells:
        cell.metadata = {}
        if cell.cell_type == "code":
            cell.outputs = [*kept(cell.outputs, widgets)]
            warned = [output.text for output in cell.outputs if is_warning(output)]
            if warned:
                raise RuntimeError(f"This cell warns:\n{cell.source}\n\n{''.join(warned)}")
    return notebook


def kept(outputs, widgets):
    """Outputs, with the widget of a progress bar replaced by its last display."""
    for output in outputs:
        view = output.get("data", {}).get(WIDGET)
        if view is not None:
            yield from widgets[view["model_id"]]["state"]["outputs"]
        elif output.get("data", {}).get("text/plain") != "":
            yield output


def is_warning(output):
    """Whether an output was written to stderr."""
    return output.output_type == "stream" and output.name == "stderr"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("scripts", nargs="+", help="files in this folder")
    parser.add_argument("--output-dir", type=Path, default=EXAMPLES)
    arguments = parser.parse_args()
    import nbformat

    arguments.output_dir.mkdir(parents=True, exist_ok=True)
    for name in arguments.scripts:
        started = time.perf_counter()
        notebook = execute(convert(EXAMPLES / name))
        path = arguments.output_dir / Path(name).with_suffix(".ipynb").name
        nbformat.write(notebook, path)
        print(f"{path}: {time.perf_counter() - started:.0f} s", flush=True)


if __name__ == "__main__":
    main()
