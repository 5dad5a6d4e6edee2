"""Keras 3 on torch, and code written for tensorflow. keras is no dependency of vaelint: `make test-packages` installs it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from keras_checked import checked, needs_keras, observed
from shown import words

pytestmark = pytest.mark.packages
DATA = Path(__file__).parents[1] / "data" / "with_keras"


def line_of(file: Path, text: str) -> int:
    return next(n for n, line in enumerate(file.read_text().splitlines(), 1) if text in line)


@pytest.mark.parametrize(
    ("target", "input", "reconstruction", "at"),
    [
        ("functional.py:make_vae", "32x784", "squared error", "rec = ops.mean("),
        ("subclassed.py:VAE", "32x784", "Bernoulli on logits", "rec = ops.mean("),
        ("train_step.py:vae", "32x28x28x1", "Bernoulli on probabilities", "reconstruction_loss = ops.mean("),
        ("add_loss.py:vae", "32x64", "squared error", "vae.compile("),
        ("add_loss.py:VAE", "32x64", "squared error", "vae.compile("),
        ("tf_vae.py:VAE", "32x64", "Bernoulli on logits", "cross = tf.nn"),
        ("tf_vae.py:vae", "32x64", "Bernoulli on logits", "cross = tf.nn"),
    ],
)
def test_a_right_model_is_traced_with_symbols_and_its_loss_known(target: str, input: str, reconstruction: str, at: str) -> None:
    found = checked(DATA, target, "--input", input)
    assert (found["status"], found["findings"], found["rung"]) == ("clean", [], "symbolic"), found
    terms = {t["role"]: t for t in found["loss"]["terms"]}
    assert terms["reconstruction"]["kernel"] == reconstruction and terms["kl"]["kernel"].startswith("Gaussian KL")
    assert found["loss"]["beta"]["value"] == 1, found["loss"]
    assert (
        line_of(DATA / target.partition(":")[0], at)
        <= terms["reconstruction"]["span"]["line"]
        <= line_of(DATA / target.partition(":")[0], at) + 1
    )


@pytest.mark.parametrize("command", ["check", "run"])
def test_normalising_over_the_batch_mixes_no_samples(command: str) -> None:
    found = (
        checked(DATA, "normalised.py:vae", "--input", "32x16x16x1", device="cpu")
        if command == "check"
        else observed(DATA, "normalised.py", "cpu")
    )
    assert (found["status"], found["findings"]) == ("clean", []), found
    assert {"H", "W"} <= set(found["symbols"]), found["symbols"]


def test_images_have_their_channels_last() -> None:
    assert list(checked(DATA, "train_step.py:vae", "--input", "32x28x24x1")["symbols"])[:4] == ["B", "H", "W", "C"]


def test_the_backend_that_a_file_names_is_torch_here(tmp_path: Path) -> None:
    (tmp_path / "model.py").write_text((DATA / "functional.py").read_text().replace('"torch"', '"jax"'))
    found = checked(tmp_path, "model.py:make_vae", "--input", "32x784")
    assert found["status"] == "clean" and "the file asks for Keras on jax; it is analysed on torch" in found["notes"]


def test_vaelint_imports_no_keras_by_itself() -> None:
    text = "import sys, vaelint, vaelint.pipeline.check; print([m for m in sys.modules if m.split('.')[0] in ('keras', 'tensorflow')])"
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, timeout=100, check=True)
    assert done.stdout.strip() == "[]"


NEEDED = """
x_input = keras.Input(shape=(784,))
h = keras.layers.Dense(64, activation="relu")(x_input)
z_mean, z_log_var = keras.layers.Dense(20)(h), keras.layers.Dense(20)(h)
noise = keras.layers.Lambda(lambda inputs: inputs[0] + tf.exp(0.5 * inputs[1]) * tf.random.normal(tf.shape(inputs[0])))
x_decoded_mean = keras.layers.Dense(784)(keras.layers.Dense(64, activation="relu")(noise([z_mean, z_log_var])))
"""


@pytest.mark.parametrize(
    ("kl", "code", "beta"),
    [
        ("-0.5 * tf.reduce_mean(1 + z_log_var - tf.square(z_mean) - tf.exp(z_log_var))", "VAE402", 784 / 20),
        ("-0.5 * tf.reduce_mean(1 + z_log_var - tf.square(z_mean) - tf.exp(z_log_var)) * 0.01", "VAE414", 7.84 / 20),
        ("-0.5 * tf.reduce_sum(1 + z_log_var - tf.square(z_mean) - tf.exp(z_log_var))", "VAE402", 32 * 784),
    ],
)
@pytest.mark.parametrize("as_arguments", [True, False])
def test_a_loss_that_reads_symbolic_tensors(tmp_path: Path, kl: str, code: str, beta: float, as_arguments: bool) -> None:
    """As in the source document on losses: Keras gives a loss targets and outputs, and no tensor of the graph has values."""
    arguments = ", z_mean, z_log_var" if as_arguments else ""
    text = f"""import tensorflow as tf
