"""Measures of any experiment as one table: the last line of each student, means over the sound."""

from subliminal_jax.reporting.measures import measures_table, summarise_measures


def line(seed, step, value, *, rate=0.1, diverged=False):
    return {
        "stage": "students",
        "step": step,
        "optimizer": "sgd",
        "learning_rate": rate,
        "data": "owl",
        "seed": seed,
        "diverged": diverged,
        "train_loss": None if diverged else value,
    }


METRICS = [
    line(0, 1, 5.0),
    line(1, 1, 6.0),
    line(0, 2, 1.0),
    line(1, 2, 3.0),
    line(0, 2, 9.0, rate=1.0),
    line(1, 2, 0.0, rate=1.0, diverged=True),
    line(0, 2, 0.0, rate=10.0, diverged=True),
]


def test_each_arm_has_the_mean_of_its_sound_students_at_their_last_step():
    rows = summarise_measures(METRICS, ["train-loss"])
    assert [(r["learning_rate"], r["students"], r["train_loss"]) for r in rows] == [
        (0.1, 2, 2.0),
        (1.0, 1, 9.0),
        (10.0, 0, None),
    ]


def test_the_table_has_the_columns_that_are_numbers():
    rows = summarise_measures(METRICS, ["train-loss", "word-rates"])
    table = measures_table(rows, ["train-loss", "word-rates"])
    assert [column.key for column in table.columns][-2:] == ["students", "train_loss"]
