"""Sampling: batches, keys, stops, steering, bad input; draws themselves are in test_draw.py."""

import time
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from subliminal_jax.compilation import count_compilations
from subliminal_jax.errors import InputError
from subliminal_jax.models import sampling as sampling_module
from subliminal_jax.models.forward import Capture, forward
from subliminal_jax.models.linear import LoraWeight
from subliminal_jax.models.sampling import Samples, SamplingConfig, generate
from subliminal_jax.models.sampling_plan import SamplingPlan
from subliminal_jax.models.steered import Steering, neutral, steer, unit
from tests.models import families
from tests.models.families import noisy_params

# Two layers compile faster, and there is nothing here to see in a third.
LLAMA, QWEN3 = (replace(cfg, layers=2) for cfg in (families.LLAMA, families.QWEN3))
GEMMA3 = replace(families.GEMMA3, layers=2, sliding=(True, False))
ROWS = 4  # of every batch here
NEW = 8
PARAMS = noisy_params(LLAMA)
RNG = np.random.default_rng(0)
# Of several batches for each prompt size of PLAN; SHORT are those of the first.
PROMPTS = [RNG.integers(0, LLAMA.vocab, n).tolist() for n in (3, 20, 7, 1, 17, 16, 9, 30, 18, 25)]
SHORT = [prompt for prompt in PROMPTS if len(prompt) <= 16]
VECTOR = jax.random.normal(jax.random.key(3), (LLAMA.dim,))
SAMPLING = SamplingConfig(NEW)
PLAN = SamplingPlan((16, 32), (36, 40), ROWS)
score = jax.jit(forward, static_argnames=("cfg",))


def sample(prompts=SHORT, key=0, sampling=SAMPLING, steering=None, params=PARAMS, **kwargs):
    kwargs = {"cfg": LLAMA, "batch_size": ROWS} | kwargs
    return generate(params, prompts, key=key, sampling=sampling, steering=steering, **kwargs)


def same(first: Samples, second: Samples):
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_a_request_does_not_depend_on_its_batch(dtype):
    """Bit for bit, whichever requests surround it, in whatever order and rows."""
    prompts = PROMPTS
    params = jax.tree.map(lambda x: x.astype(dtype), PARAMS)
    keys = jax.random.split(jax.random.key(1), len(prompts))
    same_programs = {"params": params, "plan": PLAN}
    whole = sample(prompts, keys, **same_programs)

    @given(st.lists(st.integers(0, len(prompts) - 1), min_size=1, max_size=len(prompts)))
    def picks(chosen):
        part = sample(
            [prompts[i] for i in chosen], keys[np.array(chosen)], params=params, plan=PLAN
        )
        same(part, Samples(*(x[chosen] for x in whole)))

    picks()


def test_every_token_of_an_answer_is_a_draw_of_its_own():
    """Under equal logits a token says which number it was drawn with."""
    equal = PARAMS | {"final_norm": jnp.zeros_like(PARAMS["final_norm"])}
    tokens = sample(SHORT, 7, params=equal).tokens
    distinct = [len(set(row)) for row in tokens.tolist()]
    assert min(distinct) >= NEW - 4  # of 67 tokens, 8 draws


def test_lists_and_a_padded_array_with_a_seed_or_its_keys_are_one_thing():
    padded = np.zeros((len(PROMPTS), 40), np.int32)
    for row, prompt in zip(padded, PROMPTS, strict=True):
        row[: len(prompt)] = prompt
    lengths = np.array([len(prompt) for prompt in PROMPTS])
    keys = jax.vmap(lambda i: jax.random.fold_in(jax.random.key(5), i))(jnp.arange(len(PROMPTS)))
    expected = sample(PROMPTS, 5)
    same(sample((padded, lengths), keys), expected)
    same(sample((jnp.asarray(padded), jnp.asarray(lengths)), jax.random.key(5)), expected)
    other = sample(PROMPTS, 6)
    assert (other.tokens != expected.tokens).any(axis=1).mean() > 0.8


def test_equal_prompts_get_independent_samples():
    tokens = sample([PROMPTS[0]] * 20, sampling=SamplingConfig(NEW, temperature=2.0)).tokens
    assert len(np.unique(tokens, axis=0)) == 20
    assert len(np.unique(tokens[:, 0])) > 8


