"""The codes about a check itself, all in one run, with exit codes: each beside the same model without its cause, at the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import commandline
import pytest

from vaelint.rule_packages import load_rules

DATA = Path(__file__).parents[1] / "data"
SOUND = (DATA / "mlp_vae.py").read_text()
FORWARD = "        h = self.enc(x)\n"
LOSS = SOUND[SOUND.index("def loss_fn") :]

# Code: what is put in the place of what, the marked line being the culprit; severity; whether the target could be analysed.
CASES: dict[str, tuple[str, str, str, bool]] = {
    "VAE001": ("class VAE(nn.Module):", "class VAE(nn.Module:  # here", "error", False),
    "VAE002": ("        super().__init__()\n", "        super().__init__()\n        raise ValueError('no')  # here\n", "error", False),
    "VAE003": ("    def forward(self, x):", "    def forward(self, x, label):  # here", "error", False),
    "VAE004": (LOSS, "", "info", True),
    "VAE006": (FORWARD, "        while True:\n            x = x + 0  # here\n" + FORWARD, "error", False),
    "VAE007": (FORWARD, "        raise RuntimeError('no')  # here\n" + FORWARD, "error", False),
    "VAE008": (FORWARD, FORWARD.rstrip() + "  # vaelint: ignore[VAE201] here\n", "info", True),
}


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The targets by the stem of their file: each bad one, and a good one."""
    cases = CASES | {"good": ("", "", "", True)}
    alone = {"VAE004": cases.pop("VAE004")}  # a loss would be found in the files beside it
    together = checked(tmp_path_factory.mktemp("setup"), cases, 2)
    return together | checked(tmp_path_factory.mktemp("alone"), alone, 2)


def checked(folder: Path, cases: dict[str, tuple[str, str, str, bool]], code: int) -> dict[str, Any]:
    """The targets of one run that ends with this exit code."""
    table = 'device = "none"\n'
    for name, (old, new, _, _) in cases.items():
        assert old in SOUND
        (folder / f"{name}.py").write_text(SOUND.replace(old, new, 1))
        table += f'[[targets]]\ntarget = "{name}.py:VAE"\ninput = "32x784"\n' + ("timeout = 4\n" if name == "VAE006" else "")
    (folder / "vaelint.toml").write_text(table)
    done = commandline.vaelint("check", "--output-format", "json", cwd=folder)
    assert (done.returncode, done.stderr) == (code, "")
    return {t["target"].partition(".py")[0]: t for t in json.loads(done.stdout)["targets"]}


@pytest.mark.parametrize("code", CASES)
def test_the_cause_is_found_at_its_line_and_nothing_else(results: dict[str, Any], code: str) -> None:
    old, new, severity, analysed = CASES[code]
    target = results[code]
    (found,) = target["findings"]
    assert (found["code"], found["severity"], found["span"]["file"]) == (code, severity, f"{code}.py")
    lines = SOUND.replace(old, new, 1).split("\n")
    marked = [n for n, line in enumerate(lines, 1) if line.endswith(" here")]
    assert found["span"]["line"] in (marked or [n for n, line in enumerate(lines, 1) if line.startswith("class VAE")])
    assert found["help"] or code == "VAE001", "what to do about it; an error of Python's own says so itself"
    assert (target["status"] != "failed") is analysed


def test_without_its_cause_nothing_is_found(results: dict[str, Any]) -> None:
    assert (results["good"]["status"], results["good"]["findings"]) == ("clean", [])


def test_no_code_is_without_its_model() -> None:
    assert {r.code for r in load_rules() if r.code < "VAE101"} == {*CASES, "VAE005", "VAE009", "VAE010"}, (
        "VAE005 has fixtures; two are tried in packages"
    )
