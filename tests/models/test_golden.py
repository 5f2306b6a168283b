"""The shipped models' logits are what they were: the forward pass is pinned without torch.

The numbers in golden_logits.json were written by

    python -m tests.models.test_golden

which is to be run again only when a shipped model itself has changed.
"""

import json
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from subliminal_jax.models.forward import forward
from subliminal_jax.models.hub import load_model
from subliminal_jax.models.steered import steer

GOLDEN = Path(__file__).with_name("golden_logits.json")
MODELS = ("shipped", "shipped-small")
# float32 sums in another order (other kernels, other processors) move logits by about 1e-5.
TOLERANCE = 2e-4


def compute(name: str) -> dict[str, list]:
    """Logits of one long prompt, plain and steered: every fourth position, some of the words."""
    model = load_model(name, dtype="float32")
    tokens = jnp.arange(7, 7 + 11 * 32, 11)[None] % model.cfg.vocab
    words = np.linspace(0, model.cfg.vocab - 1, 12).astype(int)
    ramp = jnp.linspace(-1.0, 1.0, model.cfg.dim)
    numbers = {"tokens": tokens[0].tolist(), "words": words.tolist()}
    for kind, steering in (("plain", None), ("steered", steer(ramp, 1, 2.0))):
        logits, _ = forward(model.params, tokens, model.cfg, steering)
        numbers[kind] = np.asarray(logits)[0, 3::4][:, words].astype(float).tolist()
    return numbers


@pytest.mark.parametrize("name", MODELS)
def test_logits_are_the_golden_ones(name):
    golden, now = json.loads(GOLDEN.read_text())[name], compute(name)
    assert golden["tokens"] == now["tokens"] and golden["words"] == now["words"]
    for kind in ("plain", "steered"):
        np.testing.assert_allclose(now[kind], golden[kind], atol=TOLERANCE, rtol=0)
    # Steering is no small change, so that it is pinned by more than the tolerance.
    assert np.abs(np.subtract(now["plain"], now["steered"])).max() > 0.1


def main() -> None:
    """Write the golden numbers anew."""
    rounded = {
        name: {k: np.round(v, 5).tolist() for k, v in compute(name).items()} for name in MODELS
    }
    GOLDEN.write_text(json.dumps(rounded) + "\n")


if __name__ == "__main__":
    main()
