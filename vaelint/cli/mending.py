"""`vaelint check --fix` and `--diff`: mends the targets of a check, then writes the files or prints a patch."""

from __future__ import annotations

import sys
from dataclasses import replace
from functools import partial

from vaelint.cli import terminal
from vaelint.cli.exits import EXIT_CLEAN, EXIT_FINDINGS, EXIT_TROUBLE
from vaelint.config.settings import Settings
from vaelint.core.checked import Checked
from vaelint.core.errors import UsageError
from vaelint.core.result import Request
from vaelint.policy.judge import judge
from vaelint.process import verify as fixing
from vaelint.process.gate import Hired
from vaelint.process.progress import Watched
from vaelint.report.parts.places import place_of


def mend_all(settings: Settings, hired: Hired, *, write: bool, patch: bool) -> tuple[list[Checked], int]:
    """Checks the targets, mends what can be mended, and writes the files (`write`) or prints a patch (`patch`).

    Returns:
        The checks of the files as they are now, findings with the fixes that were not written; and the exit code of a patch: 1 if
        it changes something or a finding is left.

    Raises:
        UsageError: no real pass is to run, which every repair is held against; or a file cannot be written.
    """
    if any(r.device == "none" for r in settings.requests):
        raise UsageError("a repair is held against a real pass, and --device none leaves it out", "leave --device none out")
    wanted = [replace(r, fixes=True) for r in settings.requests]
    with Watched(1) as eyes:

        def run(request: Request) -> Checked:
            return hired.worker().run(request, partial(eyes.on_stage, request))

        checked = [run(request) for request in wanted]
        mended = fixing.mend(checked, run, _decided(checked, settings))
    texts = {file: text for file, text in mended.texts.items() if text != mended.before[file]}
    if write:
        fixing.write(texts, mended.before)
    elif patch:
        sys.stdout.write(fixing.unified(texts, mended.before))
    _tell(mended, write=write)
    if not write:
        for one in checked:
            lines = {f.finding.fingerprint: f.lines for f in mended.fixes if f.target == one.result.target}
            one.result.findings[:] = [replace(f, fix=lines.get(f.fingerprint)) for f in one.result.findings]
    if not all(c.result.whole for c in mended.checked):
        return mended.checked if write else checked, EXIT_TROUBLE
    return mended.checked if write else checked, EXIT_FINDINGS if texts or mended.left else EXIT_CLEAN


def _decided(checked: list[Checked], settings: Settings) -> list[set[str]]:
    """For each target, the findings that a comment, the configuration or the baseline allows."""
    shown = [replace(c.result, findings=list(c.result.findings), notes=[]) for c in checked]
    judge(shown, settings)
    return [{f.fingerprint for f in c.result.findings} - {f.fingerprint for f in s.findings} for c, s in zip(checked, shown, strict=True)]


def _tell(mended: fixing.Mended, *, write: bool) -> None:
    """One line for each finding, on the error stream: what its edit changes, or why there is none."""
    for fix in mended.fixes:
        place = place_of(fix.finding.span)
        terminal.tell(f"{'fixed' if write else 'would fix'} {place} {fix.finding.code}: {fix.proposal.says}")
    for finding, reason in mended.left:
        terminal.tell(f"not fixed {place_of(finding.span)} {finding.code}: {reason}")
    count = len(mended.fixes)
    if count:
        terminal.say(
            f"{count} {'fix' if count == 1 else 'fixes'}, each checked with a real pass on the edited source; "
            "what the model computes is changed by it, so read the patch"
        )
    elif not mended.left:
        terminal.say("nothing to fix")
