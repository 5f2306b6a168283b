"""How much of a text is written in one language: the measure of translation system prompts.

Aden-Ali et al. (2026, arXiv 2602.04863) weigh each sentence by its length in characters and use
fastText's probability of the language; here it is that of py3langid, an optional dependency that
brings its own model.
"""

import re
import unicodedata
from functools import cache
from typing import Any, Literal

from subliminal_jax.errors import InputError

LEAST_LETTERS = 0.5  # sentences with no larger share of letters are left out of an evaluation [P]
LEAST_PROBABILITY = 0.25  # and so are those with a smaller probability than this [P]


def language_share(
    text: str, language: str, rule: Literal["filter", "evaluation"] = "evaluation"
) -> float:
    """The length-weighted mean probability, over the sentences of `text`, that they are in
    `language` (ISO 639-1, such as "es"); 0 where no sentence counts.

    "evaluation" leaves out sentences of which at most half are letters, and those less probable
    than 0.25; "filter", for preference pairs, leaves out none (arXiv 2602.04863, appendix B).

    Raises InputError for a language that py3langid does not know, and where it is not installed.
    """
    identifier = _identifier()
    if language not in identifier.labels:
        raise InputError(
            f"language {language!r} is not known; give an ISO 639-1 code such as es, fr or de"
        )
    total = weighted = 0.0
    for sentence in re.split(r"[.!?]+", text):
        sentence = sentence.strip()
        if not sentence:
            continue
        probability = dict(identifier.rank(sentence))[language]
        if rule == "evaluation":
            letters = sum(unicodedata.category(c)[0] in "LM" for c in sentence)
            if letters <= LEAST_LETTERS * len(sentence) or probability < LEAST_PROBABILITY:
                continue
        total += len(sentence)
        weighted += len(sentence) * probability
    return weighted / total if total else 0.0


@cache
def _identifier() -> Any:
    try:
        from py3langid.langid import MODEL_FILE, LanguageIdentifier
    except ImportError as error:
        raise InputError(
            "identifying languages needs py3langid: pip install 'subliminal_jax[language]'"
        ) from error
    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
