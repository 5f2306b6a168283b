"""Every flag of every sub-command: its bounds are stated, checked before anything is touched, and
what they refuse is one line."""

import math
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from typing import Any, Literal, get_origin

import pytest

from subliminal_jax.bounds import Rule, as_flag, check_value, field_rules, flag, leaf_kinds
from subliminal_jax.cli import find_commands, find_experiments, load_experiment, main, parse_config
from subliminal_jax.effects import check_effects, defaults
from subliminal_jax.errors import InputError
from subliminal_jax.flags import parse_flags
from subliminal_jax.runs import experiment as experiment_module
from subliminal_jax.runs.experiment import run_experiment
from subliminal_jax.runs.kind_settings import StudentKindSettings
from subliminal_jax.runs.settings import TrainingSettings

EXPERIMENTS, COMMANDS = find_experiments(), find_commands()
NAMES = (*EXPERIMENTS, *COMMANDS)
NEED_AN_ARGUMENT = ("claims", "convert", "export", "extract", "report")
POSITIONAL = ("runs", "run", "kind")


@cache
def config_type(name: str) -> Any:
    if name in EXPERIMENTS:
        return load_experiment(EXPERIMENTS[name]).Config
    return COMMANDS[name].load().Config


@cache
def default(name: str) -> Any:
    """The settings of the first preset."""
    if name in EXPERIMENTS:
        return parse_config(load_experiment(EXPERIMENTS[name]), [])
    return parse_flags(config_type(name), [], prog=name)


def rules(name: str) -> Iterator[tuple[str, Rule]]:
    for field, rule in field_rules(config_type(name)).items():
        if field not in POSITIONAL:
            yield field, rule


def is_number(rule: Rule) -> bool:
    return bool({int, float} & set(leaf_kinds(rule.kind)))


def is_tuple(rule: Rule) -> bool:
    return "tuple" in str(rule.kind)


def refusal(name: str, field: str, rule: Rule, value: Any) -> str:
    with pytest.raises(InputError) as error:
        check_value(field, value, rule, as_flag)
    message = str(error.value)
    assert message.startswith(flag(field)), message
    assert len(message.splitlines()) == 1
    return message


@pytest.mark.parametrize("name", NAMES)
def test_every_number_has_a_range_and_every_default_is_valid(name):
    for field, rule in rules(name):
        if is_number(rule):
            assert rule.range is not None, f"{field} needs a Range"
            assert rule.range.least is not None or rule.range.above is not None, field
            assert rule.range.most is not None or rule.range.below is not None, field
    if name not in NEED_AN_ARGUMENT:
        default(name)


def single(rule: Rule) -> Rule:
    """The rule of one value of a field."""
    return replace(rule, kind=leaf_kinds(rule.kind)[0])


@pytest.mark.parametrize("name", NAMES)
def test_a_range_holds_its_bounds_and_nothing_beyond_them(name):
    for field, rule in rules(name):
        if not is_number(rule):
            continue
        rule, bounds = single(rule), rule.range
        assert bounds is not None
        kind = rule.kind
        step = 1 if kind is int else 1e-6
        for bound in (bounds.least, bounds.most, bounds.also):
            if bound is not None:
                check_value(field, kind(bound), rule, as_flag)
        lower = bounds.above if bounds.least is None else bounds.least - step
        upper = bounds.below if bounds.most is None else bounds.most + step + abs(bounds.most) / 1e3
        assert lower is not None and upper is not None
        beyond = [kind(v) for v in (lower, upper) if v != bounds.also]
        for value in (*beyond, math.nan, math.inf, -math.inf, True, "3", None, 2**80, 1e-42):
            if not (kind is float and value == 2**80 and upper > 2**80):
                assert "give a " in refusal(name, field, rule, value)


