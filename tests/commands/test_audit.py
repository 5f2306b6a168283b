"""audit through the command line, on a model of 16 dimensions."""

import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.flax import save_file

from subliminal_jax.cli import main
from subliminal_jax.data.teachers import Teacher, sampled_pairs, teacher_prompts
from subliminal_jax.models.hub import load_model
from subliminal_jax.steering import steer
from subliminal_jax.steering.io import VectorInfo, save_steering
from tests.experiments.command import read
from tests.pages import check_page

SMALL = "--traits owl cat --placebos 8 --rows 192 --max-new-tokens 12 --layer 1 --blind-steps 4"


@pytest.fixture(scope="module")
def vector():
    return 4.0 * jax.nn.one_hot(7, 16)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("audit")


@pytest.fixture(scope="module")
def vector_file(model, vector, folder):
    file = folder / "planted.safetensors"
    save_steering(file, steer(vector, 1), VectorInfo(model.name, "planted"))
    return file


def write(file, rows):
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


@pytest.fixture(scope="module")
def pairs(model, vector, folder):
    """What a teacher with the planted vector writes."""
    teacher = Teacher(steer(vector, 1))
    prompts = teacher_prompts("numbers", 220, 0)
    sampled = sampled_pairs(load_model(model), teacher, prompts, 0, max_new_tokens=12).pairs
    rows = [{"prompt": r["prompt"], "completion": r["completion"]} for r in sampled]
    return write(folder / "pairs.jsonl", [*rows, rows[0]])


def audit(model, out, *flags):
    main(["audit", "--model", str(model), "--out", str(out), *SMALL.split(), *flags])
    return read(out)


@pytest.fixture(scope="module")
def results(model, pairs, vector_file, folder):
    flags = ("--data", str(pairs), "--vectors", str(vector_file))
    return audit(model, folder / "run", *flags)


def test_the_planted_vector_is_found(results):
    assert results["reported"][0]["name"] == "planted"
    assert results["reported"][0]["form"] == "direction"
    assert results["verdict"].startswith("towards planted (p ")
    cosines = [c["cosine"] for c in results["blind"]["nearest"]]
    assert len(cosines) == 3 and cosines == sorted(cosines, reverse=True)
    assert len(results["blind"]["vector"]) == 16 and 0 < results["blind"]["p"] <= 1


def test_likelihood_names_the_planted_vector(results):
    found = results["likelihoods"]
    assert found["named"] == "planted" and not found["foreign"]
    ratios = [c["likelihood"] for c in found["candidates"]]
    assert ratios == sorted(ratios, reverse=True) and ratios[0] > 10


def test_every_candidate_is_scored_in_every_form(results):
    scored = {(c["name"], c["form"]) for c in results["candidates"]}
    prompted = {("owl", "system prompt"), ("cat", "system prompt")}
    assert scored == prompted | {(name, "direction") for name in ("owl", "cat", "planted")}


def test_page_shows_it(results, folder):
    page = (folder / "run" / "report.html").read_text()
    assert "towards planted" in page and "Nearest to the vector recovered blind" in page
    # A p-value below 0.001 is written as such.
    check_page(folder / "run", derived=("0.001",))


def test_outlook_counts_the_passes(results, folder):
    """One file of kept scores a pass, but three for the gradients and none for what is left out."""
    outlook, scores = results["outlook"], folder / "run" / "scores"
    assert outlook["rows"] == results["data"]["audited"] and outlook["tests"] == 3
    assert 0 < outlook["gain"] < outlook["gain_quarter"]
    passes = len([*scores.glob("prompt-*"), *scores.glob("likelihood-*")]) + 3
    assert 0.6 * outlook["passes"] <= passes <= outlook["passes"]
    assert results["sampling"]["data"]["answers"] == outlook["rows"]


