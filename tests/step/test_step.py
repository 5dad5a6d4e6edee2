"""One training step, told, and the model's own forward."""

from __future__ import annotations

import pytest
from usermodels import FORWARD, HEAD, PLAIN_LOSS, Make, failure, methods

from vaelint.step.step import input_names, told_step

# -- told


@pytest.mark.parametrize(
    "code",
    [
        "recon, mu, logvar = model(x); loss = loss_function(recon, x, mu, logvar)",
        "out = model(x)\nloss = loss_function(out[0], x, *out[1:])",
        "[model(x) for _ in range(3)]; loss = sum(model(x)[i].sum() for i in (0, 1))",
        "loss = loss_function(*(model(data)[i] if i != 1 else data for i in (0, 1)), *model(data)[1:])",
    ],
)
def test_told_steps_run_in_the_names_of_the_module(make: Make, code: str) -> None:
    case = make(HEAD + FORWARD + PLAIN_LOSS, "x=5x6")
    outcome = case.run(told_step(code, case.loaded), ["x"])
    assert outcome.loss.ndim == 0 and outcome.output[0].shape == (5, 6)
    assert "loss" not in case.loaded.namespace and "model" not in case.loaded.namespace


def test_a_variable_named_out_is_not_mistaken_for_the_output(make: Make) -> None:
    case = make(HEAD + FORWARD)
    assert len(case.run(told_step("out, mu, lv = model(x); loss = out.sum()", case.loaded), ["x"]).output) == 3


def test_the_output_is_seen_inside_a_training_step(make: Make) -> None:
    body = """
        def training_step(self, batch, batch_idx):
            x, _ = batch
            recon, mu, logvar = self(x)
            return F.mse_loss(recon, x)
        def forward(self, x):
            mu, logvar = self.encode(x)
            return self.decode(mu), mu, logvar
    """
    case = make(methods(body))
    outcome = case.run(told_step("loss = model.training_step((x, 0), 0)", case.loaded), ["x"])
    assert outcome.loss.ndim == 0 and len(outcome.output) == 3


@pytest.mark.parametrize(
    ("code", "error_code", "part"),
    [
        ("recon, mu = model(x", "VAE003", "not valid Python"),
        ("recon, mu, logvar = model(x)", "VAE004", "assigns nothing to loss"),
        ("loss = model(x)", "VAE004", "a tuple"),
        ("loss = model(x)[0].sum().item()", "VAE004", "a float"),
        ("if False: loss = 1", "VAE004", "assigns nothing to loss"),
    ],
)
def test_told_steps_that_cannot_be(make: Make, code: str, error_code: str, part: str) -> None:
    case = make(HEAD + FORWARD)
    error = failure(lambda: case.run(told_step(code, case.loaded), ["x"]))
    assert error.code == error_code and part in error.message and error.help


def test_what_user_code_raises_passes_through(make: Make) -> None:
    case = make(HEAD + FORWARD)
    with pytest.raises(ZeroDivisionError):
        case.run(told_step("loss = 1 / 0", case.loaded), ["x"])
    assert not case.model._forward_hooks


# -- forward


@pytest.mark.parametrize(
    ("signature", "inputs", "call", "names"),
    [
        ("self, x", ["5x6"], "model(x)", ["x"]),
        ("self, x", ["image=5x6"], "model(image)", ["image"]),
        ("self, x, y=None", ["5x6"], "model(x)", ["x"]),
        ("self, x, y=None", ["5x6", "y=5:int64[0,3)"], "model(x, y)", ["x", "y"]),
        ("self, x, a=None, y=None", ["5x6", "y=5:int64[0,3)"], "model(x, y=y)", ["x", "y"]),
        ("self, y, x", ["x=5x6", "y=5x6"], "model(y, x)", ["y", "x"]),
        ("self, x", ["5x6", "5:int64[0,3)"], "model(x)", ["x", "y"]),
        ("self, x, labels", ["5x6", "5:int64[0,3)"], "model(x, labels)", ["x", "labels"]),
        ("self, *args", ["5x6"], "model(x)", ["x"]),
        ("self, x, *, scale", ["5x6", "5x6"], "model(x, scale=scale)", ["x", "scale"]),
        ("self, x, **options", ["5x6", "5:int64[0,3)"], "model(x, labels=labels)", ["x", "labels"]),
        ("self, x, **options", ["5x6", "labels=5:int64[0,3)"], "model(x, labels=labels)", ["x", "labels"]),
        ("self, x, **options", ["5x6"], "model(x)", ["x"]),
    ],
)
def test_inputs_are_bound_by_name_else_by_place(make: Make, signature: str, inputs: list[str], call: str, names: list[str]) -> None:
    body = f"""
        def forward({signature}):
            if {"len(options)" if "options" in signature else "0"}: options["labels"]
            return 1
    """
    case = make(methods(body), *inputs)
    step, given = case.forward()
    assert (step.call, given) == (call, names)
    assert case.run(step, given).output == 1


@pytest.mark.parametrize(
    ("signature", "inputs", "names"),
    [
        ("self, a, b", ["5x6"], ["a"]),
        ("self", ["5x6", "5x6"], ["x", "y"]),
        ("self, a, b", ["b=5x6", "5x6"], ["b", "a"]),
        ("self, a", ["5x6", "5"], ["a", "x"]),
    ],
)
def test_every_input_has_a_name(make: Make, signature: str, inputs: list[str], names: list[str]) -> None:
    case = make(methods(f"def forward({signature}): return 1"), *inputs)
    assert input_names(case.model, case.inputs) == names


def test_too_few_inputs(make: Make) -> None:
    case = make(methods("def forward(self, x, lengths, mask): return x"))
    error = failure(case.forward)
    assert error.code == "VAE003" and "also needs lengths, mask; 1 input is given" in error.message
    assert "--input lengths=5x" in error.help and error.span is not None


def test_a_class_without_forward_is_run_in_pieces(make: Make) -> None:
    case = make(HEAD + PLAIN_LOSS)
    step, names = case.forward()
    assert len(case.run(step, names).output) == 3 and "has no forward" in step.notes[0]
    assert "loss_function(out[0], x, out[1], out[2])" in case.code()


def test_a_class_without_forward_may_compute_its_loss(make: Make) -> None:
    body = """
        decode = None
        def loss(self, x):
            mu, logvar = self.encode(x)
            return (self.dec(self.reparameterize(mu, logvar)) - x).pow(2).sum()
    """
    step, _ = make(methods(body)).forward()
    assert step.has_loss and step.code == "loss = model.loss(x)"


def test_a_class_that_cannot_be_run_says_so(make: Make) -> None:
    error = failure(make("from torch import nn\nclass VAE(nn.Module):\n    def embed(self, x): return x\n").forward)
    assert error.code == "VAE003" and "no forward" in error.message and "--step" in error.help and "embed" in error.notes[0]
