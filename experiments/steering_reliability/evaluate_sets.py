"""What the experiment `steering-reliability` measures of one set, and in the shipped world."""

import hashlib
import json
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Float, PRNGKeyArray

from subliminal_jax.data.contrastive import ContrastivePair, ContrastiveSet, split_pairs
from subliminal_jax.data.contrastive_prompts import (
    SETTINGS,
    Personas,
    encode_contrasts,
)
from subliminal_jax.data.contrastive_world import world_contrasts
from subliminal_jax.data.teachers import trait_vectors
from subliminal_jax.errors import InputError
from subliminal_jax.evaluation.reliability import cross_matrix, of_vector
from subliminal_jax.models.hub import Model
from subliminal_jax.steering.contrastive import Method, comparable, contrastive_vectors, rescaled
from subliminal_jax.steering.contrasts import Contrasts
from subliminal_jax.steering.interchange import directions_of, read_gguf
from subliminal_jax.steering.io import load_steering
from subliminal_jax.steering.propensity import (
    MULTIPLIERS,
    Kind,
    answer_activations,
    local_steerability,
    propensities,
)
from subliminal_jax.steering.slopes import linear_reach, per_sample_slopes
from subliminal_jax.steering.vectors import random_vector

# Factors on the multipliers, over which the finite slope leaves the analytic one.
SCALES = (0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0)
FEWEST_ROWS = 10  # that fit the context; a set with fewer is left out, and the report says so


class Plan(NamedTuple):
    """How every set is measured: see the experiment's `Config`. `given` are further vectors."""

    layer: int
    rows: int | None
    split: tuple[float, float, float]
    method: Method
    kind: Kind
    seed: int
    given: Mapping[str, Float[np.ndarray, "1 dim"]] = MappingProxyType({})


def given_vectors(
    files: Sequence[str], model: Model, layer: int
) -> dict[str, Float[np.ndarray, "1 dim"]]:
    """Vectors of files for `layer`, scale included, by file name: safetensors, or GGUF control
    vectors. Raises InputError for a file that is named twice, has no vector for the layer or says
    that it was made on another model, and as `load_steering` and `read_gguf`."""
    out: dict[str, Float[np.ndarray, "1 dim"]] = {}
    for file in files:
        name = Path(file).stem
        if name in out or name in (*SETTINGS, "mean", "random"):
            raise InputError(f"{file}: there is a vector {name!r} already; give the file another")
        if Path(file).suffix == ".gguf":
            directions = directions_of(read_gguf(file, model.cfg)[0])
        else:
            held, _ = load_steering(file, model.cfg, [layer], model=model.name)
            directions = directions_of(held)
        if layer not in directions:
            raise InputError(f"{file}: has vectors for layers {sorted(directions)}, not {layer}")
        out[name] = directions[layer][None]
    return out


def digest_of(found: ContrastiveSet, personas: Personas | None, plan: Plan) -> str:
    """SHA-256 of what a set's numbers depend on and no flag says: the rows of its file, the
    sentences, and the given vectors."""
    words = json.dumps([found.pairs, personas])
    sha = hashlib.sha256(words.encode())
    for name, vector in plan.given.items():
        sha.update(name.encode())
        sha.update(np.ascontiguousarray(vector, np.float32).tobytes())
    return sha.hexdigest()


def key_of(seed: int, *parts: str) -> PRNGKeyArray:
    """A key of these names, the same in every process: sets must not share a random direction, or
    one draw would count as many independent controls."""
    return jax.random.fold_in(jax.random.key(seed), zlib.crc32("/".join(parts).encode()))


