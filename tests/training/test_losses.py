"""Losses against naive ones, and what must not change them."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from subliminal_jax.data.batching import pack, pad_pairs
from subliminal_jax.models.forward import forward
from subliminal_jax.models.steered import Steering, steer
from subliminal_jax.steering.teacher import Teacher
from subliminal_jax.training import losses
from subliminal_jax.training.batch import max_targets, stack_rows
from subliminal_jax.training.losses import (
    ModelInput,
    example_losses,
    heldout_loss,
    mean_loss,
    next_token_log_probs,
    sequence_log_probs,
    token_divergences,
    token_losses,
)
from subliminal_jax.training.objectives import KL, CrossEntropy, StudentModel
from tests.training.tiny import CFG, TIME, base, close, pairs, rows

ROWS = 5
BASE, BATCH = base(), rows(ROWS)
PREDICTED = np.asarray(BATCH.loss_mask)[:, 1:] != 0
LAST = CFG.layers - 1
ZERO, STUDENT = jnp.zeros((CFG.dim,)), 0.3 * jnp.cos(jnp.arange(CFG.dim))
TEACHER = jnp.linspace(-1.0, 1.0, CFG.dim)
TEACHER_STEERING = steer(TEACHER, LAST)

logits_of = jax.jit(lambda tokens, vector: forward(BASE, tokens, CFG, steer(vector, LAST))[0])


def log_softmax(tokens, vector=ZERO) -> np.ndarray:
    """[rows, time, vocab] in float64, from the logits of the plain forward pass."""
    n, time = tokens.shape
    padded = jnp.pad(jnp.asarray(tokens), ((0, 8 - n), (0, 16 - time)))  # one shape: one program
    logits = np.asarray(logits_of(padded, vector), np.float64)[:n, :time]
    return logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))


def program(kind, **options):
    """(params, student's vector, teacher's vector) -> ((mean, losses), gradients), compiled."""

    def loss(params, student, teacher):
        reader = ModelInput(params, BATCH, steer(student, LAST))
        if kind == "kl":
            teacher_input = ModelInput(BASE, BATCH, steer(teacher, LAST))
            token_values, weights = token_divergences(reader, teacher_input, CFG, **options)
        else:
            token_values, weights = token_losses(params, BATCH, CFG, reader.steering, **options)
        return mean_loss(token_values, weights), token_values

    return jax.jit(jax.value_and_grad(loss, argnums=(0, 1, 2), has_aux=True))


@pytest.fixture(scope="module")
def programs():
    return {kind: program(kind) for kind in ("cross_entropy", "kl")}


@pytest.fixture(scope="module")
def plain(programs):
    return {kind: run(BASE, STUDENT, TEACHER) for kind, run in programs.items()}


def assert_same(found, expected):
    """Equal means and gradients."""
    ((mean, _), gradients), ((expected_mean, _), expected_gradients) = found, expected
    close((mean, gradients), (expected_mean, expected_gradients))


def test_cross_entropy_is_the_naive_one(plain):
    (mean, token_values), gradients = plain["cross_entropy"]
    log_q = log_softmax(BATCH.tokens, STUDENT)[:, :-1]
    targets = np.asarray(BATCH.tokens)[:, 1:]
    expected = -np.take_along_axis(log_q, targets[..., None], axis=-1)[..., 0][PREDICTED]
    np.testing.assert_allclose(token_values[PREDICTED], expected, atol=1e-5)
    assert float(mean) == pytest.approx(expected.mean(), rel=1e-5)
    assert all(bool(g.any()) for g in jax.tree.leaves(gradients[:2]))


def test_kl_is_the_naive_one_and_gives_the_teacher_no_gradient(plain):
    (mean, token_values), gradients = plain["kl"]
    log_q, log_p = (log_softmax(BATCH.tokens, v)[:, :-1] for v in (STUDENT, TEACHER))
    expected = (np.exp(log_p) * (log_p - log_q)).sum(axis=-1)[PREDICTED]
    assert expected.min() > 1e-3
    np.testing.assert_allclose(token_values[PREDICTED], expected, atol=1e-5)
    assert float(mean) == pytest.approx(expected.mean(), rel=1e-4)
    assert all(bool(g.any()) for g in jax.tree.leaves(gradients[0]["layers"]))
    assert not gradients[2].any()


def test_kl_of_a_student_that_is_the_teacher_is_zero_and_so_is_its_gradient(programs, plain):
    (mean, _), gradients = programs["kl"](BASE, TEACHER, TEACHER)
    (other_mean, _), other_gradients = plain["kl"]
    assert abs(float(mean)) < 1e-6 < 1e-2 < float(other_mean)
    for g, other in zip(*map(jax.tree.leaves, (gradients[:2], other_gradients[:2])), strict=True):
        assert float(jnp.abs(g).max()) < 1e-4 * float(jnp.abs(other).max())


@pytest.mark.parametrize("kind", ["cross_entropy", "kl"])
def test_gathered_targets_in_chunks_are_all_targets_at_once(kind, plain, monkeypatch):
    monkeypatch.setattr(losses, "LOGIT_BUDGET", 7 * CFG.vocab)  # 7 does not divide the tokens
    assert max_targets(BATCH) < TIME - 1
    gathered = program(kind, max_targets=max_targets(BATCH))(BASE, STUDENT, TEACHER)
    assert_same(gathered, plain[kind])


def test_chunks_with_rematerialised_blocks_change_nothing(plain, monkeypatch):
    monkeypatch.setattr(losses, "LOGIT_BUDGET", 7 * CFG.vocab)
    again = program("cross_entropy", remat="block")(BASE, STUDENT, TEACHER)
    assert_same(again, plain["cross_entropy"])


def test_the_budget_bounds_the_memory(monkeypatch):
    """With it, a gradient never holds the logits of all tokens."""
    vocab, hidden = 4096, jnp.zeros((8, 64, CFG.dim))
    head = {"lm_head": jnp.zeros((CFG.dim, vocab))}

    def memory(tokens_at_once: int) -> int:
        def loss(head, hidden):
            targets = jnp.zeros(hidden.shape[:2], jnp.int32)
            return next_token_log_probs(head, hidden, targets, replace(CFG, vocab=vocab)).sum()

        monkeypatch.setattr(losses, "LOGIT_BUDGET", vocab * tokens_at_once)
        compiled = jax.jit(jax.grad(loss)).lower(head, hidden).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    all_logits = 4 * vocab * 8 * 64
    assert memory(8 * 64) >= all_logits
    assert memory(32) < all_logits / 4


@pytest.mark.parametrize("same_length", [False, True])
def test_kl_to_a_teacher_with_prompts_of_its_own(same_length):
    """Token by token against the naive one; a teacher's prompt may also be the shorter one."""
    prompts, completions = pairs(ROWS, seed=1)
    if same_length:  # the longest completion fills the row: there is nothing to leave out
        prompts = [[1]] + [[1, 2, 3]] * (ROWS - 1)
        completions[0] = [*completions[0], 5, 6]
        teacher_prompts, length, longer = [[4]] * ROWS, TIME, TIME
    else:
        teacher_prompts, length, longer = [[7, 3, 9, *p] for p in prompts], TIME, TIME + 3
    student = pad_pairs(prompts, completions, length)
    teacher = pad_pairs(teacher_prompts, completions, longer)
    assert (max_targets(student) == length - 1) == same_length
    log_q, log_p = log_softmax(student.tokens), log_softmax(teacher.tokens, TEACHER)
    kl = jax.jit(partial(token_divergences, cfg=CFG, max_targets=max_targets(student)))
    divergences, weights = kl(
        ModelInput(BASE, student), ModelInput(BASE, teacher, TEACHER_STEERING)
    )
    for i, completion in enumerate(completions):
        q = log_q[i, len(prompts[i]) - 1 :][: len(completion)]
        p = log_p[i, len(teacher_prompts[i]) - 1 :][: len(completion)]
        naive = (np.exp(p) * (p - q)).sum(axis=-1)
        np.testing.assert_allclose(divergences[i][weights[i] > 0], naive, atol=1e-5)


