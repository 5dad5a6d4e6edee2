"""How the training code of real repositories is found, bound and run, and what is said where it cannot be."""

from __future__ import annotations

from pathlib import Path

import pytest
from test_bare import check, lossless, roles

MODEL = """
    import torch
    from torch import nn

    class VAE(nn.Module):
        def __init__(self):
            super().__init__()
            self.enc, self.dec = nn.Linear(6, 8), nn.Linear(4, 6)

        def forward(self, x):
            mu, logvar = self.enc(x).chunk(2, -1)
            z = mu + torch.randn_like(mu) * (0.5 * logvar).exp()
            return self.dec(z), mu, logvar
"""
LOSS = """
    import torch.nn.functional as F

    def vae_loss(recon, x, mu, logvar, beta=1.0):
        kl = -0.5 * (1 + logvar - mu**2 - logvar.exp()).sum(1).mean()
        return F.mse_loss(recon, x, reduction="sum") / x.size(0) + beta * kl
"""
LIGHTNING = """
    import lightning as L
    from losses import vae_loss
    from model import VAE

    class Lit(L.LightningModule):
        def __init__(self, beta=0.25):
            super().__init__()
            self.save_hyperparameters()
            self.net = VAE()

        def forward(self, x):
            return self.net(x)

        def _step(self, batch):
            x, _ = batch
            recon, mu, logvar = self(x)
            return vae_loss(recon, x, mu, logvar, self.hparams.beta)

        def training_step(self, batch, batch_idx):
            loss = self._step(batch)
            self.log("loss", loss)
            return loss
"""
GENERIC = """
    from losses import vae_loss

    class Trainer:
        def __init__(self, model, beta=0.5):
            self.model, self.beta = model, beta

        def step(self, images):
            recon, mu, logvar = self.model(images)
            loss = vae_loss(recon, images, mu, logvar, self.beta)
            loss.backward()
"""
COUNTED = """
    from torch.utils.tensorboard import SummaryWriter
    from tqdm import tqdm
    from losses import vae_loss
    from model import VAE

    def train(dataset, epochs):
        loader = make(dataset)
        vae, warm = VAE(), 8 * len(loader)
        for epoch in range(epochs):
            bar = tqdm(loader)
            for iter, (images, _) in enumerate(bar):
                x_in = images.to("cpu")
                recon, mu, logvar = vae(x_in)
                loss = vae_loss(recon, images, mu, logvar, min(1.0, (iter + 8 * len(loader)) / warm))
                loss.backward()
"""
CHOSEN = """
    from losses import vae_loss
    from model import VAE

    def other(recon, x, mu, logvar):
        return (recon - x).square().sum()

    def fit(loader, criterion):
        vae = VAE()
        for x in loader:
            recon, mu, logvar = vae(x)
            if criterion is other:
                loss = other(recon, x, mu, logvar)
            elif criterion is vae_loss:
                loss = criterion(recon, x, mu, logvar)
            loss.backward()

    fit([], vae_loss)
"""
ADVERSARY = """
    import torch
    from losses import vae_loss
    from model import VAE
    judge = torch.nn.Linear(6, 1)

    def fit(loader):
        vae = VAE()
        for x in loader:
            recon, mu, logvar = vae(x)
            against = judge(x).mean() - judge(recon.detach()).mean()
            against.backward()
            recon, mu, logvar = vae(x)
            both = vae_loss(recon, x, mu, logvar) + judge(recon).mean()
            both.backward()
            loss = vae_loss(recon, x, mu, logvar)
            loss.backward()
"""


