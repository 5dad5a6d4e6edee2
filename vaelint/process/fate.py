"""What became of a target's process, and the result that is left: never less than what it had said. Imports no torch."""

from __future__ import annotations

import ast
import re
import signal
from dataclasses import field
from pathlib import Path
from typing import Any

from vaelint.core.edits import Proposal
from vaelint.core.finding import Span
from vaelint.core.memory import LARGER, readable
from vaelint.core.paths import package_of, regular, relative, user_file
from vaelint.core.result import Request, TargetResult
from vaelint.core.setup import stopped
from vaelint.core.sign import Found, sign
from vaelint.late import dataclass
from vaelint.process import protocol

REPORT = "this is a fault of vaelint, not of your model; please report it with the model that shows it"

_REMARKS = {
    "SIGKILL": "vaelint did not send it, so the system most likely ran out of memory",
    "SIGSEGV": "native code crashed: an extension, a driver, or a bug in torch",
    "SIGBUS": "native code crashed, or shared memory ran out (/dev/shm)",
    "SIGABRT": "native code gave up: an assertion in an extension or in torch",
    "SIGFPE": "native code divided by zero",
    "SIGILL": "a library was built for another processor",
}


@dataclass
class Fate:
    """All that was heard of one target's process."""

    pid: int | None = None
    stage: str = ""
    static: TargetResult | None = None
    final: TargetResult | None = None
    also: list[TargetResult] = field(default_factory=list)  # of further models that the run trains
    proposals: dict[str, list[Proposal]] = field(default_factory=dict)  # by the fingerprint of the finding
    reads: dict[str, Any] | None = None  # what the result was made from, as reads.py says it
    escaped: protocol.Escaped | None = None
    code: int | None = None  # negative for a signal
    exceeded: int = 0  # the limit in bytes, if it took more memory
    timed_out: float | None = None  # the limit in seconds, if it was reached
    stack: str = ""  # Python's stack when it crashed or was stopped, innermost frame first

    def take(self, message: protocol.Message) -> None:
        """Notes one message."""
        match message:
            case protocol.Started(pid=pid):
                self.pid = pid
            case protocol.Stage(stage=stage):
                self.stage = stage
            case protocol.Static(result=result):
                self.static = TargetResult.from_json(result)
            case protocol.RestsOn(reads=reads):
                self.reads = reads
            case protocol.Proposals(proposals=proposals):
                self.proposals = {k: [Proposal.from_json(p) for p in v] for k, v in proposals.items()}
            case protocol.Also(result=result):
                self.also.append(TargetResult.from_json(result))
            case protocol.Final(result=result):
                self.final = TargetResult.from_json(result)
            case protocol.Escaped():
                self.escaped = message
            case protocol.Exceeded(limit=limit):
                self.exceeded = limit
            case protocol.Exited(code=code):
                self.code = code


def settle(request: Request, fate: Fate) -> TargetResult:
    """The final result; else the static one with word of how the real pass ended; else a failed one with a VAE006 finding."""
    if fate.final is not None and fate.code == 0:  # otherwise it did not go on to its own end: whatever it said is not the last word
        return fate.final
    message, note, help, outcome = _what_happened(fate)
    help = _of_a_run(request, fate) or help
    seen = _frames(fate, package_of(request.target))
    place = _whole_line(relative(seen[0][0]), seen[0][1]) if seen else _definition(request.target)
    if fate.static is not None:
        result = fate.static
        where = f" at {place.file}:{place.line}" if seen else ""
        result.confirm = result.confirm | {"device": None, "outcome": outcome, "reason": f"{message}{where}"}
        result.leave_out(
            f"the real pass did not end: {message}{where}; findings are those from before it" + (f" ({note})" if note else ""), help
        )
        return result
    theirs = fate.escaped is not None and not fate.escaped.ours and not fate.escaped.help
    found = Found(
        place,
        label="the last line of your code that ran" if seen else "",
        notes=tuple(n for n in (note, f"it happened while vaelint did: {fate.stage}" if fate.stage else "") if n),
        help=help,
    )
    kind = stopped("VAE007" if theirs else "VAE006", message)
    return TargetResult(request.target, "failed", findings=[sign(kind, found, place, _source_line(place))])


