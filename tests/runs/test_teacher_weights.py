"""Teachers whose weights are not the base's: what fits is taken, what does not is named."""

from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from subliminal_jax.cli import find_experiments, load_settings, parse_config
from subliminal_jax.data.teachers import prompted_teacher, sampled_pairs, teacher_prompts
from subliminal_jax.errors import InputError
from subliminal_jax.models.hub import load_model
from subliminal_jax.runs import teacher_weights
from subliminal_jax.runs.check_run import check_given
from subliminal_jax.runs.teacher_weights import TeacherWeightSettings
from subliminal_jax.runs.trait_teachers import make_trait_teachers
from subliminal_jax.steering.teacher import Teacher
from subliminal_jax.training.adapters import LoRA, init_trainable
from subliminal_jax.training.adapters_io import save_adapter
from subliminal_jax.training.objectives import KL
from tests import number_model

ADAPTER = LoRA(rank=2, alpha=6.0, targets=("q", "down"))


FINE_TUNED = {
    "trait-transmission": "--teachers fine-tuned",
    "paraphrase-transmission": "--teachers system-prompt fine-tuned",
    "optimizer-transmission": "--teacher fine-tuned",
    "student-vector": "--teacher fine-tuned",
}


def check(name, *flags):
    """The settings of an experiment, checked as before a run."""
    settings = load_settings(find_experiments()[name])
    config = parse_config(settings, flags)
    check_given(config, settings.presets)
    return config


@dataclass(frozen=True, kw_only=True)
class Settings(TeacherWeightSettings):
    out: Path = Path("none")


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """The base, a fine-tuned one, and an adapter of the base, which moves `down` of block 1."""
    root = tmp_path_factory.mktemp("teachers")
    number_model.write(root / "numbers")
    number_model.write(root / "tuned", change=lambda t: {**t, "lm_head": t["lm_head"] * 1.1})
    model = load_model(root / "numbers")
    trainable = init_trainable(jax.random.key(0), model.params, model.cfg, ADAPTER)
    b = trainable["layers"]["down"]["b"]
    trainable["layers"]["down"]["b"] = b.at[1].set(0.5)
    save_adapter(root / "adapter", trainable, ADAPTER, model.cfg, "numbers")
    return root


@pytest.mark.parametrize("name", FINE_TUNED)
def test_fine_tuned_teachers_of_traits_have_weights_each(name):
    flags = FINE_TUNED[name].split()
    each = check(name, *flags, "--teacher-adapter", "adapters/{trait}", "--traits", "owl", "cat",
                 "--tuning-traits", "lion", "dog")  # fmt: skip
    assert each.weight_traits == ("owl", "cat", "lion", "dog")
    for given, says in (
        ([*flags], "give --teacher-adapter or --teacher-model, with {trait}"),
        ([*flags, "--teacher-model", "tuned"], "--teacher-model tuned is one teacher of 10 traits"),
        (["--teacher-adapter", "a/{trait}"], "has no effect beside --teacher.* fine-tuned"),
    ):
        with pytest.raises(InputError, match=says):
            check(name, *given)


def test_weights_and_the_kl_to_the_teacher_do_not_go_together():
    weights = ("--teacher-adapter", "{trait}", "--objective", "kl")
    for name, kind in (("trait-transmission", "--teachers"), ("optimizer-comparison", "--teacher")):
        flags = [kind, "fine-tuned" if kind == "--teachers" else "plain"]
        with pytest.raises(InputError, match="--objective kl is for teachers with the base's"):
            check(name, *flags, *weights)


def test_every_trait_has_the_adapter_of_its_name(folders, model, tmp_path):
    for trait, size in (("owl", 0.1), ("cat", 0.2)):
        trainable = init_trainable(jax.random.key(0), model.params, model.cfg, ADAPTER)
        trainable["layers"]["down"]["b"] = jnp.full_like(trainable["layers"]["down"]["b"], size)
        save_adapter(tmp_path / trait, trainable, ADAPTER, model.cfg, "numbers")
    flags = ["--model", str(folders / "numbers"), "--traits", "owl", "cat", "--teachers",
             "fine-tuned", "--rates", "adamw=1e-3", "--layer", "0",
             "--teacher-adapter", f"{tmp_path}/{{trait}}"]  # fmt: skip
    config = check("trait-transmission", *flags)
    config.check_with_model(model)
    teachers = make_trait_teachers(config, model, 0)
    assert [*teachers] == ["fine-tuned:owl", "fine-tuned:cat"]
    moved = {
        name: np.abs(teacher.params["layers"]["down"] - model.params["layers"]["down"]).sum()
        for name, teacher in teachers.items()
    }
    assert moved["fine-tuned:cat"] == pytest.approx(2 * moved["fine-tuned:owl"], rel=1e-4)
    missing = check("trait-transmission", *flags, "--traits", "owl", "wolf")
    with pytest.raises(InputError, match=f"--teacher-adapter {tmp_path}/wolf: no folder with"):
        TeacherWeightSettings.check_with_model(missing, model)


