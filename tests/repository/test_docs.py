"""The pages: built as `make docs` builds them, where a warning is an error."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import commandline
import pytest
from code_links import linked
from generated import key_tables
from law_pages import laws
from shown import as_shown
from typer.main import get_command

from vaelint.anatomy.model import Model
from vaelint.cli import app
from vaelint.config.file import load
from vaelint.config.options import Options
from vaelint.config.settings import resolve
from vaelint.confirm import run  # noqa: F401 - it has all experiments
from vaelint.core.result import Request
from vaelint.experiment.verdict import experiments
from vaelint.pipeline.check import check_target
from vaelint.report.svg import drawing
from vaelint.rule import NEEDS
from vaelint.rule_packages import load_rules

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
OUTPUT = DOCS / "output"
DATA = Path(__file__).parents[1] / "data"
LAWS_PAGE = (DOCS / "laws.md").read_text(encoding="utf-8").partition("\n## ")[0]


def build(source: Path, out: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Sphinx with the settings of this project."""
    command = [
        sys.executable,
        "-m",
        "sphinx",
        "--quiet",
        "--fail-on-warning",
        "--keep-going",
        *options,
        "-c",
        str(DOCS),
        str(source),
        str(out),
    ]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The finished pages, without the theme's sidebar: it names all pages on each, which is most of a build, and all links are in it."""
    out = tmp_path_factory.mktemp("pages")
    done = build(DOCS, out, "-D", "html_theme=basic")
    assert (done.returncode, done.stderr) == (0, "")
    return out


def test_every_rule_has_its_page(pages: Path) -> None:
    listed = (pages / "rules" / "index.html").read_text()
    for rule in load_rules():
        text = (pages / "rules" / f"{rule.code}.html").read_text()
        assert f"{rule.code} {rule.name}" in text
        assert "<em>" not in text, f"{rule.code}: the asterisks of a formula are taken for emphasis; put it into backticks"
        assert f'href="{rule.code}.html"' in listed
    assert 'href="rules/VAE402.html"' in (pages / "kl-and-beta.html").read_text(), "codes are links"
    assert 'href="VAE301.html"' in (pages / "rules" / "VAE302.html").read_text()


def test_every_law_has_its_page_and_its_row(pages: Path) -> None:
    listed = (pages / "laws.html").read_text()
    for law in laws():
        text = (pages / "laws" / f"{law.name}.html").read_text()
        assert re.search(r"Speaks as <a[^>]*>VAE\d{3}", re.sub(r"<span[^>]*>|</span>|<code[^>]*>|</code>", "", text)), law.name
        assert f'href="laws/{law.name}.html"' in listed, f"{law.name} has no row in docs/laws.md"
        assert LAWS_PAGE.count(f"\n| `{law.name}` |") == 1, f"{law.name} has more than one row in docs/laws.md"


def test_codes_become_links_where_they_are_words() -> None:
    text = "# VAE201\n\nVAE201, `VAE201` and [VAE201](x) | VAE202 | VAE999\n\n    VAE201\n\n```\nVAE201\n```\n(VAE202)"
    assert linked(text, "r/", {"VAE201", "VAE202"}) == (
        "# VAE201\n\n[VAE201](r/VAE201.md), `VAE201` and [VAE201](x) | [VAE202](r/VAE202.md) | VAE999\n\n    VAE201\n\n```\nVAE201\n```\n"
        "([VAE202](r/VAE202.md))"
    )


