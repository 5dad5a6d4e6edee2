"""`vaelint annotate`: writes the shapes of a trace into the signatures, once a run with them checked has kept to them."""

from __future__ import annotations

import re
import sys
from dataclasses import field, replace

from vaelint.annotate.signatures import imports, tokens_kept
from vaelint.annotate.wrapping import wrapped
from vaelint.cli import terminal
from vaelint.cli.exits import EXIT_CLEAN, EXIT_FINDINGS, EXIT_TROUBLE
from vaelint.config import file as config
from vaelint.config.options import Options
from vaelint.config.settings import resolve
from vaelint.core.checked import Checked
from vaelint.core.edits import Proposal, applied, parses
from vaelint.core.errors import UsageError
from vaelint.core.result import Request
from vaelint.late import dataclass
from vaelint.process import verify as fixing
from vaelint.process.front import Worker
from vaelint.source.spot import Code
from vaelint.source.written import SourceFile

PIPELINE = "vaelint.annotate.pipeline:annotate_target"
_ADDED = ("jaxtyping", "torch")  # modules that a signature may need an import of


@dataclass
class Held:
    """The texts so far, the functions in them, and those left out, with the reason."""

    texts: dict[str, str] = field(default_factory=dict)
    names: list[str] = field(default_factory=list)
    left: list[tuple[str, str]] = field(default_factory=list)
    run: Checked | None = None
    before: dict[str, str] = field(default_factory=dict)


def annotate(said: Options, early: Worker | None = None) -> int:
    """Annotate the functions that a step calls with the shapes they get and give (jaxtyping), as a patch or in place.

    Exit code 0: nothing to add, or written; 1: a patch is printed; 2: the model could not be run, or its annotations did not hold.
    """
    target = said.target or ""
    told = config.Config() if said.isolated else config.load()
    settings = resolve([target], told, replace(said, device="none"))
    if not settings.requests:
        raise UsageError(f"{target} names no model", "write vaelint annotate model.py:VAE --input 32x784")
    request = settings.requests[0]
    with Worker(PIPELINE) as worker:
        found = worker.run(request)
        if found.result.status == "failed":
            raise UsageError(f"{target} cannot be annotated: {_reason(found)}", f"vaelint check {target} says more")
        done = held(request, found, worker)
    for name, reason in done.left:
        terminal.tell(f"not annotated {name}: {reason}")
    if not done.names or done.run is None:
        terminal.say("nothing was annotated" if done.left or not found.proposals else "nothing to annotate")
        return EXIT_TROUBLE if done.left else EXIT_CLEAN
    facts = done.run.result.confirm
    sizes = " and ".join(str(n) for n in facts["batches"])
    terminal.say(
        f"{terminal.counted(len(done.names), 'function')} annotated; ran at batch sizes {sizes}, checked by jaxtyping and beartype"
    )
    if said.write:
        fixing.write(done.texts, done.before)
        return EXIT_CLEAN
    sys.stdout.write(fixing.unified(done.texts, done.before))
    return EXIT_FINDINGS


def held(request: Request, found: Checked, worker: Worker) -> Held:
    """The proposed annotations that a run keeps to. A function that does not is left out, and the rest is run again."""
    proposals = {name: p[0] for name, p in found.proposals.items()}
    before = {file: text for p in proposals.values() for file in p.files if (text := fixing.read(file)) is not None}
    done = Held(before=before)
    wanted = {name: p for name, p in proposals.items() if p.files <= set(before)}
    while wanted:
        texts, kept = dict(before), True
        for file in before:
            edits = [e for p in wanted.values() for e in p.edits if e.span.file == file]
            new = applied(before[file], [*edits, *imports(Code(SourceFile(file), file), edits)])
            kept = kept and new is not None and parses(new)
            texts[file] = wrapped(before[file], new) if new is not None and kept else before[file]
            kept = kept and tokens_kept(before[file], texts[file], _ADDED)
        run = worker.run(replace(request, overlay=tuple(sorted(texts.items())))) if kept else None
        if run is not None and run.result.status != "failed" and run.result.confirm.get("outcome") == "ran":
            done.texts = {file: text for file, text in texts.items() if text != before[file]}
            done.names, done.run = list(wanted), run
            return done
        reason = _reason(run) if run is not None else "its signature cannot be edited without touching more"
        culprit = _culprit(run, wanted)
        for name in [culprit] if culprit else list(wanted):
            done.left.append((name, reason))
            del wanted[name]
    return done


def _culprit(run: Checked | None, wanted: dict[str, Proposal]) -> str | None:
    """The function that a checked run complains of."""
    said = str(run.result.confirm.get("function", "")) if run is not None else ""
    return next((name for name in wanted if said and re.search(rf"(^|\.){re.escape(name.rpartition(':')[2])}$", said)), None)


def _reason(run: Checked) -> str:
    told = [run.result.confirm.get("reason"), *reversed(run.result.notes), *(f.message for f in run.result.findings)]
    return str(next((t for t in told if t), "it does not run"))
