"""A judge model at an endpoint: whether it can be asked, and the fidelity of paraphrases by it."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from subliminal_jax.bounds import flag
from subliminal_jax.data.paraphrases import Fidelity
from subliminal_jax.errors import InputError
from subliminal_jax.evaluation.endpoint import holds_key, read_key
from subliminal_jax.evaluation.judge import EndpointJudge, Exchange


def check_judge(settings: Any, command: str = "") -> None:
    """Raise InputError where the settings name a judge that cannot be asked, or where they or the
    command, which a run records both, hold its key. For settings without a judge nothing is
    checked.
    """
    variable = getattr(settings, "judge_key", None)
    if variable is None:
        return
    key = read_key(variable)
    for field, value in vars(settings).items():
        if holds_key(f"{value}", key):
            raise InputError(
                f"{flag(field)} holds the key in ${variable}, and a run records its settings: "
                "leave it out"
            )
    if settings.judge_url:
        EndpointJudge(settings.judge_url, settings.judge_model, "?", key_variable=variable)
    if holds_key(command.replace("'\"'\"'", "'"), key):  # as shlex quotes an apostrophe
        raise InputError(
            f"the command holds the key in ${variable}, and a run records its command: leave it out"
        )


# The first judge of Gisler et al. (2026, arXiv 2603.09517, appendix B), verbatim.
FIDELITY_INSTRUCTION = """\
Your task is to evaluate paraphrase fidelity on a 0.0 to 1.0 scale. Scoring guidelines:
1.0: Flawless \u2013 natural rephrasing with all meaning preserved
0.9-0.95: Near-perfect with one trivial difference
0.75-0.85: Good but noticeable emphasis or detail differences
0.5-0.7: Partial preservation \u2013 some concepts missing
0.3-0.4: Major meaning changes
0.0-0.2: Critical disqualifiers present.
CRITICAL DISQUALIFIERS \u2013 any of these MUST result in score \u2264 0.3:
Non-English words or characters (Cyrillic, Arabic, Chinese, accented);
Random characters, Unicode artifacts, or encoding errors;
ANY additional text beyond the paraphrase (explanations, meta-commentary);
Meta-text, repeated instructions, or system messages;
Refusals, apologies, or comments;
Gibberish or incoherent text;
Spontaneous topic additions or irrelevant details not in original;
Introducing novel and unrelated topics and terms to paraphrase.
PENALTIES that cap score at \u2264 0.5:
Unnatural exclamations or expressions;
Awkward or non-idiomatic language that feels AI-generated;
Added verbosity or hedging not in original;
Truncation or incomplete sentences;
Bizarre word choices or unnatural phrasings.
REQUIREMENTS for 0.9+:
ALL concepts present with identical sentiment;
Natural, fluent language a human would actually use;
No artifacts, language switches, or unnatural expressions;
Complete preservation of core meaning.
Be strict: When uncertain, choose the lower score. Output only the decimal score."""


def make_fidelity_judge(
    url: str, model: str, key_variable: str, cache: Path | None = None
) -> Fidelity:
    """A fidelity of paraphrases, 0 to 1, by the model at an endpoint with the paper's prompt.

    A verdict that is no number from 0 to 1 gives NaN.

    Args:
      url, model: the endpoint, and its name of the model.
      key_variable: environment variable with the endpoint's key.
      cache: file that verdicts are kept in.

    Raises InputError as `EndpointJudge` does.
    """
    judge = EndpointJudge(
        url,
        model,
        FIDELITY_INSTRUCTION,
        template="Original: {prompt}\n\nParaphrase: {response}",
        key_variable=key_variable,
        cache=cache,
    )

    def score(texts: Sequence[str], sentences: Sequence[str]) -> Float[np.ndarray, " pairs"]:
        verdicts = judge([Exchange(s, t) for t, s in zip(texts, sentences, strict=True)])
        return np.array([math.nan if v is None or v > 1 else v for v in verdicts], float)

    return score
