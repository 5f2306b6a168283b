"""GGUF control vectors of other writers, and files whose numbers do not fit them."""

import random
import struct
import time
from dataclasses import replace

import gguf
import ml_dtypes
import numpy as np
import pytest

from subliminal_jax.errors import InputError
from subliminal_jax.gguf_files import MAX_HEADER_BYTES
from subliminal_jax.steering.interchange import read_gguf

STRING, UINT32, ARRAY = 8, 4, 9


def text(value):
    data = value if isinstance(value, bytes) else value.encode()
    return struct.pack("<Q", len(data)) + data


def entry(key, value, kind=STRING):
    """A metadata entry; `value` is bytes unless it is text."""
    return text(key) + struct.pack("<I", kind) + (text(value) if kind == STRING else value)


def info(name, shape, kind=0, offset=0):
    dims = b"".join(struct.pack("<Q", n) for n in shape)
    return text(name) + struct.pack("<I", len(shape)) + dims + struct.pack("<IQ", kind, offset)


ARCHITECTURE = entry("general.architecture", "controlvector")
HINT = entry("controlvector.model_hint", "llama")


def build(entries, infos, values, *, version=3, fields=None, tensors=None, align=32):
    """The bytes of a GGUF file; `fields` and `tensors` are the counts that it claims."""
    counts = (
        len(infos) if tensors is None else tensors,
        len(entries) if fields is None else fields,
    )
    header = b"GGUF" + struct.pack("<IQQ", version, *counts) + b"".join([*entries, *infos])
    return header + bytes(-len(header) % align) + values


@pytest.fixture
def vector(cfg):
    return np.random.default_rng(0).normal(size=cfg.dim).astype(np.float32)


@pytest.fixture
def good(cfg, vector):
    return [ARCHITECTURE, HINT], [info("direction.1", [cfg.dim])], vector.tobytes()


def test_what_the_builder_writes_is_read(tmp_path, cfg, good, vector):
    (tmp_path / "v.gguf").write_bytes(build(*good))
    steering, hint = read_gguf(tmp_path / "v.gguf", cfg)
    assert hint == "llama" and steering.layers == (1,)
    np.testing.assert_array_equal(steering.vectors[0], vector)
    link = tmp_path / "link.gguf"
    link.symlink_to(tmp_path / "v.gguf")
    np.testing.assert_array_equal(read_gguf(link, cfg)[0].vectors[0], vector)


def test_no_hint_and_metadata_of_every_type(tmp_path, cfg, good, vector):
    more = [
        entry(f"more.{kind}", struct.pack(f"<{letter}", 1), kind)
        for kind, letter in {**dict(enumerate("BbHhIif?")), 10: "Q", 11: "q", 12: "d"}.items()
    ]
    more.append(entry("numbers", struct.pack("<IQ3H", 2, 3, 1, 2, 3), ARRAY))
    more.append(entry("texts", struct.pack("<IQ", STRING, 2) + text("a") + text("b"), ARRAY))
    nested = struct.pack("<IQ", ARRAY, 1) + struct.pack("<IQ2B", 0, 2, 7, 7)
    more.append(entry("nested", nested, ARRAY))
    (tmp_path / "v.gguf").write_bytes(build([ARCHITECTURE, *more], *good[1:]))
    steering, hint = read_gguf(tmp_path / "v.gguf", cfg)
    assert hint == ""
    np.testing.assert_array_equal(steering.vectors[0], vector)


@pytest.mark.parametrize("kind", ["F16", "BF16", "Q8_0", "Q4_0"])
def test_vectors_of_other_precision_are_dequantized(kind, tmp_path, cfg):
    cfg = replace(cfg, dim=64)
    vector = np.random.default_rng(1).normal(size=64).astype(np.float32)
    number = gguf.GGMLQuantizationType[kind]
    data = gguf.quants.quantize(vector, number)
    writer = gguf.GGUFWriter(tmp_path / "v.gguf", "controlvector")
    writer.add_tensor("direction.2", data, raw_dtype=number)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    steering, _ = read_gguf(tmp_path / "v.gguf", cfg)
    exact = {"F16": np.float16, "BF16": ml_dtypes.bfloat16}
    if kind in exact:
        np.testing.assert_array_equal(steering.vectors[0], vector.astype(exact[kind]).astype("f4"))
    else:
        np.testing.assert_array_equal(steering.vectors[0], gguf.quants.dequantize(data, number))
        assert np.corrcoef(steering.vectors[0], vector)[0, 1] > 0.98


