"""`vaelint check .` in public repositories, and nothing else said: which trainings are observed, with which loss, in what time.

    python benchmarks/observe.py LIST.json CHECKOUTS [--only OWNER/NAME]... [--unseen | --seen] [--limit 120] [--json OUT]

The list is JSON: objects with `repo` ("owner/name"), `commit`, `folder` (where the check starts; optional), `unseen` (whether it
belongs to the last set that was brought after the code was written: its first run is the figure that counts), `entries`: a reader's
verdict for each script that trains a VAE: `script`, `models` (the classes), `loss` (the lines that call backward on it) and `terms`
(where its terms are computed: "FILE:FIRST-LAST", "FILE:*", "FOLDER:*"), and `faults`: codes that a reader found right, "CODE" or
"CODE@FILE:LINE". `benchmarks/entry_points.json` is such a list. A checkout lies in CHECKOUTS/owner+name; one that is not there is
cloned. Each check runs on a copy, which is compared with what it was, byte by byte.

A class counts as shown where a training that was observed called backward on one of the lines of `loss`, or where it was built and
the terms of its loss are computed in `terms`.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import resource
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

OBSERVED = re.compile(r"the loss is what (?P<place>.+?:\d+) (?:calls backward\(\) on|differentiates)")
SETUP = "VAE00"
GIGABYTE = 1 << 30


def main() -> int:
    """Runs the list and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("list", type=Path)
    parser.add_argument("checkouts", type=Path)
    parser.add_argument("--only", action="append", default=[])
    parser.add_argument("--unseen", action="store_true")
    parser.add_argument("--seen", action="store_true")
    parser.add_argument("--limit", type=int, default=120, help="seconds for a repository")
    parser.add_argument("--memory", type=int, default=10, help="gigabytes for a process")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows = []
    for verdict in chosen(json.loads(options.list.read_text()), options):
        row = checked(verdict, options)
        rows.append(row)
        print(line(row), flush=True)
        if options.json:
            options.json.write_text(json.dumps(rows, indent=1))
    print(totals(rows))
    return 0


def chosen(verdicts: list[dict[str, Any]], options: argparse.Namespace) -> list[dict[str, Any]]:
    """Those that the options name."""
    if options.only:
        return [v for v in verdicts if v["repo"] in options.only]
    return [v for v in verdicts if not (options.unseen and not v["unseen"]) and not (options.seen and v["unseen"])]


def checkout(verdict: dict[str, Any], folder: Path) -> Path:
    """The repository at its commit; cloned where it is not there."""
    found = folder / verdict["repo"].replace("/", "+")
    if not found.is_dir():
        address = f"https://github.com/{verdict['repo']}.git"
        subprocess.run(["git", "clone", "--quiet", address, str(found)], check=True)
        subprocess.run(["git", "-C", str(found), "checkout", "--quiet", verdict["commit"]], check=True)
    return found


def copied(repository: Path, scratch: Path) -> Path:
    """A copy of the repository's files."""
    whole = scratch / "repository"
    shutil.copytree(repository, whole, symlinks=True, ignore=shutil.ignore_patterns(".git"))
    return whole