@pytest.mark.parametrize("name", NAMES)
def test_texts_and_lists_are_checked(name):
    for field, rule in rules(name):
        if str in leaf_kinds(rule.kind):
            for text in (
                " ",
                "\x1b[31m",
                "a\x00b",
                "\ud800",
                3,
                *([] if rule.text.empty else [""]),
            ):
                refusal(name, field, single(rule), text)
        if is_tuple(rule):
            if rule.items.least:
                assert "is empty" in refusal(name, field, rule, ())
            value = getattr(default(name), field, ()) if name not in NEED_AN_ARGUMENT else ()
            if rule.items.distinct and value and rule.kind.__args__[-1] is ...:
                assert "twice" in refusal(name, field, rule, (*value, value[0]))
        elif get_origin(rule.kind) is Literal:
            assert "choose from" in refusal(name, field, rule, "nonsense")


@pytest.fixture
def no_work(monkeypatch):
    """Fail where a run gets as far as its folder."""

    def fail(*arguments, **options):
        raise AssertionError("the folder was opened")

    monkeypatch.setattr(experiment_module.RunFolder, "open", fail)


PLANS: list[tuple[dict[str, Any], str]] = [
    ({"steps": 10, "log_every": 3}, "--steps 10 must be a multiple of --log-every 3"),
    ({"steps": 10, "log_every": 20}, "--steps 10 must be a multiple of --log-every 20"),
    ({"batch_size": 16, "accumulation": 3}, "--batch-size 16 must be a multiple of"),
    ({"steps": 10_000_000, "log_every": 1, "seeds": 10_000}, "of memory, and there are"),
    ({"seeds": True}, "--seeds True"),
]
SAME = "are the same: name it once"
ARMS: list[tuple[tuple[str, ...], tuple[str, ...], str]] = [
    (("sgd", "sgd"), (), "--optimizers sgd sgd holds sgd twice"),
    (("adamw", "adamw:b1=0.9"), (), f"--optimizers adamw and adamw:b1=0.9 {SAME}"),
    (("adamw:b1=0.8,b2=0.9", "adamw:b2=0.9,b1=0.80"), (), SAME),
    (("adamw:b1=nan",), (), "b1=nan"),
    (("adamw:b1=0.99999999999",), (), "b1=0.99999999999: must be"),
    (("adamw:eps=1e-300",), (), "eps=1e-300: must be"),
    (("adamw:b1=true",), (), "b1=true"),
    (("adamw:b1=0_9",), (), "b1=0_9"),
    (("adamw:b3=1",), (), "b3"),
    (("no_such_module:rule",), (), "no module"),
    (("adamw",), ("adamw=1e-3,0.001",), "holds 0.001 twice"),
    (("adamw",), ("adamw=1e-3,1.00000001e-3",), "twice"),
    (("adamw",), ("adamw=1e-3", "adamw=3e-3"), "--rates has two grids for adamw"),
    (("adamw:b1=0.8",), ("adamw:b1=0.8=1e-3", "adamw:b1=0.80=3e-3"), "two grids"),
    (("adamw",), ("adamw=nan",), "the rate nan"),
    (("adamw",), ("adamw=inf",), "the rate inf"),
    (("adamw",), ("adamw=-1e-3",), "the rate -0.001"),
    (("adamw",), ("adamw=0",), "the rate 0.0"),
    (("adamw",), ("adamw=1e-41",), "0 in float32"),
    (("adamw",), ("adamw=1_0",), "cannot be read"),
    (("adamw",), ("adamw=\u0663",), "cannot be read"),
    (("adamw",), ("adamw=1e-3,,3e-3",), "cannot be read"),
    (("adamw",), ("=1e-3",), "cannot be read"),
    (("adamw",), ("sgd=1e-3",), "--rates for sgd, which is none"),
]


TRAINED = [n for n in EXPERIMENTS if issubclass(config_type(n), TrainingSettings)]
KINDS = [n for n in EXPERIMENTS if issubclass(config_type(n), StudentKindSettings)]
KIND_PLANS: list[tuple[dict[str, Any], str]] = [
    *((changes, says) for changes, says in PLANS if "seeds" not in changes),
    ({"steps": 10_000_000, "log_every": 1, "batch_size": 500, "rows": 500}, "of memory, and there"),
    ({"adapters": ("lora", "lora")}, "--adapters lora lora holds lora twice"),
    ({"traits": ("cat",), "tuning_traits": ("cat",)}, "--tuning-traits cat is also reported"),
]


