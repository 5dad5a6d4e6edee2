"""One training step: told, forward, and the loss that is found or honestly not found."""

from __future__ import annotations

import copy
import sys
import textwrap
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from vaelint.build import Loaded, load_target
from vaelint.errors import TargetError
from vaelint.inputs import InputSet
from vaelint.step import Step, find_loss, forward_step, input_names, told_step
from vaelint.target import parse_target
from vaelint.tensors import make_inputs

HEAD = """
import torch
import torch.nn.functional as F
from torch import nn

class VAE(nn.Module):
    def __init__(self):
        super().__init__()
        self.enc = nn.Linear(6, 8)
        self.dec = nn.Linear(4, 6)
    def encode(self, x):
        return self.enc(x).chunk(2, dim=-1)
    def reparameterize(self, mu, logvar):
        return mu + torch.randn_like(mu) * torch.exp(0.5 * logvar)
    def decode(self, z):
        return self.dec(z)
"""
FORWARD = """
    def forward(self, x):
        mu, logvar = self.encode(x)
        return self.decode(self.reparameterize(mu, logvar)), mu, logvar
"""
LOSS = """
def {name}({parameters}):
    return F.mse_loss({recon}, {x}, reduction="sum") - 0.5 * torch.sum(1 + {logvar} - {mu}**2 - {logvar}.exp())
"""
PLAIN_LOSS = LOSS.format(name="loss_function", parameters="recon, x, mu, logvar", recon="recon", x="x", mu="mu", logvar="logvar")


@dataclass
class Case:
    """A written file, loaded and built, with its inputs."""

    loaded: Loaded
    model: nn.Module
    inputs: InputSet
    notes: list[str] = field(default_factory=list)

    def forward(self) -> tuple[Step, list[str]]:
        return forward_step(self.loaded, self.model, self.inputs)

    def run(self, step: Step, names: list[str]) -> Any:
        torch.manual_seed(1)
        return step(copy.deepcopy(self.model), make_inputs(self.inputs, names))

    def seek(self, told: str | None = None, roles: dict[str, str] | None = None) -> tuple[Step | None, Step]:
        """The found step and the forward step. `roles` gives roles by the place in the output tuple."""
        step, names = self.forward()
        x = make_inputs(self.inputs, names)
        torch.manual_seed(1)
        output: Any = step(copy.deepcopy(self.model), x).output
        known = {id(v): f"input:{k}" for k, v in x.items()}
        known |= {id(output[int(i)]): role for i, role in (roles or {}).items()}
        return find_loss(self.loaded, self.model, step, names, output, lambda t: known.get(id(t)), told), step

    def found(self, told: str | None = None, roles: dict[str, str] | None = None) -> Step:
        step, forward = self.seek(told, roles)
        assert step is not None, forward.notes
        return step

    def code(self, told: str | None = None) -> str:
        """The code of the found step, after a run that proves it runs."""
        step = self.found(told)
        _, names = self.forward()
        loss = self.run(step, names).loss
        assert isinstance(loss, torch.Tensor) and loss.numel() == 1
        return step.code

    def none(self) -> str:
        """Why no loss was found; `notes` keeps all that was said."""
        step, forward = self.seek()
        assert step is None
        self.notes = forward.notes
        return " / ".join(forward.notes)