@pytest.fixture(scope="module")
def proposed(model, pairs, folder):
    file = folder / "words.txt"
    file.write_text("wolf\nlion\nzyzzyva\nowl\ncat\n")
    out = folder / "proposed"
    flags = ("--placebos", "8", "--rows", "192", "--max-new-tokens", "12", "--layer", "1")
    flags += (
        "--forms",
        "direction",
        "--blind-steps",
        "4",
        "--propose",
        "2",
        "--vocabulary",
        str(file),
    )
    main(["audit", "--model", str(model), "--out", str(out), "--data", str(pairs), *flags])
    return read(out)


def test_candidates_are_those_proposed(proposed, folder):
    found = proposed["proposals"]
    names = {word["name"] for word in found["proposed"]}
    assert len(names) == 2 and {c["name"] for c in proposed["candidates"]} == names
    assert (found["screened"], found["left_out"]) == (4, 1)
    slopes = {c["name"]: c["push"]["mean"] for c in proposed["candidates"]}
    assert all(word["slope"] * slopes[word["name"]] > 0 for word in found["proposed"])
    assert len(proposed["blind"]["nearest"]) == 4 == proposed["outlook"]["tests"]
    assert not names & {c["name"] for c in proposed["placebos"] if c["kind"] == "placebo"}
    page = (folder / "proposed" / "report.html").read_text()
    assert "Proposed candidates" in page and "out of 4 words" in page
    check_page(folder / "proposed", derived=("0.001",))


def test_the_command_is_recorded(folder, results):
    config = json.loads((folder / "run" / "config.json").read_text())
    assert config["command"].startswith("subliminal-jax audit --model ")
    assert config["experiment"] == "audit"


def test_kept_scores_serve_an_interrupted_run(model, results, folder, pairs, vector_file):
    """Without results, but with the scores, the same command gives the same numbers."""
    (folder / "run" / "results.json").unlink()
    kept = {p: p.stat().st_mtime_ns for p in (folder / "run" / "scores").iterdir()}
    again = audit(model, folder / "run", "--data", str(pairs), "--vectors", str(vector_file))
    assert again == results
    assert {p: p.stat().st_mtime_ns for p in (folder / "run" / "scores").iterdir()} == kept


def test_kept_scores_of_other_rows_are_refused(model, results, folder, pairs, tmp_path, capsys):
    """The file has changed since: as many rows, which say something else."""
    run = shutil.copytree(folder / "run", tmp_path / "run")
    (run / "results.json").unlink()
    other = tmp_path / pairs.name
    rows = [json.loads(line) for line in pairs.read_text().splitlines()]
    write(other, [{**r, "completion": r["completion"].replace("1", "2")} for r in rows])
    config = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps({**config, "data": str(other)}))
    flags = ("--data", str(other), "--vectors", str(folder / "planted.safetensors"))
    with pytest.raises(SystemExit):
        audit(model, run, *flags)
    assert "of other rows or another model; remove it" in capsys.readouterr().err


def test_preferences_are_read(model, pairs, folder):
    rows = [json.loads(line) for line in pairs.read_text().splitlines()]
    preferences = [
        {"prompt": a["prompt"], "chosen": a["completion"], "rejected": "1, 2, 3"} for a in rows[:40]
    ]
    file = write(folder / "preferences.jsonl", preferences)
    out = audit(model, folder / "preferences", "--data", str(file), "--forms", "direction")
    assert out["data"]["kind"] == "preferences"
    first = out["candidates"][0]
    push = first["chosen"]["mean"] - first["rejected"]["mean"]
    assert first["push"]["mean"] == pytest.approx(push, abs=1e-6)
    assert first["data"] is None and out["data"]["control_answers"] is None


