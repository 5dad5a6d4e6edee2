"""Formats, baseline, comments and configuration through the command line."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import commandline
import pytest

DATA = Path(__file__).parents[1] / "data"
BUGGY = (DATA / "vae_three_bugs.py").read_text()
NOISE = """import sys
for out in (sys.stdout, sys.stderr):
    print('::error::pwned', file=out)
    print('##[set-output name=a]b', file=out)
"""
CONFIG = "device = 'none'\n[[targets]]\ntarget = 'buggy.py:VAE'\ninput = '32x784'\n"


def vaelint(*args: str, **env: str) -> subprocess.CompletedProcess[str]:
    done = commandline.vaelint(*args, env=env, without=("GITHUB_", "CI_", "VAELINT_"))
    assert "Traceback" not in done.stderr, done.stderr
    return done


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder for all tests: what one of them has checked, the others get from the kept results."""
    return tmp_path_factory.mktemp("commands")


@pytest.fixture(autouse=True)
def project(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for path in home.iterdir():
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    (home / "buggy.py").write_text(NOISE + BUGGY)
    os.utime(home / "buggy.py", (1e9, 1e9))
    (home / "vaelint.toml").write_text(CONFIG)
    (home / ".git").mkdir()
    monkeypatch.chdir(home)
    return home


def test_several_formats_in_one_run_and_no_word_of_user_code_in_any() -> None:
    forms = ("sarif:r.sarif", "junit:r.xml", "gitlab:r.json", "markdown:r.md", "json-lines:r.jsonl", "rdjson:r.rd", "full", "github")
    done = vaelint("check", "-v", *(f"--output-format={f}" for f in forms), GITHUB_ACTIONS="true")
    assert done.returncode == 1
    assert "pwned" not in done.stderr
    stop = re.match(r"::stop-commands::([0-9a-f]{32})\n", done.stdout)
    assert stop, "in a report for people, nothing is a command"
    people, commands = done.stdout.split(f"\n::{stop[1]}::\n")
    assert "error[VAE201] shared-noise" in people
    assert "| ::error::pwned" in people, "-v shows what the code printed"
    assert all(line.startswith("::error file=buggy.py,line=") for line in commands.splitlines())
    for name in ("r.sarif", "r.xml", "r.json", "r.md", "r.jsonl", "r.rd"):
        text = Path(name).read_text()
        assert "VAE201" in text and "pwned" not in text and "set-output" not in text
    verbose = vaelint("check", "-v", "--output-format", "json").stdout
    assert json.loads(verbose) and "pwned" not in verbose
    assert vaelint("check", "--output-format", "sarif", "--exit-zero").returncode == 0
    Path("broken.py").write_text("import nothing_of_this_name\nclass VAE: ...\n")
    failed = vaelint("check", "broken.py:VAE", "--output-format", "github")
    assert (failed.returncode, failed.stdout[:22]) == (2, "::error file=broken.py")


@pytest.mark.parametrize(
    ("args", "words", "help"),
    [
        (("--output-format", "sarfi"), "there is no format 'sarfi'", "did you mean sarif?"),
        (("--output-format", "sarif:"), "no file is named", "sarif:FILE"),
        (("--output-format", "sarif", "--output-format", "json"), "room for one document", "FORMAT:FILE"),
        (("--output-format", "sarif:a", "--output-format", "json:./a"), "two reports are to be written", ""),
        (("--output-format", "sarif:no/such/a"), "cannot write no/such/a: there is no such folder", ""),
        (("--output-format", "sarif:.git"), "cannot write .git: it is a folder", ""),
        (("--output-file", "a", "--output-format", "json:b"), "--output-file is for one format", "FORMAT:FILE"),
        (("--update-baseline",), "there is no baseline to write", "--baseline FILE"),
        (("--baseline", "nowhere.json"), "there is no baseline nowhere.json", "--update-baseline"),
        (("--add-ignore", "a\nb"), "a reason is one line", ""),
        (("--jobs", "0"), "--jobs", ""),
    ],
)
def test_wrong_usage_is_said_before_anything_is_checked(args: tuple[str, ...], words: str, help: str) -> None:
    done = vaelint("check", *args)
    assert (done.returncode, done.stdout) == (2, "")
    assert words in done.stderr
    assert help in done.stderr
    assert sorted(p.name for p in Path().iterdir() if p.suffix in ("", ".json") and p.is_file()) == []


def test_a_report_is_written_into_what_is_no_regular_file(project: Path) -> None:
    os.mkfifo("pipe")
    with subprocess.Popen(["cat", "pipe"], stdout=subprocess.PIPE, text=True) as reader:
        assert vaelint("check", "--output-format", "concise:pipe").returncode == 1
        assert "VAE201" in reader.communicate(timeout=30)[0]
    (project / "real.txt").write_text("old")
    (project / "link.txt").symlink_to("real.txt")
    vaelint("check", "--output-format", "concise:link.txt")
    assert (project / "link.txt").is_symlink()
    assert "VAE201" in (project / "real.txt").read_text()


def test_what_goes_wrong_is_said_in_no_words_of_a_runner() -> None:
    for words in (["check", "a\n::error::pwned"], ["check", "x.py:VAE##[error]\x1b[31m", "--input", "y"], ["explain", "\r::error::pwned"]):
        done = vaelint(*words, GITHUB_ACTIONS="true")
        assert done.returncode == 2
        assert not [line for line in done.stderr.splitlines() if line.strip().startswith("::")] and "##[" not in done.stderr
        assert not set(done.stderr) & {"\x1b", "\r"}


def test_a_baseline_from_first_to_last() -> None:
    known = ("check", "--output-format", "concise", "--baseline", "known.json")
    assert vaelint(*known, "--update-baseline").returncode == 0
    again = vaelint(*known)
    assert (again.returncode, again.stdout.partition(";")[0]) == (0, "buggy.py:VAE: no findings")
    Path("buggy.py").write_text(
        ("\n\n" + NOISE + BUGGY).replace("eps = torch.randn(self.latent_dim, device=mu.device)", "eps = torch.randn_like(std)")
    )
    stale = vaelint(*known)
    assert stale.returncode == 1
    assert "1 entry of the baseline known.json is no longer found:\n  VAE201 shared-noise in buggy.py (buggy.py:VAE)" in stale.stderr
    assert "--prune-baseline" in stale.stderr
    assert vaelint(*known, "--prune-baseline").returncode == 0
    assert (vaelint(*known).returncode, "VAE201" in Path("known.json").read_text()) == (0, False)


def test_comments_are_added_with_their_reason() -> None:
    before = Path("buggy.py").read_text().splitlines()
    done = vaelint("check", "--add-ignore", "known since March", "--output-format", "concise")
    assert (done.returncode, done.stdout.partition(";")[0]) == (0, "buggy.py:VAE: no findings"), done.stderr
    after = Path("buggy.py").read_text().splitlines()
    changed = [(a, b) for a, b in zip(before, after, strict=True) if a != b]
    assert f"{len(changed)} comments written, in 1 file" in done.stderr
    assert all(re.fullmatch(re.escape(a) + r"  # vaelint: ignore\[VAE\d{3}(, VAE\d{3})*\] known since March", b) for a, b in changed)
    assert vaelint("check", "--output-format", "concise").returncode == 0


def test_config_shows_what_is_in_force_and_why() -> None:
    shown = vaelint("config", "--timeout", "7", "--jobs", "3", "--perturb").stdout
    assert re.search(r"jobs +3 +--jobs\n", shown) and re.search(r"perturb +True +--perturb\n", shown)
    assert re.search(r"device +none +vaelint\.toml\n +timeout +7 +--timeout", shown)
    document = json.loads(vaelint("config", "--output-format", "json").stdout)
    assert document["file"] == "vaelint.toml"
    assert document["values"]["fail-on"] == {"value": "warning", "from": "default"}
    assert document["targets"][0]["values"]["input"] == {"value": ["32x784"], "from": "vaelint.toml: target 1"}
    assert json.loads(vaelint("config", "--schema").stdout)["additionalProperties"] is False
    Path("vaelint.toml").write_text("[[targets]]\nrun = 'buggy.py --epochs 1'\n")
    assert re.search(r"\nbuggy\.py\n +run +buggy\.py --epochs 1 +vaelint\.toml: target 1\n", vaelint("config").stdout)
    Path("vaelint.toml").write_text("severity = { kl-overwieght = 'info' }")
    wrong = vaelint("config")
    assert (wrong.returncode, "did you mean kl-overweight?" in wrong.stderr) == (2, True)
