# mypy: disable-error-code="no-untyped-call"
"""Training that runs in this process, watched: `with vaelint.observe() as seen`. Each fault of a loop has its correct twin."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

import vaelint
from vaelint.api import Report
from vaelint.trace.standin import InsteadOfCuda

Batch = torch.Tensor


class VAE(nn.Module):
    def __init__(self, bits: int = 12, latent: int = 4) -> None:
        super().__init__()
        self.enc, self.mu, self.logvar = nn.Linear(bits, 16), nn.Linear(16, latent), nn.Linear(16, latent)
        self.dec = nn.Linear(latent, bits)

    def forward(self, x: Batch) -> tuple[Batch, Batch, Batch]:
        h = F.relu(self.enc(x))
        mu, logvar = self.mu(h), self.logvar(h)
        z = mu + torch.exp(0.5 * logvar) * torch.randn_like(mu)
        return torch.sigmoid(self.dec(z)), mu, logvar


class SharedNoise(VAE):
    def forward(self, x: Batch) -> tuple[Batch, Batch, Batch]:
        h = F.relu(self.enc(x))
        mu, logvar = self.mu(h), self.logvar(h)
        z = mu + torch.exp(0.5 * logvar) * torch.randn(4)  # one noise
        return torch.sigmoid(self.dec(z)), mu, logvar


def elbo(recon: Batch, x: Batch, mu: Batch, logvar: Batch) -> Batch:
    bce = F.binary_cross_entropy(recon, x, reduction="sum")
    return bce - 0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp())


def batches(count: int = 80, *, drop_last: bool = False) -> DataLoader[tuple[Batch, ...]]:
    return DataLoader(TensorDataset(torch.rand(count, 12), torch.zeros(count)), batch_size=16, shuffle=True, drop_last=drop_last)


def line_of(text: str) -> int:
    lines = Path(__file__).read_text().splitlines()
    return next(n for n, line in enumerate(lines, 1) if line.endswith(f"# {text}"))


def trained(loop: Callable[[], None], **how: object) -> Report:
    """The first report of a loop that would run for ever."""
    torch.manual_seed(0)
    with vaelint.observe(**how) as seen:  # type: ignore[arg-type]
        loop()
    return seen.report


def epochs() -> Iterator[Batch]:
    while True:
        for x, _ in batches():
            yield x


def test_what_is_minimised_is_known_with_its_line_and_nothing_is_guessed() -> None:
    def loop() -> None:
        model = VAE()
        optimizer = torch.optim.Adam(model.parameters())
        for x in epochs():
            optimizer.zero_grad()
            loss = elbo(*_with(model(x), x)) / x.size(0)
            loss.backward()  # minimised here
            optimizer.step()

    report = trained(loop)
    assert report.clean, str(report)
    assert any(n.endswith(f"test_observe.py:{line_of('minimised here')} calls backward() on") for n in report.notes), report.notes
    assert report.symbols == {"B": 16, "D": 12, "L": 4}
    assert [t["role"] for t in report.loss["terms"]] == ["reconstruction", "kl"]
    assert report.loss["beta"]["value"] == 1
    step = report.confirm["optimizer"]
    assert step["name"] == "Adam" and 0 < step["moved"] <= step["parameters"] == 404


def _with(out: tuple[Batch, Batch, Batch], x: Batch) -> tuple[Batch, Batch, Batch, Batch]:
    return out[0], x, out[1], out[2]


def test_the_loop_ends_after_its_steps_and_finally_blocks_run() -> None:
    turns, ended = [], []

    def loop() -> None:
        model = VAE()
        optimizer = torch.optim.Adam(model.parameters())
        try:
            for x in epochs():
                turns.append(x.size(0))
                optimizer.zero_grad()
                elbo(*_with(model(x), x)).backward()
                optimizer.step()
        finally:
            ended.append(True)

    trained(loop, steps=6, device="none")
    assert turns == [16, 16, 7, 16, 16, 16] and ended == [True]  # the third at another size, so that what moves with the batch is B


def test_a_kl_that_the_loop_weighs_wrongly() -> None:
    def loop() -> None:
        model = VAE()
        optimizer = torch.optim.Adam(model.parameters())
        for x in epochs():
            recon, mu, logvar = model(x)
            kl = -0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp())
            loss = F.mse_loss(recon, x) + kl  # weighed here
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    finding = next(f for f in trained(loop).findings if f.code == "VAE402")
    assert finding.span.line in (line_of("weighed here"), line_of("weighed here") - 1)
    assert finding.certainty.value == "confirmed"


def test_one_noise_for_the_batch_is_measured_on_the_users_own_data() -> None:
    def loop() -> None:
        model = SharedNoise()
        optimizer = torch.optim.Adam(model.parameters())
        for x in epochs():
            optimizer.zero_grad()
            elbo(*_with(model(x), x)).backward()
            optimizer.step()

    finding = next(f for f in trained(loop).findings if f.code == "VAE201")
    assert finding.span.line == line_of("one noise") and finding.certainty.value == "confirmed"


@pytest.mark.parametrize("late", [True, False])
def test_an_optimizer_of_parameters_that_were_replaced(late: bool) -> None:
    def loop() -> None:
        model = VAE()
        if not late:
            model.dec = nn.Linear(4, 12)
        optimizer = torch.optim.Adam(model.parameters())
        if late:
            model.dec = nn.Linear(4, 12)
        for x in epochs():
            optimizer.zero_grad()
            elbo(*_with(model(x), x)).backward()
            optimizer.step()

    report = trained(loop)
    assert ("VAE504" in report.codes) is late and len(report.codes) == late


@pytest.mark.parametrize("between", [True, False])
def test_gradients_that_are_thrown_away_before_the_step(between: bool) -> None:
    def loop() -> None:
        model = VAE()
        optimizer = torch.optim.Adam(model.parameters())
        for x in epochs():
            if not between:
                optimizer.zero_grad()
            elbo(*_with(model(x), x)).backward()
            if between:
                optimizer.zero_grad()
            optimizer.step()

    report = trained(loop)
    assert (report.confirm["optimizer"]["moved"] == 0) is between
    assert any("moves no parameter: 8 of its 8 tensors have no gradient" in n for n in report.notes) is between


@pytest.mark.parametrize("drop_last", [True, False])
def test_a_batch_size_written_into_the_loop(drop_last: bool) -> None:
    def loop() -> None:
        model = VAE()
        optimizer = torch.optim.Adam(model.parameters())
        for x, _ in batches(200, drop_last=drop_last):
            optimizer.zero_grad()
            elbo(*_with(model(x.view(16, 12)), x)).backward()  # sixteen
            optimizer.step()

    torch.manual_seed(0)
    with pytest.raises(RuntimeError, match="invalid for input"), vaelint.observe() as seen:
        loop()
    assert not seen.reports  # what the training raises is the caller's: `vaelint run` reports it


def test_of_several_losses_the_one_that_trains_a_posterior_is_checked() -> None:
    def loop() -> None:
        model, critic = VAE(), nn.Sequential(nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 1))
        optimizer, other = torch.optim.Adam(model.parameters()), torch.optim.Adam(critic.parameters())
        for x in epochs():
            other.zero_grad()
            fake = model(x)[0].detach()
            (F.softplus(-critic(x)).mean() + F.softplus(critic(fake)).mean()).backward()
            other.step()
            optimizer.zero_grad()
            recon, mu, logvar = model(x)
            loss = elbo(recon, x, mu, logvar) / x.size(0) + F.softplus(-critic(recon)).mean()
            loss.backward()  # of the model
            optimizer.step()

    torch.manual_seed(0)
    with vaelint.observe() as seen:
        loop()
    (report,) = seen.reports
    assert report.clean and report.target.endswith("test_observe.py:VAE"), str(report)
    assert any(f":{line_of('of the model')} " in n for n in report.notes)
    assert any("1 more of the iteration's 2 losses" in n for n in report.notes)


def test_networks_that_no_module_holds_and_tensors_that_no_loader_gave() -> None:
    def loop() -> None:
        encoder = nn.Sequential(nn.Linear(12, 16), nn.ReLU(), nn.Linear(16, 8))
        decoder = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 12))
        optimizer = torch.optim.SGD([*encoder.parameters(), *decoder.parameters()], lr=1e-4)
        data = torch.rand(200, 12)
        while True:
            x = data[torch.randperm(200)[:16]]
            mu, logvar = encoder(x).chunk(2, dim=1)
            z = mu + torch.exp(0.5 * logvar) * torch.randn_like(mu)
            bce = F.binary_cross_entropy_with_logits(decoder(z), x, reduction="sum")
            optimizer.zero_grad()
            (bce - 0.5 * torch.sum(1 + logvar - mu**2 - logvar.exp())).backward()
            optimizer.step()

    report = trained(loop)
    assert report.clean, str(report)
    assert [t["role"] for t in report.loss["terms"]] == ["reconstruction", "kl"] and report.symbols["B"] == 16
    assert not any(n.startswith("one batch size only") for n in report.notes)


def test_a_closure_that_is_called_many_times_is_recorded_once() -> None:
    def loop() -> None:
        model = VAE()
        optimizer = torch.optim.LBFGS(model.parameters(), max_iter=4)
        for x in epochs():

            def closure(x: Batch = x) -> Batch:
                optimizer.zero_grad()
                loss = elbo(*_with(model(x), x))
                loss.backward()
                return loss

            optimizer.step(closure)

    report = trained(loop)
    assert report.clean, str(report)
    assert report.loss["beta"]["value"] == 1 and report.confirm["optimizer"]["name"] == "LBFGS"


def test_gradients_that_are_accumulated_and_scaled() -> None:
    def loop() -> None:
        model = VAE()
        optimizer = torch.optim.Adam(model.parameters())
        scaler = torch.amp.GradScaler("cpu")
        for i, x in enumerate(epochs()):
            with torch.autocast("cpu", dtype=torch.bfloat16):
                recon, mu, logvar = model(x)
            loss = elbo(recon.float(), x, mu.float(), logvar.float()) / 4
            scaler.scale(loss).backward()
            if i % 4 == 3:
                scaler.step(optimizer)
                scaler.update()
                optimizer.zero_grad()

    report = trained(loop)
    assert report.loss["beta"]["value"] == 1, str(report)
    assert not [f for f in report.findings if f.severity.value != "info"], str(report)


def test_a_block_without_training_is_said_to_be_one() -> None:
    with vaelint.observe() as seen:
        VAE()(torch.rand(3, 12))
    assert seen.report.status == "failed" and not seen.clean
    assert "never called backward()" in seen.report.findings[0].message


def test_what_the_training_raises_passes_through_and_torch_is_as_it_was() -> None:
    before = (torch.autograd.backward, DataLoader.__iter__, nn.Module.__init__, torch.optim.Optimizer.__init__)
    with pytest.raises(ZeroDivisionError), vaelint.observe():
        1 / 0  # noqa: B018
    assert before == (torch.autograd.backward, DataLoader.__iter__, nn.Module.__init__, torch.optim.Optimizer.__init__)


def test_a_length_that_the_loop_divides_by_moves_with_the_batch() -> None:
    def loop() -> None:
        model = VAE()
        optimizer = torch.optim.Adam(model.parameters())
        for x in epochs():
            loss = elbo(*_with(model(x), x)) / len(x)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    report = trained(loop)
    assert report.clean and report.confirm["outcome"] == "ran", str(report)
    assert [t["reduction"] for t in report.loss["terms"]] == ["mean over B, sum over D", "mean over B, sum over L"]


def test_two_optimizers_over_one_module_share_its_parameters() -> None:
    def loop() -> None:
        model = VAE()
        heads = [*model.enc.parameters(), *model.mu.parameters(), *model.logvar.parameters()]
        first, second = torch.optim.Adam(heads), torch.optim.Adam(model.dec.parameters())
        for x in epochs():
            first.zero_grad()
            elbo(*_with(model(x), x)).backward()
            first.step()
            second.zero_grad()
            recon, _, _ = model(x)
            F.binary_cross_entropy(recon, x, reduction="sum").backward()
            second.step()

    report = trained(loop)
    assert report.clean, str(report)


def test_what_a_block_writes_is_held_back_and_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    def loop() -> None:
        model = VAE()
        optimizer = torch.optim.Adam(model.parameters())
        for x in epochs():
            optimizer.zero_grad()
            elbo(*_with(model(x), x)).backward()
            optimizer.step()
            torch.save(model.state_dict(), "model.pt")
            assert Path("model.pt").is_file()

    report = trained(loop, device="none")
    assert not list(tmp_path.iterdir()) and any(n.startswith("held back: save model.pt (") for n in report.notes)
    trained(loop, device="none", allow_writes=True)
    assert [f.name for f in tmp_path.iterdir()] == ["model.pt"]


def test_a_gpu_that_is_asked_for_by_name_is_stood_in_for() -> None:
    if torch.cuda.is_available():
        pytest.skip("there is one")

    def loop() -> None:
        model = VAE().cuda()  # asked for
        optimizer = torch.optim.Adam(model.parameters())
        for x in epochs():
            x = x.to("cuda")
            optimizer.zero_grad()
            elbo(*_with(model(x), x)).backward()
            optimizer.step()

    report = trained(loop, device="none")
    assert report.status in ("clean", "findings") and report.loss["beta"]["value"] == 1, str(report)
    assert set(report.codes) <= {"VAE602"}, str(report)


@pytest.mark.skipif(torch.accelerator.is_available(), reason="there is an accelerator")
def test_any_accelerator_that_is_not_there_is_stood_in_for() -> None:
    with InsteadOfCuda():
        named = [torch.device("mps"), torch.device("mps", 0), torch.device("xpu:1"), torch.device("cuda", 1), torch.device(1)]
        moved = [nn.Linear(2, 2).to(to).weight for to in ("mps", 1, torch.device("mps"))]
        made = [torch.zeros(2).to(0), torch.zeros(2, device="mps"), torch.zeros(2, device=0), *moved]
    assert {d.type for d in (*named, *(t.device for t in made))} == {"cpu"}


def test_normalisation_over_the_batch_and_dropout_are_no_mixing_of_samples() -> None:
    class Normed(VAE):
        def __init__(self) -> None:
            super().__init__()
            self.norm, self.drop = nn.BatchNorm1d(12), nn.Dropout(0.2)

        def forward(self, x: Batch) -> tuple[Batch, Batch, Batch]:
            return super().forward(self.drop(self.norm(x)))

    def loop() -> None:
        model = Normed()
        optimizer = torch.optim.Adam(model.parameters())
        for x in epochs():
            optimizer.zero_grad()
            elbo(*_with(model(x), x)).backward()
            optimizer.step()

    report = trained(loop)
    assert report.clean, str(report)
    outcomes = {law["law"]: law["outcome"] for law in report.laws}
    assert "broken" not in outcomes.values() and "holds" in outcomes.values(), outcomes
