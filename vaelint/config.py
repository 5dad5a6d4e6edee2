"""`[tool.vaelint]` of the nearest pyproject.toml: options, and one table per target. Imports no torch.

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
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from vaelint.errors import UsageError
from vaelint.result import Request
from vaelint.target import parse_target

FAIL_ON = ("info", "warning", "error")


@dataclass(frozen=True)
class Config:
    """What the file says. `None` and empty mean: not said."""

    file: Path | None = None
    select: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    extend_select: tuple[str, ...] = ()
    fail_on: str | None = None
    timeout: float | None = None
    device: str | None = None
    targets: tuple[Request, ...] = ()
    told: tuple[frozenset[str], ...] = field(default=())  # per target, the fields its table set

    @property
    def root(self) -> Path:
        """The folder that paths in the file are relative to."""
        return self.file.parent if self.file else Path.cwd()


def load(start: Path | None = None) -> Config:
    """The nearest pyproject.toml at or above `start` that has a `[tool.vaelint]`; an empty Config where there is none.

    Raises:
        UsageError: not TOML, an unknown key, or a value of the wrong type.
    """
    start = (start or Path.cwd()).resolve()
    for folder in (start, *start.parents):
        file = folder / "pyproject.toml"
        if not file.is_file():
            continue
        try:
            table = tomllib.loads(file.read_text(encoding="utf-8")).get("tool", {}).get("vaelint")
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as e:
            raise UsageError(f"cannot read {_shown(file)}: {e}") from None
        if table is not None:
            return _read(table, file)
    return Config()


def _shown(file: Path) -> str:
    return os.path.relpath(file) if file.is_relative_to(Path.cwd().resolve()) else str(file)


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError("a text")
    return value


def _texts(value: Any) -> tuple[str, ...]:
    if isinstance(value, str):
        return (value,)
    if not isinstance(value, list) or not all(isinstance(v, str) for v in value):
        raise ValueError("a text or a list of texts")
    return tuple(value)


def _seconds(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or value <= 0:
        raise ValueError("a number of seconds above 0")
    return float(value)


def _inputs(value: Any) -> tuple[str, ...]:
    if isinstance(value, dict) and all(isinstance(v, str) for v in value.values()):
        return tuple(f"{k}={v}" for k, v in value.items())
    try:
        return _texts(value)
    except ValueError:
        raise ValueError('a text such as "32x784", a list of such, or a table of them by name') from None


def _init(value: Any) -> tuple[str, ...]:
    if isinstance(value, dict):
        return tuple(f"{k}={v!r}" for k, v in value.items())
    try:
        return _texts(value)
    except ValueError:
        raise ValueError('a table such as {latent_dim = 20}, or a list of "key=value"') from None


def _fail_on(value: Any) -> str:
    if value not in FAIL_ON:
        raise ValueError("one of " + ", ".join(f'"{v}"' for v in FAIL_ON))
    return str(value)


def check_device(value: Any) -> str:
    """`auto`, `cuda`, `cuda:1`, `cpu` or `none`. Raises ValueError that says so."""
    text = str(value)
    if text in ("auto", "cuda", "cpu", "none") or (text.startswith("cuda:") and text[5:].isdigit()):
        return text
    raise ValueError("auto, cuda, cuda:NUMBER, cpu or none")


# Key in the file -> (field, reader). A reader raises ValueError with what is wanted.
_TOP: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "select": ("select", _texts),
    "ignore": ("ignore", _texts),
    "extend-select": ("extend_select", _texts),
    "fail-on": ("fail_on", _fail_on),
    "timeout": ("timeout", _seconds),
    "device": ("device", check_device),
}
_TARGET: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "target": ("target", _text),
    "input": ("inputs", _inputs),
    "init": ("init", _init),
    "loss": ("loss", _text),
    "step": ("step", _text),
    "device": ("device", check_device),
    "timeout": ("timeout", _seconds),
}


def _read(table: Any, file: Path) -> Config:
    if not isinstance(table, dict):
        raise UsageError(f"{_shown(file)}: [tool.vaelint] must be a table")
    tables = table.get("targets", [])
    if not isinstance(tables, list) or not all(isinstance(t, dict) for t in tables):
        raise UsageError(f"{_shown(file)}: targets must be a list of tables", "write [[tool.vaelint.targets]], with two brackets")
    top = _fields({k: v for k, v in table.items() if k != "targets"}, _TOP, f"{_shown(file)}: [tool.vaelint]", extra=("targets",))
    targets, told = [], []
    for number, entry in enumerate(tables, 1):
        where = f"{_shown(file)}: [[tool.vaelint.targets]] number {number}"
        values = _fields(entry, _TARGET, where)
        if "target" not in values:
            raise UsageError(f"{where}: no target", 'write target = "model.py:VAE"')
        told.append(frozenset(values))
        values["target"] = _from_here(values["target"], file.parent, where)
        defaults = {k: top[k] for k in ("timeout", "device") if k in top}
        targets.append(Request(**(defaults | values)))
    return Config(file=file, targets=tuple(targets), told=tuple(told), **top)


def _fields(
    table: Mapping[str, Any], known: Mapping[str, tuple[str, Callable[[Any], Any]]], where: str, extra: tuple[str, ...] = ()
) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for key, value in table.items():
        if key not in known:
            near = difflib.get_close_matches(key, [*known, *extra], n=1, cutoff=0.5)
            help = f"did you mean {near[0]!r}?" if near else "known: " + ", ".join([*known, *extra])
            raise UsageError(f"{where}: unknown key {key!r}", help)
        field_name, read = known[key]
        try:
            values[field_name] = read(value)
        except ValueError as e:
            raise UsageError(f"{where}: {key} must be {e}, not {value!r}") from None
    return values


def _from_here(target: str, root: Path, where: str) -> str:
    """The target with its path relative to the working directory, as users see paths everywhere."""
    try:
        spec = parse_target(target)
    except UsageError as e:
        raise UsageError(f"{where}: {e.message}", e.help) from None
    if spec.path is None:
        return target
    return Path(os.path.relpath(root / spec.path)).as_posix() + target[len(spec.path) :]


def target_file(request: Request, root: Path) -> Path | None:
    """The file that holds a target, resolved; None for a module that is not below `root`."""
    spec = parse_target(request.target)
    if spec.path is not None:
        return Path(spec.path).resolve()
    relative = Path(*(spec.module or "").split("."))
    for base in (root, root / "src"):
        for file in (base / relative.with_suffix(".py"), base / relative / "__init__.py"):
            if file.is_file():
                return file.resolve()
    return None


def requests_for(names: Sequence[str], config: Config) -> list[Request]:
    """The targets that the command line's words stand for.

    A word with a `:` is a target; options of a configured target of the same name apply to it. A plain file, as pre-commit
    passes it, stands for the configured targets that it may change: those in it, and those in its folder or below, which may
    import it. No words: all configured targets.

    Raises:
        UsageError: a target that cannot be read, or a file that does not exist.
    """
    if not names:
        return list(config.targets)
    found: list[Request] = []
    for name in names:
        if name.endswith((".py", ".ipynb")) and ":" not in name:
            if not Path(name).is_file():
                raise UsageError(f"there is no file {name}")
            new = _touched(Path(name).resolve(), config)
        else:
            parse_target(name)
            new = [next((t for t in config.targets if _same(t.target, name)), Request(name))]
            new = [replace(new[0], target=name)]
        found += [r for r in new if r not in found]
    return found


def _touched(file: Path, config: Config) -> list[Request]:
    homes = [(t, target_file(t, config.root)) for t in config.targets]
    own = [t for t, home in homes if home == file]
    return own or [t for t, home in homes if home is None or home.is_relative_to(file.parent)]


def _same(configured: str, told: str) -> bool:
    """Whether two target texts name one object, whatever their constructor arguments and the spelling of the path."""
    a, b = parse_target(configured), parse_target(told)
    if b.init or a.name != b.name or a.module != b.module:
        return False
    return a.path is None or b.path is None or Path(a.path).resolve() == Path(b.path).resolve()
