"""`env` says the versions that run, and nothing of the user."""

import getpass
import json
import platform
from importlib import metadata
from pathlib import Path

import jax

from subliminal_jax import __version__
from subliminal_jax.cli import main


def test_versions_and_devices_are_those_that_run(capsys):
    main(["env", "--json"])
    found = json.loads(capsys.readouterr().out)
    assert found["subliminal-jax"] == __version__
    assert found["packages"]["jax"] == jax.__version__
    assert "missing" not in found["packages"].values()
    assert found["packages"]["tokenizers"] == metadata.version("tokenizers")
    assert len(found["devices"]) == jax.local_device_count()


def test_nothing_names_the_user_the_host_or_a_path(monkeypatch, capsys):
    monkeypatch.setenv("SUBLIMINAL_JAX_DATA", "/home/somebody/secret")
    main(["env"])
    shown = capsys.readouterr().out
    assert "SUBLIMINAL_JAX_DATA" in shown
    for private in ("somebody", str(Path.home()), str(Path.cwd()), platform.node()):
        assert not private or private not in shown
    assert f"/{getpass.getuser()}" not in shown