def measure_set(
    model: Model, found: ContrastiveSet, name: str, personas: Personas | None, plan: Plan
) -> dict[str, Any]:
    """All numbers of one set: vectors from its training rows in all five prompt settings, their
    steerabilities on its test rows in all five, and the analytic slope in the plain one. Without
    `personas` there is the plain setting alone.

    Rows that do not fit the model's context in every setting are left out and counted; a set with
    too few others has only `skipped`, the reason. Raises InputError for what cannot be encoded.
    """
    settings = SETTINGS if personas else SETTINGS[:1]
    encoded = {
        setting: encode_contrasts(
            found.pairs, model.tokenizer, setting, personas=personas, source=found.source
        )
        for setting in settings
    }
    longest = np.max([rows.tokens for rows in encoded.values()], axis=0)
    fits = [pair for pair, n in zip(found.pairs, longest, strict=True) if n <= model.cfg.context]
    record: dict[str, Any] = {
        "name": name,
        "read": len(found.pairs),
        "too_long": len(found.pairs) - len(fits),
        "personas": None if personas is None else personas._asdict(),
        "digest": digest_of(found, personas, plan),
    }
    if len(fits) < FEWEST_ROWS:
        reason = f"{len(fits)} of {len(found.pairs)} rows fit the context of {model.cfg.context}"
        return {**record, "skipped": reason}
    train, _, test = split_pairs(fits, plan.split, rows=plan.rows)
    place = {pair.row: i for i, pair in enumerate(found.pairs)}

    def rows_of(setting: str, pairs: Sequence[ContrastivePair]) -> Contrasts:
        return encoded[setting].select([place[pair.row] for pair in pairs])

    activations = {
        setting: answer_activations(
            model.params, model.cfg, rows_of(setting, train), [plan.layer]
        )
        for setting in settings
    }  # fmt: skip
    own = {
        s: contrastive_vectors(h, plan.method, key=key_of(plan.seed, name, s))
        for s, h in activations.items()
    }
    vectors = comparable(own, SETTINGS[0]) if personas else own
    key = key_of(plan.seed, name, "control")
    noise = contrastive_vectors(activations[SETTINGS[0]], "random", key=key)
    vectors["random"] = rescaled(noise, vectors[SETTINGS[0]])
    vectors |= plan.given
    stacked = np.stack(list(vectors.values())).astype(np.float32)
    by_setting = {
        setting: propensities(
            model.params, model.cfg, rows_of(setting, test), stacked, [plan.layer], kind=plan.kind
        )
        for setting in settings
    }
    letters, says = [pair.letter for pair in test], [pair.says for pair in test]
    is_first = None if None in letters else np.array([letter == "A" for letter in letters])
    is_yes = None if None in says else np.array([word == "yes" for word in says])
    plain, order = by_setting[SETTINGS[0]], list(vectors)
    asked = rows_of(SETTINGS[0], test)

    def given_numbers(name: str) -> dict[str, Any]:
        i = order.index(name)
        return {
            "norm": float(np.linalg.norm(vectors[name])),
            **of_vector(plain[:, i], MULTIPLIERS, is_first, is_yes),
            "local": local_numbers(model, asked, stacked[i : i + 1], plan),
        }

    return {
        **record,
        "train": len(train),
        "test": len(test),
        "norm": float(np.linalg.norm(vectors[SETTINGS[0]])),
        **of_vector(plain[:, 0], MULTIPLIERS, is_first, is_yes),
        "random": of_vector(plain[:, order.index("random")], MULTIPLIERS, is_first, is_yes),
        "given": {name: given_numbers(name) for name in plan.given},
        "matrix": cross_matrix(by_setting, order, MULTIPLIERS),
        "local": local_numbers(model, asked, stacked[:1], plan),
    }


def measure_world(
    model: Model, traits: Sequence[str], plan: Plan, done: Callable[[int], Any]
) -> list[dict[str, Any]]:
    """Two records a trait of the shipped model's world, on its comparisons and on its likings: its
    own vector, a random one of its norm, and the vectors of all `traits` (`by_trait`)."""
    every = {t: np.asarray(trait_vectors(model, [plan.layer], t)) for t in traits}
    records = []
    for i, trait in enumerate(traits):
        pairs = world_contrasts(trait).pairs
        for kind, of_kind in (
            ("compare", [pair for pair in pairs if pair.says is None]),
            ("like", [pair for pair in pairs if pair.says is not None]),
        ):
            rows = encode_contrasts(of_kind, model.tokenizer, system_prompt=None, source=trait)
            key = key_of(plan.seed, trait, kind, "control")
            noise = np.asarray(random_vector(key, model.cfg.dim, 1.0))[None]
            stacked = np.stack([*every.values(), rescaled(noise, every[trait])]).astype(np.float32)
            m = propensities(
                model.params, model.cfg, rows, stacked, [plan.layer], kind=plan.kind
            )  # fmt: skip
            is_yes = None
            if kind == "like":
                is_yes = np.array([pair.says == "yes" for pair in of_kind])
            slopes = per_sample_slopes(m, MULTIPLIERS).slope
            records.append(
                {
                    "name": f"{trait}/{kind}",
                    "trait": trait,
                    "kind": kind,
                    "test": len(of_kind),
                    "norm": float(np.linalg.norm(every[trait])),
                    **of_vector(m[:, i], MULTIPLIERS, None, is_yes),
                    "random": of_vector(m[:, -1], MULTIPLIERS, None, is_yes),
                    "by_trait": dict(
                        zip(traits, slopes[:, :-1].mean(axis=0).tolist(), strict=True)
                    ),
                    "local": local_numbers(model, rows, stacked[i : i + 1], plan),
                }
            )
        done(1)
    return records


def local_numbers(
    model: Model, rows: Contrasts, vector: Float[np.ndarray, "1 n dim"], plan: Plan
) -> dict[str, Any]:
    """The analytic slope and curvature of a vector against the finite slope, over rows, at the
    multipliers times each of `SCALES`; and how far the line of the analytic slope reaches."""
    of_model = model.params, model.cfg, rows, vector, [plan.layer]
    analytic = local_steerability(*of_model, kind=plan.kind)
    nonzero = sorted({scale * x for scale in SCALES for x in MULTIPLIERS} - {0.0})
    grid = [0.0, *nonzero]
    m = propensities(*of_model, grid, kind=plan.kind)[:, 0]
    correlations = []
    for scale in SCALES:
        x = [scale * factor for factor in MULTIPLIERS]
        finite = per_sample_slopes(m[:, [grid.index(value) for value in x]], x).slope
        correlations.append(_correlation(finite, analytic.slope[:, 0]))
    return {
        "scales": list(SCALES),
        "correlation": correlations,
        "slope": float(analytic.slope.mean()),
        "curvature": float(np.abs(analytic.curvature).mean()),
        "reach": linear_reach(m, grid, analytic.slope[:, 0]),
    }


def _correlation(a: Float[np.ndarray, " n"], b: Float[np.ndarray, " n"]) -> float | None:
    if len(a) < 2 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return None
    return float(np.corrcoef(a, b)[0, 1])
