"""Trainings written for Lightning, transformers, accelerate, Pyro, PyTorch Geometric and scvi-tools, observed.

`make test-packages` installs these packages; without them the tests are skipped."""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from shown import words

from vaelint.observe.data.library_sets import library_data
from vaelint.observe.data.torchvision import torchvision_data

pytestmark = pytest.mark.packages
DATA = Path(__file__).parents[1] / "data" / "runs" / "frameworks"


def needs(package: str) -> None:
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed; run make test-packages")


def observed(folder: Path, *words: str, device: str = "none") -> dict[str, Any]:
    """The one target of a run."""
    how = ["run", "--device", device, "--output-format", "json"]
    done = subprocess.run([sys.executable, "-m", "vaelint", *how, *words], cwd=folder, capture_output=True, text=True, timeout=300)
    assert "Traceback" not in done.stderr, done.stderr
    (target,) = json.loads(done.stdout)["targets"]
    return dict(target)


def checked(folder: Path, target: str, step: str, shape: str = "32x64") -> dict[str, Any]:
    """The one target of a check with a step."""
    how = ["check", target, "--device", "none", "--output-format", "json", "--input", shape, "--step", step]
    done = subprocess.run([sys.executable, "-m", "vaelint", *how], cwd=folder, capture_output=True, text=True, timeout=300)
    assert "Traceback" not in done.stderr, done.stderr
    (result,) = json.loads(done.stdout)["targets"]
    return dict(result)


def line_of(script: str, text: str) -> int:
    return next(n for n, line in enumerate((DATA / script).read_text().splitlines(), 1) if text in line)


@pytest.mark.parametrize(
    ("package", "script", "model", "minimised"),
    [
        ("lightning", "lightning_vae.py", "LitVAE", "loss = recon + kl"),
        ("lightning", "lightning_gan.py", "VaeGan", "self.manual_backward(rec"),
        ("transformers", "hf_trainer.py", "VAEModel", "loss=recon +"),
        ("accelerate", "accelerated.py", "VAE", "loss = recon + kl"),
        ("pyro", "svi.py", "VAE", "svi.step(x)"),
    ],
)
def test_a_training_as_it_is_written_for_its_library_is_right(package: str, script: str, model: str, minimised: str) -> None:
    needs(package)
    target = observed(DATA, script)
    assert (target["target"], target["status"], target["findings"]) == (f"{script}:{model}", "clean", []), target
    assert target["symbols"]["D"] == 64 and target["symbols"]["L"] == 8 and "B" in target["symbols"]
    assert [t["role"] for t in target["loss"]["terms"]][:2] == ["reconstruction", "kl"]
    place = f"{script}:{line_of(script, minimised)}"
    assert any(n.startswith(f"observed: {script}; the loss is what {place} ") for n in target["notes"]), target["notes"]


CHANGES_WEIGHTS = """class Shrunk(L.Callback):
    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        with torch.no_grad():
            for weight in module.vae.parameters():
                weight.mul_(0.999)


def main"""


def test_a_callback_of_lightning_changes_weights_after_each_step(tmp_path: Path) -> None:
    needs("lightning")
    text = (DATA / "lightning_vae.py").read_text()
    text = text.replace("def main", CHANGES_WEIGHTS).replace("max_epochs=3", "max_epochs=3, callbacks=[Shrunk()]")
    assert "callbacks=[Shrunk()]" in text
    (tmp_path / "train.py").write_text(text)
    target = observed(tmp_path, "train.py", device="auto")
    assert (target["target"], target["status"], target["findings"]) == ("train.py:LitVAE", "clean", []), target
    assert [(t["role"], t["weight"]) for t in target["loss"]["terms"]] == [("reconstruction", "1/B"), ("kl", "1/B")]


def test_a_model_of_diffusers_that_accelerate_trains() -> None:
    needs("accelerate")
    needs("diffusers")
    target = observed(DATA, "kl_autoencoder.py")
    assert (target["target"], target["status"], target["findings"]) == ("kl_autoencoder.py:AutoencoderKL", "clean", []), target
    assert [(t["role"], t["weight"]) for t in target["loss"]["terms"]] == [("reconstruction", "0.5/B"), ("kl", "0.5/B")]
    place = f"kl_autoencoder.py:{line_of('kl_autoencoder.py', 'loss = error')}"
    assert any(n.endswith(f"the loss is what {place} makes and accelerate calls backward() on") for n in target["notes"])