Make = Callable[..., Case]


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    """Writes model.py (and other files) and builds its VAE."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))

    def go(text: str, *inputs: str, target: str = "VAE", **files: str) -> Case:
        (tmp_path / "model.py").write_text(text)
        for name, other in files.items():
            (tmp_path / f"{name}.py").write_text(textwrap.dedent(other))
        loaded = load_target(parse_target(f"model.py:{target}"))
        given = InputSet.from_texts(inputs or ["5x6"])
        return Case(loaded, loaded.build(loaded.resolve_init(given, {})), given)

    return go


def failure(call: Callable[[], object]) -> TargetError:
    with pytest.raises(TargetError) as caught:
        call()
    return caught.value


def methods(body: str) -> str:
    return HEAD + textwrap.indent(textwrap.dedent(body), "    ")


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
        ("if False: loss = 1", "VAE004", "no variable named loss"),
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


# -- the loss, found


@pytest.mark.parametrize(
    "parameters",
    ["recon, x, mu, logvar", "x, recon, mu, logvar", "logvar, mu, recon, x", "recon, x, mu, logvar, beta=1.0", "x, recon, *, mu, logvar"],
)
def test_arguments_go_where_their_names_say(make: Make, parameters: str) -> None:
    text = HEAD + FORWARD + LOSS.format(name="vae_loss", parameters=parameters, recon="recon", x="x", mu="mu", logvar="logvar")
    case = make(text)
    told = "recon, mu, logvar = model(x); loss = vae_loss(recon=recon, x=x, mu=mu, logvar=logvar)"
    same = case.run(told_step(told, case.loaded), ["x"]).loss
    assert torch.equal(case.run(case.found(), ["x"]).loss, same)


@pytest.mark.parametrize(
    ("recon", "x", "mu", "logvar"),
    [
        ("recon_x", "x", "mu", "log_var"),
        ("x_hat", "x", "mean", "logvar"),
        ("y", "x", "m", "lv"),
        ("output", "target", "z_mean", "z_log_var"),
        ("y_pred", "y_true", "mu", "sigma"),
        ("out", "inputs", "mus", "log_sigma_sq"),
        ("reconstruction", "data", "z_mu", "z_logvar"),
    ],
)
def test_ways_to_name_the_parameters(make: Make, recon: str, x: str, mu: str, logvar: str) -> None:
    text = (
        HEAD + FORWARD + LOSS.format(name="criterion", parameters=f"{recon}, {x}, {mu}, {logvar}", recon=recon, x=x, mu=mu, logvar=logvar)
    )
    assert make(text).code() == "recon, mu, logvar = model(x); loss = criterion(recon, x, mu, logvar)"


def test_what_a_value_is_decides_over_its_place(make: Make) -> None:
    text = HEAD + FORWARD.replace("logvar)), mu, logvar", "logvar)), *(logvar, mu)[::1]") + PLAIN_LOSS
    step = make(text).found(roles={"0": "recon", "1": "logvar", "2": "mu"})
    assert step.code == "recon, logvar, mu = model(x); loss = loss_function(recon, x, mu, logvar)"


def test_a_method_comes_before_a_function(make: Make) -> None:
    body = """
        def forward(self, x):
            mu, logvar = self.encode(x)
            return {"recon": self.decode(mu), "mu": mu, "logvar": logvar}
        def loss_function(self, recon, x, mu, logvar): return loss_function(recon, x, mu, logvar)
    """
    assert (
        make(methods(body) + PLAIN_LOSS).code() == "out = model(x); loss = model.loss_function(out['recon'], x, out['mu'], out['logvar'])"
    )


def test_star_arguments_and_a_returned_dict(make: Make) -> None:
    body = """
        def forward(self, input, **kwargs):
            mu, log_var = self.encode(input)
            return [self.decode(self.reparameterize(mu, log_var)), input, mu, log_var]
        def loss_function(self, *args, **kwargs):
            recons = args[0]
            input = args[1]
            mu = args[2]
            log_var = args[3]
            kld_weight = kwargs["M_N"]
            recons_loss = F.mse_loss(recons, input)
            kld = torch.mean(-0.5 * torch.sum(1 + log_var - mu ** 2 - log_var.exp(), dim=1), dim=0)
            return {"Reconstruction_Loss": recons_loss.detach(), "loss": recons_loss + kld_weight * kld}
    """
    case = make(methods(body))
    step = case.found()
    assert step.code == "out = model(input); loss = model.loss_function(out[0], out[1], out[2], out[3], M_N=1.0)"
    case.run(step, ["input"])
    assert step.code.endswith("M_N=1.0)['loss']") and any("M_N=1.0 was chosen" in n for n in step.notes)


@pytest.mark.parametrize(
    ("unpacking", "batch"),
    [
        ("x, _ = batch", "(x, 0)"),
        ("x = batch", "x"),
        ("x = batch['image']", "{'image': x}"),
        ("x = batch[0]", "(x, 0)"),
        ("x, *_ = batch", "(x, 0)"),
    ],
)
def test_training_steps_get_the_batch_they_take_apart(make: Make, unpacking: str, batch: str) -> None:
    body = f"""
        def forward(self, x):
            mu, logvar = self.encode(x)
            return self.decode(mu), mu, logvar
        def _shared_step(self, batch):
            {unpacking}
            recon, mu, logvar = self(x)
            return loss_function(recon, x, mu, logvar)
        def training_step(self, batch, batch_idx):
            return self._shared_step(batch)
        def validation_step(self, batch, batch_idx):
            return self._shared_step(batch)
    """
    assert make(methods(body) + PLAIN_LOSS).code() == f"loss = model.training_step({batch}, 0)"


@pytest.mark.parametrize(
    ("returned", "accessor"),
    [("total, rec, kl", "[0]"), ("rec, kl, total_loss", "[2]"), ("rec + kl, rec, kl", "[0]"), ('{"kl": kl, "total": total}', "['total']")],
)
def test_the_total_is_taken_out_of_what_a_loss_returns(make: Make, returned: str, accessor: str) -> None:
    text = f"""