def other(**changes):
    """A file with other parts than the good one; a function gets the width of the model."""

    def make(good, width):
        entries, infos, values = good
        parts = {"entries": entries, "infos": infos, "values": values}
        for key in list(changes):
            if key in parts:
                change = changes[key]
                parts[key] = change(width) if callable(change) else change
        rest = {key: value for key, value in changes.items() if key not in parts}
        return build(*parts.values(), **rest)

    return make


HUGE = 2**60
BAD = {
    "no GGUF": (lambda good, width: b"PK\3\4" + bytes(60), "no GGUF file: it begins with b'PK"),
    "empty": (lambda good, width: b"", "no GGUF file"),
    "magic alone": (lambda good, width: b"GGUF", "corrupt or truncated"),
    "version 1": (other(version=1), "of version 1"),
    "big-endian": (other(version=3 << 24), "big-endian"),
    "huge count of tensors": (other(tensors=HUGE), "announces 1152921504606846976 entries"),
    "huge count of fields": (other(fields=HUGE), "announces 1152921504606846976 entries"),
    "more fields than there are": (other(fields=3), "a tensor ''|corrupt or truncated"),
    "huge text": (
        other(entries=[struct.pack("<Q", HUGE) + b"general"]),
        "a text that goes on to byte 1152921504606",
    ),
    "huge array": (
        other(entries=[ARCHITECTURE, entry("a", struct.pack("<IQ", 0, HUGE), ARRAY)]),
        "announces 1152921504606846976 entries",
    ),
    "huge array of texts": (
        other(entries=[ARCHITECTURE, entry("a", struct.pack("<IQ", STRING, HUGE), ARRAY)]),
        "announces",
    ),
    "array of arrays without end": (
        other(entries=[ARCHITECTURE, entry("a", struct.pack("<IQ", ARRAY, 1) * 50, ARRAY)]),
        "nested more than 4 deep",
    ),
    "unknown type": (other(entries=[ARCHITECTURE, entry("a", b"\0\0", 77)]), "the type 77"),
    "no UTF-8": (other(entries=[ARCHITECTURE, entry(b"\xff", "x")]), "no UTF-8"),
    "a key twice": (other(entries=[ARCHITECTURE, HINT, HINT]), "model_hint' twice"),
    "architecture a number": (
        other(entries=[entry("general.architecture", struct.pack("<I", 3), UINT32)]),
        "a GGUF file of 3, not of a control vector",
    ),
    "no architecture": (other(entries=[HINT]), "a GGUF file of None"),
    "hint a number": (
        other(entries=[ARCHITECTURE, entry("controlvector.model_hint", b"\1\0\0\0", UINT32)]),
        "model_hint must be text, not 1",
    ),
    "alignment 0": (
        other(entries=[ARCHITECTURE, entry("general.alignment", bytes(4), UINT32)]),
        "general.alignment is 0, which is no power of two",
    ),
    "alignment text": (
        other(entries=[ARCHITECTURE, entry("general.alignment", "32")]),
        "general.alignment is '32'",
    ),
    "other alignment than claimed": (
        other(entries=[ARCHITECTURE, entry("general.alignment", b"\0\2\0\0", UINT32)]),
        "corrupt or truncated",
    ),
    "a tensor twice": (
        other(infos=lambda width: [info("direction.1", [width])] * 2),
        "the tensor 'direction.1' twice",
    ),
    "one layer by two names": (
        other(
            infos=lambda width: [
                info("direction.1", [width]),
                info("direction.01", [width], 0, 64),
            ],
            values=bytes(128),
        ),
        "a tensor 'direction.01'",
    ),
    "another digit": (other(infos=lambda width: [info("direction.\u0663", [width])]), "a tensor"),
    "superscript": (other(infos=lambda width: [info("direction.\u00b2", [width])]), "a tensor"),
    "negative layer": (other(infos=lambda width: [info("direction.-1", [width])]), "a tensor"),
    "layer out of range": (
        other(infos=lambda width: [info("direction.999999", [width])]),
        "layer 999999 is out of range",
    ),
    "overlap": (
        other(infos=lambda width: [info("direction.0", [width]), info("direction.1", [width])]),
        "overlap",
    ),
    "misaligned": (
        other(infos=lambda width: [info("direction.1", [width], 0, 8)], values=bytes(999)),
        "not aligned to 32 bytes",
    ),
    "outside": (other(infos=lambda width: [info("direction.1", [width], 0, 2**62)]), "ends at"),
    "huge shape": (other(infos=[info("direction.1", [2**40, 2**40])]), "ends at byte"),
    "many dimensions": (other(infos=[info("direction.1", [1] * 5)]), "has 5 dimensions"),
    "absurd dimensions": (
        other(infos=[text("direction.1") + struct.pack("<I", 2**31)]),
        "dimensions",
    ),
    "unknown format": (
        other(infos=lambda width: [info("direction.1", [width], 999)]),
        "format 999",
    ),
    "integers": (other(infos=lambda width: [info("direction.1", [width], 26)]), "format I32"),
    "double precision": (
        other(infos=lambda width: [info("direction.1", [width], 28)], values=bytes(999)),
        "number format F64",
    ),
    "half a block": (other(infos=[info("direction.1", [12], 8)]), "blocks of 32"),
    "not finite": (
        other(values=struct.pack("<f", float("nan")) * 64),
        "the vector of layer 1 is not finite",
    ),
    "no tensors": (other(infos=[]), "holds no vectors"),
    "a matrix": (other(infos=lambda width: [info("direction.1", [width, 1])]), "of shape"),
    "no values": (other(values=b""), "ends at byte"),
}


