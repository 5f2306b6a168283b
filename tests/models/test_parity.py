"""Parity with transformers' torch models: logits, steered logits, gradients, saved folders.

Every tensor of the tiny random models is perturbed, norms and biases too, in float32.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from subliminal_jax.models.config import config_from_hf, config_to_hf
from subliminal_jax.models.forward import forward
from subliminal_jax.models.hub import load_config, load_model, save_model
from subliminal_jax.models.steered import steer
from subliminal_jax.models.weights import load_params
from tests.models.families import ALL, noisy_params

pytestmark = pytest.mark.parity
torch = pytest.importorskip("torch", reason="parity needs torch: install the parity extra")
transformers = pytest.importorskip("transformers")

TOLERANCE = 2e-4  # of the largest absolute value
BATCH, TIME, LAYER = 2, 24, 1
LENGTHS = np.array([TIME, 15])


def assert_near(ours, reference):
    ours, reference = np.asarray(ours), reference.detach().numpy()
    assert ours.shape == reference.shape
    assert np.abs(ours - reference).max() < TOLERANCE * np.abs(reference).max()


@functools.cache
def random_model(name, folder):
    """A transformers model of the family with noise on every tensor, saved to `folder`."""
    raw = config_to_hf(ALL[name])
    config = transformers.AutoConfig.for_model(**raw, pad_token_id=None)
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    model.eval().save_pretrained(folder)
    return model


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tmp_path_factory.mktemp("parity")


@pytest.fixture(params=ALL, scope="module")
def pair(request, root):
    """(torch model, our params, our config): the params are read from transformers' own files."""
    folder = root / request.param
    reference = random_model(request.param, folder)
    cfg = load_config(folder)
    return reference, load_params(folder, cfg), cfg


@pytest.fixture(scope="module")
def tokens():
    return np.random.default_rng(0).integers(0, 67, (BATCH, TIME))


@functools.partial(jax.jit, static_argnums=3)
def ours_with_gradient(vector, params, tokens, cfg):
    """((loss, logits), gradient of the next-token loss with respect to the vector).

    One program a family serves every test here: a zero vector is no steering.
    """

    def loss(vector):
        logits, _ = forward(params, tokens, cfg, steer(vector, LAYER))
        scores = jax.nn.log_softmax(logits[:, :-1])
        picked = jnp.take_along_axis(scores, tokens[:, 1:, None], axis=-1)
        return -picked.mean(), logits

    return jax.value_and_grad(loss, has_aux=True)(vector)


def our_logits(params, tokens, cfg):
    (_, logits), _ = ours_with_gradient(jnp.zeros(cfg.dim), params, tokens, cfg)
    return logits


def theirs_with_gradient(model, vector, tokens):
    vector = torch.tensor(vector, requires_grad=True)
    block = model.base_model.layers[LAYER]
    hook = block.register_forward_hook(
        lambda module, inputs, output: (
            (output[0] + vector, *output[1:]) if isinstance(output, tuple) else output + vector
        )
    )
    try:
        logits = model(torch.tensor(tokens)).logits
    finally:
        hook.remove()
    loss = torch.nn.functional.cross_entropy(
        logits[:, :-1].flatten(0, 1), torch.tensor(tokens)[:, 1:].flatten()
    )
    loss.backward()
    return loss, logits, vector.grad


def test_the_config_that_transformers_writes_is_the_one_we_wrote(pair, request):
    _, _, cfg = pair
    assert cfg == ALL[request.node.callspec.params["pair"]]


def test_logits_agree(pair, tokens):
    reference, params, cfg = pair
    ours = our_logits(params, tokens, cfg)
    with torch.no_grad():
        assert_near(ours, reference(torch.tensor(tokens)).logits)


def test_steered_logits_and_the_gradient_of_the_vector_agree(pair, tokens):
    reference, params, cfg = pair
    vector = np.random.default_rng(1).normal(size=cfg.dim).astype(np.float32)
    (loss, logits), gradient = ours_with_gradient(jnp.asarray(vector), params, tokens, cfg)
    their_loss, their_logits, their_gradient = theirs_with_gradient(reference, vector, tokens)
    assert_near(logits, their_logits)
    assert_near(gradient, their_gradient)
    assert abs(float(loss) - their_loss.item()) < TOLERANCE * their_loss.item()
    with torch.no_grad():  # the vector is no small matter for the logits
        change = (reference(torch.tensor(tokens)).logits - their_logits).abs().max()
    assert change > 0.1 * their_logits.abs().max()


