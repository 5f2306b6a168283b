"""When, where and with which version a run was computed is kept beside it, and on its page."""

import re

import jax
import jax.numpy as jnp
import pytest

from subliminal_jax.errors import InputError
from subliminal_jax.runs.run_folder import SESSIONS, RunFolder
from subliminal_jax.runs.sessions import (
    describe_duration,
    describe_run,
    read_commit,
    read_sessions,
    read_version,
    record_session,
)


def test_interrupted_and_finished_sessions_are_kept_and_their_times_added(tmp_path):
    with RunFolder.open(tmp_path / "run", {"rate": 0.1}) as folder:
        with pytest.raises(KeyboardInterrupt), record_session(folder):
            raise KeyboardInterrupt
        with record_session(folder):
            jax.jit(lambda x: x * 3.5)(jnp.ones(3))
        assert [session.finished for session in read_sessions(folder.path)] == [False, True]
        facts = describe_run({"experiment": "a", "model": "b"}, read_sessions(folder.path))
    assert re.fullmatch(r"[1-9][0-9]* programs, [0-9]+ s", facts["Compilation"])
    assert facts["Duration"] == "0 s in 2 sessions"
    assert facts["Version"].startswith(read_version()) and "CPU" in facts["Devices"]
    assert facts["Date"].endswith(" UTC")


def test_bad_input_leaves_no_session_and_a_truncated_line_is_dropped(tmp_path):
    with RunFolder.open(tmp_path / "run", {}) as folder:
        with pytest.raises(InputError), record_session(folder):
            raise InputError("no")
        assert read_sessions(folder.path) == []
        with record_session(folder):
            pass
        with (folder.path / SESSIONS).open("a") as file:
            file.write('{"started": "20')  # killed in the middle
        with record_session(folder):
            pass
        assert len(read_sessions(folder.path)) == 2


def test_a_changed_line_is_refused(tmp_path):
    with RunFolder.open(tmp_path / "run", {}) as folder, record_session(folder):
        pass
    file = tmp_path / "run" / SESSIONS
    file.write_text(file.read_text().replace("true", "false"))
    with pytest.raises(InputError, match="line 1"):
        read_sessions(tmp_path / "run")


def test_durations_and_commits_in_words(tmp_path):
    assert [describe_duration(s) for s in (5.4, 119, 300, 7260)] == [
        "5 s",
        "119 s",
        "5 min",
        "2.0 h",
    ]
    assert read_commit(tmp_path) == ""