def _of_a_run(request: Request, fate: Fate) -> str:
    """What to type where an observed script took too much time or memory; empty for anything else."""
    words = " ".join(request.run)
    if not words or request.rows or not (fate.timed_out is not None or fate.exceeded or fate.code == -signal.SIGKILL):
        return ""
    fewer = f"vaelint run --rows 4 {words}"
    if fate.timed_out is None:
        return f"run it with smaller batches: {fewer}"
    return f"give it more time: vaelint run --timeout {2 * fate.timed_out:g} {words}, or smaller batches: {fewer}"


def _what_happened(fate: Fate) -> tuple[str, str, str, str]:
    """Message, remark, help, and the outcome in a word."""
    if fate.timed_out is not None:
        return f"not done within {fate.timed_out:g} s", "", "raise the limit with --timeout SECONDS if the model is only slow", "timed out"
    if fate.exceeded:
        said = f"its processes took more than {readable(fate.exceeded)} of memory together"
        return said, "", LARGER, "out of memory"
    if fate.escaped is not None:
        e = fate.escaped
        if e.help:
            return e.error, "", e.help, "raised"
        if e.ours:
            return f"the analysis stopped: {e.error} ({Path(e.file).name}:{e.line})", "", REPORT, "raised"
        if e.error.startswith("sys.exit"):
            return f"the code called {e.error}", "", 'keep what only a script should do under `if __name__ == "__main__":`', "raised"
        return f"the code raised {e.error}", "", "", "raised"
    if fate.code is None:
        return "the process that ran the code could not be ended", "it hangs in a driver or a file system", "", "crashed"
    if fate.code < 0:
        name = signal_name(-fate.code)
        help = "try a smaller batch in --input" if name == "SIGKILL" else "try to import the module by itself"
        return f"the process that ran the code was ended by {name}", _REMARKS.get(name, ""), help, "crashed"
    if fate.code == protocol.UNHEARD:
        return (
            "the code closed the file descriptor that vaelint answers through",
            "",
            "close only the files that the code has opened",
            "crashed",
        )
    help = 'keep what only a script should do under `if __name__ == "__main__":`'
    return f"the code ended its process with {end_of(fate.code)} (os._exit)", "", help, "crashed"


def signal_name(number: int) -> str:
    """`11` as "SIGSEGV"."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def end_of(code: int) -> str:
    """`-11` as "SIGSEGV", `3` as "exit code 3"."""
    return signal_name(-code) if code < 0 else f"exit code {code}"


_FRAME = re.compile(r'^  File "(?P<file>.+)", line (?P<line>\d+) in ', re.M)


def _frames(fate: Fate, package: str) -> list[tuple[str, int]]:
    """The user's frames, innermost first."""
    found = [(m["file"], int(m["line"])) for m in _FRAME.finditer(fate.stack)]
    if fate.escaped is not None and fate.escaped.file and not fate.escaped.ours:
        found.insert(0, (fate.escaped.file, fate.escaped.line))
    return [f for f in found if user_file(f[0], package)]


def _definition(target: str) -> Span:
    """Where the target is defined, else the first line of its file."""
    path, colon, name = target.partition("(")[0].rpartition(":")
    path = path if colon else target  # a script
    file = path if path.endswith((".py", ".ipynb")) else path.replace(".", "/") + ".py"
    try:
        tree = ast.parse(regular(file).read_text(encoding="utf-8"))
    except (OSError, ValueError, SyntaxError):
        return Span(relative(file), 1, 1)
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name == name:
            return _whole_line(relative(file), node.lineno)
    return Span(relative(file), 1, 1)


def _source_line(span: Span) -> str:
    try:
        return regular(span.file).read_text(encoding="utf-8").splitlines()[span.line - 1]
    except (OSError, ValueError, IndexError):
        return ""


def _whole_line(file: str, line: int) -> Span:
    span = Span(file, line)
    text = _source_line(span)
    if not text.strip():
        return span
    return Span(file, line, len(text) - len(text.lstrip()) + 1, line, len(text.rstrip()) + 1)
