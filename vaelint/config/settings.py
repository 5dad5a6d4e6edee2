"""What is in force, and where each value came from: the command line, else the file, else the default. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import field, replace
from pathlib import Path
from typing import Any

from vaelint import catalogue
from vaelint.config import keys, readers
from vaelint.config.chosen import Chosen, choose
from vaelint.config.file import Config, shown
from vaelint.config.options import Options
from vaelint.core.errors import ConfigurationError, UsageError
from vaelint.core.inputs import InputSet
from vaelint.core.pages import HOME
from vaelint.core.result import Request
from vaelint.late import dataclass
from vaelint.process.gate import default_jobs
from vaelint.source.target import parse_init

DEFAULT = "default"


@dataclass(frozen=True)
class Setting:
    """A value and where it came from: `default`, a table of the file, or an option."""

    value: Any
    origin: str = DEFAULT


@dataclass(frozen=True)
class Target:
    """A target as it will be checked, and the origin of each of its values, by field."""

    request: Request
    origins: Mapping[str, str]


@dataclass(frozen=True)
class Settings:
    """What is in force for a run."""

    config: Config
    targets: tuple[Target, ...]
    select: Setting
    ignore: Setting
    extend_select: Setting
    fail_on: Setting
    baseline: Setting  # a Path relative to the working directory, or None
    jobs: Setting
    per_file_ignores: Setting  # ((pattern, selectors), ...)
    severity: Setting  # ((selector, severity), ...)
    docs_url: Setting  # where vaelint's own pages are
    root: Path = field(default_factory=Path.cwd)
    comments: bool = True  # whether suppression comments count

    @property
    def rules(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """What a request selects, and what it ignores."""
        return _selected(self.select.value, self.extend_select.value), self.ignore.value

    @property
    def requests(self) -> list[Request]:
        """What the worker is asked."""
        return [t.request for t in self.targets]


def resolve(names: Sequence[str], config: Config, said: Options) -> Settings:
    """Brings file and command line together, and checks every value before a process is bothered.

    Args:
        names: the targets that the command line names.
        config: the file.
        said: what the command line says of them.

    Raises:
        UsageError: a target, a code or a value that cannot be read; says in which option or table it stands.
    """
    top, where = config.top, config.where
    select = _codes(said.select, top.select, "select", config)
    ignore = _codes(said.ignore, top.ignore, "ignore", config)
    more = _codes(said.extend_select, None, "extend-select", config)
    told = _codes(None, top.extend_select, "extend-select", config)
    extend = Setting((*told.value, *more.value), " and ".join(s.origin for s in (told, more) if s.value) or DEFAULT)
    baseline = Setting(None)
    if said.baseline is not None:
        baseline = Setting(Path(said.baseline), "--baseline")
    elif top.baseline is not None:
        baseline = Setting(Path(shown(config.root / top.baseline)), where)
    rules = {"select": _selected(select.value, extend.value), "ignore": ignore.value}
    if ignore.value and not any(Request("", **rules).wants(r.code) for r in catalogue.all_rules()):
        raise UsageError(
            "every selected rule is ignored, so none is left to run", "vaelint config shows the selected and the ignored rules"
        )
    return Settings(
        config=config,
        targets=_distinct(_target(c, config, said, rules) for c in choose(names, config)),
        select=select,
        ignore=ignore,
        extend_select=extend,
        fail_on=_first("fail_on", said, config, "warning"),
        baseline=baseline,
        jobs=_first("jobs", said, config, default_jobs()),
        per_file_ignores=Setting(
            tuple((p, _told(words, "per-file-ignores", config)) for p, words in top.per_file_ignores or ()),
            where if top.per_file_ignores else DEFAULT,
        ),
        severity=Setting(
            tuple((code, s) for word, s in top.severity or () for code in _told([word], "severity", config)),
            where if top.severity else DEFAULT,
        ),
        docs_url=_first("docs_url", said, config, HOME),
        root=config.root,
    )


def _distinct(targets: Iterable[Target]) -> tuple[Target, ...]:
    return tuple({t.request: t for t in targets}.values())


def _codes(said: Sequence[str] | None, told: Sequence[str] | None, key: str, config: Config) -> Setting:
    if said:
        return Setting(catalogue.selectors(said, f"--{key}"), f"--{key}")
    return Setting(_told(told, key, config), config.where) if told else Setting(())


def _told(words: Sequence[str], key: str, config: Config) -> tuple[str, ...]:
    """Rules as a key of the file names them. Raises ConfigurationError."""
    try:
        return catalogue.selectors(words, f"{config.where} {key}")
    except UsageError as e:
        raise ConfigurationError(e.message, e.help, file=config.file or Path(), key=key) from None


def _selected(select: tuple[str, ...], more: tuple[str, ...]) -> tuple[str, ...]:
    """What a request selects; empty for the default."""
    return (*(select or (catalogue.defaults() if more else ())), *more)


def _first(name: str, said: Options, config: Config, default: Any) -> Setting:
    """The value of the command line, else of the top of the file, else the default."""
    value, told = getattr(said, name), getattr(config.top, name)
    if value is not None:
        return _of_line(name, value)
    return Setting(told, config.where) if told is not None else Setting(default)


def _of_line(name: str, value: Any) -> Setting:
    """A value that the command line gives. Raises UsageError for one that cannot be read."""
    key = next(k for k in (*keys.TARGET, *keys.TOP) if k.field == name)
    try:
        return Setting(key.read(value), f"--{key.name}")
    except ValueError as e:
        meant = " or ".join(f"--{key.name} {word}" for word in readers.meant(value))
        raise UsageError(f"--{key.name} must be {e}, not {value!r}", f"write {meant}" if meant else "") from None


def _target(chosen: Chosen, config: Config, said: Options, rules: dict[str, Any]) -> Target:
    """The request with all that is said of it elsewhere."""
    values: dict[str, Any] = {}
    origins = dict.fromkeys((k.field for k in keys.TARGET), DEFAULT)
    for name in keys.BOTH:
        if (told := getattr(config.top, name)) is not None:
            values[name], origins[name] = told, config.where
    for name in config.told[chosen.number - 1] - {"target"} if chosen.number else ():
        values[name], origins[name] = getattr(chosen.request, name), f"{shown(config.file or Path())}: target {chosen.number}"
    for key in keys.TARGET:
        if key.name not in ("target", "run") and (value := getattr(said, key.field)) is not None:
            given = _of_line(key.field, value)
            values[key.field], origins[key.field] = given.value, given.origin
    done = replace(chosen.request, **values, **rules)
    InputSet.from_texts(done.inputs)
    parse_init(done.init)
    return Target(done, origins)