def loss_function(recon, x, mu, logvar):
    rec, kl = F.mse_loss(recon, x), -0.5 * torch.mean(1 + logvar - mu**2 - logvar.exp())
    total = total_loss = rec + kl
    return {returned}
"""
    assert make(HEAD + FORWARD + text).code().endswith("loss_function(recon, x, mu, logvar)" + accessor)


@pytest.mark.parametrize(
    ("returned", "code"),
    [
        ("F.mse_loss(recon, x)", "out = model(x); loss = out"),
        ("{'recon': recon, 'loss': recon.mean()}", "out = model(x); loss = out['loss']"),
        ("loss, recon", "out = model(x); loss = out[0]"),
        ("recon, total_loss, mu", "out = model(x); loss = out[1]"),
    ],
)
def test_forward_may_return_the_loss(make: Make, returned: str, code: str) -> None:
    body = f"""
        def forward(self, x):
            mu, logvar = self.encode(x)
            recon = self.decode(mu)
            loss = total_loss = recon.mean()
            return {returned}
    """
    assert make(methods(body)).code() == code


def test_output_objects(make: Make) -> None:
    body = """
        def forward(self, x):
            mu, logvar = self.encode(x)
            return Output(recon_x=self.decode(mu), mu=mu, log_var=logvar)
    """
    text = (
        methods(body)
        + PLAIN_LOSS
        + "\nfrom dataclasses import dataclass\n@dataclass\nclass Output:\n    recon_x: object\n    mu: object\n    log_var: object\n"
    )
    assert make(text).code() == "out = model(x); loss = loss_function(out.recon_x, x, out.mu, out.log_var)"


def test_a_function_may_take_the_output_as_a_whole(make: Make) -> None:
    body = """
        def forward(self, x):
            mu, logvar = self.encode(x)
            return {"image": self.decode(mu), "mean": mu, "lv": logvar}
    """
    text = (
        methods(body)
        + PLAIN_LOSS.replace("loss_function", "parts")
        + "\ndef loss_fn(x, outputs, beta=1):\n    return parts(outputs['image'], x, outputs['mean'], outputs['lv'])\n"
    )
    assert make(text).code() == "out = model(x); loss = loss_fn(x, out)"


def test_a_function_may_take_the_model(make: Make) -> None:
    text = """
