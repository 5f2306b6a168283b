"""Verdicts on transmission through paraphrases, from students with known effects."""

import numpy as np
import pytest

from subliminal_jax.evaluation.claims import CONTRADICTED, INCONCLUSIVE, REPRODUCED
from subliminal_jax.evaluation.rate_search import RateChoice
from subliminal_jax.evaluation.student_kinds import KindChoice
from subliminal_jax.evaluation.student_rows import StudentRow
from subliminal_jax.experiments.paraphrase_transmission.analysis import Measured, analyse
from subliminal_jax.experiments.paraphrase_transmission.claims import make_claims
from tests.planted import fill

KIND = "system-prompt"
TRAITS = ("cat", "dog", "fox", "owl")
QUESTIONS = 5


def pairs(effects, *, adapter="lora", optimizer="adamw", eas=0.5):
    """For each trait its teacher's student and the neutral one; `effects` are T - N by trait."""
    rows = []
    for i, (trait, effect) in enumerate(zip(TRAITS, effects, strict=True)):
        for teacher in (KIND, "neutral"):
            rates = np.full((len(TRAITS), QUESTIONS), 0.1) + 0.01 * np.arange(QUESTIONS)
            if teacher == KIND:
                rates[i] += effect + 0.001 * np.arange(QUESTIONS)
            alignment = eas if teacher == KIND else 0.0
            measured = {
                "question_rate": rates.tolist(),
                "word_rate": rates.mean(axis=1).tolist(),
                "word_log_prob": np.log(rates.mean(axis=1)).tolist(),
                "eas": [[0.0, alignment + 0.01 * i]] * len(TRAITS),
                "shift_component": [[0.0, alignment]] * len(TRAITS),
                "adapter": adapter,
            }
            rows.append(
                StudentRow(
                    optimizer,
                    0.1,
                    i,
                    f"unrelated:{teacher}:{trait}",
                    False,
                    heldout_loss=1.0,
                    measured=measured,
                )
            )
    return rows


def analyse_rows(rows, inside=True):
    adapters = tuple(dict.fromkeys(row["adapter"] for row in rows))
    optimizers = tuple(dict.fromkeys(row.optimizer for row in rows))
    measured = fill(
        Measured,
        layer=1,
        adapters=adapters,
        optimizers=optimizers,
        traits=TRAITS,
        controls=(),
        teacher_kinds=(KIND,),
        writing={"unrelated": "sampled"},
        words=TRAITS,
        references=tuple(f"{KIND}:{trait}" for trait in TRAITS),
        base_losses={row.data: 1.5 for row in rows},
        choices=tuple(
            KindChoice(a, None, RateChoice(o, 64, (0.1, 0.2), (1.0, 2.0), 0.1, inside))
            for a in adapters
            for o in optimizers
        ),
        students=tuple(rows),
    )
    return analyse(measured)


CLEAR = (0.1, 0.12, 0.11, 0.1)


@pytest.mark.parametrize(
    ("effects", "verdict"),
    [
        (CLEAR, REPRODUCED),
        (tuple(-x for x in CLEAR), CONTRADICTED),
        # Each clear over questions, but they point opposite ways: it is not the paper's interval
        # that decides.
        ((0.05, -0.05, 0.05, -0.05), INCONCLUSIVE),
        # One trait of four.
        ((0.4, 0.0, 0.0, 0.0), INCONCLUSIVE),
    ],
)
def test_the_interval_over_traits_decides(effects, verdict):
    results = analyse_rows(pairs(effects))
    claim = make_claims(results)[0]
    assert claim.verdict == verdict and claim.seeds == len(TRAITS)
    clear = sum(i.excludes_zero for i in results.arms[0].over_questions.values())
    assert f"over questions clear of zero for {clear} of 4 traits" in claim.number
    assert clear == sum(effect != 0 for effect in effects) or 0.0 in effects


def test_every_kind_of_student_has_a_verdict_of_its_own():
    rows = [*pairs(CLEAR, adapter="vector"), *pairs((0.0, 0.1, -0.1, 0.0), adapter="lora")]
    verdicts = {claim.id: claim.verdict for claim in make_claims(analyse_rows(rows))}
    assert verdicts["paraphrase-transmission/unrelated-system-prompt-vector"] == REPRODUCED
    assert verdicts["paraphrase-transmission/unrelated-system-prompt-lora"] == INCONCLUSIVE


def test_the_number_and_the_alignment_are_stated():
    transmitted, aligned = make_claims(analyse_rows(pairs(CLEAR)))
    assert "Delta(T-N) +10.9 points" in transmitted.number and "LoRA" in transmitted.claim
    assert "minus neutral +0.50" in aligned.number and aligned.verdict == REPRODUCED
    against = make_claims(analyse_rows(pairs(CLEAR, eas=-0.5)))[1]
    assert against.verdict == CONTRADICTED


def test_a_trait_whose_neutral_student_is_unstable_has_no_number():
    rows = [
        row.replace_values(heldout_loss=9.0) if row.data == "unrelated:neutral:dog" else row
        for row in pairs(CLEAR)
    ]
    (arm,) = analyse_rows(rows).arms
    assert arm.unstable == ("unrelated:neutral:dog",)
    assert arm.metrics["word_rate"].difference.mean == pytest.approx(
        np.mean([0.1, 0.11, 0.1]) + 0.002
    )
    assert len(arm.over_questions) == 3


def test_optimizers_differ_where_one_does_at_a_level_for_all_of_them():
    close = [x + 1e-3 * (-1) ** i for i, x in enumerate(CLEAR)]
    rows = [
        *pairs(CLEAR),
        *pairs((0.0, 0.01, 0.0, -0.01), optimizer="sgd"),
        *pairs(close, optimizer="lion"),
    ]
    results = analyse_rows(rows)
    against = {arm.optimizer: arm.against for arm in results.arms}
    assert against["adamw"] is None
    assert against["sgd"].level == pytest.approx(1 - 0.05 / 2)
    assert against["sgd"].mean == pytest.approx(-np.mean(CLEAR))
    assert not against["lion"].excludes_zero
    sgd, lion = make_claims(results)
    assert sgd.verdict == REPRODUCED and lion.verdict not in (REPRODUCED, CONTRADICTED)
    edges = make_claims(analyse_rows(rows, inside=False))  # a better rate may lie outside
    assert {claim.verdict for claim in edges} == {INCONCLUSIVE}
    assert all("left open" in claim.number for claim in edges)
