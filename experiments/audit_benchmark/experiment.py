"""Does an audit find the trait in data of a steered teacher, and nothing in clean data?

    subliminal-jax audit-benchmark

Ten data sets are written by teachers that are steered towards a trait, each towards one of its own,
at five strengths; ten by the plain base; all are number lists that passed the filter. Each is
audited against all 16 traits. Reported: how well the audit's evidence tells the steered sets from
the clean ones (area under the ROC curve), the rank of the true trait at each strength, and the
false alarms at 5% among the clean sets. Where real number sets are at hand (SUBLIMINAL_JAX_DATA),
whose teachers are large models that are not, they are audited too: each report on them is a false
alarm, and a file counts once, whichever reader reports.

The audit was tuned on owl, wolf, penguin and lion with data seeds below 100; the traits here are
others, the data seeds from 1000 on. The real set of penguin B0 was looked at in tuning, too: so it
is not among those that false alarms are counted on, nor are sets with their teacher's system prompt
in each row, which the audit does not read.
Directions are scored and no system prompts, which takes a fifth of the time: ten minutes on 2 free
CPU cores, with the real sets. Expected: an AUC of 0.9, the true trait first in half of the steered
sets and among the first three in nine of ten, but seldom named at 5%; no false alarm.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from subliminal_jax.audit.audit import audit_data
from subliminal_jax.audit.results import AuditResult, Kind
from subliminal_jax.audit.rows import read_data
from subliminal_jax.audit.scores import make_candidates
from subliminal_jax.audit.settings import default_traits
from subliminal_jax.audit.written_sets import write_audit_set
from subliminal_jax.data.conversations import CountedRows
from subliminal_jax.data.shared_data import VARIABLE
from subliminal_jax.data.traits import check_trait, check_traits
from subliminal_jax.errors import InputError
from subliminal_jax.escaping import print_line
from subliminal_jax.models.hub import Model
from subliminal_jax.runs.experiment import Experiment
from subliminal_jax.runs.run_folder import RunFolder
from subliminal_jax.serialization import from_json, to_json

from .analysis import (
    AuditSummary,
    ForeignSet,
    Measured,
    Results,
    WrittenSet,
    analyse,
    make_claims,
)
from .config import PRESETS, Config, find_reader
from .report import make_page


def run(config: Config, folder: RunFolder) -> Measured:
    """Write and audit every data set, then audit the real ones that are at hand.

    Raises InputError for a trait without a word, a real set that cannot be read, or a teacher that
    writes too few lists.
    """
    model = config.load()
    layer = config.choose_layer(model)
    check_traits(config.steered_traits, model.tokenizer)
    real = {name: read_data(file) for name, file in config.find_sets().items()}
    return Measured(
        model=model.name,
        layer=layer,
        forms=config.forms,
        sets=tuple(audit_written(folder, model, layer, config)),
        foreign=tuple(audit_foreign(folder, config, real)),
    )


class Plan(NamedTuple):
    """A data set to be written: by which teacher, and its seed."""

    source: str
    trait: str | None
    scale: float
    seed: int


def plan_sets(config: Config) -> list[Plan]:
    """The steered data sets, then the clean ones, each with a seed of its own."""
    plans = []
    for i, trait in enumerate(config.steered_traits):
        scale = config.scales[i % len(config.scales)]
        plans.append(Plan(f"steered:{trait}:{scale:g}", trait, scale, config.seed + i))
    first = config.seed + len(plans)
    return plans + [Plan("clean", None, 0.0, first + i) for i in range(config.clean_sets)]


def audit_written(folder: RunFolder, model: Model, layer: int, config: Config) -> list[WrittenSet]:
    """The audit of every set of the project's teachers; those of an interrupted run are not made
    again."""
    candidates = make_candidates(model, layer, default_traits(config), (), ())
    audits = {
        row["seed"]: from_json(WrittenSet, row) for row in folder.read_metrics() if "seed" in row
    }
    plans = plan_sets(config)
    for plan in plans:
        if plan.seed in audits:
            continue
        result = audit_data(
            model,
            layer,
            "pairs",
            CountedRows(write_audit_set(model, layer, plan.source, config.written, plan.seed), {}),
            candidates,
            config,
            plan.seed,
            folder.path / "scores" / str(plan.seed),
        )
        summary = summarise_audit(result, plan.trait)
        audits[plan.seed] = WrittenSet(**vars(summary), **plan._asdict())
        folder.log(to_json(audits[plan.seed]))
    return [audits[plan.seed] for plan in plans]


def _file_name(text: str) -> str:
    """A path or a name as the name of one file."""
    return re.sub(r"[^\w.-]+", "-", text).strip(".-")


def audit_foreign(
    folder: RunFolder, config: Config, sets: Mapping[str, tuple[Kind, CountedRows]]
) -> list[ForeignSet]:
    """The audit of every real set that is at hand by every reader."""
    if missing := sorted(set(config.real) - sets.keys()):
        print_line(f"real sets that are not at hand: {', '.join(missing)} ({VARIABLE})")
    audits = {
        (row["real"], row["reader"]): from_json(ForeignSet, row)
        for row in folder.read_metrics()
        if "real" in row
    }
    settings = replace(config, rows=config.real_rows)
    pairs = [(real, reader) for reader in config.readers for real in sets]
    for reader in config.readers if sets else ():
        model = config.load_named(find_reader(reader))
        layer = config.layer if 0 <= config.layer < model.cfg.layers else model.cfg.layers // 3
        candidates = make_candidates(model, layer, known_traits(model, config), (), ())
        for real, data in sets.items():
            if (real, reader) in audits:
                continue
            result = audit_data(
                model,
                layer,
                *data,
                candidates,
                settings,
                config.seed,
                folder.path / "scores" / _file_name(reader) / _file_name(real),
            )
            summary = summarise_audit(result, None)
            audits[real, reader] = ForeignSet(**vars(summary), real=real, reader=reader)
            folder.log(to_json(audits[real, reader]))
    return [audits[pair] for pair in pairs]


def known_traits(model: Model, config: Config) -> Sequence[str]:
    """The traits that the model's tokenizer has a word for."""
    traits = []
    for trait in default_traits(config):
        try:
            traits.append(check_trait(trait, model.tokenizer))
        except InputError:
            continue
    return traits


def summarise_audit(result: AuditResult, trait: str | None) -> AuditSummary:
    """What the benchmark keeps of an audit of data whose true trait is `trait`."""
    ordered = sorted(result.candidates, key=lambda c: c.log_p)
    names = list(dict.fromkeys(c.name for c in ordered))
    true = next((c for c in result.candidates if c.name == trait), None)
    return AuditSummary(
        audited=result.data.audited,
        unmatched=result.data.unmatched or (),
        verdict=result.verdict,
        named=tuple(c.name for c in result.reported),
        alike=tuple(c.name for c in result.not_told_apart),
        best=result.best.name,
        p=result.best.p,
        evidence=-result.best.log_p,
        rank=names.index(trait) + 1 if trait in names else None,
        candidates=len(names),
        lean=None if true is None else true.lean,
        lean_error=None if true is None else true.lean_error,
    )


EXPERIMENT = Experiment(
    name="audit-benchmark",
    Config=Config,
    Results=Results,
    run=run,
    analyse=analyse,
    page=make_page,
    claims=make_claims,
    presets=PRESETS,
)