def test_a_teacher_with_other_rows_needs_max_targets():
    with pytest.raises(ValueError, match="max_targets"):
        token_divergences(ModelInput(BASE, BATCH), ModelInput(BASE, rows(ROWS)), CFG)


def test_only_completions_have_a_loss():
    """The logits that predict prompt or padding get no gradient at all, all others do."""

    def loss(perturbation, batch):  # after the last block it reaches its own token's logits alone
        steering = Steering(perturbation[None], jnp.ones(()), (LAST,))
        return mean_loss(*token_losses(BASE, batch, CFG, steering))

    zero = jnp.zeros((ROWS, TIME - 1, CFG.dim))
    loss_and_gradient = jax.jit(jax.value_and_grad(loss))
    value, gradient = loss_and_gradient(zero, BATCH)
    assert 0 < PREDICTED.sum() < PREDICTED.size
    assert not gradient[~PREDICTED].any()
    assert (jnp.abs(gradient).max(axis=-1) > 0)[PREDICTED].all()
    other = BATCH._replace(tokens=jnp.where(BATCH.positions < 0, 17, BATCH.tokens))
    assert float(loss_and_gradient(zero, other)[0]) == float(value)


def test_sequence_log_probs_sum_the_completion():
    log_q = log_softmax(BATCH.tokens)
    tokens, mask = np.asarray(BATCH.tokens), np.asarray(BATCH.loss_mask)
    expected = [
        sum(log_q[i, t - 1, tokens[i, t]] for t in range(1, TIME) if mask[i, t])
        for i in range(ROWS)
    ]
    find = jax.jit(partial(sequence_log_probs, cfg=CFG, max_targets=max_targets(BATCH)))
    np.testing.assert_allclose(find(BASE, BATCH), expected, rtol=1e-5)
    weighted = BATCH._replace(loss_mask=0.3 * BATCH.loss_mask)  # a probability knows no weights
    np.testing.assert_allclose(find(BASE, weighted), expected, rtol=1e-5)