def test_counts_of_scvi_tools() -> None:
    needs("scvi")
    target = observed(DATA, "counts.py", device="auto")
    assert (target["target"], target["status"]) == ("counts.py:TrainingPlan", "clean"), target["findings"]
    assert [t["kernel"] for t in target["loss"]["terms"]] == ["zero-inflated negative binomial", "Gaussian KL to N(0, 1)"]


def test_two_latents_within_one_call_of_scvi_tools(tmp_path: Path) -> None:
    """z and the background of the proteins are drawn in one line of the script; each has its KL, of one weight."""
    needs("scvi")
    text = (DATA / "counts.py").read_text()
    text = text.replace(', batch_key="batch")', ', batch_key="batch", protein_expression_obsm_key="protein")').replace("SCVI", "TOTALVI")
    text = text.replace(
        "scvi.model.TOTALVI.setup", 'adata.obsm["protein"] = rng.poisson(4.0, size=(400, 7)).astype("float32")\nscvi.model.TOTALVI.setup', 1
    )
    (tmp_path / "proteins.py").write_text(text)
    target = observed(tmp_path, "proteins.py")
    assert target["findings"] == []
    rows = [(t["kernel"], t["weight"]) for t in target["loss"]["terms"] if t["role"] == "kl"]
    assert [kernel for kernel, _ in rows] == ["Gaussian KL to N(0, 1)", "Gaussian KL to a learned prior"] and len({w for _, w in rows}) == 1


EVENT = ".to_event(1)"
LATENT = "dist.Normal(z_loc, z_scale).to_event(1)"
MODEL_Z, GUIDE_Z = f'z = pyro.sample("latent", {LATENT})', f'            pyro.sample("latent", {LATENT})\n\n\ndef'
SCALED = "with pyro.poutine.scale(scale=0.3):\n                "


FLAT, IMAGE = (
    f"dist.Bernoulli({loc}, validate_args=False).to_event(1), obs={x}"
    for loc, x in (("loc_img", "x.reshape(-1, 64)"), ("loc_img.view(-1, 1, 8, 8)", "x"))
)
GUESS = """
            guess = z_scale[:, :1].sigmoid().expand(-1, 64)
            pyro.sample("obs", dist.Bernoulli(guess).to_event(1))


def"""
MORE = '\n            pyro.sample("more", dist.Normal(self.decoder(z), 1).to_event(1))'


PAIRS = [
    ([("SVI(vae.model, vae.guide,", "SVI(vae.guide, vae.model,")], "SVI(vae", "model and guide are exchanged"),
    ([("validate_args=False).to_event(1)", "validate_args=False)")], 'pyro.sample("obs"', "64 independent draws"),
    ([(FLAT, IMAGE)], 'pyro.sample("obs"', "the last 3 axes as one draw: .to_event(3)"),
    ([(FLAT, IMAGE.replace("event(1)", "event(3)"))], "", ""),
    ([(LATENT, LATENT.removesuffix(EVENT))], 'pyro.sample("latent"', "8 independent draws"),
    ([('with pyro.plate("data", x.shape[0]):', "if True:")], 'pyro.sample("latent"', "no plate declares independent"),
    ([('x.shape[0]):', "x.shape[0], dim=-2):")], 'pyro.sample("latent"', "its 32 rows along axis -1"),
    ([("(x.shape[0], self.z_dim,", "(x.shape[0], 1,")], 'z = pyro.sample("latent"', "has a prior of (32, 1)"),
    ([(MODEL_Z, f"{SCALED}{MODEL_Z}")], 'pyro.sample("latent"', "log q is weighed by 1"),
    ([(MODEL_Z, f"{SCALED}{MODEL_Z}"), (GUIDE_Z, GUIDE_Z.replace("pyro.sample", f"{SCALED}pyro.sample", 1))], "", ""),
    ([(GUIDE_Z, GUIDE_Z.replace("\n\n\ndef", GUESS))], "dist.Bernoulli(guess)", "the guide draws it, and the model observes it"),
    ([(MODEL_Z, f"{MODEL_Z}{MORE}")], '"more"', "the guide does not"),
    ([("Trace_ELBO", "TraceMeanField_ELBO")], "", ""),
    ([("Trace_ELBO()", "TraceEnum_ELBO(max_plate_nesting=1)"), ("Trace_ELBO\n", "TraceEnum_ELBO\n")], "", ""),
    ([('pyro.plate("data", x.shape[0])', 'pyro.plate("data", 60000, subsample=x)')], "", ""),
    ([("loss=Trace_ELBO()", "loss=Trace_ELBO(num_particles=2, vectorize_particles=True, max_plate_nesting=1)")], "", ""),
]  # fmt: skip


