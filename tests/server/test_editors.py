"""`vaelint server` under real editors without a window: Neovim, and Emacs with its client eglot."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SESSIONS = Path(__file__).parents[1] / "data" / "editors"
RIGHT = (Path(__file__).parents[1] / "data" / "mlp_vae.py").read_text()


def session(folder: Path, *command: str) -> dict[str, Any]:
    """What an editor saw of a model with one noise vector for the whole batch, until it had applied the fix and saved."""
    (folder / "model.py").write_text(RIGHT.replace("randn_like(std)", "randn(self.latent_dim, device=mu.device)"))
    (folder / "vaelint.toml").write_text('[[targets]]\ntarget = "model.py:VAE"\ninput = "32x784"\n')
    (folder / "vaelint").write_text(f'#!/bin/sh\nexec {sys.executable} -m vaelint "$@"\n')
    (folder / "vaelint").chmod(0o755)
    around = {**os.environ, "VAELINT": str(folder / "vaelint"), "SEEN": str(folder / "seen.json"), "HOME": str(folder)}
    done = subprocess.run(command, cwd=folder, env=around, capture_output=True, text=True, timeout=150)
    assert (folder / "seen.json").is_file(), done.stderr
    seen: dict[str, Any] = json.loads((folder / "seen.json").read_text())
    assert "(20) float32" in seen["hover"] and "noise" in seen["hover"]
    assert seen["actions"][0].startswith("Fix VAE201: ") and seen["actions"][1].startswith("Ignore VAE201 ")
    assert seen["line"] == "        eps = torch.randn_like(std)" and seen["after"] == 0
    assert (folder / "model.py").read_text() == RIGHT
    return seen


@pytest.mark.skipif(shutil.which("nvim") is None, reason="Neovim is not installed (nvim)")
def test_neovim_shows_hovers_and_applies(tmp_path: Path) -> None:
    seen = session(tmp_path, "nvim", "--headless", "--clean", "-c", f"luafile {SESSIONS / 'session.lua'}", "-c", "qall!")
    (found,) = seen["before"]
    assert (found["code"], found["line"]) == ("VAE201", 19) and "confirmed on cpu" in found["message"]


@pytest.mark.skipif(shutil.which("emacs") is None, reason="Emacs is not installed (emacs-nox, elpa-eglot)")
def test_emacs_shows_hovers_and_applies(tmp_path: Path) -> None:
    seen = session(tmp_path, "emacs", "--batch", "--eval", "(package-initialize)", "--load", str(SESSIONS / "session.el"))
    ((line, text),) = seen["before"]
    assert line == 19 and "VAE201" in text and "one noise vector" in text
