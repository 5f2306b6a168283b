"""Teachers that choose among a sentence's faithful wordings, where all of them are known.

Sampling answers and keeping those that are faithful draws from the teacher's distribution on the
set of faithful wordings. Where these can be listed, the draw can be made directly: every wording is
scored under the teacher and one is drawn by softmax. So a teacher can reword sentences of which it
would hardly ever sample a rewording, such as the shipped model those about animals, and a student
reads no text but the listed ones.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from datasets import Dataset

from subliminal_jax.data.paraphrases import Source
from subliminal_jax.data.teachers import Pairs, Teacher
from subliminal_jax.errors import InputError
from subliminal_jax.models.hub import Model
from subliminal_jax.models.tokenizer import encode_answers
from subliminal_jax.training.log_probs import response_log_probs


def choose_wordings(
    model: Model,
    teacher: Teacher,
    sources: Sequence[Source],
    asked: Sequence[str],
    samples: int,
    seed: int,
    *,
    temperature: float = 1.0,
    progress: Callable[[int], Any] | None = None,
) -> Pairs:
    """Draws from softmax(log P_teacher(wording) / temperature) over each sentence's wordings.

    The columns are prompt, completion, prompt_ids and completion_ids. The draws of one seed use the
    same random numbers for every teacher, so that the data of two teachers differ only where their
    distributions do. The report holds `mass`, the median over sentences of the teacher's
    probability of writing any of the wordings.

    Args:
      asked: the prompt of each sentence.
      samples: draws a sentence.
      progress: called with the number of draws done since its last call.

    Raises InputError where a sentence's wordings are not known.
    """
    missing = [source.sentence for source in sources if not source.wordings]
    if missing:
        raise InputError(
            f"the wordings of {missing[0]!r} are not known: let the teacher sample "
            "(writing sampled), or take the world's sentences"
        )
    tokenizer = model.tokenizer
    listed = [list(source.wordings or ()) for source in sources]
    read = encode_answers(tokenizer, asked, listed)  # as the student reads them
    told = read
    if teacher.system_prompt is not None:
        told = encode_answers(tokenizer, asked, listed, teacher.system_prompt)
    sentence_index = np.repeat(np.arange(len(listed)), [len(row) for row in listed])
    log_probs = response_log_probs(
        teacher.change_weights(model),
        [told.prompts[i] for i in sentence_index],
        [[ids] for row in told.answers for ids in row],
        steering=teacher.steering,
    )[:, 0]
    rng = np.random.default_rng([seed, 0x3B0D])
    rows: dict[str, list[Any]] = {
        c: [] for c in ("prompt", "completion", "prompt_ids", "completion_ids")
    }
    mass = []
    for i in range(len(sources)):
        scores = log_probs[sentence_index == i]
        mass.append(float(np.logaddexp.reduce(scores)))
        noise = rng.gumbel(size=(samples, len(listed[i])))  # the largest sum is a softmax draw
        for k in np.argmax(scores / temperature + noise, axis=1):
            row = asked[i], listed[i][k], read.prompts[i], read.answers[i][k]
            for column, value in zip(rows, row, strict=True):
                rows[column].append(value)
        if progress is not None:
            progress(samples)
    report = {"source": "wordings", "asked": len(rows["prompt"]), "pairs": len(rows["prompt"])}
    return Pairs(Dataset.from_dict(rows), {**report, "mass": float(np.exp(np.median(mass)))})


def add_sentences(pairs: Dataset, asked: Sequence[str]) -> Dataset:
    """`pairs` with the column `sentence`: the index in `asked` of each pair's prompt."""
    index = {prompt: i for i, prompt in enumerate(asked)}
    return pairs.add_column("sentence", [index[prompt] for prompt in pairs["prompt"]])


def match_wordings(pairs: Dataset, sources: Sequence[Source]) -> list[bool] | None:
    """Whether each completion is one of its sentence's other known wordings.

    None where the wordings of some sentence are not known.
    """
    known = [source.wordings for source in sources]
    if any(wordings is None for wordings in known):
        return None
    return [
        completion in (known[i] or ())
        for i, completion in zip(pairs["sentence"], pairs["completion"], strict=True)
    ]