@pytest.mark.parametrize(("edits", "place", "said"), PAIRS)
def test_a_guide_and_a_model_that_make_no_bound(tmp_path: Path, edits: list[tuple[str, str]], place: str, said: str) -> None:
    needs("pyro")
    text = (DATA / "svi.py").read_text()
    for old, new in edits:
        assert old in text
        text = text.replace(old, new)
    (tmp_path / "svi.py").write_text(text)
    judged(observed(tmp_path, "svi.py"), text, place, said)


BOUND = re.compile(r"loss=((?:Trace|TraceMeanField|TraceEnum)_ELBO\(.*?\))\)\n")


@pytest.mark.parametrize(("edits", "place", "said"), PAIRS)
def test_the_same_with_a_step(tmp_path: Path, edits: list[tuple[str, str]], place: str, said: str) -> None:
    needs("pyro")
    text = (DATA / "svi.py").read_text()
    for old, new in edits:
        text = text.replace(old, new)
    (tmp_path / "svi.py").write_text(text)
    bound = BOUND.search(text)
    assert bound is not None
    pair = "model.guide, model.model" if "exchanged" in said else "model.model, model.guide"
    shape = "32x1x8x8" if "8, 8)" in text.partition("def main")[0] else "32x64"
    target = checked(tmp_path, "svi.py:VAE", f"loss = {bound[1]}.differentiable_loss({pair}, x)", shape)
    judged(target, text, 'pyro.sample("obs"' if "exchanged" in said else place, said)
    if not said:
        assert [t["role"] for t in target["loss"]["terms"]] == ["reconstruction", "kl"]
        lines = text.splitlines()
        for term, name in zip(target["loss"]["terms"], ("obs", "latent"), strict=True):
            assert f'pyro.sample("{name}"' in lines[term["span"]["line"] - 1]


def judged(target: dict[str, Any], text: str, place: str, said: str) -> None:
    if not said:
        assert (target["status"], target["findings"]) == ("clean", []), target
        return
    (found,) = [f for f in target["findings"] if f["code"] == "VAE009"]
    assert said in f"{found['message']} {found['label']} {found['help']}" and found["severity"] == "error" and found["help"]
    assert place in text.splitlines()[found["span"]["line"] - 1]


CLASS = 'y = pyro.sample("y", dist.OneHotCategorical(logits=x.new'
DRAWN = [
    ('config_enumerate(m2.guide, "parallel", expand=True)', "m2.guide"),
    ("TraceEnum_ELBO(max_plate_nesting=1)", "Trace_ELBO()"),
    ("TraceEnum_ELBO, config_enumerate", "Trace_ELBO"),
]
LESS = [("with pyro.plate(", "with pyro.poutine.scale(scale=0.3), pyro.plate(")]


@pytest.mark.parametrize(("edits", "weight"), [([], 1.0), (LESS, 0.3)])
def test_a_class_that_is_summed_over(tmp_path: Path, edits: list[tuple[str, str]], weight: float) -> None:
    """Each site's density is weighed by the probabilities of the class; its term has what they add up to."""
    needs("pyro")
    target = observed(tmp_path, _edited(tmp_path, edits))
    assert (target["status"], target["findings"]) == ("clean", []), target
    terms = {t["kernel"]: t for t in target["loss"]["terms"]}
    assert [(t["role"], t["value"]) for t in terms.values()] == [(r, pytest.approx(weight)) for r in ("reconstruction", "kl", "kl")]
    assert "exact KL of 'y' (OneHotCategorical)" in terms and "Bernoulli likelihood of 'x', summed over 'y'" in terms
    assert target["loss"]["beta"]["value"] == pytest.approx(1) and "summed over" in target["loss"]["objective"]
    assert terms["exact KL of 'y' (OneHotCategorical)"]["span"]["line"] == line_of("enumerated.py", CLASS)


