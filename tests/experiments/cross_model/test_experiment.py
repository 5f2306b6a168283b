"""cross-model through the command line, on two models of 16 dimensions."""

import jax
import pytest

from subliminal_jax.cli import main
from tests import number_model
from tests.experiments.main_job import read

SMALL = (
    "--traits", "owl", "cat", "dog", "--rows", "20", "--asked", "3", "--max-new-tokens", "12",
    "--layers", "1", "--scales", "1", "0.5",
)  # fmt: skip


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    """Other random weights beside the same grammar."""

    def change(tree):
        q = tree["layers"]["q"]
        return {**tree, "layers": {**tree["layers"], "q": jax.random.normal(jax.random.key(9),
                                                                            q.shape)}}  # fmt: skip

    return number_model.write(tmp_path_factory.mktemp("models") / "others", change=change)


@pytest.fixture(scope="module")
def out(model, other, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "cross"
    main(["cross-model", "--models", str(model), str(other), "--out", str(folder), *SMALL])
    return folder


def test_every_model_reads_every_model_once(out):
    cells = read(out)["cells"]
    places = {(c["scorer"], c["source"], c["kind"], c["teacher"], c["trait"]) for c in cells}
    assert len(places) == len(cells) == 2 * 2 * 2 * 2 * 3
    assert sum(c["own"] for c in cells) == len(cells) / 2
    for c in cells:
        own, noise = c["gain"] - c["plain_gain"], c["random_gain"] - c["random_plain_gain"]
        assert c["specific_gain"] == pytest.approx(own - noise)
        assert c["base_nll"] > 0
    # A plain model's own data are likeliest without a vector (up to the noise of few rows).
    own = [c["plain_gain"] for c in cells if c["own"]]
    assert sum(own) / len(own) < 0.05


def test_results_name_models_and_claims(out):
    results = read(out)
    made = {name: (of["layer"], of["scale"]) for name, of in results["models"].items()}
    assert made == {"numbers": (1, 1.0), "others": (1, 0.5)}
    assert sorted(c["id"] for c in results["claims"]) == [
        f"cross-model/{name}-{teacher}"
        for name in ("own-numbers", "shared-semantics")
        for teacher in ("steered", "system-prompt")
    ]
    page = (out / "report.html").read_text()
    assert page.count("<img") == 2 and "Own against foreign data" in page


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--models", "shipped"), "name at least two"),
        (("--models", "shipped", "shipped"), "each once"),
        (("--scales", "1", "2", "3"), "scales: 3 values for 2 models"),
        (("--layers", "9"), "layer 9 is out of range"),
        (("--teachers", "kind"), "teachers ['kind'] are not known"),
        (("--traits", "unicorn"), "unknown trait 'unicorn'"),
        (("--model", "shipped-small"), "cross-model takes --models"),
    ],
)
def test_bad_input_is_one_line(capsys, tmp_path, flags, said):
    with pytest.raises(SystemExit) as exit:
        main(["cross-model", "--out", str(tmp_path / "run"), *SMALL, *flags])
    assert exit.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line
    assert not (tmp_path / "run").exists()
