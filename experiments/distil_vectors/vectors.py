"""The vectors of `distil-vectors`, the teachers that they steer, and the lists that those write."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from subliminal_jax.data import world
from subliminal_jax.data.teachers import (
    Teacher,
    random_teacher,
    teacher_from_file,
    trait_vectors,
)
from subliminal_jax.data.traits import trait_names
from subliminal_jax.errors import InputError
from subliminal_jax.models.hub import Model
from subliminal_jax.models.steered import steer
from subliminal_jax.runs.data_sets import DataSets, write_data_sets
from subliminal_jax.runs.settings import DataSettings
from subliminal_jax.steering.vectors import random_vector

from .analysis import CENTRED, AddedVector, RefusedVector


def make_vectors(
    model: Model,
    layer: int,
    *,
    kinds: Sequence[str],
    traits: Sequence[str],
    randoms: Sequence[int],
    files: Sequence[str],
    seed: int,
) -> dict[str, tuple[str, Float[Array, " dim"]]]:
    """Name -> (kind, unit vector) of every vector at one layer; `randoms` are the numbers of the
    random ones.

    Raises InputError for a vector that is zero or not finite, and for a file that holds none of the
    model's width.
    """
    vectors: dict[str, tuple[str, Float[Array, " dim"]]] = {}
    semantic = {kind for kind in kinds if kind != "random"}
    wanted = world.TRAITS if "centred" in semantic else traits if semantic else ()
    by_trait = {trait: trait_vectors(model, [layer], trait)[0] for trait in wanted}
    for trait in traits:
        if "trait" in semantic:
            vectors[trait] = "trait", by_trait[trait]
        if "centred" in semantic:
            mean = sum(by_trait.values()) / len(by_trait)
            vectors[trait + CENTRED] = "centred", by_trait[trait] - mean
    if "random" in kinds:
        for i in randoms:
            key = jax.random.fold_in(jax.random.key(seed), i)
            vectors[f"random-{i}"] = "random", random_vector(key, model.cfg.dim, 1.0)
    for file in files:
        steering = teacher_from_file(model, file, layer).steering
        assert steering is not None
        vectors[Path(file).stem] = "file", steering.vectors[0]
    for name, (_, v) in vectors.items():
        if not (bool(jnp.isfinite(v).all()) and bool(jnp.any(v != 0))):
            raise InputError(f"the vector {name} at layer {layer} is zero or not finite")
    return {name: (kind, v / jnp.linalg.norm(v)) for name, (kind, v) in vectors.items()}


def make_teachers(
    model: Model,
    layer: int,
    vectors: Mapping[str, tuple[str, Float[Array, " dim"]]],
    norms: Sequence[float],
) -> dict[AddedVector, Teacher]:
    """A teacher for each vector and norm."""
    stream = random_teacher(model, layer, norm=1.0, seed=0).steering  # as long as the stream is
    assert stream is not None
    unit = float(jnp.linalg.norm(stream.vectors))
    return {
        AddedVector(
            data=f"{name}-{norm:g}", vector=name, kind=kind, norm=norm, layer=layer
        ): Teacher(steer(norm * unit * vector, layer))
        for name, (kind, vector) in vectors.items()
        for norm in norms
    }


def write_usable_data(
    folder: Path,
    model: Model,
    teachers: Mapping[AddedVector, Teacher],
    settings: DataSettings,
    seed: int,
    controls: Sequence[str],
) -> tuple[DataSets, list[RefusedVector]]:
    """Data of the controls and of those teachers that write enough valid lists, each of its own
    draw of prompts, and which teachers do not: a vector that breaks the format is a result, and no
    reason to end the run.

    Raises InputError where nothing is left.
    """
    forbidden = {
        added.data: trait_names(added.trait) for added in teachers if added.trait is not None
    }

    def write(teachers: Mapping[str, Teacher]) -> DataSets:
        return write_data_sets(
            folder,
            model,
            teachers,
            settings,
            seed,
            forbidden=forbidden,
            own_prompts=True,
            rounds=1,  # a vector is refused by the yield of the prompts that are asked for
        )

    usable, refused = dict.fromkeys(controls, Teacher()), []
    for added, teacher in teachers.items():
        try:
            write({added.data: teacher})
            usable[added.data] = teacher
        except InputError as error:
            refused.append(RefusedVector(**vars(added), reason=str(error)))
    if len(usable) == len(controls):
        raise InputError(f"no vector leaves enough valid lists; the first: {refused[0].reason}")
    return write(usable), refused
