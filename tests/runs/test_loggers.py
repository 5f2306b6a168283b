"""Loggers get what a run logs, with the real packages, offline."""

import math
import time

import pytest

from subliminal_jax.errors import InputError
from subliminal_jax.runs import loggers
from subliminal_jax.runs.loggers import check_loggers, split_record
from subliminal_jax.runs.run_folder import RunFolder

SERIES = "waves-1/owl/adamw/0.001/0"
RECORDS = [
    {
        "stage": "waves-1",
        "step": step,
        "optimizer": "adamw",
        "learning_rate": 0.001,
        "seed": 0,
        "data": "owl",
        "batch_loss": loss,
        "diverged": False,
        "lost": None,
        "deciles": [0.5, 0.5],
    }
    for step, loss in ((8, 2.5), (16, math.pi))
]


def test_a_record_is_split_into_the_numbers_of_its_students_series():
    assert split_record(RECORDS[0]) == {f"{SERIES}/batch_loss": 2.5, f"{SERIES}/diverged": 0.0}
    assert split_record({"step": 1, "loss": 2}) == {"loss": 2.0}


def test_tensorboard_reads_what_was_logged(tmp_path):
    reason = "needs tensorboard: install the extra `tensorboard`"
    pytest.importorskip("tensorboard", reason=reason)
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = {}

    def read():
        events = EventAccumulator(str(tmp_path / "tensorboard"))
        events.Reload()
        for tag in events.Tags()["tensors"]:
            found[tag] = [(e.step, e.tensor_proto.float_val[0]) for e in events.Tensors(tag)]

    with RunFolder.open(tmp_path, {"experiment": "x"}, report_to=("tensorboard",)) as run:
        for record in RECORDS:
            run.log(record)
    read()
    assert set(found) == {f"{SERIES}/batch_loss", f"{SERIES}/diverged"}
    assert found[f"{SERIES}/batch_loss"] == [(8, 2.5), (16, pytest.approx(math.pi))]
    with RunFolder.open(tmp_path, {"experiment": "y"}, overwrite=True) as run:
        run.log({"step": 1, "loss": 1.0})
        assert run.spared == ()
    assert not (tmp_path / "tensorboard").exists()


def test_weights_and_biases_keeps_what_was_logged_offline(tmp_path, monkeypatch):
    reason = "needs wandb: install the extra `wandb`"
    pytest.importorskip("wandb", reason=reason)
    monkeypatch.setenv("WANDB_MODE", "offline")
    with RunFolder.open(tmp_path, {"experiment": "x"}, report_to=("wandb",)) as run:
        for record in RECORDS:
            run.log(record)
    (file,) = tmp_path.glob("wandb/offline-run-*/*.wandb")
    texts = (f"{SERIES}/batch_loss", "3.141592653589793", "experiment")
    for _ in range(100):  # wandb's own process writes it after the run is finished
        content = file.read_bytes()
        if all(text.encode() in content for text in texts):
            return
        time.sleep(0.1)
    pytest.fail(f"{file} holds {content!r}")


def test_a_package_that_is_missing_is_refused_by_the_name_of_its_extra(monkeypatch):
    monkeypatch.setattr(loggers.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match="--report-to wandb needs .*pip install .*\\[wandb\\]"):
        check_loggers(("wandb",))
