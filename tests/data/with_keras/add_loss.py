import os

os.environ["KERAS_BACKEND"] = "torch"
import keras
from keras import layers, ops


class Sampling(layers.Layer):
    """Draws z and adds the KL."""

    def call(self, inputs):
        z_mean, z_log_var = inputs
        self.add_loss(-0.5 * ops.mean(ops.sum(1 + z_log_var - ops.square(z_mean) - ops.exp(z_log_var), axis=-1)))
        epsilon = keras.random.normal(shape=ops.shape(z_mean))
        return z_mean + ops.exp(0.5 * z_log_var) * epsilon


class VAE(keras.Model):
    def __init__(self, original_dim=64, intermediate_dim=32, latent_dim=8, name="autoencoder", **kwargs):
        super().__init__(name=name, **kwargs)
        self.original_dim = original_dim
        self.proj = layers.Dense(intermediate_dim, activation="relu")
        self.mean = layers.Dense(latent_dim)
        self.log_var = layers.Dense(latent_dim)
        self.sampling = Sampling()
        self.back = layers.Dense(intermediate_dim, activation="relu")
        self.out = layers.Dense(original_dim, activation="sigmoid")

    def call(self, inputs):
        x = self.proj(inputs)
        z = self.sampling((self.mean(x), self.log_var(x)))
        return self.out(self.back(z))


vae = VAE()
vae.compile(optimizer=keras.optimizers.Adam(1e-3), loss=lambda y, p: ops.sum(ops.square(y - p), axis=-1))

if __name__ == "__main__":
    import numpy as np

    data = np.random.rand(256, 64).astype("float32")
    vae.fit(data, data, epochs=2, batch_size=64)