def test_a_frozen_part_of_a_pyro_model_and_a_loader_that_is_told_where() -> None:
    needs("pyro")
    target = observed(DATA, "music_from_a_guess.py")
    assert not target["findings"], target["findings"]
    assert {t["role"] for t in target["loss"]["terms"]} == {"reconstruction", "kl"}


def test_steps_of_time_and_a_latent_that_is_drawn_as_0_or_1() -> None:
    """Each line of the program is one term, with the weight that its densities have in the loss."""
    needs("pyro")
    target = observed(DATA, "steps_of_time.py")
    assert (target["status"], target["findings"]) == ("clean", []), target["findings"]
    assert [(t["role"], t["kernel"], t["value"], t["span"]["line"]) for t in target["loss"]["terms"]] == [
        (role, kernel, pytest.approx(weight), line_of("steps_of_time.py", text))
        for role, kernel, weight, text in (
            ("reconstruction", "Bernoulli likelihood of 'x_0' and 3 more", 1, 'pyro.sample(f"x_{t}"'),
            ("kl", "Monte Carlo KL of 'played' (Bernoulli), by the score function", 1, 'played = pyro.sample("played"'),
            ("kl", "Monte Carlo KL of 'z_0' and 3 more (Normal)", 0.5, 'z = pyro.sample(f"z_{t}", dist.Normal(where, softplus(how))'),
        )
    ]
    assert target["loss"]["objective"] == "a beta-VAE with a beta for each latent: 1 for 'played', 0.5 for 'z_0' and 3 more"


AVERAGED = "Trace_ELBO(num_particles=2)"


@pytest.mark.parametrize(
    ("bound", "weights"),
    [(AVERAGED, [1, 1]), (AVERAGED.replace("Trace_", "TraceMeanField_"), [1, 1]), ("RenyiELBO(num_particles=2)", [None, None])],
)
def test_an_average_over_draws_and_a_bound_that_is_none(tmp_path: Path, bound: str, weights: list[float | None]) -> None:
    """Renyi's bound weighs each draw by what it explains: no number is the weight of a term."""
    needs("pyro")
    text = (DATA / "svi.py").read_text().replace("loss=Trace_ELBO()", f"loss={bound}")
    text = text.replace("import SVI, Trace_ELBO", f"import SVI, {bound.partition('(')[0]}")
    (tmp_path / "svi.py").write_text(text)
    target = observed(tmp_path, "svi.py")
    assert target["findings"] == [] and [t["value"] for t in target["loss"]["terms"]] == weights, target["loss"]


def test_music_of_pyros_examples_is_made_up() -> None:
    needs("pyro")
    notes: list[str] = []
    with torchvision_data("made-up", notes.append, lambda file: True), library_data("made-up", notes.append):
        loader = importlib.import_module("pyro.contrib.examples.polyphonic_data_loader")
        train = loader.load_data(loader.JSB_CHORALES)["train"]
    assert "jsb_chorales" in notes[0] and train["sequences"].shape == (229, int(train["sequence_lengths"].max()), 88)
    last = [int(n) for n in train["sequence_lengths"]]
    assert all(not s[n:].any() for s, n in zip(train["sequences"], last, strict=True)) and set(train["sequences"].unique().tolist()) == {
        0,
        1,
    }


@pytest.mark.parametrize(
    ("family", "name", "shape", "edges"),
    [
        ("Amazon", "Photo", (7650, 745), 238162),
        ("CitationFull", "Cora_ML", (2995, 2879), 16316),
        ("Planetoid", "Cora", (2708, 1433), 10556),
    ],
)
def test_graphs_that_are_made_up_have_the_sizes_of_the_true_ones(family: str, name: str, shape: tuple[int, int], edges: int) -> None:
    needs("torch_geometric")
    notes: list[str] = []
    with library_data("made-up", notes.append):
        sets = importlib.import_module("torch_geometric.datasets")
        made = getattr(sets, family)("data", name)
    assert made[0].x.shape == shape and made[0].num_edges == edges and made[0].is_undirected() and not made[0].has_self_loops()
    assert name in notes[0] and made.num_features == shape[1] and hasattr(made[0], "train_mask") == (family == "Planetoid")


