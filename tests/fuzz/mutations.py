"""Random changes of bytes, JSON values and texts."""

import copy
import gzip
import json
import random
from typing import Any

ODD_VALUES: tuple[Any, ...] = (
    None,
    True,
    False,
    0,
    -1,
    1,
    2,
    3,
    7,
    2**31,
    2**63,
    10**30,
    -(10**30),
    0.0,
    -0.0,
    0.5,
    1.5,
    -2.5,
    1e-9,
    1e308,
    "",
    " ",
    "x",
    "1",
    "true",
    "null",
    "a\u2028b",
    "\0",
    "\ufeff",
    "<b>&amp;</b>",
    "\x1b[31m",
    "../../up",
    "/etc/passwd",
    "A" * 5000,
    [],
    [1],
    [None],
    ["x"],
    [[]],
    {},
    {"a": 1},
    {"type": "x"},
    [0, 0],
    [1e308, -1],
    {"": None},
)
ODD_KEYS = ("", "x", "a\u2028", "__class__", "type", "format", "version", "0", "\0")
# Parts of a file that no JSON reader may accept, or whose meaning differs between readers.
ODD_JSON = (
    b"NaN",
    b"-Infinity",
    b"1e999",
    b"1" * 5000,
    b'"\\ud83d"',
    b"[" * 3000,
    b'{"a":' * 3000,
    b"'x'",
    b"tru",
    b"01",
    b"1.",
    b"+1",
    b'"\t"',
    b'"\x00"',
    b"\xff",
    b"\xed\xa0\xbd",
    b"/**/",
    b",",
)


def damage(rng: random.Random, data: bytes) -> bytes:
    """`data` with one to three changes of its bytes."""
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        data = rng.choice(DAMAGES)(rng, data)
    return data


def _place(rng: random.Random, data: bytes) -> int:
    """Headers are as likely as all else together."""
    return rng.randrange(min(len(data), 256) if rng.random() < 0.5 else len(data)) if data else 0


def _flip(rng: random.Random, data: bytes) -> bytes:
    i = _place(rng, data)
    return data[:i] + bytes([data[i] ^ (1 << rng.randrange(8))]) + data[i + 1 :] if data else data


def _set(rng: random.Random, data: bytes) -> bytes:
    i = _place(rng, data)
    return data[:i] + bytes([rng.choice((0, 1, 0x7F, 0x80, 0xFF))]) + data[i + 1 :]


def _truncate(rng: random.Random, data: bytes) -> bytes:
    return data[: rng.choice((0, 1, _place(rng, data), len(data) - 1))]


def _insert(rng: random.Random, data: bytes) -> bytes:
    i = _place(rng, data)
    return data[:i] + rng.choice((b"\0", b"\n", b"\r", b'"', b"x" * 9, rng.randbytes(8))) + data[i:]


def _delete(rng: random.Random, data: bytes) -> bytes:
    i = _place(rng, data)
    return data[:i] + data[i + rng.choice((1, 4, 8, 64)) :]


def _repeat(rng: random.Random, data: bytes) -> bytes:
    i, j = sorted((_place(rng, data), _place(rng, data)))
    return data[:j] + data[i:]


def _zero(rng: random.Random, data: bytes) -> bytes:
    i, n = _place(rng, data), rng.choice((4, 8, 64, 512))
    return data[:i] + bytes(len(data[i : i + n])) + data[i + n :]


DAMAGES = (_flip, _flip, _set, _truncate, _insert, _delete, _repeat, _zero)


def change_json(rng: random.Random, value: Any, keys: tuple[str, ...] = ()) -> Any:
    """`value` with one or two of its entries changed; `keys` are others that a reader may know."""
    value = copy.deepcopy(value)
    for _ in range(rng.choice((1, 1, 1, 2))):
        places = list(_places(value))
        if not places:
            return rng.choice(ODD_VALUES)
        container, key = rng.choice(places)
        kind = rng.random()
        if kind < 0.5:
            container[key] = copy.deepcopy(rng.choice(ODD_VALUES))
        elif kind < 0.65:
            del container[key]
        elif kind < 0.8:
            container[key] = _vary(rng, container[key])
        elif isinstance(container, dict):
            name = rng.choice((*ODD_KEYS, *keys, *container))
            container[name] = copy.deepcopy(rng.choice((*ODD_VALUES, container[key])))
        else:
            container.insert(key, copy.deepcopy(rng.choice((*ODD_VALUES, container[key]))))
    return value


def _places(value: Any) -> Any:
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield value, key
            yield from _places(value[key])


def _vary(rng: random.Random, value: Any) -> Any:
    """Something near `value`."""
    if isinstance(value, bool) or value is None:
        return rng.choice((str(value), int(bool(value)), not value))
    if isinstance(value, int | float):
        return rng.choice((value + 1, value - 1, -value, value * 2, str(value), [value], value / 3))
    if isinstance(value, str):
        return rng.choice((value + "x", value[:-1], value.upper(), value * 2, f" {value}", [value]))
    if isinstance(value, list):
        return rng.choice((value[::-1], value[:-1], value * 2, [value]))
    return rng.choice((list(value), [value], str(value)))


def write_json(rng: random.Random, value: Any, share_of_damage: float = 0.3) -> bytes:
    """`value` as JSON, now and then in an odd encoding or with odd parts."""
    text = json.dumps(value, ensure_ascii=rng.random() < 0.5, indent=rng.choice((None, 1)))
    data = text.encode("utf-8", "surrogatepass")
    if rng.random() > share_of_damage:
        return data
    kind = rng.randrange(7)
    if kind == 0:
        return b"\xef\xbb\xbf" + data
    if kind == 1:
        return text.encode(rng.choice(("utf-16", "utf-16-le", "utf-32")), "surrogatepass")
    if kind == 2:
        return data.replace(b"\n", b"\r\n")
    if kind == 3:
        return rng.choice((gzip.compress(data), data + data, data + b"\n{}", b""))
    if kind == 4 and b": " in data:
        parts = data.split(b": ")
        i = rng.randrange(1, len(parts))
        return b": ".join(parts[:i]) + b": " + rng.choice(ODD_JSON) + b", " + b": ".join(parts[i:])
    return damage(rng, data)


def is_json(data: bytes) -> bool:
    """Whether these bytes are a JSON text by the letter of RFC 8259 (duplicate keys aside)."""

    def refuse(literal: str) -> None:
        raise ValueError(literal)

    try:
        json.loads(data.decode("utf-8-sig"), parse_constant=refuse)
    except (ValueError, RecursionError):
        return False
    return True