def test_first_tokens_follow_the_softmax():
    rows, temperature, prompt = 2048, 0.7, PROMPTS[0]
    sampling = SamplingConfig(1, temperature)
    tokens = sample([prompt] * rows, 7, sampling, batch_size=512).tokens[:, 0]
    logits, _ = score(PARAMS, jnp.asarray([prompt]), cfg=LLAMA)
    p = np.asarray(jax.nn.softmax(logits[0, -1] / temperature), float)
    counts = np.bincount(tokens, minlength=LLAMA.vocab)
    rare = p * rows < 5
    counts = np.append(counts[~rare], counts[rare].sum())
    expected = np.append(p[~rare], p[rare].sum())
    assert len(expected) > 5
    assert scipy.stats.chisquare(counts, rows * expected / expected.sum()).pvalue > 1e-3


def test_cold_samples_are_greedy_and_greedy_needs_no_key():
    greedy = sample(sampling=SamplingConfig(NEW, temperature=0))
    same(sample(sampling=SamplingConfig(NEW, temperature=0), key=1), greedy)
    for temperature in (1e-4, 1e-30):
        np.testing.assert_array_equal(
            sample(sampling=SamplingConfig(NEW, temperature=temperature)).tokens, greedy.tokens
        )


def test_a_stop_token_ends_a_request_and_nothing_else():
    free = sample()
    stops = tuple(np.unique(free.tokens)[::4].tolist())
    stopped = sample(sampling=SamplingConfig(NEW, stop_tokens=stops), pad_token=66)
    ends = np.isin(free.tokens, stops)
    lengths = np.where(ends.any(axis=1), ends.argmax(axis=1) + 1, NEW)
    assert len(set(lengths.tolist())) > 1
    np.testing.assert_array_equal(stopped.lengths, lengths)
    inside = np.arange(NEW) < lengths[:, None]
    np.testing.assert_array_equal(stopped.tokens, np.where(inside, free.tokens, 66))
    np.testing.assert_array_equal(stopped.log_probs, np.where(inside, free.log_probs, 0))


def test_the_loop_ends_when_all_requests_have():
    """Answers that a stop token ends at once take a part of the time of those without."""
    cfg, prompts = replace(LLAMA, context=2048), [[1] * 16] * ROWS

    def run(sampling):
        answers = sample(prompts, sampling=sampling, cfg=cfg)  # compiles
        times = []
        for _ in range(3):
            start = time.perf_counter()
            sample(prompts, sampling=sampling, cfg=cfg)
            times.append(time.perf_counter() - start)
        return min(times), answers

    long = SamplingConfig(2000, temperature=0)
    seconds, answers = run(long)
    stopped, ended = run(replace(long, stop_tokens=(int(answers.tokens[0, 0]),)))
    assert (answers.lengths == 2000).all() and (ended.lengths == 1).all()
    assert stopped < seconds / 4


@pytest.mark.parametrize(
    ("cfg", "layers", "operation", "where"),
    [
        (LLAMA, (1,), "add", "all"),
        (LLAMA, (1,), "add", "prompt"),
        (LLAMA, (1,), "add", "generated"),
        (GEMMA3, (0,), "project_out", "generated"),
        (QWEN3, (0, 1), "replace", "all"),
        (QWEN3, (0, 1), "replace", "generated"),
    ],
)
def test_log_probs_are_those_of_the_whole_text_scored_with_a_mask(cfg, layers, operation, where):
    """The base of "replace" is another model than the steered one, and never steered itself."""
    params, base = noisy_params(cfg), noisy_params(cfg, seed=5)
    vectors = jnp.stack([VECTOR, VECTOR[::-1]])[: len(layers)]
    steering = Steering(vectors, jnp.float32(0.7), layers, operation)
    sampling = SamplingConfig(NEW, temperature=1.5, steer_positions=where)
    reference = base if operation == "replace" else None
    prompts = SHORT[:4]
    ours = sample(
        prompts, 3, sampling, steering, params, cfg=cfg, batch_size=4, reference_params=reference
    )
    lengths = np.array([len(prompt) for prompt in prompts])
    width = lengths.max() + NEW
    tokens = np.zeros((4, width), np.int32)
    for row, prompt, answer in zip(tokens, prompts, ours.tokens, strict=True):
        row[: len(prompt) + NEW] = [*prompt, *answer]
    index = np.arange(width)[None]
    in_prompt = index < lengths[:, None]
    mask = {"all": in_prompt | True, "prompt": in_prompt, "generated": ~in_prompt}[where]
    steering = steering.masked(jnp.asarray(mask))
    tokens = jnp.asarray(tokens)
    if operation == "replace":
        _, h = score(base, tokens, cfg=cfg, capture=Capture(layers))
        steering = replace(steering, target=jnp.einsum("nbtd,nd->nbt", h, unit(vectors)))
    logits, _ = score(params, tokens, cfg=cfg, steering=steering)
    scores = np.asarray(jax.nn.log_softmax(logits[:, :-1]))
    picked = np.take_along_axis(scores, np.asarray(tokens)[:, 1:, None], axis=2)[..., 0]
    for row, length, log_probs in zip(picked, lengths, ours.log_probs, strict=True):
        np.testing.assert_allclose(log_probs, row[length - 1 :][:NEW], atol=2e-4)
    unsteered, _ = score(params, tokens, cfg=cfg, steering=steering.scaled(0.0))
    assert np.abs(unsteered - logits).max() > 0.1