def train_step(model, x, optimizer=None):
    recon, mu, logvar = model(x)
    loss = loss_function(recon, x, mu, logvar)
    if optimizer is not None:
        loss.backward()
    return loss
"""
    assert make(HEAD + FORWARD + PLAIN_LOSS + text.replace("loss.backward()", "pass")).code() == "loss = train_step(model, x)"
    assert make(HEAD + FORWARD + PLAIN_LOSS + text).code() == "recon, mu, logvar = model(x); loss = loss_function(recon, x, mu, logvar)"


def test_loss_classes(make: Make) -> None:
    text = """
class VAELoss(nn.Module):
    def __init__(self, beta):
        super().__init__()
        self.beta = beta
    def forward(self, recon, x, mu, logvar):
        return F.mse_loss(recon, x) + self.beta * mu.mean() + logvar.mean()
"""
    case = make(HEAD + FORWARD + text)
    assert case.code() == "recon, mu, logvar = model(x); loss = VAELoss(beta=1.0)(recon, x, mu, logvar)"
    assert case.found().made_up == {"beta": "1.0"} and any("beta=1.0" in n for n in case.found().notes)


@pytest.mark.parametrize(
    ("value", "minus"), [("rec - kl", "-"), ("rec + kl", ""), ("-(kl - rec)", "-"), ("torch.mean(rec - 2.0 * kl)", "-")]
)
def test_the_sign_of_an_elbo_is_read_from_its_source(make: Make, value: str, minus: str) -> None:
    text = (
        HEAD
        + FORWARD
        + f"\ndef elbo(recon, x, mu, logvar):\n    rec, kl = -F.mse_loss(recon, x), mu.pow(2).mean() + logvar.mean()\n    return {value}\n"
    )
    assert f"loss = {minus}elbo(" in make(text).code()


def test_conditional_models(make: Make) -> None:
    body = """
        def forward(self, x, y):
            mu, logvar = self.encode(x)
            return self.decode(mu), mu, logvar
    """
    assert (
        make(methods(body) + PLAIN_LOSS, "5x6", "5:int64[0,3)").code()
        == "recon, mu, logvar = model(x, y); loss = loss_function(recon, x, mu, logvar)"
    )


# -- the loss, in doubt


def test_two_losses_as_good_are_not_chosen_between(make: Make) -> None:
    text = HEAD + FORWARD + PLAIN_LOSS + PLAIN_LOSS.replace("loss_function", "bce_loss")
    why = make(text).none()
    assert "more than one way" in why and '--step "recon, mu, logvar = model(x); loss = bce_loss(recon, x, mu, logvar)"' in why


def test_the_loss_that_training_calls_is_chosen(make: Make) -> None:
    text = HEAD + FORWARD + PLAIN_LOSS + PLAIN_LOSS.replace("loss_function", "bce_loss")
    text += "\ndef train(model, loader):\n    for x in loader:\n        loss = bce_loss(schedule, *model(x))\n        loss.backward()\n"
    assert "bce_loss(" in make(text).code()


def test_parts_of_a_loss_are_not_put_together(make: Make) -> None:
    text = "\ndef recon_loss(recon, x): return F.mse_loss(recon, x)\ndef calc_kl(mu, logvar): return mu.mean() + logvar.mean()\n"
    why = make(HEAD + FORWARD + text).none()
    assert "only parts" in why
    assert '--step "recon, mu, logvar = model(x); loss = recon_loss(recon, x) + calc_kl(mu, logvar)"' in why


def test_returned_parts_without_a_total_are_not_summed(make: Make) -> None:
    text = (
        HEAD
        + FORWARD
        + "\ndef loss_function(recon, x, mu, logvar):\n    rec, kl = F.mse_loss(recon, x), mu.mean() + logvar.mean()\n    return rec, kl\n"
    )
    assert "no total" in make(text).none()


def test_an_elbo_of_unknown_sign_is_not_guessed(make: Make) -> None:
    text = HEAD + FORWARD + "\ndef elbo(recon, x, mu, logvar):\n    return helper(recon, x, mu, logvar)\n"
    assert "minimised or maximised" in make(text).none()


def test_a_kl_kept_on_the_model_is_not_forgotten(make: Make) -> None:
    body = """
        def forward(self, x):
            mu, logvar = self.encode(x)
            self.kl = -0.5 * torch.sum(1 + logvar - mu ** 2 - logvar.exp())
            return self.decode(mu)
    """
    text = methods(body) + "\ndef loss_fn(recon, x): return F.mse_loss(recon, x)\n"
    why = make(text).none()
    assert "model.kl" in why


def test_no_loss_at_all(make: Make) -> None:
    assert "no loss was found" in make(HEAD + FORWARD).none()


# -- the loss of the file's own training code


@pytest.mark.parametrize(
    ("training", "code"),
    [
        (
            """
