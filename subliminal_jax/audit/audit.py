"""An audit from end to end: rows and candidates in, numbers and a verdict out."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from subliminal_jax.audit.blind import recover_blind
from subliminal_jax.audit.cleaning import clean_data
from subliminal_jax.audit.method import Suspect
from subliminal_jax.audit.methods.likelihood import judge
from subliminal_jax.audit.power import describe_outlook, make_outlook
from subliminal_jax.audit.proposals import propose
from subliminal_jax.audit.results import (
    AuditResult,
    Best,
    CandidateResult,
    CarrierRow,
    Carriers,
    Kind,
    LikelihoodRow,
    Likelihoods,
    NullColumn,
    Reported,
    Tested,
)
from subliminal_jax.audit.rows import AuditRows, find_room, prepare_rows
from subliminal_jax.audit.sampling import describe_sampling, measure_sampling
from subliminal_jax.audit.score_test import (
    CANDIDATE,
    Column,
    Finding,
    Push,
    correct,
    not_told_apart,
    push_rows,
    stepwise,
)
from subliminal_jax.audit.scores import (
    Candidate,
    Nulls,
    Scores,
    add_directions,
    extraction_prompts,
    make_placebos,
    make_push,
    make_trait,
    score_rows,
)
from subliminal_jax.audit.settings import (
    AuditSettings,
    BlindSettings,
    CleaningSettings,
    Form,
    SuspectSettings,
)
from subliminal_jax.audit.vocabulary import NO_WORDS, Vocabulary
from subliminal_jax.data.conversations import CountedRows
from subliminal_jax.escaping import print_line
from subliminal_jax.evaluation.statistics import mean_interval
from subliminal_jax.models.hub import Model
from subliminal_jax.models.tokenizer import encode_chat

LEVEL = 0.05
log = logging.getLogger(__name__)


def audit_data(
    model: Model,
    layer: int,
    kind: Kind,
    data: CountedRows,
    candidates: Sequence[Candidate],
    settings: AuditSettings,
    seed: int,
    folder: Path,
    *,
    blind: BlindSettings | None = None,
    cleaning: CleaningSettings | None = None,
    shuffled: bool = False,
    vocabulary: Vocabulary = NO_WORDS,
    proposed: int = 0,
) -> AuditResult:
    """The whole audit of one data set; scores are kept in `folder` while it runs.

    Args:
      blind: recover the vector from the data, too.
      cleaning: judge every row of the data, too, where a file for the rest is asked for.
      shuffled: score answers under other rows' prompts, too.
      vocabulary: words out of which this many candidates are `proposed`.
    """
    words = [make_trait(word) for word in vocabulary.words]
    suspect = prepare(
        model,
        layer,
        kind,
        data,
        candidates,
        settings,
        seed,
        folder,
        shuffled=shuffled,
        words=words,
    )
    tested = len(candidates) + len(words)
    outlook = make_outlook(suspect.rows, len(candidates) + proposed, tested, settings)
    print_line(describe_outlook(outlook))
    sampling = measure_sampling(suspect.rows)
    if sampling.collapsed:
        log.warning("%s", describe_sampling(sampling))
    others: list[Candidate] = []
    proposals = None
    if proposed:
        suspect, others, proposals = propose(suspect, words, proposed, vocabulary.left_out)
    rows, candidates = suspect.rows, suspect.candidates
    nulls = Nulls(list(suspect.placebos), seed)
    scores = score_rows(model, layer, rows, candidates, nulls, settings.forms, folder)
    result = replace(
        compare_candidates(rows, scores, len(others)),
        proposals=proposals,
        outlook=outlook,
        sampling=sampling,
    )
    if settings.likelihood:
        result = add_likelihoods(result, read_likelihoods(suspect, settings.forms, len(others)))
    if result.likelihoods is not None and cleaning is not None and cleaning.write_clean:
        room = find_room(
            model,
            _longest_prefix(model, (*candidates, *words, *suspect.placebos)),
            settings.max_new_tokens,
        )
        cleaned = clean_data(suspect, data, result.likelihoods, cleaning, room)
        result = replace(result, cleaned=cleaned)
    if blind is None or not blind.blind_steps:
        return result
    # Among all words: the proposed are near to such a vector by the choice.
    known = [*candidates, *others]
    vector = recover_blind(model, layer, rows, known, nulls.placebos, blind, seed)
    return replace(result, blind=vector)


def prepare(
    model: Model,
    layer: int,
    kind: Kind,
    data: CountedRows,
    candidates: Sequence[Candidate],
    settings: SuspectSettings,
    seed: int,
    folder: Path,
    *,
    shuffled: bool = False,
    words: Sequence[Candidate] = (),
) -> Suspect:
    """Rows, candidates and placebos for an audit's methods: rows are drawn, the base answers their
    prompts, and every candidate gets a direction, taken at the data's own prompts. None of `words`,
    which may become candidates, is a placebo, and rows leave room for their system prompts."""
    nulls = make_placebos(model, (*candidates, *words), settings.placebos, seed)
    rows = prepare_rows(
        model,
        kind,
        data.rows,
        layer=layer,
        rows=settings.rows,
        longest_answer=settings.max_new_tokens,
        longest_prefix=_longest_prefix(model, (*candidates, *words, *nulls.placebos)),
        draws=settings.draws,
        seed=seed,
        shuffled=shuffled,
    )
    rows = rows._replace(report=replace(rows.report, dropped=dict(data.dropped)))
    prompts = extraction_prompts(rows)
    candidates = add_directions(model, layer, candidates, prompts)
    placebos = add_directions(model, layer, nulls.placebos, prompts)
    return Suspect(model, layer, rows, candidates, placebos, seed, folder)


def read_likelihoods(suspect: Suspect, forms: Sequence[Form], unproposed: int = 0) -> Likelihoods:
    """The rows' likelihood under each candidate's teacher, in these forms. `unproposed` words could
    have been candidates: p-values are corrected for them, too."""

    def keep_forms(some: Sequence[Candidate]) -> list[Candidate]:
        return [
            replace(
                c,
                system_prompt=c.system_prompt if "system prompt" in forms else None,
                vector=c.vector if "direction" in forms or c.system_prompt is None else None,
            )
            for c in some
        ]

    judged = judge(
        suspect._replace(
            candidates=keep_forms(suspect.candidates), placebos=keep_forms(suspect.placebos)
        )
    )
    names = [c.name for c in suspect.candidates]
    p_values = [correct(float(p), len(names) + unproposed) for p in judged.p_values]
    order = np.argsort(-judged.likelihoods, kind="stable")
    return Likelihoods(
        candidates=tuple(
            LikelihoodRow(names[i], float(judged.likelihoods[i]), p_values[i]) for i in order
        ),
        named=names[judged.first] if p_values[judged.first] < LEVEL else None,
        share=judged.share,
        not_told_apart=tuple(names[i] for i in judged.alike),
        foreign=judged.foreign,
        teacher=judged.teacher,
    )


def add_likelihoods(result: AuditResult, found: Likelihoods) -> AuditResult:
    """The result with them; where the model can have written the rows, the verdict is theirs."""
    verdict = result.verdict
    if not found.foreign and found.named is None:
        verdict = f"nothing found at {LEVEL:.0%}"
    elif not found.foreign:
        best = found.candidates[0]
        p = "< 0.0001" if best.p < 1e-4 else f"= {best.p:.4f}"
        verdict = f"towards {best.name} (p {p})"
        if found.not_told_apart:
            verdict += f"; not told apart from {', '.join(found.not_told_apart)}"
    return replace(result, likelihoods=found, verdict=verdict)


def _longest_prefix(model: Model, candidates: Sequence[Candidate]) -> int:
    """Tokens that a system prompt puts before a prompt, at most."""
    plain = len(encode_chat(model.tokenizer, "x"))
    prompts = [c.system_prompt for c in candidates if c.system_prompt is not None]
    return max(
        (len(encode_chat(model.tokenizer, "x", system_prompt=p)) - plain for p in prompts),
        default=0,
    )


@dataclass(frozen=True)
class FormTest:
    """The tests of all candidates in one form: at first, and those that are reported."""

    scores: Scores
    push: Push
    findings: list[Finding]
    reported: list[Finding]


def compare_candidates(rows: AuditRows, scores: Scores, unproposed: int = 0) -> AuditResult:
    """Every candidate's scores and tests, what is reported at 5%, and the rows that carry most.
    `unproposed` words could have been candidates: p-values are corrected for them, too."""
    tests = sum(c.kind == CANDIDATE for c in scores.columns)
    names = dict.fromkeys(c.form for c in scores.columns)
    tests += unproposed * len(names)
    forms = []
    for form in names:
        selected = scores.select_form(form)
        push = make_push(rows, selected)
        findings, reported = stepwise(
            push,
            selected.columns,
            LEVEL,
            tests=tests,
            likeliest=rank_by_likelihood(rows, selected),
        )
        forms.append(FormTest(selected, push, findings, reported))
    best = min((f for form in forms for f in form.findings), key=lambda f: f.log_p)
    # One form speaks: the other's findings are the same trait again, or its relatives.
    leading = next(form for form in forms if form.scores.columns[0].form == best.form)
    reported = leading.reported
    lead = reported[0] if reported else best
    alike = []
    if reported:
        alike = not_told_apart(leading.push, leading.scores.columns, leading.findings, lead, LEVEL)
    return AuditResult(
        data=rows.report,
        candidates=tuple(
            describe_candidate(finding, rows, form.scores, form.push)
            for form in forms
            for finding in form.findings
        ),
        placebos=tuple(
            column for form in forms for column in describe_columns(form.scores, form.push)
        ),
        reported=tuple(Reported(f.name, f.form, f.p_adjusted, f.lean) for f in reported),
        not_told_apart=tuple(Tested(f.name, f.form, f.p_adjusted) for f in alike),
        verdict=write_verdict(reported, alike),
        best=Best(lead.name, lead.form, lead.p_adjusted, lead.log_p),
        carriers=find_carriers(lead, rows, leading.scores, leading.push),
    )


def rank_by_likelihood(rows: AuditRows, scores: Scores) -> list[str]:
    """Of system prompts over prompt/completion pairs: those under which the data are likelier than
    under the base, the likeliest first. A direction's score is no likelihood, only its slope."""
    if rows.kind == "preferences" or scores.columns[0].form != "system prompt":
        return []
    means = scores.values[:, rows.part("data")].mean(axis=0)
    return [
        scores.columns[i].name
        for i in np.argsort(-means)
        if means[i] > 0 and scores.columns[i].kind == CANDIDATE
    ]


