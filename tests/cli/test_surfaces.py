"""What the surfaces say agrees: report and patch, the certainty of a finding and the real pass, a page and what was asked."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import commandline
import pytest
from results import result

from vaelint.core.result import Request, TargetResult
from vaelint.pipeline.check import check_target
from vaelint.report import concise, html

ROOT = Path(__file__).parents[2]
DATA = Path(__file__).parents[1] / "data"
VAELINT = str(Path(sys.executable).parent / "vaelint")

# The scale has no name yet where the noise is drawn, and torch none in the file.
EARLY = """
from torch import exp, nn, randn
class VAE(nn.Module):
    def __init__(self):
        super().__init__()
        self.enc = nn.Linear(6, 8)
        self.dec = nn.Linear(4, 6)
    def forward(self, x):
        mu, logvar = self.enc(x).chunk(2, -1)
        eps = randn({size})
        std = exp(0.5 * logvar)
        return self.dec(mu + eps * std), mu, logvar
def loss_fn(recon, x, mu, logvar):
    return (recon - x).pow(2).sum() - 0.5 * (1 + logvar - mu.pow(2) - logvar.exp()).sum()
"""
NUMPY = """
from torch import nn, randn_like
class VAE(nn.Module):
    def __init__(self):
        super().__init__()
        self.enc = nn.Linear(6, 8)
        self.dec = nn.Linear(4, 6)
    def forward(self, x):
        mu, logvar = self.enc(x).chunk(2, -1)
        z = (mu + randn_like(mu) * (0.5 * logvar).exp()) * float(x.detach().numpy().mean())
        return self.dec(z.repeat(1, 2)), mu, logvar
"""


def vaelint(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return commandline.vaelint(*words, cwd=folder)


@pytest.mark.parametrize("size", ["4", "len(x), 1"])
def test_the_edit_in_the_report_is_the_one_of_the_patch(tmp_path: Path, size: str) -> None:
    (tmp_path / "model.py").write_text(EARLY.format(size=size))
    told = vaelint(tmp_path, "check", "model.py:VAE", "--input", "5x6", "--device", "none", "--no-cache").stdout
    patch = vaelint(tmp_path, "check", "model.py:VAE", "--input", "5x6", "--diff").stdout
    (new,) = [line[1:].strip() for line in patch.splitlines() if line.startswith("+") and not line.startswith("+++")]
    assert [line.partition("+")[2].strip() for line in told.splitlines() if line.startswith(" 10 + ")] == [new]


def test_a_step_that_raised_on_real_tensors_is_no_pass_that_was_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever leaves the real pass out has the step run on real tensors nevertheless where it can be traced on nothing else."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model.py").write_text(NUMPY)
    seen = check_target(Request("model.py:VAE", ("5x6",), device="none"), lambda message: None)
    (found,) = seen.findings
    assert found.evidence is not None and found.evidence.device == "cpu"
    assert (seen.confirm["outcome"], seen.confirm["device"]) == ("raised", "cpu")


def test_a_page_of_trace_says_that_no_rule_was_asked(tmp_path: Path) -> None:
    page = vaelint(DATA, "trace", "mlp_vae.py:VAE", "--input", "32x784", "--output-format", "html", "--no-cache").stdout
    assert "no findings" not in page and "verdict good" not in page
    assert "no rule was asked" in page
    checked = result()
    checked.findings = []
    checked.settle()
    assert "verdict good" in html.render([checked])


def test_concise_has_a_line_where_nothing_is_found() -> None:
    clean, other = (TargetResult(f"{n}.py:VAE", quiet=["VAE201"]) for n in "ab")
    assert concise.render([clean]) == "a.py:VAE: no findings\n"
    assert concise.render([clean, other]) == "2 targets: 2 clean\n"
    assert "clean" not in concise.render([clean, result()])


def test_a_missing_baseline_is_noticed_before_anything_runs(tmp_path: Path) -> None:
    (tmp_path / "model.py").write_text("open('ran', 'w')\n")
    words = ("check", "model.py:VAE", "--input", "5x6", "--baseline", "known.json")
    done = vaelint(tmp_path, *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert "there is no baseline known.json" in done.stderr and "--update-baseline" in done.stderr
    assert not (tmp_path / "ran").exists()
    lost = vaelint(tmp_path, *words[:-1], "nowhere/known.json", "--update-baseline")
    assert (lost.returncode, (tmp_path / "ran").exists()) == (2, False)
    assert "no such folder" in lost.stderr


def test_what_is_written_to_a_baseline_is_told(tmp_path: Path) -> None:
    (tmp_path / "model.py").write_text(EARLY.format(size="4"))
    words = ("check", "model.py:VAE", "--input", "5x6", "--device", "none", "--baseline", "known.json", "--output-format", "concise")
    assert vaelint(tmp_path, *words, "--update-baseline").stderr == "vaelint: 1 finding in the baseline known.json: 1 new, 0 taken out\n"
    (tmp_path / "model.py").write_text(EARLY.format(size="mu.shape"))
    assert "0 findings in the baseline known.json: 0 new, 1 taken out" in vaelint(tmp_path, *words, "--prune-baseline").stderr


TRAIN = """
import torch
from torch.nn import functional as F
from model import VAE
if __name__ == "__main__":
    VAE()
