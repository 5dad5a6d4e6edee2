"""Keras models of which nothing is said but their name or their file, and what surrounds a training in code for tensorflow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from keras_checked import checked, observed

pytestmark = pytest.mark.packages

GRAPH = """
import keras
from keras import layers, ops


class Draw(layers.Layer):
    def call(self, inputs):
        mean, logvar = inputs
        self.add_loss(-0.5 * ops.mean(ops.sum(1 + logvar - ops.square(mean) - ops.exp(logvar), axis=1)))
        return mean + ops.exp(0.5 * logvar) * keras.random.normal(ops.shape(mean))


x = keras.Input((SHAPE))
h = layers.Dense(24, activation="relu")(layers.Flatten()(x))
encoder = keras.Model(x, [layers.Dense(6)(h), layers.Dense(6)(h)])
z = Draw()(encoder(x))
vae = keras.Model(x, layers.Reshape((SHAPE))(layers.Dense(SIZE)(z)))
"""
COMPILED = 'vae.compile("adam", loss=lambda x, y: ops.sum(ops.square(x - y), axis=-1))\n'


def beta(found: dict[str, Any]) -> float:
    return float(found["loss"]["beta"]["value"])


def test_a_model_says_its_own_inputs(tmp_path: Path) -> None:
    """Neither named nor told a size: the one model that is no part of another."""
    (tmp_path / "model.py").write_text(GRAPH.replace("SHAPE", "45,").replace("SIZE", "45") + COMPILED)
    for target in ("model.py", "model.py:vae"):
        found = checked(tmp_path, target)
        assert (found["target"], found["status"], found["rung"]) == ("model.py:vae", "clean", "symbolic"), found
        assert beta(found) == 1 and found["symbols"] == {"B": 32, "D": 45, "L": 6}


def test_a_size_that_an_input_leaves_open_and_whole_numbers(tmp_path: Path) -> None:
    words = GRAPH.replace("keras.Input((SHAPE))", 'keras.Input((None,), dtype="int32")')
    words = words.replace("layers.Flatten()(x)", "layers.GlobalAveragePooling1D()(layers.Embedding(50, 12)(x))")
    words = words.replace("layers.Reshape((SHAPE))(layers.Dense(SIZE)(z))", 'layers.Dense(50, activation="softmax")(z)')
    (tmp_path / "model.py").write_text(words)
    found = checked(tmp_path, "model.py:vae")
    assert "no --input is given: the model's own Input says 32x20:int64[0,49]" in found["notes"]


@pytest.mark.parametrize("compiled", [True, False])
def test_a_factory_gives_several_models_and_layers_add_to_the_loss_too(tmp_path: Path, compiled: bool) -> None:
    head, _, body = GRAPH.replace("SHAPE", "45,").replace("SIZE", "45").partition("x = keras")
    rest = "vae.add_loss(ops.mean(ops.sum(ops.square(x - vae.output), axis=-1)))\n" + 'vae.compile("adam")\n' * compiled
    made = "".join(f"    {line}\n" for line in f"x = keras{body}{rest}return encoder, vae".splitlines())
    (tmp_path / "model.py").write_text(f"import tensorflow as tf\n{head}\ndef make():\n{made}")
    found = checked(tmp_path, "model.py:make")
    said = "the one that is compiled" if compiled else "the one that add_loss is called on"
    assert any(said in note for note in found["notes"]) and (found["status"], beta(found)) == ("clean", 1), found


OLD = """
import tensorflow as tf
from keras import backend as K
from keras.callbacks import Callback
from keras.layers import Dense, Input, Lambda
from keras.models import Model
from keras.utils import plot_model
import numpy as np

config = tf.ConfigProto()
config.gpu_options.allow_growth = True
K.set_session(tf.Session(config=config))
tf.summary.create_file_writer("log").set_as_default()

x = Input(shape=(30))
h = Dense(24, activation="relu")(x)
mean, logvar = Dense(5)(h), Dense(5)(h)
z = Lambda(lambda v: v[0] + K.exp(0.5 * v[1]) * K.random_normal(shape=SHAPE))([mean, logvar])
vae = Model(x, Dense(30)(z))
plot_model(vae, to_file="vae.png")


def loss(x, y):
    return K.sum(K.square(x - y), axis=-1) - 0.5 * K.sum(1 + logvar - K.square(mean) - K.exp(logvar), axis=-1)