def train(net, loader, optimizer, beta, criterion=None):
    net.train()
    for epoch in range(10):
        for i, (img, _) in enumerate(loader):
            img = img.view(-1, 6).to("cuda")
            optimizer.zero_grad()
            recon, mu, logvar = net(img)
            kl = -0.5 * torch.mean(1 + logvar - mu**2 - logvar.exp())
            loss = F.mse_loss(recon, img) + beta * kl
            print(loss.item())
            loss.backward()
            optimizer.step()
""",
            "beta = 1.0; recon, mu, logvar = net(img); kl = KL; loss = F.mse_loss(recon, img) + beta * kl",
        ),
        (
            """
if __name__ == "__main__":
    vae = VAE().to("cpu")
    criterion = nn.MSELoss(reduction="sum")
    for x in []:
        out = vae(x)
        rec = criterion(out[0], x)
        (rec + 0.1 * out[1].pow(2).sum()).backward()
""",
            "criterion = nn.MSELoss(reduction='sum'); out = model(x); rec = criterion(out[0], x); loss = rec + 0.1 * out[1].pow(2).sum()",
        ),
        (
            """
class Trainer:
    def fit(self, loader):
        self.model = VAE()
        for batch in loader:
            with torch.autocast("cpu"):
                recon, mu, logvar = self.model(batch.flatten(1))
                loss = F.mse_loss(recon, batch)
            self.scaler.scale(loss).backward()
""",
            "batch = x\nwith torch.autocast('cpu'):\n    recon, mu, logvar = model(batch.flatten(1))\n    loss = F.mse_loss(recon, batch)",
        ),
    ],
)
def test_training_code_is_cut_out(make: Make, training: str, code: str) -> None:
    case = make(HEAD + FORWARD + training)
    step = case.found()
    shown = step.code.replace("-0.5 * torch.mean(1 + logvar - mu ** 2 - logvar.exp())", "KL").replace("img = x; ", "")
    assert shown == code.replace("net(", "model(")
    assert case.run(step, ["x"]).loss.ndim == 0


def test_cut_out_code_keeps_its_lines(make: Make) -> None:
    line = "        loss = 1 / (model(x)[0].numel() - 30)"
    text = f"{HEAD}{FORWARD}\ndef train(model, loader):\n    for x in loader:\n{line}\n        loss.backward()\n"
    case = make(text)
    step = case.found()
    with pytest.raises(ZeroDivisionError) as caught:
        case.run(step, ["x"])
    last = caught.traceback[-1]
    assert Path(last.path).name == "model.py" and text.split("\n")[last.lineno] == line


@pytest.mark.parametrize(
    "body",
    [
        "loss = loss_function(*model(x), args.weight)",  # args is not known here
        "loss = schedule(model(x))",
        "y = model(batch['x'])[0]\n        loss = y.sum()",
        "loss = other(x)",
    ],
)
def test_training_code_with_unknown_parts_is_left_alone(make: Make, body: str) -> None:
    text = f"\ndef train(model, loader, args, schedule, other):\n    for x in loader:\n        {body}\n        loss.backward()\n"
    assert make(HEAD + FORWARD + PLAIN_LOSS + text).code() == "recon, mu, logvar = model(x); loss = loss_function(recon, x, mu, logvar)"


def test_two_ways_to_train_are_not_chosen_between(make: Make) -> None:
    one = "\ndef train{n}(model, loader):\n    for x in loader:\n        loss = model(x)[{n}].sum()\n        loss.backward()\n"
    assert make(HEAD + FORWARD + PLAIN_LOSS + one.format(n=1) + one.format(n=2)).code().endswith("loss_function(recon, x, mu, logvar)")


TRAINING_FILE = """
import sys
import torch
from torch.nn import functional as F
from model import VAE
data = open(sys.argv[1])
weight = 0.5
rec_loss = lambda recon, x: F.mse_loss(recon, x)

