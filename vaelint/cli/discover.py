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
from vaelint.cli.exits import EXIT_CLEAN, EXIT_TROUBLE
from vaelint.config import file as config
from vaelint.config.options import Options
from vaelint.core.checked import Checked
from vaelint.core.errors import UsageError
from vaelint.core.result import Request
from vaelint.discover.folders import Crew, good, left_over, observed_in
from vaelint.process.front import Worker
from vaelint.process.gate import Hired, default_jobs
from vaelint.process.progress import Watched
from vaelint.report.parts.rows import dumps

if TYPE_CHECKING:
    from vaelint.discover.observing import Tried
    from vaelint.discover.proposals import Proposal
    from vaelint.discover.structure import Found


def discover(said: Options, early: Worker | None = None) -> int:
    """List the VAEs of a folder with a way to check each. Exit code 2: none was found, or one could not be told how to check."""
    from vaelint.discover.proposals import nothing, run_table, table, tried, untried
    from vaelint.discover.structure import find

    path = Path(said.path)
    if not path.exists():
        raise UsageError(f"there is no {path.as_posix()}")
    if said.static and said.write:
        raise UsageError("--static proposes nothing that could be written", "leave out --static")
    found = find(path)
    with Hired(early) as hired:
        runs = [] if said.static else _observed(path, found, hired, said.jobs or default_jobs())
        if not found.candidates and not runs:
            raise nothing(found, path.as_posix())
        left_over(found, runs)
        proposals = untried(found) if said.static else tried(found, hired, said.jobs or default_jobs(), path.as_posix())
    if said.form == "json":
        unread = [{"file": file, "because": why} for file, why in found.unread]
        observed = [{"run": list(t.request.run), "target": t.request.target, "classes": sorted(t.classes)} for t in runs if t.request]
        candidates = [p.to_json() for p in proposals]
        sys.stdout.write(dumps({"schema": 1, "files": found.files, "unread": unread, "runs": observed, "candidates": candidates}, indent=2))
    elif not said.write:
        header = "[[tool.vaelint.targets]]"
        print("\n\n".join([*(run_table(t, header) for t in runs), *(table(p, header, p.shape.target) for p in proposals)]))
    words = {"runs": "run as proposed", "open": "without a proposal", "none": "run, but are not VAEs", "untried": "not tried"}
    counts = {state: sum(p.state == state for p in proposals) for state in words}
    trainings = [f"{terminal.counted(len(runs), 'training')} observed"] if runs else []
    tally = ", ".join([*trainings, *(f"{n} {words[state]}" for state, n in counts.items() if n)])
    terminal.say(f"{terminal.counted(len(proposals), 'candidate')} in {terminal.counted(found.files, 'file')}: {tally}")
    for file, why in found.unread:
        terminal.say(f"{file} could not be read: {why}")
    if said.write:
        _write(runs, [p for p in proposals if p.request is not None], path)
    return EXIT_TROUBLE if counts["open"] or found.unread else EXIT_CLEAN


def _observed(path: Path, found: Found, hired: Hired, jobs: int) -> list[Tried]:
    """The trainings of a folder that can be observed; what cannot be is said, with what to type."""
    from vaelint.discover.observing import looked_at

    folder = path if path.is_dir() else Path()

    def ask(requests: Sequence[Request]) -> list[Checked]:
        asked = looked_at(requests)
        with Watched(len(asked)) as eyes:
            return list(hired.worker().run_all(asked, jobs, eyes.on_stage, eyes.on_done))

    return good(observed_in([path], folder, Crew(hired, jobs, ask, terminal.say), found))


def _write(runs: Sequence[Tried], proposals: Sequence[Proposal], folder: Path) -> None:
    """Adds tables at the end of the configuration file in force, else of the pyproject.toml here, else of a new vaelint.toml."""
    from vaelint.discover.proposals import run_table, table

    told = config.load()
    shared = Path(config.SHARED_FILE)
    file = told.file or (shared.resolve() if shared.is_file() else Path(config.OWN_FILE).resolve())
    header = "[[targets]]" if file.name == config.OWN_FILE else "[[tool.vaelint.targets]]"
    known = {t.target.partition("(")[0] for t in told.targets if not t.run}
    commands = {t.run for t in told.targets}
    new = [p for p in proposals if p.shape.target not in known]
    trainings = [t for t in runs if t.request is not None and t.request.run not in commands]
    if trainings and folder.resolve() != file.parent:
        terminal.say(
            f"{config.shown(file)} runs commands in its own folder: the trainings of {folder.as_posix()} are not written",
            f"cd {folder.as_posix()} && vaelint discover --write",
        )
        trainings = []
    if not new and not trainings:
        terminal.say(f"nothing to write: {config.shown(file)} has them all")
        return
    before = file.read_text(encoding="utf-8") if file.is_file() else ""
    tables = [*(run_table(t, header) for t in trainings), *(table(p, header, _from(file.parent, p.shape.target)) for p in new)]
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
    terminal.say(f"{terminal.counted(len(tables), 'target')} written to {config.shown(file)}")


def _from(folder: Path, target: str) -> str:
    """A target with its path relative to the configuration's folder."""
    path, _, name = target.rpartition(":")
    return Path(os.path.relpath(Path(path).resolve(), folder)).as_posix() + ":" + name
