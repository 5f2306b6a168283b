"""Data sets are checked before anything is trained on them."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from datasets import Dataset

from subliminal_jax.data.batching import pad_pairs
from subliminal_jax.data.teachers import Pairs, teacher_prompts
from subliminal_jax.errors import InputError
from subliminal_jax.models.config import ModelConfig
from subliminal_jax.models.hub import Model
from subliminal_jax.models.spec import init_params
from subliminal_jax.models.steered import steer
from subliminal_jax.runs import data_sets as module
from subliminal_jax.runs.data_sets import check_base_loss, sample_once, write_data_sets
from subliminal_jax.runs.progress import Tracker
from subliminal_jax.runs.settings import DataSettings
from subliminal_jax.steering.teacher import Teacher
from subliminal_jax.training.objectives import KL
from tests.tiny_configs import TINY

CFG = replace(TINY, layers=1)


@pytest.fixture(scope="module")
def params():
    return init_params(jax.random.key(0), CFG, std=0.4)


@pytest.fixture(scope="module")
def rows():
    rng = np.random.default_rng(2)
    lengths = [(3, 5), (2, 2), (6, 6), (1, 7)]
    prompts, completions = ([rng.integers(0, 31, n[i]).tolist() for n in lengths] for i in (0, 1))
    return pad_pairs(prompts, completions, 12)


def test_rows_on_which_the_base_is_not_finite_are_refused_with_their_number(params, rows):
    check_base_loss(params, CFG, {"steered": rows, "control": rows})
    token = int(rows.tokens[2, 0])
    alone = rows._replace(tokens=jnp.where(rows.tokens == token, (token + 1) % 31, rows.tokens))
    alone = alone._replace(tokens=alone.tokens.at[2, 0].set(token))
    broken = {**params, "embed": params["embed"].at[token].set(jnp.nan)}
    broken["lm_head"] = params["embed"].T  # only the row that reads the token is touched
    untied = ModelConfig(**{**CFG.__dict__, "tied": False})
    with pytest.raises(InputError, match="not finite on 1 of 4 rows of the control data.*row 3"):
        check_base_loss(broken, untied, {"control": alone})


def test_a_teacher_that_is_not_finite_is_told_from_the_base(params, rows):
    """The base's cross-entropy is finite, the KL to a teacher of one data set is not."""
    data = {"control": rows, "steered": rows}
    teachers = {"control": Teacher(), "steered": Teacher(steer(jnp.ones(CFG.dim), 0, 1e30))}
    check_base_loss(params, CFG, data)
    with pytest.raises(InputError, match="4 of 4 rows of the steered data.*norm 4e[+]30"):
        check_base_loss(params, CFG, data, KL.from_teachers(teachers))


def test_damaged_answers_are_set_aside_and_sampled_anew(params, tmp_path, monkeypatch):
    sampled = []

    def sample(*_, **__):
        sampled.append(1)
        return Pairs(Dataset.from_dict({"completion_ids": [[3, 1], [4, 1]]}), {"source": "sampled"})

    monkeypatch.setattr(module, "sampled_pairs", sample)
    how = {"seed": 0, "max_new_tokens": 4, "temperature": 1.0, "keep_unfinished": True}
    model = Model(params, CFG, None, "tiny", Path(), (), 0)
    arguments = (tmp_path / "owl", model, Teacher(), ["a", "b"])
    once = partial(sample_once, *arguments, **how, progress=Tracker(2, 0, print))
    first = once().pairs.to_dict()
    assert once().pairs.to_dict() == first
    assert len(sampled) == 1
    (arrow,) = (tmp_path / "owl").glob("*.arrow")
    content = bytearray(arrow.read_bytes())
    content[content.rindex(4)] = 5  # a token
    arrow.write_bytes(content)
    with pytest.warns(UserWarning, match="owl is set aside as owl.damaged and sampled anew: data-"):
        assert once().pairs.to_dict() == first
    assert len(sampled) == 2
    assert (tmp_path / "owl.damaged").is_dir()


@pytest.fixture
def teach(params, tmp_path, monkeypatch):
    """Data sets of 4 rows of a teacher who ends one answer in `every`, at 6 prompts a round; the
    prompts of each round and its seed are listed in `rounds`."""
    rounds = []

    def teach(every, **settings):
        def sample(model, teacher, asked, seed, **_):
            rounds.append((asked, seed))
            ended = [prompt for i, prompt in enumerate(asked) if i % every == 0]
            rows = {"prompt": ended, "completion": ended, "prompt_ids": [[3]] * len(ended)}
            pairs = Dataset.from_dict({**rows, "completion_ids": [[4, 1]] * len(ended)})
            return Pairs(pairs, {"source": "sampled", "asked": len(asked), "pairs": len(ended)})

        monkeypatch.setattr(module, "sampled_pairs", sample)
        model = Model(params, CFG, None, "tiny", Path(), (), 0)
        rows = DataSettings(keep="all", rows=3, heldout_rows=1, asked=1.5)
        return write_data_sets(tmp_path, model, {"owl": Teacher()}, rows, 5, **settings)

    return teach, rounds


def test_a_teacher_is_asked_the_next_prompts_where_too_few_answers_are_left(teach):
    write, rounds = teach
    data = write(2)
    (first, seed), (second, another_seed) = rounds
    assert teacher_prompts("numbers", 12, 5) == first + second
    assert seed != another_seed
    kept = [*data.heldout_pairs["owl"]["prompt"], *data.pairs["owl"]["prompt"]]
    assert kept == [*first[::2], second[0]]
    assert data.reports["owl"]["asked"] == 12 and data.reports["owl"]["pairs"] == 6
    again = write(2)
    assert len(rounds) == 2 and again.pairs["owl"].to_dict() == data.pairs["owl"].to_dict()


def test_one_round_is_all_where_it_leaves_enough(teach):
    write, rounds = teach
    assert len(write(1).pairs["owl"]) == 3 and len(rounds) == 1


@pytest.mark.parametrize(
    ("every", "settings", "asked"),
    [
        (6, {}, 1),  # three rounds would leave 3 of 4 pairs
        (2, {"rounds": 1}, 1),
        (2, {"prompts": [f"prompt {i}" for i in range(6)]}, 1),
        (3, {"prompts": [f"prompt {i}" for i in range(7)]}, 2),
    ],
)
def test_a_teacher_is_asked_no_more_where_it_cannot_do(teach, every, settings, asked):
    write, rounds = teach
    with pytest.raises(InputError, match="data set owl: . pairs are left of ., 4 are needed"):
        write(every, **settings)
    assert len(rounds) == asked
