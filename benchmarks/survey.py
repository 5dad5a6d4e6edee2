"""The survey: `vaelint check .` in public repositories, and nothing else said.

    python benchmarks/survey.py run CHECKOUTS RESULTS.jsonl [--only OWNER/NAME]... [--limit 90] [--memory 6]
    python benchmarks/survey.py keep RESULTS.jsonl

`run` takes the repositories of `benchmarks/survey.json`, one after another, each in a copy of CHECKOUTS/owner+name (cloned from GitHub
at its commit where it is not there), and adds a line of JSON for each to RESULTS.jsonl. One that has its line is left out, so the work
can be stopped and carried on. `keep` takes over what was found into `benchmarks/survey.json`: facts of ours and the place of each
finding, no code of theirs; verdicts that stand there stay. `docs/survey.md` is made of that file.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from observe import checkout, copied, ran
from survey_facts import kept

SURVEY = Path(__file__).with_suffix(".json")


def main() -> int:
    """Runs the survey, or keeps what it found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = parser.add_subparsers(dest="part", required=True)
    run = parts.add_parser("run")
    run.add_argument("checkouts", type=Path)
    run.add_argument("results", type=Path)
    run.add_argument("--only", action="append", default=[])
    run.add_argument("--limit", type=int, default=90, help="seconds for a repository")
    run.add_argument("--memory", type=int, default=6, help="gigabytes for a process")
    keep = parts.add_parser("keep")
    keep.add_argument("results", type=Path)
    options = parser.parse_args()
    survey = json.loads(SURVEY.read_text(encoding="utf-8"))
    if options.part == "keep":
        SURVEY.write_text(json.dumps(kept(survey, lines(options.results)), indent=1) + "\n", encoding="utf-8")
        return 0
    done = {row["repo"] for row in lines(options.results)}
    for one in survey["repositories"]:
        if one["repo"] not in done and (not options.only or one["repo"] in options.only):
            row = checked(one, options)
            with options.results.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
            print(f"{row['repo']:50} {row['seconds']:5.0f} s {len(row['targets'])} targets", flush=True)
    return 0


def lines(file: Path) -> list[dict[str, Any]]:
    """The rows that are there."""
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()] if file.exists() else []


def checked(one: dict[str, Any], options: argparse.Namespace) -> dict[str, Any]:
    """One repository: the report, what else was said, and how long it took."""
    with tempfile.TemporaryDirectory(prefix="survey-") as scratch:
        folder = copied(checkout(one, options.checkouts), Path(scratch)) / one.get("folder", "")
        started = time.perf_counter()
        out, err, timed_out, most = ran(folder, options)
        seconds = time.perf_counter() - started
    try:
        targets = json.loads(out)["targets"]
    except (ValueError, KeyError):
        targets = []
    row = {"repo": one["repo"], "commit": one["commit"], "seconds": round(seconds, 1), "memory": most, "timed_out": timed_out}
    return row | {"targets": targets, "said": err[-4000:], "out": "" if targets else out[-2000:]}


if __name__ == "__main__":
    sys.exit(main())
