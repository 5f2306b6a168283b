"""A run touches nothing that is not its own: folders, files, links and temporaries of others."""

import contextlib
import json
import os
import shutil
from pathlib import Path

import pytest

from subliminal_jax.errors import InputError
from subliminal_jax.files import write_json, write_text
from subliminal_jax.ledger import MARKER, Ledger, check_written
from subliminal_jax.runs.run_folder import RunFolder

CONFIG = {"experiment": "counting", "rate": 0.1}
OTHER = CONFIG | {"rate": 0.2}


def snapshot(folder: Path) -> dict[str, bytes | str]:
    """Every entry of the folder, hidden ones too: a file's content, where a link points."""
    found: dict[str, bytes | str] = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink():
            found[name] = f"-> {os.readlink(path)}"
        else:
            found[name] = path.read_bytes() if path.is_file() else "folder"
    return found


def run_in(folder: Path) -> None:
    """A finished run with a data set, a picture and a stage of checkpoints."""
    with RunFolder.open(folder, CONFIG) as run:
        run.log({"step": 1})
        write_json(folder / "owl" / "state.json", 1)
        write_text(folder / "picture.png", "...")
        run.write_results({"x": 1})
        write_text(folder / "report.html", "<html>")
    RunFolder.open(folder, CONFIG).close()  # sorts the list


HF_MODEL = {"config.json": '{"model_type": "llama"}', "model.safetensors": "w", ".a.tmp": "t"}
FOREIGN = {
    "a model of Hugging Face": HF_MODEL,
    "an adapter of PEFT": {"adapter_config.json": '{"peft_type": "LORA"}'},
    "what looks like a run": {
        "config.json": json.dumps(CONFIG), "results.json": "{}", "metrics.jsonl": "",
    },
    "a data set": {"rows.jsonl": '{"prompt": "a", "completion": "b"}'},
    "temporaries of a user": {".notes.old": "o", ".draft.tmp": "t"},
    "a lock of another program": {".lock": "pid 77"},
    "an empty list": {MARKER: ""},
    "a list of another program": {MARKER: '{"format": "lightning", "version": 1}\n'},
    "a list of a later version": {MARKER: '{"format": "subliminal-jax run", "version": 9}\n'},
    "a damaged list": {MARKER: '{"format": "subliminal-jax run", "version": 1}\nx\n'},
    "a list that leads out": {
        MARKER: '{"format": "subliminal-jax run", "version": 1}\n{"file": "../outside"}\n'
    },
    "a list with an absolute path": {
        MARKER: '{"format": "subliminal-jax run", "version": 1}\n{"tree": "/tmp"}\n'
    },
}  # fmt: skip


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("what", FOREIGN)
def test_a_folder_that_no_run_marked_is_left_as_it_is(tmp_path, what, overwrite):
    folder = tmp_path / "given"
    folder.mkdir()
    (tmp_path / "outside").write_text("precious")
    for name, content in FOREIGN[what].items():
        (folder / name).write_text(content)
    before = snapshot(tmp_path)
    with pytest.raises(InputError, match="name a|use the program") as refused:
        RunFolder.open(folder, CONFIG, overwrite=overwrite)
    assert "\n" not in str(refused.value)
    assert snapshot(tmp_path) == before


def test_overwriting_spares_what_the_run_did_not_write(tmp_path):
    folder = tmp_path / "run"
    run_in(folder)
    users = {
        "notes.md": "n", ".notes.tmp": "t", "analysis/plot.py": "p", "owl/mine.csv": "c",
        ".results.json.old": "o", "model/config.json": "{}", "picture.png.bak": "b",
    }  # fmt: skip
    for name, content in users.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(content)
    (folder / "link").symlink_to(tmp_path)
    with RunFolder.open(folder, OTHER, overwrite=True) as run:
        assert run.spared == tuple(sorted({*(name.partition("/")[0] for name in users), "link"}))
        assert not run.finished and run.read_metrics() == []
        run.log({"step": 2})
    left = {name for name, value in snapshot(folder).items() if value != "folder"}
    assert left == {*users, "link", "config.json", "metrics.jsonl", ".lock", MARKER}
    assert all((folder / name).read_text() == content for name, content in users.items())
    run_in_again = RunFolder.open(folder, OTHER)  # theirs do not stop it from going on
    run_in_again.close()


