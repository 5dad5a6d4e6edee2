"""The configuration file: `vaelint.toml`, or `[tool.vaelint]` of pyproject.toml, whichever is nearest. Imports no torch.

[tool.vaelint]
fail-on = "error"

[[tool.vaelint.targets]]
target = "src/model.py:VAE(latent_dim=20)"
input = "32x784"
"""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vaelint.config.keys import BOTH, TARGET, TOP, Place
from vaelint.config.options import Options
from vaelint.core.errors import UsageError
from vaelint.core.result import Request
from vaelint.source.target import parse_target

OWN_FILE, SHARED_FILE = "vaelint.toml", "pyproject.toml"


@dataclass(frozen=True)
class Config:
    """What the file says."""

    file: Path | None = None
    top: Options = field(default_factory=Options)
    targets: tuple[Request, ...] = ()
    told: tuple[frozenset[str], ...] = ()  # per target, the fields its table set

    @property
    def root(self) -> Path:
        """The folder that paths in the file are relative to."""
        return self.file.parent if self.file else Path.cwd()

    @property
    def where(self) -> str:
        """The table, as messages name it: `pyproject.toml: [tool.vaelint]`."""
        return _table(self.file) if self.file else ""


def load(start: Path | None = None) -> Config:
    """The configuration nearest at or above `start`; an empty Config where there is none.

    In one folder, vaelint.toml comes before pyproject.toml; a pyproject.toml without `[tool.vaelint]` is passed over.

    Raises:
        UsageError: not TOML, an unknown key, or a value that cannot be read.
    """
    start = (start or Path.cwd()).resolve()
    for folder in (start, *start.parents):
        for file in (folder / OWN_FILE, folder / SHARED_FILE):
            if file.is_file() and (table := _parsed(file)) is not None:
                return _read(table, file)
    return Config()


def _parsed(file: Path) -> Any:
    """The table in the file; None if it has none."""
    try:
        table: Any = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as e:
        raise UsageError(f"cannot read {shown(file)}: {e}") from None
    if file.name == OWN_FILE:
        return table
    tool = table.get("tool", {})
    return tool.get("vaelint") if isinstance(tool, dict) else None


def shown(file: Path) -> str:
    """A file as the user sees it from the working directory."""
    return os.path.relpath(file) if file.is_relative_to(Path.cwd().resolve()) else str(file)


def _table(file: Path) -> str:
    return shown(file) if file.name == OWN_FILE else f"{shown(file)}: [tool.vaelint]"


def _read(table: Any, file: Path) -> Config:
    header = "targets" if file.name == OWN_FILE else "tool.vaelint.targets"
    if not isinstance(table, dict):
        raise UsageError(f"{_table(file)} must be a table")
    if file.name == OWN_FILE and set(table) == {"tool"}:
        raise UsageError(f"{_table(file)}: unknown key 'tool'", "in this file the keys go at the top level, without [tool.vaelint]")
    tables = table.get("targets", [])
    if not isinstance(tables, list) or not all(isinstance(t, dict) for t in tables):
        raise UsageError(f"{shown(file)}: targets must be a list of tables", f"write [[{header}]], with two brackets")
    top = _fields({k: v for k, v in table.items() if k != "targets"}, TOP, _table(file), extra=("targets",))
    targets, told = [], []
    for number, entry in enumerate(tables, 1):
        where = f"{shown(file)}: [[{header}]] number {number}"
        values = _fields(entry, TARGET, where)
        if "run" in values:
            values |= _command_of(values, file.parent, where)
        elif "target" not in values:
            raise UsageError(f"{where}: no target", 'write target = "model.py:VAE", or run = "train.py --epochs 1"')
        else:
            values["target"] = _from_here(values["target"], file.parent)
        told.append(frozenset(values) - {"folder"})
        defaults = {k: top[k] for k in BOTH if k in top}
        targets.append(Request(**(defaults | values)))
    return Config(file=file, targets=tuple(targets), told=tuple(told), top=Options(**top))


def _command_of(values: Mapping[str, Any], root: Path, where: str) -> dict[str, Any]:
    """The target and the folder of a command, which runs in that of the configuration. Raises UsageError."""
    if extra := sorted({"target", "inputs", "init", "loss", "step", "perturb"} & set(values)):
        raise UsageError(f"{where}: run and {extra[0]} contradict each other", "a command already says what it trains, and with what")
    words = values["run"]
    script = f"{words[1].replace('.', '/')}.py" if words[0] == "-m" else words[0]
    if words[0] != "-m" and not (root / script).is_file():
        raise UsageError(f"{where}: there is no file {script}", 'write run = "train.py --epochs 1"')
    return {"target": Path(os.path.relpath(root / script)).as_posix(), "folder": "" if root == Path.cwd() else str(root)}


def _fields(table: Mapping[str, Any], keys: Sequence[Place], where: str, extra: tuple[str, ...] = ()) -> dict[str, Any]:
    known = {k.name: k for k in keys}
    values: dict[str, Any] = {}
    for name, value in table.items():
        if name not in known:
            near = difflib.get_close_matches(name.replace("_", "-"), [*known, *extra], n=1, cutoff=0.5)
            help = f"did you mean {near[0]!r}?" if near else "known: " + ", ".join([*known, *extra])
            raise UsageError(f"{where}: unknown key {name!r}", help)
        try:
            values[known[name].field] = known[name].read(value)
        except ValueError as e:
            raise UsageError(f"{where}: {name} must be {e}, not {value!r}") from None
        except UsageError as e:  # readers shared with the command line speak of its options
            raise UsageError(f"{where}: {e.message.removeprefix('--')}", e.help) from None
    return values


def _from_here(target: str, root: Path) -> str:
    """The target with its path relative to the working directory, as users see paths everywhere."""
    spec = parse_target(target)
    if spec.path is None:
        return target
    return Path(os.path.relpath(root / spec.path)).as_posix() + target[len(spec.path) :]
