"""`cross-model` through the command line, on two models of 16 dimensions."""

import jax
import pytest

from tests import number_model
from tests.experiments.command import Command
from tests.pages import check_page

COMMAND = Command(
    "cross-model",
    "--traits owl cat dog --rows 20 --asked 3 --max-new-tokens 12 --layers 1 --scales 1 0.5",
)


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    """The same grammar with other random queries."""

    def change(tree):
        layers = tree["layers"]
        queries = jax.random.normal(jax.random.key(9), layers["q"].shape)
        return {**tree, "layers": {**layers, "q": queries}}

    return number_model.write(tmp_path_factory.mktemp("models") / "others", change=change)


@pytest.fixture(scope="module")
def model_flags(model, other):
    return ["--models", str(model), str(other)]


def test_every_model_reads_every_model_once(results):
    cells = results["cells"]
    keys = {(c["scorer"], c["source"], c["kind"], c["teacher"], c["trait"]) for c in cells}
    assert len(keys) == len(cells) == 2 * 2 * 2 * 2 * 3
    assert sum(c["own_data"] for c in cells) == len(cells) / 2
    for c in cells:
        trait, random = c["gain"] - c["plain_gain"], c["random_gain"] - c["random_plain_gain"]
        assert c["specific_gain"] == pytest.approx(trait - random)
        assert c["base_nll"] > 0
    # A plain model's own data are likeliest without a vector, up to the noise of 20 rows.
    gains = [c["plain_gain"] for c in cells if c["own_data"]]
    assert sum(gains) / len(gains) < 0.05


def test_results_name_models_and_claims_and_the_page_shows_them(folder, results):
    models = {name: (m["layer"], m["scale"]) for name, m in results["models"].items()}
    assert models == {"numbers": (1, 1.0), "others": (1, 0.5)}
    assert {c["id"] for c in results["claims"]} == {
        f"cross-model/{name}-{teacher}"
        for name in ("own-numbers", "shared-semantics")
        for teacher in ("steered", "system-prompt")
    }
    check_page(folder)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ("--models shipped", "--models shipped: 1 are too few"),
        ("--models shipped shipped", "twice"),
        ("--scales 1 2 3", "--scales 1.0 2.0 3.0: 3 values for 2 models"),
        ("--layers 9", "layer 9 is out of range"),
        ("--teachers kind", "--teachers kind is not valid: choose from"),
        ("--traits unicorn", "unknown trait 'unicorn'"),
    ],
)
def test_bad_input_is_refused_in_one_line(refuse, flags, words):
    assert words in refuse(flags)