@pytest.mark.parametrize(
    ("training", "said"),
    [
        (LIGHTNING, "self.hparams = Namespace(beta=0.25)"),
        (GENERIC, "self.beta = 0.5"),
        (COUNTED, "len(loader)=100 was chosen"),
        (CHOSEN, "criterion = vae_loss"),
        (ADVERSARY, "loss = vae_loss(recon, x, mu, logvar)"),
    ],
    ids=["lightning-wrapper", "generic-trainer", "length-of-a-loader", "branch-by-a-function", "adversary-beside"],
)
def test_the_step_is_that_of_the_training_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, training: str, said: str) -> None:
    result = check(tmp_path, monkeypatch, model__py=MODEL, losses__py=LOSS, train__py=training)
    assert result.status == "clean" and roles(result) == ["kl", "reconstruction"], result.notes
    assert any(said in note for note in result.notes), result.notes


def test_a_step_that_only_names_tie_to_the_model_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = check(tmp_path, monkeypatch, model__py=MODEL, losses__py=LOSS, train__py=GENERIC)
    assert any("train.py:11" in note and "only names say" in note for note in result.notes)


def test_a_loss_that_moves_nothing_of_the_model_is_not_its_loss(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    alone = ADVERSARY[: ADVERSARY.index("            recon, mu, logvar = vae(x)\n            both")]
    result = check(tmp_path, monkeypatch, model__py=MODEL, train__py=alone.replace("    from losses import vae_loss\n", ""))
    assert lossless(result)
    assert any("its loss moves no parameter of the model" in note for note in result.notes)


def test_training_code_that_builds_another_model_is_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = MODEL.replace("class VAE", "class Other")
    training = LIGHTNING.replace("from model import VAE", "from other import Other").replace("VAE()", "Other()")
    result = check(tmp_path, monkeypatch, model__py=MODEL, losses__py=LOSS, other__py=other, train__py=training)
    assert not any("train.py" in note for note in result.notes)


def test_what_stops_the_training_code_is_said_with_its_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    training = COUNTED.replace('images.to("cpu")', "prepared(images)")
    result = check(tmp_path, monkeypatch, model__py=MODEL, train__py=training.replace("from losses import vae_loss", "vae_loss = load()"))
    assert not result.loss and any("train.py:16 trains the model, but nothing tells what images is there" in n for n in result.notes)


def test_a_loss_that_raises_is_not_told_as_no_loss(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = "\n    def loss_function(recon, x, mu, logvar, step=None):\n        return (recon - x).square().sum() * step\n"
    result = check(tmp_path, monkeypatch, model__py=MODEL + broken)
    note = next(n for n in result.notes if "would be the loss, but raises TypeError" in n)
    assert "at model.py:16" in note and not result.loss
    trained = "\n    def fit(vae: VAE, loader):\n        for step, x in enumerate(loader):\n            recon, mu, logvar = vae(x)\n"
    trained += "            loss = loss_function(recon, x, mu, logvar, 2) + mu.pow(2).sum()\n            loss.backward()\n"
    (tmp_path / ".git").rmdir()
    result = check(tmp_path, monkeypatch, model__py=MODEL + broken, train__py="\n    from model import VAE, loss_function\n" + trained)
    assert result.loss and any("train.py:8" in note for note in result.notes)


def test_losses_of_single_samples_are_made_one_as_the_training_code_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kl = "0.5 * (mu**2 + logvar.exp() - 1 - logvar).sum(1)"
    single = f"\n    def loss_function(recon, x, mu, logvar):\n        return (recon - x).square().sum(1) + {kl}\n"
    training = """
    from model import VAE, loss_function

    def fit(loader):
        vae = VAE()
        for x in loader:
            losses = loss_function({arguments})
            losses.mean().backward()
    """
    files = {"model__py": MODEL + single, "train__py": training.replace("{arguments}", "vae(x)[0], x, *vae(x)[1:]")}
    result = check(tmp_path, monkeypatch, **files)
    assert not any(f.code == "VAE420" for f in result.findings) and any("train.py:8" in note for note in result.notes)
    (tmp_path / ".git").rmdir()
    files["train__py"] = training.replace("{arguments}", "*vae(prepared(x)), unknown")
    result = check(tmp_path, monkeypatch, **files)
    assert not any(f.code == "VAE420" for f in result.findings) and any("gives one loss for each sample" in n for n in result.notes)


HANDS_ON = """
    import torch
    from torch import nn

    class Base(nn.Module):
        def __init__(self, seq_len, feat_dim, latent=3, **kwargs):
            super().__init__()
            self.size, self.feat, self.latent = seq_len * feat_dim, feat_dim, latent

        def fit(self, loader, optimizer):
            for batch in loader:
                x = batch[0]
                mu, logvar = self.encode(x)
                recon = self.decode(mu + torch.randn_like(mu) * (0.5 * logvar).exp())
                kl = 0.5 * (mu**2 + logvar.exp() - 1 - logvar).sum()
                loss = self._rec_loss(x, recon) + kl
                loss.backward()

        def _rec_loss(self, x, recon):
            return (recon - x).square().sum()

        def forward(self, x):
            return self.decode(self.encode(x)[0])

    class VAE(Base):
        def __init__(self, wide=16, **kwargs):
            super(VAE, self).__init__(**kwargs)
            self.enc, self.dec = nn.Linear(self.size, 2 * self.latent), nn.Linear(self.latent, self.size)

        def encode(self, x):
            return self.enc(x.flatten(1)).chunk(2, -1)

        def decode(self, z):
            return self.dec(z).view(len(z), -1, self.feat)
"""


def test_a_constructor_that_hands_its_keywords_on_takes_those_of_the_base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = check(tmp_path, monkeypatch, "5x12x7", model__py=HANDS_ON)
    assert result.status == "clean" and roles(result) == ["kl", "reconstruction"], result.notes
    assert any(n.startswith("seq_len=12") for n in result.notes) and any(n.startswith("feat_dim=7") for n in result.notes)


def test_what_is_read_of_keywords_must_be_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keyed = MODEL.replace("def __init__(self):", "def __init__(self, **options):").replace(
        "nn.Linear(6, 8)", 'nn.Linear(options["ribs"], 8)'
    )
    result = check(tmp_path, monkeypatch, model__py=keyed)
    assert [f.message for f in result.findings] == ["VAE cannot be built without ribs"]
    (tmp_path / ".git").rmdir()
    told = "\n    from model import VAE\n    vae = VAE(ribs=6)\n"
    assert lossless(check(tmp_path, monkeypatch, model__py=keyed, train__py=told))


def test_parts_that_the_repository_builds_are_told_beside_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = MODEL.replace("def __init__(self):", "def __init__(self, enc, dec, depth):").replace(
        "nn.Linear(6, 8), nn.Linear(4, 6)", "enc, dec"
    )
    training = "\n    from torch import nn\n    from model import VAE\n    vae = VAE(nn.Linear(6, 8), nn.Linear(4, 6), measured())\n"
    result = check(tmp_path, monkeypatch, model__py=parts, train__py=training)
    (finding,) = result.findings
    assert finding.message == "VAE cannot be built without depth" and "dec, enc would be taken from train.py:4" in finding.notes


def test_a_loop_over_nothing_tells_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    training = """
    from model import VAE
    for mode in []:
        net = VAE()
        if mode == "train":
            net.loss.backward()
    """
    assert lossless(check(tmp_path, monkeypatch, model__py=MODEL, train__py=training))


def test_training_code_that_only_names_may_link_does_not_hide_a_loss_for_each_sample(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file of another model: its `model` is this one by name only."""
    each = """
    def loss_function(recon, x, mu, logvar):
        return (recon - x).pow(2).sum(1) - 0.5 * (1 + logvar - mu**2 - logvar.exp()).sum(1)
"""
    train = """
        import torch

        def train(model, x):
            loss = model.energy(x).mean()
            loss.backward()
    """
    result = check(tmp_path, monkeypatch, model__py=MODEL + each, other__py=train)
    assert "VAE420" in [f.code for f in result.findings]
