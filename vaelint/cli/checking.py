"""One `vaelint check`, its words understood: configuration to requests, requests to results, results to reports.

Knows nothing of the command line's library, so that a run which is answered by kept results does without importing it.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from vaelint.cache.folder import of_results
from vaelint.cache.store import Cache
from vaelint.cli import terminal
from vaelint.cli.folders import in_folders
from vaelint.cli.outcome import Shown, exit_code, reports_for, told_baseline, write_reports
from vaelint.config import file as config
from vaelint.config.settings import Given, Settings, resolve
from vaelint.core.checked import Checked
from vaelint.core.errors import UsageError
from vaelint.core.finding import Severity
from vaelint.core.paths import project_of, real
from vaelint.core.result import Request
from vaelint.policy import baseline
from vaelint.policy.judge import judge
from vaelint.process import gate
from vaelint.process.front import Worker
from vaelint.process.progress import Watched
from vaelint.report.formats import FORMATS
from vaelint.source.target import module_classes


@dataclass(frozen=True)
class Words:
    """What a command line says, in plain JSON values; each field is an option of options.py."""

    targets: list[str] | None = None
    input: list[str] | None = None
    init: list[str] | None = None
    loss: str | None = None
    step: str | None = None
    device: str | None = None
    timeout: float | None = None
    perturb: bool | None = None
    laws: str | None = None
    select: list[str] | None = None
    ignore: list[str] | None = None
    extend_select: list[str] | None = None
    output_format: list[str] | None = None
    output_file: str | None = None
    fail_on: str | None = None
    exit_zero: bool = False
    baseline: str | None = None
    update_baseline: bool = False
    prune_baseline: bool = False
    add_ignore: str | None = None
    show_refuted: bool = False
    color: bool | None = None
    verbose: bool = False
    jobs: int | None = None
    no_cache: bool = False
    shard: str | None = None
    watch: bool = False
    fix: bool = False
    diff: bool = False
    timings: bool = False
    isolated: bool = False
    allow_no_loss: bool | None = None
    max_memory: str | None = None


def check_all(words: Words, early: Worker | None) -> int:
    """Runs it and returns the exit code. `early` is a worker that was started already.

    Raises:
        UsageError: options or a configuration that make no sense.
    """
    output_file = Path(words.output_file) if words.output_file is not None else None
    given = _given(words)
    reports = reports_for(words.output_format or (), output_file)
    if words.add_ignore is not None and (set(words.add_ignore) & set("#\r\n")):
        raise UsageError("--add-ignore: a reason is one line without #")
    if words.shard is not None:
        gate.shard(words.shard)
    drawn = any(FORMATS[r.form].trail for r in reports)
    codes = [0]

    def once() -> list[Checked]:
        """One round: what is in force now, and the results of that."""
        settings = _in_force(words, given, drawn)
        known = settings.baseline.value
        if words.fix or words.diff:
            from vaelint.cli.mending import mend_all

            patch = words.diff and not (words.output_format or output_file)
            results, code = mend_all(settings, hired, write=not words.diff, patch=patch)
            if patch:
                codes.append(code)
                return results
        else:
            keep = not (words.no_cache or words.isolated)
            results, settings = flattened(run_requests(settings.requests, hired, keep=keep, jobs=settings.jobs.value), settings)
        bare = [r.result for r in results]
        whole = not words.targets and words.shard is None
        judgement = judge(bare, settings, update=words.update_baseline, prune=words.prune_baseline, whole=whole)
        severity = Severity(settings.fail_on.value)
        if words.add_ignore is not None:
            from vaelint.cli.ignores import add_ignores

            add_ignores(bare, words.add_ignore, severity, settings.root)
        color, docs = words.color, settings.docs_url.value
        shown = Shown(color, words.show_refuted, words.verbose, docs=docs, bar=severity, timings=words.timings)
        write_reports(results, reports, shown)
        fine = told_baseline(judgement, known, written=words.update_baseline or words.prune_baseline)
        codes.append(exit_code(bare, severity, words.exit_zero, fine))
        return results

    with gate.Hired(early) as hired:
        if words.watch:
            from vaelint.cli.rounds import watch as rounds

            rounds(once)
        once()
    return codes[-1]


def _in_force(words: Words, given: Given, drawn: bool) -> Settings:
    """What is to be checked, and how. Raises UsageError."""
    told = config.Config() if words.isolated else config.load()
    settings = replace(
        resolve(*in_folders(words.targets or [], told, words.jobs, called=bool(words.input or words.step)), given),
        comments=not words.isolated,
    )
    if (words.update_baseline or words.prune_baseline) and settings.baseline.value is None:
        raise UsageError("there is no baseline to write", 'name it: --baseline FILE, or baseline = "FILE" in the configuration')
    if words.update_baseline or words.prune_baseline:
        _stays_inside(settings)
    if (known := settings.baseline.value) is not None:  # said before minutes of work, not after them
        baseline.is_ready(known, new=words.update_baseline)
    if not settings.targets:
        _nothing(words)
    if words.shard is not None:
        settings = replace(settings, targets=gate.part(settings.targets, words.shard))
    if drawn or words.verbose:
        asked = [replace(t.request, trail="with" if drawn else "", fits=True) for t in settings.targets]
        settings = replace(settings, targets=tuple(replace(t, request=r) for t, r in zip(settings.targets, asked, strict=True)))
    return settings


def _stays_inside(settings: Settings) -> None:
    """Holds that a file which a configuration names for writing lies in its repository: a checkout has no say over files elsewhere.

    Raises:
        UsageError: it does not, links followed.
    """
    file, told = settings.baseline.value, settings.config.file
    if told is not None and settings.baseline.origin == settings.config.where and not real(file).is_relative_to(project_of(real(told))):
        raise UsageError(f"{settings.config.where}: baseline {file} lies outside of the repository", f"name it yourself: --baseline {file}")


def _given(words: Words) -> Given:
    """What of it goes before the configuration."""
    known = Path(words.baseline) if words.baseline is not None else None
    told = (words.input, words.init, words.loss, words.step, words.device, words.timeout, words.select, words.ignore, words.extend_select)
    return Given(*told, words.fail_on, known, words.jobs, words.perturb, words.laws, words.allow_no_loss, words.max_memory)


def run_requests(requests: Sequence[Request], hired: gate.Hired, *, keep: bool, jobs: int) -> list[Checked]:
    """The results of the requests, in their order. `keep`: whether earlier results are used, and these kept."""
    if not requests:
        return []
    cache = Cache(of_results(), terminal.say) if keep else None
    with Watched(len(requests)) as eyes:
        results = gate.run(requests, hired, cache=cache, jobs=jobs, on_stage=eyes.on_stage, on_done=eyes.on_done)
    if cache is not None:
        cache.close(sys.argv[1:], len(results))
    return results


def flattened(results: Sequence[Checked], settings: Settings) -> tuple[list[Checked], Settings]:
    """Each result by itself, where a run trains several models, and the settings with a target for each."""
    found, targets = [], []
    for checked, target in zip(results, settings.targets, strict=True):
        for result in (checked.result, *checked.also):
            found.append(replace(checked, result=result, also=[]) if checked.also else checked)
            targets.append(target)
    return found, replace(settings, targets=tuple(targets))


def _nothing(words: Words) -> None:
    """Says that nothing is checked. Files that hold no configured target are no error: pre-commit passes whatever changed.

    Raises:
        UsageError: no file is named, or what only the check of a model has a use for is.
    """
    table = "add it as [[tool.vaelint.targets]] to pyproject.toml"
    if not words.targets:
        raise UsageError("no target is named and none is configured", f"write vaelint check model.py:VAE --input 32x784, or {table}")
    found = [f"{t}:{name}" for t in words.targets if t.endswith(".py") for name in module_classes(t)[-1:]]
    said = "nothing was checked: the files given touch no configured target"
    help = f"name a model, such as {(found or ['model.py:VAE'])[0]}, or {table}"
    if words.input or words.init or words.loss or words.step:
        raise UsageError(said, help)
    terminal.say(said, help)
