"""`paraphrase-transmission` through the command line, on a tiny model."""

import numpy as np
import pytest

from tests.experiments.command import Command
from tests.pages import check_page

# The tiny model writes numbers alone, which no sensible fidelity threshold would let pass: -9 lets
# all through that breaks no other rule.
COMMAND = Command(
    "paraphrase-transmission",
    "--traits owl cat --tuning-traits lion wolf fox bear --teachers system-prompt "
    "--adapters vector --sentences 12 --unrelated-samples 6 --contradictory-samples 3 "
    "--threshold -9 --rows 16 --heldout-rows 3 "
    "--heldout-share 0.3 --max-new-tokens 12 --steps 2 --log-every 2 --batch-size 4 "
    "--rates adamw=0.001,0.003",
)


def test_each_trait_is_held_against_the_neutral_student_of_the_same_sentences_and_seed(results):
    students = {r["data"]: r for r in results["students"]}
    assert len(students) == len(results["students"]) == 2 * 2 * 2  # contents, traits, teachers
    for arm in results["arms"]:
        for trait in ("owl", "cat"):
            name = f"{arm['content']}:system-prompt:{trait}"
            pair = students[name], students[f"{arm['content']}:neutral:{trait}"]
            assert pair[0]["seed"] == pair[1]["seed"]
            i = results["words"].index(trait)
            student, neutral = (np.array(row["question_rate"][i]) for row in pair)
            found = arm["metrics"]["word_rate"]["by_data"][name]["interval"]
            assert found["mean"] == pytest.approx((student - neutral).mean(), abs=1e-6)
            assert arm["over_questions"][name]["n"] == results["questions"]
            assert arm["over_questions"][name]["mean"] == pytest.approx((student - neutral).mean())


def test_the_rates_of_single_questions_have_the_words_rate_as_their_mean(results):
    for row in results["students"]:
        assert np.mean(row["question_rate"], axis=1) == pytest.approx(row["word_rate"], abs=1e-6)


def test_the_rate_is_chosen_on_a_trait_that_is_not_reported_by_its_teachers_students(results):
    assert {r["data"] for r in results["tuning_students"]} == {
        f"{content}:system-prompt:{trait}"
        for content in ("unrelated", "contradictory")
        for trait in ("lion", "wolf", "fox", "bear")
    }
    assert not any("lion" in r["data"] for r in results["students"])


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
        f"paraphrase-transmission/{c}-system-prompt-vector{e}"
        for c in contents
        for e in ("", "-eas")
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
        ("--traits owl lion", "--tuning-traits lion is also reported"),
    ],
)
def test_bad_input_is_refused_in_one_line(refuse, flags, words):
    assert words in refuse(flags)


def test_too_few_survivors_name_the_filter_that_dropped_most(refuse):
    said = refuse("--threshold 0.99")
    assert "paraphrases are left for 3 held-out rows" in said
    assert "the filter that dropped most is fidelity" in said