def state(folder: Path) -> dict[str, str]:
    """Each file and folder below, with a digest of what is in it."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink():
            found[name] = f"link {path.readlink()}"
        else:
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "folder"
    return found


def checked(verdict: dict[str, Any], options: argparse.Namespace) -> dict[str, Any]:
    """One repository: what was said of it, in what time and memory, and whether it is as it was."""
    with tempfile.TemporaryDirectory(prefix="observe-") as scratch:
        whole = copied(checkout(verdict, options.checkouts), Path(scratch))
        folder = whole / verdict.get("folder", "")
        before, started = state(whole), time.perf_counter()
        out, err, timed_out, most = ran(folder, options)
        wall = time.perf_counter() - started
        after = state(whole)
        changed = sorted(k for k in {*before, *after} if before.get(k) != after.get(k))
    try:
        targets = json.loads(out)["targets"]
    except (ValueError, KeyError):
        targets = []
    entries = [graded(entry, targets) for entry in verdict["entries"]]
    alarms = [a for a in findings(targets) if not is_right(a, verdict.get("faults", ()))]
    said = {"wall_s": round(wall, 1), "memory_gb": round(most / GIGABYTE, 2), "timed_out": timed_out, "changed": changed}
    return {"verdict": verdict, "entries": entries, "findings": alarms, "targets": targets, "said": err, **said}


def ran(folder: Path, options: argparse.Namespace) -> tuple[str, str, bool, int]:
    """`vaelint check .` there, within limits: what it printed, whether it ran out of time, the largest memory of its processes."""

    def limits() -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a benchmark in the background may have been told to ignore it
        resource.setrlimit(resource.RLIMIT_DATA, (options.memory * GIGABYTE, options.memory * GIGABYTE))

    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        command = [sys.executable, "-P", "-m", "vaelint", "check", ".", "--output-format", "json", "--no-cache"]
        process = subprocess.Popen(command, cwd=folder, stdout=out, stderr=err, preexec_fn=limits)
        most, late, end = 0, False, time.monotonic() + options.limit
        while process.poll() is None:
            most = max(most, sum(held(pid) for pid in family(process.pid)))
            if time.monotonic() > end:
                late, end = True, end + 30
                process.send_signal(signal.SIGINT)
            time.sleep(0.2)
        texts = []
        for file in (out, err):
            file.seek(0)
            texts.append(file.read())
    return texts[0], texts[1], late, most


def family(pid: int) -> Iterator[int]:
    """A process and all below it."""
    yield pid
    try:
        children = [c for task in Path(f"/proc/{pid}/task").iterdir() for c in (task / "children").read_text().split()]
    except OSError:
        return
    for child in children:
        yield from family(int(child))


def held(pid: int) -> int:
    """Bytes of memory that a process has to itself."""
    try:
        rows = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(row.split()[1]) for row in rows if row.startswith("Private_")) * 1024


# --- what was said, against the verdict ---------------------------------------------------------------------------------


def graded(entry: dict[str, Any], targets: list[dict[str, Any]]) -> dict[str, Any]:
    """How each class of an entry was shown: observed, built, at another line, failed, or not at all."""
    return {"script": entry["script"], "shown": {model: shown(model, entry, targets) for model in entry["models"]}}


def shown(model: str, entry: dict[str, Any], targets: list[dict[str, Any]]) -> str:
    """The best that was said of one class."""
    order = ("observed", "built", "wrong line", "no loss", "failed", "-")
    ways = [way(t, entry) for t in targets if model in t["target"].rpartition(":")[2].split("(")[0].split("+")]
    return min(ways, key=order.index, default="-")


def way(target: dict[str, Any], entry: dict[str, Any]) -> str:
    """How one result shows a class of the entry."""
    if target["status"] == "failed":
        return "failed"
    seen = next((m for note in target["notes"] if (m := OBSERVED.search(note))), None)
    if seen is not None:
        return "observed" if seen["place"] in entry["loss"] else "wrong line"
    terms = [t["span"] for t in (target.get("loss") or {}).get("terms", ()) if t["span"]]
    if not terms:
        return "no loss"
    return "built" if all(any(within(span, place) for place in entry["terms"]) for span in terms) else "wrong line"


def within(span: dict[str, Any], place: str) -> bool:
    """Whether a span is in FILE:FIRST-LAST, FILE:* or FOLDER:*."""
    file, _, lines = place.rpartition(":")
    if lines == "*":
        return bool(span["file"] == file or span["file"].startswith(f"{file}/"))
    first, _, last = lines.partition("-")
    return bool(span["file"] == file and int(first) <= span["line"] <= int(last or first))


def findings(targets: list[dict[str, Any]]) -> list[str]:
    """Errors and warnings about models, each place once."""
    found = {
        f"{f['code']}@{f['span']['file']}:{f['span']['line']}"
        for t in targets
        for f in t["findings"]
        if f["severity"] in ("error", "warning") and f["certainty"] != "refuted" and not f["code"].startswith(SETUP)
    }
    return sorted(found)


def is_right(alarm: str, faults: list[str]) -> bool:
    """Whether a reader found it right."""
    return alarm in faults or alarm.partition("@")[0] in faults


def line(row: dict[str, Any]) -> str:
    """`repository time memory` and a line for each entry."""
    head = f"{row['verdict']['repo']:50} {row['wall_s']:6.1f} s {row['memory_gb']:5.2f} GB"
    head += ("  TIME OUT" if row["timed_out"] else "") + (f"  CHANGED {row['changed'][:3]}" if row["changed"] else "")
    rows = [f"    {e['script']}: " + ", ".join(f"{m} {w}" for m, w in e["shown"].items()) for e in row["entries"]]
    return "\n".join([head, *rows, *([f"    alarms: {' '.join(row['findings'])}"] if row["findings"] else [])])


def totals(rows: list[dict[str, Any]]) -> str:
    """The figures."""
    ways = [[w for e in row["entries"] for w in e["shown"].values()] for row in rows]
    right = [sum(w in ("observed", "built") for w in ws) for ws in ways]
    classes, shown_classes = sum(map(len, ways)), sum(right)
    seconds, memory = [r["wall_s"] for r in rows], [r["memory_gb"] for r in rows]
    counted = {w: sum(v == w for ws in ways for v in ws) for w in ("observed", "built", "wrong line", "no loss", "failed", "-")}
    return "\n".join([
        f"{len(rows)} repositories: {sum(n > 0 for n in right)} with a class shown with the loss that training uses, "
        f"{sum(n == len(w) for n, w in zip(right, ways, strict=True))} with all of them",
        f"{classes} classes: {shown_classes} shown ({100 * shown_classes / max(classes, 1):.0f} %): "
        + ", ".join(f"{n} {w}" for w, n in counted.items()),
        f"findings that no reader has confirmed: {sum(len(r['findings']) for r in rows)}",
        f"seconds: median {statistics.median(seconds):.0f}, worst {max(seconds):.0f}; memory: median {statistics.median(memory):.1f} GB, "
        f"worst {max(memory):.1f} GB; repositories changed: {sum(bool(r['changed']) for r in rows)}",
    ])  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
