"""The trainings of a repository, observed: which of its models they show. Imports no torch."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from vaelint.config.closure import imported_by
from vaelint.core.assumption import ROWS
from vaelint.core.checked import Checked
from vaelint.core.finding import Finding
from vaelint.core.paths import real
from vaelint.core.result import Request, TargetResult
from vaelint.discover.entries import Entry
from vaelint.discover.guessed_options import other_configurations
from vaelint.discover.sources import tree_of
from vaelint.discover.variants import variants
from vaelint.late import dataclass

Ask = Callable[[Sequence[Request]], list[Checked]]
"""The results of requests, in their order."""

TIMEOUT = 90.0  # seconds for each, where nothing else is said
_MOST = 8  # commands that are tried for one script
_ROUNDS = 5
_SHOULD_DRAW = {"VAE208", "VAE216"}
_FEW = 4  # rows of a batch, where a whole one is too slow or too large


Seen = tuple[object, ...]
"""What tells the results of two commands apart: the model, its loss, and what is found."""


@dataclass(frozen=True)
class Tried:
    """What became of a command: the request that observes it and the classes that it trains, or why it could not be observed."""

    entry: Entry
    request: Request | None
    classes: frozenset[str] = frozenset()
    seen: frozenset[Seen] = frozenset()
    because: str = ""
    type_this: str = ""
    aim: str = ""  # the class that the command was chosen for
    depth: int = 0  # how far a run came that was not observed: 1 where it ended before its own code did, 2 where it
    # wants a file, 3 where it raised, 4 where it did so with what was made up for a file


def looked_at(requests: Sequence[Request]) -> list[Request]:
    """The same, for whoever wants to know what is trained and no more: no experiments, no laws."""
    return [replace(r, device="none", laws="none") for r in requests]


def _with_few(request: Request) -> Request:
    """The same with smaller batches, which are vaelint's choice."""
    return replace(request, rows=_FEW, ours=(*request.ours, ROWS))


def request_of(words: Sequence[str], entry: Entry, folder: Path) -> Request:
    """The request that observes a command, started in `folder`."""
    own = "" if folder.resolve() == Path.cwd() else folder.as_posix()
    return Request(Path(os.path.relpath(entry.file)).as_posix(), run=tuple(words), folder=own, timeout=TIMEOUT)


def shows(checked: Checked) -> bool:
    """Whether a run was observed, and trains something that draws a latent or picks codes, or of which a finding says that it should."""
    results = [checked.result, *checked.also]
    roles = {term["role"] for r in results for term in r.loss.get("terms", ())}
    draws = any(r.anatomy.get("sites") for r in results) or bool(roles & {"kl", "vq"})
    return checked.result.status != "failed" and (draws or any(f.code in _SHOULD_DRAW for r in results for f in r.findings))


def seen_in(checked: Checked) -> frozenset[Seen]:
    """What an observed run shows, without its numbers: a second command that shows no more says nothing new."""
    return frozenset(_seen(result) for result in (checked.result, *checked.also))


def _seen(result: TargetResult) -> Seen:
    terms = frozenset((t["role"], t["kernel"], _place(t.get("span"))) for t in result.loss.get("terms", ()))
    return result.target, terms, result.loss.get("objective"), frozenset((f.code, f.span.file, f.span.line) for f in result.findings)


def _place(span: Any) -> tuple[str, int]:
    return (span["file"], span["line"]) if span else ("", 0)


class News:
    """Says of each observed run whether it shows anything that no earlier one did."""

    def __init__(self) -> None:
        self._known: set[Seen] = set()

    def __call__(self, checked: Checked) -> bool:
        """Whether it does; from then on it is known. One that is asked again with fewer rows does not yet."""
        new = shows(checked) and not wants_fewer_rows(checked) and not seen_in(checked) <= self._known
        self._known |= seen_in(checked) if new else set()
        return new


