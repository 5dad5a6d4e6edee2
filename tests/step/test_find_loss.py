"""The loss that is found, or honestly not found."""

from __future__ import annotations

import textwrap

import pytest
import torch
from usermodels import FORWARD, HEAD, LOSS, PLAIN_LOSS, Make, methods

from vaelint.step.step import told_step

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


def test_a_training_step_is_asked_before_the_methods_that_it_leads_to(make: Make) -> None:
    body = """
        def forward(self, x):
            mu, logvar = self.encode(x)
            return {"recon": self.decode(mu), "mu": mu, "logvar": logvar}
        def training_step(self, batch, batch_idx):
            out = self(batch)
            return self.my_step(batch, out)
        def my_step(self, batch, out):
            return self.loss(batch, out["recon"], out["mu"], out["logvar"])["total"].mean()
        def loss(self, x, recon, mu, logvar, weight=1):
            return {"total": loss_function(recon, x, mu, logvar) * weight}
    """
    assert make(methods(body) + PLAIN_LOSS).code() == "loss = model.training_step(x, 0)"


@pytest.mark.parametrize(
    ("returned", "accessor"),
    [
        ("total, rec, kl", "[0]"),
        ("rec, kl, total_loss", "[2]"),
        ("rec + kl, rec, kl", "[0]"),
        ("rec / 4, total / 4", "[1]"),
        ('{"kl": kl, "total": total}', "['total']"),
    ],
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
    text = HEAD + FORWARD + PLAIN_LOSS + PLAIN_LOSS.replace("loss_function", "bce_loss").replace("return ", "return 2 * ")
    why = make(text).none()
    assert "more than one way" in why and '--step "recon, mu, logvar = model(x); loss = bce_loss(recon, x, mu, logvar)"' in why


def test_two_names_of_one_loss_are_no_doubt(make: Make) -> None:
    text = HEAD + FORWARD + PLAIN_LOSS + PLAIN_LOSS.replace("loss_function", "bce_loss")
    assert make(text).code() == "recon, mu, logvar = model(x); loss = loss_function(recon, x, mu, logvar)"


def test_the_loss_that_training_calls_is_chosen(make: Make) -> None:
    text = HEAD + FORWARD + PLAIN_LOSS + PLAIN_LOSS.replace("loss_function", "bce_loss")
    text += "\ndef train(model, loader):\n    for x in loader:\n        loss = bce_loss(schedule, *model(x))\n        loss.backward()\n"
    assert "bce_loss(" in make(text).code()


def test_parts_of_a_loss_are_not_put_together(make: Make) -> None:
    text = "\ndef recon_loss(recon, x): return F.mse_loss(recon, x)\ndef calc_kl(mu, logvar): return mu.mean() + logvar.mean()\n"
    why = make(HEAD + FORWARD + text).none()
    assert "only parts" in why
    assert '--step "recon, mu, logvar = model(x); loss = recon_loss(recon, x) + calc_kl(mu, logvar)"' in why


@pytest.mark.parametrize("returned", ["rec, kl", "rec / 4, kl / 4", "rec, 0.5 * kl"])
def test_returned_parts_without_a_total_are_not_summed(make: Make, returned: str) -> None:
    text = f"""
def loss_function(recon, x, mu, logvar):
    rec, kl = F.mse_loss(recon, x), mu.mean() + logvar.mean()
    return {returned}
"""
    assert "no total" in make(HEAD + FORWARD + text).none()


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


TOKENS = """
import torch
import torch.nn.functional as F
from torch import nn

class VAE(nn.Module):
    def __init__(self):
        super().__init__()
        self.emb, self.out = nn.Embedding(9, 4), nn.Linear(4, 9)
    def forward(self, tok):
        h = self.emb(tok{read})
        return self.out(h)[:, :6], h.mean(1), h.mean(1)

def loss_function(logits, target, mu, logvar):
    return F.cross_entropy(logits.flatten(0, 1), target.flatten()) + mu.mean() + logvar.mean()
"""


def test_targets_are_the_next_tokens_where_the_model_is_fed_all_but_the_last(make: Make) -> None:
    case = make(TOKENS.format(read="[:, :-1]"), "3x7:int64[0,9)")
    step = case.found(roles={"0": "recon", "1": "mu", "2": "logvar"})
    assert step.code == "recon, mu, logvar = model(tok); loss = loss_function(recon, tok[:, 1:], mu, logvar)"
    assert case.run(step, ["tok"]).loss.ndim == 0


def test_targets_that_are_longer_for_no_known_reason_are_not_cut(make: Make) -> None:
    step, forward = make(TOKENS.format(read=""), "3x7:int64[0,9)").seek(roles={"0": "recon", "1": "mu", "2": "logvar"})
    assert step is None and "one step shorter" in forward.notes[0]


@pytest.mark.parametrize("read", ["", "[:, :-1]"])
def test_a_loss_that_shifts_the_tokens_itself_gets_them_whole(make: Make, read: str) -> None:
    case = make(TOKENS.format(read=read).replace("target.flatten()", "target[:, 1:].flatten()"), "3x7:int64[0,9)")
    step = case.found(roles={"0": "recon", "1": "mu", "2": "logvar"})
    assert step.code == "recon, mu, logvar = model(tok); loss = loss_function(recon, tok, mu, logvar)"


@pytest.mark.parametrize("name", ["prob", "p", "log_rate", "theta"])
def test_a_parameter_of_no_telling_name_gets_the_reconstruction_that_is_left(make: Make, name: str) -> None:
    text = HEAD + FORWARD + LOSS.format(name="elbo_loss", parameters=f"{name}, x, mu, logvar", recon=name, x="x", mu="mu", logvar="logvar")
    assert make(text).code() == "recon, mu, logvar = model(x); loss = elbo_loss(recon, x, mu, logvar)"


def test_a_part_of_the_loss_is_not_guessed_at(make: Make) -> None:
    assert "no loss was found" in make(HEAD + FORWARD + "\ndef style_loss(theta, x): return (theta - x).mean()\n").none()


def test_parameters_of_a_categorical_posterior_go_by_their_name(make: Make) -> None:
    text = """
        import torch
        import torch.nn.functional as F
        from torch import nn
        class VAE(nn.Module):
            def __init__(self):
                super().__init__()
                self.enc, self.dec = nn.Linear(6, 4), nn.Linear(4, 6)
            def forward(self, x):
                logits = self.enc(x)
                return self.dec(F.gumbel_softmax(logits)), logits
        def loss_function(recon, x, logits):
            return F.mse_loss(recon, x) + (logits.softmax(-1) * logits.log_softmax(-1)).sum()
    """
    step = make(textwrap.dedent(text)).found(roles={"0": "recon", "1": "mu"})
    assert step.code == "recon, logits = model(x); loss = loss_function(recon, x, logits)"


def test_no_loss_at_all(make: Make) -> None:
    assert "no loss was found" in make(HEAD + FORWARD).none()
