"""Runs `vaelint check` over a list of models in a folder of checkouts: one line a model, then totals.

    python benchmarks/corpus.py LIST.json CHECKOUTS [--only ID]... [--jobs 2] [--device none] [--bare] [--json OUT]

The list is JSON: objects with `id`, `repo` ("owner/name"), `file`, `target` (a class or function in the file), `init` (key -> Python
expression, as text), `inputs` (as `--input` takes them), `step` or `loss` (as the options take them; both optional) and `status` (a
reader's verdict) with its `reason`; `benchmarks/corpus.json` is such a list, of public models. A checkout lies in
CHECKOUTS/owner+name. With `--bare`, only target and inputs are given, and vaelint finds the rest.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

SETUP = "VAE00"


def main() -> int:
    """Runs the list and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("list", type=Path)
    parser.add_argument("checkouts", type=Path)
    parser.add_argument("--only", action="append", default=[])
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--device", default="none")
    parser.add_argument("--timeout", type=int, default=300)
    parser.add_argument("--bare", action="store_true")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    entries = [e for e in json.loads(options.list.read_text()) if not options.only or e["id"] in options.only]
    with ThreadPoolExecutor(options.jobs) as pool:
        rows = list(pool.map(lambda e: run(e, options), entries))
    for row in rows:
        print(line(row))
    print(totals(rows))
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1))
    return 0


def command(entry: dict[str, Any], options: argparse.Namespace) -> list[str]:
    """The command line for one entry."""
    args = [sys.executable, "-m", "vaelint", "check", f"{entry['file']}:{entry['target']}", "--output-format", "json"]
    args += ["--device", options.device, "--timeout", str(options.timeout)]
    for text in entry["inputs"]:
        args += ["--input", text]
    if options.bare:
        return args
    for key, value in entry.get("init", {}).items():
        args += ["--init", f"{key}={value}"]
    for key in ("step", "loss"):
        if entry.get(key):
            args += [f"--{key}", entry[key]]
    return args


def run(entry: dict[str, Any], options: argparse.Namespace) -> dict[str, Any]:
    """One check: the target's JSON, the exit code and the wall time."""
    folder = options.checkouts / entry["repo"].replace("/", "+")
    started = time.perf_counter()
    done = subprocess.run(command(entry, options), cwd=folder, capture_output=True, text=True)
    wall = time.perf_counter() - started
    try:
        target = json.loads(done.stdout)["targets"][0]
    except (ValueError, KeyError, IndexError):
        target = {"status": "broken", "findings": [], "error": done.stderr[-400:] or done.stdout[-400:]}
    return {"entry": entry, "code": done.returncode, "wall_s": round(wall, 2), "target": target}


def graded(row: dict[str, Any]) -> list[dict[str, Any]]:
    """The findings of severity warning or error."""
    return [f for f in row["target"]["findings"] if f["severity"] in ("error", "warning") and f.get("certainty") != "refuted"]


def is_tool_error(row: dict[str, Any]) -> bool:
    """Whether the tool itself failed."""
    return row["target"]["status"] == "broken" or any(f["code"] == "VAE006" for f in row["target"]["findings"])


def line(row: dict[str, Any]) -> str:
    """`id verdict status rung terms findings time`."""
    target, entry = row["target"], row["entry"]
    loss = target.get("loss") or {}
    terms = "+".join(t["role"] + ":" + t["kernel"] for t in loss.get("terms", ())) or "-"
    beta = (loss.get("beta") or {}).get("expression", "-")
    found = " ".join(f"{f['code']}@{f['span']['line']}({f['severity'][0]})" for f in target["findings"]) or "-"
    head = f"{entry['id']:22} {entry.get('status', '?'):11} {target['status']:9} {target.get('rung') or '-':9} {row['wall_s']:6.1f} s"
    return f"{head}  beta {beta}  {found}\n{'':24}{terms}" + (f"\n{'':24}{target['error']}" if "error" in target else "")


def totals(rows: list[dict[str, Any]]) -> str:
    """How many were analysed, how many carry findings, how many failed."""
    analysed = sum(r["target"]["status"] in ("clean", "findings") for r in rows)
    clean = [r for r in rows if r["entry"].get("status") == "clean"]
    alarms = sum(any(not f["code"].startswith(SETUP) for f in graded(r)) for r in clean)
    errors = sum(is_tool_error(r) for r in rows)
    counts = f"{len(rows)} models: {analysed} analysed, {errors} tool errors"
    return f"{counts}; {alarms} of {len(clean)} clean ones with a warning or an error; {sum(r['wall_s'] for r in rows):.0f} s"


if __name__ == "__main__":
    sys.exit(main())
