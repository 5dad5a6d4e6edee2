"""Code for Keras 2 and tensorflow 2 as it is found: loops over `tf.data`, plain classes that hold a model, losses of symbolic tensors."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from keras_checked import checked, observed

pytestmark = pytest.mark.packages
DATA = Path(__file__).parents[1] / "data" / "with_keras"

PARTS = """import numpy as np
from keras import backend as K, objectives
from keras.callbacks import TensorBoard
from keras.layers import Dense, Input, Lambda
from keras.losses import mse
from keras.models import Model
from keras.optimizers import Adam


def sampling(args):
    z_mean, z_log_var = args
    return z_mean + K.exp(0.5 * z_log_var) * K.random_normal(shape=(K.shape(z_mean)[0], K.int_shape(z_mean)[1]))


inputs = Input(shape=(64,))
h = Dense(32, activation="relu", name="encoder/hidden")(inputs)
z_mean, z_log_var = Dense(8)(h), Dense(8)(h)
encoder = Model(inputs, [z_mean, z_log_var, Lambda(sampling, output_shape=(8,))([z_mean, z_log_var])])
latent = Input(shape=(8,))
decoder = Model(latent, Dense(np.prod((8, 8)), activation="sigmoid")(Dense(32, activation="relu")(latent)))
outputs = decoder(encoder(inputs)[2])
vae = Model(inputs, outputs)
"""
ADDED = """
kl = -0.5 * K.sum(1 + z_log_var - K.square(z_mean) - K.exp(z_log_var), axis=-1)
vae.add_loss(K.mean(64 * objectives.mse(inputs, outputs) + kl))
vae.compile(optimizer=Adam(lr=1e-3, decay=1e-6))
if __name__ == "__main__":
    rows = np.random.rand(64, 64).astype("float32")
    assert h.get_shape().as_list() == [None, 32]
    shown = TensorBoard(log_dir="logs")
    vae.fit_generator(((rows, None) for _ in range(100)), epochs=2, steps_per_epoch=7 / 2, callbacks=[shown])
"""
READ = """

def divergence():
    return -0.5 * K.sum(1 + z_log_var - K.square(z_mean) - K.exp(z_log_var), axis=-1)


def vae_loss(x, x_decoded):
    return 64 * mse(x, x_decoded) + divergence()


class Whole:
    def __init__(self):
        self.encoder, self.vae = encoder, vae
        self.vae.compile(optimizer=Adam(lr=1e-3), loss=vae_loss)
"""
LOOP = """import numpy as np
import tensorflow as tf
from tensorflow.keras import layers

x = tf.keras.Input((64,))
h = layers.Dense(32, activation="relu")(x)
mean, log_var = layers.Dense(8)(h), layers.Dense(8)(h)
z = mean + tf.exp(0.5 * log_var) * tf.random.normal(shape=(tf.shape(mean)[0], 8))
logits = layers.Dense(64)(layers.Dense(32, activation="relu")(z))
model = tf.keras.Model(x, [logits, mean, log_var])

assert not tf.config.experimental.list_physical_devices("GPU") and not tf.test.is_gpu_available()
rows = tf.data.Dataset.from_tensor_slices(np.random.rand(300, 64).astype("float32"))
rows = rows.map(lambda row: tf.cast(row, tf.float32)).shuffle(100).batch(64).prefetch(tf.data.AUTOTUNE)
optimizer = tf.keras.optimizers.Adam(1e-3)
for epoch in range(2):
    for batch in rows:
        with tf.GradientTape() as tape:
            logits, mean, log_var = model(batch)
            cross = tf.nn.sigmoid_cross_entropy_with_logits(labels=batch, logits=logits)
            rec = tf.reduce_mean(tf.reduce_sum(cross, axis=1))
            kl = tf.reduce_mean(tf.reduce_sum(-0.5 * (1 + log_var - tf.square(mean) - tf.exp(log_var)), axis=1))
            loss = rec + kl
        print(mean.numpy().mean())
        optimizer.apply_gradients(zip(tape.gradient(loss, model.trainable_variables), model.trainable_variables))
