"""A damaged run folder is one line that names the file and what to do, for whoever reads it; and a
disk that takes no more loses nothing that was written."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from subliminal_jax.commands import claims, report
from subliminal_jax.errors import InputError
from subliminal_jax.evaluation.claims import REPRODUCED, Claim
from subliminal_jax.reporting.page import Page, Text
from subliminal_jax.runs.experiment import Experiment, run_experiment
from subliminal_jax.runs.run_folder import RunFolder
from subliminal_jax.runs.settings import RunSettings

REPOSITORY = Path(__file__).parents[2]


@dataclass(frozen=True, kw_only=True)
class Config(RunSettings):
    rows: int = 3


@dataclass(frozen=True)
class Results:
    values: tuple[float, ...]
    names: list[str]
    counts: dict[str, int]
    best: int


def count(config: Config, folder: RunFolder) -> Results:
    folder.log({"step": 1})
    return Results((1.0, 2.0), ["a", "b"], {"a": 1}, 1)


def make_claims(results: Results) -> list[Claim]:
    return [Claim("counting/up", "numbers rise", "Sec. 1", "here", "1", 3, REPRODUCED)]


COUNTING = Experiment(
    name="counting",
    Config=Config,
    Results=Results,
    run=count,
    analyse=lambda results: results,
    page=lambda results: Page(results.names[results.best], "An answer.", [Text("Said.")]),
    claims=make_claims,
)


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "finished"
    run_experiment(COUNTING, Config(out=folder), "subliminal-jax counting")
    return folder


def draw(folder: Path) -> None:
    report.main(report.Config(folder), {"counting": lambda: COUNTING})


def continue_run(folder: Path) -> None:
    run_experiment(COUNTING, Config(out=folder))


def store(folder: Path) -> None:
    claims.main(claims.Config((folder,), store=folder.parent / "stored"))


def change(file: Path, **values: object) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))


WHOLE = json.dumps({"values": [1.0], "names": ["a"], "counts": {}, "best": 0})
NO_JSON = {
    "cut": WHOLE[:25], "empty": "", "a list": "[1]", "twice": WHOLE + WHOLE, "a number": "3",
    "nested": "[" * 5000, "a key twice": '{"a": 1, "a": 2}', "a NaN": '{"values": NaN}',
}  # fmt: skip


@pytest.mark.parametrize("name", ["results.json", "config.json"])
@pytest.mark.parametrize("what", [*NO_JSON, "binary", "a folder", "a pipe", "a dangling link"])
def test_a_file_that_is_no_json_is_named(finished, tmp_path, capsys, name, what):
    folder = shutil.copytree(finished, tmp_path / "run")
    file = folder / name
    file.unlink()
    if what == "a folder":
        file.mkdir()
    elif what == "a pipe":
        os.mkfifo(file)
    elif what == "a dangling link":
        file.symlink_to(tmp_path / "nothing")
    else:
        file.write_bytes(NO_JSON[what].encode() if what in NO_JSON else b"\x80\x00\xff")
    for read in (draw, continue_run, store):
        with pytest.raises(InputError, match=name) as refused:
            read(folder)
        assert "\n" not in str(refused.value)
    if what not in ("a folder", "a pipe", "a dangling link"):
        with RunFolder.open(folder, {"rows": 4}, overwrite=True) as run:
            assert not run.finished
    assert not (tmp_path / "stored").exists()


@pytest.mark.parametrize(
    ("values", "place"),
    [
        ({"values": None}, "values"),
        ({"values": "12"}, "values"),
        ({"values": [1.0, "2"]}, r"values\[1\]"),
        ({"values": [True]}, r"values\[0\]"),
        ({"values": {"a": 1}}, "values"),
        ({"names": [1]}, r"names\[0\]"),
        ({"names": "ab"}, "names"),
        ({"counts": []}, "counts"),
        ({"counts": {"a": 1.5}}, r"counts\['a'\]"),
        ({"best": "1"}, "best"),
        ({"best": True}, "best"),
        ({"best": 7}, "IndexError"),
    ],
)
def test_a_value_of_another_kind_is_named_by_its_place(finished, tmp_path, values, place):
    folder = shutil.copytree(finished, tmp_path / "run")
    change(folder / "results.json", **values)
    (folder / "report.html").write_text("before")
    for read in (draw, continue_run):
        with pytest.raises(InputError, match=f"results.json.*{place}.*repeat the run's command"):
            read(folder)
    assert (folder / "report.html").read_text() == "before"
    (folder / "results.json").unlink()
    continue_run(folder)  # what the message says
    assert json.loads((folder / "results.json").read_text())["best"] == 1


def test_what_is_missing_or_of_another_experiment_is_named(finished, tmp_path):
    folder = shutil.copytree(finished, tmp_path / "run")
    (folder / "results.json").write_text('{"cells": [1]}')
    with pytest.raises(InputError, match="results.json: required field missing"):
        draw(folder)
    (folder / "results.json").unlink()
    for read in (draw, store):
        with pytest.raises(InputError, match="is not finished: repeat its command"):
            read(folder)
    for name in ("hypnosis", 3, None, ["counting"]):
        change(folder / "config.json", experiment=name)
        with pytest.raises(InputError, match="config.json: there is no experiment"):
            draw(folder)
    for place in (tmp_path / "nothing", folder / "config.json", tmp_path):
        with pytest.raises(InputError, match="is no folder|holds no run"):
            draw(place)


def test_the_page_of_a_run_without_a_list_is_drawn_elsewhere(finished, tmp_path):
    folder = shutil.copytree(finished, tmp_path / "run")
    (folder / ".subliminal-jax-run.jsonl").unlink()
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(InputError, match="holds files but no run"):
        draw(folder)
    out = tmp_path / "pages"
    table = {"counting": lambda: COUNTING}
    for _ in range(2):  # ours is replaced
        report.main(report.Config(folder, out=out), table)
        assert "An answer." in (out / "report.html").read_text()
    (out / "notes.txt").write_text("of the user")
    with pytest.raises(InputError, match="notes.txt, which was not written by this program"):
        report.main(report.Config(folder, out=out), table)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


@pytest.mark.parametrize(
    ("lines", "place"),
    [
        ('{"step": 1}\n{"st\n{"step": 2}\n', "line 2"),
        ('{"step": 1}\n[1]\n', "line 2"),
        ('{"step": 1}\n{"step": "x"}\n', "line 2"),
        ("\x80\n", "line 1"),
        ("\x00\n", "line 1"),
    ],
)
def test_a_damaged_line_of_the_metrics_is_named(tmp_path, lines, place):
    with RunFolder.open(tmp_path, {"a": 1}) as run:
        run.log({"step": 1})
        (tmp_path / "metrics.jsonl").write_bytes(lines.encode("latin-1"))
        for read in (run.read_metrics, lambda: run.rewind(1)):
            with pytest.raises(InputError, match=rf"metrics.jsonl, {place}.*overwrite the run"):
                read()
    assert (tmp_path / "metrics.jsonl").read_bytes() == lines.encode("latin-1")
    RunFolder.open(tmp_path, {"a": 1}, overwrite=True).close()
    assert not (tmp_path / "metrics.jsonl").exists()


def test_a_changed_byte_of_the_metrics_is_never_another_number(tmp_path):
    record = {"step": 1, "loss": 2.503, "stage": "a", "eas": [0.25, None]}
    with RunFolder.open(tmp_path, {"a": 1}) as run:
        for step in (1, 2, 3):
            run.log({**record, "step": step})
        expected = run.read_metrics()
        file = tmp_path / "metrics.jsonl"
        content = file.read_bytes()
        for place in range(len(content)):
            changed = bytearray(content)
            changed[place] ^= 1 << place % 7
            file.write_bytes(changed)
            with contextlib.suppress(InputError):
                # Read: a space between two values, or the name of the first line's checksum.
                records = run.read_metrics()
                assert [{key: r[key] for key in record} for r in records] == expected
        file.write_bytes(content)
        run.rewind(2)
        assert run.read_metrics() == expected[:2]


def test_metrics_of_earlier_versions_are_read_and_continued(tmp_path):
    with RunFolder.open(tmp_path, {"a": 1}) as run:
        run.log({"step": 1})
        (tmp_path / "metrics.jsonl").write_text('{"step": 1}\n{"step": 2}\n')
        run.log({"step": 3})
        assert [record["step"] for record in run.read_metrics()] == [1, 2, 3]
        with (tmp_path / "metrics.jsonl").open("a") as file:
            file.write('{"step": 4}\n')
        with pytest.raises(InputError, match="line 4: not as it was written; or overwrite the run"):
            run.read_metrics()


FULL = """
import resource, signal, sys
from pathlib import Path
from subliminal_jax import cli
from subliminal_jax.files import write_json
from subliminal_jax.runs.run_folder import RunFolder
folder, limit, last = Path(sys.argv[1]), int(sys.argv[2]), 40
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
if limit:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
def run(arguments):
    with RunFolder.open(folder, {"a": 1}) as run:
        done = len(run.read_metrics())
        for step in range(done + 1, last + 1):
            run.log({"step": step, "text": "x" * 100})
        write_json(folder / "large.json", ["y" * 1000] * 10)
        run.write_results({"steps": [record["step"] for record in run.read_metrics()]})
cli._run = run
cli.main([])
"""


def test_a_full_disk_is_one_line_and_nothing_written_is_lost(tmp_path):
    """The limit on the size of a file stands for the room on a disk."""
    folder, whole = tmp_path / "run", tmp_path / "whole"

    def run(folder: Path, limit: int) -> subprocess.CompletedProcess:
        command = [sys.executable, "-c", FULL, str(folder), str(limit)]
        return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=120)

    assert run(whole, 0).returncode == 0
    for limit, name in ((1000, "metrics.jsonl"), (3111, "metrics.jsonl"), (8000, "large.json")):
        process = run(folder, limit)
        assert process.returncode == 2
        assert process.stderr == (
            f"subliminal-jax: error: {folder}/{name} cannot be written: File too large; raise the "
            "limit of file sizes (ulimit -f), then give the same command again\n"
        )
        assert not (folder / "results.json").exists()
    assert run(folder, 0).returncode == 0
    for name in ("metrics.jsonl", "results.json", "large.json", "config.json"):
        assert (folder / name).read_bytes() == (whole / name).read_bytes()
    assert sorted(p.name for p in folder.iterdir()) == sorted(p.name for p in whole.iterdir())
