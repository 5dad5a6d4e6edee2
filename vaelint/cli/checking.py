"""`vaelint check`: configuration to requests, requests to results, results to reports.

Knows nothing of the command line's library, so that a run which is answered by kept results does without importing it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING

from vaelint.cache.folder import of_results
from vaelint.cache.store import Cache
from vaelint.cli import terminal
from vaelint.cli.gathered import Gathered
from vaelint.cli.outcome import Report, Shown, exit_code, reports_for, told_baseline
from vaelint.config import file as config
from vaelint.config.options import Options
from vaelint.config.settings import Settings, resolve
from vaelint.core.checked import Checked
from vaelint.core.errors import UsageError
from vaelint.core.finding import Severity
from vaelint.core.paths import project_of, real
from vaelint.core.result import Request
from vaelint.discover.folders import Crew, in_folders, said_in
from vaelint.policy import baseline
from vaelint.policy.judge import flattened, judge
from vaelint.process import gate
from vaelint.process.front import Worker
from vaelint.process.progress import Watched
from vaelint.report.formats import FORMATS
from vaelint.source.target import module_classes

if TYPE_CHECKING:
    from vaelint.discover.observing import News


Asked = Callable[[Request], Request]
Known = dict[Request, Checked]


def check(said: Options, early: Worker | None) -> int:
    """Check models. Exit code 0: clean; 1: findings; 2: wrong usage, or a target not analysed, or not completely; 3: a fault of vaelint."""
    reports = reports_for(said.output_format or (), said.output_file)
    if said.add_ignore is not None and (set(said.add_ignore) & set("#\r\n")):
        raise UsageError("--add-ignore: a reason is one line without #")
    if said.shard is not None:
        gate.shard(said.shard)
    drawn = any(FORMATS[r.form].trail for r in reports)
    live = [(r.form, r.file) for r in reports] == [("full", None)] and not (said.fix or said.diff or said.add_ignore)
    codes = [0]

    def once() -> list[Checked]:
        """One round: what is in force now, and the results of that."""
        gathered = Gathered(Shown(said.color, said.show_refuted, said.verbose, timings=said.timings), live=live)
        try:
            return round_of(gathered)
        except KeyboardInterrupt:
            gathered.interrupted(reports)
            raise

    def round_of(gathered: Gathered) -> list[Checked]:
        observed: dict[Request, Checked] = {}
        settings = in_force(said, partial(_shown, drawn=drawn, fits=drawn or said.verbose), hired, observed, gathered)
        gathered.live = live and settings.baseline.value is None
        if said.fix or said.diff:
            from vaelint.cli.mending import mend_all

            patch = said.diff and not (said.output_format or said.output_file)
            results, code = mend_all(settings, hired, write=not said.diff, patch=patch)
            if patch:
                codes.append(code)
                return results
        else:
            keep = not (said.no_cache or said.isolated)
            found = run_requests(settings, hired, keep=keep, known=observed, gathered=gathered)
            results, settings = flattened(found, settings)
        codes.append(_reported(results, settings, said, reports, gathered))
        if gathered.cache is not None and _may_be_said_again(said, settings, reports):
            _keep(gathered.cache, len(settings.requests), codes[-1])
        return results

    with gate.Hired(early) as hired:
        if said.watch:
            from vaelint.cli.rounds import watch as rounds

            rounds(once)
        once()
    return codes[-1]


def _shown(request: Request, drawn: bool, fits: bool) -> Request:
    """The request for what a report shows beside findings: the picture, and which sizes the model takes."""
    return replace(request, trail="with" if drawn else "", fits=True) if fits else request


def _may_be_said_again(said: Options, settings: Settings, reports: Sequence[Report]) -> bool:
    """Whether a next run of these words does nothing but print: nothing is written, and no search for models ran any code."""
    acts = said.watch or said.fix or said.diff or said.add_ignore or said.update_baseline or said.prune_baseline or said.timings
    named = all(":" in n or (n.endswith(".py") and settings.config.targets) for n in said.names or ())
    return named and not acts and all(r.file is None for r in reports) and None not in terminal.PRINTED


def _keep(cache: Cache, results: int, code: int) -> None:
    """What was printed, for the next run, if that finds all results."""
    from vaelint.cache.saying import keep

    if len(cache.behind) == results:
        with suppress(OSError):
            keep(sys.argv[1:], code, "".join(text or "" for text in terminal.PRINTED), cache.behind, cache.entries)


def _reported(results: list[Checked], settings: Settings, said: Options, reports: list[Report], gathered: Gathered) -> int:
    """Judges the results and writes what is wanted of them. Returns the exit code."""
    bare, known = [r.result for r in results], settings.baseline.value
    whole = not said.names and said.shard is None
    judgement = judge(bare, settings, update=said.update_baseline, prune=said.prune_baseline, whole=whole)
    severity = Severity(settings.fail_on.value)
    if said.add_ignore is not None:
        from vaelint.cli.ignores import add_ignores

        add_ignores(bare, said.add_ignore, severity, settings.root)
    gathered.shown = replace(gathered.shown, docs=settings.docs_url.value, bar=severity)
    gathered.close(results, reports)
    fine = told_baseline(judgement, known, written=said.update_baseline or said.prune_baseline)
    return exit_code(bare, severity, said.exit_zero, fine)


def in_force(said: Options, asked: Asked, hired: gate.Hired, observed: Known, gathered: Gathered, does: str = "check") -> Settings:
    """What is to be checked, and how; trainings that were observed to know it have their results in `observed`. Raises UsageError.

    `asked`: a request with what the command wants of it. `does`: the command.
    """
    told = config.Config() if said.isolated else config.load()

    def resolved(names: Sequence[str], config: config.Config) -> Settings:
        settings = replace(resolve(names, config, said), comments=not said.isolated)
        severity = Severity(settings.fail_on.value)
        gathered.shown = replace(gathered.shown, docs=settings.docs_url.value, bar=severity)
        return replace(settings, targets=tuple(replace(t, request=asked(t.request)) for t in settings.targets))

    news: list[News] = []  # one of its own for each round

    def ask(requests: Sequence[Request]) -> list[Checked]:
        from vaelint.discover.observing import News, shows, wants_fewer_rows

        if not news:
            news.append(News())
        settings = resolved([], replace(told, targets=tuple(requests), told=(frozenset({"run", "folder", "timeout"}),) * len(requests)))
        gathered.live = gathered.live and settings.baseline.value is None
        keep = not (said.no_cache or said.isolated)
        results = run_requests(settings, hired, keep=keep, gathered=gathered, only=news[0], whole=False)
        observed.update((c.request, c) for c in results if shows(c) and not wants_fewer_rows(c))  # else it is asked again with a few
        return results

    def early(requests: Sequence[Request]) -> None:
        settings = resolved([], replace(told, targets=tuple(requests), told=tuple(map(said_in, requests))))
        gathered.live = gathered.live and settings.baseline.value is None
        results = run_requests(settings, hired, keep=not (said.no_cache or said.isolated), gathered=gathered, whole=False)
        observed.update((c.request, c) for c in results)

    at_once = None if said.shard or said.fix or said.diff else early
    crew = Crew(hired, resolved([], replace(told, targets=(), told=())).jobs.value, ask, terminal.say, at_once)
    called, built = bool(said.inputs or said.step), bool(said.init or said.loss)
    settings = resolved(*in_folders(said.names or [], told, crew, called=called, built=built))
    if (said.update_baseline or said.prune_baseline) and settings.baseline.value is None:
        raise UsageError("there is no baseline to write", 'name it: --baseline FILE, or baseline = "FILE" in the configuration')
    if said.update_baseline or said.prune_baseline:
        _stays_inside(settings)
    if (known := settings.baseline.value) is not None:  # said before minutes of work, not after them
        baseline.is_ready(known, new=said.update_baseline)
    if not settings.targets:
        _nothing(said, does)
    if said.shard is not None:
        settings = replace(settings, targets=gate.part(settings.targets, said.shard))
    return settings


def _stays_inside(settings: Settings) -> None:
    """Holds that a file which a configuration names for writing lies in its repository: a checkout has no say over files elsewhere.

    Raises:
        UsageError: it does not, links followed.
    """
    file, told = settings.baseline.value, settings.config.file
    if told is not None and settings.baseline.origin == settings.config.where and not real(file).is_relative_to(project_of(real(told))):
        raise UsageError(f"{settings.config.where}: baseline {file} is outside the repository", f"name it yourself: --baseline {file}")


def run_requests(
    settings: Settings,
    hired: gate.Hired,
    *,
    keep: bool,
    known: Mapping[Request, Checked] = MappingProxyType({}),
    gathered: Gathered | None = None,
    only: Callable[[Checked], bool] = lambda checked: True,
    whole: bool = True,
) -> list[Checked]:
    """The results of what the settings ask for, in order.

    Args:
        keep: whether earlier results are used, and these kept.
        known: results that this run has already.
        gathered: what takes each new result as it comes, of those that are `only`.
        whole: whether these are all results of the command line.
    """
    requests = settings.requests
    if not requests:
        return []
    targets = {t.request: t for t in settings.targets}
    cache = Cache(of_results(), terminal.say) if keep else None
    with Watched(len(requests)) as eyes:

        def on_next(checked: Checked) -> None:
            if gathered is not None and only(checked):
                gathered.take(checked, targets[checked.request], settings, eyes)

        jobs = settings.jobs.value
        results = gate.run(
            requests, hired, cache=cache, jobs=jobs, known=known, on_stage=eyes.on_stage, on_done=eyes.on_done, on_next=on_next
        )
    if cache is not None and whole:
        cache.close(sys.argv[1:], len(results))
        if gathered is not None:
            gathered.cache = cache
    return results


def _nothing(said: Options, does: str) -> None:
    """Says that nothing is checked. Files that hold no configured target are no error: pre-commit passes whatever changed.

    Raises:
        UsageError: no file is named, or what only the check of a model has a use for is.
    """
    table = "add it as [[tool.vaelint.targets]] to pyproject.toml"
    if not said.names:
        raise UsageError("no target is named and none is configured", f"write vaelint {does} model.py:VAE --input 32x784, or {table}")
    found = [f"{t}:{name}" for t in said.names if t.endswith(".py") for name in module_classes(t)[-1:]]
    why = "nothing was checked: the files given touch no configured target"
    help = f"name a model, such as {(found or ['model.py:VAE'])[0]}, or {table}"
    if said.inputs or said.init or said.loss or said.step:
        raise UsageError(why, help)
    terminal.say(why, help)