"""
ALONE = """import tensorflow as tf
from tensorflow.keras import layers


class VAE(tf.keras.Model):
    def __init__(self):
        super().__init__()
        self.hidden, self.mean, self.log_var = layers.Dense(32, activation="relu"), layers.Dense(8), layers.Dense(8)
        self.back, self.out = layers.Dense(32, activation="relu"), layers.Dense(64)

    def call(self, x):
        h = self.hidden(x)
        mean, log_var = self.mean(h), self.log_var(h)
        z = mean + tf.exp(0.5 * log_var) * tf.random.normal(tf.shape(mean))
        self.add_loss(tf.reduce_mean(-0.5 * tf.reduce_sum(1 + log_var - tf.square(mean) - tf.exp(log_var), axis=1)))
        return self.out(self.back(z))
"""
COMPILED = """import tensorflow as tf
from model import VAE


def error(x, out):
    return tf.reduce_sum(tf.square(x - out), axis=1)


def main():
    model = VAE()
    model.compile(tf.keras.optimizers.Adam(), error)
    model.fit(data)
"""


SETS = """import tensorflow as tf
import tensorflow_datasets as tfds
from tensorflow.keras import layers

(train, test), info = tfds.load("mnist", split=["train[:90%]", "test"], as_supervised=True, with_info=True)
assert info.features["image"].shape == (28, 28, 1) and info.splits["train"].num_examples == 60000 and len(train) == 54000
whole = tfds.as_numpy(tfds.load("cifar10", split="test[:50]", batch_size=-1))
assert whole["image"].shape == (50, 32, 32, 3) and whole["label"].shape == (50,)


def prepared(image, label):
    image = tf.image.resize(image, (8, 8))
    return tf.reshape(tf.cast(image, tf.float32) / 255.0, (64,))


encode = tf.keras.Sequential([layers.Input((64,)), layers.Dense(32, activation="relu"), layers.Dense(16)])
decode = tf.keras.Sequential([layers.Input((8,)), layers.Dense(32, activation="relu"), layers.Dense(64)])
optimizer = tf.keras.optimizers.Adam(1e-3)
board = tf.summary.create_file_writer("logs")
for epoch in range(2):
    for x in train.map(prepared).apply(lambda rows: rows.cache()).shuffle(1000).batch(64).prefetch(tf.data.AUTOTUNE):
        with tf.GradientTape() as tape:
            mean, log_var = tf.split(encode(x), 2, axis=1)
            logits = decode(mean + tf.exp(0.5 * log_var) * tf.random.normal(tf.shape(mean)))
            error = tf.reduce_sum(tf.nn.sigmoid_cross_entropy_with_logits(labels=x, logits=logits), axis=1)
            kl = -0.5 * tf.reduce_sum(1 + log_var - mean**2 - tf.exp(log_var), axis=1)
            loss = tf.reduce_mean(error + kl)
        weights = encode.trainable_variables + decode.trainable_variables
        optimizer.apply_gradients(zip(tape.gradient(loss, weights), weights))
        with board.as_default():
            tf.summary.scalar("loss", loss, step=epoch)
"""


def is_an_elbo(found: dict[str, Any], reconstruction: str) -> bool:
    terms = {t["role"]: t["kernel"] for t in found["loss"]["terms"]}
    said = (terms["reconstruction"], terms["kl"], round(found["loss"]["beta"]["value"], 4))
    return said == (reconstruction, "Gaussian KL to N(0, 1)", 1)


def test_a_loss_of_symbols_that_a_model_adds(tmp_path: Path) -> None:
    """The mean is the encoder's, which the decoder is called on: it is computed once, and drawn once."""
    (tmp_path / "model.py").write_text(PARTS + ADDED)
    found = observed(tmp_path, "model.py")
    assert (found["status"], found["findings"]) == ("clean", []) and is_an_elbo(found, "squared error"), found


