"""Targets that do their worst, and what a run makes of them.

    python benchmarks/hostile.py [--only WORDS] [--part 1/4] [--targets | --disturbances] [--jobs 2] [--keep FOLDER]

Writes a corpus (every violent end at every place where user code runs, files that are hardly files, output in every format's own
syntax, machines that fail), checks it in batches with a sound model in each, and holds every batch against what must be true: one
result for each target, the sound one clean, no traceback, the exit code that follows from the results, a report that parses, a cache
whose every entry is whole, and the same statuses once more from the cache. Then disturbs runs of sound and of buggy models: signals,
limits, streams, environments, kept results that were tampered with, repositories that attack. The limit of a target follows how long the
sound one takes on this machine at that moment. Prints what was broken and how many of each were tried; exit code 1 if anything was.
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
from typing import Any, TypeVar

from hostile_disturbances import table
from hostile_runs import broken_entries, check, disturbed, patience
from hostile_targets import Target, write_corpus, write_sound

T = TypeVar("T")


def faults(folder: Path, batch: Sequence[Target], jobs: int) -> Iterator[str]:
    """What is wrong with a run of a batch, twice: the second time with what the first one kept."""
    targets = [*(t.target for t in batch), "sound.py:VAE"]
    statuses: list[dict[str, str]] = []
    late = {t.target for t in batch if t.once}  # not the same the second time; nor is a slow one, which a busy machine makes late
    limit = patience(folder)
    for name in ("first", "again"):
        done = check(folder, targets, "--output-format", "json", "--jobs", str(jobs), limit=limit)
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
        yield from (f"{name}: {wrong}" for wrong in misjudged(batch, results))
    moved = {k: (v, statuses[1].get(k)) for k, v in statuses[0].items() if statuses[1].get(k) != v and k not in late}
    if moved:
        yield f"the second run says otherwise: {moved}"
    yield from broken_entries()


def misjudged(batch: Sequence[Target], results: list[dict[str, Any]]) -> Iterator[str]:
    """Sound targets that are not clean, others that are, and what is taken for a fault of vaelint."""
    found = {r["target"]: r["status"] for r in results}
    for t in batch:
        got = found.get(t.target)
        if t.sound is True and got != "clean":
            messages = [f["message"][:160] for r in results if r["target"] == t.target for f in r["findings"]]
            yield f"{t.what} ({t.target}) is {got}: {messages}"
        if t.sound is False and got not in ("failed", "incomplete"):
            yield f"{t.what} ({t.target}) is {got}, and was not looked at"
    for r in results:
        for f in r["findings"]:
            if "fault of vaelint" in json.dumps(f):
                what = next((t.what for t in batch if t.target == r["target"]), r["target"])
                yield f"{what} is called a fault of vaelint: {f['message'][:200]}"


def part(items: Sequence[T], told: str) -> Sequence[T]:
    """Every N-th, from the I-th on, for `I/N`."""
    first, _, of = told.partition("/")
    return items[int(first) - 1 :: int(of)]


def main() -> None:
    """Runs all of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="those whose description has these words")
    parser.add_argument("--part", default="1/1", help="the I-th of N parts")
    parser.add_argument("--targets", action="store_true", help="the targets only")
    parser.add_argument("--disturbances", action="store_true", help="the disturbances only")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--batch", type=int, default=25)
    parser.add_argument("--keep", type=Path, help="write the corpus here and leave it")
    told = parser.parse_args()
    wrong = 0
    with tempfile.TemporaryDirectory() as scratch:
        folder = told.keep or Path(scratch)
        folder.mkdir(exist_ok=True)
        written = [t for t in write_corpus(folder) if told.only in t.what]  # disturbances need some of it as well
        corpus = part(written, told.part) if not told.disturbances else []
        chosen = part([n for n in table() if told.only in n], told.part) if not told.targets else []
        started = time.perf_counter()
        for first in range(0, len(corpus), told.batch):
            batch = corpus[first : first + told.batch]
            found = list(faults(folder, batch, told.jobs))
            wrong += len(found)
            print(f"{first + len(batch):4} of {len(corpus)} targets, {time.perf_counter() - started:5.0f} s, {wrong} wrong", flush=True)
            for fault in found:
                print("    " + fault, flush=True)
        write_sound(folder)
        for what, found in disturbed(folder, {n: table()[n] for n in chosen}):
            wrong += len(found)
            print(f"{what}: {'; '.join(found) or 'as it should be'}", flush=True)
        with contextlib.suppress(OSError):
            (folder / "locked").chmod(0o755)
    print(f"{len(corpus)} hostile targets and {len(chosen)} disturbances tried: {wrong} wrong")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