from tensorflow import keras
{NEEDED}

def vae_loss(x, x_decoded_mean{arguments}):
    xent_loss = keras.losses.mse(x, x_decoded_mean)
    kl_loss = {kl}
    return xent_loss + kl_loss


vae = keras.Model(inputs=x_input, outputs=x_decoded_mean)
vae.compile(optimizer="adam", loss=vae_loss)
vae.fit(x_train, epochs=...)
"""
    (tmp_path / "model.py").write_text(text)
    found = checked(tmp_path, "model.py:vae", "--input", "32x784")
    lines = {f["code"]: text.splitlines()[f["span"]["line"] - 1] for f in found["findings"]}
    assert set(lines) == {"VAE010", code}, found["findings"]
    assert ("def vae_loss" if as_arguments else "kl_loss =") in lines["VAE010"]
    assert found["loss"]["beta"]["value"] == pytest.approx(beta)


def test_a_posterior_that_is_compiled_with_mse_alone(tmp_path: Path) -> None:
    text = (
        DATA / "functional.py"
    ).read_text() + "\n\nvae = make_vae()\nvae = keras.Model(vae.input, vae.outputs[0])\nvae.compile('adam', loss='mse')\n"
    (tmp_path / "model.py").write_text(text)
    (found,) = checked(tmp_path, "model.py:vae", "--input", "32x784")["findings"]
    assert found["code"] == "VAE412" and "loss='mse'" in text.splitlines()[found["span"]["line"] - 1]


def test_an_autoencoder_is_not_variational(tmp_path: Path) -> None:
    text = """from tensorflow import keras