def test_packed_documents_are_separate_rows():
    prompts, completions = pairs(ROWS, seed=2)
    documents = [p + c for p, c in zip(prompts, completions, strict=True)]
    packed = pack(documents, 2 * TIME)
    assert len(packed.tokens) < ROWS
    find = jax.jit(partial(token_losses, cfg=CFG))
    together, weights = find(BASE, packed.batch(slice(None)))
    for document in documents:
        n, start = len(document), 1  # all tokens but a document's first are predicted
        log_q = log_softmax(np.asarray([document]))[0]
        expected = [-log_q[t - 1, document[t]] for t in range(start, n)]
        ((row, offset),) = [
            (r, t)
            for r in range(len(packed.tokens))
            for t in range(2 * TIME - n + 1)
            if packed.tokens[r, t : t + n].tolist() == document and packed.positions[r, t] == 0
        ]
        predicted = slice(offset + start - 1, offset + n - 1)
        np.testing.assert_allclose(together[row, predicted], expected, atol=1e-5)
        assert weights[row, predicted].all()
    assert int((weights != 0).sum()) == sum(len(document) - 1 for document in documents)


@pytest.mark.parity
def test_the_mean_loss_is_that_of_transformers(plain):
    torch = pytest.importorskip("torch")
    from transformers.loss.loss_utils import ForCausalLMLoss

    logits = log_softmax(BATCH.tokens, STUDENT)
    labels = np.where(BATCH.loss_mask > 0, BATCH.tokens, -100).astype(np.int64)
    expected = ForCausalLMLoss(torch.from_numpy(logits), torch.from_numpy(labels), CFG.vocab)
    (mean, _), _ = plain["cross_entropy"]
    assert float(mean) == pytest.approx(float(expected), rel=1e-5)


def test_means_with_weights():
    values = jnp.asarray([[1.0, 2.0, 9.0], [4.0, 9.0, 9.0], [9.0, 9.0, 9.0]])
    weights = jnp.asarray([[0.1, 0.3, 0.0], [0.2, 0.0, 0.0], [0.0, 0.0, 0.0]])
    assert float(mean_loss(values, weights)) == pytest.approx(1.5 / 0.6)
    np.testing.assert_allclose(example_losses(values, weights), [0.7 / 0.4, 4.0, 0.0], rtol=1e-6)
    assert float(mean_loss(values, jnp.zeros_like(weights))) == 0.0


@pytest.mark.parametrize("kind", ["cross_entropy", "kl"])
@pytest.mark.parametrize("at_once", [3, 8])
def test_heldout_loss_is_the_mean_over_all_rows(at_once, kind, plain):
    """5 rows in two pieces (one row is added to them), or at once; a token counts as a token."""
    (mean, _), _ = plain[kind]
    steering, options = steer(STUDENT, LAST), {"rows_at_once": at_once}
    options["max_targets"] = max_targets(BATCH)
    student, data = StudentModel(CFG, BASE, BASE, steering), stack_rows([BATCH])
    objectives = {
        "cross_entropy": [CrossEntropy()],
        # The teacher reads the student's rows, or rows of its own, which are the same here.
        "kl": [
            KL.from_teachers({"x": Teacher(TEACHER_STEERING)}, rows)
            for rows in (None, {"x": BATCH})
        ],
    }
    for objective in objectives[kind]:
        run = jax.jit(
            lambda objective: objective.heldout_loss(student, data, jnp.asarray(0), **options)
        )
        close(run(objective), mean)
    if kind == "cross_entropy":
        close(heldout_loss(BASE, BATCH, CFG, steering, **options), mean)
