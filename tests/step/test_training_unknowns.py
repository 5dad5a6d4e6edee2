"""Training code of which not all can be known: weights from elsewhere, state left on the model, what comes beside the input."""

from __future__ import annotations

from pathlib import Path

import pytest
from test_bare import check, lossless, roles
from test_training_elsewhere import LOSS, MODEL

CONFIGURED = """
    from losses import vae_loss
    from model import VAE

    class Trainer:
        def __init__(self, settings):
            self.settings, self.vae = settings.load(), VAE()

        def forward(self, x):
            return self.vae(x)

        def step(self, batch):
            x = batch["image"]
            recon, mu, logvar = self.vae(x)
            kl = 0.5 * (mu**2 + logvar.exp() - 1 - logvar).sum(1).mean()
            rec, edges = (recon - x).square().mean(), (recon - x).abs().mean()
            loss = self.settings.weights["a"] * rec + (1 - self.settings.weights["a"]) * edges + self.settings.weights["beta"] * kl
            loss.backward()
"""
LOGGED = """
    import argparse
    import wandb
    from model import VAE

    if __name__ == "__main__":
        parser = argparse.ArgumentParser()
        parser.add_argument("--kl", type=float, default=0.001)
        args = parser.parse_args()
        wandb.init(config=args)
        args = wandb.config
        vae = VAE()
        for x in loader():
            recon, mu, logvar = vae(x)
            kl = 0.5 * (mu**2 + logvar.exp() - 1 - logvar).sum(1).mean()
            loss = (recon - x).square().mean() + args.kl * kl
            loss.backward()
"""


@pytest.mark.parametrize(
    ("training", "said"),
    [(CONFIGURED, "self.settings.weights['a']=0.5 was chosen"), (LOGGED, "args.kl=1.0 was chosen")],
    ids=["configuration", "logger"],
)
def test_a_weight_from_where_nobody_can_look_is_no_finding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, training: str, said: str
) -> None:
    result = check(tmp_path, monkeypatch, model__py=MODEL, losses__py=LOSS, train__py=training)
    assert "kl" in roles(result) and any(said in note for note in result.notes), result.notes
    assert result.status == "clean", result.findings
    (tmp_path / ".git").rmdir()
    weightless = training.replace("args.kl * kl", "kl").replace('self.settings.weights["beta"] * kl', "kl")
    weightless = weightless.replace('self.settings.weights["a"] * rec + (1 - self.settings.weights["a"]) * edges', "rec")
    known = check(tmp_path, monkeypatch, model__py=MODEL, losses__py=LOSS, train__py=weightless)
    assert known.status == "findings" and [f.code for f in known.findings] == ["VAE402"]


def test_what_is_no_weight_is_not_made_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    training = LOGGED.replace("args.kl * kl", "args.kl(kl)")
    result = check(tmp_path, monkeypatch, model__py=MODEL, train__py=training)
    assert not result.loss and any("nothing tells what args is there" in note for note in result.notes), result.notes


STATEFUL = MODEL.replace("def forward(self, x):", "def forward(self, x, compute_loss=False):").replace(
    "return self.dec(z), mu, logvar",
    """recon = self.dec(z)
            if compute_loss:
                rec = (recon - x).square().sum() / len(x)
                kl = 0.5 * (mu**2 + logvar.exp() - 1 - logvar).sum() / len(x)
                self.loss = rec + kl, rec, kl
            return recon""",
)
CHOOSING = """
    from model import VAE, other

    def build_vae():
        return VAE()

    class Runner:
        def __init__(self, name):
            self.name = name
            if name == "vae":
                self.model = build_vae()
            else:
                self.model = other()

        def train(self, loader):
            for batch in loader:
                recon = self.model(batch, compute_loss=True)
                total, rec, kl = self.model.loss
                total.backward()
"""


def test_a_loss_that_the_model_keeps_is_read_after_the_call_that_leaves_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    others = "\n    class Other(nn.Module):\n        pass\n\n    def other():\n        return Other()\n"
    result = check(tmp_path, monkeypatch, model__py=STATEFUL + others, train__py=CHOOSING)
    assert result.status == "clean" and roles(result) == ["kl", "reconstruction"], result.notes
    assert any("recon = model(batch, compute_loss=True); total, rec, kl = model.loss" in note for note in result.notes)