def test_a_lambda_that_reads_the_graph_from_outside(tmp_path: Path) -> None:
    """In Keras 1 and 2 a tensor of the graph could be read anywhere; here it becomes an input of the layer."""
    text = PARTS.replace("Lambda(sampling, output_shape=(8,))([z_mean, z_log_var])", "Lambda(lambda m: sampling([m, z_log_var]))(z_mean)")
    text += "vae.add_metric(K.mean(z_mean), name='mean', aggregation='mean')\n"  # shown beside the loss; Keras 3 has none
    (tmp_path / "model.py").write_text(text + ADDED)
    found = observed(tmp_path, "model.py")
    assert (found["status"], found["findings"]) == ("clean", []) and is_an_elbo(found, "squared error"), found
    assert "lambda> reads z_log_var of the graph, which a Lambda of Keras 3 refuses" in " ".join(found["notes"])
    (tmp_path / "model.py").write_text(text.replace("K.exp(0.5 * z_log_var)", "K.exp(z_log_var)") + ADDED)
    assert [f["code"] for f in observed(tmp_path, "model.py")["findings"]] == ["VAE205"]


def test_a_plain_class_that_holds_its_model_and_a_loss_in_two_functions(tmp_path: Path) -> None:
    text = PARTS + READ
    (tmp_path / "model.py").write_text(text)
    found = checked(tmp_path, "model.py:Whole", "--input", "32x64")
    assert "Whole holds a model: its vae, which it compiles, is checked" in found["notes"]
    (finding,) = found["findings"]
    assert finding["code"] == "VAE010" and "K.sum(1 + z_log_var" in text.splitlines()[finding["span"]["line"] - 1], finding
    assert is_an_elbo(found, "squared error"), found["loss"]


TWO_LOSSES = """import numpy as np
from keras import backend as K, objectives
from keras.datasets import imdb
from keras.layers.core import Dense, Lambda, RepeatVector
from keras.layers.embeddings import Embedding
from keras.layers.recurrent import LSTM
from keras.callbacks import ModelCheckpoint
from keras.models import Model
from keras import Input
from keras.preprocessing.sequence import pad_sequences

T, V, L = 12, 40, 8
x = Input(shape=(T,))
h = LSTM(16)(Embedding(V, 16, input_length=T)(x))
z_mean, z_log_var = Dense(L)(h), Dense(L)(h)
noise = lambda args: args[0] + K.exp(0.5 * args[1]) * K.random_normal(shape=K.shape(args[0]))
z = Lambda(noise, output_shape=(L,))([z_mean, z_log_var])
decoded = Dense(V, activation="softmax", name="decoded")(LSTM(16, return_sequences=True)(RepeatVector(T)(z)))
mood = Dense(1, activation="sigmoid", name="mood")(z)


def vae_loss(x, x_decoded):
    cross = K.sum(objectives.categorical_crossentropy(x, x_decoded), axis=-1)
    return cross - 0.5 * K.sum(1 + z_log_var - K.square(z_mean) - K.exp(z_log_var), axis=-1)


vae = Model(x, [decoded, mood])
vae.compile("adam", loss=[vae_loss, "binary_crossentropy"])
(texts, labels), _ = imdb.load_data(num_words=V)
texts = pad_sequences(texts, maxlen=T)
vae.fit(texts, {"decoded": np.eye(V)[texts], "mood": labels}, batch_size=20, callbacks=[ModelCheckpoint("kept/", period=1)])
"""


def test_a_text_model_of_two_outputs_whose_loss_reads_symbols(tmp_path: Path) -> None:
    """Modules that Keras 3 does not have, texts that cannot be fetched, a loss for each output: one reads the graph, one has a name."""
    (tmp_path / "model.py").write_text(TWO_LOSSES)
    found = observed(tmp_path, "model.py")
    assert found["status"] == "clean" and found["findings"] == [], found
    terms = [(t["role"], t["kernel"], t["weight"]) for t in found["loss"]["terms"]]
    assert (
        ("kl", "Gaussian KL to N(0, 1)", "1/B") in terms and terms[0][0] == "reconstruction" and terms[0][1:] == ("cross-entropy", "1/B")
    ), terms
    assert found["loss"]["beta"]["value"] == 1 and any(
        n.startswith("vae_loss reads z_log_var, z_mean of the graph") for n in found["notes"]
    )


