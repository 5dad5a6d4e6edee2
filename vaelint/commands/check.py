"""`vaelint check`: options and configuration to requests, requests to results, results to reports."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from vaelint import options
from vaelint.cache.store import Cache, folder_for
from vaelint.commands import terminal
from vaelint.commands.folders import in_folders
from vaelint.commands.outcome import exit_code, reports_for, told_baseline, write_reports
from vaelint.commands.progress import Watched
from vaelint.config import file as config
from vaelint.config.settings import Given, resolve
from vaelint.errors import UsageError
from vaelint.finding import Severity
from vaelint.judging.judge import judge
from vaelint.loading.target import module_classes
from vaelint.process import gate
from vaelint.process.flight import Checked
from vaelint.report.formats import FORMATS
from vaelint.result import Request


def check(
    context: options.Context,
    targets: options.Targets = None,
    input: options.Inputs = None,
    init: options.Init = None,
    loss: options.Loss = None,
    step: options.Step = None,
    device: options.Device = None,
    timeout: options.Timeout = None,
    perturb: options.Perturb = None,
    select: options.Select = None,
    ignore: options.Ignore = None,
    extend_select: options.ExtendSelect = None,
    output_format: options.OutputFormat = None,
    output_file: options.OutputFile = None,
    fail_on: options.FailOn = None,
    exit_zero: options.ExitZero = False,
    baseline: options.Baseline = None,
    update_baseline: options.UpdateBaseline = False,
    prune_baseline: options.PruneBaseline = False,
    add_ignore: options.AddIgnore = None,
    show_refuted: options.ShowRefuted = False,
    color: options.Color = None,
    verbose: options.Verbose = False,
    jobs: options.Jobs = None,
    no_cache: options.NoCache = False,
    shard: options.Shard = None,
    watch: options.Watch = False,
    fix: options.Fix = False,
    diff: options.Diff = False,
) -> int:
    """Check models. Exit code 0: clean; 1: findings; 2: wrong usage, or a target that could not be analysed."""
    bar = fail_on.value if fail_on else None
    given = Given(input, init, loss, step, device, timeout, select, ignore, extend_select, bar, baseline, jobs, perturb)
    reports = reports_for(output_format or (), output_file)
    if add_ignore is not None and (set(add_ignore) & set("#\r\n")):
        raise UsageError("--add-ignore: a reason is one line without #")
    if shard is not None:
        gate.shard(shard)
    drawn = any(FORMATS[r.form].trail for r in reports)
    codes = [0]

    def once() -> list[Checked]:
        """One round: what is in force now, and the results of that."""
        settings = resolve(*in_folders(targets or [], config.load(), jobs), given)
        known = settings.baseline.value
        if (update_baseline or prune_baseline) and known is None:
            raise UsageError("there is no baseline to write", 'name it: --baseline FILE, or baseline = "FILE" in the configuration')
        if not settings.targets:
            _nothing(targets)
        if shard is not None:
            settings = replace(settings, targets=gate.part(settings.targets, shard))
        if drawn or verbose:
            asked = [replace(t.request, trail="with" if drawn else "", fits=True) for t in settings.targets]
            settings = replace(settings, targets=tuple(replace(t, request=r) for t, r in zip(settings.targets, asked, strict=True)))
        if fix or diff:
            from vaelint.commands.mending import mend_all

            patch = diff and not (output_format or output_file)
            results, code = mend_all(settings, hired, write=not diff, patch=patch)
            if patch:
                codes.append(code)
                return results
        else:
            results = run_requests(settings.requests, hired, None if no_cache else settings.root, settings.jobs.value)
        bare = [r.result for r in results]
        judgement = judge(bare, settings, update=update_baseline, prune=prune_baseline, whole=not targets and shard is None)
        severity = Severity(settings.fail_on.value)
        if add_ignore is not None:
            from vaelint.commands.ignores import add_ignores

            add_ignores(bare, add_ignore, severity, settings.root)
        write_reports(results, reports, color=color, show_refuted=show_refuted, verbose=verbose, docs=settings.docs_url.value, bar=severity)
        fine = told_baseline(judgement, known, written=update_baseline or prune_baseline)
        codes.append(exit_code(bare, severity, exit_zero, fine))
        return results

    with gate.Hired(context.obj) as hired:
        if watch:
            from vaelint.commands.watch import watch as rounds

            rounds(once)
        once()
    return codes[-1]


def run_requests(requests: Sequence[Request], hired: gate.Hired, root: Path | None, jobs: int) -> list[Checked]:
    """The results of the requests, in their order. `root` is the project whose cache is used; None for none."""
    if not requests:
        return []
    cache = Cache(folder_for(root), terminal.say) if root is not None else None
    with Watched(len(requests)) as eyes:
        results = gate.run(requests, hired, cache=cache, jobs=jobs, on_stage=eyes.on_stage, on_done=eyes.on_done)
    if cache is not None:
        cache.close(sys.argv[1:], len(results))
    return results


def _nothing(targets: list[str] | None) -> None:
    """Says that nothing is checked. Files that hold no configured target are no error: pre-commit passes whatever changed."""
    table = "add it as [[tool.vaelint.targets]] to pyproject.toml"
    if not targets:
        raise UsageError("no target is named and none is configured", f"write vaelint check model.py:VAE --input 32x784, or {table}")
    found = [f"{t}:{name}" for t in targets if t.endswith(".py") for name in module_classes(t)[-1:]]
    terminal.say(
        "nothing was checked: the files given touch no configured target",
        f"name a model, such as {(found or ['model.py:VAE'])[0]}, or {table}",
    )
