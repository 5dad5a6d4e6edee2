"""`vaelint merge-sarif`: the reports of the shards of a CI matrix as one, for platforms that take one a commit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from vaelint.config.options import Options
from vaelint.core.errors import UsageError
from vaelint.process.front import Worker
from vaelint.report.parts.rows import dumps


def merge_sarif(said: Options, early: Worker | None = None) -> None:
    """Make one SARIF file of those of several shards. What several found is there once."""
    from vaelint.cli.outcome import write_text

    runs = [_run(file) for file in map(Path, said.files)]
    first, *others = runs
    for other in others:
        _take_in(first, other)
    whole = {"$schema": "https://json.schemastore.org/sarif-2.1.0.json", "version": "2.1.0", "runs": [first]}
    write_text(dumps(whole), Path(said.output_file) if said.output_file else None)


def _run(file: Path) -> dict[str, Any]:
    """The one run of a report of ours. Raises UsageError."""
    try:
        (run,) = json.loads(file.read_text(encoding="utf-8"))["runs"]
        ours = run["tool"]["driver"]["name"] == "vaelint"
        shape = isinstance(run["results"], list) and isinstance(run["tool"]["driver"]["rules"], list)
    except OSError as error:
        raise UsageError(f"cannot read {file}: {error.strerror or error}") from None
    except (KeyError, TypeError, ValueError):
        ours = shape = False
    if not (ours and shape):
        raise UsageError(f"{file} is not a SARIF report written by vaelint", "write one with vaelint check --output-format sarif:FILE")
    return dict(run)


def _take_in(run: dict[str, Any], other: dict[str, Any]) -> None:
    """Adds the rules and results of another run; a result of both is one, of the targets of both."""
    rules: list[dict[str, Any]] = run["tool"]["driver"]["rules"]
    index = {rule["id"]: i for i, rule in enumerate(rules)}
    for rule in other["tool"]["driver"]["rules"]:
        if rule["id"] not in index:
            index[rule["id"]] = len(rules)
            rules.append(rule)
    known = {_identity(result): result for result in run["results"]}
    for result in other["results"]:
        twin = known.get(_identity(result))
        if twin is None:
            run["results"].append(result | {"ruleIndex": index[result["ruleId"]]})
            continue
        targets = [*twin.get("properties", {}).get("targets", ()), *result.get("properties", {}).get("targets", ())]
        twin.setdefault("properties", {})["targets"] = list(dict.fromkeys(targets))
    for mine, theirs in zip(run.get("invocations", ()), other.get("invocations", ()), strict=False):
        mine["executionSuccessful"] = mine["executionSuccessful"] and theirs["executionSuccessful"]
        mine.setdefault("toolExecutionNotifications", []).extend(theirs.get("toolExecutionNotifications", ()))


def _identity(result: dict[str, Any]) -> str:
    """What makes two results one: rule, kind, place and words."""
    return json.dumps([result.get(k) for k in ("ruleId", "kind", "locations", "message")], sort_keys=True)
