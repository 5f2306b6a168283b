"""What the experiment `steering-reliability` measures of one set, and in the shipped world."""

import hashlib
import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import jax
import numpy as np
from jaxtyping import Bool, Float, PRNGKeyArray

from subliminal_jax.data.contrastive import ContrastivePair, ContrastiveSet, split_pairs
from subliminal_jax.data.contrastive_prompts import (
    DEFAULT_SYSTEM_PROMPT,
    SETTINGS,
    Personas,
    encode_contrasts,
)
from subliminal_jax.data.contrastive_world import world_contrasts
from subliminal_jax.data.teachers import trait_vectors
from subliminal_jax.errors import InputError
from subliminal_jax.evaluation.reliability import cross_settings, measure_vector
from subliminal_jax.models.hub import Model
from subliminal_jax.runs.progress import track
from subliminal_jax.steering.contrastive import Method, contrastive_vectors, match_norms, rescale
from subliminal_jax.steering.contrasts import Contrasts
from subliminal_jax.steering.interchange import extract_directions
from subliminal_jax.steering.propensity import (
    MULTIPLIERS,
    Kind,
    answer_activations,
    local_steerability,
    propensities,
)
from subliminal_jax.steering.slopes import linear_reach, per_sample_slopes
from subliminal_jax.steering.vector_files import read_steering
from subliminal_jax.steering.vectors import random_vector

from .analysis import GivenVector, LocalSlope, MeasuredSet, MeasuredTrait, SkippedSet

PLAIN = SETTINGS[0]
# Factors on the multipliers, over which the finite slope leaves the analytic one.
SCALES = (0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0)
FEWEST_ROWS = 10  # that fit the context; a set with fewer is left out, and the report says so


@dataclass(frozen=True)
class Plan:
    """How every set is measured: see the experiment's `Config`. `vectors` are those of files."""

    layer: int
    split: tuple[float, float, float]
    method: Method
    kind: Kind
    seed: int
    system_prompt: str = DEFAULT_SYSTEM_PROMPT
    rows: int | None = None
    vectors: Mapping[str, Float[np.ndarray, "1 dim"]] = field(default_factory=dict)


def read_vectors(
    files: Sequence[str], model: Model, layer: int
) -> dict[str, Float[np.ndarray, "1 dim"]]:
    """Vectors of files for `layer`, scale included, by file name (`read_steering`).

    Raises InputError for a file that is named twice, has no vector for the layer or says that it
    was made on another model, and as `read_steering`.
    """
    vectors: dict[str, Float[np.ndarray, "1 dim"]] = {}
    for file in files:
        name = Path(file).stem
        if name in vectors or name in (*SETTINGS, "mean", "random"):
            raise InputError(f"{file}: there is a vector {name!r} already; give the file another")
        steering, _ = read_steering(file, model.cfg, [layer], model=model.name)
        vectors[name] = extract_directions(steering)[layer][None]
    return vectors


def set_digest(contrasts: ContrastiveSet, personas: Personas | None, plan: Plan) -> str:
    """SHA-256 of what a set's numbers depend on and no flag says: the rows of its file, the
    sentences, and the vectors of files."""
    sha = hashlib.sha256(json.dumps([contrasts.pairs, personas]).encode())
    for name, vector in plan.vectors.items():
        sha.update(name.encode())
        sha.update(np.ascontiguousarray(vector, np.float32).tobytes())
    return sha.hexdigest()


def make_key(seed: int, *parts: str) -> PRNGKeyArray:
    """A key of these names, the same in every process: sets must not share a random direction, or
    one draw would count as many independent controls."""
    return jax.random.fold_in(jax.random.key(seed), zlib.crc32("/".join(parts).encode()))


