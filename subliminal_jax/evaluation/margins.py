"""How small an effect counts as none: fixed for each quantity, before a run, in its own units."""

from subliminal_jax.evaluation.claims import Margin

EAS = Margin(0.1, "a cosine of a tenth: a hundredth of the shift's square lies along the vector")
SHARE_OF_VECTOR = Margin(0.05, "a twentieth of the vector")
TRAIT_RATE = Margin(0.01, "one answer in a hundred")
LOG_PROB = Margin(0.1, "a probability that changes by a tenth of itself")
PROPENSITY = Margin(0.1, "odds that change by a tenth")
LOSS = Margin(0.005, "nats a token: half a percent of the perplexity")
RANK_CORRELATION = Margin(0.1, "a hundredth of the variance of ranks")
CORRELATION = Margin(0.1, "a hundredth of the variance")
COSINE = Margin(0.05, "a four-hundredth of the square lies along the direction")
ANSWER_SHARE = Margin(0.02, "two answers in a hundred")
STEERABILITY = Margin(0.25, "logits a multiplier that the paper's code takes as none")
AUC = Margin(0.05, "one pair in twenty")
