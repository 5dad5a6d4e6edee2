"""A target and its input alone: the rest comes from the repository, is said, and makes no finding of its own."""

from __future__ import annotations

import textwrap
from pathlib import Path

import commandline
import pytest
from usermodels import FORWARD, HEAD, PLAIN_LOSS

from vaelint.core.result import Request, TargetResult
from vaelint.pipeline.check import check_target

SIZED = HEAD.replace("(self):", "(self, input_dim, latent):").replace("6, 8", "input_dim, 2 * latent").replace("4, 6", "latent, input_dim")
OPTIONS = """
    import argparse
    import torch.nn.functional as F
    from model import VAE

    def main(args, loader):
        model = VAE(6, args.z)
        optimizer = make(model)
        fit(model, loader, F.mse_loss, args)

    def fit(net, loader, criterion, args):
        for x, y in loader:
            recon, mu, logvar = net(x, y)
            if args.plain:
                loss = criterion(recon, x)
            else:
                kl = -0.5 * (1 + logvar - mu**2 - logvar.exp()).sum(1).mean()
                loss = criterion(recon, x, reduction="sum") / x.size(0) + args.beta * kl
            optimizer.zero_grad()
            loss.backward()

    if __name__ == "__main__":
        p = argparse.ArgumentParser()
        p.add_argument("--z", type=int, default=3)
        p.add_argument("--beta", default=0.5)
        p.add_argument("--plain", action="store_true")
        main(p.parse_args(), load())
"""


def check(folder: Path, monkeypatch: pytest.MonkeyPatch, *inputs: str, **files: str) -> TargetResult:
    """The result for `model.py:VAE` in a repository of these files."""
    monkeypatch.chdir(folder)
    (folder / ".git").mkdir()
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(textwrap.dedent(text))
    return check_target(Request("model.py:VAE", inputs or ("5x6",), device="none"), lambda message: None)


def lossless(result: TargetResult) -> bool:
    """Whether the model was analysed, nothing but the missing loss was told, and the check is incomplete for that alone."""
    (gap,) = result.incomplete
    missing = gap["reason"].startswith("no loss was found") and {f.code for f in result.findings} == {"VAE004"}
    return result.status == "incomplete" and missing and bool(result.anatomy) and not result.loss


def roles(result: TargetResult) -> list[str]:
    return sorted(t["role"] for t in result.loss.get("terms", ()))


def test_arguments_and_step_come_from_the_training_script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = check(tmp_path, monkeypatch, model=SIZED + FORWARD, model__py=SIZED + FORWARD, train__py=OPTIONS)
    assert (result.status, roles(result), result.loss["beta"]["value"]) == ("clean", ["kl", "reconstruction"], 0.5)
    notes = "\n".join(result.notes)
    assert "latent=3: not given; taken from train.py:7" in notes
    assert "the step is that of the training code at train.py:20" in notes and "args = Namespace(beta=0.5) was read" in notes
    assert "input_dim=6 was not given: the last size of 5x6" in notes


def test_arguments_come_from_a_configuration_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = check(tmp_path, monkeypatch, model__py=SIZED + FORWARD + PLAIN_LOSS, base__json='{"m": {"input_dim": 9, "latent": 3}}')
    assert result.status == "clean" and "latent=3: not given; taken from base.json" in result.notes


def test_a_size_of_the_repository_gives_way_to_that_of_the_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listed = SIZED.replace("input_dim, latent)", "sizes)").replace("super()", "input_dim, latent = sizes; super()")
    train = "from model import VAE\nmodel = VAE([99, 3])\n"
    result = check(tmp_path, monkeypatch, model__py=listed + FORWARD + PLAIN_LOSS, train__py=train)
    assert result.status == "clean" and "sizes=[6, 3] fits where [99, 3] does not" in result.notes


def test_the_loss_of_a_model_elsewhere_is_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = check(tmp_path, monkeypatch, model__py=HEAD + FORWARD, other__py=HEAD + FORWARD + PLAIN_LOSS)
    assert [f.code for f in result.findings] == ["VAE004"] and not result.loss


def test_training_code_elsewhere_that_does_not_run_is_said_and_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train = "from model import VAE\nmodel = VAE()\nfor x in []:\n    loss = model(x)[0] @ model(x)[0]\n    loss.backward()\n"
    result = check(tmp_path, monkeypatch, model__py=HEAD + FORWARD, train__py=train)
    assert [f.code for f in result.findings] == ["VAE004"]
    assert any(n.startswith("train.py:5 trains the model, but does not run by itself: RuntimeError") for n in result.notes)


def test_a_loss_without_forward_is_the_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    body = """
    def forward(self, x):
        mu, logvar, more = self.encode(x)
    def train_loss(self, x):
        mu, logvar = self.encode(x)
        recon = self.decode(self.reparameterize(mu, logvar))
        return F.mse_loss(recon, x, reduction="sum") - 0.5 * torch.sum(1 + logvar - mu**2 - logvar.exp())
    """
    result = check(tmp_path, monkeypatch, model__py=HEAD + textwrap.indent(textwrap.dedent(body), "    "))
    assert (result.status, roles(result)) == ("clean", ["kl", "reconstruction"])
    assert any("forward raises ValueError" in n and "train_loss is the step" in n for n in result.notes)


def test_a_finding_that_hangs_on_a_number_of_ours_is_withheld(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = SIZED.replace("torch.exp(0.5 *", "torch.exp((1.0 if self.dec.in_features == 20 else 0.5) *")
    result = check(tmp_path, monkeypatch, model__py=model + FORWARD + PLAIN_LOSS)
    assert result.status == "clean" and any("it occurs only with the guessed latent=20" in n for n in result.notes)


def test_without_a_loss_the_closing_line_says_what_was_done(tmp_path: Path) -> None:
    (tmp_path / "model.py").write_text(
        HEAD + FORWARD + "\nclass AE(nn.Linear):\n    def forward(self, x):\n        return super().forward(x)\n"
    )

    def told(target: str, *options: str) -> tuple[int, str]:
        done = commandline.vaelint("check", target, "--input", "5x6", "--device", "none", *options, cwd=tmp_path)
        return done.returncode, " ".join(done.stdout.split())

    code, text = told("model.py:VAE")
    assert code == 2 and "no findings" not in text and "model.py:VAE: incomplete, 1 remark in the model alone, as no loss is known" in text
    assert "incomplete: no loss was found: neither reconstruction nor KL nor their weights were looked at" in text
    assert "seen: 1 sampling site (gaussian at model.py:" in text and "did not: no loss is known" in text
    code, text = told("model.py:VAE", "--allow-no-loss")
    assert code == 0 and "model.py:VAE: 1 remark in the model alone, as no loss is known" in text and "incomplete" not in text
    code, text = told("model.py:AE(in_features=6, out_features=6)")
    assert code == 2 and "could not be analysed" in text and "nothing is drawn and no loss is known" in text