def measure_set(
    model: Model, contrasts: ContrastiveSet, name: str, personas: Personas | None, plan: Plan
) -> MeasuredSet | SkippedSet:
    """All numbers of one set: vectors from its training rows in all five prompt settings, their
    steerabilities on its test rows in all five, and the analytic slope in the plain one. Without
    `personas` there is the plain setting alone.

    Rows that do not fit the model's context in every setting are left out and counted; a set with
    too few others is skipped. Raises InputError for what cannot be encoded.
    """
    pairs = contrasts.pairs
    settings = SETTINGS if personas else (PLAIN,)
    encoded = {
        setting: encode_contrasts(
            pairs,
            model.tokenizer,
            setting,
            personas=personas,
            system_prompt=plan.system_prompt,
            source=contrasts.source,
        )
        for setting in settings
    }
    longest = np.max([rows.tokens for rows in encoded.values()], axis=0)
    fitting = [pair for pair, n in zip(pairs, longest, strict=True) if n <= model.cfg.context]
    digest = set_digest(contrasts, personas, plan)
    sentences = None if personas is None else personas._asdict()
    too_long = len(pairs) - len(fitting)
    if len(fitting) < FEWEST_ROWS:
        return SkippedSet(
            name=name,
            read=len(pairs),
            too_long=too_long,
            personas=sentences,
            digest=digest,
            skipped=f"{len(fitting)} of {len(pairs)} rows fit the context of {model.cfg.context}",
        )
    train, _, test = split_pairs(fitting, plan.split, rows=plan.rows)
    index = {pair.row: i for i, pair in enumerate(pairs)}

    def select(setting: str, selected: Sequence[ContrastivePair]) -> Contrasts:
        return encoded[setting].select([index[pair.row] for pair in selected])

    vectors = make_vectors(model, {s: select(s, train) for s in settings}, name, plan)
    stacked = np.stack(list(vectors.values())).astype(np.float32)
    by_setting = {
        setting: propensities(
            model.params,
            model.cfg,
            select(setting, test),
            stacked,
            [plan.layer],
            kind=plan.kind,
        )
        for setting in settings
    }
    is_first = _flags([pair.letter for pair in test], "A")
    is_yes = _flags([pair.says for pair in test], "yes")
    plain, order = by_setting[PLAIN], list(vectors)
    asked = select(PLAIN, test)

    def measure_given(name: str) -> GivenVector:
        i = order.index(name)
        return GivenVector(
            **vars(measure_vector(plain[:, i], MULTIPLIERS, is_first, is_yes)),
            norm=float(np.linalg.norm(vectors[name])),
            local=measure_local(model, asked, stacked[i : i + 1], plan),
        )

    random = plain[:, order.index("random")]
    return MeasuredSet(
        **vars(measure_vector(plain[:, 0], MULTIPLIERS, is_first, is_yes)),
        name=name,
        read=len(pairs),
        too_long=too_long,
        personas=sentences,
        digest=digest,
        train=len(train),
        test=len(test),
        norm=float(np.linalg.norm(vectors[PLAIN])),
        random=measure_vector(random, MULTIPLIERS, is_first, is_yes),
        given_vectors={name: measure_given(name) for name in plan.vectors},
        matrix=cross_settings(by_setting, order, MULTIPLIERS),
        local=measure_local(model, asked, stacked[:1], plan),
    )


def make_vectors(
    model: Model, contrasts: Mapping[str, Contrasts], name: str, plan: Plan
) -> dict[str, Float[np.ndarray, "1 dim"]]:
    """The vectors of a set: of each prompt setting, with several settings also their mean, a random
    one, all of one norm; and those of files, which keep theirs."""
    activations = {
        setting: answer_activations(model.params, model.cfg, rows, [plan.layer])
        for setting, rows in contrasts.items()
    }
    vectors = {
        setting: contrastive_vectors(h, plan.method, key=make_key(plan.seed, name, setting))
        for setting, h in activations.items()
    }
    if len(vectors) > 1:
        vectors = match_norms(vectors, PLAIN)
    key = make_key(plan.seed, name, "control")
    random = contrastive_vectors(activations[PLAIN], "random", key=key)
    return {**vectors, "random": rescale(random, vectors[PLAIN]), **plan.vectors}