def test_replacing_by_a_model_s_own_component_is_no_steering():
    steering = steer(VECTOR, 1, operation="replace")
    ours = sample(steering=steering, reference_params=PARAMS)
    plain = sample()
    np.testing.assert_array_equal(ours.tokens, plain.tokens)
    np.testing.assert_allclose(ours.log_probs, plain.log_probs, atol=1e-5)


@pytest.mark.parametrize("operation", ["add", "project_out"])
def test_a_neutral_steering_is_none_bit_for_bit(operation):
    """In float32; a program in bfloat16 rounds where its steering is, even if that adds zeros."""
    same(sample(steering=neutral(steer(VECTOR, 0, operation=operation))), sample())


def test_an_adapter_samples_as_its_merged_weights():
    q = PARAMS["layers"]["q"]
    a = jax.random.normal(jax.random.key(8), (LLAMA.layers, LLAMA.dim, 2))
    b = jax.random.normal(jax.random.key(9), (LLAMA.layers, 2, q.shape[2]))
    adapted = LoraWeight(q, a, b, jnp.full(LLAMA.layers, 0.1))
    with_q = [PARAMS | {"layers": PARAMS["layers"] | {"q": w}} for w in (adapted, adapted.merge())]
    unmerged, merged = (sample(params=params) for params in with_q)
    np.testing.assert_array_equal(unmerged.tokens, merged.tokens)
    assert (merged.tokens != sample().tokens).any()


@pytest.mark.parametrize("operation", ["add", "replace"])
def test_without_room_for_a_copy_of_the_weights_answers_are_the_same(operation, monkeypatch):
    """`replace` reads a second model, the base."""
    sampling = SamplingConfig(6, temperature=0.9)
    with_reference = {"reference_params": PARAMS} if operation == "replace" else {}
    steering = steer(VECTOR, 1, operation=operation)
    roomy = sample(SHORT, 0, sampling, steering, **with_reference)
    monkeypatch.setattr(sampling_module, "free_bytes", lambda: 0)
    with count_compilations() as compiled:
        tight = sample(SHORT, 0, sampling, steering, **with_reference)
    assert compiled.count("write_answers") == 1  # another program
    same(tight._replace(log_probs=roomy.log_probs), roomy)
    np.testing.assert_allclose(tight.log_probs, roomy.log_probs, atol=1e-5)


def count_programs(compiled):
    return compiled.count("read_prompts"), compiled.count("write_answers")


def test_one_compilation_serves_vectors_scales_temperatures_keys_and_numbers_of_requests():
    sampling = SamplingConfig(5, temperature=0.8)  # of no other test
    plan = SamplingPlan((20,), (25,), ROWS)
    with count_compilations() as compiled:
        sample(SHORT, 0, sampling, steer(VECTOR, 1), plan=plan)
        sample(SHORT[:1], 1, sampling, steer(2 * VECTOR, 1, scale=0.1), plan=plan)
        sample(SHORT * 2, 2, replace(sampling, temperature=0.3), steer(VECTOR, 1), plan=plan)
        sample(SHORT, 3, sampling, neutral(steer(VECTOR, 1)), plan=plan)  # the control
    assert count_programs(compiled) == (1, 1)
    with count_compilations() as compiled:  # temperature 1 has a program of its own
        sample(SHORT, 0, replace(sampling, temperature=1), steer(VECTOR, 1), plan=plan)
        sample(SHORT, 0, replace(sampling, temperature=1.0), steer(VECTOR, 1), plan=plan)
    assert count_programs(compiled) == (0, 1)


