"""The VAEs of a folder with a way to check each, tried in the worker, or why there is none. Imports no torch."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from vaelint.core.checked import Checked
from vaelint.core.errors import NothingFound
from vaelint.core.result import Request
from vaelint.core.visible import toml_escaped, visible
from vaelint.discover.not_there import why_none
from vaelint.discover.observing import Tried, started_inside
from vaelint.discover.structure import Found, Shape
from vaelint.late import dataclass
from vaelint.process.gate import Hired
from vaelint.process.progress import Watched

PIPELINE = "vaelint.discover.probe:probe"
TIMEOUT = 120.0


@dataclass(frozen=True)
class Proposal:
    """One candidate: how it can be checked (None: it could not be told, `because`), or that it is none after all."""

    shape: Shape
    request: Request | None
    because: str = ""
    saw: str = ""
    notes: tuple[str, ...] = ()
    is_none: bool = False  # it ran, and is no VAE
    tried: bool = True
    furthest: Request | None = None  # where there is none: the way that came furthest

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        r = self.request
        said = {} if r is None else {"input": list(r.inputs), "init": list(r.init), "loss": r.loss, "step": r.step}
        return {
            "target": self.shape.target,
            "line": self.shape.line,
            "why": self.shape.noise,
            "state": self.state,
            "saw": self.saw,
            "because": self.because,
            "notes": list(self.notes),
            "proposal": said or None,
        }

    @property
    def state(self) -> str:
        """`runs`, `open` (could not be proposed), `none` (no VAE) or `untried`."""
        if not self.tried:
            return "untried"
        return "runs" if self.request is not None else "none" if self.is_none else "open"


def untried(found: Found) -> list[Proposal]:
    """The candidates as the code alone shows them."""
    return [Proposal(s, None, "not tried", tried=False) for s in found.candidates]


def tried(found: Found, hired: Hired, jobs: int = 1, folder: str = "") -> list[Proposal]:
    """The candidates found in `folder`, each tried in a process of its own. Raises UsageError where the engine cannot be imported."""
    if not found.candidates:
        return []
    requests = [Request(s.target, device="none", timeout=TIMEOUT, folder=folder) for s in found.candidates]
    answers: list[Checked] = []
    with Watched(len(requests)) as eyes:
        answers += hired.worker().run_all(requests, jobs, eyes.on_stage, eyes.on_done, PIPELINE)
    return [_proposal(s, a, folder) for s, a in zip(found.candidates, answers, strict=True)]


def _proposal(shape: Shape, answer: Checked, folder: str) -> Proposal:
    said = answer.result.anatomy
    notes = tuple(answer.result.notes)
    if "proposal" in said:
        p = said["proposal"]
        said_so = (shape.target, tuple(p["input"]), tuple(p["init"]), p.get("loss"), p.get("step"))
        request = Request(*said_so, folder=folder, ours=tuple(p.get("ours", ())))
        return Proposal(shape, request, "", said.get("saw", ""), notes)
    because = said.get("because") or next((f.message for f in answer.result.findings), "it could not be tried")
    way = said.get("furthest")
    furthest = Request(shape.target, tuple(way["input"]), tuple(way["init"]), folder=folder, guessed=True) if way is not None else None
    return Proposal(shape, None, because, "", notes, bool(said.get("none")), furthest=furthest)


def requests_of(proposals: Iterable[Proposal], folder: str = "") -> list[Request]:
    """What `check` is asked for a folder. One without a proposal is asked as it came furthest: its failure is told."""
    return [p.request or p.furthest or Request(p.shape.target, folder=folder) for p in proposals if not p.is_none]


def table(proposal: Proposal, header: str, target: str) -> str:
    """The TOML table of one proposal; a comment says what it is, or why there is none."""
    shape = proposal.shape
    lines = [_comment(f"{shape.name}, line {shape.line}: {shape.noise}" + (f"; {proposal.saw}" if proposal.saw else ""))]
    if proposal.request is None:
        what = "no VAE" if proposal.is_none else "not tried" if not proposal.tried else "could not propose how to check it"
        reason = f", because {proposal.because}" if proposal.tried else ""
        return "\n".join([*lines, _comment(f"{target}: {what}{reason}")])
    request = proposal.request
    lines += [_comment(n) for n in proposal.notes]
    lines += [header, f"target = {_text(target)}"]
    lines.append(f"input = {_text(request.inputs[0]) if len(request.inputs) == 1 else _list(request.inputs)}")
    if request.init:
        lines.append(f"init = {_list(request.init)}")
    lines += [f"{key} = {_text(value)}" for key, value in (("loss", request.loss), ("step", request.step)) if value]
    return "\n".join(lines)


def run_table(tried: Tried, header: str) -> str:
    """The TOML table of a training that can be observed."""
    request = tried.request
    assert request is not None
    what = _comment(f"{request.target} trains {', '.join(sorted(tried.classes))}")
    if started_inside(tried.entry, request):  # a table's command runs in the folder of the configuration
        return "\n".join([what, _comment(f"start it in its own folder: cd {request.folder} && vaelint run {shlex.join(request.run)}")])
    return "\n".join([what, header, f"run = {_text(shlex.join(request.run))}"])


def _comment(text: str) -> str:
    """A comment in TOML: one line, whatever a name or a message holds."""
    return "# " + visible(" ".join(text.split()))


def _text(value: str) -> str:
    """A TOML basic string."""
    return toml_escaped(json.dumps(value, ensure_ascii=False))


def _list(values: Iterable[str]) -> str:
    return "[" + ", ".join(_text(v) for v in values) + "]"


def nothing(found: Found, root: str) -> NothingFound:
    """The error for a folder in which no VAE is found."""
    said = ", ".join(f"{file} ({why})" for file, why in found.unread[:3])
    unread = f"; {len(found.unread)} could not be read: {said}" if found.unread else ""
    known, type_this = why_none(Path(root)) if Path(root).is_dir() else ("", "")
    return NothingFound(
        f"no VAE is found in {root}: {found.files} Python file{'s' * (found.files != 1)} read{unread}{f'; {known}' if known else ''}",
        type_this or "name one: vaelint check model.py:VAE",
    )
