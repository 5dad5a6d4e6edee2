"""Scripts that train, written to a folder and observed there by a process of their own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path


def observed(folder: Path, script: str) -> set[tuple[str, str, int]]:
    """Each finding, remarks left out: code, file and line."""
    (folder / "train.py").write_text(script, encoding="utf-8")
    command = [sys.executable, "-m", "vaelint", "run", "--output-format", "json", "--device", "cpu", "train.py"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, encoding="utf-8")
    targets = json.loads(done.stdout)["targets"]
    assert all(t["status"] not in ("failed", "incomplete") for t in targets), targets
    return {(f["code"], f["span"]["file"], f["span"]["line"]) for t in targets for f in t["findings"] if f["severity"] != "info"}
