"""Arguments that the repository builds the model with, where the input has other sizes; what it hands to `forward`; what is missing."""

from __future__ import annotations

from pathlib import Path

import pytest
from test_bare import check, roles

SERIES = """
    import torch
    import torch.nn.functional as F
    from torch import nn

    BLOCKS = {"conv": nn.Conv1d}

    class VAE(nn.Module):
        def __init__(self, in_channels, in_dim, wide=32, block="conv"):
            super().__init__()
            self.first = BLOCKS[block](in_channels, 4, 3, padding=1)
            self.heads = nn.Linear(4 * in_dim, 2 * 3)
            self.dec = nn.Sequential(nn.Linear(3, wide), nn.ReLU(), nn.Linear(wide, in_channels * in_dim))
            self.shape = in_channels, in_dim

        def forward(self, x):
            mu, logvar = self.heads(torch.relu(self.first(x)).flatten(1)).chunk(2, -1)
            z = mu + torch.randn_like(mu) * (0.5 * logvar).exp()
            return self.dec(z).view(-1, *self.shape), mu, logvar

    def vae_loss(recon, x, mu, logvar):
        kl = -0.5 * (1 + logvar - mu**2 - logvar.exp()).sum(1).mean()
        return F.mse_loss(recon, x, reduction="sum") / x.size(0) + kl
"""


def test_two_arguments_that_do_not_fit_are_found_one_after_the_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    training = "\n    from model import VAE as Model\n    vae = Model(18, 3000, wide=24)\n"  # built under another name
    result = check(tmp_path, monkeypatch, "5x4x64", model__py=SERIES, train__py=training)
    assert result.status == "clean" and roles(result) == ["kl", "reconstruction"], (result.findings, result.notes)
    assert {"in_channels=4 fits where 18 does not", "in_dim=64 fits where 3000 does not"} <= set(result.notes)


def test_a_slip_behind_sizes_that_do_not_fit_is_told_and_not_the_sizes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    training = "\n    from model import VAE\n    vae = VAE(18, 3000)\n"
    slip = SERIES.replace("self.dec(z).view", "self.decoder(z).view")
    result = check(tmp_path, monkeypatch, "5x4x64", model__py=slip, train__py=training)
    assert [(f.code, "decoder" in f.label) for f in result.findings] == [("VAE007", True)], result.findings


def test_numbers_of_the_repository_give_way_to_the_sizes_that_they_are_named_after(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    series = SERIES.replace("in_channels, in_dim, wide=32", "in_channels, seq_len=100, wide=32").replace("in_dim", "seq_len")
    training = "\n    from model import VAE\n    SETTINGS = dict(in_channels=4, seq_len=50)\n    vae = VAE(**SETTINGS)\n"
    result = check(tmp_path, monkeypatch, "5x4x64", model__py=series, train__py=training)
    assert result.status == "clean" and roles(result) == ["kl", "reconstruction"], (result.findings, result.notes)


def test_a_flag_of_forward_is_what_the_training_code_hands_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flagged = SERIES.replace("def forward(self, x):", "def forward(self, x, sampled):").replace(
        "torch.randn_like(mu)", "(torch.randn_like(mu) if sampled else 0 * mu)"
    )
    training = """
    from model import VAE, vae_loss
    def train(loader):
        vae = VAE(4, 64)
        for x in loader:
            recon, mu, logvar = vae(x, sampled=True)
            vae_loss(recon, x, mu, logvar).backward()
    """
    other = "\n    def show(vae, x):\n        return vae(x, sampled=False)\n"
    result = check(tmp_path, monkeypatch, "5x4x64", model__py=flagged, a_show__py=other, train__py=training)
    assert result.status == "clean" and roles(result) == ["kl", "reconstruction"], (result.findings, result.notes)
    assert "sampled=True: no --input given; taken from the call at train.py:6" in result.notes
    (tmp_path / ".git").rmdir()
    alone = check(tmp_path, monkeypatch, "5x4x64", model__py=flagged, a_show__py="", train__py="")
    assert [f.code for f in alone.findings] == ["VAE002"] or "also needs sampled" in alone.findings[0].message


def test_a_configuration_that_is_missing_is_asked_for_with_what_is_read_from_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    configured = SERIES.replace("in_channels, in_dim, wide=32", "cfg, wide=32").replace(
        "super().__init__()", "super().__init__()\n            in_channels, in_dim = cfg.channels, cfg.length"
    )
    result = check(tmp_path, monkeypatch, "5x4x64", model__py=configured)
    (finding,) = result.findings
    assert finding.help == """add --init "cfg={'channels': ..., 'length': ...}\""""


def test_what_a_training_step_logs_goes_nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lightning = SERIES.replace("from torch import nn", "from torch import nn\n    import pytorch_lightning as pl")
    lightning = (
        lightning.replace("class VAE(nn.Module)", "class VAE(pl.LightningModule)")
        .replace("    def vae_loss", "    def compute")
        .replace(
            "return self.dec(z).view(-1, *self.shape), mu, logvar",
            """return self.dec(z).view(-1, *self.shape), mu, logvar

        def training_step(self, batch, batch_idx):
            x, _ = batch
            loss = compute(self(x)[0], x, *self(x)[1:])
            self.logger.experiment.add_scalars("loss", {"train": loss}, self.global_step)
            return loss""",
        )
    )
    result = check(
        tmp_path, monkeypatch, "5x4x64", model__py=lightning.replace("in_channels, in_dim, wide", "in_channels=4, in_dim=64, wide")
    )
    assert "reconstruction" in roles(result), (result.findings, result.notes)


def test_the_length_of_an_object_is_not_the_object(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ribbed = SERIES.replace("in_channels, in_dim, wide=32", "in_channels, in_dim, ribs, wide=32")
    training = """
    from model import VAE
    class Ribs:
        def __init__(self):
            self.all = read()
    ribs = Ribs()
    vae = VAE(4, 64, len(ribs))
    """
    result = check(tmp_path, monkeypatch, "5x4x64", model__py=ribbed, train__py=training)
    assert [f.message for f in result.findings] == ["VAE cannot be built without ribs"], result.findings