def write_verdict(reported: Sequence[Finding], alike: Sequence[Finding]) -> str:
    """In words: towards what, or nothing."""
    if not reported:
        return f"nothing found at {LEVEL:.0%}"
    smallest: dict[str, float] = {}
    for f in reported:
        smallest[f.name] = min(f.p_adjusted, smallest.get(f.name, 1.0))
    text = "towards " + ", then ".join(
        f"{name} (p {'< 0.0001' if p < 1e-4 else f'= {p:.4f}'})" for name, p in smallest.items()
    )
    others = dict.fromkeys(f.name for f in alike if f.name not in smallest)
    return text + (f"; not told apart from {', '.join(others)}" if others else "")


def describe_candidate(
    finding: Finding, rows: AuditRows, scores: Scores, push: Push
) -> CandidateResult:
    """A candidate's line in the report."""
    c = _find_column(scores.columns, finding)
    values = scores.values[:, :, c]
    means = {}
    for part in dict.fromkeys(rows.parts):
        places = [i for i, name in enumerate(rows.parts) if name == part]
        means[part] = mean_interval(values[:, places][rows.valid[:, places]])
    if "shuffled" in rows.parts:
        control = values[:, rows.part("data")] - push.rows[:, c]
        means["shuffled_push"] = mean_interval(values[:, rows.part("shuffled")] - control)
    return CandidateResult(
        name=finding.name,
        form=finding.form,
        push=mean_interval(push.rows[:, c]),
        lean=finding.lean,
        lean_error=finding.lean_error,
        p_values=finding.p_values,
        p=finding.p_adjusted,
        log_p=finding.log_p,
        **means,
    )


def describe_columns(scores: Scores, push: Push) -> list[NullColumn]:
    """Every column's push in standard deviations of the base's scores: what the candidates' pushes
    are to be compared with."""
    e = push.rows.mean(axis=0) / np.sqrt(np.maximum(np.diag(push.metric), 1e-30))
    return [NullColumn(c.name, c.form, c.kind, float(e[i])) for i, c in enumerate(scores.columns)]


def find_carriers(
    finding: Finding, rows: AuditRows, scores: Scores, push: Push, shown: int = 10
) -> Carriers:
    """The rows that push most towards a candidate, beyond what placebos share."""
    values = push_rows(push, scores.columns, _find_column(scores.columns, finding))
    order = np.argsort(-values)
    total = float(values.sum())
    tenth = values[order[: max(1, len(values) // 10)]].sum()
    return Carriers(
        name=finding.name,
        form=finding.form,
        top_tenth_share=float(tenth / total) if total > 0 else None,
        rows=tuple(
            CarrierRow(rows.prompts[i][:200], rows.texts[i][:200], float(values[i]))
            for i in order[:shown]
        ),
    )


def _find_column(columns: Sequence[Column], finding: Finding) -> int:
    return columns.index(Column(finding.name, finding.form))
