"""A check of code for Keras, which is no dependency of vaelint: `make test-packages` installs it."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest


def needs_keras() -> None:
    """Skips the test where Keras is not installed."""
    if importlib.util.find_spec("keras") is None:
        pytest.skip("keras is not installed; run make test-packages")


def checked(folder: Path, *words: str, device: str = "none", **environment: str) -> dict[str, Any]:
    """The one target of a check."""
    return _target(folder, ["check", "--device", device, "--exit-zero", *words], environment)


def observed(folder: Path, script: str, device: str = "none") -> dict[str, Any]:
    """The one target of a watched run."""
    return _target(folder, ["run", "--device", device, script], {})


def _target(folder: Path, words: list[str], environment: dict[str, str]) -> dict[str, Any]:
    needs_keras()
    how = [sys.executable, "-m", "vaelint", words[0], "--output-format", "json", *words[1:]]
    done = subprocess.run(how, cwd=folder, capture_output=True, text=True, timeout=300, env={**os.environ, **environment})
    assert "Traceback" not in done.stderr, done.stderr
    (target,) = json.loads(done.stdout)["targets"]
    return dict(target)