def test_a_right_padded_batch_agrees_on_its_real_tokens(pair, tokens):
    reference, params, cfg = pair
    real = np.arange(TIME) < LENGTHS[:, None]
    padded = np.where(real, tokens, 0)
    ours = our_logits(params, padded, cfg)
    with torch.no_grad():
        expected = reference(
            torch.tensor(padded), attention_mask=torch.tensor(real.astype(np.int64))
        ).logits
    assert_near(np.asarray(ours)[real], expected[torch.tensor(real)])


@pytest.mark.parametrize("name", ALL)
def test_a_folder_that_we_save_gives_the_same_logits_in_transformers(name, root, tokens):
    cfg, folder = ALL[name], root / f"saved-{name}"
    params = noisy_params(cfg)
    save_model(folder, params, cfg, max_shard_bytes=20_000)
    reference, info = transformers.AutoModelForCausalLM.from_pretrained(
        folder, attn_implementation="eager", output_loading_info=True
    )
    assert not any(info.values()), info  # no missing, unexpected or mismatched key
    ours = our_logits(params, tokens, cfg)
    with torch.no_grad():
        assert_near(ours, reference(torch.tensor(tokens)).logits)


def test_a_bfloat16_folder_loads_in_transformers_as_bfloat16(root):
    cfg, folder = ALL["qwen2"], root / "bfloat16"
    params = noisy_params(cfg)
    save_model(folder, params, cfg, dtype="bfloat16")
    reference = transformers.AutoModelForCausalLM.from_pretrained(folder)
    assert reference.dtype == torch.bfloat16
    stored = reference.model.embed_tokens.weight.detach().float().numpy()
    assert np.array_equal(stored, params["embed"].astype(jnp.bfloat16).astype(jnp.float32))


def test_multimodal_gemma3_is_read_as_the_language_model_inside(root, tokens):
    folder = root / "multimodal"
    text = config_to_hf(ALL["gemma3"])
    config = transformers.Gemma3Config(
        text_config=text,
        vision_config={
            "hidden_size": 8,
            "intermediate_size": 8,
            "num_hidden_layers": 1,
            "num_attention_heads": 1,
            "image_size": 8,
            "patch_size": 4,
        },
        mm_tokens_per_image=4,
        image_token_index=66,
    )
    reference = transformers.Gemma3ForConditionalGeneration._from_config(
        config, attn_implementation="eager"
    ).eval()
    with torch.no_grad():
        for parameter in reference.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    reference.save_pretrained(folder)
    cfg = load_config(folder)
    assert cfg == ALL["gemma3"]
    tokens = np.minimum(tokens, 65)  # 66 stands for an image
    params = load_params(folder, cfg)
    ours = our_logits(params, tokens, cfg)
    with torch.no_grad():
        assert_near(ours, reference(input_ids=torch.tensor(tokens)).logits)


def test_the_defaults_of_multimodal_gemma3_are_those_of_transformers():
    text = {"hidden_size": 64, "intermediate_size": 32, "num_hidden_layers": 7}
    whole = transformers.Gemma3TextConfig(**text).to_dict()
    short = config_from_hf({"model_type": "gemma3", "text_config": text})
    assert short == config_from_hf(whole)


def test_the_real_stories_model_agrees(shared_path):
    folder = shared_path("models", "tinystories-656k")
    model = load_model(folder)
    reference = transformers.AutoModelForCausalLM.from_pretrained(
        folder, attn_implementation="eager"
    )
    text = (
        "<|start_story|>Once upon a time, there was a little girl who loved to play. One day, she"
    )
    tokens = np.array([model.tokenizer(text, add_special_tokens=False)["input_ids"]])
    vector = np.random.default_rng(2).normal(size=model.cfg.dim).astype(np.float32)
    for v in (vector, np.zeros_like(vector)):
        (loss, logits), gradient = ours_with_gradient(
            jnp.asarray(v), model.params, tokens, model.cfg
        )
        _, their_logits, their_gradient = theirs_with_gradient(reference, v, tokens)
        assert_near(logits, their_logits)
        assert_near(gradient, their_gradient)
    assert loss < 3.0  # nats a token: a trained model, read rightly; guessing gives ln 2048 = 7.6
    unsteered, _ = jax.jit(forward, static_argnums=2)(model.params, tokens, model.cfg)
    assert_near(unsteered, their_logits)
