"""What the survey keeps of a repository: what could be analysed or why not, the effective beta, and the place of each finding."""

from __future__ import annotations

import re
from typing import Any

OBSERVED = re.compile(r"the loss is what .+?:\d+ (?:makes and \S+ )?calls backward\(\) on")
SETUP = "VAE00"
JUDGED = ("verdict", "why", "again", "second", "second_why", "fixed")  # what readers say, and no run

REASONS = (
    ("time", r"interrupted: \d+ results"),
    ("memory", r"took more than .+ of memory"),
    ("package", r"the package \S+ is not installed|needs the package"),
    ("files", r"which is not there|FileNotFoundError|\.so\b.*cannot open"),
    ("arguments", r"cannot do without|cannot be built without"),
    ("raises", r"run it with python first|could not be read|raises (?:Import|Attribute|Type|Name|Key|Value|Runtime|Assertion|Index)Error"),
    ("shape", r"with --input .+ it raises"),
    ("none", r"no VAE is found|no VAE: it runs"),
)
"""Why nothing was analysed, and how the tool says it; the first that fits is the reason of a repository."""


def kept(survey: dict[str, Any], rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The survey with what was found of each repository; the verdicts on findings that are still there stay.

    Raises:
        KeyError: a row is of a repository that the survey does not have.
    """
    found = {row["repo"]: row for row in rows}
    if unknown := found.keys() - {one["repo"] for one in survey["repositories"]}:
        raise KeyError(f"not in the survey: {', '.join(sorted(unknown))}")
    repositories = [one | facts(found[one["repo"]], one) if one["repo"] in found else one for one in survey["repositories"]]
    return survey | {"repositories": repositories}


def facts(row: dict[str, Any], known: dict[str, Any]) -> dict[str, Any]:
    """The facts of one repository."""
    judged = {place(f): f for f in known.get("findings", ())}
    findings = [f | {key: judged[place(f)][key] for key in JUDGED if key in judged.get(place(f), ())} for f in said(row)]
    analysed = [target(t) for t in row["targets"] if t["status"] != "failed"]
    outcome = "loss" if any(t["objective"] for t in analysed) else "model" if analysed else "nothing"
    reason = {} if outcome == "loss" else {"reason": reason_of(row)}
    return {"seconds": row["seconds"], "outcome": outcome, **reason, "targets": analysed, "findings": findings}


def target(result: dict[str, Any]) -> dict[str, Any]:
    """What is kept of one model: whether its own training was observed, what it optimises, and its effective beta."""
    loss = result.get("loss") or {}
    value = (loss.get("beta") or {}).get("value")
    observed = any(OBSERVED.search(note) for note in result.get("notes", ()))
    objective = loss.get("objective", "") if loss.get("terms") else ""
    return {
        "target": result["target"],
        "observed": observed,
        "objective": objective,
        "beta": value if isinstance(value, int | float) else None,
    }


def said(row: dict[str, Any]) -> list[dict[str, Any]]:
    """Errors and warnings about models, each code once in a file, with its first line and the others; none that the real run refuted."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    lines: dict[tuple[str, str], set[int]] = {}
    findings = [f for t in row["targets"] for f in t["findings"]]
    for finding in sorted(findings, key=lambda f: (f["code"], f["span"]["file"], f["span"]["line"])):
        if finding["severity"] == "info" or finding["certainty"] == "refuted" or finding["code"].startswith(SETUP):
            continue
        one = {key: finding[key] for key in ("code", "severity", "certainty", "message")}
        one |= {"file": finding["span"]["file"], "line": finding["span"]["line"]}
        one |= {"measured": (finding.get("evidence") or {}).get("measured", "")}
        found.setdefault(place(one), one)
        lines.setdefault(place(one), set()).add(one["line"])
    also = {key: sorted(where - {found[key]["line"]}) for key, where in lines.items()}
    return [one | ({"also": also[key]} if also[key] else {}) for key, one in found.items()]


def place(finding: dict[str, Any]) -> tuple[str, str]:
    """The code and the file."""
    return finding["code"], finding["file"]


def reason_of(row: dict[str, Any]) -> str:
    """Why no loss was known, or nothing analysed at all."""
    text = "\n".join([row["said"], *(f["message"] for t in row["targets"] for f in t["findings"] if f["code"].startswith(SETUP))])
    return next((name for name, how in REASONS if re.search(how, text)), "time" if row["timed_out"] else "other")
