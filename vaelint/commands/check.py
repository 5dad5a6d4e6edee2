"""`vaelint check`: options and configuration to requests, requests to results, results to reports."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from vaelint import catalogue, config, gate, options, suppress
from vaelint.cache import Cache, folder_for
from vaelint.commands import terminal
from vaelint.commands.outcome import Report, exit_code, write_reports
from vaelint.commands.progress import Watched
from vaelint.errors import UsageError
from vaelint.finding import Severity
from vaelint.flight import Checked
from vaelint.inputs import InputSet
from vaelint.result import Request
from vaelint.target import module_classes, parse_init


def check(
    context: options.Context,
    targets: options.Targets = None,
    input: options.Inputs = None,
    init: options.Init = None,
    loss: options.Loss = None,
    step: options.Step = None,
    device: options.Device = None,
    timeout: options.Timeout = None,
    select: options.Select = None,
    ignore: options.Ignore = None,
    extend_select: options.ExtendSelect = None,
    output_format: options.OutputFormat = options.Format.full,
    output_file: options.OutputFile = None,
    fail_on: options.FailOn = None,
    exit_zero: options.ExitZero = False,
    show_refuted: options.ShowRefuted = False,
    color: options.Color = None,
    verbose: options.Verbose = False,
    jobs: options.Jobs = None,
    no_cache: options.NoCache = False,
    shard: options.Shard = None,
    watch: options.Watch = False,
) -> int:
    """Check models. Exit code 0: clean; 1: findings; 2: wrong usage, or a target that could not be analysed."""
    given = {"inputs": input, "init": init, "loss": loss, "step": step, "device": device, "timeout": timeout}
    if shard is not None:
        gate.shard(shard)
    codes = [0]

    def once() -> list[Checked]:
        """One round: what is in force now, and the results of that."""
        told = config.load()
        chosen = {k: v for k, v in given.items() if v is not None} | _selection(told, select, ignore, extend_select)
        requests = [_with_options(r, told, chosen) for r in config.requests_for(targets or [], told)]
        if not requests:
            _nothing(targets)
        if shard is not None:
            requests = gate.part(requests, shard)
        results = _run(requests, hired, None if no_cache else told.root, jobs or gate.default_jobs())
        bare = [r.result for r in results]
        suppress.apply(bare)
        write_reports(results, [Report(output_format.value, output_file)], color=color, show_refuted=show_refuted, verbose=verbose)
        bar = Severity(fail_on.value if fail_on else told.fail_on or "warning")
        codes.append(exit_code(bare, bar, exit_zero))
        return results

    with gate.Hired(context.obj) as hired:
        if watch:
            from vaelint.commands.watch import watch as rounds

            rounds(once)
        once()
    return codes[-1]


def _run(requests: Sequence[Request], hired: gate.Hired, root: Path | None, jobs: int) -> list[Checked]:
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


def _selection(told: config.Config, select: list[str] | None, ignore: list[str] | None, extend: list[str] | None) -> dict[str, Any]:
    """`select` and `ignore` for the requests: the command line's, else the file's."""
    chosen = catalogue.selectors(select or told.select, "--select" if select else "select")
    more = catalogue.selectors((*told.extend_select, *(extend or ())), "--extend-select" if extend else "extend-select")
    if more and not chosen:
        chosen = catalogue.defaults()
    return {"select": (*chosen, *more), "ignore": catalogue.selectors(ignore or told.ignore, "--ignore" if ignore else "ignore")}


def _with_options(request: Request, told: config.Config, given: dict[str, Any]) -> Request:
    """The request with what the command line says, checked before a process is bothered."""
    defaults = {k: v for k, v in {"device": told.device, "timeout": told.timeout}.items() if v and request not in told.targets}
    values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in (defaults | given).items()}
    done = replace(request, **values)
    if done.timeout <= 0:
        raise UsageError("--timeout must be above 0 seconds")
    try:
        config.check_device(done.device)
    except ValueError as e:
        raise UsageError(f"--device must be {e}, not {done.device!r}") from None
    InputSet.from_texts(done.inputs)
    parse_init(done.init)
    return done
