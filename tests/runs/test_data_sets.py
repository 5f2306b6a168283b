"""Data sets are checked before anything is trained on them."""

from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from subliminal_jax.data import answers as answers_module
from subliminal_jax.data.answers import Answer
from subliminal_jax.data.batching import pad_pairs
from subliminal_jax.data.teachers import teacher_prompts
from subliminal_jax.errors import InputError
from subliminal_jax.models.config import ModelConfig
from subliminal_jax.models.hub import Model
from subliminal_jax.models.spec import init_params
from subliminal_jax.models.steered import steer
from subliminal_jax.runs import sampled_sets
from subliminal_jax.runs.data_sets import check_base_loss, write_data_sets
from subliminal_jax.runs.metrics import read_records, write_record
from subliminal_jax.runs.settings import DataSettings
from subliminal_jax.steering.teacher import Teacher
from subliminal_jax.steering.vector_files import read_steering
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


class Writer:
    """Stands for a teacher: ends the answer to one prompt in `every` (None: to none), two of them
    at a time. What it was asked (prompts and seed) is in `rounds`; after `dies` answers it is
    interrupted."""

    def __init__(self, monkeypatch):
        self.every, self.dies, self.rounds = 1, None, []
        monkeypatch.setattr(sampled_sets, "sample_each", self)
        self.programs = []
        for module in (answers_module, sampled_sets):
            monkeypatch.setattr(module, "encode_chats", self.encode)

    @staticmethod
    def encode(tokenizer, asked, system=None):
        return [[3] * (20 if system else 1)] * len(asked)

    def __call__(
        self, model, prompts, seed, sampling, receive, *, requests, progress, plan, steering, **_
    ):
        self.programs.append((plan, steering))
        self.rounds.append(([prompts[i] for i in requests], seed))
        for start in range(0, len(requests), 2):
            if self.dies is not None and start >= self.dies:
                raise KeyboardInterrupt
            some = list(requests[start : start + 2])
            receive([Answer(i, [4, 1], f"{prompts[i]}!", self._ends(i)) for i in some])
            progress(len(some))

    def _ends(self, request):
        return self.every is not None and request % self.every == 0


@pytest.fixture
def writer(monkeypatch):
    return Writer(monkeypatch)


@pytest.fixture
def write(params, tmp_path, writer):
    """Data sets of 4 rows, at 6 prompts a round."""
    model = Model(params, CFG, None, "tiny", Path(), (), 0)

    def write(every=1, dies=None, keep_unfinished=False, **settings):
        writer.every, writer.dies = every, dies
        rows = DataSettings(
            keep="all", rows=3, heldout_rows=1, asked=1.5, keep_unfinished=keep_unfinished
        )
        teachers = {"owl": Teacher(steer(jnp.ones(CFG.dim), 0, 2.0))}
        return write_data_sets(tmp_path, model, teachers, rows, 5, **settings)

    return write


def test_teachers_and_control_run_the_same_programs(params, tmp_path, writer):
    """The plan holds the longest prompt of all, and the control's steering adds nothing."""
    model = Model(params, CFG, None, "tiny", Path(), (), 0)
    rows = DataSettings(keep="all", rows=3, heldout_rows=1, asked=1.5)
    teacher = Teacher(steer(jnp.ones(CFG.dim), 0, 2.0), system_prompt="You like owls.")
    write_data_sets(tmp_path, model, {"owl": teacher, "control": Teacher()}, rows, 5)
    (plan, _), (same_plan, edit) = writer.programs
    assert plan is same_plan and plan.holds(20, rows.max_new_tokens)
    assert edit.layers == (0,) and not edit.vectors.any() and edit.scale == 0