from keras.layers import LSTM, RepeatVector
x = keras.Input(shape=(20, 5))
decoded = LSTM(5, return_sequences=True)(RepeatVector(20)(LSTM(10)(x)))
autoencoder = keras.Model(x, decoded)
"""
    (tmp_path / "model.py").write_text(text)
    findings = checked(tmp_path, "model.py:autoencoder", "--input", "32x20x5")["findings"]
    assert {(f["code"], f["span"]["line"]) for f in findings} == {("VAE004", 5), ("VAE005", 5)}


def test_what_the_stand_in_lacks_is_named_with_its_line(tmp_path: Path) -> None:
    text = (DATA / "tf_vae.py").read_text().replace("tf.reduce_mean(tf.reduce_sum(cross, axis=1))", "tf.raw_ops.Mean(input=cross, axis=0)")
    (tmp_path / "model.py").write_text(text)
    (found,) = checked(tmp_path, "model.py:VAE", "--input", "32x64")["findings"]
    assert found["code"] == "VAE001" and "tensorflow.raw_ops" in found["message"], found
    assert "tf.raw_ops.Mean" in text.splitlines()[found["span"]["line"] - 1]


@pytest.mark.parametrize(
    ("old", "new", "code", "said"),
    [
        ("", "", "", ""),
        ("shape=ops.shape(z_mean)", "shape=(ops.shape(z_mean)[1],)", "VAE201", "keras.random.normal(ops.shape(std))"),
        ("shape=ops.shape(z_mean))", "shape=ops.shape(z_mean), seed=1337)", "VAE204", "keras.random.normal(ops.shape(std))"),
        ("ops.exp(0.5 * z_log_var) * epsilon", "ops.exp(z_log_var) * epsilon", "VAE205", "exp(head / 2)"),
        ("        rec = ops.mean(ops.sum(cross, axis=1))", "        rec = ops.mean(cross)", "VAE402", "sum the reconstruction"),
        ("return rec + kl", "return rec + 0.001 * kl", "VAE414", "give the weight a name"),
        ("self.out = layers.Dense(input_dim)", 'self.out = layers.Dense(input_dim, activation="sigmoid")', "VAE303", "keras.losses."),
    ],
)  # fmt: skip
def test_wrong_twins(tmp_path: Path, old: str, new: str, code: str, said: str) -> None:
    text = (DATA / "own_loss.py").read_text()
    assert old in text
    text = text.replace(old, new) if old else text
    (tmp_path / "model.py").write_text(text)
    found = checked(tmp_path, "model.py:VAE", "--input", "32x64", device="auto")
    assert [f["code"] for f in found["findings"]] == ([code] if code else []), found["findings"]
    for finding in found["findings"]:
        lines = text.splitlines()[finding["span"]["line"] - 1 : finding["span"]["end_line"]]
        assert any(new in line for line in lines) or code in ("VAE402", "VAE303"), (finding, lines)
        assert said in finding["help"] and finding["certainty"] == "confirmed", finding


PLACES = """import keras
from keras import layers, ops


class Sampling(layers.Layer):
    def call(self, inputs):
        mean, logvar = inputs
        return mean + ops.exp(0.5 * logvar) * keras.random.normal(ops.shape(mean))


class Divergence(layers.Layer):
    def call(self, inputs):
        mean, logvar = inputs
        self.add_loss(-0.5 * ops.mean(ops.sum(1 + logvar - ops.square(mean) - ops.exp(logvar), axis=1)))
        return mean


x = keras.Input((64,))
h = layers.Dense(32, activation="relu")(x)
head = keras.Sequential([keras.Input((32,)), layers.Dense(16, activation="relu")])
head.add(layers.Dense(8))  # made here
mean, logvar = Divergence()([head(h), (v := layers.Dense(8)(h))]), v  # called here
decoder = keras.Sequential([layers.Dense(32, activation="relu"), layers.Dense(64)])
rec = decoder(Sampling()([mean, logvar]))
vae = keras.Model(x, rec)
vae.compile("adam", loss=lambda x, y: ops.sum(ops.square(x - y), axis=-1))
"""


@pytest.mark.parametrize(
    ("old", "new", "code", "marked"),
    [
        ("", "", "", ""),
        ("head.add(layers.Dense(8))", 'head.add(layers.Dense(8, activation="relu"))', "VAE213", "made here"),
        ("(v := layers.Dense(8)(h))", '(v := layers.Dense(8, activation="softplus")(h))', "VAE212", "called here"),
    ],
)
def test_what_a_layer_of_keras_does_stands_where_the_user_wrote_it(tmp_path: Path, old: str, new: str, code: str, marked: str) -> None:
    """In a graph at the call of the layer; in a Sequential, which calls all its layers at once, where the layer is made."""
    text = PLACES.replace(old, new)
    (tmp_path / "model.py").write_text(text)
    found = checked(tmp_path, "model.py:vae", "--input", "32x64")["findings"]
    assert [f["code"] for f in found] == ([code] if code else []), found
    for finding in found:
        places = [finding["span"], *(x["span"] for x in finding["labels"])]
        assert any(marked in text.splitlines()[p["line"] - 1] for p in places), finding


def test_a_loss_for_each_output(tmp_path: Path) -> None:
    text = PLACES.replace("self.add_loss(", "(").replace("        return mean\n", "        return inputs[0]\n")
    text = text[: text.index("vae = keras")] + OUTPUTS
    (tmp_path / "model.py").write_text(text)
    found = checked(tmp_path, "model.py:vae", "--input", "32x64")
    assert (found["status"], found["findings"]) == ("clean", []), found
    assert [(t["role"], t["weight"]) for t in found["loss"]["terms"]] == [("reconstruction", "1/B"), ("kl", "0.5/B")]
    assert any(
        n.startswith("fit compares out[1] with np.zeros((256, 16)) (line ") and "zeros are in its place" in n for n in found["notes"]
    )


OUTPUTS = """moments = layers.Concatenate(name="moments")([mean, logvar])
rec = layers.Identity(name="rec")(rec)


