"""What each law is worth: the bugs that it alone finds, and the correct models that it was tried on.

    python benchmarks/laws.py [--jobs 2] [--out laws.json] [--only PREFIX]

Checks every fixture, bad, good and correct systems, on the CPU with all laws, each in a process of its own, and reads the reports. A law
finds a bug alone where all that is said of severity warning or error at the expected line comes from this law. A correct model counts as
tried where the law could be measured on it: it held, or the report says that it was broken, which is a false alarm. The fixtures are known
to those who wrote the laws: the figures say where a law is needed, not how often it is right.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "support"))

from expectations import Fixture, complaints, fixtures

_LAW = "law: "
_NOT_HERE = ("vae006", "vae008", "vae009", "vae010")
"""Targets that the front stops, comments, and models of packages that may not be installed."""


def checked(fixture: Fixture) -> dict[str, Any]:
    """What the report of a fixture says: outcome of each law, and the laws whose findings stand alone at an expected line."""
    from vaelint.pipeline.check import check_target

    warnings.simplefilter("ignore")
    result = check_target(fixture.request("cpu"), lambda message: None)
    said = [f for f in result.to_json()["findings"] if f["severity"] in ("warning", "error") and f["certainty"] != "refuted"]
    alone = []
    for expected in fixture.expectations:
        there = [(f.get("evidence") or {}).get("claim", "") for f in said if f["span"]["line"] in expected.lines]
        if there and len(set(there)) == 1 and there[0].startswith(_LAW):
            alone.append(there[0].removeprefix(_LAW))
    outcomes = {one["law"]: one["outcome"] for one in result.laws}
    return {"side": fixture.side, "id": fixture.id, "alone": alone, "laws": outcomes, "wrong": complaints(fixture, result.findings)}


def table(rows: list[dict[str, Any]]) -> dict[str, dict[str, int]]:
    """Counts by the name of the law."""
    from vaelint.laws import every  # noqa: F401 - registers the laws
    from vaelint.laws.law import LAWS

    name_of = {law.says: law.name for law in LAWS}
    alone = Counter(name_of[says] for row in rows for says in row["alone"] if says in name_of)
    outcomes = Counter(pair for row in rows if row["side"] in ("good", "systems") for pair in row["laws"].items())
    return {
        name: {
            "alone": alone[name],
            "tried": outcomes[name, "holds"] + outcomes[name, "broken"],
            "left": outcomes[name, "not measured"],
            "broken": outcomes[name, "broken"],
        }
        for name in sorted(law.name for law in LAWS)
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("laws.json"))
    parser.add_argument("--only", default="", help="fixtures whose names begin so")
    told = parser.parse_args()
    import vaelint.pipeline.check  # noqa: F401 - the forks inherit it, and torch with it
    from vaelint.source.later_modules import mark

    mark()
    cases = [f for side in ("bad", "good", "systems") for f in fixtures(side, told.only) if not f.stem.startswith(_NOT_HERE)]
    with multiprocessing.get_context("fork").Pool(told.jobs, maxtasksperchild=1) as pool:
        rows = []
        for number, row in enumerate(pool.imap_unordered(checked, cases), 1):
            rows.append(row)
            if number % 100 == 0:
                print(f"{number} of {len(cases)}", file=sys.stderr, flush=True)
    counts = {"bad": sum(r["side"] == "bad" for r in rows), "correct": sum(r["side"] != "bad" for r in rows)}
    told.out.write_text(json.dumps({"fixtures": counts, "laws": table(rows)}, indent=1) + "\n", encoding="utf-8")
    for row in rows:
        for text in row["wrong"]:
            print(f"{row['id']}: {text}")
    print(f"{told.out}: {len(rows)} fixtures")


if __name__ == "__main__":
    main()
