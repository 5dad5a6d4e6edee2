"""What the tests of the formats share: the schemas, pages of rules, and a report of several targets."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import xmlschema
from results import crossed, result

from vaelint.core.result import TargetResult
from vaelint.report import sarif
from vaelint.report.parts.view import RulePage, View

DATA = Path(__file__).parents[1] / "data"
SCHEMAS = DATA / "schemas"


def schema(name: str) -> Any:
    return json.loads((SCHEMAS / name).read_text(encoding="utf-8-sig"))


SARIF = jsonschema.Draft202012Validator(schema("sarif-2.1.0.schema.json"))
OWN = json.loads((Path(__file__).parents[2] / "vaelint" / "report" / "schema.json").read_text())
RDJSON = jsonschema.Draft4Validator(schema("rdjson.schema.json"))
GITLAB = jsonschema.Draft7Validator({"type": "array", "items": schema("codeclimate.json")})
JUNIT = xmlschema.XMLSchema(str(SCHEMAS / "junit-10.xsd"))


PAGES = (RulePage("VAE201", "shared-noise", "error", "One noise vector.", "One noise vector.\n\n## What it does\n..."),)


def pages() -> Sequence[RulePage]:
    return PAGES


def failed() -> TargetResult:
    stop = replace(crossed(), code="VAE006", name="analysis-incomplete", message="not done within 1 s", labels=(), shapes=(), when="")
    return TargetResult("other.py:VAE", "failed", findings=[stop])


def shared() -> list[TargetResult]:
    """Two targets that run the same code, one that failed, and one that is clean."""
    again = replace(result(), target="vae_three_bugs.py:VAE(latent_dim=3)")
    return [result(), again, failed(), TargetResult("clean.py:VAE")]


def sarif_run(results: Sequence[TargetResult], view: View | None = None) -> Any:
    document = json.loads(sarif.render(results, view or View(pages=pages)))
    SARIF.validate(document)
    (run,) = document["runs"]
    return run
