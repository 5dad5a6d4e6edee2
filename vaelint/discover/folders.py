"""A folder or a file that is to be checked: the configured targets below or in it, else what is discovered there."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING

from vaelint.config.chosen import is_same, target_file
from vaelint.config.closure import imported_by
from vaelint.config.file import Config
from vaelint.core.errors import NothingFound
from vaelint.core.launchers import is_script
from vaelint.core.paths import real, relative
from vaelint.core.result import Request
from vaelint.late import dataclass
from vaelint.process.gate import Hired
from vaelint.source.target import parse_target

if TYPE_CHECKING:
    from vaelint.discover.entries import Entry
    from vaelint.discover.observing import Ask, Tried
    from vaelint.discover.structure import Found, Shape


@dataclass(frozen=True)
class Crew:
    """Who finds out what there is to check.

    Attributes:
        hired: the worker of the run.
        jobs: how many targets it works at.
        ask: how trainings are observed; None to observe none.
        say: takes what a person is told, and what to do about it.
        early: checks targets as soon as it is known how, so that nobody waits for what comes after them; None to check all at the end.
    """

    hired: Hired
    jobs: int
    ask: Ask | None
    say: Callable[[str, str], None]
    early: Callable[[Sequence[Request]], None] | None = None


def in_folders(names: Sequence[str], told: Config, crew: Crew, *, called: bool = False, built: bool = False) -> tuple[list[str], Config]:
    """The words with each folder replaced by targets, and the configuration with those that were discovered added to its own.

    So is a class that is named with no word of how it is called: it is checked as it would be within its folder.

    A candidate for which no way to check it was found stays a target: it fails, and the exit code says so. A file is such a folder where no
    target is configured at all: where some are, it stands for those that it touches (config/chosen.py).

    Args:
        called: whether the command line says how models are called, so that no way has to be sought.
        built: whether it says how they are built, or which loss they have.

    Raises:
        UsageError: a word names nothing; no VAE is found in a folder, or in any of the files, unless pre-commit named them.
    """
    _are_read(names)
    words, found = list[str](), list[Request]()
    plain = [n for n in names if not told.targets and ":" not in n and is_script(n) and Path(n).is_file()]
    if plain:
        try:
            new = _of_files(plain, crew, called=called)
        except NothingFound as e:
            if called or os.environ.get("PRE_COMMIT") != "1":
                raise
            crew.say(e.message, "")  # pre-commit, which sets that variable, passes whatever changed
            new = []
        found += new
        words += [r.target for r in new]
    for name in names:
        folder = Path(name)
        if name in plain:
            continue
        if ":" in name or not folder.is_dir():
            new = [] if called or built or ":" not in name else _of_class(name, told, crew)
            found += new
            words += [r.target for r in new] or [name]
            continue
        home = folder.resolve()
        files = [(t, target_file(t, told.root)) for t in told.targets]
        below = [t.target for t, file in files if file is not None and file.is_relative_to(home)]
        if not below:
            held = find_in(folder)
            seen = observed_in([folder], folder, crew, held)
            new = _tried(left_over(held, seen), folder.as_posix(), folder.as_posix(), crew, seen)
            found += new
            below = [r.target for r in new]
        words += below
    return words, replace(told, targets=(*told.targets, *found), told=(*told.told, *map(said_in, found)))


def said_in(request: Request) -> frozenset[str]:
    """The fields of a request that say anything, as a configuration would."""
    defaults = Request("")
    return frozenset(f.name for f in fields(Request) if getattr(request, f.name) != getattr(defaults, f.name))


def _are_read(names: Sequence[str]) -> None:
    """Holds that each word names something, before trainings are observed for the first. Raises UsageError."""
    for name in names:
        if not Path(name).exists() and not name.endswith(".toml") and not is_script(name):
            parse_target(name)


def _of_files(plain: Sequence[str], crew: Crew, *, called: bool) -> list[Request]:
    """What is to be checked of files that no configuration speaks of. Raises UsageError."""
    given = [Path(n) for n in plain]
    seen = [] if called else observed_in(given, Path(), crew, _together(given))
    if not good(seen) and (made := _made_there(given)):
        return made
    held = left_over(_together(given) if good(seen) else _in_files(given), seen)
    return [Request(s.target) for s in held.candidates] if called else _tried(held, " and ".join(plain), "", crew, seen)


def _made_there(given: Sequence[Path]) -> list[Request]:
    """The Keras models that files make which have no class of a VAE: such a model knows its own inputs."""
    from vaelint.discover.keras_made import models_made

    return [] if _together(given).candidates else [Request(target) for target in models_made(given)]


def _of_class(name: str, told: Config, crew: Crew) -> list[Request]:
    """How a class of a file is checked that nothing else is said of: by a training that imports the file, else as it could be called.

    Empty where it is configured, is no VAE by its code, or turns out to be none: then it is for its own check to say so.
    """
    from vaelint.discover.entries import entries

    spec = parse_target(name)
    file = real(Path(spec.path)) if spec.path is not None else None
    if file is None or not file.is_file() or spec.init or any(is_same(t.target, name) for t in told.targets if not t.run):
        return []
    held = find_in(Path(relative(str(file))))
    held.candidates = [c for c in held.candidates if c.name == spec.name]
    if not held.candidates:
        return []
    inside = file.is_relative_to(Path.cwd())
    found = entries(Path() if inside else file, Path(), file) if crew.ask is not None else []
    failed: list[Tried] = []
    for entry in sorted(found, key=lambda e: real(e.file) != file):
        tried = _observed([entry], Path(), crew, held)
        seen = [t.request for t in tried if t.request is not None and spec.name in t.classes]
        if seen:
            return seen
        failed += [t for t in tried if t.request is None]
    try:
        return _tried(held, name, "", crew, failed)
    except NothingFound:
        return []


def find_in(place: Path) -> Found:
    """What may be a VAE at or below a place. Runs nothing."""
    from vaelint.discover.structure import find

    return find(place)


def _in_files(files: Sequence[Path]) -> Found:
    """The candidates in some files; where there is none, in the files of the repository that they import. Raises UsageError."""
    from vaelint.discover.proposals import nothing

    found = _together(files)
    if not found.candidates:
        imported = {other for file in files for other in imported_by(file)} - {real(f) for f in files}
        found = _together([*files, *(Path(relative(str(f))) for f in sorted(imported))])
    if not found.candidates:
        raise nothing(found, " and ".join(f.as_posix() for f in files))
    return found


def _together(files: Sequence[Path]) -> Found:
    first, *others = [find_in(f) for f in files]
    for other in others:
        first.candidates += other.candidates
        first.unread += other.unread
        first.files += other.files
    return first


def observed_in(roots: Sequence[Path], folder: Path, crew: Crew, held: Found) -> list[Tried]:
    """The trainings at or below some places, observed; what could not be is said, with what to type.

    `held` are the classes that they may train.
    """
    from vaelint.discover.entries import entries

    if crew.ask is None:
        return []
    vaes, more = frozenset(real(c.file) for c in held.candidates), list[Path]()
    found = [entry for root in roots for entry in entries(root, folder, vaes=vaes, beyond=more.extend)]
    seen = _observed(found, folder, crew, held)
    if more:
        names = ", ".join(Path(relative(str(f))).as_posix() for f in more)
        crew.say(f"not tried, after {len(found)} others: {names}", f"vaelint check {Path(relative(str(more[0]))).as_posix()}")
    return seen


def _observed(found: Sequence[Entry], folder: Path, crew: Crew, held: Found) -> list[Tried]:
    from vaelint.discover.observing import observed

    if crew.ask is None:
        return []
    answers = observed(found, folder, crew.ask, [(c.name, c.file) for c in held.candidates])
    for tried in answers:
        if tried.request is None:
            crew.say(f"{Path(tried.entry.file).as_posix()} was not observed: {' '.join(tried.because.split())}", tried.type_this)
    return answers


def good(seen: Sequence[Tried]) -> list[Tried]:
    """Those that were observed."""
    return [t for t in seen if t.request is not None]


def left_over(structure: Found, seen: Sequence[Tried]) -> Found:
    """The candidates that no training showed: a class is shown by a script that it is in, or that imports its file."""
    shown = {(name, file) for tried in seen for file in imported_by(tried.entry.file) for name in tried.classes}
    structure.candidates = [c for c in structure.candidates if (c.name, real(c.file)) not in shown]
    return structure


def _tried(structure: Found, place: str, folder: str, crew: Crew, seen: Sequence[Tried] = ()) -> list[Request]:
    """What may be checked: trainings that can be observed, and candidates, each tried in a process.

    `folder` is what the user named as the repository, "" for none.
    """
    from vaelint.discover.proposals import Proposal, nothing, requests_of, tried

    proposals, own = list[Proposal](), list[Request]()
    for some in batched(structure.candidates, 2 * crew.jobs):
        new = tried(replace(structure, candidates=some), crew.hired, crew.jobs, folder)
        built = [(p.shape, r) for p in new for r in requests_of([p], folder)]
        ready = [replace(r, unseen=_unseen(s, seen, structure.unread)) for s, r in built]
        if crew.early is not None and ready:
            crew.early(ready)
        proposals += new
        own += ready
    requests = [t.request for t in seen if t.request is not None] + own
    if not requests:
        raise nothing(structure, place)
    for p in proposals:
        if p.request is None:
            crew.say(f"{p.shape.target}: {'no VAE' if p.is_none else 'no way to check it was found'}: {' '.join(p.because.split())}", "")
    for file, why in structure.unread:
        crew.say(f"{file} could not be read: {why}", "")
    return requests


def batched(items: list[Shape], size: int) -> Iterator[list[Shape]]:
    """The items, so many at a time."""
    yield from (items[i : i + size] for i in range(0, len(items), size))


def _unseen(shape: Shape, seen: Sequence[Tried], unread: Sequence[tuple[str, str]]) -> tuple[str, ...]:
    """Of the trainings that may be those of a class and were not observed, that for which most is known: its script, why, what to type.

    `unread`: files that cannot be read, one of which may hold the training.
    """
    failed = [t for t in seen if t.request is None and t.type_this and t.aim in ("", shape.name)]
    own = [t for t in failed if real(shape.file) in imported_by(t.entry.file)]
    best = max(own, key=lambda t: (t.aim == shape.name, t.depth), default=None)
    if best is not None:
        return Path(best.entry.file).as_posix(), " ".join(best.because.split()), best.type_this
    for file, why in unread:
        text = Path(file).read_text(encoding="utf-8", errors="replace")
        if "backward" in text and (shape.file.stem in text or Path(file).parent == shape.file.parent):
            line = re.search(r"line (\d+)\)", why)
            place = f"line {line[1]} of {file}" if line is not None else file
            version = ".".join(map(str, sys.version_info[:2]))
            type_this = f"fix {place}, which Python {version} cannot read, or use the Python that it is for"
            return file, f"it could not be read: {why}", type_this
    return ()
