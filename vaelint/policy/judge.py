"""From what was found to what is said: comments, configuration and baseline, in this order. Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field, replace

from vaelint import catalogue
from vaelint.config.settings import Settings
from vaelint.core.checked import Checked
from vaelint.core.finding import Severity
from vaelint.core.result import TargetResult
from vaelint.late import dataclass
from vaelint.policy import adjust, baseline, suppress


@dataclass(frozen=True)
class Judgement:
    """What the baseline comes to: its new text, if it is to be written, and the entries that no longer stand."""

    entries: baseline.Entries = field(default_factory=dict)
    stale: list[baseline.Entry] = field(default_factory=list)


def flattened(results: Sequence[Checked], settings: Settings) -> tuple[list[Checked], Settings]:
    """Each result by itself, where a run trains several models, and the settings with a target for each."""
    found, targets = [], []
    for checked, target in zip(results, settings.targets, strict=True):
        for result in (checked.result, *checked.also):
            found.append(replace(checked, result=result, also=[]) if checked.also else checked)
            targets.append(target)
    return found, replace(settings, targets=tuple(targets))


def adjusted(results: Sequence[TargetResult], settings: Settings) -> None:
    """Changes results as comments and configuration want it: everything but the baseline."""
    if settings.comments:
        suppress.apply(results, lambda word: catalogue.find(word).code)
    wanted = settings.severity.value
    own = {r.code: r.severity for r in catalogue.all_rules()} if wanted else {}
    for result, target in zip(results, settings.targets, strict=True):
        adjust.accept_beta(result, target.request)
        adjust.spare_files(result, settings.per_file_ignores.value, settings.root)
        adjust.set_severities(result, wanted, own)
        result.settle()


def judge(
    results: Sequence[TargetResult], settings: Settings, *, update: bool = False, prune: bool = False, whole: bool = False
) -> Judgement:
    """Does all of it. With `update` the baseline takes in what stands, with `prune` what is stale leaves it.

    Args:
        results: of `settings.targets`, in their order; they are changed.
        whole: whether all configured targets were asked for.

    Raises:
        UsageError: a baseline that cannot be read.
    """
    judged = [baseline.codes_judged(r) for r in results]
    adjusted(results, settings)
    file = settings.baseline.value
    if file is None:
        return Judgement()
    entries = {} if update and not file.exists() else baseline.read(file)
    configured = {baseline.target_name(t.target) for t in settings.config.targets} if whole else None
    stale = baseline.stale(results, judged, entries, configured)
    if update or prune:
        entries, stale = baseline.pruned(entries, stale), []
    if update:
        entries = baseline.added(entries, results, Severity(settings.fail_on.value))
    baseline.apply(results, entries, file)
    for result in results:
        result.settle()
    return Judgement(entries, stale)
