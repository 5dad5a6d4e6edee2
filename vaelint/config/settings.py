"""What is in force, and where each value came from: the command line, else the file, else the default. Imports no torch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from vaelint import catalogue
from vaelint.config import keys
from vaelint.config.chosen import Chosen, choose
from vaelint.config.file import Config, shown
from vaelint.core.errors import UsageError
from vaelint.core.inputs import InputSet
from vaelint.core.pages import HOME, home
from vaelint.core.result import Request
from vaelint.process.gate import default_jobs
from vaelint.source.target import parse_init

DEFAULT = "default"
_LINE = {
    "inputs": "--input",
    "init": "--init",
    "loss": "--loss",
    "step": "--step",
    "device": "--device",
    "timeout": "--timeout",
    "max_memory": "--max-memory",
    "perturb": "--perturb",
    "laws": "--laws",
    "allow_no_loss": "--allow-no-loss",
}


@dataclass(frozen=True)
class Setting:
    """A value and where it came from: `default`, a table of the file, or an option."""

    value: Any
    origin: str = DEFAULT


@dataclass(frozen=True)
class Given:
    """What the command line says. None: nothing."""

    input: Sequence[str] | None = None
    init: Sequence[str] | None = None
    loss: str | None = None
    step: str | None = None
    device: str | None = None
    timeout: float | None = None
    select: Sequence[str] | None = None
    ignore: Sequence[str] | None = None
    extend_select: Sequence[str] | None = None
    fail_on: str | None = None
    baseline: Path | None = None
    jobs: int | None = None
    perturb: bool | None = None
    laws: str | None = None
    allow_no_loss: bool | None = None
    max_memory: str | None = None


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


def resolve(names: Sequence[str], config: Config, given: Given) -> Settings:
    """Brings file and command line together, and checks every value before a process is bothered.

    Raises:
        UsageError: a target, a code or a value that cannot be read; says in which option or table it stands.
    """
    top = config.where
    select = _codes(given.select, config.select, "select", top)
    ignore = _codes(given.ignore, config.ignore, "ignore", top)
    more = _codes(given.extend_select, (), "extend-select", top)
    told = _codes(None, config.extend_select, "extend-select", top)
    extend = Setting((*told.value, *more.value), " and ".join(s.origin for s in (told, more) if s.value) or DEFAULT)
    baseline = Setting(None)
    if given.baseline is not None:
        baseline = Setting(given.baseline, "--baseline")
    elif config.baseline is not None:
        baseline = Setting(Path(shown(config.root / config.baseline)), top)
    rules = {"select": _selected(select.value, extend.value), "ignore": ignore.value}
    if ignore.value and not any(Request("", **rules).wants(r.code) for r in catalogue.all_rules()):
        raise UsageError("no rule is left: all that are selected are ignored", "vaelint config shows what is selected and what is ignored")
    return Settings(
        config=config,
        targets=_distinct(_target(c, config, given, rules) for c in choose(names, config)),
        select=select,
        ignore=ignore,
        extend_select=extend,
        fail_on=_first("fail-on", given.fail_on, config.fail_on, "warning", keys.severity, top),
        baseline=baseline,
        jobs=_first("jobs", given.jobs, config.jobs, default_jobs(), keys.whole, top),
        per_file_ignores=Setting(
            tuple((p, catalogue.selectors(words, f"{top} per-file-ignores")) for p, words in config.per_file_ignores),
            top if config.per_file_ignores else DEFAULT,
        ),
        severity=Setting(
            tuple((code, s) for word, s in config.severity for code in catalogue.selectors([word], f"{top} severity")),
            top if config.severity else DEFAULT,
        ),
        docs_url=_first("docs-url", None, config.docs_url, HOME, home, top),
        root=config.root,
    )


def _distinct(targets: Iterable[Target]) -> tuple[Target, ...]:
    return tuple({t.request: t for t in targets}.values())


def _codes(given: Sequence[str] | None, told: Sequence[str], key: str, top: str) -> Setting:
    if given:
        return Setting(catalogue.selectors(given, f"--{key}"), f"--{key}")
    return Setting(catalogue.selectors(told, f"{top} {key}"), top) if told else Setting(())


def _selected(select: tuple[str, ...], more: tuple[str, ...]) -> tuple[str, ...]:
    """What a request selects; empty for the default."""
    return (*(select or (catalogue.defaults() if more else ())), *more)


def _first(key: str, given: Any, told: Any, default: Any, read: Callable[[Any], Any], top: str) -> Setting:
    if given is None:
        return Setting(told, top) if told is not None else Setting(default)
    try:
        return Setting(read(given), f"--{key}")
    except ValueError as e:
        raise UsageError(f"--{key} must be {e}, not {given!r}") from None


def _target(chosen: Chosen, config: Config, given: Given, rules: dict[str, Any]) -> Target:
    """The request with all that is said of it elsewhere."""
    values: dict[str, Any] = {}
    origins = dict.fromkeys((k.field for k in keys.TARGET), DEFAULT)
    for name in ("device", "timeout", "max_memory", "perturb", "laws", "allow_no_loss"):
        if (value := getattr(config, name)) is not None:
            values[name], origins[name] = value, config.where
    for name in config.told[chosen.number - 1] - {"target"} if chosen.number else ():
        values[name], origins[name] = getattr(chosen.request, name), f"{shown(config.file or Path())}: target {chosen.number}"
    for name, option in _LINE.items():
        said = getattr(given, "input" if name == "inputs" else name)
        if said is not None:
            values[name], origins[name] = tuple(said) if isinstance(said, list) else said, option
    done = replace(chosen.request, **values, **rules)
    for name, read in (("timeout", keys.seconds), ("device", keys.device), ("laws", keys.laws), ("max-memory", keys.memory)):
        _first(name, getattr(done, name.replace("-", "_")), None, None, read, config.where)
    InputSet.from_texts(done.inputs)
    parse_init(done.init)
    return Target(done, origins)