KERAS_1 = """import numpy as np
import tensorflow_probability as tfp
from keras import backend as K, objectives
from keras.datasets import mnist
from keras.engine import InputSpec, Layer
from keras.layers import Dense, Input, Lambda
from keras.models import Model

batch_size = 100


class Normaliser(Layer):
    def quantize(self, x):  # a name that Keras 3 gives a meaning of its own
        return K.clip(x, -9.0, 9.0)

    def call(self, x):
        return self.quantize(x)


def sampling(args):
    return args[0] + K.exp(args[1] / 2) * K.random_normal(shape=(batch_size, 2), mean=0., std=1.0)


x = Input(batch_shape=(batch_size, 784))
h = Normaliser()(Dense(32, activation="relu")(x))
z_mean, z_log_var = Dense(2)(h), Dense(2)(h)
x_decoded = Dense(784, activation="sigmoid")(Dense(32, activation="relu")(Lambda(sampling, output_shape=(2,))([z_mean, z_log_var])))


def vae_loss(x, x_decoded):
    return 784 * objectives.binary_crossentropy(x, x_decoded) - 0.5 * K.sum(1 + z_log_var - K.square(z_mean) - K.exp(z_log_var), axis=-1)


vae = Model(x, x_decoded)
vae.compile(optimizer="rmsprop", loss=vae_loss)
(rows, _), _ = mnist.load_data()
vae.fit(rows.reshape(60000, 784) / 255.0, rows.reshape(60000, 784) / 255.0, nb_epoch=1, batch_size=batch_size)
"""


def test_a_model_in_the_words_of_keras_1(tmp_path: Path) -> None:
    (tmp_path / "model.py").write_text(KERAS_1)
    found = observed(tmp_path, "model.py")
    assert found["findings"] == [] and is_an_elbo(found, "Bernoulli on probabilities"), found
    made_up = any(n.startswith("made-up data instead of ") and "60000" in n for n in found["notes"])
    assert made_up or (Path.home() / ".keras" / "datasets" / "mnist.npz").exists()


def test_a_train_step_of_pairs_whose_call_takes_both(tmp_path: Path) -> None:
    """tensorflow calls no model before its own `train_step`; Keras on torch calls it with the first of the pair."""
    text = (
        (DATA / "tf_vae.py")
        .read_text()
        .replace(
            "    def call(self, x):", "    def call(self, both):\n        x, _ = both\n        return self.run(x)\n\n    def run(self, x):"
        )
    )
    text = text.replace("def train_step(self, data):", "def train_step(self, pair):\n        data, _ = pair").replace(
        "self(data)", "self.run(data)"
    )
    text = text.replace("vae.fit(data,", "vae.fit(data, data[:, :1],").replace("print(vae.predict(data))\n", "")
    assert "data[:, :1]" in text and "self.run(data)" in text
    (tmp_path / "train.py").write_text(text)
    found = observed(tmp_path, "train.py")
    assert (found["status"], found["findings"]) == ("clean", []) and is_an_elbo(found, "Bernoulli on logits"), found


def test_a_loop_over_tf_data(tmp_path: Path) -> None:
    """With a draw whose sizes are those of a symbolic tensor."""
    (tmp_path / "train.py").write_text(LOOP)
    found = observed(tmp_path, "train.py")
    assert (found["status"], found["findings"]) == ("clean", []) and is_an_elbo(found, "Bernoulli on logits"), found


@pytest.mark.parametrize("there", [True, False])
def test_what_compile_gets_in_another_file(tmp_path: Path, there: bool) -> None:
    """A KL that a layer adds is a part of the loss: without the rest nothing is said of a reconstruction that is missing."""
    (tmp_path / "model.py").write_text(ALONE)
    (tmp_path / "train.py").write_text(COMPILED if there else "")
    found = checked(tmp_path, "model.py:VAE", "--input", "32x64")
    if there:
        assert (found["status"], found["findings"]) == ("clean", []) and is_an_elbo(found, "squared error"), found
        assert "the model is compiled as at train.py:11" in found["notes"]
    else:
        assert [f["code"] for f in found["findings"]] == ["VAE004"] and not found["loss"], found
        assert any("what add_loss gets is a part of the loss" in note for note in found["notes"])


