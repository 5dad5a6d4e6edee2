"""`vaelint trace`: the way of the data from input to loss."""

from __future__ import annotations

from dataclasses import replace

from vaelint.cli.checking import run_requests
from vaelint.cli.outcome import Shown, exit_code, reports_for, write_reports
from vaelint.config import file as config
from vaelint.config.options import Options
from vaelint.config.settings import resolve
from vaelint.core.errors import UsageError
from vaelint.core.finding import Severity
from vaelint.process import gate
from vaelint.process.front import Worker
from vaelint.report.formats import TRAILS


def trace(said: Options, early: Worker | None) -> int:
    """Show the way of the data from input to loss. Exit code 0: it got there; 1: the model's code fails; 2: it could not be analysed."""
    if said.depth is not None and said.everything:
        raise UsageError("--depth and --all contradict each other", "--all shows every operation, --depth N folds below N levels")
    reports = reports_for(said.output_format or (), said.output_file, TRAILS)
    told = config.Config() if said.isolated else config.load()
    settings = resolve(said.names or [], told, replace(said, device="none"))
    asked = tuple(replace(t, request=replace(t.request, select=(), ignore=(), trail="only", fits=True)) for t in settings.targets)
    if not asked:
        raise UsageError("no target is named and none is configured", "write vaelint trace model.py:VAE --input 32x784")
    with gate.Hired(early) as hired:
        results = run_requests(replace(settings, targets=asked), hired, keep=not (said.no_cache or said.isolated))
    write_reports(results, reports, Shown(said.color, depth=said.depth, everything=said.everything, docs=settings.docs_url.value), TRAILS)
    return exit_code([r.result for r in results], Severity.WARNING, exit_zero=False)