def observed(found: Sequence[Entry], folder: Path, ask: Ask, wanted: Iterable[tuple[str, Path]]) -> list[Tried]:
    """Each entry by its first command that can be observed, and by further ones that may train the classes `wanted` that it left.

    Args:
        wanted: classes that may be VAEs, with their files.
    """
    done: dict[Entry, list[Tried]] = {e: [_lacking(e, folder)] if e.lacks else [] for e in found}
    left = [(name, real(file)) for name, file in wanted]
    tried: dict[Entry, list[tuple[str, ...]]] = {e: [] for e in found}
    few: set[Entry] = set()
    for _ in range(_ROUNDS):
        shown = {(n, file) for e, all_ in done.items() for t in all_ for n in t.classes for file in imported_by(e.file)}
        left = [w for w in left if w not in shown]
        coming = [(e, words, aim) for e in found for words, aim in _next(e, done[e], tried[e], left, folder)]
        if not coming:
            break
        for e, words, _ in coming:
            tried[e].append(words)
        plain = [(e, request_of(words, e, folder)) for e, words, _ in coming]
        asked = [_with_few(request) if e in few else request for e, request in plain]
        answers = ask(asked)
        large = [n for n, answer in enumerate(answers) if wants_fewer_rows(answer)]
        for n, answer in zip(large, ask([_with_few(asked[n]) for n in large]) if large else (), strict=True):
            if answer.result.status != "failed" or any(map(_too_much, answer.result.findings)):  # what is too much even so is said
                few.add(coming[n][0])
                asked[n], answers[n] = _with_few(asked[n]), answer
        _start_inside([(e, words) for e, words, _ in coming], asked, answers, ask, folder)
        for (e, _, aim), request, answer in zip(coming, asked, answers, strict=True):
            done[e].append(replace(_tried(e, request, answer), aim=aim))
    return [t for all_ in done.values() for t in _worth(all_)]


def _start_inside(
    coming: Sequence[tuple[Entry, Sequence[str]]], asked: list[Request], answers: list[Checked], ask: Ask, folder: Path
) -> None:
    """Starts those that lacked a path again, each in its script's own folder; what came further there takes the first one's place."""
    lost = [n for n, answer in enumerate(answers) if _misses_a_path(answer) and _is_deeper(*coming[n], folder)]
    inside = [_from_its_own(*coming[n]) for n in lost]
    for n, request, answer in zip(lost, inside, ask(inside) if inside else (), strict=True):
        if (
            shows(answer)
            or not (_misses_a_path(answer) or _misses_a_package(answer))
            or (_leads_out(answers[n], folder) and not _leads_out(answer, folder))
            or _is_there(answers[n], coming[n][0].file.parent)
        ):
            asked[n], answers[n] = request, answer


def _misses_a_path(answer: Checked) -> bool:
    """Whether a run ended for want of a file or folder: its paths may be meant from the script's own folder."""
    first = next(iter(answer.result.findings), None)
    return first is not None and answer.result.status == "failed" and bool(_PATHS.search(first.message) or first.help.startswith("put "))


def _misses_a_package(answer: Checked) -> bool:
    """Whether a run ended at an import: elsewhere its script finds what it imports."""
    first = next(iter(answer.result.findings), None)
    return first is not None and answer.result.status == "failed" and "not installed here" in first.message


def _leads_out(answer: Checked, folder: Path) -> bool:
    """Whether the path that a run wanted lies outside of the repository: it was meant from another folder."""
    base = folder.resolve() / answer.request.folder
    named = _PATH.findall(next(iter(answer.result.findings)).message)
    return any(not (base / path).resolve().is_relative_to(folder.resolve()) for path in named)


def _is_there(answer: Checked, folder: Path) -> bool:
    """Whether the path that a run wanted is there in the script's own folder: there it comes further."""
    wanted = _WANTED.search(next(iter(answer.result.findings)).message)
    return wanted is not None and (folder / wanted[1]).exists()


_WANTED = re.compile(r"\b(?:reads|looks for|looks into) (\S+), which is not there")
_PATH = re.compile(r"(?<![\w:/.])(?:\.\.)?/[\w./-]+")
_PATHS = re.compile(r"is not there|No such file|[Nn]ot? .*found|does not exist|doesn't exist")


def _is_deeper(entry: Entry, words: Sequence[str], folder: Path) -> bool:
    return words[0] != "-m" and entry.file.parent.resolve() != folder.resolve()


def _from_its_own(entry: Entry, words: Sequence[str]) -> Request:
    """The same command as it is typed in the script's own folder."""
    return request_of((entry.file.name, *words[1:]), entry, entry.file.parent)


def started_inside(entry: Entry, request: Request) -> bool:
    """Whether a command was observed in its script's own folder, and not where the others are."""
    return request.run[0] == entry.file.name != entry.words[0] and Path(request.folder).resolve() == entry.file.parent.resolve()


def wants_fewer_rows(answer: Checked) -> bool:
    """Whether a run with whole batches came to no result, or not to the end of its real pass, for want of time or memory."""
    results = (answer.result, *answer.also)
    return not answer.request.rows and any(r.cut_short or any(map(_too_much, r.findings)) for r in results)