SEQUENCE = """import keras
from keras import layers, ops


class Sampling(layers.Layer):
    def call(self, inputs):
        z_mean, z_log_var = inputs
        self.add_loss(-0.5 * ops.mean(ops.sum(1 + z_log_var - ops.square(z_mean) - ops.exp(z_log_var), axis=-1)))
        return z_mean + ops.exp(0.5 * z_log_var) * keras.random.normal(ops.shape(z_mean))


def sequence_loss(x, decoded):
    return ops.sum(ops.square(x - decoded), axis=(1, 2))


x = keras.Input(shape=(20, 5))
h = layers.LSTM(16)(x)
z = Sampling()([layers.Dense(4)(h), layers.Dense(4)(h)])
decoded = layers.TimeDistributed(layers.Dense(5))(layers.LSTM(16, return_sequences=True)(layers.RepeatVector(20)(z)))
vae = keras.Model(x, decoded)
vae.compile(optimizer="adam", loss=sequence_loss)
"""


def test_sets_of_tensorflow_datasets_are_made_up(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(SETS)
    found = observed(tmp_path, "train.py")
    assert (found["status"], found["findings"]) == ("clean", []) and is_an_elbo(found, "Bernoulli on logits"), found
    assert any(n.startswith("made-up data instead of tensorflow-datasets' mnist: 60000") for n in found["notes"]), found["notes"]


@pytest.mark.parametrize(("repeated", "codes"), [("20", []), ("1", ["VAE301"])])
def test_a_code_that_is_repeated_for_each_step(tmp_path: Path, repeated: str, codes: list[str]) -> None:
    text = SEQUENCE.replace("RepeatVector(20)", f"RepeatVector({repeated})")
    (tmp_path / "model.py").write_text(text)
    found = checked(tmp_path, "model.py:vae", "--input", "32x20x5")
    assert [f["code"] for f in found["findings"]] == codes, found["findings"]
    assert all("x - decoded" in text.splitlines()[f["span"]["line"] - 1] for f in found["findings"])
    assert codes or is_an_elbo(found, "squared error"), found["loss"]


def test_a_bare_file_is_found(tmp_path: Path) -> None:
    """What fits is observed; a class that nothing fits is checked."""
    for name in ("add_loss.py", "own_loss.py"):
        (tmp_path / name).write_text((DATA / name).read_text())
    assert any(note.startswith("observed: add_loss.py") for note in checked(tmp_path, "add_loss.py")["notes"])
    assert checked(tmp_path, "own_loss.py")["target"] == "own_loss.py:VAE"


ABSENT = """import importlib.machinery

there = importlib.machinery.PathFinder.find_spec


def find_spec(name, path=None, target=None):
    return None if name.partition(".")[0] in ("keras", "tensorflow") else there(name, path, target)


importlib.machinery.PathFinder.find_spec = find_spec
"""


@pytest.mark.parametrize("command", [["check", "--input", "32x64", "{}:VAE"], ["run", "{}"]])
@pytest.mark.parametrize(("file", "line"), [("add_loss.py", "help: {}pip install keras"), ("tf_vae.py", "on torch: pip install keras")])
def test_without_keras_it_is_asked_for(tmp_path: Path, command: list[str], file: str, line: str) -> None:
    (tmp_path / "sitecustomize.py").write_text(ABSENT)
    words = [word.format(file) for word in command]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "COLUMNS": "200"}
    done = subprocess.run(
        [sys.executable, "-m", "vaelint", *words, "--device", "none"],
        cwd=DATA, capture_output=True, text=True, timeout=100, env=environment,
    )  # fmt: skip
    assert done.returncode == 2 and line.format("install it: " if "check" in command else "") in done.stdout, done.stdout