def test_the_guide_to_observing_shows_what_a_run_says() -> None:
    command = [sys.executable, "-m", "vaelint", "run", "train.py", "--epochs", "1", "--batch-size", "10"]
    done = subprocess.run(command, cwd=DATA / "runs", capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "vaelint run " + " ".join(command[4:]) in (DOCS / "run.md").read_text()
    as_shown(OUTPUT / "run.txt", done.stdout)


def test_the_front_page_shows_the_picture_of_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(DATA)
    result = check_target(Request("vae_three_bugs.py:VAE", ("32x784",), device="none", trail="with"), lambda message: None)
    drawn = drawing(result, alone=True)
    assert drawn.count(">VAE201<") == drawn.count(">VAE301<") == drawn.count(">VAE409<") == 1 and "(20), wanted (B, L)" in drawn
    as_shown(OUTPUT / "picture.svg", drawn + "\n")


def test_links_that_lead_nowhere_stop_the_build(tmp_path: Path) -> None:
    (tmp_path / "index.md").write_text("# x\n\n[a](other.md#no-such-heading) [b](nowhere.md)\n\n```{toctree}\nother\n```\n")
    (tmp_path / "other.md").write_text("# VAE201\n\n## A heading\n")
    done = build(tmp_path, tmp_path / "out", "-D", "made_pages=0")
    assert done.returncode == 1
    assert "furo" in (tmp_path / "out" / "index.html").read_text(), "the pages have their theme"
    assert "no-such-heading" in done.stderr
    assert "nowhere.md" in done.stderr


def printed(folder: Path, target: str, *options: str) -> str:
    """What a check says on standard output."""
    done = commandline.vaelint("check", target, "--device", "cpu", "--no-cache", *options, cwd=folder)
    assert (done.returncode, done.stderr) == (1, "")
    return done.stdout


MODEL = """import torch
import torch.nn.functional as F
from torch import nn


class VAE(nn.Module):
    def __init__(self, latent_dim=20):
        super().__init__()
        self.enc = nn.Sequential(nn.Linear(784, 128), nn.ReLU())
        self.mu = nn.Linear(128, latent_dim)
        self.logvar = nn.Linear(128, latent_dim)
        self.dec = nn.Sequential(nn.Linear(latent_dim, 784), nn.Sigmoid())

    def forward(self, x):
        h = self.enc(x)
        mu, logvar = self.mu(h), self.logvar(h)
        return self.dec(mu + torch.randn_like(mu) * torch.exp(0.5 * logvar)), mu, logvar


def loss_fn(recon, x, mu, logvar):
    kl = -0.5 * (1 + logvar - mu.pow(2) - logvar.exp())
    return {loss}
"""


def test_the_guides_show_what_is_printed(tmp_path: Path) -> None:
    shape = ("--input", "32x784")
    full = printed(DATA, "vae_three_bugs.py:VAE", *shape, "--output-format", "full", "--output-format", f"grouped:{tmp_path}/grouped")
    as_shown(OUTPUT / "grouped.txt", (tmp_path / "grouped").read_text())
    as_shown(OUTPUT / "finding.txt", full.partition("\n\n")[0] + "\n")
    (tmp_path / "model.py").write_text(MODEL.replace("{loss}", "F.mse_loss(recon, x) + kl.sum(1).mean()"))
    heavy = printed(tmp_path, "model.py:VAE", "--input", "32x784:float32[0,1]")
    *_, loss, summary = heavy.split("\n\n")
    as_shown(OUTPUT / "loss.txt", loss + "\n")
    as_shown(OUTPUT / "summary.txt", summary)


def test_the_first_five_commands_print_what_the_guide_shows() -> None:
    """As a newcomer types them, slips included; each with its exit code."""
    typed = (
        "vae_three_bugs.py",
        "check vae_three_bugs.py::VAE --input 32x784",
        "check vae_three_bugs.py:VAE --input foo",
        "check vae_three_bugs.py:VAE --input 32x784 --output-format concise",
        "check mlp_vae.py:VAE --input 32x784 --output-format concise",
    )
    told = []
    for words in typed:
        done = commandline.vaelint(*words.split(), cwd=DATA)
        told.append(f"$ vaelint {words}\n{done.stdout}{done.stderr}exit code {done.returncode}\n")
    as_shown(OUTPUT / "commands.txt", "\n".join(told))


def test_the_losses_of_the_guide_have_the_betas_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    rows = re.findall(r"^\| `(.+ \+ .+)` \| (\S+) \| (\S+) \| (\S*) ?\|$", (DOCS / "kl-and-beta.md").read_text(), re.M)
    assert len(rows) >= 13
    for number, (loss, expression, value, code) in enumerate(rows):
        (tmp_path / f"m{number}.py").write_text(MODEL.replace("{loss}", loss))
        result = check_target(Request(f"m{number}.py:VAE", ("32x784:float32[0,1]",), device="none"), lambda message: None)
        beta = result.loss["beta"]
        assert (beta["expression"], f"{beta['value']:.6g}") == (expression, f"{float(value):.6g}"), loss
        assert [f.code for f in result.findings] == ([code] if code else []), loss


def test_the_commands_of_the_guides_exist() -> None:
    """Each option that stands behind a command, and each command."""
    known: dict[str, set[str]] = {}
    for name, command in get_command(app.app).commands.items():  # type: ignore[attr-defined]
        parts = [command, *getattr(command, "commands", {}).values()]
        known[name] = {o for part in parts for p in part.params for o in (*p.opts, *p.secondary_opts)} | set(
            getattr(command, "commands", {})
        )
    seen = 0
    for guide in (*DOCS.glob("*.md"), ROOT / "README.md"):
        for name, words in re.findall(r"vaelint ([a-z]+(?:-[a-z]+)*)((?: [^`\n]*)?)[`\n]", guide.read_text()):
            if name not in known and not words.strip().startswith("-"):
                continue  # a sentence about vaelint
            own = re.split(r"\.py| -- ", words)[0] if name == "run" else words  # what follows the script is the script's
            options = set(re.findall(r"(?<!\S)--[a-z-]+", own))
            assert options <= known.get(name, set()), f"{guide.name}: vaelint {name}{words}"
            seen += 1
    assert seen > 30


def test_the_configurations_of_the_guides_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    blocks = [b for guide in (*DOCS.glob("*.md"), ROOT / "README.md") for b in re.findall(r"```toml\n(.*?)```", guide.read_text(), re.S)]
    tables = [b for b in blocks if "vaelint.targets" in b]
    assert len(tables) >= 3
    for table in tables:
        (tmp_path / "pyproject.toml").write_text(table)
        for script in re.findall(r'^run = "(\S+)', table, re.M):
            (tmp_path / script).touch()
        assert resolve((), load(), Options()).targets


def test_links_lead_to_files_that_are_kept() -> None:
    """No site is needed to follow them: what the build writes is linked by the build."""
    for page in (ROOT / "README.md", *DOCS.glob("*.md")):
        for name in re.findall(r"\]\((?!https?:)([^)#]+)(?:#[^)]+)?\)", page.read_text()):
            assert (page.parent / name).exists(), f"{page.name}: {name}"
            assert not (page.parent / name).resolve().is_relative_to(DOCS / "rules"), f"{page.name}: {name} is only there once it is built"


def test_what_the_guide_says_of_rules_is_there() -> None:
    guide = (DOCS / "write-a-rule.md").read_text()
    assert dict(re.findall(r"^\| `(\w+)` \| (.+) \|$", guide.replace("`--perturb`", "--perturb"), re.M)) == NEEDS
    asked = set(re.findall(r"`model\.(\w+)", guide))
    assert len(asked) > 12
    assert [name for name in asked if not hasattr(Model, name) and name not in Model.__dataclass_fields__] == []
    named = set(re.findall(r"claims\.([A-Z]\w+)", guide.partition("## Predict")[2].partition("## ")[0])) - {"Claim"}
    assert named and named <= {e.kind.__name__ for e in experiments()}


def test_the_page_of_keys_is_current() -> None:
    if os.environ.get("VAELINT_UPDATE"):
        (DOCS / "keys.md").write_text(key_tables())
    assert (DOCS / "keys.md").read_text() == key_tables(), "run make update"
