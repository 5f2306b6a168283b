import jax
import jax.numpy as jnp
import numpy as np

from subliminal_jax.models.forward import Capture, forward
from subliminal_jax.models.steered import unit
from subliminal_jax.steering.replacement import base_replacement

LAYERS = (0, 2)


def setup(cfg):
    tokens = jax.random.randint(jax.random.key(1), (2, 7), 0, cfg.vocab)
    vectors = jax.random.normal(jax.random.key(2), (2, cfg.dim))
    return tokens, vectors


def test_the_base_itself_is_left_as_it_is(cfg, params):
    tokens, vectors = setup(cfg)
    steering = base_replacement(params, tokens, cfg, vectors, LAYERS)
    plain, edited = (forward(params, tokens, cfg, s)[0] for s in (None, steering))
    np.testing.assert_allclose(edited, plain, rtol=1e-4, atol=1e-4)


def test_a_student_gets_the_bases_component_and_keeps_the_rest(cfg, params):
    tokens, vectors = setup(cfg)
    student = jax.tree.map(
        lambda w: w + 0.1 * jax.random.normal(jax.random.key(w.size), w.shape), params
    )
    steering = base_replacement(params, tokens, cfg, vectors, LAYERS)
    capture = Capture(LAYERS)
    base, unedited, edited = (
        forward(p, tokens, cfg, s, capture=capture)[1]
        for p, s in ((params, None), (student, None), (student, steering))
    )
    along = unit(vectors)
    np.testing.assert_allclose(
        jnp.einsum("nbtd,nd->nbt", edited, along),
        jnp.einsum("nbtd,nd->nbt", base, along),
        rtol=1e-3,
        atol=1e-3,
    )
    u = np.asarray(along[0])
    rest = [h - (h @ u)[..., None] * u for h in (np.asarray(edited[0]), np.asarray(unedited[0]))]
    np.testing.assert_allclose(*rest, rtol=1e-3, atol=1e-3)  # of the first layer, nothing before it
    assert np.abs(np.asarray(edited - unedited)).max() > 0.1


def test_a_zero_vector_edits_nothing(cfg, params):
    tokens, vectors = setup(cfg)
    student = {**params, "embed": params["embed"] * 1.3}
    steering = base_replacement(params, tokens, cfg, jnp.zeros_like(vectors), LAYERS)
    plain, edited = (forward(student, tokens, cfg, s)[0] for s in (None, steering))
    np.testing.assert_allclose(edited, plain, rtol=1e-5, atol=1e-5)
