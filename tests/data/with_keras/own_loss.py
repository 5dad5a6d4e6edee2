import os

os.environ["KERAS_BACKEND"] = "torch"
import keras
from keras import layers, ops


class Sampling(layers.Layer):
    def call(self, inputs):
        z_mean, z_log_var = inputs
        epsilon = keras.random.normal(shape=ops.shape(z_mean))
        return z_mean + ops.exp(0.5 * z_log_var) * epsilon


class VAE(keras.Model):
    def __init__(self, input_dim=64, latent_dim=8, **kwargs):
        super().__init__(**kwargs)
        self.hidden = layers.Dense(32, activation="relu")
        self.z_mean = layers.Dense(latent_dim)
        self.z_log_var = layers.Dense(latent_dim)
        self.sampling = Sampling()
        self.back = layers.Dense(32, activation="relu")
        self.out = layers.Dense(input_dim)

    def call(self, x):
        h = self.hidden(x)
        z_mean, z_log_var = self.z_mean(h), self.z_log_var(h)
        z = self.sampling([z_mean, z_log_var])
        return self.out(self.back(z)), z_mean, z_log_var

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        recon, z_mean, z_log_var = y_pred
        cross = keras.losses.binary_crossentropy(x[..., None], recon[..., None], from_logits=True)
        rec = ops.mean(ops.sum(cross, axis=1))
        kl = -0.5 * ops.mean(ops.sum(1 + z_log_var - ops.square(z_mean) - ops.exp(z_log_var), axis=1))
        return rec + kl