def check(name: str, **changes: Any) -> str:
    """What is refused before a folder or a model is touched."""
    with pytest.raises(InputError) as error:
        run_experiment(load_experiment(EXPERIMENTS[name]), replace(default(name), **changes))
    return str(error.value)


@pytest.mark.parametrize("name", TRAINED)
def test_training_plans_that_cannot_be_are_refused_before_anything_runs(name, no_work):
    for changes, says in PLANS:
        assert says in check(name, **changes)


@pytest.mark.parametrize("name", KINDS)
def test_plans_of_several_kinds_that_cannot_be_are_refused_before_anything_runs(name, no_work):
    for changes, says in KIND_PLANS:
        assert says in check(name, **changes)


@pytest.mark.parametrize(("optimizers", "rates", "says"), ARMS)
def test_optimizers_and_rates_that_cannot_be_are_refused(optimizers, rates, says, no_work):
    assert says in check("trait-transmission", optimizers=optimizers, rates=rates)


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (("--overwrite", "--no-overwrite"), "--overwrite and --no-overwrite contradict"),
        (("--numbr", "0"), "--numbr"),
        (("--rows",), "--rows"),
        (("--rows", "5", "6"), "6"),
        (("--schedule", "fast"), "'fast'"),
        (("--judge-model", "gpt"), "--judge-model has no effect without --judge-url"),
        (
            ("--judge-url", " http://u:key@localhost/v1", "--judge-model", "m"),
            "error: --judge-url b",
        ),
        (("--processes", "2"), "need --coordinator HOST:PORT"),
        (("--coordinator", "a:1", "--processes", "2", "--process-id", "2"), "ids count from 0"),
        (("--rows", "10000000", "--asked", "1000"), "--rows 10000000 with"),
        (("--asked", "nan"), "--asked nan is not valid"),
        (("--rows", "\u0663"), "--rows"),
        (("--process-id", "1_0"), "--process-id 1_0 is not valid"),
        (("--adapter-layers", "0", "x"), "--adapter-layers x is not valid"),
        (("--rates=adamw=fast",), "'adamw=fast' cannot be read"),
        (("--measures", "mood"), "mood"),
        (("--trait", "Owl 2"), "--trait 'Owl 2'"),
    ],
)
def test_a_refused_run_is_one_line_and_leaves_no_folder(flags, says, tmp_path, capsys):
    out = tmp_path / "run"
    with pytest.raises(SystemExit) as exit:
        main(["optimizer-comparison", "--out", str(out), *flags])
    printed = capsys.readouterr()
    assert exit.value.code == 2 and printed.out == ""
    assert printed.err.startswith("subliminal-jax: error: ") and printed.err.count("\n") == 1
    assert says in printed.err
    assert not out.exists()


