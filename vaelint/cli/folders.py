"""A folder among the words of `vaelint check`: the configured targets below it, else what is discovered there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path

from vaelint.cli import terminal
from vaelint.config.chosen import target_file
from vaelint.config.file import Config
from vaelint.core.result import Request
from vaelint.process.gate import default_jobs


def in_folders(names: Sequence[str], told: Config, jobs: int | None) -> tuple[list[str], Config]:
    """The words with each folder replaced by targets, and the configuration with those that were discovered added to its own.

    A candidate for which no way to check it was found stays a target: it fails, and the exit code says so.

    Raises:
        UsageError: no VAE is found in a folder.
    """
    words: list[str] = []
    found: list[Request] = []
    for name in names:
        folder = Path(name)
        if ":" in name or not folder.is_dir():
            words.append(name)
            continue
        home = folder.resolve()
        files = [(t, target_file(t, told.root)) for t in told.targets]
        below = [t.target for t, file in files if file is not None and file.is_relative_to(home)]
        if not below:
            new = _discovered(folder, jobs)
            found += new
            below = [r.target for r in new]
        words += below
    defaults = Request("")
    said = [frozenset(f.name for f in fields(Request) if getattr(r, f.name) != getattr(defaults, f.name)) for r in found]
    return words, replace(told, targets=(*told.targets, *found), told=(*told.told, *said))


def _discovered(folder: Path, jobs: int | None) -> list[Request]:
    from vaelint.discover.proposals import nothing, requests_of, tried
    from vaelint.discover.structure import find

    structure = find(folder)
    proposals = tried(structure, jobs or default_jobs(), folder.as_posix()) if structure.candidates else []
    requests = requests_of(proposals, folder.as_posix())
    if not requests:
        raise nothing(structure, folder.as_posix())
    for p in proposals:
        if p.request is None:
            terminal.say(f"{p.shape.target}: {'no VAE' if p.is_none else 'no way to check it was found'}: {' '.join(p.because.split())}")
    for file, why in structure.unread:
        terminal.say(f"{file} could not be read: {why}")
    return requests