def divergence(_, moments):
    m, v = ops.split(moments, 2, axis=-1)
    return -0.5 * ops.sum(1 + v - ops.square(m) - ops.exp(v), axis=-1)


def squared(x, y):
    return ops.sum(ops.square(x - y), axis=-1)


vae = keras.Model(x, [rec, moments])
vae.compile("adam", loss={"rec": squared, "moments": divergence}, loss_weights={"rec": 1.0, "moments": 0.5})
if __name__ == "__main__":
    vae.fit(data, {"rec": data, "moments": np.zeros((256, 16))})
"""


def test_the_guide_shows_what_is_printed() -> None:
    needs_keras()
    command = "vaelint check add_loss.py:vae --input 32x64 --device none"
    guide = (Path(__file__).parents[2] / "docs" / "frameworks.md").read_text()
    shown = guide.partition(f"$ {command}\n")[2].partition("```text\n")[2].partition("```")[0]
    done = subprocess.run(
        [sys.executable, "-m", *command.split()],
        cwd=DATA,
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "COLUMNS": "100"},
    )
    assert shown and words(done.stdout) == words(shown)


def test_fit_is_observed() -> None:
    target = observed(DATA, "add_loss.py", "cpu")
    assert (target["target"], target["status"], target["findings"]) == ("add_loss.py:VAE", "clean", []), target
    assert [t["role"] for t in target["loss"]["terms"]] == ["reconstruction", "kl"] and target["loss"]["beta"]["value"] == 1
    assert target["confirm"]["optimizer"]["name"] == "Adam" and target["confirm"]["optimizer"]["moved"] > 0, target["confirm"]


def test_a_seed_of_a_whole_number_draws_the_same_again(tmp_path: Path) -> None:
    text = (DATA / "own_loss.py").read_text().replace("shape=ops.shape(z_mean))", "shape=ops.shape(z_mean), seed=7)")
    (tmp_path / "model.py").write_text(text)
    (found,) = checked(tmp_path, "model.py:VAE", "--input", "32x64")["findings"]
    assert found["code"] == "VAE204" and "seed=7" in text.splitlines()[found["span"]["line"] - 1]


def test_a_train_step_without_a_call_is_observed_as_on_tensorflow(tmp_path: Path) -> None:
    """Keras builds a model by its `call` before `fit` on torch, and not on tensorflow, for which this is written."""
    text = (DATA / "tf_vae.py").read_text().replace("    @tf.function\n    def call(self, x):", "    def both(self, x):")
    text = text.replace("self(data)", "self.both(data)").replace("print(vae.predict(data))\n", "")
    assert "self.both" in text
    (tmp_path / "train.py").write_text(text)
    target = observed(tmp_path, "train.py")
    assert (target["status"], target["findings"]) == ("clean", []), target
    assert [t["role"] for t in target["loss"]["terms"]] == ["reconstruction", "kl"] and target["loss"]["beta"]["value"] == 1
