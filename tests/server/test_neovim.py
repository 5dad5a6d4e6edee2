"""`vaelint server` under a real editor: Neovim, without a window."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SESSION = Path(__file__).parents[1] / "data" / "editors" / "session.lua"
MODEL = Path(__file__).parents[1] / "data" / "mlp_vae.py"


@pytest.mark.skipif(shutil.which("nvim") is None, reason="Neovim is not installed (nvim)")
def test_neovim_shows_hovers_and_applies(tmp_path: Path) -> None:
    right = MODEL.read_text()
    (tmp_path / "model.py").write_text(right.replace("randn_like(std)", "randn(self.latent_dim, device=mu.device)"))
    (tmp_path / "vaelint.toml").write_text('[[targets]]\ntarget = "model.py:VAE"\ninput = "32x784"\n')
    (tmp_path / "vaelint").write_text(f'#!/bin/sh\nexec {sys.executable} -m vaelint "$@"\n')
    (tmp_path / "vaelint").chmod(0o755)
    around = {**os.environ, "VAELINT": str(tmp_path / "vaelint"), "SEEN": str(tmp_path / "seen.json"), "HOME": str(tmp_path)}
    command = ["nvim", "--headless", "--clean", "-c", f"luafile {SESSION}", "-c", "qall!"]
    done = subprocess.run(command, cwd=tmp_path, env=around, capture_output=True, text=True, timeout=100)
    assert (tmp_path / "seen.json").is_file(), done.stderr
    seen = json.loads((tmp_path / "seen.json").read_text())
    (found,) = seen["before"]
    assert (found["code"], found["line"]) == ("VAE201", 19) and "confirmed on cpu" in found["message"]
    assert "eps: (20) float32" in seen["hover"] and "noise" in seen["hover"]
    assert seen["actions"][0].startswith("Fix VAE201: ") and seen["actions"][1].startswith("Ignore VAE201 ")
    assert seen["line"] == "        eps = torch.randn_like(std)" and seen["after"] == 0
    assert (tmp_path / "model.py").read_text() == right
