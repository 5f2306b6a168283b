"""What the experiment `steering-reliability` measures of one set, and what it claims of all."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Float

from subliminal_jax.data.contrastive import ContrastivePair, ContrastiveSet, split_pairs
from subliminal_jax.data.contrastive_prompts import (
    SETTINGS,
    encode_contrasts,
    personas_of,
)
from subliminal_jax.data.contrastive_world import world_contrasts
from subliminal_jax.data.teachers import trait_vectors
from subliminal_jax.errors import InputError
from subliminal_jax.evaluation.reliability import cross_matrix, of_vector
from subliminal_jax.evaluation.statistics import (
    bootstrap_interval,
    mean_interval,
    paired_difference,
)
from subliminal_jax.models.config import ModelConfig
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
from subliminal_jax.steering.slopes import (
    LEAST_SELF_STEERABILITY,
    linear_reach,
    per_sample_slopes,
)
from subliminal_jax.study.claims import claim, verdict

# Factors on the multipliers, over which the finite slope leaves the analytic one.
SCALES = (0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0)
FEWEST_ROWS = 10  # that fit the context; a set with fewer is left out, and the report says so
ENOUGH = 0.99  # correlation of analytic and finite slopes at the smallest multipliers


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
    files: Sequence[str], cfg: ModelConfig, layer: int
) -> dict[str, Float[np.ndarray, "1 dim"]]:
    """Vectors of files for `layer`, scale included, by file name: safetensors, or GGUF control
    vectors. Raises InputError for a file that is named twice, has no vector for the layer, or as
    `load_steering` and `read_gguf`."""
    out: dict[str, Float[np.ndarray, "1 dim"]] = {}
    for file in files:
        name = Path(file).stem
        if name in out or name in (*SETTINGS, "mean", "random"):
            raise InputError(f"{file}: there is a vector {name!r} already; give the file another")
        if Path(file).suffix == ".gguf":
            directions = directions_of(read_gguf(file, cfg)[0])
        else:
            directions = directions_of(load_steering(file, cfg, [layer])[0])
        if layer not in directions:
            raise InputError(f"{file}: has vectors for layers {sorted(directions)}, not {layer}")
        out[name] = directions[layer][None]
    return out


def measure_set(model: Model, found: ContrastiveSet, name: str, plan: Plan) -> dict[str, Any]:
    """All numbers of one set: vectors from its training rows in all five prompt settings, their
    steerabilities on its test rows in all five, and the analytic slope in the plain one.

    Rows that do not fit the model's context in every setting are left out and counted; a set with
    too few others has only `skipped`, the reason. Raises InputError for what cannot be encoded.
    """
    personas = personas_of(found.name)
    encoded = {
        setting: encode_contrasts(
            found.pairs, model.tokenizer, setting, personas=personas, source=found.source
        )
        for setting in SETTINGS
    }
    longest = np.max([rows.tokens for rows in encoded.values()], axis=0)
    fits = [pair for pair, n in zip(found.pairs, longest, strict=True) if n <= model.cfg.context]
    record: dict[str, Any] = {
        "name": name,
        "read": len(found.pairs),
        "too_long": len(found.pairs) - len(fits),
        "personas": personas._asdict(),
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
        for setting in SETTINGS
    }  # fmt: skip
    key = jax.random.key(plan.seed)
    own = {s: contrastive_vectors(h, plan.method, key=key) for s, h in activations.items()}
    vectors = comparable(own, SETTINGS[0])
    noise = contrastive_vectors(activations[SETTINGS[0]], "random", key=key)
    vectors["random"] = rescaled(noise, vectors[SETTINGS[0]])
    vectors |= plan.given
    stacked = np.stack(list(vectors.values())).astype(np.float32)
    by_setting = {
        setting: propensities(
            model.params, model.cfg, rows_of(setting, test), stacked, [plan.layer], kind=plan.kind
        )
        for setting in SETTINGS
    }
    letters, says = [pair.letter for pair in test], [pair.says for pair in test]
    is_first = None if None in letters else np.array([letter == "A" for letter in letters])
    is_yes = None if None in says else np.array([word == "yes" for word in says])
    plain, order = by_setting[SETTINGS[0]], list(vectors)
    return {
        **record,
        "train": len(train),
        "test": len(test),
        "norm": float(np.linalg.norm(vectors[SETTINGS[0]])),
        **of_vector(plain[:, 0], MULTIPLIERS, is_first, is_yes),
        "random": of_vector(plain[:, order.index("random")], MULTIPLIERS, is_first, is_yes),
        "given": {
            name: of_vector(plain[:, order.index(name)], MULTIPLIERS, is_first, is_yes)
            for name in plan.given
        },
        "matrix": cross_matrix(by_setting, order, MULTIPLIERS),
        "local": local_numbers(model, rows_of(SETTINGS[0], test), stacked[:1], plan),
    }


def measure_world(
    model: Model, traits: Sequence[str], plan: Plan, done: Callable[[int], Any]
) -> list[dict[str, Any]]:
    """Two records a trait of the shipped model's world, on its comparisons and on its likings: its
    own vector, a random one of its norm, and the vectors of all `traits` (`by_trait`)."""
    every = {t: np.asarray(trait_vectors(model, [plan.layer], t)) for t in traits}
    records = []
    for i, trait in enumerate(traits):
        noise = np.random.default_rng((plan.seed, i)).normal(size=every[trait].shape)
        stacked = np.stack([*every.values(), rescaled(noise, every[trait])]).astype(np.float32)
        pairs = world_contrasts(trait).pairs
        for kind, of_kind in (
            ("compare", [pair for pair in pairs if pair.says is None]),
            ("like", [pair for pair in pairs if pair.says is not None]),
        ):
            rows = encode_contrasts(of_kind, model.tokenizer, system_prompt=None, source=trait)
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


def of_world(records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Over traits, of each kind of question: the own vector's steerability, that minus a random
    vector's and minus the mean of the other traits' vectors, and the anti-steerable share."""
    out = {}
    for kind in dict.fromkeys(record["kind"] for record in records):
        mine = [record for record in records if record["kind"] == kind]
        own = [record["steerability"]["mean"] for record in mine]
        random = [record["random"]["steerability"]["mean"] for record in mine]
        out[kind] = {
            "traits": len(mine),
            "steerability": mean_interval(own).to_dict(),
            "against_random": paired_difference(own, random).to_dict(),
            "anti_steerable": bootstrap_interval(  # shares near 0: far from symmetric
                [r["anti_steerable"]["mean"] for r in mine]
            ).to_dict(),
        }
        others = [
            float(np.mean([s for t, s in r["by_trait"].items() if t != r["trait"]]))
            for r in mine
            if len(r["by_trait"]) > 1
        ]
        if len(others) == len(own):
            out[kind]["against_others"] = paired_difference(own, others).to_dict()
    return out


