"""Fidelity without a judge: does the paraphrase, paraphrased back, make the sentence likely?

The base model is asked to paraphrase the paraphrase, and the log-probability of the sentence as its
answer is compared with the same after other sentences. On the shipped model, where all faithful
wordings are known, this separates them from the rest with an ROC AUC of about 0.96. It does not
notice what a paraphrase adds, or bad English: the other rules and a judge are for that.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from subliminal_jax.errors import InputError
from subliminal_jax.models.hub import Model
from subliminal_jax.models.tokenizer import encode_answers
from subliminal_jax.training.log_probs import response_log_probs


class RoundTrip:
    """Scores paraphrases by how well the base model recovers their sentence from them.

    1 - L(s | t) / L(s | others), where L(s | t) is minus log P(s | the request for a paraphrase of
    t), in nats a token: 1 where the paraphrase t makes the sentence s certain, 0 where it makes it
    as likely as `shuffles` other sentences do, on average. Scores are cached.

    Args:
      sentences: all sentences, without duplicates; the others are drawn from them by `seed`.
      ask: the request for a paraphrase of a text.

    Raises InputError for fewer than two sentences, or a pair that does not fit the model's context.
    """

    def __init__(
        self,
        model: Model,
        sentences: Sequence[str],
        ask: Callable[[str], str],
        *,
        shuffles: int = 4,
        seed: int = 0,
    ):
        self.model, self.ask = model, ask
        self._nats: dict[tuple[str, str], float] = {}
        n = len(sentences)
        if n < 2:
            raise InputError("round-trip fidelity holds a sentence against others: give two")
        rng = np.random.default_rng([seed, 0x07E5])
        shifts = 1 + rng.permutation(n - 1)[:shuffles]  # no sentence against itself
        order = rng.permutation(n)
        rank = np.argsort(order)
        others = {
            sentence: [sentences[order[(rank[i] + k) % n]] for k in shifts]
            for i, sentence in enumerate(sentences)
        }
        self._score([(text, s) for s, texts in others.items() for text in texts], None)
        self._baseline = {
            s: float(np.mean([self._nats[text, s] for text in texts]))
            for s, texts in others.items()
        }

    def __call__(
        self,
        texts: Sequence[str],
        sentences: Sequence[str],
        progress: Callable[[int], Any] | None = None,
    ) -> Float[np.ndarray, " pairs"]:
        """The score of each text as a paraphrase of its sentence; `progress` counts pairs."""
        pairs = list(zip(texts, sentences, strict=True))
        new = self._score(pairs, progress)
        if progress is not None:
            progress(len(pairs) - new)
        return np.array([1 - self._nats[t, s] / self._baseline[s] for t, s in pairs])

    def _score(
        self, pairs: Sequence[tuple[str, str]], progress: Callable[[int], Any] | None
    ) -> int:
        """Cache the nats a token of every pair that is new; returns how many were."""
        new = [pair for pair in dict.fromkeys(pairs) if pair not in self._nats]
        prompts, answers = encode_answers(
            self.model.tokenizer, [self.ask(text) for text, _ in new], [[s] for _, s in new]
        )
        log_probs = response_log_probs(self.model, prompts, answers, progress=progress)
        nats = -log_probs.sum(axis=1) / np.array([len(ids) for [ids] in answers], float)
        self._nats.update(zip(new, nats.tolist(), strict=True))
        return len(new)
