"""Runs the nearest peers on the gallery's twenty bugs and writes docs/comparison/measured.json: who sees what, where, how fast.

    python -m venv peers && peers/bin/pip install torchtyc torchtest2 torch-audit traincheck beartype \\
        pyrefly==1.4.0 pyrefly-shape-extensions==1.4.0 pyrefly-torch-stubs==1.4.0
    python benchmarks/comparison.py --peers peers/bin/python [--only PEER]...

A peer sees a bug where it reports something that it does not report on the right model. The line counts where it is one of the changed
lines, or at most two beside it. TrainCheck takes a minute for each bug; all others are done in ten minutes.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "docs"))

from comparison_peers import PEERS
from gallery_sources import FOLDER, RIGHT, bugs

MEASURED = FOLDER.parent / "comparison" / "measured.json"
_PROCESS = Path(__file__).parent / "comparison_peers.py"
_PACKAGES = {
    "torchtest2": "torchtest2",
    "torch-audit": "torch-audit",
    "torchtyc": "torchtyc",
    "Pyrefly": "pyrefly",
    "TrainCheck": "traincheck",
}
_PACKAGES |= {"jaxtyping": "jaxtyping", "torch.export": "torch", "vaelint": "vaelint"}


def said(python: str, peer: str, name: str, source: str, home: Path) -> tuple[list[list[Any]], float]:
    """What a peer reports on a source, and the seconds that its process took."""
    folder = Path(tempfile.mkdtemp(dir=home))
    file = folder / f"{name.replace('-', '_')}.py"
    file.write_text(source)
    start = time.perf_counter()
    done = subprocess.run([python, str(_PROCESS), peer, str(file)], capture_output=True, text=True, timeout=900, cwd=folder)
    seconds = time.perf_counter() - start
    if done.returncode:
        raise SystemExit(f"{peer} on {name}: {done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1]), round(seconds, 1)


def compared(python: str, peer: str, home: Path) -> dict[str, Any]:
    """What one peer says of the right model, and of each bug beyond that."""
    version = subprocess.run(
        [python, "-c", f"import importlib.metadata as m; print(m.version('{_PACKAGES[peer]}'))"], capture_output=True, text=True, check=True
    ).stdout.strip()
    plain, seconds = said(python, peer, "right", RIGHT, home)
    known = {_kind(what) for what, _ in plain}
    result: dict[str, Any] = {"version": version, "right": [what for what, _ in plain], "seconds": [seconds], "bugs": {}}
    for bug in bugs():
        found, seconds = said(python, peer, bug.name, bug.source, home)
        result["seconds"].append(seconds)
        right = RIGHT.splitlines()
        changed = [number for number, line in enumerate(bug.source.splitlines(), 1) if line not in right]
        new = [(what, line) for what, line in found if _kind(what) not in known]
        near = any(line and min(abs(line - number) for number in changed) <= 2 for _, line in new)
        result["bugs"][bug.name] = {"sees": bool(new), "line": near, "says": new[0][0][:200] if new else ""}
        print(peer, bug.name, "line" if near else "sees" if new else "-", result["bugs"][bug.name]["says"][:90], flush=True)
    return result


def _kind(what: str) -> str:
    """A report without its numbers, so that another loss is no other report."""
    return "".join(c for c in what.partition(":")[0] if not c.isdigit() or "TA" in what[:2])


def main() -> None:
    """Runs the peers that are named, or all, and keeps the rest as it was."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", default=sys.executable, help="the Python where the peers are installed")
    parser.add_argument("--only", action="append", default=[])
    options = parser.parse_args()
    MEASURED.parent.mkdir(exist_ok=True)
    kept = json.loads(MEASURED.read_text()) if MEASURED.exists() else {}
    with tempfile.TemporaryDirectory() as home:
        (Path(home) / "right.py").write_text(RIGHT)
        for peer in options.only or PEERS:
            kept[peer] = compared(sys.executable if peer == "vaelint" else options.peers, peer, Path(home))
            MEASURED.write_text(json.dumps({name: kept[name] for name in PEERS if name in kept}, indent=1) + "\n")


if __name__ == "__main__":
    main()