"""
BCE = (
    EARLY.format(size="mu.shape")
    .replace("return self.dec(mu + eps * std)", "return self.dec(mu + eps * std).sigmoid()")
    .replace("(recon - x).pow(2).sum()", "nn.functional.binary_cross_entropy(recon, x, reduction='sum')")
)


def test_a_file_is_checked_by_what_it_holds_or_imports(tmp_path: Path) -> None:
    (tmp_path / "model.py").write_text(EARLY.format(size="4"))
    (tmp_path / "train.py").write_text(TRAIN)
    (tmp_path / "other.py").write_text("x = 1\n")
    for words in (("model.py",), ("train.py",), ("model.py", "--input", "5x6"), ("model.py", "other.py")):
        done = vaelint(tmp_path, "check", *words, "--device", "none", "--output-format", "concise", "--no-cache")
        assert (done.returncode, "model.py:10:15: VAE201" in done.stdout) == (1, True), done.stderr
    done = vaelint(tmp_path, "check", "other.py")
    assert (done.returncode, done.stdout) == (2, "")
    assert "no VAE is found in other.py" in done.stderr and "vaelint check model.py:VAE" in done.stderr


def test_files_of_a_configured_repository_stand_for_what_they_touch(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "model.py").write_text(EARLY.format(size="4"))
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "vae.py").write_text(EARLY.format(size="4"))
    (tmp_path / "vaelint.toml").write_text('[[targets]]\ntarget = "elsewhere/model.py:VAE"\ninput = "5x6"\n')
    done = vaelint(tmp_path, "check", "other/vae.py")
    assert (done.returncode, done.stdout) == (0, "") and "nothing was checked" in done.stderr


def test_results_on_values_that_the_loss_wants_are_kept(tmp_path: Path) -> None:
    """That inputs without a range were drawn from [0, 1] is the same in every run."""
    (tmp_path / "model.py").write_text(BCE)
    os.utime(tmp_path / "model.py", (1e9, 1e9))
    words = ("check", "model.py:VAE", "--input", "5x6", "--device", "cpu", "--timings", "--output-format", "json")
    first, again = vaelint(tmp_path, *words), vaelint(tmp_path, *words)
    assert "drawn from [0, 1]" in first.stdout
    assert first.stdout == again.stdout, "timings and all: it is the kept one"


def test_discover_says_the_range_that_the_loss_wants(tmp_path: Path) -> None:
    (tmp_path / "model.py").write_text(BCE)
    assert 'input = "4x6:float32[0,1]"' in vaelint(tmp_path, "discover").stdout
    (tmp_path / "model.py").write_text(EARLY.format(size="4"))
    assert 'input = "4x6"\n' in vaelint(tmp_path, "discover").stdout


def test_annotate_works_where_check_does(tmp_path: Path) -> None:
    (tmp_path / "model.py").write_text(BCE)
    done = vaelint(tmp_path, "annotate", "model.py:VAE", "--input", "5x6")
    assert done.returncode == 1, done.stderr
    assert "+def loss_fn(" in done.stdout or "+    recon: Float" in done.stdout
    assert "not annotated" not in done.stderr


@pytest.mark.parametrize("where", ["import", "constructor"])
def test_a_default_device_without_values_is_no_fault_of_ours(tmp_path: Path, where: str) -> None:
    meta = "import torch\ntorch.set_default_device('meta')\n"
    inside = "super().__init__()\n        import torch; torch.set_default_device('meta')"
    text = EARLY.format(size="mu.shape")
    text = meta + text if where == "import" else text.replace("super().__init__()", inside)
    (tmp_path / "model.py").write_text(text)
    done = vaelint(tmp_path, "check", "model.py:VAE", "--input", "5x6", "--device", "cpu")
    assert "fault of vaelint" not in done.stdout
    assert "VAE201" not in done.stdout
    if where == "constructor":
        assert (done.returncode, "on the meta device and has no values" in " ".join(done.stdout.split())) == (2, True)


def test_make_demo_takes_an_environment_by_its_absolute_path() -> None:
    said = subprocess.run(
        ["make", "--dry-run", "demo", "VENV=/some/where/.venv"], cwd=ROOT, env=os.environ, capture_output=True, text=True, timeout=60
    ).stdout
    assert "cd tests/data && /some/where/.venv/bin/vaelint check" in said


@pytest.mark.parametrize(
    "words",
    [
        ("trace", "mlp_vae.py:VAE", "--input", "32x784", "--no-cache"),
        ("check", "mlp_vae.py:VAE", "--input", "32x784", "--no-cache", "--device", "none", "-v"),
        ("rules",),
    ],
    ids=lambda words: words[0],
)
def test_no_line_is_wider_than_the_terminal(words: tuple[str, ...]) -> None:
    done = commandline.vaelint(*words, cwd=DATA, env={"COLUMNS": "60"})
    assert done.returncode == 0
    assert [line for line in done.stdout.splitlines() if len(line) > 60] == []