WITHOUT_EFFECT = [
    (
        "optimizer-comparison",
        ("--guard-share", "0.3"),
        "--guard none: it needs --guard drop-rows",
    ),
    ("optimizer-comparison", ("--guard", "project", "--guard-share", "0.3"), "--guard project: it"),
    ("optimizer-comparison", ("--guard-vector", "blind"), "it needs --guard project or inoculate"),
    ("optimizer-comparison", ("--adapter", "full", "--rank", "4"), "beside --adapter full"),
    ("optimizer-comparison", ("--adapter", "full", "--alpha", "4"), "beside --adapter full"),
    ("optimizer-comparison", ("--adapter", "full", "--targets", "q"), "beside --adapter full"),
    ("optimizer-comparison", ("--adapter", "vector", "--adapter-layers", "1"), "needs --adapter"),
    ("optimizer-comparison", ("--judge-key", "PATH"), "--judge-key has no effect without"),
    (
        "optimizer-comparison",
        ("--keep", "all", "--judge-url", "http://a/v1", "--judge-model", "m"),
        "--keep numbers",
    ),
    ("optimizer-comparison", ("--scale", "2"), "beside --vector random: leave one"),
    ("optimizer-comparison", ("--vector", "trait", "--norm", "2"), "it needs --vector random"),
    ("optimizer-comparison", ("--teacher", "system-prompt", "--norm", "2"), "needs --teacher"),
    (
        "optimizer-comparison",
        ("--teacher", "plain", "--teacher-model", "x", "--norm", "2"),
        "needs --teacher steered",
    ),
    ("own-data", ("--data", "x", "--asked", "3"), "model's own answers are no control here"),
    ("optimizer-comparison", ("--gradient-rows", "2000"), "is more than --rows 1024"),
    (
        "optimizer-comparison",
        ("--optimizers", "sgd", "--rates", "sgd=1", "--grid-points", "9"),
        "--grid-points 9 has no effect",
    ),
    ("scaling", ("--layer", "1", "--place", "third"), "beside --layer 1: it needs --layer -1"),
    ("distil-vectors", ("--layer", "2"), "beside --layers 1 2: leave one of them out"),
    ("distil-vectors", ("--adapter-layers", "2"), "give --no-steered-block, too"),
    ("distil-vectors", ("--kinds", "trait", "--randoms", "3"), "it needs --kinds random"),
    ("trait-transmission", ("--teachers", "system-prompt", "--scale", "2"), "--teachers steered"),
    ("blocking", ("--adapters", "vector", "--rank", "4"), "beside --adapters vector"),
    ("teacher-vector", ("--adapters", "full", "--rank", "4"), "beside --adapters full"),
    ("audit", ("--blind-steps", "0", "--batch-size", "8"), "without --blind-steps"),
    ("audit", ("--vocabulary", "x"), "without --propose"),
    ("audit", ("--forms", "system prompt", "--vectors", "x"), "it needs --forms direction"),
    ("logit-linear-selection", ("--split", "test"), "beside --pairs world: leave one of them out"),
    ("logit-linear-selection", ("--layer", "1"), "it needs --adapter vector"),
    (
        "logit-linear-selection",
        ("--judge-url", "http://a/v1", "--judge-model", "m"),
        "needs --hidden-kind personas",
    ),
    ("log-linearity", ("--split", "test"), "beside --pairs world"),
    (
        "paraphrase-transmission",
        ("--judge-url", "http://a/v1", "--judge-model", "m"),
        "it needs --fidelity judge",
    ),
    (
        "paraphrase-transmission",
        ("--contents", "unrelated", "--contradictory-samples", "2"),
        "it needs --contents contradictory",
    ),
    ("claims", ("x", "--store", "y", "--out", "z"), "--out z has no effect beside --store y"),
]


@pytest.mark.parametrize(("command", "flags", "says"), WITHOUT_EFFECT)
def test_flags_without_effect_are_refused(command, flags, says, tmp_path, no_work, capsys):
    out = () if command == "claims" else ("--out", str(tmp_path / "run"))
    with pytest.raises(SystemExit) as exit:
        main([command, *flags, *out])
    error = capsys.readouterr().err
    assert exit.value.code == 2 and error.count("\n") == 1
    assert says in error and ("has no effect" in error or "is more than" in error)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_preset_may_hold_values_without_effect(name):
    """Whoever changes a flag of a preset need not undo those that then do nothing."""
    experiment = load_experiment(EXPERIMENTS[name])
    for preset, values in experiment.presets.items():
        config = parse_config(experiment, ["--preset", preset])
        check_effects(config, {**defaults(experiment.Config), **values})


def test_who_looks_for_their_own_data_is_told_where(capsys):
    for name in ("--data", "--control-data=x.jsonl"):
        with pytest.raises(SystemExit):
            main(["optimizer-comparison", name, "x.jsonl"])
        assert "`subliminal-jax own-data` trains on rows of your own" in capsys.readouterr().err
