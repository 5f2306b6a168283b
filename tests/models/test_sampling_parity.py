"""Greedy sampling is transformers' `generate`, token by token for 64 tokens."""

import functools

import numpy as np
import pytest

from subliminal_jax.models.config import config_to_hf
from subliminal_jax.models.hub import load_config, load_model
from subliminal_jax.models.sampling import SamplingConfig, generate
from subliminal_jax.models.weights import load_params
from tests.models.families import FAMILIES

pytestmark = pytest.mark.parity
torch = pytest.importorskip("torch", reason="parity needs torch: install the parity extra")
transformers = pytest.importorskip("transformers")

NEW = 64
GREEDY = SamplingConfig(NEW, temperature=0)
# In one bucket, so that one program serves all.
PROMPTS = [
    np.random.default_rng(n).integers(0, FAMILIES["llama"].vocab, n).tolist() for n in (9, 16, 1)
]


@pytest.fixture(autouse=True, scope="module")
def one_torch_thread():
    """Two threads that wait for each other at every tiny matrix are slower than one."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def hf_generate(model, prompts, pad):
    """`generate` of transformers on one batch, padded on the left as it wants it."""
    width = max(map(len, prompts))
    ids = [[pad] * (width - len(prompt)) + prompt for prompt in prompts]
    mask = [[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts]
    with torch.no_grad():
        out = model.generate(
            input_ids=torch.tensor(ids),
            attention_mask=torch.tensor(mask),
            max_new_tokens=NEW,
            min_new_tokens=NEW,
            do_sample=False,
            pad_token_id=pad,
        )
    return out[:, width:].numpy()


@functools.cache
def random_model(name, folder):
    """A transformers model with noise on every tensor, read back by us from its own files.

    Noise of this size keeps the best two logits of every step well apart. Small embeddings keep a
    tied model from repeating its last token.
    """
    raw = config_to_hf(FAMILIES[name]) | {"max_position_embeddings": 128}
    config = transformers.AutoConfig.for_model(**raw, pad_token_id=None, eos_token_id=None)
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.4 * torch.randn_like(parameter))
        model.get_input_embeddings().weight.mul_(0.1)
    model.eval().save_pretrained(folder)
    cfg = load_config(folder)
    return model, load_params(folder, cfg), cfg


@pytest.mark.parametrize("name", ["llama", "qwen2", "qwen3", "gemma2", "gemma3"])
def test_greedy_sampling_of_every_family(name, tmp_path):
    model, params, cfg = random_model(name, tmp_path)
    batch = generate(params, PROMPTS, cfg, 0, GREEDY, batch_size=3).tokens
    assert np.mean([len(set(row.tolist())) for row in batch]) > 8  # no mere repetition
    np.testing.assert_array_equal(batch, hf_generate(model, PROMPTS, pad=0))
    alone = generate(params, PROMPTS[:1], cfg, 0, GREEDY, batch_size=3).tokens
    np.testing.assert_array_equal(alone, hf_generate(model, PROMPTS[:1], pad=0))


def test_greedy_sampling_of_a_real_model(shared_path):
    folder = shared_path("models", "tinystories-656k")
    ours = load_model(str(folder))
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    texts = ["Once upon a time", "The dog and the cat went", "Lily saw"]
    prompts = [ours.tokenizer(text)["input_ids"] for text in texts]
    assert len(set(map(len, prompts))) > 1
    batch = generate(ours.params, prompts, ours.cfg, 0, GREEDY, batch_size=3).tokens
    np.testing.assert_array_equal(batch, hf_generate(model, prompts, pad=0))
    np.testing.assert_array_equal(batch[1:2], hf_generate(model, prompts[1:2], pad=0))