WORDS = """
    import torch
    from torch import nn

    class VAE(nn.Module):
        def __init__(self, args):
            super().__init__()
            self.embed, self.enc = nn.Embedding(args.words, 6), nn.Linear(6, 8)
            self.dec, self.out = nn.GRU(6, 4, batch_first=True), nn.Linear(4, args.words)

        def forward(self, tokens):
            embedded = self.embed(tokens)
            mu, logvar = self.enc(embedded.mean(1)).chunk(2, -1)
            z = mu + torch.randn_like(mu) * (0.5 * logvar).exp()
            return self.out(self.dec(embedded, z[None].contiguous())[0]), mu, logvar
"""
OPTIONS = """
    import argparse
    import torch.nn.functional as F
    from model import VAE

    parser = argparse.ArgumentParser()
    parser.add_argument("--words", type=int, default=5000)
    args = parser.parse_args()
    vae = VAE(args)

    def train(loader):
        for {batch} in loader:
            logits, mu, logvar = vae({first})
            logits = logits.view(-1, args.words)
            {target}
            kl = 0.5 * (mu**2 + logvar.exp() - 1 - logvar).sum(1).mean()
            loss = F.cross_entropy(logits, {compared}, reduction="sum") / len(mu) + kl
            loss.backward()
"""


def test_the_options_of_the_step_are_those_that_the_model_was_built_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = OPTIONS.format(batch="tokens", first="tokens[:, :-1]", target="tokens = tokens[:, 1:].reshape(-1)", compared="tokens")
    result = check(tmp_path, monkeypatch, "8x9:int64[0,30)", model__py=WORDS, train__py=told.replace("[:, :-1]", "").replace("[:, 1:]", ""))
    assert result.status != "failed" and roles(result) == ["kl", "reconstruction"], result.notes
    assert any("tokens = tokens.reshape(-1)" in note for note in result.notes)  # after the call it is no preparation of the input


def test_the_tokens_beside_the_input_are_those_that_come_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = OPTIONS.format(batch="x, t", first="x", target="t = t.to(logits.device)", compared="t.reshape(-1)")
    result = check(tmp_path, monkeypatch, "8x9:int64[0,30)", model__py=WORDS, train__py=told)
    assert result.status == "clean" and roles(result) == ["kl", "reconstruction"], (result.findings, result.notes)
    assert any("t=tokens.roll(-1, 1) was chosen" in note for note in result.notes)


def test_why_the_training_code_of_the_same_file_does_not_do_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = """
    def train(model, x, adjacency):
        recon, mu, logvar = model(x)
        loss = (recon - adjacency).square().sum()
        loss.backward()
    """
    result = check(tmp_path, monkeypatch, model__py=MODEL + own)
    assert any("nothing tells what adjacency is there; if it is data, give it: --input adjacency=..." in n for n in result.notes)


def test_a_loss_put_together_beside_training_code_that_cannot_be_read_is_not_blamed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    beside = """
    def criterion_loss(recon, x, mu, logvar):
        return (recon - x).square().sum() + 0.5 * (mu**2 + logvar.exp() - 1 - logvar).sum()
    """
    trains = """
    def train(model, loader):
        for data in loader:
            x, y = data["x"], data["y"]
            recon, mu, logvar = model(y)
            criterion_loss(recon, x, mu, logvar).backward()
    """
    predicts = MODEL.replace("nn.Linear(4, 6)", "nn.Linear(4, 7)")
    result = check(tmp_path, monkeypatch, model__py=predicts + beside + trains)
    assert lossless(result), result.findings
    assert any("would be the loss, but raises RuntimeError" in note for note in result.notes), result.notes
    (tmp_path / ".git").rmdir()
    alone = check(tmp_path, monkeypatch, model__py=predicts + beside)
    assert [f.code for f in alone.findings if f.severity.value == "error"] == ["VAE302"]


