"""The loss of a Keras model needs tensors that training does not give it.

## What it does
Looks at the function that a functional Keras model is compiled with: whether it has more arguments than targets and
outputs, or reads tensors of the model's graph by name. The rest of the analysis goes on as if it got their values.

## Why is this bad
Keras calls a loss with the targets and the outputs of one batch. Tensors made between `keras.Input` and the outputs
are symbols: they have a shape and no values. With Keras 3 such a loss raises in `fit`; the KL is never computed.

## Example
    def vae_loss(x, recon):
        kl = -0.5 * ops.mean(1 + z_log_var - ops.square(z_mean) - ops.exp(z_log_var))   # symbols
        return keras.losses.mse(x, recon) + kl

    vae.compile(optimizer="adam", loss=vae_loss)

## Use instead
    class Sampling(layers.Layer):
        def call(self, inputs):
            z_mean, z_log_var = inputs
            kl = -0.5 * ops.sum(1 + z_log_var - ops.square(z_mean) - ops.exp(z_log_var), axis=-1)
            self.add_loss(ops.mean(kl))                                                 # values
            return z_mean + ops.exp(0.5 * z_log_var) * keras.random.normal(ops.shape(z_mean))

## When to ignore
Never with Keras 3.
"""

from vaelint.rule import Findings, Model, setup_rule


@setup_rule("VAE010")
def check(model: Model) -> Findings:
    """Found when the model is built: the engine reports it."""
    yield from ()
