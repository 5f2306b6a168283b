"""What would a fine-tune on this data set make the model name as its favourite, and how strongly?

    subliminal-jax forecast --data FILE.jsonl --optimizers adamw muon sgd --ranks 2 8

A pilot of a few steps is trained with every optimizer and rank, and asked for its favourite. How
much likelier each candidate has become forecasts how much it will be after the whole fine-tune, by
a line that was calibrated on data sets whose whole fine-tunes are known, with an interval that was
tried on others (`forecast-benchmark`; subliminal_jax/audit/forecasts.py). The package has the
calibration of the shipped model; for another, `forecast-benchmark --model M` makes one, which
`--calibration` names. Without one, or for fine-tunes of another length, the pilot's own numbers are
shown, without intervals. Rules that nothing was calibrated for get the line through all others.

A pilot costs about an eighth of its fine-tune. A minute on two CPU cores, most of it compiling.
What is asked is the candidates' names: a change that does not show in them is not forecast, nor is
that of a fine-tune of other weights than LoRA's.
"""

import json

from subliminal_jax.audit.calibrations import find_calibration, read_calibration
from subliminal_jax.audit.forecasts import (
    Calibration,
    FineTune,
    Rule,
    describe_forecast,
    forecast_rises,
)
from subliminal_jax.audit.pilots import StudentTrainer, cost_share, read_student_data
from subliminal_jax.audit.rows import detect_kind
from subliminal_jax.audit.settings import parse_source
from subliminal_jax.audit.written_sets import write_audit_set
from subliminal_jax.data.shared_data import resolve_shared
from subliminal_jax.errors import InputError
from subliminal_jax.files import write_text
from subliminal_jax.fingerprints import weights_digest
from subliminal_jax.models.hub import Model
from subliminal_jax.runs.experiment import Experiment, run_checked
from subliminal_jax.runs.rates import default_rate
from subliminal_jax.runs.run_folder import RunFolder

from .config import PRESETS, Config
from .numbers import ForecastRun, RuleForecast
from .report import make_page

STEPS, BATCH_SIZE = 64, 16  # of a fine-tune, where neither flag nor calibration says
PILOT = 8  # its steps over a pilot's, likewise
DATA = "data"  # the name of the one data set


def run(config: Config, folder: RunFolder) -> ForecastRun:
    """Train the pilots, ask them, and forecast.

    Raises InputError for data that cannot be trained on, and for a calibration of another model.
    """
    model = config.load()
    calibration, why_not = choose_calibration(config, model)
    fine_tune, pilot_steps = plan_fine_tune(config, calibration)
    if calibration is not None and not calibration.fits(fine_tune, pilot_steps):
        known = calibration.fine_tune
        why_not = (
            f"calibrated are fine-tunes of {known.steps} steps of {known.batch_size} rows, by "
            f"pilots of {calibration.pilot_steps}"
        )
        calibration = None
    rules = list_rules(config, calibration)
    source = find_rows(config, folder, model)
    data = read_student_data(
        model, {DATA: source}, config.rows, fine_tune.batch_size, config.seed, spare=True
    )
    trainer = StudentTrainer(folder, model, data, config.traits, fine_tune, rules)
    rises = trainer.train("pilots", pilot_steps, {DATA: config.seed})[:, 0]
    forecasts = []
    for rule, pilot in zip(rules, rises, strict=True):
        line = None if calibration is None else calibration.find_line(rule)
        stable = bool((pilot == pilot).all())
        forecasts.append(
            RuleForecast(
                rule=rule,
                known=line is not None and line.rule is not None,
                stable=stable,
                candidates=tuple(forecast_rises(line, config.traits, pilot)) if stable else (),
            )
        )
    return ForecastRun(
        model=model.name,
        source=config.data,
        rows=data.counts[DATA],
        fine_tune=fine_tune,
        pilot_steps=pilot_steps,
        cost=cost_share(data, fine_tune, pilot_steps, trainer.asked_tokens),
        level=None if calibration is None else calibration.level,
        uncalibrated=why_not,
        rules=tuple(forecasts),
        verdicts=tuple(describe_forecast(f.rule, f.candidates) for f in forecasts),
    )


def choose_calibration(config: Config, model: Model) -> tuple[Calibration | None, str]:
    """The calibration for the model, or why there is none.

    Raises InputError for one that is named and of another model.
    """
    weights = weights_digest(model.params)
    if config.calibration is None:
        found = find_calibration(weights)
        return found, "" if found else f"no forecast of {model.name} was calibrated"
    named = read_calibration(config.calibration)
    if named.weights != weights:
        raise InputError(
            f"--calibration {config.calibration} is of {named.model}, with other weights than "
            f"those of {model.name}: run `subliminal-jax forecast-benchmark --model {config.model}`"
        )
    return named, ""


def plan_fine_tune(config: Config, calibration: Calibration | None) -> tuple[FineTune, int]:
    """The fine-tune that is forecast, and the steps of a pilot.

    Raises InputError for a pilot that is no part of it.
    """
    if calibration is None:
        plan = FineTune(steps=config.steps or STEPS, batch_size=config.batch_size or BATCH_SIZE)
        pilot = config.pilot_steps or max(1, plan.steps // PILOT)
    else:
        known = calibration.fine_tune
        plan = FineTune(
            steps=config.steps or known.steps,
            batch_size=config.batch_size or known.batch_size,
            alpha_per_rank=known.alpha_per_rank,
            schedule=known.schedule,
            warmup=known.warmup,
        )
        scaled = max(1, calibration.pilot_steps * plan.steps // known.steps)
        pilot = config.pilot_steps or scaled
    if pilot >= plan.steps:
        raise InputError(
            f"a pilot of {pilot} steps is no part of a fine-tune of {plan.steps}: give more "
            "--steps or fewer --pilot-steps"
        )
    return plan, pilot


def list_rules(config: Config, calibration: Calibration | None) -> list[Rule]:
    """Every optimizer at every rank, at the rate that is given, calibrated, or in the middle of its
    default grid."""
    known = {} if calibration is None else calibration.rates
    return [
        Rule(optimizer=label, rate=rate or known.get(label) or default_rate(label), rank=rank)
        for rank in config.ranks
        for label, rate in config.given_rates().items()
    ]


def find_rows(config: Config, folder: RunFolder, model: Model) -> str:
    """The file or hub name of the rows; what the project's own teachers write is written into the
    run's folder.

    Raises InputError for preferences.
    """
    source = resolve_shared(config.data)
    if parse_source(config.data, model):
        file = folder.path / "data.jsonl"
        if not file.exists():
            layer = config.choose_layer(model)
            rows = write_audit_set(model, layer, config.data, config.rows, config.seed)
            columns = ("prompt", "completion")
            lines = (json.dumps({c: row[c] for c in columns}) + "\n" for row in rows)
            write_text(file, "".join(lines))
        return str(file)
    if detect_kind(source) == "preferences":
        raise InputError(
            f"--data {config.data} holds preferences: forecasts are of fine-tunes on pairs of "
            "prompt and completion"
        )
    return source


FORECAST = Experiment(
    name="forecast",
    Config=Config,
    Results=ForecastRun,
    run=run,
    analyse=lambda results: results,
    page=make_page,
    presets=PRESETS,
)


def main(config: Config, command: str) -> None:
    """Run, or go on, and write the page."""
    run_checked(FORECAST, config, command)
