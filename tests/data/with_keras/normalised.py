import keras
import numpy as np
from keras import layers, ops


class Sampling(layers.Layer):
    def call(self, inputs):
        mean, logvar = inputs
        self.add_loss(-0.5 * ops.mean(ops.sum(1 + logvar - ops.square(mean) - ops.exp(logvar), axis=1)))
        return mean + ops.exp(0.5 * logvar) * keras.random.normal(ops.shape(mean))


x = keras.Input((16, 16, 1))
h = layers.Conv2D(8, 3, strides=2, padding="same")(x)
h = layers.BatchNormalization()(h)
h = layers.LeakyReLU(0.2)(h)
h = layers.GlobalAveragePooling2D()(h)
mean, logvar = layers.Dense(4)(h), layers.Dense(4)(h)
z = Sampling()([mean, logvar])
d = layers.Reshape((8, 8, 4))(layers.Dense(256)(z))
d = layers.BatchNormalization()(d)
d = layers.Activation("relu")(d)
rec = layers.Conv2DTranspose(1, 3, strides=2, padding="same", activation="tanh")(d)
vae = keras.Model(x, rec)
vae.compile("adam", loss=lambda x, y: ops.sum(ops.square(x - y), axis=(1, 2, 3)))
if __name__ == "__main__":
    data = np.random.default_rng(0).uniform(-1, 1, (320, 16, 16, 1)).astype("float32")
    vae.fit(data, data, batch_size=32)