def test_answers_are_kept_as_they_are_made_with_why_one_is_left_out(write, writer, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        write(2, dies=4)
    (file,) = (tmp_path / "data").iterdir()
    made = read_records(file)
    asked = teacher_prompts("numbers", 6, 5)
    assert file.name == "owl.jsonl" and [line["prompt"] for line in made] == asked[:4]
    assert [line.get("why") for line in made] == [None, "unfinished"] * 2
    assert not any(line.get("kept") for line in made)  # not known yet
    vector, _ = read_steering(tmp_path / "vectors" / "owl.safetensors", CFG, [0])
    np.testing.assert_array_equal(vector.scale * vector.vectors, 2 * np.ones((1, CFG.dim)))

    file.write_bytes(file.read_bytes() + b'{"prompt": "half a li')  # as SIGKILL leaves it
    data = write(2)
    assert writer.rounds[1] == (asked[4:], writer.rounds[0][1])  # the rest, with the same seed
    assert read_records(file)[:4] == [
        {**{k: v for k, v in line.items() if k not in ("kept", "why")}, **mark}
        for line, mark in zip(made, [{"kept": True}, {"kept": False, "why": "unfinished"}] * 2,
                              strict=True)
    ]  # fmt: skip
    assert data.reports["owl"]["unfinished"] == 6 and data.reports["owl"]["asked"] == 12
    content = {path: path.read_bytes() for path in (tmp_path / "data").iterdir()}
    again = write(2)
    assert len(writer.rounds) == 3 and again.pairs["owl"].to_dict() == data.pairs["owl"].to_dict()
    assert {path: path.read_bytes() for path in content} == content


def test_a_refused_run_says_what_was_thrown_out_and_goes_on_from_its_answers(
    write, writer, tmp_path, capsys
):
    prompts = [f"prompt {i}" for i in range(7)]
    with pytest.raises(InputError) as refused:
        write(3, prompts=prompts)
    said = " ".join(capsys.readouterr().out.split())
    for text in (said, str(refused.value)):  # before the second sampling, and in the end
        assert "thrown out: " in text and " unfinished; ask for fewer; --keep-unfinished" in text
    assert "round 2 of at most 2: 2 pairs are left of 6, 4 are needed" in said
    assert "thrown out: 4 unfinished" in said
    asked = len(writer.rounds)
    data = write(3, keep_unfinished=True, prompts=prompts)
    assert len(writer.rounds) == asked  # nothing is sampled again
    assert data.reports["owl"]["asked"] == 6 and data.reports["owl"]["unfinished"] == 0
    lines = read_records(tmp_path / "data" / "owl.jsonl")
    assert [line["kept"] for line in lines] == [True] * 4 + [False] * 2
    assert [line.get("why") for line in lines[4:]] == ["not needed"] * 2


@pytest.mark.parametrize("damage", ["a token", "other prompts", "a folder"])
def test_damaged_answers_are_set_aside_and_sampled_anew(write, writer, tmp_path, damage):
    first = write().pairs["owl"].to_dict()
    file = tmp_path / "data" / "owl.jsonl"
    if damage == "a token":
        file.write_text(file.read_text().replace("[4, 1]", "[5, 1]", 1))
    elif damage == "other prompts":
        lines = [{**line, "prompt": "?"} for line in read_records(file)]
        file.write_text("".join(map(write_record, lines)))
    else:
        file.unlink()
        file.mkdir()
    with pytest.warns(UserWarning, match="owl.jsonl is set aside as owl.jsonl.damaged and sampled"):
        assert write().pairs["owl"].to_dict() == first
    assert len(writer.rounds) == 2 and (tmp_path / "data" / "owl.jsonl.damaged").exists()


def test_a_teacher_is_asked_the_next_prompts_where_too_few_answers_are_left(write, writer):
    data = write(2)
    (first, seed), (second, another_seed) = writer.rounds
    assert teacher_prompts("numbers", 12, 5) == first + second
    assert seed != another_seed
    kept = [*data.heldout_pairs["owl"]["prompt"], *data.pairs["owl"]["prompt"]]
    assert kept == [*first[::2], second[0]]
    assert data.reports["owl"]["asked"] == 12 and data.reports["owl"]["pairs"] == 6
    again = write(2)
    assert len(writer.rounds) == 2 and again.pairs["owl"].to_dict() == data.pairs["owl"].to_dict()


def test_where_no_answer_makes_a_pair_the_flag_that_helps_is_named(write, writer):
    says = "data set owl: none of 6 answers makes a pair; thrown out: 6 unfinished; --keep-unfin"
    with pytest.raises(InputError, match=says):
        write(None)
    assert len(writer.rounds) == 1
    assert len(write(None, keep_unfinished=True).pairs["owl"]) == 3


def test_one_round_is_all_where_it_leaves_enough(write, writer):
    assert len(write(1).pairs["owl"]) == 3 and len(writer.rounds) == 1


@pytest.mark.parametrize(
    ("every", "settings", "asked"),
    [
        (6, {}, 1),  # three rounds would leave 3 of 4 pairs
        (2, {"rounds": 1}, 1),
        (2, {"prompts": [f"prompt {i}" for i in range(6)]}, 1),
        (3, {"prompts": [f"prompt {i}" for i in range(7)]}, 2),
    ],
)
def test_a_teacher_is_asked_no_more_where_it_cannot_do(write, writer, every, settings, asked):
    with pytest.raises(InputError, match="data set owl: . pairs are left of ., 4 are needed"):
        write(every, **settings)
    assert len(writer.rounds) == asked