def _too_much(finding: Finding) -> bool:
    return finding.code == "VAE006" and finding.message.startswith(_SHORT)


_SHORT = ("no training iteration had ended when", "the script takes more memory", "not done within")


def _worth(all_: Sequence[Tried]) -> list[Tried]:
    """What observed something new, and what was to show a further class and did not; where nothing was observed, the first of those that
    came furthest: its error is the deepest."""
    new: list[Tried] = []
    for t in all_:
        if t.request is not None and not t.seen <= {s for other in new for s in other.seen}:
            new.append(t)
    if not new:
        return [max(all_, key=lambda t: t.depth)] if all_ else []
    shown = {name for t in new for name in t.classes}
    failed = [t for t in all_ if t.request is None and t.aim and t.aim not in shown]
    return [*new, *(max((t for t in failed if t.aim == aim), key=lambda t: t.depth) for aim in dict.fromkeys(t.aim for t in failed))]


def _next(
    entry: Entry, done: Sequence[Tried], tried: Sequence[tuple[str, ...]], left: Sequence[tuple[str, Path]], folder: Path
) -> list[tuple[tuple[str, ...], str]]:
    """The commands of the next round: the entry's own, until one is observed; then one for each class that it may train as well.

    Each with the class that it is chosen for, "" for none.
    """
    if entry.lacks or len(tried) >= _MOST:
        return []
    if not tried:
        return [(entry.words, "")]
    good = [t.request for t in done if t.request is not None]
    own = [w for w in entry.others if w not in tried]
    if not good and own:
        return [(own[0], "")]
    reach = imported_by(entry.file)
    trees = [t for t in map(tree_of, sorted(reach)) if t is not None]
    if not good and (other := [w for w in other_configurations(tried[0], trees, folder) if w not in tried]):
        return [(other[0], "")]
    missing = [name for name, file in left if file in reach]
    if not missing:
        return []
    words = good[0].run if good else tried[0]
    more: dict[tuple[str, ...], str] = {}
    for name in missing:
        ways = (w for w in variants(words, name, trees, folder) if w not in tried and w not in more)
        more.update((w, name) for w in [next(ways, None)] if w is not None)
    return [*more.items(), *((w, "") for w in own if w in entry.told and not more)][: _MOST - len(tried)]


def _lacking(entry: Entry, folder: Path) -> Tried:
    there = "" if folder.resolve() == Path.cwd() else f"cd {folder.as_posix()} && "
    return Tried(entry, None, because=f"it cannot do without {', '.join(entry.lacks)}", type_this=f"{there}vaelint run {entry.command}")


def _typed_there(help: str, folder: str) -> str:
    """What to type, by whom is not in the folder that the command is started in."""
    return re.sub(r"(?<!&& )\bvaelint run (?=-|\S*\.(?:py|ipynb)\b)", f"cd {shlex.quote(folder)} && vaelint run ", help) if folder else help


def _depth(finding: Finding) -> int:
    """How far a run came."""
    if finding.code != "VAE007":
        return 0 if "command line" in finding.message else 3 if _too_much(finding) or "; it ran with " in finding.message else 1
    if "in its place it raises" in finding.message:
        return 4
    if _NO_CONFIGURATION.search(finding.message) or "cannot import name" in finding.message:  # of files that have moved on
        return 1
    return 2 if "is not there" in finding.message else 3


_NO_CONFIGURATION = re.compile(r"reads \S*(?:config\S*|\.(?:ya?ml|ini|toml|cfg)), which is not there")


def _tried(entry: Entry, request: Request, answer: Checked) -> Tried:
    words = request.run
    results = [answer.result, *answer.also]
    if not shows(answer):
        first = next(iter(answer.result.findings), None)
        if first is None or answer.result.status != "failed":
            return Tried(entry, None, because="no draw of a latent was found in what it trains")
        place = f" ({first.span.file}:{first.span.line})" if f"{first.span.file}:" not in first.message and first.span.line > 1 else ""
        arguments = shlex.join(words[2 if words[0] == "-m" else 1 :])
        because = f"{f'with {arguments}: ' if arguments else ''}{first.message}{place}"
        return Tried(entry, None, because=because, type_this=_typed_there(first.help, request.folder), depth=_depth(first))
    names = {name for r in results for name in r.target.rpartition(":")[2].split("+")}
    return Tried(entry, request, frozenset(names), seen_in(answer))
