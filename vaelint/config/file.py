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
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import field
from pathlib import Path
from typing import Any

from vaelint.config.keys import BOTH, TARGET, TOP, Place
from vaelint.config.options import Options
from vaelint.core.errors import ConfigurationError, UsageError
from vaelint.core.result import Request
from vaelint.late import dataclass
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


@dataclass(frozen=True)
class _Place:
    """A table of the file, and how messages name it."""

    file: Path
    number: int  # 0 for the keys at the top, N for the N-th target
    words: str

    def error(self, message: str, help: str = "", key: str = "") -> ConfigurationError:
        """What is wrong in it."""
        return ConfigurationError(f"{self.words}: {message}", help, file=self.file, table=self.number, key=key)


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
        at = re.search(r"at line (\d+)", str(e))
        raise ConfigurationError(f"cannot read {shown(file)}: {e}", file=file, line=int(at[1]) if at else 1) from None
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
        raise ConfigurationError(f"{_table(file)} must be a table", file=file)
    if file.name == OWN_FILE and set(table) == {"tool"}:
        help = "in this file the keys go at the top level, without [tool.vaelint]"
        raise ConfigurationError(f"{_table(file)}: unknown key 'tool'", help, file=file)
    tables = table.get("targets", [])
    if not isinstance(tables, list) or not all(isinstance(t, dict) for t in tables):
        help = f"write [[{header}]], with two brackets"
        raise ConfigurationError(f"{shown(file)}: targets must be a list of tables", help, file=file, key="targets")
    place = _Place(file, 0, _table(file))
    top = _fields({k: v for k, v in table.items() if k != "targets"}, TOP, place, extra=("targets",))
    targets, told = [], []
    for number, entry in enumerate(tables, 1):
        place = _Place(file, number, f"{shown(file)}: [[{header}]] number {number}")
        values = _fields(entry, TARGET, place)
        if "run" in values:
            values |= _command_of(values, file.parent, place)
        elif "target" not in values:
            raise place.error("no target", 'write target = "model.py:VAE", or run = "train.py --epochs 1"')
        else:
            values["target"] = _from_here(values["target"], file.parent)
        told.append(frozenset(values) - {"folder"})
        defaults = {k: top[k] for k in BOTH if k in top}
        targets.append(Request(**(defaults | values)))
    return Config(file=file, targets=tuple(targets), told=tuple(told), top=Options(**top))


def _command_of(values: Mapping[str, Any], root: Path, place: _Place) -> dict[str, Any]:
    """The target and the folder of a command, which runs in that of the configuration. Raises UsageError."""
    if extra := sorted({"target", "inputs", "init", "loss", "step", "perturb"} & set(values)):
        raise place.error(f"run and {extra[0]} contradict each other", "a command already says what it trains, and with what", extra[0])
    words = values["run"]
    script = f"{words[1].replace('.', '/')}.py" if words[0] == "-m" else words[0]
    if words[0] != "-m" and not (root / script).is_file():
        raise place.error(f"there is no file {script}", f"paths start at the folder of the configuration, {root}", "run")
    return {"target": Path(os.path.relpath(root / script)).as_posix(), "folder": "" if root == Path.cwd() else str(root)}


def _fields(table: Mapping[str, Any], keys: Sequence[Place], place: _Place, extra: tuple[str, ...] = ()) -> dict[str, Any]:
    known = {k.name: k for k in keys}
    values: dict[str, Any] = {}
    for name, value in table.items():
        if name not in known:
            near = difflib.get_close_matches(name.replace("_", "-"), [*known, *extra], n=1, cutoff=0.5)
            help = f"did you mean {near[0]!r}?" if near else "known: " + ", ".join([*known, *extra])
            raise place.error(f"unknown key {name!r}", help, name)
        try:
            values[known[name].field] = known[name].read(value)
        except ValueError as e:
            raise place.error(f"{name} must be {e}, not {value!r}", "", name) from None
        except UsageError as e:  # readers shared with the command line speak of its options
            raise place.error(e.message.removeprefix("--"), e.help, name) from None
    return values


def _from_here(target: str, root: Path) -> str:
    """The target with its path relative to the working directory, as users see paths everywhere."""
    spec = parse_target(target)
    if spec.path is None:
        return target
    return Path(os.path.relpath(root / spec.path)).as_posix() + target[len(spec.path) :]
