import os

os.environ["KERAS_BACKEND"] = "torch"
import keras
from keras import layers, ops


class Sampling(layers.Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.seed_generator = keras.random.SeedGenerator(1337)

    def call(self, inputs):
        z_mean, z_log_var = inputs
        epsilon = keras.random.normal(shape=ops.shape(z_mean), seed=self.seed_generator)
        return z_mean + ops.exp(0.5 * z_log_var) * epsilon


def make_vae(input_dim=784, latent_dim=8):
    x = keras.Input(shape=(input_dim,))
    h = layers.Dense(64, activation="relu")(x)
    z_mean = layers.Dense(latent_dim, name="z_mean")(h)
    z_log_var = layers.Dense(latent_dim, name="z_log_var")(h)
    z = Sampling()([z_mean, z_log_var])
    h = layers.Dense(64, activation="relu")(z)
    recon = layers.Dense(input_dim, activation="sigmoid")(h)
    return keras.Model(x, [recon, z_mean, z_log_var])


def loss_fn(x, recon, z_mean, z_log_var):
    rec = ops.mean(ops.sum(ops.square(x - recon), axis=1))
    kl = -0.5 * ops.mean(ops.sum(1 + z_log_var - ops.square(z_mean) - ops.exp(z_log_var), axis=1))
    return rec + kl