def test_many_prompt_lengths_are_at_most_three_programs():
    prompts = [[1] * n for n in range(1, 57)]
    with count_compilations() as compiled:
        sample(prompts, sampling=SamplingConfig(7), steering=steer(VECTOR, 1))
    reading, writing = count_programs(compiled)
    assert reading <= 2 and writing == 1


def test_plans_of_other_sizes_give_the_same_tokens():
    """Answers of 11 tokens, some that stop early; log-probabilities up to rounding."""
    sampling = SamplingConfig(11, temperature=0.9, stop_tokens=(3, 5, 7))
    plans = [
        SamplingPlan((32,), (43,), ROWS),
        SamplingPlan((8, 32), (36, 40, 43), 3),
        SamplingPlan((48,), (59,), 8),
    ]
    first, *others = (sample(PROMPTS, 0, sampling, steer(VECTOR, 1), plan=plan) for plan in plans)
    assert len(set(first.lengths.tolist())) > 1
    for other in others:
        same(other._replace(log_probs=first.log_probs), first)
        np.testing.assert_allclose(other.log_probs, first.log_probs, atol=1e-5)


def test_progress_counts_every_request_once():
    done = []
    sample(progress=done.append)
    assert done == [4, 1]


def test_no_prompts_are_no_samples():
    empty = sample([])
    assert [x.shape for x in empty] == [(0, NEW), (0,), (0, NEW)]


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"max_new_tokens": 0}, "max_new_tokens=0"),
        ({"temperature": -0.5}, "temperature=-0.5"),
        ({"temperature": float("nan")}, "temperature=nan"),
        ({"top_k": 0}, "top_k=0"),
        ({"top_p": 0.0}, "top_p=0.0"),
        ({"top_p": 1.2}, "top_p=1.2"),
    ],
)
def test_bad_settings(setting, message):
    with pytest.raises(InputError, match=message):
        SamplingConfig(**{"max_new_tokens": 4} | setting)


def test_bad_steer_positions():
    setting = SamplingConfig(4)
    # Past the type checker of the tests, which would refuse the name before our own check does.
    object.__setattr__(setting, "steer_positions", "answers")
    with pytest.raises(InputError, match="steer_positions='answers'"):
        setting.__post_init__()


TWO = jnp.stack([VECTOR, VECTOR])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"prompts": [[1], []]}, "prompt 1 is empty"),
        ({"prompts": [[1], [1] * 60]}, "prompt 1 has 60 tokens.*context of 64.*room for 56"),
        ({"prompts": [[1, 67]]}, "prompt 0 holds the token id 67, outside the vocabulary of 67"),
        ({"prompts": [[-1]]}, "prompt 0 holds the token id -1"),
        ({"prompts": (np.ones((2, 3), int), np.array([1, 4]))}, "lengths? each, at most 3"),
        ({"sampling": SamplingConfig(2, stop_tokens=(99,))}, "stop token 99"),
        ({"batch_size": 0}, "batch_size=0"),
        (
            {"plan": SamplingPlan((8,), (16,), 2)},
            "of up to 16 tokens.*plan for 8 and 8",
        ),
        ({"key": jax.random.split(jax.random.key(0), 3)}, "keys have the shape (3,) for 5"),
        ({"key": jax.random.PRNGKey(0)}, "the key is an array of uint32"),
        ({"steering": steer(jnp.ones(31), 1)}, "shape (1, 31).*needs (1, 32)"),
        ({"steering": steer(VECTOR, 2)}, "layer 2 is out of range"),
        ({"steering": Steering(TWO, jnp.ones(()), (1,))}, "shape (2, 32).*needs (1, 32)"),
        ({"steering": Steering(TWO[:1], jnp.ones(4), (1,))}, "scale has the shape (4,)"),
        (
            {"steering": steer(VECTOR, 1).masked(jnp.ones((2, 3), bool))},
            "mask and .*target are set",
        ),
        ({"steering": steer(VECTOR, 1, operation="replace")}, "needs reference_params"),
        ({"steering": steer(VECTOR, 1), "reference_params": PARAMS}, "operation is 'add'"),
        ({"reference_params": PARAMS}, "operation is 'none'"),
    ],
)
def test_bad_input(arguments, message):
    for bracket in "()":
        message = message.replace(bracket, f"\\{bracket}")
    with pytest.raises(InputError, match=message):
        sample(**arguments)