def test_more_teachers_than_fit_the_memory_are_refused(folders, model, monkeypatch):
    monkeypatch.setattr(teacher_weights, "device_bytes", lambda: 100_000)
    flags = ["--teachers", "fine-tuned", "--teacher-adapter", str(folders / "{trait}pter")]
    config = check("trait-transmission", *flags, "--traits", "ada", "--rates", "adamw=1e-3")
    with pytest.raises(InputError, match="the weights of 1 fine-tuned teachers needs at least"):
        TeacherWeightSettings.check_with_model(config, model)


@pytest.fixture(scope="module")
def model(folders):
    return load_model(folders / "numbers")


def give(folders, model, teacher, **parts):
    settings = Settings(**{key: folders / name for key, name in parts.items()})
    settings.check_with_model(model)
    return settings.give_weights(teacher, model)


def test_a_fine_tuned_teacher_answers_as_that_model_does(folders, model):
    settings = Settings(teacher_model=str(folders / "tuned"))
    settings.check_with_model(model)
    teacher = settings.give_weights(Teacher(), model)
    assert not teacher.is_base and teacher.change_weights(model).cfg == model.cfg
    asked, how = teacher_prompts("numbers", 12, 0), {"max_new_tokens": 12}
    tuned = load_model(folders / "tuned")
    expected = sampled_pairs(tuned, Teacher(), asked, 1, **how).pairs.to_dict()
    assert sampled_pairs(model, teacher, asked, 1, **how).pairs.to_dict() == expected
    assert sampled_pairs(model, Teacher(), asked, 1, **how).pairs.to_dict() != expected


def test_an_adapter_is_added_to_the_weights_that_the_teacher_has(folders, model):
    prompt = prompted_teacher("owl")
    adapted = give(folders, model, prompt, teacher_adapter="adapter")
    assert adapted.system_prompt == prompt.system_prompt  # combined
    down, base = adapted.params["layers"]["down"], model.params["layers"]["down"]
    np.testing.assert_array_equal(down[0], base[0])
    # B is 0.5 everywhere: each row of A @ B is half of what A's row sums to, times alpha / rank.
    start = init_trainable(jax.random.key(0), model.params, model.cfg, ADAPTER)
    delta = 3.0 * 0.5 * start["layers"]["down"]["a"][1].sum(axis=1, keepdims=True)
    np.testing.assert_allclose(down[1] - base[1], jnp.broadcast_to(delta, base[1].shape), atol=1e-5)
    np.testing.assert_array_equal(adapted.params["lm_head"], model.params["lm_head"])
    with pytest.raises(InputError, match="the teacher of data 'owl' has other weights"):
        KL.from_teachers({"owl": Teacher(params=adapted.params)})


def test_without_other_weights_a_teacher_is_as_it_was(model):
    teacher = prompted_teacher("owl")
    assert Settings().give_weights(teacher, model) is teacher
    assert teacher.change_weights(model) is model


def test_what_is_no_variant_of_the_model_is_named(folders, model, tmp_path):
    number_model.write(tmp_path / "narrow", context=24)  # a context alone is no other model
    Settings(teacher_model=str(tmp_path / "narrow")).check_with_model(model)
    for settings, says in (
        (Settings(teacher_model="shipped"), "no variant of numbers: their configs differ in vocab"),
        (Settings(teacher_model=str(tmp_path / "none")), "none"),
        (Settings(teacher_adapter=tmp_path), "no folder with adapter_config.json"),
    ):
        with pytest.raises(InputError, match=says):
            settings.check_with_model(model)