def test_a_class_that_is_drawn_has_a_score_function(tmp_path: Path) -> None:
    needs("pyro")
    target = observed(tmp_path, _edited(tmp_path, DRAWN))
    assert (target["status"], target["findings"]) == ("clean", []), target
    kernels = [t["kernel"] for t in target["loss"]["terms"]]
    assert kernels[1:] == ["Monte Carlo KL of 'y' (OneHotCategorical), by the score function", "Monte Carlo KL of 'z' (Normal)"]


@pytest.mark.parametrize("bound", ["Trace_ELBO", "TraceMeanField_ELBO"])
def test_a_latent_that_is_a_point_has_its_prior_and_no_kl(tmp_path: Path, bound: str) -> None:
    needs("pyro")
    text = (DATA / "svi.py").read_text().replace("Trace_ELBO", bound)
    text = text.replace(GUIDE_Z, GUIDE_Z.replace(LATENT, "dist.Delta(z_loc, event_dim=1)"))
    (tmp_path / "svi.py").write_text(text)
    target = observed(tmp_path, "svi.py")
    rows = [(t["role"], t["kernel"], t["value"]) for t in target["loss"]["terms"]]
    assert rows[1:] == [("prior", "log prior of 'latent' at a point (Normal)", pytest.approx(1))]
    assert target["loss"]["objective"].endswith("with a latent that is a point")


def _edited(folder: Path, edits: list[tuple[str, str]]) -> str:
    text = (DATA / "enumerated.py").read_text()
    for old, new in edits:
        assert old in text
        text = text.replace(old, new)
    (folder / "enumerated.py").write_text(text)
    return "enumerated.py"


@pytest.mark.parametrize(
    ("package", "script", "module"), [("lightning", "lightning_vae.py", "lightning"), ("transformers", "hf_trainer.py", "huggingface")]
)
@pytest.mark.parametrize("wrong", [False, True])
def test_a_callback_checks_the_first_batches(tmp_path: Path, package: str, script: str, module: str, wrong: bool) -> None:
    needs(package)
    text = (DATA / script).read_text()
    check = f'callbacks=[vaelint.{module}.Check(device="none")]'
    text = text.replace("max_epochs=3)", f"max_epochs=1, {check})").replace("train_dataset=data)", f"train_dataset=data, {check})")
    text = f"import vaelint.{module}\n" + text + '\nprint("trained to its end")\n'
    if wrong:
        text = text.replace("torch.randn_like(mu)", "torch.randn(8)")
    (tmp_path / script).write_text(text)
    shutil.copy(DATA / "plain_vae.py", tmp_path)
    done = subprocess.run([sys.executable, script], cwd=tmp_path, capture_output=True, text=True, timeout=300)
    if wrong:
        assert done.returncode == 1 and "error[VAE201] shared-noise" in done.stderr, done.stderr
    else:
        assert done.returncode == 0 and "trained to its end" in done.stdout and "VAE" not in done.stderr.replace("LitVAE", ""), done.stderr


GUIDE = Path(__file__).parents[2] / "docs"
SHOWN = {"lightning": "lightning", "huggingface": "accelerate", "pyro": "pyro", "scvi-tools": "scvi", "pyg": "torch_geometric"}


@pytest.mark.parametrize("page", SHOWN)
def test_the_guide_shows_what_is_printed(page: str) -> None:
    needs(SHOWN[page])
    text = (GUIDE / f"{page}.md").read_text()
    outputs = re.findall(r"\$ vaelint ([^\n]*)\n```\n\n```text\n(.*?)```", text, re.DOTALL)
    assert outputs
    for command, shown in outputs:
        words_of_command = [sys.executable, "-m", "vaelint", *shlex.split(command)]
        done = subprocess.run(words_of_command, cwd=DATA, capture_output=True, text=True, timeout=300, env={**os.environ, "COLUMNS": "100"})
        expected = words(shown)
        assert words(done.stdout)[: len(expected)] == expected, done.stdout
