"""What a steering vector or a system prompt does to a model: the trait it elicits, what it damages.

The rule of Blank et al. (2026, arXiv 2606.00995; released code) for the best setting: the largest
rate of the trait among those whose rates at least-favourite and at off-topic questions are small.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from subliminal_jax.data.batching import pad_pairs
from subliminal_jax.data.filters import contains_word, number_filter
from subliminal_jax.data.teachers import Teacher, sampled_pairs
from subliminal_jax.data.traits import names_of
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
from subliminal_jax.models.tokenizer import encode_chat
from subliminal_jax.training.batch import Batch
from subliminal_jax.training.losses import mean_loss, token_losses

LARGEST_SIDE_EFFECT = 0.10  # of the negative and the off-topic rate


class Effects:
    """Measures teachers, one after another, in programs that are compiled once.

    Args:
      traits: the words whose rates are wanted.
      questions: favourite questions on which rates are reported.
      selection: other favourite questions, on which settings are chosen.
      off_topic: questions whose answers should not name the trait, asked `repeats` times each.
      negative: least-favourite questions; none leaves the negative rate out.
      numbers: prompts whose answers should be number lists.
      layers: every layer that will be steered.
      samples: answers to each favourite question.
      max_new_tokens: limit of a sampled answer.
    """

    def __init__(
        self,
        model: Model,
        traits: Sequence[str],
        *,
        questions: Sequence[str],
        selection: Sequence[str],
        off_topic: Sequence[str],
        negative: Sequence[str],
        numbers: Sequence[str],
        layers: Sequence[int],
        seed: int,
        samples: int = 2,
        repeats: int = 2,
        max_new_tokens: int = 32,
        batch_size: int = 64,
    ):
        self.model, self.traits = model, tuple(traits)
        self.forced = {"rate": questions, "selection_rate": selection, "negative_rate": negative}
        self.questions, self.numbers, self.samples = list(questions), list(numbers), samples
        self.asked_off_topic = [q for q in off_topic for _ in range(repeats)]
        self.layers = tuple(sorted({model.cfg.check_layer(layer) for layer in layers}))
        self.seed, self.batch_size = seed, batch_size
        self.sampling = SamplingConfig(max_new_tokens=max_new_tokens, stop_tokens=model.stop_ids)
        self.chat = sampled_pairs(
            model, Teacher(), self.asked_off_topic, seed,
            max_new_tokens=max_new_tokens, keep_unfinished=True,
        ).pairs  # fmt: skip
        self.encoded: dict[tuple[str, str | None], Questions] = {}
        self.prompts: dict[str | None, list[list[int]]] = {}
        self.rows: dict[str | None, Batch] = {}
        self.probs = jax.jit(word_probs, static_argnums=(1, 3))
        self.divergence = jax.jit(self._divergence)

    def spread(self, teacher: Teacher) -> Teacher:
        """The same teacher with zero vectors at the other layers, so that all share a program."""
        vectors = jnp.zeros((len(self.layers), self.model.cfg.dim), jnp.float32)
        steering = teacher.steering
        if steering is None:
            return teacher._replace(steering=Steering(vectors, jnp.ones(()), self.layers))
        at = jnp.asarray([self.layers.index(layer) for layer in steering.layers])
        return teacher._replace(
            steering=replace(
                steering, vectors=vectors.at[at].set(steering.vectors), layers=self.layers
            )
        )

    def forced_rates(self, teacher: Teacher, trait: str) -> dict[str, float | None]:
        """The trait's teacher-forced probability over each of the three sets of questions."""
        steering = self.spread(teacher).steering
        out: dict[str, float | None] = {}
        for name, asked in self.forced.items():
            out[name] = None
            if asked:
                questions = self._of_trait(name, asked, trait, teacher.system_prompt)
                probs = self.probs(self.model.params, self.model.cfg, questions, 2, steering)
                out[name] = float(np.asarray(probs, float)[:, 0].mean())
        return out

    def _of_trait(
        self, name: str, asked: Sequence[str], trait: str, system_prompt: str | None
    ) -> Questions:
        """Of all traits in one shape, so that they share a program."""
        key = name, system_prompt
        if key not in self.encoded:
            self.encoded[key] = encode_questions(
                self.model.tokenizer, list(asked), list(self.traits), system_prompt
            )
        every = self.encoded[key]
        most = [
            int(np.bincount(owner, minlength=1).max())
            for owner in (np.asarray(every.single_owner), np.asarray(every.row_owner))
        ]
        return only_word(every, self.traits.index(trait), *most)

    def of(self, teacher: Teacher, trait: str) -> dict[str, float | None]:
        """All effects of a teacher of `trait`:

        rate, selection_rate, negative_rate (teacher-forced); sampled_rate (exact first words),
        off_topic (share of off-topic answers that name the trait anywhere), valid_numbers (share of
        valid number lists); kl, nll (on the base's own answers to the off-topic questions: mean KL
        from the base's next-token distribution, and how much less likely these answers became, in
        nats a token).
        """
        return {
            **self.forced_rates(teacher, trait),
            **self._sampled(self.spread(teacher), trait),
            **self._damage(teacher),
        }

    def _sampled(self, teacher: Teacher, trait: str) -> dict[str, float | None]:
        favorites = [q for q in self.questions for _ in range(self.samples)]
        tokenizer, system = self.model.tokenizer, teacher.system_prompt
        if system not in self.prompts:
            asked = [*favorites, *self.asked_off_topic, *self.numbers]
            self.prompts[system] = [encode_chat(tokenizer, p, system_prompt=system) for p in asked]
        out = generate(
            self.model.params, self.prompts[system], self.model.cfg, self.seed, self.sampling,
            teacher.steering, pad_token=self.model.pad_id, batch_size=self.batch_size,
        )  # fmt: skip
        texts = [
            tokenizer.decode(row[:n], skip_special_tokens=True)
            for row, n in zip(out.tokens, out.lengths, strict=True)
        ]
        first, second = len(favorites), len(favorites) + len(self.asked_off_topic)
        by_question = [texts[j : j + self.samples] for j in range(0, first, self.samples)]
        named = [contains_word(text, names_of(trait)) for text in texts[first:second]]
        valid = [number_filter(text) for text in texts[second:]]
        return {
            "sampled_rate": float(SampledAnswers(by_question).begins_with(names_of(trait)).mean()),
            "off_topic": float(np.mean(named)),
            "valid_numbers": float(np.mean(valid)) if valid else None,
        }

    def _damage(self, teacher: Teacher) -> dict[str, float | None]:
        told = self._chat_rows(teacher.system_prompt)
        kl, nll, base = self.divergence(
            self.model.params, told, self._chat_rows(None), self.spread(teacher).steering
        )
        return {"kl": float(kl), "nll": float(nll - base)}

    def _divergence(
        self, params: Params, told: Batch, plain: Batch, steering: Steering
    ) -> tuple[Float[Array, ""], ...]:
        """(KL from the base, NLL, NLL of the base) of the base's answers, nats a token."""
        cfg, most = self.model.cfg, int(max(len(c) for c in self.chat["completion_ids"]))
        of_base = (params, None, plain)
        kl = token_losses(params, told, cfg, steering, teacher=of_base, max_targets=most)
        nll = token_losses(params, told, cfg, steering, max_targets=most)
        base = token_losses(params, plain, cfg, max_targets=most)
        return mean_loss(*kl), mean_loss(*nll), mean_loss(*base)

    def _chat_rows(self, system_prompt: str | None) -> Batch:
        if system_prompt in self.rows:
            return self.rows[system_prompt]
        tokenizer = self.model.tokenizer
        prompts = [
            encode_chat(tokenizer, p, system_prompt=system_prompt) for p in self.chat["prompt"]
        ]
        completions = list(self.chat["completion_ids"])
        length = max(len(p) + len(c) for p, c in zip(prompts, completions, strict=True))
        rows = pad_pairs(prompts, completions, length, pad_id=self.model.pad_id)
        return self.rows.setdefault(system_prompt, rows)


def best_setting(
    cells: Sequence[Mapping[str, Any]], largest: float = LARGEST_SIDE_EFFECT
) -> Mapping[str, Any] | None:
    """The cell with the largest `selection_rate` among those whose `off_topic` and `negative_rate`
    are at most `largest`; a rate that is None binds nothing. None where no cell is left."""
    allowed = [
        cell
        for cell in cells
        if all(cell[key] is None or cell[key] <= largest for key in ("off_topic", "negative_rate"))
    ]
    return max(allowed, key=lambda cell: cell["selection_rate"], default=None)