def measure_world(model: Model, traits: Sequence[str], plan: Plan) -> list[MeasuredTrait]:
    """Two records a trait of the shipped model's world, on its comparisons and on its likings: its
    own vector, a random one of its norm, and the vectors of all `traits`."""
    vectors = {t: np.asarray(trait_vectors(model, [plan.layer], t)) for t in traits}
    records = []
    with track("trait vectors", len(traits), "traits") as progress:
        for trait in traits:
            pairs = world_contrasts(trait).pairs
            comparisons = [pair for pair in pairs if pair.says is None]
            likings = [pair for pair in pairs if pair.says is not None]
            records += [
                measure_trait(model, trait, "compare", comparisons, vectors, plan),
                measure_trait(model, trait, "like", likings, vectors, plan),
            ]
            progress.advance(1)
    return records


def measure_trait(
    model: Model,
    trait: str,
    kind: str,
    pairs: Sequence[ContrastivePair],
    vectors: Mapping[str, Float[np.ndarray, "1 dim"]],
    plan: Plan,
) -> MeasuredTrait:
    """A trait's vector on one kind of question, beside a random one and those of other traits."""
    rows = encode_contrasts(pairs, model.tokenizer, system_prompt=None, source=trait)
    key = make_key(plan.seed, trait, kind, "control")
    random = np.asarray(random_vector(key, model.cfg.dim, 1.0))[None]
    every = [*vectors.values(), rescale(random, vectors[trait])]
    stacked = np.stack(every).astype(np.float32)
    m = propensities(model.params, model.cfg, rows, stacked, [plan.layer], kind=plan.kind)
    is_yes = _flags([pair.says for pair in pairs], "yes")
    slopes = per_sample_slopes(m, MULTIPLIERS).slope[:, :-1].mean(axis=0).tolist()
    by_trait = dict(zip(vectors, slopes, strict=True))
    others = [slope for name, slope in by_trait.items() if name != trait]
    i = list(vectors).index(trait)
    return MeasuredTrait(
        **vars(measure_vector(m[:, i], MULTIPLIERS, None, is_yes)),
        name=f"{trait}/{kind}",
        trait=trait,
        kind=kind,
        test=len(pairs),
        norm=float(np.linalg.norm(vectors[trait])),
        random=measure_vector(m[:, -1], MULTIPLIERS, None, is_yes),
        by_trait=by_trait,
        other_traits=float(np.mean(others)) if others else None,
        local=measure_local(model, rows, stacked[i : i + 1], plan),
    )


def measure_local(
    model: Model, rows: Contrasts, vector: Float[np.ndarray, "1 n dim"], plan: Plan
) -> LocalSlope:
    """The analytic slope and curvature of a vector against the finite slope, over rows, at the
    multipliers times each of `SCALES`; and how far the line of the analytic slope reaches."""
    arguments = model.params, model.cfg, rows, vector, [plan.layer]
    analytic = local_steerability(*arguments, kind=plan.kind)
    nonzero = sorted({scale * x for scale in SCALES for x in MULTIPLIERS} - {0.0})
    grid = [0.0, *nonzero]
    m = propensities(*arguments, grid, kind=plan.kind)[:, 0]
    correlations = []
    for scale in SCALES:
        x = [scale * factor for factor in MULTIPLIERS]
        finite = per_sample_slopes(m[:, [grid.index(value) for value in x]], x).slope
        correlations.append(_correlation(finite, analytic.slope[:, 0]))
    return LocalSlope(
        scales=SCALES,
        correlation=tuple(correlations),
        slope=float(analytic.slope.mean()),
        curvature=float(np.abs(analytic.curvature).mean()),
        reach=linear_reach(m, grid, analytic.slope[:, 0]),
    )


def _flags(values: Sequence[str | None], wanted: str) -> Bool[np.ndarray, " rows"] | None:
    """Which values are the wanted one; None where a row has none."""
    return None if None in values else np.array([value == wanted for value in values])


def _correlation(a: Float[np.ndarray, " n"], b: Float[np.ndarray, " n"]) -> float | None:
    if len(a) < 2 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return None
    return float(np.corrcoef(a, b)[0, 1])