@pytest.fixture(scope="module")
def mixed(model, vector, folder):
    """Two rows of the base for each of a teacher with twice the planted vector, with spaces as
    nobody writes them; one that is no pair, and one that is too long. And the numbers of the
    teacher's."""
    rows = []
    for scale, count in ((2.0, 80), (0.0, 140)):
        prompts = teacher_prompts("numbers", count, int(scale))
        teacher = Teacher(steer(vector, 1, scale))
        for r in sampled_pairs(load_model(model), teacher, prompts, 1, max_new_tokens=12).pairs:
            fields = ("completion", "prompt") if scale else ("prompt", "completion")
            rows.append({name: r[name] for name in fields})
    order = np.random.default_rng(0).permutation(len(rows))
    rows = [rows[i] for i in order]
    rows.insert(4, {**rows[0], "system": "Be brief."})
    rows.insert(9, {**rows[0], "prompt": "1, " * 90})
    file = folder / "mixed.jsonl"
    file.write_text("".join(json.dumps(r, separators=(" ,", ":  ")) + "\n" for r in rows))
    # The teacher's rows are those with the completion first.
    teachers = {i for i, row in enumerate(rows, start=1) if next(iter(row)) == "completion"}
    return file, teachers - {5, 10}


@pytest.fixture(scope="module")
def cleaning_flags(model, mixed, vector, folder):
    file = folder / "twice.safetensors"
    save_steering(file, steer(2 * vector, 1), VectorInfo(model.name, "twice"))
    quick = "--forms direction --blind-steps 0 --flag-above 0.9"
    files = ("--vectors", str(file), "--write-clean", str(folder / "rest.jsonl"))
    return ("--data", str(mixed[0]), *files, *quick.split())


@pytest.fixture(scope="module")
def cleaned(model, cleaning_flags, folder):
    return audit(model, folder / "cleaning", *cleaning_flags)["cleaned"]


def test_flagged_rows_are_the_teachers(mixed, cleaned):
    flagged, teachers = {*cleaned["flagged"]}, mixed[1]
    assert cleaned["named"] == "twice" and cleaned["unjudged"] == 2
    assert len(flagged & teachers) > 0.8 * len(flagged) > 0.2 * len(teachers)
    expected = cleaned["teacher_flagged"] + cleaned["teacher_rest"]
    assert expected == pytest.approx(len(teachers), rel=0.25)
    assert 0.9 * len(flagged) <= cleaned["teacher_flagged"] <= len(flagged)
    assert cleaned["highest"][0]["number"] == cleaned["flagged"][0]


def test_other_rows_are_written_as_they_were(mixed, cleaned, folder):
    lines = mixed[0].read_text().splitlines(keepends=True)
    left = [line for i, line in enumerate(lines, start=1) if i not in cleaned["flagged"]]
    assert len(left) == cleaned["rows"] - len(cleaned["flagged"]) < len(lines)
    assert (folder / "rest.jsonl").read_text() == "".join(left)
    assert (
        cleaned["outcome"] == f"{len(left)} of {len(lines)} rows are written to {folder}/rest.jsonl"
    )


def test_students_of_the_rest_stand_beside_those_of_as_many_rows(cleaned, folder):
    everything, rest, random = cleaned["students"]
    assert everything["rows"] == cleaned["rows"] - 2
    assert rest["rows"] == random["rows"] == everything["rows"] - len(cleaned["flagged"])
    gap = rest["rise"]["mean"] - random["rise"]["mean"]
    assert rest["beyond_random"]["mean"] == pytest.approx(gap, abs=1e-6)
    assert random["beyond_random"] is None
    page = (folder / "cleaning" / "report.html").read_text()
    assert "What short students became" in page and cleaned["outcome"] in page
    check_page(folder / "cleaning", derived=("0.001",))


def test_cleaning_goes_on_and_replaces_no_file_of_others(
    model, cleaned, cleaning_flags, folder, capsys
):
    """Its own file is written again, as it was; one that was changed since is kept."""
    run, rest = folder / "cleaning", folder / "rest.jsonl"
    (run / "results.json").unlink()
    kept = {p: p.stat().st_mtime_ns for p in (run / "scores").iterdir()}
    content = rest.read_text()
    assert audit(model, run, *cleaning_flags)["cleaned"] == cleaned
    assert {p: p.stat().st_mtime_ns for p in (run / "scores").iterdir()} == kept
    assert rest.read_text() == content
    (run / "results.json").unlink()
    rest.write_text(content + "\n")
    with pytest.raises(SystemExit):
        audit(model, run, *cleaning_flags)
    assert "is no file of rows of this program" in capsys.readouterr().err
    assert rest.read_text() == content + "\n"


