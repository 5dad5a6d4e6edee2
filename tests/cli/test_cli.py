"""The command as a user runs it: a process, its output, its exit code."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import commandline
import jsonschema
import pytest

DATA = Path(__file__).parents[1] / "data"
VAELINT = str(Path(sys.executable).parent / "vaelint")
SCHEMA = json.loads((Path(__file__).parents[2] / "vaelint" / "report" / "schema.json").read_text())
MODEL = (DATA / "mlp_vae.py").read_text()
BUGGY = (DATA / "vae_three_bugs.py").read_text()
SHAPE = ("--input", "32x784")


def vaelint(*args: str, cwd: Path, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    done = commandline.vaelint(*args, cwd=cwd, env=env)
    assert "Traceback" not in done.stderr, done.stderr
    return done


def document(done: subprocess.CompletedProcess[str]) -> list[dict[str, Any]]:
    """The targets of a JSON report, which must be all of standard output and follow the schema."""
    loaded = json.loads(done.stdout)
    jsonschema.validate(loaded, SCHEMA, jsonschema.Draft202012Validator)
    targets: list[dict[str, Any]] = loaded["targets"]
    return targets


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "model.py").write_text(MODEL)
    (tmp_path / "buggy.py").write_text(BUGGY)
    (tmp_path / "helper.py").write_text("SIZE = 4\n")
    return tmp_path


def test_a_sound_model_is_clean(project: Path) -> None:
    done = commandline.installed("check", "model.py:VAE", *SHAPE, "--device", "cpu", "--output-format", "json", cwd=project)
    assert (done.returncode, done.stderr) == (0, "")
    (target,) = document(done)
    assert target["status"] == "clean"
    assert target["confirm"]["outcome"] == "ran"
    assert not [f for f in target["findings"] if f["severity"] != "info"]
    assert target["quiet"], "rules ran"
    assert {t["role"] for t in target["loss"]["terms"]} == {"kl", "reconstruction"}


def test_numpy_may_be_missing(project: Path) -> None:
    (project / "without").mkdir()
    (project / "without" / "sitecustomize.py").write_text("import sys\nsys.modules['numpy'] = None")
    without = {"PYTHONPATH": str(project / "without")}
    done = vaelint("check", "model.py:VAE", *SHAPE, "--device", "cpu", cwd=project, env=without)
    assert (done.returncode, done.stderr) == (0, "")
    assert "printed" not in done.stdout, "torch warns that it has no numpy"


def test_bugs_that_raise_nothing_are_found_at_their_lines(project: Path) -> None:
    done = vaelint("check", "buggy.py:VAE", *SHAPE, "--device", "cpu", "--output-format", "json", cwd=project)
    assert done.returncode == 1
    (target,) = document(done)
    lines = BUGGY.split("\n")
    found = {(f["code"][:4], lines[f["span"]["line"] - 1].strip()) for f in target["findings"] if f["severity"] != "info"}
    assert ("VAE2", "eps = torch.randn(self.latent_dim, device=mu.device)") in found
    assert ("VAE3", "rec = F.mse_loss(recon, x)") in found or ("VAE3", "recon = self.dec(z).unsqueeze(1)") in found
    assert ("VAE4", "kl = -0.5 * torch.sum(1 + logvar - mu.pow(2) - torch.exp(0.5 * logvar))") in found


def test_the_full_report_shows_the_code_and_no_colour(project: Path) -> None:
    done = vaelint("check", "buggy.py:VAE", *SHAPE, "--device", "none", cwd=project)
    assert done.returncode == 1
    assert "error[VAE201] shared-noise: one noise vector serves the whole batch" in done.stdout
    assert "^^^^^^" in done.stdout
    assert "\x1b" not in done.stdout
    assert max(len(line) for line in done.stdout.splitlines()) <= 100


def test_colour_when_asked_for(project: Path) -> None:
    check = ("check", "buggy.py:VAE", *SHAPE, "--device", "none")
    assert "\x1b[" in vaelint(*check, "--color", cwd=project).stdout
    assert "\x1b[" in vaelint(*check, cwd=project, env={"FORCE_COLOR": "1"}).stdout
    assert "\x1b[" not in vaelint(*check, cwd=project, env={"FORCE_COLOR": "1", "NO_COLOR": "1"}).stdout


def test_same_input_same_bytes(project: Path) -> None:
    check = ("check", "buggy.py:VAE", *SHAPE, "--device", "cpu", "--no-cache", "--output-format", "json")
    first, second = commandline.installed(*check, cwd=project), vaelint(*check, cwd=project)
    assert first.stdout == second.stdout
    assert "timing" not in document(first)[0]
    assert document(vaelint(*check, "--timings", cwd=project))[0]["timing"]["trace_s"] > 0


HOSTILE = {
    "syntax": ("def broken(:\n    pass", 1),
    "leaves": ("import os\nos._exit(0)", 2),
    "hangs": ("while True:\n    pass", 1),
    "crashes": ("import ctypes\nctypes.string_at(0)", 2),
    "killed": ("import os\nos.kill(os.getpid(), 9)", None),
}
RECOVERABLE = {
    "raises": ("raise ValueError('boo')", 1),
    "exits": ("import sys\nsys.exit(0)", 2),
    "eats memory": ("x = bytearray(1 << 62)", 1),
}


def check_beside_a_sound_one(project: Path, code: str, *options: str) -> tuple[int, dict[str, Any], dict[str, Any]]:
    """Exit code and the results of hostile.py, which begins with `code`, and of model.py."""
    (project / "hostile.py").write_text(code + "\n\n" + MODEL.replace('"""', "#", 1).replace('"""', "", 1))
    json_on_cpu = ("--device", "none", "--output-format", "json")
    done = vaelint("check", "hostile.py:VAE", "model.py:VAE", *SHAPE, *options, *json_on_cpu, cwd=project)
    first, second = document(done)
    return done.returncode, first, second


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_code_gives_one_clear_message_and_the_next_target_runs(project: Path, kind: str) -> None:
    code, line = HOSTILE[kind]
    exit_code, first, second = check_beside_a_sound_one(project, code, *(("--timeout", "6") if kind == "hangs" else ()))
    assert (exit_code, first["status"], second["status"]) == (2, "failed", "clean")
    (finding,) = [f for f in first["findings"] if f["severity"] == "error"]
    assert finding["code"].startswith("VAE0")
    assert finding["span"]["file"] == "hostile.py"
    assert line is None or finding["span"]["line"] in (line, line + 1)


@pytest.mark.parametrize("kind", RECOVERABLE)
def test_a_module_that_stops_midway_is_told_and_read_on(project: Path, kind: str) -> None:
    code, line = RECOVERABLE[kind]
    exit_code, first, second = check_beside_a_sound_one(project, code)
    assert (exit_code, first["status"], second["status"]) == (0, "clean", "clean")
    assert any(f"hostile.py stopped at line {line}" in note for note in first["notes"])


STEPS_THAT_RAISE = {
    "recon, mu, logvar = model(x); loss = foo(recon)": "NameError: name 'foo'",
    "recon, mu = model(x); loss = recon.sum()": "ValueError: too many values",
    "loss = model(x, 3)[0].sum()": "TypeError",
    "loss = 1 / 0": "ZeroDivisionError: division by zero",
}


@pytest.mark.parametrize("step", STEPS_THAT_RAISE)
def test_a_step_that_raises_is_wrong_usage_and_not_the_model(project: Path, step: str) -> None:
    done = vaelint("check", "model.py:VAE", *SHAPE, "--step", step, "--device", "none", "--output-format", "json", cwd=project)
    (finding,) = document(done)[0]["findings"]
    assert (done.returncode, finding["code"]) == (2, "VAE003")
    assert STEPS_THAT_RAISE[step] in finding["message"]
    assert "--step" in finding["help"]


def test_a_batch_size_written_in_the_step_is_said_to_stand_there(project: Path) -> None:
    step = "r, mu, logvar = model(x); loss = (r.view(32, 784) - x).pow(2).sum() + mu.pow(2).sum() + logvar.pow(2).sum()"
    done = vaelint("check", "model.py:VAE", *SHAPE, "--step", step, "--device", "none", "--output-format", "json", cwd=project)
    (finding,) = [f for f in document(done)[0]["findings"] if f["code"] == "VAE102"]
    assert "is in the step" in finding["label"]


def test_prints_never_mix_into_the_report(project: Path) -> None:
    noisy = MODEL.replace("        h = self.enc(x)", "        print('in forward', x.shape)\n        h = self.enc(x)")
    (project / "noisy.py").write_text("import sys\nprint('hello')\nprint('oops', file=sys.stderr)\n" + noisy)
    done = vaelint("check", "noisy.py:VAE", *SHAPE, "--device", "cpu", "--output-format", "json", cwd=project)
    assert (done.returncode, done.stderr) == (0, "")
    assert document(done)[0]["status"] == "clean"
    quiet = vaelint("check", "noisy.py:VAE", *SHAPE, "--device", "cpu", cwd=project).stdout
    assert "the code printed" in quiet
    assert "in forward" not in quiet
    assert "| hello\n" in vaelint("check", "noisy.py:VAE", *SHAPE, "--device", "cpu", "-v", cwd=project).stdout


def test_a_crash_in_the_real_pass_costs_no_finding(project: Path) -> None:
    crash = "        recon.register_hook(lambda g: type(g).__name__ == 'Tensor' and __import__('os').kill(__import__('os').getpid(), 11))\n"
    (project / "late.py").write_text(BUGGY.replace("        return recon, mu, logvar", crash + "        return recon, mu, logvar"))
    done = vaelint("check", "late.py:VAE", *SHAPE, "--device", "cpu", "--output-format", "json", cwd=project)
    (target,) = document(done)
    assert "VAE201" in {f["code"] for f in target["findings"]}
    assert (done.returncode, target["status"]) == (2, "incomplete"), "the experiments did not have their chance"
    assert target["confirm"]["outcome"] == "crashed"
    assert "SIGSEGV" in target["confirm"]["reason"]


def test_columns_set_the_width_of_what_is_piped(project: Path) -> None:
    check = ("check", "model.py:VAE", *SHAPE, "--device", "none", "--exit-zero")
    narrow, usual = (vaelint(*check, cwd=project, env={"COLUMNS": columns}).stdout for columns in ("60", "300"))
    assert max(map(len, narrow.splitlines())) <= 60 < max(map(len, usual.splitlines())) <= 100
    assert narrow.split() != [] and "\x1b" not in narrow


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ((), "no target is named"),
        (("model.py:VAE", "--input", "32y784:"), "--input"),
        (("model.py:VAE", "--init", "latent_dim"), "--init"),
        (("model.py:VAE", "--device", "tpu"), "--device must be"),
        (("model.py:VAE", "--timeout", "0"), "--timeout must be a number of seconds above 0"),
        (("model.py:VAE", "--timeout", "soon"), "valid number"),
        (("model.py:VAE", "--select", "VAE999"), "no rule is selected by 'VAE999'"),
        (("model.py:VAE", "--ignore", "shared-nois"), "did you mean shared-noise?"),
        (("model.py:VAE", "--select", "VAE201", "--ignore", "VAE2"), "every selected rule is ignored"),
        (("model.py:VAE", "--input", "99999999999x99999999999"), "too large: 1.0e+22 numbers do not fit in memory"),
        (("model.py:VAE", "--input", "1000000000000x784"), "too large: 7.8e+14 numbers do not fit in memory"),
        (("helper.py", *SHAPE), "no VAE is found in helper.py"),
        (("model.py:VAE", "--output-format", "xml"), "xml"),
        (("model.py:VAE", "--inputs", "1x2"), "--input"),
        (("nowhere.py",), "there is no file nowhere.py"),
        (("VAE",), "VAE"),
    ],
)
def test_wrong_usage_is_2_and_says_what_to_do(project: Path, args: tuple[str, ...], words: str) -> None:
    done = vaelint("check", *args, cwd=project)
    assert (done.returncode, done.stdout) == (2, "")
    assert words in done.stderr
    assert "help: " in done.stderr


def test_a_target_that_is_not_there_is_2(project: Path) -> None:
    for target in ("nowhere.py:VAE", "model.py:NoSuch", "no_such_module_anywhere:VAE"):
        assert vaelint("check", target, *SHAPE, "--device", "none", cwd=project).returncode == 2


def test_exit_codes_follow_the_bar(project: Path) -> None:
    check = ("check", "buggy.py:VAE", *SHAPE, "--device", "none")
    assert vaelint(*check, "--exit-zero", cwd=project).returncode == 0
    assert vaelint(*check, "--select", "VAE201", cwd=project).returncode == 1
    assert vaelint(*check, "--select", "VAE5", "--fail-on", "error", cwd=project).returncode == 0
    assert vaelint("check", "model.py:NoSuch", "--exit-zero", cwd=project).returncode == 2


def test_select_and_ignore(project: Path) -> None:
    def codes(*options: str) -> set[str]:
        done = vaelint("check", "buggy.py:VAE", *SHAPE, "--device", "none", "--output-format", "concise", *options, cwd=project)
        return {line.split(": ")[1].split()[0] for line in done.stdout.splitlines()}

    assert codes("--select", "shared-noise") == {"VAE201"}
    assert codes("--select", "VAE2,VAE3", "--ignore", "VAE3") == {"VAE201"}
    assert "VAE201" not in codes("--ignore", "VAE201")


def test_the_report_goes_to_a_file(project: Path) -> None:
    done = vaelint("check", "model.py:VAE", *SHAPE, "--device", "none", "--output-format", "json", "--output-file", "r.json", cwd=project)
    assert (done.returncode, done.stdout) == (0, "")
    assert json.loads((project / "r.json").read_text())["targets"][0]["status"] == "clean"
    lost = vaelint("check", "model.py:VAE", *SHAPE, "--device", "none", "--output-file", "no/such/r.txt", cwd=project)
    assert lost.returncode == 2
    assert "cannot write no/such/r.txt" in lost.stderr


CONFIG = """
[tool.vaelint]
device = "none"

