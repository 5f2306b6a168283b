"""Scoring that is cut off goes on without a lost or doubled row."""

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from subliminal_jax.errors import InputError
from subliminal_jax.models.hub import load_model
from subliminal_jax.models.steered import steer
from subliminal_jax.selection.rendering import ScoringOptions
from subliminal_jax.selection.scoring import score_preferences
from subliminal_jax.training.log_probs import Meter
from tests.selection.test_scoring import OPTIONS, OWLS, draw

ROWS, SHARD = 22, 4
PAIRS = draw(ROWS, seed=7)


class Cut(Exception):
    """Where the run is cut off."""


def score(model, folder, pairs=PAIRS, options=OPTIONS, **changed):
    arguments = {"system_prompt": OWLS, "rows_per_shard": SHARD, **changed}
    return score_preferences(model, pairs, options=options, folder=folder, **arguments)


@pytest.fixture(scope="module")
def whole(model, tmp_path_factory):
    return score(model, tmp_path_factory.mktemp("whole"))


@pytest.mark.parametrize("seed", range(3))
def test_cut_off_at_random_moments(model, whole, tmp_path, seed):
    rng = np.random.default_rng(seed)
    cuts = 0
    while True:
        left = int(rng.integers(1, 9))

        def maybe_cut(rows):
            nonlocal left
            left -= rows
            if left <= 0 and rng.random() < 0.6:
                raise Cut

        try:
            table = score(model, tmp_path, progress=maybe_cut)
            break
        except Cut:
            cuts += 1
            assert not list(tmp_path.glob(".*.tmp"))
    assert cuts > 1
    assert table["index"] == list(range(ROWS))
    assert table.to_dict() == whole.to_dict()  # to the last bit
    assert len(list(tmp_path.glob("rows-*.arrow"))) == -(-ROWS // SHARD)


def test_what_is_done_is_not_computed_again(model, whole, tmp_path):
    score(model, tmp_path, PAIRS.select(range(12)))
    done, meter = [], Meter()
    table = score(model, tmp_path, progress=done.append, meter=meter)
    assert meter.rows == 2 * (ROWS - 12)
    assert sum(done) == ROWS
    assert table.to_dict() == whole.to_dict()


KILLED = """
import os, signal, sys
from pathlib import Path
from subliminal_jax.models.hub import load_model
from tests.selection.test_resume import score

seen = 0
def kill(rows):
    global seen
    seen += rows
    if seen > 7:
        os.kill(os.getpid(), signal.SIGKILL)

score(load_model(sys.argv[1]), Path(sys.argv[2]), progress=kill)
"""


def test_a_killed_process(model, whole, tmp_path):
    result = subprocess.run(
        [sys.executable, "-c", KILLED, str(model.folder), str(tmp_path)],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
        check=False,
    )
    assert result.returncode == -signal.SIGKILL
    (tmp_path / ".rows-0000000004-4-0.arrow.77-aa.tmp").write_bytes(b"half a fil")
    meter = Meter()
    table = score(load_model(model.folder), tmp_path, meter=meter)
    assert meter.rows < 2 * ROWS  # something was left of the process
    assert table["index"] == list(range(ROWS))
    for name in ("base_chosen", "prompted_rejected", "weight"):
        np.testing.assert_allclose(table[name], whole[name], atol=2e-4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"system_prompt": "You love cats."}, "other settings .system_prompt."),
        ({"options": ScoringOptions(base_system="", truncate=5)}, "other settings .options."),
        ({"rows_per_shard": 5}, "other settings .rows_per_shard."),
        (
            {"pairs": PAIRS.select(range(ROWS - 1, -1, -1))},
            "other data in the place of rows 0 to 3",
        ),
    ],
)
def test_a_folder_with_other_scores_is_refused(model, tmp_path, change, message):
    score(model, tmp_path, PAIRS.select(range(4)))
    with pytest.raises(InputError, match=message):
        score(model, tmp_path, **change)


def test_the_opposite_vector_has_other_scores(model, tmp_path):
    vector = steer(jnp.arange(model.cfg.dim, dtype=jnp.float32), layer=0)
    pairs = PAIRS.select(range(4))
    score(model, tmp_path, pairs, steering=vector)
    assert score(model, tmp_path, pairs, steering=vector)["index"] == list(range(4))
    for other in (vector.scaled(-1.0), steer(-vector.vectors[0], layer=0)):
        with pytest.raises(InputError, match="other settings .steering."):
            score(model, tmp_path, pairs, steering=other)


def test_other_weights_and_a_damaged_folder_are_refused(model, tmp_path):
    score(model, tmp_path, PAIRS.select(range(4)))
    for factor in (1.001, -1.0):
        params = jax.tree.map(lambda x, factor=factor: x * factor, model.params)
        with pytest.raises(InputError, match="the model's weights"):
            score(replace(model, params=params), tmp_path)
    (tmp_path / "settings.json").write_text("{")
    with pytest.raises(InputError, match=r"settings.json cannot be read .* remove the folder"):
        score(model, tmp_path)