def test_a_checkpoint_is_removed_whole_with_what_is_left_of_it(tmp_path):
    from subliminal_jax.ledger import note_written

    stage = tmp_path / "checkpoints" / "students"
    with RunFolder.open(tmp_path, CONFIG):
        for name in ("10", "10.orbax-checkpoint-tmp-3", "10.damaged", "10.notes", "1000"):
            if name == "10":
                note_written(stage / name, tree=True)
            (stage / name / "d").mkdir(parents=True)
            (stage / name / "d" / "chunk").write_text("...")
    RunFolder.open(tmp_path, CONFIG, overwrite=True).close()
    assert sorted(p.name for p in stage.iterdir()) == ["10.notes", "1000"]


LINKED = ["config.json", "metrics.jsonl", "results.json", "report.html", ".lock", MARKER, "owl",
          "checkpoints", "picture.png"]  # fmt: skip


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("name", LINKED)
def test_links_out_of_the_folder_are_not_followed(tmp_path, name, overwrite):
    folder, outside = tmp_path / "run", tmp_path / "outside"
    run_in(folder)
    if (folder / name).is_dir():
        shutil.move(folder / name, outside)
    elif (folder / name).exists():
        (folder / name).rename(outside)
    else:
        outside.mkdir()
    (folder / name).symlink_to(outside)
    before = snapshot(tmp_path)
    with pytest.raises(InputError, match=f"{name} is a symbolic link"):
        RunFolder.open(folder, CONFIG, overwrite=overwrite)
    assert snapshot(tmp_path) == before


def test_a_link_that_appears_during_the_run_is_not_followed(tmp_path):
    folder, outside = tmp_path / "run", tmp_path / "outside"
    outside.mkdir()
    with RunFolder.open(folder, CONFIG) as run:
        (folder / "scores").symlink_to(outside)
        (folder / "metrics.jsonl").symlink_to(outside / "metrics.jsonl")
        with pytest.raises(InputError, match="scores is a symbolic link"):
            write_json(folder / "scores" / "a.json", 1)
        with pytest.raises(InputError, match="metrics.jsonl is a symbolic link"):
            run.log({"step": 1})
    assert list(outside.iterdir()) == []


def test_a_copy_by_hard_links_is_not_changed(tmp_path):
    folder, copy = tmp_path / "run", tmp_path / "copy"
    with RunFolder.open(folder, CONFIG) as run:
        run.log({"step": 1})
    shutil.copytree(folder, copy, copy_function=os.link)  # cp -al
    before = snapshot(copy)
    with RunFolder.open(folder, CONFIG) as run:
        run.log({"step": 2})
        run.rewind(1)
        run.write_results({})
    assert snapshot(copy) == before
    RunFolder.open(folder, OTHER, overwrite=True).close()
    assert snapshot(copy) == before


def test_what_is_in_the_way_of_a_running_run_is_left(tmp_path):
    with RunFolder.open(tmp_path, CONFIG) as run:
        run.log({"step": 1})
        for name in ("results.json", "owl"):
            (tmp_path / name).write_text("of the user")
        with pytest.raises(InputError, match="results.json is in the way"):
            run.write_results({})
        with pytest.raises(InputError, match="owl is not of this run"):
            check_written(tmp_path / "owl")
    assert (tmp_path / "results.json").read_text() == "of the user"


def test_an_input_of_the_run_is_not_overwritten(tmp_path):
    folder = tmp_path / "run"
    run_in(folder)
    before = snapshot(folder)
    for data in (folder / "owl" / "state.json", folder / "owl", folder):
        for config in ({"data": str(data)}, {"sets": {"a": ["x", str(data)]}}):
            with pytest.raises(InputError, match="which overwriting .* would remove"):
                RunFolder.open(folder, config, overwrite=True)
    assert snapshot(folder) == before
    (folder / "mine.jsonl").write_text("")
    RunFolder.open(folder, {"data": str(folder / "mine.jsonl")}, overwrite=True).close()