vae.compile(optimizer="adam", loss=loss)
data = np.random.rand(90, 30)
vae.fit(data, data, batch_size=15)
"""


def test_what_surrounds_a_training_of_keras_2(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(OLD.replace("SHAPE", "K.shape(v[0])"))
    found = observed(tmp_path, "train.py")
    assert (found["status"], found["findings"], beta(found)) == ("clean", [], 1), found


def test_help_and_fix_are_in_the_words_of_keras_in_a_watched_training(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(OLD.replace("SHAPE", "(1, 5)").replace("import tensorflow as tf\n", "").replace("tf.", "# tf."))
    text = (tmp_path / "train.py").read_text().replace("config = # tf", "# tf").replace("config.gpu", "# config.gpu")
    (tmp_path / "train.py").write_text(text.replace("K.set_session(", "# K.set_session("))
    (finding,) = observed(tmp_path, "train.py")["findings"]
    assert finding["code"] == "VAE201" and "K.random_normal" in text.splitlines()[finding["span"]["line"] - 1]
    assert "torch" not in finding["help"] and "keras.random.normal(ops.shape(std))" in finding["help"]


def test_layers_may_have_names_that_keras_uses_itself(tmp_path: Path) -> None:
    text = (
        OLD.replace("SHAPE", "K.shape(v[0])").replace("Dense(30)(z)", 'Dense(30, name="output")(z)').replace("(24,", '(24, name="input",')
    )
    (tmp_path / "train.py").write_text(text)
    found = observed(tmp_path, "train.py")
    assert (found["status"], found["findings"], beta(found)) == ("clean", [], 1), found


OUTSIDE = """

class Losses(Layer):
    def of(self, x, decoded):
        kl = -0.5 * K.sum(1 + logvar - K.square(mean) - K.exp(logvar), axis=-1)
        return K.mean(K.sum(K.square(x - decoded), axis=-1) + kl)

    def call(self, inputs):
        x, decoded = inputs
        self.add_loss(self.of(x, decoded), inputs=inputs)
        return decoded


vae = Model(x, Losses()([x, vae.output]))
vae.compile(optimizer="adam", loss=None, metrics=[lambda x, y: K.mean(logvar)])
"""


def test_a_layer_whose_method_reads_the_graph_from_outside(tmp_path: Path) -> None:
    head, _, rest = OLD.replace("SHAPE", "K.shape(v[0])").replace("Input, Lambda", "Input, Lambda, Layer").partition("\n\ndef loss")
    (tmp_path / "train.py").write_text(head + OUTSIDE + rest[rest.index("data = ") :])
    found = observed(tmp_path, "train.py")
    assert (found["status"], found["findings"], beta(found)) == ("clean", [], 1), found
    called = checked(tmp_path, "train.py:vae")
    assert (called["status"], called["rung"], beta(called)) == ("clean", "symbolic", 1), called
    assert any(n.startswith("Losses reads logvar, mean of the graph") for n in found["notes"]), found["notes"]


LISTED = """
import tensorflow as tf


class Moor(tf.keras.Model):
    def __init__(self):
        super().__init__()
        self.body, self.head, self.out = (tf.keras.layers.Dense(n) for n in (24, 8, 36))

    def call(self, x):
        mean, logvar = tf.split(self.head(tf.nn.relu(self.body(x))), 2, axis=1)
        self.add_loss(-0.5 * tf.reduce_mean(tf.reduce_sum(1 + logvar - mean**2 - tf.exp(logvar), axis=1)))
        return self.out(mean + tf.exp(0.5 * logvar) * tf.random.normal(tf.shape(mean)))


model, optimizer = Moor(), tf.keras.optimizers.Adam()
for x in tf.data.Dataset.from_tensor_slices(tf.random.normal((96, 36))).batch(12):
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(tf.reduce_sum((x - model(x)) ** 2, axis=1))
        loss += model.losses
    optimizer.apply_gradients(zip(tape.gradient(loss, model.trainable_weights), model.trainable_weights))
"""


def test_a_tensor_plus_the_list_of_what_layers_add(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(LISTED)
    found = observed(tmp_path, "train.py")
    assert (found["status"], found["findings"], beta(found)) == ("clean", [], 1), found
