"""A VAE as it is written for tensorflow 2: a train_step of its own under a GradientTape."""

import numpy as np
import tensorflow as tf
from tensorflow.keras import layers


class Draw(layers.Layer):
    def call(self, inputs):
        mean, log_var = inputs
        noise = tf.random.normal(shape=tf.shape(mean))
        return mean + tf.exp(0.5 * log_var) * noise


class VAE(tf.keras.Model):
    def __init__(self, pixels=64, latent_dim=8, **kwargs):
        super().__init__(**kwargs)
        self.hidden = layers.Dense(32, activation="relu")
        self.mean = layers.Dense(latent_dim)
        self.log_var = layers.Dense(latent_dim)
        self.draw = Draw()
        self.decoder = tf.keras.Sequential([layers.Dense(32, activation="relu"), layers.Dense(pixels)])
        self.seen = tf.keras.metrics.Mean(name="loss")

    @tf.function
    def call(self, x):
        h = self.hidden(x)
        mean, log_var = self.mean(h), self.log_var(h)
        return self.decoder(self.draw([mean, log_var])), mean, log_var

    def train_step(self, data):
        if isinstance(data, tuple):
            data = data[0]
        with tf.GradientTape() as tape:
            logits, mean, log_var = self(data)
            cross = tf.nn.sigmoid_cross_entropy_with_logits(labels=data, logits=logits)
            rec = tf.reduce_mean(tf.reduce_sum(cross, axis=1))
            kl = tf.reduce_mean(tf.reduce_sum(-0.5 * (1 + log_var - tf.square(mean) - tf.exp(log_var)), axis=1))
            loss = rec + kl
        gradients = tape.gradient(loss, self.trainable_variables)
        self.optimizer.apply_gradients(zip(gradients, self.trainable_variables))  # noqa: B905
        self.seen.update_state(loss)
        return {"loss": self.seen.result()}


data = np.random.rand(256, 64).astype("float32")
vae = VAE()
vae.compile(optimizer=tf.keras.optimizers.Adam(1e-3))
vae.fit(data, epochs=2, batch_size=64)
print(vae.predict(data))
