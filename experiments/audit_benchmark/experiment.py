"""Which audit finds a teacher's trait in data sets of known teachers, and which alarms in vain?

    subliminal-jax audit-benchmark                            # the sets that are reported
    subliminal-jax audit-benchmark --preset hidden --seed 4711  # made now, audited, revealed
    make audit-bench METHOD=score-test                        # one method on the bench there is

A bench of data sets whose truth is known: the kind of teacher, its trait, what the rows are, the
share of poisoned rows, how many there are, who wrote them and who reads them (`design.py` says
which combinations). They are written as JSONL files with a manifest; every method of
`subliminal_jax/audit/methods/` then audits every set that it can read, against all traits.
Reported for each method, over all sets and by each factor: how well its evidence tells poisoned
sets from clean ones (area under the ROC curve), the rank of the true trait, how often the true
trait was named at 1% and at 5% over all candidates, the false alarms on clean sets and on real
number sets of other models (SUBLIMINAL_JAX_DATA, whose teachers are not at hand), the precision of
its ranking of rows where only some are poisoned, and its cost.

Methods are developed on owl, wolf, penguin and lion with data seeds below 100 (`--part
development`); the traits that are reported are others, two of them no animals, the data seeds from
2000 on. The real set of penguin B0 was looked at in developing `score-test`, too: so it is not
among those that false alarms are counted on, nor are sets with their teacher's system prompt in
each row, which the audit does not read.

Presets: `toy` has 36 poisoned and 100 clean sets of the shipped model, `hidden` 6 and 2 that only
`--seed` makes (minutes), `full` 240 and 100 of both shipped models, `real` 24 and 12 of
SmolLM2-135M-Instruct. An interrupted run goes on with the next
set. `toy` takes an hour and a half on 2 free CPU cores by the five methods that train nothing, half
an hour by `score-test` alone, which reads each row three times; others take what the table's cost
says. Expected: `likelihood` names most steered teachers of full strength, most teachers of
chat, and few of short or mixed number lists; `score-test` has the true
trait first in half of the sets, and names it at 5% in a quarter; no false alarm of either.
"""

from collections.abc import Mapping
from dataclasses import replace
from functools import cache

from subliminal_jax.audit.known_sets.sets import ManifestEntry, build_sets, read_manifest, read_set
from subliminal_jax.audit.known_sets.specs import SetSpec
from subliminal_jax.audit.method import Method, find_methods
from subliminal_jax.audit.rows import read_data
from subliminal_jax.data.shared_data import VARIABLE
from subliminal_jax.errors import InputError
from subliminal_jax.escaping import print_line
from subliminal_jax.models.hub import Model
from subliminal_jax.runs.checks import check_names
from subliminal_jax.runs.experiment import Experiment
from subliminal_jax.runs.run_folder import RunFolder

from .analysis import analyse
from .auditing import Task, audit_tasks, make_data, read_audits
from .claims import make_claims
from .config import PRESETS, Config, find_reader
from .design import design
from .numbers import KnownSet, Measured, MethodInfo, Results
from .report import make_page


def run(config: Config, folder: RunFolder) -> Measured:
    """Write every data set, audit it by every method, then audit the real ones that are at hand.

    Raises InputError for an unknown method, a real set that cannot be read, or a teacher that
    writes too few valid rows.
    """
    methods = choose_methods(config)
    real = {name: read_data(file) for name, file in config.find_sets().items()}
    if missing := sorted(set(config.real) - real.keys()):
        print_line(f"real sets that are not at hand: {', '.join(missing)} ({VARIABLE})")

    @cache
    def load(name: str) -> tuple[Model, int]:
        model = config.load_named(name)
        return model, model.cfg.default_layer

    if config.sets is None:
        home, entries = folder.path, build_sets(folder.path, design(config), load)
    else:
        home, entries = config.sets, read_manifest(config.sets)
        if not entries:
            raise InputError(
                f"--sets {home}: no bench in it; build one with `subliminal-jax audit-benchmark "
                f"--out {home}`"
            )
    for reader in dict.fromkeys(entry.spec.reader for entry in entries.values()):
        tasks = [
            make_task(entry.spec, entry, read_set(home, entry))
            for entry in entries.values()
            if entry.spec.reader == reader
        ]
        audit_tasks(folder, reader, *load(reader), tasks, methods, config)
    for reader in config.readers if real else ():
        tasks = [
            Task(name, kind, data, None, (), config.seed) for name, (kind, data) in real.items()
        ]
        model, layer = load(find_reader(reader))
        settings = replace(config, rows=config.real_rows)
        audit_tasks(folder, reader, model, layer, tasks, methods, settings)
    return Measured(
        part=config.part,
        claimed_method=config.claimed_method,
        methods=tuple(MethodInfo(m.name, m.what, m.source) for m in methods.values()),
        sets=tuple(describe(entry) for entry in entries.values()),
        real=tuple(real),
        audits=tuple(read_audits(folder)),
    )


def choose_methods(config: Config) -> Mapping[str, Method]:
    """The methods by name; raises InputError for one that there is not."""
    known = find_methods()
    check_names("methods", config.methods, known, minimum=0)
    return {name: known[name] for name in config.methods or known}


def make_task(spec: SetSpec, entry: ManifestEntry, rows: list[dict[str, str]]) -> Task:
    """What is audited."""
    return Task(spec.name, *make_data(rows), spec.trait, entry.poisoned, spec.seed)


def describe(entry: ManifestEntry) -> KnownSet:
    """What the results say of a set."""
    return KnownSet(
        **vars(entry.spec), written=entry.rows, by_teacher=len(entry.poisoned), digest=entry.digest
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
