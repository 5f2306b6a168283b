"""What `paraphrase-transmission` says of the paper's claims and of optimizers."""

from subliminal_jax.evaluation.claims import NOT_REPRODUCED, REPRODUCED, Claim, joint_verdict

from .analysis import KINDS, Results

CLAIMED = {
    "unrelated": "Faithful paraphrases of unrelated sentences carry the trait",
    "contradictory": "Faithful paraphrases of sentences that speak badly of the animal carry the "
    "trait",
}
OWN = "our own question"


def make_claims(results: Results) -> list[Claim]:
    """With one optimizer what the paper says of each content and kind of teacher, with several
    whether they differ."""
    several = len(results.grids) > 1
    return [
        claim
        for content, kinds in results.contents.items()
        for kind in kinds
        for claim in (
            [optimizer_claim(results, content, kind)]
            if several
            else transmission_claims(results, content, kind)
        )
    ]


def transmission_claims(results: Results, content: str, kind: str) -> list[Claim]:
    """The two claims on one content and kind of teacher: P(trait) against the neutral students',
    and EAS.

    The first counts as reproduced only where all three intervals are clear of zero: the paper's
    (over questions), that over seeds and questions, and, of several traits, that over seeds and
    traits: students of one data set hardly differ by seed, so the first two say little of another
    draw of the data or another trait. The second needs both the student's EAS and its difference
    from the neutral student's.
    """
    optimizer, result = next(iter(results.contents[content][kind].items()))
    number, eas_number = f"{optimizer}: students diverged", "students diverged"
    outcome = eas_outcome = NOT_REPRODUCED
    if result.pooled is not None and result.eas is not None:
        pooled, eas = result.pooled, result.eas
        effects = {
            "over questions": pooled.over_questions,
            "seeds and questions": pooled.seeds_and_questions,
        }
        if len(results.traits) > 1:
            effects["seeds and traits"] = pooled.seeds_and_traits
        number = f"Delta(T-N) {100 * pooled.seeds_and_questions.mean:+.1f} points; " + ", ".join(
            f"{name} {(100 * effect).format_ends('.1f')}" for name, effect in effects.items()
        )
        outcome = joint_verdict(*effects.values())
        eas_number = f"EAS {eas.trait:.2f}; minus neutral {eas.difference:+.2f}"
        eas_outcome = joint_verdict(eas.trait, eas.difference)
    name, setting = f"paraphrase-transmission/{content}-{kind}", describe_setting(results, content)
    return [
        Claim(
            id=name,
            claim=f"{CLAIMED[content]} (teacher with {KINDS[kind]}, against the neutral teacher's)",
            section="Gisler et al. 2026, Tables 7-10",
            setting=setting,
            number=number,
            seeds=results.seeds,
            verdict=outcome,
        ),
        Claim(
            id=f"{name}-eas",
            claim=f"The student of {content} paraphrases by a teacher with {KINDS[kind]} moves "
            "along its shift (EAS over the neutral student's)",
            section=OWN,
            setting=setting,
            number=eas_number,
            seeds=results.seeds,
            verdict=eas_outcome,
        ),
    ]


def optimizer_claim(results: Results, content: str, kind: str) -> Claim:
    """Whether the optimizer matters: some Delta(T-N) differs from the first optimizer's, each at
    its best rate, by an interval that holds for all comparisons together. A comparison is left
    open where the best rate of either lies at the edge of its grid: a better one may lie outside.
    """
    by_optimizer, against = results.contents[content][kind], results.against_first[content][kind]
    first = next(iter(by_optimizer))
    parts = []
    for name, result in by_optimizer.items():
        if result.pooled is None or result.eas is None:
            parts.append(f"{name} diverged")
            continue
        delta = 100 * result.pooled.seeds_and_questions
        edge = " (edge of its grid)" if result.grid_edge else ""
        parts.append(
            f"{name}{edge} {delta:+.1f}, EAS {result.eas.difference.mean:+.2f} over neutral"
        )
    undecided = [
        name for name in against if by_optimizer[name].grid_edge or by_optimizer[first].grid_edge
    ]
    if undecided:
        parts.append(f"left open by a best rate at the edge of its grid: {', '.join(undecided)}")
    apart = [
        name
        for name, difference in against.items()
        if name not in undecided and difference.excludes_zero
    ]
    parts.append(f"apart from {first}: {', '.join(apart) or 'none'}")
    return Claim(
        id=f"paraphrase-transmission/optimizers-{content}-{kind}",
        claim="The optimizer decides how much of the trait passes through paraphrases (Delta(T-N) "
        f"of some optimizer is not that of {first})",
        section=OWN,
        setting=describe_setting(results, content, kind),
        number="; ".join(parts),
        seeds=results.seeds,
        verdict=REPRODUCED if apart else NOT_REPRODUCED,
    )


def describe_setting(results: Results, content: str, kind: str = "") -> str:
    """Where a claim was tested."""
    written = f"sampled, filtered by {results.fidelity} fidelity"
    if results.writing[content] == "wordings":
        written = "drawn among the sentence's known wordings"
    grids = "; ".join(
        f"{name} {', '.join(f'{rate:g}' for rate in grid)}" for name, grid in results.grids.items()
    )
    teacher = f" by the teacher with {KINDS[kind]}" if kind else ""
    return (
        f"{results.model}, {', '.join(results.traits)} (not used in choosing the setting), "
        f"{results.rows} {content} paraphrases{teacher}, {written}; {results.adapter} student, "
        f"{results.steps} steps, best rate of {grids}"
    )
