"""`vaelint run`: a training script is run as Python runs it, and what it trains is checked."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from vaelint.cli import options
from vaelint.cli.checking import flattened, run_requests
from vaelint.cli.outcome import Shown, exit_code, reports_for, told_baseline, write_reports
from vaelint.config import file as config
from vaelint.config import keys
from vaelint.config.settings import Given, Target, resolve
from vaelint.core.errors import UsageError
from vaelint.core.finding import Severity
from vaelint.core.run_request import observed_request
from vaelint.policy.judge import judge
from vaelint.process import gate


def run(
    context: options.Context,
    command: options.Command = None,
    module: options.Module = None,
    steps: options.Steps = 5,
    data: options.Data = options.DataFrom.auto,
    allow_writes: options.AllowWrites = False,
    device: options.Pass = None,
    timeout: options.Timeout = None,
    max_memory: options.MaxMemory = None,
    select: options.Select = None,
    ignore: options.Ignore = None,
    extend_select: options.ExtendSelect = None,
    output_format: options.OutputFormat = None,
    output_file: options.OutputFile = None,
    fail_on: options.FailOn = None,
    exit_zero: options.ExitZero = False,
    baseline: options.Baseline = None,
    show_refuted: options.ShowRefuted = False,
    color: options.Color = None,
    verbose: options.Verbose = False,
) -> int:
    """Run a training script for a few steps, as `python SCRIPT ARGS` would, and check what it trains, with its own data and loss."""
    words = [*(("-m", module) if module else ()), *(command or ())]
    if not words:
        raise UsageError("no script is named", "vaelint run train.py --epochs 1, or vaelint run -m package.train")
    reports = reports_for(output_format or (), output_file)
    known, bar = Path(baseline) if baseline else None, fail_on.value if fail_on else None
    given = Given(device=device, timeout=timeout, select=select, ignore=ignore, extend_select=extend_select, fail_on=bar, baseline=known)
    settings = resolve([], replace(config.load(), targets=(), told=()), given)
    request = observed_request(words, steps=steps, data=data.value, allow_writes=allow_writes)
    chosen, left = settings.rules
    told = config.load()
    request = replace(
        request,
        select=chosen,
        ignore=left,
        device=device or told.device or request.device,
        timeout=timeout or told.timeout or request.timeout,
        max_memory=_memory(max_memory) or told.max_memory or request.max_memory,
    )
    settings = replace(settings, targets=(Target(request, {}),))
    with gate.Hired(context.obj) as hired:
        results, settings = flattened(run_requests([request], hired, keep=False, jobs=1), settings)
    bare, severity = [r.result for r in results], Severity(settings.fail_on.value)
    judgement = judge(bare, settings)
    shown = Shown(color, show_refuted, verbose, docs=settings.docs_url.value, bar=severity)
    write_reports(results, reports, shown)
    return exit_code(bare, severity, exit_zero, told_baseline(judgement, settings.baseline.value, written=False))


def _memory(said: str | None) -> str | None:
    """What `--max-memory` says. Raises UsageError."""
    try:
        return said and keys.memory(said)
    except ValueError as error:
        raise UsageError(f"--max-memory must be {error}, not {said!r}") from None
