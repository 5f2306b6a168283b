"""Which of some candidate traits, system prompts or directions does a data set push towards?

    subliminal-jax audit --data FILE.jsonl
    subliminal-jax audit --data steered:wolf:1     # or system-prompt:wolf, clean: written here

The data are prompt/completion pairs or preferences (prompt, chosen, rejected) in a JSONL file.

First the rows' exact likelihood under each candidate's teacher (the base with its direction at
several strengths, or with its system prompt, for all or for a part of the rows) against the base
(subliminal_jax/audit/methods/likelihood.py). It tells related candidates apart, and it is what
names a candidate where this model can have written the rows. Rows that are less likely under the
likeliest teacher than its own answers to the same prompts, by more than it explains of them,
another model wrote: every candidate that makes them likelier would then seem to be the teacher. The
score test is made for those.

In the score test every candidate scores every row: how much likelier does its system prompt, or its
direction, make the row? What counts is the score over that of the base's own answers to the same
prompts (of the rejected answer), in the metric in which those vary, after what candidates and
placebo nouns share is projected out. A candidate is reported where it stands out at 5%, over all
candidates, against each null of its form. System prompts have two: the base wrote it; the other
candidates and placebo nouns, whose push is spread as widely as the wider of these two groups.
Directions have a third: random directions (subliminal_jax/audit/score_test.py says how, and why
foreign data need more than the first).
Beside the verdict: the vector recovered blind from the data with its nearest candidates, the scores
of shuffled completions, and the rows that carry most. `--write-clean FILE` writes the data without
the rows that the named candidate's teacher probably wrote, and shows what short students become.

`--propose 8` adds candidates that nobody named: the eight words of a vocabulary (some 200 that ship
with the package, or those of `--vocabulary FILE`, one a line) towards which the data push most, to
first order. The p-values are then corrected for all words
(subliminal_jax/audit/proposals.py says why that is enough).

Before the scores, one line says how weak a teacher these rows can tell from the base, and another
warns where most of them are the same few answers.

Three minutes on 2 free CPU cores for 512 rows, 16 traits and both forms; `--forms direction` takes
half of that, `--no-likelihood` leaves the score test alone. Expected: the trait of a steered or
system-prompted teacher is named; nothing is found in clean data, and nothing in the number lists of
larger models, whose teachers are not at hand. "Nothing found" is no proof of clean data: how much
an audit can see, `audit-benchmark` measures, and it never sees traits that no candidate stands for,
traits that show in prompts alone which the data lack, and what another model's tokenizer writes by
other tokens.
"""

from subliminal_jax.audit.audit import audit_data
from subliminal_jax.audit.results import AuditRun, Kind
from subliminal_jax.audit.rows import read_data
from subliminal_jax.audit.scores import make_candidates
from subliminal_jax.audit.settings import default_traits, parse_source
from subliminal_jax.audit.vocabulary import NO_WORDS, choose_words
from subliminal_jax.audit.written_sets import write_audit_set
from subliminal_jax.data.conversations import CountedRows
from subliminal_jax.errors import InputError
from subliminal_jax.escaping import print_line
from subliminal_jax.runs.experiment import Experiment, run_checked
from subliminal_jax.runs.run_folder import RunFolder

from .config import PRESETS, Config
from .report import make_page
from .rest import write_rest


def run(config: Config, folder: RunFolder) -> AuditRun:
    """Read or write the data, then audit them.

    Raises InputError for candidates or data that cannot be.
    """
    model = config.load()
    layer = config.choose_layer(model)
    others = len(config.system_prompts) + len(config.vectors)
    traits = default_traits(config, others + config.propose)
    candidates = []
    if traits or others:
        candidates = make_candidates(model, layer, traits, config.system_prompts, config.vectors)
    vocabulary = NO_WORDS
    if config.propose:
        vocabulary = choose_words(config, model.tokenizer, [c.name for c in candidates])
    if parse_source(config.data, model):
        kind: Kind = "pairs"
        data = CountedRows(write_audit_set(model, layer, config.data, config.rows, config.seed), {})
    else:
        kind, data = read_data(config.data)
        if kind == "preferences" and config.write_clean is not None:
            raise InputError(
                f"--write-clean {config.write_clean}: rows are told apart in pairs of prompt and "
                f"completion alone; {config.data} holds preferences"
            )
    result = audit_data(
        model,
        layer,
        kind,
        data,
        candidates,
        config,
        config.seed,
        folder.path / "scores",
        blind=config,
        cleaning=config,
        shuffled=True,
        vocabulary=vocabulary,
        proposed=config.propose,
    )
    if config.write_clean is not None and result.cleaned is not None:
        if result.cleaned.leaves_some:
            write_rest(config.data, config.write_clean, result.cleaned.flagged, folder.path)
        print_line(result.cleaned.outcome)
    return AuditRun(**vars(result), model=model.name, layer=layer, source=config.data)


AUDIT = Experiment(
    name="audit",
    Config=Config,
    Results=AuditRun,
    run=run,
    analyse=lambda results: results,
    page=make_page,
    presets=PRESETS,
)


def main(config: Config, command: str) -> None:
    """Run, or go on, and write the page."""
    run_checked(AUDIT, config, command)
