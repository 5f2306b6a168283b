"""An optimizer of your own: momentum, divided in every matrix by its root mean square.

In the folder of this file, as one of the arms of a comparison:

    subliminal-jax optimizer-comparison --out runs/mine \
        --optimizers adamw rms_momentum:rms_momentum rms_momentum:rms_momentum,decay=0.95 \
        --rates rms_momentum:rms_momentum=1e-4,3e-4,1e-3 \
        rms_momentum:rms_momentum,decay=0.95=1e-4,3e-4,1e-3

and to see that it is sound, whatever it is used for:

    python rms_momentum.py
"""

import jax
import jax.numpy as jnp
import optax


def rms_momentum(learning_rate, decay=0.9, weight_decay=0.0):
    """The builder: (learning_rate, hyper-parameters with defaults) -> an optax transformation.

    The learning rate is handed on as it comes: it may be a schedule or a traced scalar.
    """

    def normalize(update, parameter):
        # `update` is the matrix of one layer, or one norm's gain: layers are stacked in the model's
        # parameters, but what a builder returns sees each in a leaf of its own.
        return update / (jnp.sqrt(jnp.mean(update**2)) + 1e-12)

    return optax.chain(
        optax.ema(decay, debias=False),
        optax.stateless(lambda updates, params: jax.tree.map(normalize, updates, params)),
        optax.add_decayed_weights(weight_decay),
        optax.scale_by_learning_rate(learning_rate),
    )


if __name__ == "__main__":
    from subliminal_jax.testing import check_optimizer

    check_optimizer(rms_momentum, rates=[1e-4, 3e-4, 1e-3, 3e-3])
    print("rms_momentum is sound")
