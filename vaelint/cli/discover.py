"""`vaelint discover`: the VAEs of a repository, each with a way to check it, as tables for the configuration."""

from __future__ import annotations

import os
import shutil
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vaelint.cli import terminal
from vaelint.cli.outcome import EXIT_CLEAN, EXIT_TROUBLE
from vaelint.config import file as config
from vaelint.config.options import Options
from vaelint.core.errors import UsageError
from vaelint.process.front import Worker
from vaelint.process.gate import Hired, default_jobs
from vaelint.report.parts.rows import dumps

if TYPE_CHECKING:
    from vaelint.discover.proposals import Proposal


def discover(said: Options, early: Worker | None = None) -> int:
    """List the VAEs of a folder with a way to check each. Exit code 2: none was found, or one could not be told how to check."""
    from vaelint.discover.proposals import nothing, table, tried, untried
    from vaelint.discover.structure import find

    path = Path(said.path)
    if not path.exists():
        raise UsageError(f"there is no {path.as_posix()}")
    if said.static and said.write:
        raise UsageError("--static proposes nothing that could be written", "leave --static out")
    found = find(path)
    if not found.candidates:
        raise nothing(found, path.as_posix())
    with Hired(early) as hired:
        proposals = untried(found) if said.static else tried(found, hired, said.jobs or default_jobs(), path.as_posix())
    if said.form == "json":
        unread = [{"file": file, "because": why} for file, why in found.unread]
        sys.stdout.write(
            dumps({"schema": 1, "files": found.files, "unread": unread, "candidates": [p.to_json() for p in proposals]}, indent=2)
        )
    elif not said.write:
        print("\n\n".join(table(p, "[[tool.vaelint.targets]]", p.shape.target) for p in proposals))
    words = {"runs": "run as proposed", "open": "without a proposal", "none": "run, but are not VAEs", "untried": "not tried"}
    counts = {state: sum(p.state == state for p in proposals) for state in words}
    tally = ", ".join(f"{n} {words[state]}" for state, n in counts.items() if n)
    terminal.say(f"{terminal.counted(len(proposals), 'candidate')} in {terminal.counted(found.files, 'file')}: {tally}")
    for file, why in found.unread:
        terminal.say(f"{file} could not be read: {why}")
    if said.write:
        _write([p for p in proposals if p.request is not None])
    return EXIT_TROUBLE if counts["open"] or found.unread else EXIT_CLEAN


def _write(proposals: Sequence[Proposal]) -> None:
    """Adds tables at the end of the configuration file in force, else of the pyproject.toml here, else of a new vaelint.toml."""
    from vaelint.discover.proposals import table

    told = config.load()
    shared = Path(config.SHARED_FILE)
    file = told.file or (shared.resolve() if shared.is_file() else Path(config.OWN_FILE).resolve())
    header = "[[targets]]" if file.name == config.OWN_FILE else "[[tool.vaelint.targets]]"
    known = {t.target.partition("(")[0] for t in told.targets}
    new = [p for p in proposals if p.shape.target not in known]
    if not new:
        terminal.say(f"nothing to write: {config.shown(file)} has them all")
        return
    before = file.read_text(encoding="utf-8") if file.is_file() else ""
    tables = [table(p, header, _from(file.parent, p.shape.target)) for p in new]
    after = (before.rstrip("\n") + "\n\n" if before.strip() else "") + "\n\n".join(tables) + "\n"
    try:
        tomllib.loads(after)
    except tomllib.TOMLDecodeError as e:
        raise UsageError(
            f"{config.shown(file)} cannot take further tables: {e}", f"write its targets as {header}, or add the printed ones"
        ) from None
    new_file = file.with_name(f"{file.name}.{os.getpid()}")
    new_file.write_text(after, encoding="utf-8")
    if file.is_file():
        shutil.copymode(file, new_file)
    new_file.replace(file)
    terminal.say(f"{terminal.counted(len(new), 'target')} written to {config.shown(file)}")


def _from(folder: Path, target: str) -> str:
    """A target with its path relative to the configuration's folder."""
    path, _, name = target.rpartition(":")
    return Path(os.path.relpath(Path(path).resolve(), folder)).as_posix() + ":" + name
