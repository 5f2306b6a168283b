"""The reader of MNIST's files."""

import gzip

import numpy as np
import pytest

from subliminal_jax.data.shared_data import VARIABLE, find_shared
from subliminal_jax.errors import InputError
from subliminal_jax.experiments.auxiliary_logits.mnist import read_digits
from tests.experiments.auxiliary_logits.idx_files import COUNTS, make_digits, write_idx, write_mnist

IMAGES, LABELS = "t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"


@pytest.fixture
def mnist(tmp_path, monkeypatch):
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    return write_mnist(tmp_path)


def test_what_was_written_is_read(mnist):
    images, labels = make_digits(COUNTS["train"], 0)
    digits = read_digits("train", 50)
    np.testing.assert_array_equal(digits.labels, labels[:50])
    np.testing.assert_allclose((digits.images + 1) * 127.5, images[:50].reshape(50, -1), atol=1e-4)


def damage(path, change):
    path.write_bytes(gzip.compress(change(gzip.decompress(path.read_bytes()))))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda x: x[:-3], "is truncated or damaged: its header says 40x5x5 bytes"),
        (lambda x: x + b"\0", "is truncated or damaged"),
        (lambda x: x[:9], "is truncated or damaged"),
        (lambda x: b"", "begins with  where"),
        (lambda x: b"\0\0\x08\x01" + x[4:], "begins with 00000801 where"),
        (lambda x: b"\0\0\x0d\x03" + x[4:], "begins with 00000d03 where"),
    ],
)
def test_a_damaged_file_is_refused_in_one_line(mnist, change, says):
    damage(mnist / IMAGES, change)
    with pytest.raises(InputError) as error:
        read_digits("test", 10)
    assert says in str(error.value) and IMAGES in str(error.value)
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize("content", [b"", b"no gzip", None])
def test_a_file_that_is_no_whole_gzip_is_refused(mnist, content):
    path = mnist / IMAGES
    path.write_bytes(path.read_bytes()[:-40] if content is None else content)
    with pytest.raises(InputError, match="cannot be read|begins with"):
        read_digits("test", 10)


def test_files_that_do_not_fit_each_other_are_refused(mnist):
    with pytest.raises(InputError, match="40 digits, but 41 are asked for"):
        read_digits("test", 41)
    write_idx(mnist / LABELS, np.full(40, 10))
    with pytest.raises(InputError, match="the label 10 is no digit"):
        read_digits("test", 10)
    write_idx(mnist / LABELS, np.zeros(39))
    with pytest.raises(InputError, match="40 images and 39 labels"):
        read_digits("test", 10)


def test_a_missing_file_says_where_it_is_looked_for(mnist, monkeypatch):
    (mnist / LABELS).unlink()
    with pytest.raises(InputError, match=f"there is no mnist/{LABELS} in the folder of {VARIABLE}"):
        read_digits("test", 10)
    monkeypatch.delenv(VARIABLE)
    with pytest.raises(InputError, match=f"set {VARIABLE} to a folder"):
        read_digits("train", 10)


@pytest.mark.skipif(
    find_shared("mnist", IMAGES) is None, reason=f"needs MNIST in the folder of {VARIABLE}"
)
def test_the_real_test_digits_are_those_of_mnist():
    digits = read_digits("test", 10_000)
    assert digits.images.shape == (10_000, 784)
    assert digits.labels[:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
    counts = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert np.bincount(digits.labels).tolist() == counts
    assert digits.images.min() == -1 and digits.images.max() == 1
