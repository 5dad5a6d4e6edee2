"""`vaelint trace`: the way of the data from input to loss."""

from __future__ import annotations

from dataclasses import replace

from vaelint.cli import options
from vaelint.cli.checking import run_requests
from vaelint.cli.outcome import Shown, exit_code, reports_for, write_reports
from vaelint.config import file as config
from vaelint.config.settings import Given, resolve
from vaelint.core.errors import UsageError
from vaelint.core.finding import Severity
from vaelint.process import gate
from vaelint.report.formats import TRAILS


def trace(
    context: options.Context,
    targets: options.Targets = None,
    input: options.Inputs = None,
    init: options.Init = None,
    loss: options.Loss = None,
    step: options.Step = None,
    timeout: options.Timeout = None,
    depth: options.Depth = None,
    everything: options.Everything = False,
    output_format: options.TrailFormat = None,
    output_file: options.OutputFile = None,
    color: options.Color = None,
    no_cache: options.NoCache = False,
    isolated: options.Isolated = False,
) -> int:
    """Show the way of the data from input to loss. Exit code 0: it got there; 1: the model's code fails; 2: it could not be analysed."""
    if depth is not None and everything:
        raise UsageError("--depth and --all contradict each other", "--all shows every operation, --depth N folds below N levels")
    reports = reports_for(output_format or (), output_file, TRAILS)
    settings = resolve(targets or [], config.Config() if isolated else config.load(), Given(input, init, loss, step, "none", timeout))
    requests = [replace(r, select=(), ignore=(), trail="only", fits=True) for r in settings.requests]
    if not requests:
        raise UsageError("no target is named and none is configured", "write vaelint trace model.py:VAE --input 32x784")
    with gate.Hired(context.obj) as hired:
        results = run_requests(requests, hired, keep=not (no_cache or isolated), jobs=settings.jobs.value)
    write_reports(results, reports, Shown(color, depth=depth, everything=everything, docs=settings.docs_url.value), TRAILS)
    return exit_code([r.result for r in results], Severity.WARNING, exit_zero=False)
