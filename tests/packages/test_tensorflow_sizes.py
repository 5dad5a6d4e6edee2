"""Code for tensorflow whose operations take sizes that only a batch gives."""

from __future__ import annotations

from pathlib import Path

import pytest
from keras_checked import checked

pytestmark = pytest.mark.packages

PAIRS = """import tensorflow as tf
from tensorflow import keras
from tensorflow.keras import layers


def make_model(size=64, latent=6):
    inputs = layers.Input(shape=(size,))
    h = layers.Dense(32, activation="relu")(inputs)
    mean, log_var = layers.Dense(latent)(h), layers.Dense(latent)(h)
    z = layers.Lambda(lambda both: both[0] + tf.exp(0.5 * both[1]) * tf.random.normal(shape=tf.shape(both[0])))([mean, log_var])
    vae = keras.Model(inputs, layers.Dense(size)(layers.Dense(32, activation="relu")(z)))

    def kernel(x, y):
        n, m, dim = tf.shape(x)[0], tf.shape(y)[0], tf.shape(x)[1]
        left = tf.tile(tf.reshape(x, [n, 1, dim]), [1, m, 1])
        right = tf.reshape(tf.tile(tf.reshape(y, [1, m, dim]), [n, 1, 1]), [n * m // m, m, dim])
        return tf.exp(-tf.reduce_mean(tf.square(left - right), axis=2) / tf.cast(dim, tf.float32))

    drawn = tf.random.normal(shape=[tf.shape(z)[0] * 2 // 2, latent])
    vae.add_loss(tf.reduce_mean(kernel(drawn, drawn)) + tf.reduce_mean(kernel(z, z)) - 2 * tf.reduce_mean(kernel(drawn, z)))
    vae.compile(loss="mse", optimizer=keras.optimizers.Adam(1e-3))
    return vae
"""


def test_operations_take_sizes_that_a_batch_gives(tmp_path: Path) -> None:
    (tmp_path / "pairs.py").write_text(PAIRS)
    report = checked(tmp_path, "pairs.py:make_model", "--input", "16x64")
    assert [f["code"] for f in report["findings"]] == []
    assert [t["role"] for t in report["loss"]["terms"]] == ["reconstruction", "discrepancy"]
