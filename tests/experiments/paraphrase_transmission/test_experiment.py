"""`paraphrase-transmission` through the command line, on a tiny model."""

import numpy as np
import pytest

from tests.experiments.command import Command
from tests.pages import check_page

# The tiny model writes numbers alone, which no sensible fidelity threshold would let pass: -9 lets
# all through that breaks no other rule.
COMMAND = Command(
    "paraphrase-transmission",
    "--traits owl cat --teachers system-prompt --sentences 12 --unrelated-samples 6 "
    "--contradictory-samples 3 --threshold -9 --rows 16 --heldout-rows 3 --heldout-share 0.3 "
    "--max-new-tokens 12 --steps 2 --log-every 2 --batch-size 4 --seeds 2 --rates "
    "adamw=0.01,0.1",
)


def test_each_trait_is_held_against_the_neutral_students_of_the_same_content_and_seed(results):
    students = {(r["data"], r["learning_rate"], r["seed"]): r for r in results["students"]}
    words = list(results["base"])
    for content, neutral in (("unrelated", "unrelated:neutral"), ("contradictory", None)):
        best = results["contents"][content]["system-prompt"]["adamw"]
        for trait in ("owl", "cat"):
            name = f"{content}:system-prompt:{trait}"
            neutral_name = neutral or f"{content}:neutral:{trait}"
            i, rate = words.index(trait), best["learning_rate"]
            trait_rates, neutral_rates = (
                np.array([students[n, rate, s]["question_rate"][i] for s in (0, 1)])
                for n in (name, neutral_name)
            )
            difference = trait_rates - neutral_rates
            result = best["traits"][trait]
            assert result["values"] == pytest.approx(difference.mean(axis=1).tolist())
            assert result["seeds_and_questions"]["mean"] == pytest.approx(difference.mean())
            assert result["over_questions"]["interval"]["n"] == results["questions"]


def test_the_rates_of_single_questions_have_the_words_rate_as_their_mean(results):
    for row in results["students"]:
        assert np.mean(row["question_rate"], axis=1) == pytest.approx(row["word_rate"], abs=1e-6)


def test_the_best_rate_has_the_lowest_held_out_loss_of_the_trait_students_alone(results):
    for content in ("unrelated", "contradictory"):
        losses: dict[float, list[float]] = {}
        for r in results["students"]:
            if r["data"].startswith(f"{content}:system-prompt"):
                losses.setdefault(r["learning_rate"], []).append(r["heldout_loss"])
        best = min(losses, key=lambda rate: sum(losses[rate]))
        assert results["contents"][content]["system-prompt"]["adamw"]["learning_rate"] == best


def test_every_filter_is_counted_and_traits_words_only_matter_to_unrelated_data(results):
    for name, report in results["data"].items():
        assert report["pairs"] == report["kept"] + sum(report["dropped"].values())
        if name.startswith("contradictory"):  # each names the animal, and all stay
            assert report["kept"] == report["pairs"] == 36
            assert report["faithful"] == 1.0
            assert 0 <= report["mass"] < 1


def test_claims_are_complete_and_the_page_is_written(folder, results):
    contents = ("unrelated", "contradictory")
    assert {c["id"] for c in results["claims"]} == {
        f"paraphrase-transmission/{c}-system-prompt{e}" for c in contents for e in ("", "-eas")
    }
    check_page(folder)


def test_the_same_command_again_neither_samples_nor_trains(repeat):
    assert "paraphrases:" not in repeat()


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ("--traits zyzzyva", "zyzzyva"),
        ("--traits owl owl", "twice"),
        ("--teachers hypnosis", "hypnosis"),
        ("--unrelated no-such-file.txt", "no-such-file.txt"),
        ("--contents", "contents"),
        ("--sentences 0", "--sentences 0"),
        ("--temperature 0", "--temperature 0.0"),
        ("--fidelity judge", "judge"),
        ("--rates adamw=fast", "adamw=fast"),
        ("--seeds 1", "--seeds 1: an interval over students needs at least 2"),
    ],
)
def test_bad_input_is_refused_in_one_line(refuse, flags, words):
    assert words in refuse(flags)


def test_too_few_survivors_name_the_filter_that_dropped_most(refuse):
    said = refuse("--threshold 0.99")
    assert "paraphrases are left for 3 held-out rows" in said
    assert "the filter that dropped most is fidelity" in said


def test_several_optimizers_are_held_against_the_first(model_flags, tmp_path):
    flags = "--contents contradictory --traits owl --optimizers adamw sgd --rates adamw=0.03 sgd=1"
    results = COMMAND.run(tmp_path / "o", model_flags, flags)
    best = results["contents"]["contradictory"]["system-prompt"]
    against = results["against_first"]["contradictory"]["system-prompt"]
    assert list(best) == ["adamw", "sgd"] and list(against) == ["sgd"]
    sgd, adamw = (np.array(best[name]["differences"]) for name in ("sgd", "adamw"))
    assert against["sgd"]["mean"] == pytest.approx((sgd - adamw).mean())
    assert against["sgd"]["level"] == pytest.approx(0.95)
    claim = results["claims"][0]
    assert claim["id"] == "paraphrase-transmission/optimizers-contradictory-system-prompt"
    apart = against["sgd"]["low"] > 0 or against["sgd"]["high"] < 0
    assert (claim["verdict"] == "reproduced at toy scale") == apart
