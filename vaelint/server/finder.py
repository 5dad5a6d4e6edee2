"""Which targets read a file: those of the configuration, else those that are discovered in it. Imports no torch."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import field, replace
from pathlib import Path

from vaelint.cache.reads import Reads
from vaelint.config import file as config
from vaelint.config.options import Options
from vaelint.config.settings import Settings, Target, resolve
from vaelint.core.checked import Checked
from vaelint.core.errors import NothingFound
from vaelint.core.paths import real, relative
from vaelint.core.result import Request
from vaelint.discover.folders import Crew, find_in, in_folders
from vaelint.late import dataclass
from vaelint.process.gate import Hired

Say = Callable[[str, str], None]
Signature = tuple[tuple[str, str], ...]


@dataclass
class _Discovered:
    """What was discovered in a file, and the classes that it had then."""

    classes: Signature
    config: config.Config
    words: list[str] = field(default_factory=list)


class Finder:
    """Finds the targets of a file, and remembers what it discovered."""

    def __init__(self, hired: Hired, say: Say) -> None:
        self._hired, self._say = hired, say
        self._discovered: dict[str, _Discovered] = {}

    def settings_for(self, file: str, known: Mapping[Request, Checked]) -> list[Settings]:
        """What is to be checked because of a file that was opened or saved, and how; empty where it concerns no target.

        Where a target was checked before, the files that its process read decide; else what the sources say of their imports does.

        Args:
            known: the last result of each request.

        Raises:
            UsageError: the configuration is wrong, or says where with ConfigurationError; torch cannot be imported.
        """
        path = Path(file)
        told = config.load(path.parent)
        if path.suffix == ".toml":
            concerned = told.file is not None and real(told.file) == real(path)
            return [asking(resolve([], told, Options()))] if concerned and told.targets else []
        if not told.targets:
            self._discover(path, told, known)
            return list(self._reading(path, known))
        every = asking(resolve([], told, Options()))
        near = set(asking(resolve([relative(file)], told, Options())).requests)
        found = [t for t in every.targets if _reads(t.request, str(real(path)), known, t.request in near)]
        return [replace(every, targets=tuple(found))] if found else []

    def _discover(self, path: Path, told: config.Config, known: Mapping[Request, Checked]) -> None:
        """What `vaelint check FILE` would discover in it, without the trainings: a script is not run because it is looked at."""
        name = relative(str(path))
        before = self._discovered.get(name)
        classes = tuple((c.name, str(c.file)) for c in find_in(path).candidates)
        if before is None or (classes and (classes != before.classes or self._failed(before, known))):
            try:
                words, held = in_folders([name], told, Crew(self._hired, 1, None, self._say))
            except NothingFound:
                return
            self._discovered[name] = _Discovered(classes, held, words)

    def _reading(self, path: Path, known: Mapping[Request, Checked]) -> Iterator[Settings]:
        """The targets that were discovered in a file, and those in others that read it."""
        file = str(real(path))
        for name, found in self._discovered.items():
            if not found.words:
                continue
            every = asking(resolve(found.words, found.config, Options()))
            targets = [t for t in every.targets if _reads(t.request, file, known, False)] if str(real(name)) != file else every.targets
            if targets:
                yield replace(every, targets=tuple(targets))

    def _failed(self, found: _Discovered, known: Mapping[Request, Checked]) -> bool:
        """Whether a way to check that was discovered does not work any more."""
        asked = asking(resolve(found.words, found.config, Options())).requests
        return any(r in known and known[r].result.status == "failed" for r in asked)


def asking(settings: Settings) -> Settings:
    """The settings with what an editor shows asked for as well: each expression's shape, and edits that mend what is found."""
    fixes = [t.request.device != "none" for t in settings.targets]  # a repair is held against a real pass
    asked = [replace(t.request, trail="with", fixes=f) for t, f in zip(settings.targets, fixes, strict=True)]
    return replace(settings, targets=tuple(replace(t, request=r) for t, r in zip(settings.targets, asked, strict=True)))


def files_of(checked: Checked) -> frozenset[str] | None:
    """The files that a result was made from, resolved; None where its process did not live to say it."""
    reads = Reads.from_json(checked.reads)
    return frozenset(os.path.realpath(f) for f in (*reads.files, *reads.lacks)) if reads is not None else None


def _reads(request: Request, file: str, known: Mapping[Request, Checked], near: bool) -> bool:
    files = files_of(known[request]) if request in known else None
    return near if files is None or not known[request].result.whole else file in files


def number_of(target: Target, settings: Settings) -> int:
    """The number of a target's table in the configuration; 0 for one that was discovered."""
    told: Sequence[Request] = settings.config.targets if settings.config.file is not None else ()
    names = [(t.target, t.run) for t in told]
    wanted = (target.request.target, target.request.run)
    return names.index(wanted) + 1 if wanted in names else 0
