"""Fidelity without a judge: does the paraphrase, paraphrased back, make the sentence likely?

The base model is asked to paraphrase the paraphrase, and the log-probability of the sentence as its
answer is held against the same after other sentences. On the shipped model, where all faithful
wordings are known, this tells them from the rest with an ROC AUC of about 0.96. It does not see
what a paraphrase adds, or that it is no good English: the other rules and a judge are for that.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from subliminal_jax.errors import InputError
from subliminal_jax.models.hub import Model
from subliminal_jax.models.tokenizer import encode_chat, encode_completion
from subliminal_jax.training.log_probs import response_log_probs


class RoundTrip:
    """Scores paraphrases by the share of their sentence that the base model gets back from them.

    1 - L(s | t) / L(s | others), where L(s | t) is minus log P(s | the request for a paraphrase of
    t), in nats a token: 1 where the paraphrase t tells the sentence s outright, 0 where it tells no
    more of it than `shuffles` other sentences do, on average. What has been scored is kept.

    Args:
      sentences: all sentences, different ones; the others are drawn from them by `seed`.
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
        self._known: dict[tuple[str, str], float] = {}
        n = len(sentences)
        if n < 2:
            raise InputError("round-trip fidelity holds a sentence against others: give two")
        rng = np.random.default_rng([seed, 0x07E5])
        shifts = 1 + rng.permutation(n - 1)[:shuffles]  # no sentence against itself
        order = rng.permutation(n)
        place = np.argsort(order)
        others = [[sentences[order[(place[i] + k) % n]] for k in shifts] for i in range(n)]
        pairs = [(other, s) for s, held in zip(sentences, others, strict=True) for other in held]
        self._score(pairs, None)
        self._without = {
            s: float(np.mean([self._known[other, s] for other in held]))
            for s, held in zip(sentences, others, strict=True)
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
        return np.array([1 - self._known[t, s] / self._without[s] for t, s in pairs])

    def _score(
        self, pairs: Sequence[tuple[str, str]], progress: Callable[[int], Any] | None
    ) -> int:
        """Take up the nats a token of every pair that is new; returns how many were."""
        new = [pair for pair in dict.fromkeys(pairs) if pair not in self._known]
        prompts = [encode_chat(self.model.tokenizer, self.ask(text)) for text, _ in new]
        answers = [[encode_completion(self.model.tokenizer, s)] for _, s in new]
        total = response_log_probs(self.model, prompts, answers, progress=progress)
        nats = -total.sum(axis=1) / np.array([len(ids) for [ids] in answers], float)
        self._known.update(zip(new, nats.tolist(), strict=True))
        return len(new)
