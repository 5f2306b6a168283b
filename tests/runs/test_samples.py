"""A page shows what teachers and the base wrote, where the run's folder holds it whole."""

from datasets import Dataset

from subliminal_jax.runs.samples import ROWS, read_samples
from subliminal_jax.seals import seal_folder
from tests.pages import read_table


def write_set(folder, name, word):
    pairs = [{"prompt": f"{i}?", "completion": f"{word} {i}"} for i in range(ROWS + 2)]
    Dataset.from_list(pairs).save_to_disk(str(folder / "data" / name))
    seal_folder(folder / "data" / name)


def test_a_control_and_one_data_set_of_each_kind_are_shown(tmp_path):
    for name in ("steered:cat", "steered:owl", "control-1", "control-0"):
        write_set(tmp_path / "layer-1", name, name)
    rows = read_table(read_samples(tmp_path))
    assert [row["data set"] for row in rows] == ["layer-1/control-0"] * ROWS + [
        "layer-1/steered:cat"
    ] * ROWS
    assert rows[0]["prompt"] == "0?" and rows[0]["text"] == "control-0 0"


def test_a_damaged_data_set_and_a_run_without_any_show_nothing(tmp_path):
    assert read_samples(tmp_path) is None
    write_set(tmp_path, "control", "a")
    (tmp_path / "data" / "control" / "state.json").write_text("{}")
    assert read_samples(tmp_path) is None