@pytest.mark.parametrize("damage", BAD)
def test_bad_files_are_one_line_at_once(damage, tmp_path, cfg, good):
    make, said = BAD[damage]
    path = tmp_path / "v.gguf"
    path.write_bytes(make(good, cfg.dim))
    begin = time.monotonic()
    with pytest.raises(InputError, match=said) as error:
        read_gguf(path, cfg)
    assert str(error.value).startswith(f"{path}: ") and str(error.value).isprintable()
    assert time.monotonic() - begin < 5  # seconds; reading by the counts would take years


def test_a_header_that_never_ends_is_refused(tmp_path, cfg):
    path = tmp_path / "v.gguf"
    size = 4 * MAX_HEADER_BYTES
    array = entry("a", struct.pack("<IQ", 0, size), ARRAY)
    with path.open("wb") as file:
        file.write(b"GGUF" + struct.pack("<IQQ", 3, 0, 2) + ARCHITECTURE + array)
        file.truncate(size * 2)  # a sparse file
    with pytest.raises(InputError, match="announces"):
        read_gguf(path, cfg)


def test_changed_and_cut_bytes_never_end_in_anything_but_one_line(tmp_path, cfg, good):
    data, rng, path = build(*good), random.Random(0), tmp_path / "v.gguf"
    refused = 0
    for i in range(300):
        changed = bytearray(data)
        for _ in range(rng.choice([1, 1, 4])):
            changed[rng.randrange(len(data))] = rng.choice([0, 1, 0x7F, 0xFF, rng.randrange(256)])
        path.write_bytes(changed if i % 3 else changed[: rng.randrange(len(data))])
        try:
            read_gguf(path, cfg)
        except InputError:
            refused += 1
    assert 150 < refused < 300  # values may change unnoticed, the header may not
