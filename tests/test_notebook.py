"""The notebook of the documentation runs as written, and holds the sample of the README."""

import os
import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

REPOSITORY = Path(__file__).parents[1]
NOTEBOOK = REPOSITORY / "docs" / "main_job.ipynb"
MEAN = re.compile(r"Interval\(mean=(0\.\d+), low=")


def read_notebook() -> nbformat.NotebookNode:
    return nbformat.read(NOTEBOOK, as_version=4)


def read_printed(notebook: nbformat.NotebookNode) -> str:
    """What its cells printed."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    return "".join(output.get("text", "") for output in outputs if output.get("name") == "stdout")


def count_pictures(notebook: nbformat.NotebookNode) -> int:
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    return sum("image/png" in output.get("data", {}) for output in outputs)


def test_the_sample_of_the_readme_is_in_the_notebook():
    cells = read_notebook().cells
    sample = "\n".join(c.source for c in cells if "readme" in c.metadata.get("tags", ()))
    blocks = re.findall(r"```python\n(.*?)```", (REPOSITORY / "README.md").read_text(), re.DOTALL)
    assert [block.strip() for block in blocks if "sj.sweep" in block] == [sample]


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
    """The notebook after its cells ran, and their folder: on the shipped model, with XLA's usual
    code (the tests' own settings compile faster and compute slower)."""
    folder = tmp_path_factory.mktemp("notebook")
    notebook = read_notebook()
    environment = {key: value for key, value in os.environ.items() if key != "XLA_FLAGS"}
    client = NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(folder)}})
    client.execute(env={**environment, "PYTHONPATH": str(REPOSITORY)})
    return notebook, folder


def test_the_notebook_shows_what_it_stores(executed):
    notebook, folder = executed
    (now,), (stored,) = (MEAN.findall(read_printed(each)) for each in (notebook, read_notebook()))
    assert float(now) == pytest.approx(float(stored), abs=0.05)  # another machine rounds otherwise
    assert count_pictures(notebook) == count_pictures(read_notebook()) == 2
    assert (folder / "student" / "adapter_model.safetensors").is_file()
