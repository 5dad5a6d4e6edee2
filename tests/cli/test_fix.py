"""`--fix` and `--diff`: what is written, what is not, and that every edit holds."""

from __future__ import annotations

import ast
import io
import json
import shutil
import subprocess
import sys
import tokenize
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import commandline
import pytest
from expectations import ROOT, fixture_of, path_of
from hypothesis import given
from hypothesis import strategies as st
from thorough import examples

from vaelint.core.checked import Checked
from vaelint.core.edits import Edit, applied
from vaelint.core.finding import Span
from vaelint.core.result import Request
from vaelint.process import verify as fixing
from vaelint.process.front import Worker

DATA = Path(__file__).parents[1] / "data"
OPTIONS = ("--input", "32x784", "--device", "cpu")

# One or two for each kind of repair.
MENDED = (
    "vae102_baked_batch_size", "vae107_batch_split", "vae201_shared_noise", "vae206_negative_scale", "vae208_latent_not_sampled",
    "vae303_sigmoid_twice", "vae402_kl_overweight", "vae408_kl_formula", "vae502_unregistered_module", "vae601_born_on_cpu",
)  # fmt: skip


def vaelint(*args: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    done = commandline.vaelint(*args, cwd=cwd)
    assert "Traceback" not in done.stderr, done.stderr
    return done


@pytest.fixture(scope="module")
def worker() -> Iterator[Worker]:
    with Worker() as one:
        yield one


@pytest.fixture
def buggy(tmp_path: Path) -> Path:
    """A model with three bugs, two of which have a repair that follows from the finding."""
    shutil.copy(DATA / "vae_three_bugs.py", tmp_path / "buggy.py")
    return tmp_path


@pytest.fixture
def one_bug(tmp_path: Path) -> Path:
    """A model with one bug that has a repair."""
    text = (DATA / "mlp_vae.py").read_text()
    assert "torch.randn_like(std)" in text
    (tmp_path / "buggy.py").write_text(text.replace("torch.randn_like(std)", "torch.randn(std.shape[1])"))
    return tmp_path


def test_a_patch_is_printed_and_nothing_written(buggy: Path) -> None:
    before = (buggy / "buggy.py").read_bytes()
    done = vaelint("check", "buggy.py:VAE", *OPTIONS, "--diff", cwd=buggy)
    assert done.returncode == 1
    assert (buggy / "buggy.py").read_bytes() == before
    assert done.stdout.startswith("--- a/buggy.py\n+++ b/buggy.py\n")
    assert "would fix buggy.py:" in done.stderr
    subprocess.run(["git", "apply", "-"], input=done.stdout, text=True, cwd=buggy, check=True)
    assert (buggy / "buggy.py").read_bytes() != before, "it is a patch that tools take"


def test_a_report_has_each_fix_at_its_finding(buggy: Path) -> None:
    text = (buggy / "buggy.py").read_text()
    done = vaelint("check", "buggy.py:VAE", *OPTIONS, "--diff", "--output-format", "json", cwd=buggy)
    lines = text.split("\n")
    (target,) = json.loads(done.stdout)["targets"]
    fixes = {f["code"]: f["fix"] for f in target["findings"] if f["fix"]}
    assert "torch.randn_like(std)" in fixes["VAE201"]["new"]
    assert lines[fixes["VAE201"]["line"] - 1] != fixes["VAE201"]["new"]
    assert (buggy / "buggy.py").read_text() == text


def test_a_second_run_changes_nothing(one_bug: Path) -> None:
    before = (one_bug / "buggy.py").read_bytes()
    vaelint("check", "buggy.py:VAE", *OPTIONS, "--fix", cwd=one_bug)
    once = (one_bug / "buggy.py").read_bytes()
    assert once != before
    again = vaelint("check", "buggy.py:VAE", *OPTIONS, "--fix", cwd=one_bug)
    assert (one_bug / "buggy.py").read_bytes() == once
    assert "\nfixed " not in "\n" + again.stderr
    assert [p.name for p in one_bug.iterdir() if p.suffix != ".py" and p.is_file()] == [], "no file is left beside it"


def test_a_repair_needs_the_real_pass(buggy: Path) -> None:
    done = vaelint("check", "buggy.py:VAE", "--input", "32x784", "--device", "none", "--fix", cwd=buggy)
    assert done.returncode == 2
    assert "real pass" in done.stderr


def test_an_allowed_finding_is_left_alone(buggy: Path) -> None:
    source = (buggy / "buggy.py").read_text()
    found = vaelint("check", "buggy.py:VAE", *OPTIONS, "--output-format", "concise", cwd=buggy).stdout.splitlines()
    lines = source.split("\n")
    for line in found:
        if line.startswith("buggy.py:"):
            number = int(line.split(":")[1])
            lines[number - 1] += "  # vaelint: ignore[" + line.split(" ")[1].strip("[]").removesuffix(":") + "]"
    (buggy / "buggy.py").write_text("\n".join(lines))
    allowed = (buggy / "buggy.py").read_bytes()
    vaelint("check", "buggy.py:VAE", *OPTIONS, "--fix", cwd=buggy)
    assert (buggy / "buggy.py").read_bytes() == allowed


def test_an_edited_module_beside_the_target_is_checked(tmp_path: Path) -> None:
    """The overlay reaches imports: the loss lies in another file, compiled code of which lies on the disk."""
    (tmp_path / "losses.py").write_text(
        "import torch.nn.functional as F\n\n\ndef loss(recon, x, mu, logvar):\n    # both terms are sums\n"
        '    rec = F.mse_loss(recon, x, reduction="sum")\n'
        "    return rec + 0.5 * (1 + logvar - mu**2 - logvar.exp()).sum()\n"
    )
    (tmp_path / "model.py").write_text(
        "import torch\nfrom torch import nn\n\nfrom losses import loss\n\n\nclass VAE(nn.Module):\n    def __init__(self):\n"
        "        super().__init__()\n        self.e, self.d = nn.Linear(784, 8), nn.Linear(4, 784)\n\n    def forward(self, x):\n"
        "        mu, logvar = self.e(x).chunk(2, 1)\n"
        "        return self.d(mu + torch.randn_like(mu) * torch.exp(0.5 * logvar)), mu, logvar\n"
    )
    subprocess.run([sys.executable, "-m", "compileall", "-q", "losses.py"], cwd=tmp_path, check=True)
    done = vaelint("check", "model.py:VAE", *OPTIONS, "--loss", "losses.py:loss", "--fix", cwd=tmp_path)
    assert "fixed losses.py:7 VAE407" in done.stderr, done.stderr
    assert "-0.5 * (1 + logvar" in (tmp_path / "losses.py").read_text()
    assert "# both terms are sums" in (tmp_path / "losses.py").read_text()
    assert done.returncode == 0


def test_a_byte_order_mark_stays_where_it_is(worker: Worker, tmp_path: Path) -> None:
    """Editors on Windows write one. Python's columns of line 1 begin behind it."""
    file = tmp_path / "model.py"
    text = "import torch; from torch import nn\n" + (
        "class VAE(nn.Module):\n    def __init__(self):\n        super().__init__()\n"
        "        self.e, self.d = nn.Linear(9, 4), nn.Linear(2, 9)\n"
        "    def forward(self, x):\n        mu, logvar = self.e(x).chunk(2, 1)\n"
        "        return self.d(mu + torch.randn(2) * torch.exp(0.5 * logvar)), mu, logvar\n"
        "def loss_fn(recon, x, mu, logvar):\n    kl = -0.5 * (1 + logvar - mu**2 - logvar.exp()).sum()\n"
        "    return ((recon - x) ** 2).sum() + kl\n"
    )
    file.write_text(text, encoding="utf-8-sig")
    request = Request(f"{file}:VAE", ("4x9",), fixes=True)
    mended = fixing.mend([worker.run(request)], worker.run)
    assert list(mended.texts.values()) == ["\ufeff" + text.replace("torch.randn(2)", "torch.randn_like(mu)")], mended.left
    fixing.write(mended.texts, mended.before)
    assert file.read_bytes().startswith(b"\xef\xbb\xbfimport torch;")
    first = Span("model.py", 1, 8, 1, 13)
    assert applied("\ufeffimport torch", [Edit(first, "math")]) == "\ufeffimport math"


@pytest.mark.parametrize("name", MENDED[: examples(3, 10)])
def test_the_finding_is_gone_and_the_rest_is_kept(name: str, worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    fixture = fixture_of(name)
    request = replace(fixture.request(), fixes=True)
    before = fixture.path.read_text()
    mended = fixing.mend([worker.run(request)], worker.run)
    assert fixture.path.read_text() == before, "the disk keeps the old text"
    (text,) = mended.texts.values()
    assert comments(text) == comments(before)
    ast.parse(text)
    after = worker.run(replace(request, overlay=tuple(mended.texts.items())))
    wanted = {code for e in fixture.expectations for code in e.codes}
    fixed = {fix.finding.code for fix in mended.fixes}
    assert fixed & wanted
    assert not [f for f in after.result.findings if f.code in fixed and f.code not in {left.code for left, _ in mended.left}]
    assert after.result.confirm["outcome"] == "ran"
    again: list[Checked] = [after]
    assert fixing.mend(again, worker.run).texts == {}, "nothing is left to change"


def comments(text: str) -> list[str]:
    return [t.string for t in tokenize.generate_tokens(io.StringIO(text).readline) if t.type == tokenize.COMMENT]


_TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\r"), max_size=60)


@given(_TEXTS, st.data())
def test_an_edit_changes_its_span_and_nothing_else(text: str, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, len(text)))
    new = data.draw(_TEXTS)
    assert applied(text, [Edit(_span(text, start, end), new)]) == text[:start] + new + text[end:]


@given(_TEXTS, st.data())
def test_edits_that_overlap_are_refused(text: str, data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), min_size=4, max_size=4, unique=True))) if len(text) > 3 else None
    if cuts is None:
        return
    first, second = Edit(_span(text, cuts[0], cuts[2]), "a"), Edit(_span(text, cuts[1], cuts[3]), "b")
    assert applied(text, [first, second]) is None


def _span(text: str, start: int, end: int) -> Span:
    def place(offset: int) -> tuple[int, int]:
        head = text[:offset]
        return head.count("\n") + 1, offset - (head.rfind("\n") + 1) + 1

    (line, column), (end_line, end_column) = place(start), place(end)
    return Span("f.py", line, column, end_line, end_column)


def test_fixtures_exist() -> None:
    assert all(path_of("bad", name).is_file() for name in MENDED)