def test_places_that_can_be_no_run_folder(tmp_path, monkeypatch):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    (tmp_path / "dangling").symlink_to(tmp_path / "nothing")
    os.mkfifo(tmp_path / "pipe")
    monkeypatch.setenv("HOME", str(tmp_path / "real"))
    monkeypatch.chdir(tmp_path)
    before = snapshot(tmp_path / "real")
    for place, says in {
        "link": "symbolic link",
        "dangling": "symbolic link",
        "pipe": "is a file",
        "pipe/x": "cannot write to",
        "real": "home folder",
        "~": "home folder",
        "/": "root",
        "n" * 300: "File name too long",
        "a\0b": "null",
        "/proc/nothing/run": "cannot write to",
    }.items():
        with pytest.raises(InputError, match=says):
            RunFolder.open(place, CONFIG, overwrite=True)
    assert snapshot(tmp_path / "real") == before
    for place in ("n" * 250, "ünïcode ✓", "new/../other", "~/runs/a", "with space\n"):
        with RunFolder.open(place, CONFIG) as run:
            run.write_results({})
    assert (tmp_path / "real" / "runs" / "a" / "results.json").exists()


def test_a_refused_run_leaves_no_folders_behind(tmp_path):
    with pytest.raises(InputError), RunFolder.open(tmp_path / "a" / "b" / "c", CONFIG):
        raise InputError("no rows")
    assert list(tmp_path.iterdir()) == []


def test_settings_that_are_gone_or_damaged_need_an_overwrite(tmp_path):
    for number, damage in enumerate(("", "{", "[1]", None)):
        folder = tmp_path / str(number)
        run_in(folder)
        (folder / "config.json").unlink()
        if damage is not None:
            (folder / "config.json").write_text(damage)
        with pytest.raises(InputError, match="config.json.*overwrite the run"):
            RunFolder.open(folder, CONFIG)
        with RunFolder.open(folder, CONFIG, overwrite=True) as run:
            assert not run.finished


@pytest.mark.parametrize("end", [InputError, KeyboardInterrupt, RuntimeError, None])
def test_a_run_that_ends_before_it_wrote_anything_overwrites_nothing(tmp_path, end):
    run_in(tmp_path)
    before = snapshot(tmp_path)
    suppressed = contextlib.suppress(*[end] if end else [])
    with suppressed, RunFolder.open(tmp_path, OTHER, overwrite=True) as run:
        assert not run.finished
        if end:
            raise end("rows.jsonl is not there")
    assert snapshot(tmp_path) == before


class Killed(BaseException):
    """What stands for SIGKILL: after it the process changes nothing on the disk."""


def kill_at(number: int, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """From the change of a folder with this number on none succeeds. Returns the list of changes
    to be."""
    changes: list[str] = []

    def wrap(name, change):
        def changed(*args, **options):
            changes.append(name)
            if len(changes) > number:
                raise Killed
            return change(*args, **options)

        return changed

    for name in ("replace", "rename", "unlink", "rmdir", "mkdir"):
        monkeypatch.setattr(os, name, wrap(name, getattr(os, name)))
    return changes


def test_killed_while_it_overwrites_a_folder_holds_one_of_the_two_runs(tmp_path, monkeypatch):
    outcomes = []
    for number in range(100):
        folder = tmp_path / str(number)
        run_in(folder)
        before = snapshot(folder)
        with monkeypatch.context() as patch, contextlib.suppress(Killed):
            changes = kill_at(number, patch)
            with RunFolder.open(folder, OTHER, overwrite=True) as run:
                run.log({"step": 2})
        if len(changes) <= number:
            break
        Ledger(folder).stop()
        run_is_old = None
        with contextlib.suppress(InputError), RunFolder.open(folder, CONFIG) as run:
            run_is_old = run.finished
        if run_is_old:
            assert snapshot(folder) == before
        else:  # the new one, with nothing of the old
            with RunFolder.open(folder, OTHER) as run:
                assert not run.finished
                assert set(snapshot(folder)) <= {"config.json", "metrics.jsonl", ".lock", MARKER}
        outcomes.append(run_is_old)
    # The old run until it is given up, the new one from then on; both happen.
    assert outcomes == sorted(outcomes, key=lambda is_old: not is_old)
    assert {True} < set(outcomes)
