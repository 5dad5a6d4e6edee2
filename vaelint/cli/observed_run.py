"""`vaelint run`: a training script is run as Python runs it, and what it trains is checked."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from vaelint.cli.checking import run_requests
from vaelint.cli.outcome import Shown, exit_code, reports_for, told_baseline, write_reports
from vaelint.config import file as config
from vaelint.config.options import Options
from vaelint.config.settings import resolve
from vaelint.core.errors import UsageError
from vaelint.core.finding import Severity
from vaelint.core.launchers import Started
from vaelint.core.run_request import observed_request
from vaelint.discover.started import started_by
from vaelint.policy.judge import flattened, judge
from vaelint.process import gate
from vaelint.process.front import Worker
from vaelint.report.formats import FORMATS


def run(said: Options, early: Worker | None) -> int:
    """Run a training script for a few steps, as `python SCRIPT ARGS` would, and check what it trains, with its own data and loss."""
    if not said.module and not said.run:
        raise UsageError("no script is named", "vaelint run train.py --epochs 1, or vaelint run -- make train")
    words = said.run or ()
    found = [Started(("-m", said.module, *words))] if said.module else started_by(words, allow_writes=said.allow_writes)
    reports = reports_for(said.output_format or (), said.output_file)
    how: dict[str, Any] = {"steps": said.steps, "rows": said.rows, "data": said.data, "allow_writes": said.allow_writes}
    if said.plot and not any(FORMATS[r.form].trail or r.form in ("json", "json-lines") for r in reports):
        raise UsageError("--plot draws in the page, and none is asked for", "add --output-format html:run.html")
    observed = (observed_request(s.words, **how, environment=s.environment, folder=s.folder) for s in found)
    requests = tuple(replace(r, plot=said.plot) for r in observed)
    told = replace(config.load(), targets=requests, told=(frozenset[str](),) * len(requests))
    settings = resolve([], told, said)
    if any(FORMATS[r.form].trail for r in reports):
        drawn = tuple(replace(t, request=replace(t.request, trail="with")) for t in settings.targets)
        settings = replace(settings, targets=drawn)
    with gate.Hired(early) as hired:
        results, settings = flattened(run_requests(settings, hired, keep=False), settings)
    bare, severity = [r.result for r in results], Severity(settings.fail_on.value)
    judgement = judge(bare, settings)
    shown = Shown(said.color, said.show_refuted, said.verbose, docs=settings.docs_url.value, bar=severity)
    write_reports(results, reports, shown)
    return exit_code(bare, severity, said.exit_zero, told_baseline(judgement, settings.baseline.value, written=False))
