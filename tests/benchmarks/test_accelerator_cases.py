"""What an accelerator measures, run whole on the CPU: bfloat16 on both sides, models cut small; and
the least work against counting by hand."""

import pickle
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from benchmarks import diagnostics, generate, harness, models, score, train_step, workers
from benchmarks.harness import Effort
from benchmarks.machine import CeilingMeter
from tests.benchmarks import sides
from tests.tiny_configs import UNLIKE

needs_torch = pytest.mark.skipif(
    find_spec("torch") is None or find_spec("peft") is None,
    reason="needs torch and peft: install the parity extra",
)
ONCE = Effort(seconds=0.0, least=1, warm=1)
# Of what the sides may be apart on an accelerator; so small models are closer.
NEAR = 0.5


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """A folder of models that the cases share."""
    return tmp_path_factory.mktemp("models")


class MeasuredCeilings:
    """A meter that has measured already: the cases share one process for it."""

    def __init__(self, ceilings):
        self.ceilings = ceilings

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def sample(self):
        pass


class KeptPeer:
    """The peer's process of all cases: to import torch takes it longer than the work of a case."""

    def __init__(self, file: Path):
        self.file = file
        self.worker = workers.Worker("peer", f"{sides.__name__}:chosen", {"file": str(file)})

    def choose(self, function, setting):
        self.file.write_bytes(pickle.dumps((function, dict(setting))))
        return self

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def __getattr__(self, name):  # set_up, repeat, results, peak and versions
        return getattr(self.worker, name)


@pytest.fixture(scope="module", autouse=True)
def shared(tmp_path_factory):
    """What this machine reaches, measured once for all cases, and one process of their peers. Rows
    and weights are written here: this process has JAX already."""
    with CeilingMeter() as meter:
        measured = MeasuredCeilings(meter.ceilings)
    kept = KeptPeer(tmp_path_factory.mktemp("peer") / "side.pickle")

    def start(name, function, setting, environment):
        if name == "peer":
            return kept.choose(function, setting)
        return workers.Worker(name, function, setting, environment)

    with pytest.MonkeyPatch.context() as patch, kept.worker:
        patch.setattr(harness, "CeilingMeter", lambda: measured)
        patch.setattr(harness, "Worker", start)
        for module in (models, score, train_step):
            patch.setattr(module, "call", lambda function, *given: sides.find(function)(*given))
        yield


def shrink(settings: list[dict], **entries) -> dict:
    """The first of the settings that has these entries, of the smallest shape."""
    setting = next(s for s in settings if entries.items() <= s.items())
    return setting | {"shape": "tiny"}


def check_agreement(document: dict) -> None:
    assert document["equal"]["apart"] <= NEAR * document["equal"]["allowed"]
    assert document["setting"]["dtype"] == "bfloat16"
    assert 0 < document["floor"]["mfu"] < 10  # a share: of products and seconds of this machine


@pytest.mark.parity
@needs_torch
@pytest.mark.parametrize("adapter", ["lora", "full"])
def test_training(cache, adapter):
    setting = shrink(train_step.settings(True, False), shape="0.5B", adapter=adapter)
    document = train_step.measure(setting | {"rows": 2, "time": 33, "steps": 2}, cache, ONCE)
    check_agreement(document)
    assert document["floor"]["bandwidth"] > 0


@pytest.mark.parity
@needs_torch
def test_sampling(cache):
    setting = shrink(generate.settings(True, False), shape="0.5B", batch=16)
    document = generate.measure(setting | {"batch": 3, "prompt": 8, "new": 6}, cache, ONCE)
    check_agreement(document)
    assert document["floor"]["bandwidth"] > 0


@pytest.mark.parity
@needs_torch
def test_scoring(cache):
    setting = score.settings(True, True)[0] | {"shape": "shipped", "pairs": 8}
    check_agreement(score.measure(setting, cache, ONCE))


@pytest.mark.parity
@needs_torch
@pytest.mark.parametrize("what", ["per-example", "per-token"])
def test_components(cache, what):
    setting = shrink(diagnostics.settings(True, False), what=what, peer="batched")
    check_agreement(diagnostics.components(setting | {"rows": 4, "time": 33}, cache, ONCE))


def test_answers_are_compared_until_they_part():
    ours = {"tokens": np.array([[1, 2, 3, 4], [1, 2, 3, 4]]), "log_probs": np.full((2, 4), -1.0)}
    peer = {"tokens": np.array([[1, 9, 3, 4], [1, 2, 3, 4]]), "log_probs": np.full((2, 4), -1.5)}
    (a, b), tokens_compared = generate.cut_at_divergence(ours, peer)
    np.testing.assert_array_equal(a["log_probs"], [[-1, -1, 0, 0], [-1, -1, -1, -1]])
    np.testing.assert_array_equal(b["log_probs"], [[-1.5, -1.5, 0, 0], [-1.5] * 4])
    assert tokens_compared == 3.0


@pytest.mark.parametrize(
    ("adapter", "dtype"), [("lora", "bfloat16"), ("full", "bfloat16"), ("full", "float32")]
)
def test_a_training_step_is_counted_product_by_product(adapter, dtype):
    rows, time, steps, predicted = 2, 4, 3, 5.0
    weights = {"q": 12 * 20, "k": 12 * 10, "v": 12 * 10, "o": 20 * 12, "mlp": 3 * 12 * 7}
    passes = 2 if adapter == "lora" else 3
    flops = 0.0
    for _layer in range(3):
        for position in range(1, time):  # the last token is not read
            flops += rows * passes * 2 * sum(weights.values())
            for _head in range(4):  # q.k and weight.v with each token so far, and their gradients
                flops += rows * 3 * (2 * 5 + 2 * 5) * position
    flops += passes * 2 * predicted * 50 * 12
    count = 3 * sum(weights.values()) + 50 * 12
    moved = count * passes * (2 if dtype == "bfloat16" else 4)
    if adapter == "full":  # weights and two moments read and written, the gradient read
        moved += count * 4 * (3 + 3 + 1)
    setting = {"adapter": adapter, "rows": rows, "time": time, "steps": steps, "dtype": dtype}
    assert train_step.count_work(UNLIKE, setting, predicted) == (steps * flops, steps * moved)


def test_rows_without_padding_are_full_and_half_predicted():
    setting = {"rows": 4, "time": 65, "dtype": "bfloat16", "padding": "none"}
    tokens, positions, mask = train_step.random_rows(256, setting)
    assert tokens.shape == (4, 65)  # one batch: all steps have the same rows
    assert (positions == np.arange(65)).all()
    assert 0.4 < mask.mean() < 0.65