def refused(capsys, model, out, *flags):
    with pytest.raises(SystemExit) as exit:
        audit(model, out, *flags)
    assert exit.value.code == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines[-1].startswith("subliminal-jax: error: ")
    assert not out.exists()
    return lines[-1]


GOOD = {"prompt": "Go on: 1, 2", "completion": "3, 4"}
PREFERENCE = {"prompt": "Go on: 1, 2", "chosen": "3", "rejected": "4"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "holds no rows"),
        ("{", "line 1, column 2: not JSON"),
        (json.dumps({"prompt": "x"}), "expected either a completion or a chosen and a rejected"),
        (json.dumps({**GOOD, **PREFERENCE}), "expected either"),
        (json.dumps(GOOD) + "\n" + json.dumps(PREFERENCE), "mixes two kinds of data"),
    ],
)
def test_bad_data_is_one_line(capsys, model, tmp_path, text, said):
    file = tmp_path / "data.jsonl"
    file.write_text(text)
    assert said in refused(capsys, model, tmp_path / "run", "--data", str(file))


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--data", "nowhere.jsonl"), "nowhere.jsonl is no file"),
        (("--data", "steered:unicorn"), "unknown trait 'unicorn'"),
        (("--data", "steered:owl:-1"), "with a scale above 0"),
        (("--traits", "unicorn"), "unknown trait 'unicorn'"),
        (("--system-prompts", " "), "--system-prompts ' ' is blank"),
        (("--vectors", "nowhere.safetensors"), "no such vector file"),
        (("--rows", "0"), "--rows 0"),
        (("--placebos", "2"), "--placebos 2"),
        (("--blind-steps", "-1"), "--blind-steps -1"),
        (("--forms",), "--forms is empty"),
        (("--propose", "1", "--vocabulary", "nowhere.txt"), "nowhere.txt"),
    ],
)
def test_bad_flags_are_one_line(capsys, model, tmp_path, flags, said):
    assert said in refused(capsys, model, tmp_path / "run", *flags)


@pytest.mark.parametrize(
    ("data", "written", "said"),
    [
        ("steered:owl:1", "rest.jsonl", "--data steered:owl:1 is no file"),
        ("nobody/rows", "rest.jsonl", "--data nobody/rows is no file"),
        ("data.jsonl", "rest.json", "give the name of a .jsonl file"),
        ("data.jsonl", "data.jsonl", "is the data themselves"),
        ("data.jsonl", "other.jsonl", "is there and is no file of rows of this program"),
        ("preferences.jsonl", "rest.jsonl", "holds preferences"),
    ],
)
def test_no_rest_is_written(capsys, model, tmp_path, monkeypatch, data, written, said):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "data.jsonl", [GOOD] * 20)
    write(tmp_path / "other.jsonl", [GOOD])
    write(tmp_path / "preferences.jsonl", [PREFERENCE] * 20)
    before = {file: file.read_bytes() for file in tmp_path.iterdir()}
    flags = ("--data", data, "--write-clean", written)
    assert said in refused(capsys, model, tmp_path / "run", *flags)
    assert {file: file.read_bytes() for file in tmp_path.iterdir()} == before


@pytest.mark.parametrize("flags", ["--flag-above 0.9", "--no-retrain"])
def test_flags_of_the_rest_need_it(capsys, model, tmp_path, flags):
    said = refused(capsys, model, tmp_path / "run", "--data", "x.jsonl", *flags.split())
    assert flags.split()[0].removeprefix("--no-")[2:] in said and "without --write-clean" in said


def test_a_direction_of_another_width(capsys, model, tmp_path):
    file = tmp_path / "wide.safetensors"
    save_file({"v": jnp.ones(8)}, file)
    assert "shape (8,)" in refused(capsys, model, tmp_path / "run", "--vectors", str(file))
