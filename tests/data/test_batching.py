import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from subliminal_jax.data.batching import pack, pad_pairs
from subliminal_jax.errors import InputError

LENGTH = 12
ids = st.lists(st.integers(1, 99), min_size=1, max_size=LENGTH)


def unpack(packed):
    """The documents of the packed rows, read back by their segments."""
    for row, segments in zip(packed.tokens, packed.segment_ids, strict=True):
        for segment in range(1, segments.max() + 1):
            yield row[segments == segment].tolist()


@given(st.lists(ids, min_size=1, max_size=20))
def test_packing_loses_and_splits_nothing(documents):
    packed = pack(documents, LENGTH)
    assert sorted(unpack(packed)) == sorted(documents)
    padding = packed.segment_ids == 0
    np.testing.assert_array_equal(packed.positions == -1, padding)
    assert packed.padding_share == pytest.approx(padding.mean())
    assert (packed.tokens[padding] == 0).all()


@given(st.lists(ids, min_size=1, max_size=20))
def test_positions_restart_and_only_first_tokens_go_unpredicted(documents):
    packed = pack(documents, LENGTH)
    np.testing.assert_array_equal(packed.loss_mask == 1, packed.positions > 0)
    changes = np.diff(packed.segment_ids, axis=1) > 0
    assert (packed.positions[:, 1:][changes] == 0).all()
    assert (packed.positions[:, 0] == 0).all()


@given(st.lists(ids, min_size=1, max_size=30))
def test_packing_leaves_no_two_rows_that_would_fit_into_one(documents):
    used = np.sort((pack(documents, LENGTH).positions >= 0).sum(axis=1))
    assert len(used) == 1 or used[0] + used[1] > LENGTH


@given(st.lists(st.tuples(ids, ids), min_size=1, max_size=8))
def test_padded_rows_hold_prompt_then_completion(pairs):
    batch = pad_pairs([p for p, _ in pairs], [c for _, c in pairs], 2 * LENGTH, pad_id=7)
    for i, (prompt, completion) in enumerate(pairs):
        end = len(prompt) + len(completion)
        assert batch.tokens[i, :end].tolist() == prompt + completion
        assert (batch.tokens[i, end:] == 7).all()
        assert batch.positions[i].tolist() == [*range(end), *[-1] * (2 * LENGTH - end)]
        predicted = np.flatnonzero(np.asarray(batch.loss_mask[i]))
        assert predicted.tolist() == list(range(len(prompt), end))


def test_a_batch_of_packed_rows_is_those_rows():
    packed = pack([[1, 2], [3, 4, 5], [6]], 3)
    batch = packed.batch(np.array([1, 0]))
    np.testing.assert_array_equal(batch.tokens, packed.tokens[[1, 0]])
    np.testing.assert_array_equal(batch.segment_ids, packed.segment_ids[[1, 0]])


def test_documents_longer_than_a_row():
    documents = [[1, 2, 3, 4], [5, 6]]
    with pytest.raises(InputError, match="document 0 has 4 tokens, a row 3"):
        pack(documents, 3)
    dropped = pack(documents, 3, drop_long=True)
    assert list(unpack(dropped)) == [[5, 6]]
    assert dropped.left_out == 1
    with pytest.raises(InputError, match="no documents to pack"):
        pack(documents, 1, drop_long=True)


@pytest.mark.parametrize(
    ("prompt", "completion", "message"),
    [
        ([1] * 8, [2], "prompt of pair 0 has 8 tokens, the context 8"),
        ([1] * 5, [2] * 4, "pair 0 has 9 tokens, the context 8"),
        ([], [2], "pair 0 has an empty prompt"),
        ([1], [], "pair 0 has an empty completion"),
    ],
)
def test_pairs_that_cannot_be_batched(prompt, completion, message):
    with pytest.raises(InputError, match=message):
        pad_pairs([prompt], [completion], 8)


def test_unequal_numbers_of_prompts_and_completions():
    with pytest.raises(InputError, match="2 prompts but 1 completions"):
        pad_pairs([[1], [2]], [[3]], 8)