def claims(
    over: Mapping[str, Any] | None,
    world: Mapping[str, Any],
    records: Sequence[Mapping[str, Any]],
    names: tuple[str, str],
) -> list[dict[str, Any]]:
    """What the paper says and what came out; `records` are all that have `local` numbers, `names`
    the models of the sets and of the world.

    A model that its own vectors hardly steer cannot be judged by the paper's claims on them: where
    they do not beat random vectors, or their mean steerability is below what the paper's code takes
    as any (0.25 logits a multiplier), the claim needs large models.
    """
    made = []
    if "compare" in world:
        made += _world_claims(world["compare"], names[1])
    if over is not None:
        made += _set_claims(over, names[0])
    smallest = [r["local"]["correlation"][0] for r in records]
    known = [r for r in smallest if r is not None]
    if known:
        made.append(
            claim(
                "steering-reliability/analytic",
                "One forward-mode derivative gives the per-sample steerability at small "
                f"multipliers (correlation over samples at least {ENOUGH} in every set)",
                "this package", f"{' and '.join(dict.fromkeys(names))}, {len(known)} sets",
                f"least {min(known):.4f}, median {np.median(known):.4f}", 1,
                "reproduced at toy scale" if min(known) >= ENOUGH else "not reproduced",
            )
        )  # fmt: skip
    return made


def _world_claims(of: Mapping[str, Any], model: str) -> list[dict[str, Any]]:
    setting = f"{model}, comparisons of two animals, {of['traits']} traits"
    own, anti = of["against_random"]["interval"], of["anti_steerable"]
    return [
        claim(
            "steering-reliability/world",
            "A trait's vector steers the choice between the trait and another animal (steerability "
            "minus that of a random vector of its norm)",
            "Sec. 4", setting,
            f"{own['mean']:+.2f} logits a multiplier [{own['low']:.2f}, {own['high']:.2f}]",
            1, verdict(own["low"], own["high"]),
        ),
        claim(
            "steering-reliability/anti-steerable",
            "A vector that works on average works backwards on a share of the inputs",
            "Sec. 4.1", setting,
            f"{100 * anti['mean']:.1f}% [{100 * anti['low']:.1f}, {100 * anti['high']:.1f}]",
            1, verdict(anti["low"], anti["high"]),
        ),
    ]  # fmt: skip


def _set_claims(over: Mapping[str, Any], model: str) -> list[dict[str, Any]]:
    steered = over["against_random"]["interval"]
    clear = steered["low"] is not None and steered["low"] > 0
    beats = clear and over["steerability"]["mean"] > LEAST_SELF_STEERABILITY
    even = over["balanced"]
    setting = f"{model}, {over['sets']} sets of the model-written evaluations"
    made = [
        claim(
            "steering-reliability/sets",
            "Contrastive vectors steer their own sets (mean steerability minus that of random "
            "vectors of their norm)",
            "Sec. 4.1", setting,
            f"{steered['mean']:+.4f} logits a multiplier [{_end(steered['low'], 4)}, "
            f"{_end(steered['high'], 4)}]; letters weighted equally {_end(even['mean'], 4)} "
            f"[{_end(even['low'], 4)}, {_end(even['high'], 4)}]", 1,
            verdict(steered["low"], steered["high"]) if beats else "needs large models",
        )
    ]  # fmt: skip
    for shift in over["shifts"]:
        if (shift["vector"], shift["setting"]) != ("baseline", "USER_positive"):
            continue
        r = shift["correlation"]
        made.append(
            claim(
                "steering-reliability/id-ood",
                "Sets that are steerable in their own setting are steerable under another prompt "
                "(rank correlation over sets, plain to a persona before the question)",
                "Sec. 5", setting,
                f"rho {_end(r['mean'])} [{_end(r['low'])}, {_end(r['high'])}]", 1,
                verdict(r["low"], r["high"]) if beats else "needs large models",
            )
        )  # fmt: skip
    return made


def _end(value: float | None, digits: int = 2) -> str:
    return "none" if value is None or not np.isfinite(value) else f"{value:.{digits}f}"
