"""`vaelint trace`: the way of the data from input to loss."""

from __future__ import annotations

from dataclasses import replace

from vaelint.cli.checking import in_force, run_requests
from vaelint.cli.gathered import Gathered
from vaelint.cli.outcome import Shown, exit_code, reports_for, write_reports
from vaelint.config.options import Options
from vaelint.core.checked import Checked
from vaelint.core.errors import UsageError
from vaelint.core.finding import Severity
from vaelint.core.result import Request
from vaelint.policy.judge import flattened
from vaelint.process import gate
from vaelint.process.front import Worker
from vaelint.report.formats import TRAILS


def trace(said: Options, early: Worker | None) -> int:
    """Show the way of the data from input to loss. Exit code 0: it got there; 1: the model's code fails; 2: it could not be analysed."""
    if said.depth is not None and said.everything:
        raise UsageError("--depth and --all contradict each other", "--all shows every operation, --depth N folds below N levels")
    reports = reports_for(said.output_format or (), said.output_file, TRAILS)
    observed: dict[Request, Checked] = {}
    with gate.Hired(early) as hired:
        gathered = Gathered(Shown(said.color), live=False)
        settings = in_force(replace(said, device="none"), _asked, hired, observed, gathered, "trace")
        keep = not (said.no_cache or said.isolated)
        results, _ = flattened(run_requests(settings, hired, keep=keep, known=observed), settings)
    write_reports(results, reports, Shown(said.color, depth=said.depth, everything=said.everything, docs=settings.docs_url.value), TRAILS)
    return exit_code([r.result for r in results], Severity.WARNING, exit_zero=False)


def _asked(request: Request) -> Request:
    """The request for the way from input to loss, without rules."""
    return replace(request, select=(), ignore=(), trail="only", fits=True)