def main():
    net = VAE()
    for images in data:
        recon, mu, logvar = net(images)
        loss = rec_loss(recon, images) + weight * mu.pow(2).mean()
        loss.backward()
"""


def test_training_code_of_another_file_is_cut_out(make: Make) -> None:
    case = make(HEAD + FORWARD, train=TRAINING_FILE)
    code = "images = x; recon, mu, logvar = model(images); loss = rec_loss(recon, images) + weight * mu.pow(2).mean()"
    assert case.code() == code and any("train.py:15" in note for note in case.found().notes)


def test_a_loss_beside_the_model_comes_before_training_elsewhere(make: Make) -> None:
    assert make(HEAD + FORWARD + PLAIN_LOSS, train=TRAINING_FILE).code().endswith("loss_function(recon, x, mu, logvar)")


def test_training_elsewhere_that_cannot_be_read_is_said(make: Make) -> None:
    case = make(HEAD + FORWARD, train=TRAINING_FILE.replace("weight = 0.5", "weight = 1 / 0"))
    assert "no loss was found" in case.none() and any("train.py:15 trains the model" in note for note in case.notes)


# -- the loss, told by name


def test_a_loss_told_by_name(make: Make) -> None:
    text = HEAD + FORWARD + PLAIN_LOSS + PLAIN_LOSS.replace("loss_function", "other")
    assert "loss = other(recon, x, mu, logvar)" in make(text).code("other")


def test_a_loss_told_in_another_file(make: Make) -> None:
    train = "import torch\nimport torch.nn.functional as F\nfrom model import VAE\n" + PLAIN_LOSS
    case = make(HEAD + FORWARD, train=train)
    assert case.code("train.py:loss_function") == "recon, mu, logvar = model(x); loss = loss_function(recon, x, mu, logvar)"
    assert "train" not in sys.modules


def test_only_what_a_told_loss_needs_is_run(make: Make) -> None:
    train = """
        import torch.nn.functional as F
        import nosuchpackage
        raise SystemExit("this trains for a week")
        beta = 0.5
        def part(mu): return mu.pow(2).mean()
        def loss_function(recon, x, mu, logvar): return F.mse_loss(recon, x) + beta * part(mu) + part(logvar)
    """
    assert make(HEAD + FORWARD, train=train).code("train.py:loss_function").endswith("loss_function(recon, x, mu, logvar)")


@pytest.mark.parametrize(
    ("told", "part"),
    [
        ("nosuch", "there is no loss nosuch"),
        ("nosuch.py:loss", "there is no file nosuch.py"),
        ("model.py:nosuch", "has no nosuch"),
        ("odd", "has parameters that nothing fits"),
        ("F", "not a function"),
    ],
)
def test_a_told_loss_that_cannot_be_used(make: Make, told: str, part: str) -> None:
    case = make(HEAD + FORWARD + PLAIN_LOSS + "\ndef odd(recon, x, schedule): return recon\n")
    error = failure(lambda: case.seek(told))
    assert error.code == "VAE004" and part in error.message
