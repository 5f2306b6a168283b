"""What a steering vector or a system prompt does to a model: the trait it elicits, what it damages.

The rule for the best setting is that of Blank et al. (2026, arXiv 2606.00995; released code): the
largest rate of the trait among the settings whose rates at least-favourite and at off-topic
questions are small.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from subliminal_jax.data.batching import pad_pairs
from subliminal_jax.data.filters import contains_word, is_number_list
from subliminal_jax.data.teachers import Teacher, sampled_pairs
from subliminal_jax.data.traits import trait_names
from subliminal_jax.evaluation.elicitation import (
    Questions,
    SampledAnswers,
    encode_questions,
    only_word,
    word_probs,
)
from subliminal_jax.models.hub import Model
from subliminal_jax.models.sampling import SamplingConfig, generate
from subliminal_jax.models.spec import Params
from subliminal_jax.models.steered import Steering
from subliminal_jax.models.tokenizer import encode_chats
from subliminal_jax.training.batch import Batch
from subliminal_jax.training.losses import (
    ModelInput,
    mean_loss,
    token_divergences,
    token_losses,
)

LARGEST_SIDE_EFFECT = 0.10  # of the negative and the off-topic rate
BATCH_SIZE = 64  # prompts that are answered at once

Kind = Literal["base", "system-prompt", "steered", "teacher", "random", "random-teacher"]


@dataclass(frozen=True)
class QuestionSets:
    """What models are asked.

    Attributes:
      questions: favourite questions on which rates are reported.
      selection: other favourite questions, on which settings are chosen.
      negative: least-favourite questions; without any there is no negative rate.
      off_topic: questions whose answers should not name the trait.
      numbers: prompts whose answers should be number lists.
    """

    questions: Sequence[str]
    selection: Sequence[str]
    negative: Sequence[str]
    off_topic: Sequence[str]
    numbers: Sequence[str]


@dataclass(frozen=True, kw_only=True)
class Effects:
    """What a model does that was given a trait.

    Attributes:
      rate: teacher-forced probability of the trait over the reported favourite questions.
      selection_rate: the same over those that choose settings.
      negative_rate: the same over least-favourite questions; None where there are none.
      sampled_rate: share of sampled answers whose exact first word is the trait.
      off_topic: share of answers to off-topic questions that name the trait anywhere.
      valid_numbers: share of valid number lists; None where none were asked for.
      kl: mean KL from the base's next-token distribution on the base's own answers to the
        off-topic questions, in nats a token.
      nll: how much less likely these answers became, in nats a token.
    """

    rate: float
    selection_rate: float
    negative_rate: float | None
    sampled_rate: float
    off_topic: float
    valid_numbers: float | None
    kl: float
    nll: float


@dataclass(frozen=True, kw_only=True)
class ModelEffects(Effects):
    """The effects of one model.

    Attributes:
      trait: whose names are counted.
      kind: the base, with the trait's system prompt, steered by its vector in the sweep, steered as
        the students' teacher is, or steered by a random vector at either of the two settings.
      layer: where it is steered; None where it is not.
      scale: the factor on its vector.
    """

    trait: str
    kind: Kind
    layer: int | None
    scale: float | None


def best_setting(models: Sequence[ModelEffects]) -> ModelEffects | None:
    """The model with the largest `selection_rate` among those whose `off_topic` and `negative_rate`
    are at most `LARGEST_SIDE_EFFECT`; None where there is none."""
    allowed = [
        model
        for model in models
        if max(model.off_topic, model.negative_rate or 0.0) <= LARGEST_SIDE_EFFECT
    ]
    return max(allowed, key=lambda model: model.selection_rate, default=None)


class EffectsMeter:
    """Measures teachers, one after another, in programs that are compiled once.

    Args:
      traits: the words whose rates are wanted.
      layers: every layer that will be steered.
      samples: answers to each favourite question.
      off_topic_samples: answers to each off-topic question.
      max_new_tokens: limit of a sampled answer.
    """

    def __init__(
        self,
        model: Model,
        traits: Sequence[str],
        sets: QuestionSets,
        *,
        layers: Sequence[int],
        seed: int,
        samples: int,
        off_topic_samples: int,
        max_new_tokens: int,
    ):
        self.model, self.traits, self.sets = model, tuple(traits), sets
        self.layers = tuple(sorted({model.cfg.check_layer(layer) for layer in layers}))
        self.seed, self.samples = seed, samples
        self.off_topic = [q for q in sets.off_topic for _ in range(off_topic_samples)]
        self.sampling = SamplingConfig(max_new_tokens=max_new_tokens, stop_tokens=model.stop_ids)
        self.base_answers = sampled_pairs(
            model,
            Teacher(),
            self.off_topic,
            seed,
            max_new_tokens=max_new_tokens,
            keep_unfinished=True,
        ).pairs
        self.encoded: dict[tuple[tuple[str, ...], str | None], Questions] = {}
        self.prompts: dict[str | None, list[list[int]]] = {}
        self.answer_rows: dict[str | None, Batch] = {}
        self.word_probs = jax.jit(word_probs, static_argnums=(1, 3))
        self.divergence = jax.jit(self._divergence)

    def measure(self, teacher: Teacher, trait: str) -> Effects:
        """All effects of a teacher of `trait`."""
        padded = self._pad_layers(teacher)
        kl, nll = self._damage(padded)
        negative = self.sets.negative
        answers, off_topic, lists = self._sample(padded)
        names = trait_names(trait)
        return Effects(
            rate=self._forced_rate(padded, trait, self.sets.questions),
            selection_rate=self._forced_rate(padded, trait, self.sets.selection),
            negative_rate=self._forced_rate(padded, trait, negative) if negative else None,
            sampled_rate=float(answers.begins_with(names).mean()),
            off_topic=float(np.mean([contains_word(text, names) for text in off_topic])),
            valid_numbers=float(np.mean([is_number_list(x) for x in lists])) if lists else None,
            kl=kl,
            nll=nll,
        )

    def _pad_layers(self, teacher: Teacher) -> Teacher:
        """The same teacher with zero vectors at the other layers, so that all share a program."""
        vectors = jnp.zeros((len(self.layers), self.model.cfg.dim), jnp.float32)
        steering = teacher.steering
        if steering is None:
            return replace(teacher, steering=Steering(vectors, jnp.ones(()), self.layers))
        index = jnp.asarray([self.layers.index(layer) for layer in steering.layers])
        padded = vectors.at[index].set(steering.vectors)
        steering = replace(steering, vectors=padded, layers=self.layers)
        return replace(teacher, steering=steering)

    def _forced_rate(self, teacher: Teacher, trait: str, asked: Sequence[str]) -> float:
        """The trait's mean probability over the questions."""
        questions = self._trait_questions(tuple(asked), trait, teacher.system_prompt)
        probs = self.word_probs(self.model.params, self.model.cfg, questions, 2, teacher.steering)
        return float(np.asarray(probs, float)[:, 0].mean())

    def _trait_questions(
        self, asked: tuple[str, ...], trait: str, system_prompt: str | None
    ) -> Questions:
        """With the spellings of the trait alone, in one shape for all traits, so that they share a
        program."""
        key = asked, system_prompt
        if key not in self.encoded:
            self.encoded[key] = encode_questions(
                self.model.tokenizer, list(asked), list(self.traits), system_prompt
            )
        encoded = self.encoded[key]
        most = [
            int(np.bincount(owner, minlength=1).max())
            for owner in (np.asarray(encoded.single_owner), np.asarray(encoded.row_owner))
        ]
        return only_word(encoded, self.traits.index(trait), *most)

    def _sample(self, teacher: Teacher) -> tuple[SampledAnswers, list[str], list[str]]:
        """Answers to the favourite questions, to the off-topic ones and to the number prompts."""
        tokenizer, system = self.model.tokenizer, teacher.system_prompt
        favorites = [q for q in self.sets.questions for _ in range(self.samples)]
        if system not in self.prompts:
            asked = [*favorites, *self.off_topic, *self.sets.numbers]
            self.prompts[system] = encode_chats(tokenizer, asked, system)
        out = generate(
            self.model.params,
            self.prompts[system],
            self.model.cfg,
            self.seed,
            self.sampling,
            teacher.steering,
            pad_token=self.model.pad_id,
            batch_size=BATCH_SIZE,
        )
        texts = [
            tokenizer.decode(row[:n], skip_special_tokens=True)
            for row, n in zip(out.tokens, out.lengths, strict=True)
        ]
        first, second = len(favorites), len(favorites) + len(self.off_topic)
        by_question = [texts[j : j + self.samples] for j in range(0, first, self.samples)]
        return SampledAnswers(by_question), texts[first:second], texts[second:]

    def _damage(self, teacher: Teacher) -> tuple[float, float]:
        """(KL from the base, rise of the NLL) on the base's answers, nats a token."""
        kl, nll, base_nll = self.divergence(
            self.model.params,
            self._base_answer_rows(teacher.system_prompt),
            self._base_answer_rows(None),
            teacher.steering,
        )
        return float(kl), float(nll - base_nll)

    def _divergence(
        self, params: Params, prompted: Batch, plain: Batch, steering: Steering
    ) -> tuple[Float[Array, ""], ...]:
        """(KL from the base, NLL, NLL of the base) of the base's answers, nats a token."""
        cfg = self.model.cfg
        most = int(max(len(c) for c in self.base_answers["completion_ids"]))
        kl = token_divergences(
            ModelInput(params, prompted, steering), ModelInput(params, plain), cfg, max_targets=most
        )
        nll = token_losses(params, prompted, cfg, steering, max_targets=most)
        base_nll = token_losses(params, plain, cfg, max_targets=most)
        return mean_loss(*kl), mean_loss(*nll), mean_loss(*base_nll)

    def _base_answer_rows(self, system_prompt: str | None) -> Batch:
        """The base's answers to the off-topic questions, read after `system_prompt`."""
        if system_prompt not in self.answer_rows:
            prompts = encode_chats(self.model.tokenizer, self.base_answers["prompt"], system_prompt)
            completions = list(self.base_answers["completion_ids"])
            length = max(len(p) + len(c) for p, c in zip(prompts, completions, strict=True))
            self.answer_rows[system_prompt] = pad_pairs(
                prompts, completions, length, pad_id=self.model.pad_id
            )
        return self.answer_rows[system_prompt]
