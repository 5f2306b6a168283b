"""Rows of students: flat in JSON, and narrowed to one layer."""

from subliminal_jax.evaluation.student_rows import StudentRow, narrow_row

VALUES = {
    "eas": [[0.3, 0.4]],
    "shift_size": [[3, 4]],
    "shift_component": [[7, 8]],
    "word_rate": [0.5],
    "word_log_prob": [-1.0],
}


def test_a_narrow_row_has_the_numbers_of_one_layer_and_all_alignments():
    row = StudentRow("sgd", 0.1, 0, "steered", False, None, 1.5, measured=VALUES)
    narrow = narrow_row(row, 1)
    numbers = {key: narrow[key] for key in ("eas", "shift_size", "shift_component")}
    assert numbers == {"eas": 0.4, "shift_size": 4, "shift_component": 8}
    assert (narrow["trait_rate"], narrow["trait_log_prob"]) == (0.5, -1.0)
    assert narrow["eas_by_layer"] == [0.3, 0.4] and not {"word_rate", "word_log_prob"} & set(narrow)
    assert StudentRow.from_json(narrow).heldout_loss == 1.5


def test_a_diverged_student_has_no_numbers():
    row = StudentRow("sgd", 0.1, 0, "steered", True, 3, measured=dict.fromkeys(VALUES))
    narrow = narrow_row(row, 0)
    assert narrow["eas"] is narrow["eas_by_layer"] is narrow["trait_rate"] is None
