"""Targets that do their worst, and what a run makes of them.

    python benchmarks/hostile.py [--only WORDS] [--jobs 2] [--keep FOLDER]

Writes a corpus (every violent end at every place where user code runs, files that are hardly files, output in every format's own
syntax, machines that fail), checks it in batches with a sound model in each, and holds every batch against what must be true: one
result for each target, the sound one clean, no traceback, the exit code that follows from the results, a report that parses, a cache
whose every entry is whole, and the same statuses once more from the cache. Prints what was broken; exit code 1 if anything was.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from hostile_runs import DISTURBANCES, broken_entries, check, disturbed
from hostile_targets import Target, write_corpus


def faults(folder: Path, batch: Sequence[Target], jobs: int) -> Iterator[str]:
    """What is wrong with a run of a batch, twice: the second time with what the first one kept."""
    targets = [*(t.target for t in batch), "sound.py:VAE"]
    statuses: list[dict[str, str]] = []
    late: set[str] = set()  # a busy machine may make a slow target a late one
    for name in ("first", "again"):
        done = check(folder, targets, "--output-format", "json", "--jobs", str(jobs))
        said = done.stderr.decode("utf-8", "replace")
        if "Traceback" in said or b"Traceback" in done.stdout.partition(b'"targets"')[0]:
            yield f"{name}: a traceback: {said[-500:]}"
        try:
            results = json.loads(done.stdout)["targets"]
        except (ValueError, KeyError) as error:
            yield f"{name}: the report cannot be read ({error}); exit code {done.returncode}; {said[-300:]}"
            return
        found = {r["target"]: r["status"] for r in results}
        statuses.append(found)
        late |= {r["target"] for r in results if "not done within" in json.dumps([*r["findings"], r["notes"], r["incomplete"]])}
        if [r["target"] for r in results] != targets:
            yield f"{name}: {len(results)} results for {len(targets)} targets, or in another order"
        if found.get("sound.py:VAE") != "clean":
            yield f"{name}: the sound target is {found.get('sound.py:VAE')}"
        expected = 2 if {"failed", "incomplete"} & set(found.values()) else 1 if "findings" in found.values() else 0
        if done.returncode != expected:
            yield f"{name}: exit code {done.returncode}, not {expected}; {said[-300:]}"
        for t in batch:
            got = found.get(t.target)
            if t.sound is True and got != "clean":
                messages = [f["message"][:160] for r in results if r["target"] == t.target for f in r["findings"]]
                yield f"{name}: {t.what} ({t.target}) is {got}: {messages}"
            if t.sound is False and got != "failed":
                yield f"{name}: {t.what} ({t.target}) is {got}, and was not looked at"
        for r in results:
            for f in r["findings"]:
                if "fault of vaelint" in json.dumps(f):
                    what = next((t.what for t in batch if t.target == r["target"]), r["target"])
                    yield f"{name}: {what} is called a fault of vaelint: {f['message'][:200]}"
    moved = {k: (v, statuses[1].get(k)) for k, v in statuses[0].items() if statuses[1].get(k) != v and k not in late}
    if moved:
        yield f"the second run says otherwise: {moved}"
    yield from broken_entries()


def main() -> None:
    """Runs all of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="targets whose description has these words")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--batch", type=int, default=25)
    parser.add_argument("--keep", type=Path, help="write the corpus here and leave it")
    told = parser.parse_args()
    count = wrong = 0
    with tempfile.TemporaryDirectory() as scratch:
        folder = told.keep or Path(scratch)
        folder.mkdir(exist_ok=True)
        corpus = [t for t in write_corpus(folder) if told.only in t.what]
        started = time.perf_counter()
        for first in range(0, len(corpus), told.batch):
            batch = corpus[first : first + told.batch]
            found = list(faults(folder, batch, told.jobs))
            count, wrong = count + len(batch), wrong + len(found)
            print(f"{count:4} of {len(corpus)} targets, {time.perf_counter() - started:5.0f} s, {wrong} wrong", flush=True)
            for fault in found:
                print("    " + fault, flush=True)
        if not told.only:
            for what, fault in disturbed(folder):
                wrong += bool(fault)
                print(f"{what}: {fault or 'as it should be'}", flush=True)
        with contextlib.suppress(OSError):
            (folder / "locked").chmod(0o755)
    print(f"{count} hostile targets and {len(DISTURBANCES)} disturbed runs: {wrong} wrong")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
