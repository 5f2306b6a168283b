"""`report` draws a page again from results alone, and refuses what is no finished run."""

import json
import re

import pytest

from subliminal_jax.cli import main
from tests.pages import check_page

SMALL = (
    "--traits owl --teachers steered --adapters vector --controls 1 --rows 24 --heldout-rows 8 "
    "--asked 4 --max-new-tokens 12 --steps 2 --log-every 2 --batch-size 4 --rates adamw=0.01"
)


@pytest.fixture(scope="module")
def run(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "transmission"
    main(["trait-transmission", "--model", str(model), "--out", str(folder), *SMALL.split()])
    return folder


def test_the_page_follows_the_results(run):
    page = (run / "report.html").read_text()
    results = json.loads((run / "results.json").read_text())
    results["base"]["owl"] = 0.987
    (run / "results.json").write_text(json.dumps(results))
    main(["report", str(run)])
    changed = (run / "report.html").read_text()
    assert "98.7%" in changed and "98.7%" not in page
    check_page(run)


def test_the_page_says_the_command_of_the_run(run):
    command = re.search(r'<pre class="command">(.*?)</pre>', (run / "report.html").read_text())
    assert command[1].startswith("subliminal-jax trait-transmission --model ")


@pytest.mark.parametrize("broken", ["no folder", "unfinished", "unknown"])
def test_what_is_no_finished_run_is_refused(broken, tmp_path, capsys):
    folder = tmp_path / "run"
    if broken != "no folder":
        folder.mkdir()
        name = "hypnosis" if broken == "unknown" else "trait-transmission"
        (folder / "config.json").write_text(json.dumps({"experiment": name}))
    with pytest.raises(SystemExit) as exit:
        main(["report", str(folder)])
    assert exit.value.code == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