[[tool.vaelint.targets]]
target = "model.py:VAE"
input = "32x784"

[[tool.vaelint.targets]]
target = "sub/buggy.py:VAE(latent_dim=8)"
input = "32x784"
"""


def test_a_configured_repository_is_gated(project: Path) -> None:
    (project / "pyproject.toml").write_text(CONFIG)
    (project / "sub").mkdir()
    (project / "buggy.py").rename(project / "sub" / "buggy.py")
    done = vaelint("check", "--output-format", "json", cwd=project)
    assert done.returncode == 1
    assert [(t["target"], t["status"]) for t in document(done)] == [
        ("model.py:VAE", "clean"),
        ("sub/buggy.py:VAE(latent_dim=8)", "findings"),
    ]
    assert document(done)[1]["symbols"].get("L", 8) == 8
    below = vaelint("check", "buggy.py", "--output-format", "concise", cwd=project / "sub")
    assert below.returncode == 1
    assert below.stdout.startswith("buggy.py:")


def test_files_as_pre_commit_passes_them(project: Path) -> None:
    (project / "sub").mkdir()
    (project / "sub" / "helper.py").write_text("")
    (project / "elsewhere").mkdir()
    (project / "elsewhere" / "helper.py").write_text("")
    hook = {"PRE_COMMIT": "1"}
    none = vaelint("check", "sub/helper.py", cwd=project, env=hook)
    assert (none.returncode, "no VAE is found in sub/helper.py" in none.stderr, "nothing was checked" in none.stderr) == (0, True, True)
    by_hand = vaelint("check", "sub/helper.py", cwd=project)
    assert (by_hand.returncode, "no VAE is found in sub/helper.py" in by_hand.stderr) == (2, True), "who names a file means a VAE"
    found = vaelint("check", "helper.py", "buggy.py", "--device", "none", cwd=project, env=hook)
    assert (found.returncode, "VAE201" in found.stdout) == (1, True)
    (project / "pyproject.toml").write_text(CONFIG)
    skipped = vaelint("check", "elsewhere/helper.py", cwd=project)
    assert (skipped.returncode, "nothing was checked" in skipped.stderr) == (0, True)
    called = vaelint("check", "elsewhere/helper.py", *SHAPE, cwd=project)
    assert (called.returncode, "nothing was checked" in called.stderr) == (2, True)
    assert vaelint("check", "model.py", cwd=project).returncode == 0
    assert json.loads(vaelint("check", "setup.py", "--output-format", "json", cwd=_with(project, "setup.py")).stdout)["targets"]
    assert vaelint("check", cwd=project / "sub").returncode != 0, "the configured sub/buggy.py is not there"


def _with(project: Path, name: str) -> Path:
    (project / name).write_text("")
    return project


def test_a_suppressed_finding_is_counted_not_shown(project: Path) -> None:
    source = BUGGY.replace("device=mu.device)", "device=mu.device)  # vaelint: ignore[VAE201] on purpose")
    (project / "buggy.py").write_text(source)
    done = vaelint("check", "buggy.py:VAE", *SHAPE, "--device", "none", "--select", "VAE201", cwd=project)
    assert done.returncode == 0
    assert "suppressed: VAE201 shared-noise at buggy.py:19 (on purpose)" in done.stdout


def test_rules_and_explain(project: Path) -> None:
    assert "VAE201  shared-noise" in vaelint("rules", cwd=project).stdout
    listed = json.loads(vaelint("rules", "--output-format", "json", cwd=project).stdout)
    assert [r["code"] for r in listed] == sorted(r["code"] for r in listed)
    by_code, by_name = (vaelint("explain", word, cwd=project).stdout for word in ("vae201", "shared-noise"))
    assert by_code == by_name
    assert "## Why is this bad" in by_code
    for code in ("VAE001", "analysis-incomplete"):
        assert "## When to ignore" in vaelint("explain", code, cwd=project).stdout
    unknown = vaelint("explain", "shared-nose", cwd=project)
    assert unknown.returncode == 2
    assert "did you mean shared-noise?" in unknown.stderr
    assert "\x1b[" in vaelint("explain", "VAE201", "--color", cwd=project).stdout


def test_a_reader_that_leaves_early_is_no_error(project: Path) -> None:
    done = subprocess.run(f"{VAELINT} rules | head -n 1", shell=True, cwd=project, capture_output=True, text=True)
    assert done.stderr == ""
    assert len(done.stdout.splitlines()) == 1


def test_interrupt_ends_everything(project: Path) -> None:
    pid = project.with_name(f"{project.name}.pid")  # below its folder a module writes nothing
    (project / "slow.py").write_text(f"import os, pathlib, time\npathlib.Path({str(pid)!r}).write_text(str(os.getpid()))\ntime.sleep(60)\n")
    front = subprocess.Popen(
        [VAELINT, "check", "slow.py:VAE"],
        cwd=project,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a suite in the background has it ignored
    )
    limit = time.monotonic() + 60
    while not (pid.exists() and pid.read_text()):
        assert time.monotonic() < limit
        time.sleep(0.05)
    front.send_signal(signal.SIGINT)
    _, err = front.communicate(timeout=60)
    assert front.returncode == 130
    assert "Traceback" not in err
    time.sleep(0.5)
    stat = Path(f"/proc/{pid.read_text()}/stat")
    assert not stat.exists() or stat.read_text().rsplit(")", 1)[1].split()[0] == "Z"


def test_version_and_help(project: Path) -> None:
    assert vaelint("--version", cwd=project).stdout.startswith("vaelint 0.")
    assert "check" in vaelint("--help", cwd=project).stdout
    assert "--input" in vaelint("check", "--help", cwd=project).stdout
    assert "did you mean" in vaelint("chek", cwd=project).stderr.lower()