@pytest.mark.parametrize(("target", "blamed"), [("x", True), ("x.unsqueeze(1).repeat(1, 3, 1)", True), ("x.unsqueeze(1)", False)])
def test_sizes_that_no_view_mends_are_blamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: str, blamed: bool) -> None:
    own = f"""
    def criterion_loss(recon, x, mu, logvar):
        rec = nn.functional.binary_cross_entropy(recon.sigmoid(), {target}, reduction="sum")
        return rec + 0.5 * (mu**2 + logvar.exp() - 1 - logvar).sum()
    """
    model = MODEL if not blamed or "repeat" in target else MODEL.replace("nn.Linear(4, 6)", "nn.Linear(4, 7)")
    result = check(tmp_path, monkeypatch, model__py=model + own)
    assert [f.code for f in result.findings if f.severity.value == "error"] == (["VAE302"] if blamed else []), result.notes
    assert any("would be the loss, but raises ValueError" in note for note in result.notes) is not blamed


def test_scores_and_class_numbers_of_other_sizes_are_not_blamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = """
    def vae_loss(recon, x, mu, logvar):
        rec = nn.functional.cross_entropy(recon, x, reduction="sum")
        return rec + 0.5 * (mu**2 + logvar.exp() - 1 - logvar).sum()
    """
    words = WORDS.replace("def __init__(self, args)", "def __init__(self, words=30)").replace("args.words", "words")
    flat = words.replace("z[None].contiguous())[0])", "z[None].contiguous())[0]).flatten(0, 1)")
    result = check(tmp_path, monkeypatch, "x=8x9:int64[0,30)", model__py=flat + own)
    assert [f.code for f in result.findings if f.severity.value == "error"] == [], (result.findings, result.notes)


def test_a_loss_of_class_numbers_is_handed_those_of_the_zeros_and_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = """
    def cost(scores, idx, mu, logvar):
        rec = nn.functional.nll_loss(scores.log_softmax(-1), idx, reduction="sum")
        return rec - 0.5 * torch.sum(1 + logvar - mu**2 - logvar.exp())
    """
    result = check(tmp_path, monkeypatch, "x=4x6:float32{0,1}", model__py=MODEL + own)
    assert roles(result) == ["kl", "reconstruction"], result.notes
    assert any("x is read as one class at each place" in note for note in result.notes)


TABLE = """
    import csv
    from model import VAE

    {before}
    vae = VAE()

    def train(loader):
        for x in loader:
            recon, mu, logvar = vae(x)
            loss = 0.5 * (mu**2 + logvar.exp() - 1 - logvar).sum()
            for place, kind in columns:
                loss += 0.5 * (recon[:, place] - x[:, place]).square().sum()
            loss.backward()
"""
FILLED = "columns = []\n    for i, row in enumerate({rows}):\n        columns.append((i, row[1]))"
ROWS = "csv.reader(open('columns.csv'))"


@pytest.mark.parametrize(
    "before",
    [f"rows = list({ROWS})\n    {FILLED.format(rows='rows')}", FILLED.format(rows=ROWS)],
    ids=["the file is missed before it", "the file is missed while it is filled"],
)
def test_a_list_that_a_missing_file_would_fill_is_not_empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: str) -> None:
    result = check(tmp_path, monkeypatch, model__py=MODEL, train__py=TABLE.format(before=before))
    assert not result.loss and not [f for f in result.findings if f.code in ("VAE314", "VAE501")], result.findings
    assert any("nothing tells what columns is there" in note for note in result.notes), result.notes


@pytest.mark.parametrize("after", ["", "\n    columns.sort(key=missing)"], ids=["it runs", "it does not run"])
def test_a_list_that_is_filled_item_by_item_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: str) -> None:
    filled = "columns = []\n    columns.append((1, 'b'))\n    columns.extend([(2, 'c')])"
    result = check(tmp_path, monkeypatch, model__py=MODEL, train__py=TABLE.format(before=filled) + after)
    assert roles(result) == ["kl", "reconstruction"], result.notes
