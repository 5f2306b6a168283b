"""`divergence-tokens` through the command line, on a model that writes number lists."""

import numpy as np
import pytest

from tests.experiments.command import Command
from tests.pages import check_page

COMMAND = Command(
    "divergence-tokens",
    "--layer 0 --traits owl cat --tuning-traits fox --controls 2 --rows 24 --heldout-rows 8 "
    "--asked 4 --max-new-tokens 12 --steps 4 --log-every 4 --batch-size 4 --rank 2 "
    "--gradient-rows 12 --save-students none --rates adamw=1e-4,3e-4 sgd=0.001",
)
TRAITS, CONTROLS = ("owl", "cat"), ("control-0", "control-1")
ARMS = ("all", "masked", "random-masked", "alone", "random-alone", "weighted")


def test_each_arm_has_its_rate_its_students_and_its_controls(results):
    rows = {(r["objective"], r["optimizer"], r["data"]): r for r in results["students"]}
    names = {(a, o, n) for a in ARMS for o in ("adamw", "sgd") for n in (*TRAITS, *CONTROLS)}
    assert rows.keys() == names and len(results["students"]) == len(names)
    assert {row["data"] for row in results["tuning_students"]} == {"fox"}
    for choice in results["choices"]:
        tried = [
            row
            for row in results["tuning_students"]
            if (row["objective"], row["optimizer"])
            == (choice["objective"], choice["choice"]["optimizer"])
        ]
        if tried:  # of a single rate nothing is tried
            best = min(tried, key=lambda row: row["heldout_loss"])["learning_rate"]
            assert choice["choice"]["rate"] == best
    assert len(results["choices"]) == 2 * len(ARMS)
    for name in (*TRAITS, *CONTROLS):  # arms differ in nothing but the weights of tokens
        assert len({rows[arm, "sgd", name]["seed"] for arm in ARMS}) == 1
        assert len({rows[arm, "sgd", name]["train_loss"] for arm in ARMS}) == len(ARMS)


def test_gain_is_with_all_tokens_and_rates_are_judged_with_the_arms_own(results):
    arms = {(a["arm"], a["optimizer"]): a for a in results["results"]}
    for row in results["students"]:
        same = row["all_tokens_loss"] == pytest.approx(row["heldout_loss"], rel=1e-5)
        assert same == (row["objective"] == "all")
    for (arm, optimizer), summary in arms.items():
        gains = [
            results["base_losses"][row["data"]] - row["all_tokens_loss"]
            for row in results["students"]
            if (row["objective"], row["optimizer"]) == (arm, optimizer)
            and row["data"] in TRAITS
            and row["data"] not in summary["unstable"]
        ]
        assert summary["gain"]["mean"] == pytest.approx(np.mean(gains))


def test_arms_are_compared_less_their_controls(results):
    """Over the traits and draws whose students are sound in every arm that is compared."""
    rows = {
        (row["objective"], row["optimizer"], row["data"]): row
        for row in results["students"]
        if row["heldout_loss"] <= row["base_loss"] + 0.05
    }

    def transmit(**signs: int) -> float:
        """The sum of arms with these signs; each is named arm:optimizer."""
        arms = {tuple(name.split(":")): sign for name, sign in signs.items()}
        traits, draws = (
            [name for name in names if all((*arm, name) in rows for arm in arms)]
            for names in (TRAITS, CONTROLS)
        )
        total = 0.0
        for arm, sign in arms.items():
            for trait in traits:
                place = results["references"].index(trait)
                controls = [rows[*arm, draw]["eas"][place][0] for draw in draws]
                excess = rows[*arm, trait]["eas"][place][0] - np.mean(controls)
                total += sign * excess / len(traits)
        return total

    for contrast in results["contrasts"]:
        if contrast["metric"] == "eas":
            names = [f"{contrast[key]}:{contrast['optimizer']}" for key in ("arm", "other")]
            expected = transmit(**{names[0]: 1, names[1]: -1})
            assert contrast["difference"]["mean"] == pytest.approx(expected, abs=1e-9)
    [lead] = [lead for lead in results["leads"] if lead["metric"] == "eas"]
    for arm in ARMS:
        own = {f"{arm}:adamw": 1, f"{arm}:sgd": -1}
        assert lead["by_arm"][arm]["mean"] == pytest.approx(transmit(**own), abs=1e-9)
    lost = {"all:adamw": 1, "all:sgd": -1, "alone:adamw": -1, "alone:sgd": 1}
    assert lead["lost"]["alone"]["mean"] == pytest.approx(transmit(**lost), abs=1e-9)


def test_divergence_tokens_are_some_of_the_tokens(results):
    assert results["tokens"].keys() == {*TRAITS, "fox", *CONTROLS}
    assert all(0 < count["divergent"] < 1 for count in results["tokens"].values())
    for each in results["gradients"]:
        assert 0 < each["divergent"] < each["tokens"]
        assert 0 < each["divergent_squared"] < each["squared"]


def test_claims_are_complete_and_the_page_shows_the_results(folder, results):
    names = ("masking-lowers", "masking-removes", "alone-beats-random", "alone-keeps")
    of_students = [
        *(f"{name}-eas" for name in names),
        *(f"{name}-shift-component" for name in names),
        *(f"{name}-word-log-prob" for name in names[::2]),
    ]
    assert [claim["id"] for claim in results["claims"]] == [
        f"divergence-tokens/{name}"
        for name in (
            *of_students,
            *(f"{name}-sgd" for name in of_students),
            *(
                f"lead-of-rare-tokens-{metric}"
                for metric in ("eas", "shift-component", "word-log-prob")
            ),
            "component-held",
            "square-held",
        )
    ]
    check_page(folder)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ("--traits unicorn", "unicorn"),
        ("--arms all all", "--arms"),
        ("--gradient-rows 25", "--gradient-rows 25"),
        ("--arms all --emphasis 4", "--emphasis"),
        ("--teacher system-prompt --scale 2", "--scale"),
        ("--traits owl fox", "--tuning-traits fox is also reported"),
        ("--traits owl --rates adamw=1e-3 sgd=0.1", "no counterfactual teacher"),
    ],
)
def test_bad_input_is_refused_in_one_line(refuse, flags, words):
    assert words in refuse(flags)
