"""The batched evaluation against the naive one in torch, on perturbed tiny models."""

import numpy as np
import pytest
from scipy import stats

from subliminal_jax.models.config import config_to_hf
from subliminal_jax.models.hub import load_config
from subliminal_jax.models.weights import load_params
from subliminal_jax.steering.contrastive import contrastive_vectors
from subliminal_jax.steering.contrasts import Contrasts
from subliminal_jax.steering.propensity import MULTIPLIERS, answer_activations, propensities
from subliminal_jax.steering.slopes import anti_steerable, decompose_slopes, per_sample_slopes
from tests.models.families import FAMILIES

pytestmark = pytest.mark.parity
torch = pytest.importorskip("torch", reason="parity needs torch: install the parity extra")
transformers = pytest.importorskip("transformers")

LAYER, ROWS = 1, 8
IS_FIRST = np.arange(ROWS) % 4 < 2
IS_YES = np.arange(ROWS) % 2 == 0


@pytest.fixture(params=["qwen2", "gemma2"], scope="module")
def pair(request, tmp_path_factory):
    """(naive evaluation of a torch model, our params, our config)."""
    from tests.steering.naive_steering import Naive

    folder = tmp_path_factory.mktemp("naive") / request.param
    raw = config_to_hf(FAMILIES[request.param])
    config = transformers.AutoConfig.for_model(**raw, pad_token_id=None)
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    model.eval().save_pretrained(folder)
    cfg = load_config(folder)
    return Naive(model), load_params(folder, cfg), cfg


@pytest.fixture(scope="module")
def contrasts():
    """Prompts of 3 to 24 tokens with the answers "(A)" and "(B)", in either order."""
    rng = np.random.default_rng(0)
    a, b = [50, 9, 51], [50, 11, 51]
    prompts = [rng.integers(0, 67, n).tolist() for n in (3, 24, 9, 17, 12, 5, 20, 8)]
    one, two = zip(*[(a, b) if first else (b, a) for first in IS_FIRST], strict=True)
    return Contrasts(prompts, list(one), list(two))


def test_vectors_propensities_and_all_that_follows_agree(pair, contrasts):
    naive, params, cfg = pair
    vectors_by_layer = contrastive_vectors(
        answer_activations(params, cfg, contrasts, range(cfg.layers))
    )
    reference = naive.mean_difference(contrasts, LAYER)
    np.testing.assert_allclose(vectors_by_layer[LAYER], reference, atol=1e-4)
    vectors = np.stack([reference, np.random.default_rng(1).normal(size=cfg.dim)]).astype(
        np.float32
    )
    for kind in ("letter", "answer"):
        values = propensities(params, cfg, contrasts, vectors[:, None], [LAYER], kind=kind)
        expected = naive.propensities(contrasts, LAYER, vectors, MULTIPLIERS, kind)
        np.testing.assert_allclose(values, expected, atol=1e-4)
        for j in range(len(vectors)):
            check_statistics(expected[:, j])
            check_close(values[:, j], expected[:, j])


def check_statistics(m):
    """Given the propensities: each statistic against its definition, row by row, to 1e-6."""
    slopes = per_sample_slopes(m, MULTIPLIERS)
    fitted = [np.polyfit(MULTIPLIERS, row, 1) for row in m]
    one_by_one = np.array([slope for slope, _ in fitted])
    np.testing.assert_allclose(slopes.slope, one_by_one, atol=1e-6)
    for i, (row, line) in enumerate(zip(m, fitted, strict=True)):
        rest = row - np.polyval(line, MULTIPLIERS)
        assert slopes.residual[i] == pytest.approx(np.sqrt(np.mean(rest**2)), abs=1e-6)
        rank = stats.spearmanr(MULTIPLIERS, row).statistic
        assert slopes.rank[i] == pytest.approx(rank, abs=1e-6)
    backwards = sum(not slope > 0 for slope in one_by_one) / len(m)
    assert anti_steerable(slopes.slope) == pytest.approx(backwards, abs=1e-6)
    # Balanced halves: what a bias explains is the variance of the means of its two groups.
    parts = decompose_slopes(slopes.slope, IS_FIRST, IS_YES)
    for explained, group in ((parts.letter, IS_FIRST), (parts.yes_no, IS_YES)):
        means = [one_by_one[group].mean(), one_by_one[~group].mean()]
        assert explained == pytest.approx(np.var(means), abs=1e-6)
    assert parts.variance == pytest.approx(np.var(one_by_one), abs=1e-6)
    assert parts.letter + parts.yes_no + parts.unexplained == pytest.approx(parts.variance)


def check_close(propensities, naive_propensities):
    """What follows from our own propensities is as near to the naive results as those are."""
    slopes, naive_slopes = (
        per_sample_slopes(m, MULTIPLIERS).slope for m in (propensities, naive_propensities)
    )
    np.testing.assert_allclose(slopes, naive_slopes, atol=1e-4)
    clear = np.abs(naive_slopes) > 1e-4
    assert anti_steerable(slopes[clear]) == anti_steerable(naive_slopes[clear])
    for a, b in zip(
        decompose_slopes(slopes, IS_FIRST, IS_YES),
        decompose_slopes(naive_slopes, IS_FIRST, IS_YES),
        strict=True,
    ):
        assert a == pytest.approx(b, abs=1e-3)
