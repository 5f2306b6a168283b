"""Teachers whose weights are not the base's: what fits is taken, what does not is named."""

from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from subliminal_jax.data.teachers import prompted_teacher, sampled_pairs, teacher_prompts
from subliminal_jax.errors import InputError
from subliminal_jax.models.hub import load_model
from subliminal_jax.runs.teacher_weights import TeacherWeightSettings
from subliminal_jax.steering.teacher import Teacher
from subliminal_jax.training.adapters import LoRA, init_trainable
from subliminal_jax.training.adapters_io import save_adapter
from subliminal_jax.training.objectives import KL
from tests import number_model

ADAPTER = LoRA(rank=2, alpha=6.0, targets=("q", "down"))


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
        (Settings(teacher_adapter=tmp_path), "no folder with an adapter_config.json"),
    ):
        with pytest.raises(InputError, match=says):
            settings.check_with_model(model)
