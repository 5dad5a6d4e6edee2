"""Which targets the words of a command line stand for. Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from vaelint.config.closure import imported_by
from vaelint.config.file import Config
from vaelint.core.errors import UsageError
from vaelint.core.launchers import is_script
from vaelint.core.paths import real
from vaelint.core.result import Request
from vaelint.late import dataclass
from vaelint.source.target import parse_target


@dataclass(frozen=True)
class Chosen:
    """A target that will be checked, and the number of its table in the file, from 1 on; 0 if it has none."""

    request: Request
    number: int = 0


def choose(names: Sequence[str], config: Config) -> list[Chosen]:
    """The targets that the command line's words stand for.

    A word with a `:` is a target; options of the configured targets of the same name apply to it. A plain file, as pre-commit
    passes it, stands for the configured targets that it may change: those in it, those that import it, and, unless it holds
    one itself, those in its folder or below, which may import it in ways that cannot be read. The file of the configuration stands
    for all of them, another one of its kind for none. No words: all configured targets.

    Raises:
        UsageError: a target that cannot be read, or a file that does not exist.
    """
    configured = [Chosen(t, number) for number, t in enumerate(config.targets, 1)]
    if not names:
        return configured
    found: list[Chosen] = []
    for name in names:
        if (name.endswith(".toml") or is_script(name)) and ":" not in name:
            if not Path(name).is_file():
                raise UsageError(f"there is no file {name}")
            new = _touched(real(name), configured, config)
        else:
            parse_target(name)
            named = [c for c in configured if not c.request.run and is_same(c.request.target, name)]
            same = [replace(c, request=replace(c.request, target=name)) for c in named]
            new = same or [Chosen(Request(name))]
        found += [c for c in new if c not in found]
    return found


def _touched(file: Path, configured: Sequence[Chosen], config: Config) -> list[Chosen]:
    if file.suffix == ".toml":
        return list(configured) if config.file is not None and file == real(config.file) else []
    homes = [(c, target_file(c.request, config.root)) for c in configured]
    importing = {home for _, home in homes if home is not None and file in imported_by(home)}
    if any(home == file for _, home in homes):
        return [c for c, home in homes if home in importing]
    return [c for c, home in homes if home is None or home in importing or home.is_relative_to(file.parent)]


def target_file(request: Request, root: Path) -> Path | None:
    """The file that holds a target, resolved; None for a module that is not below `root`."""
    if request.run:
        return real(Path(request.target))
    spec = parse_target(request.target)
    if spec.path is not None:
        return real(spec.path)
    relative = Path(*(spec.module or "").split("."))
    for base in (root, root / "src"):
        for file in (base / relative.with_suffix(".py"), base / relative / "__init__.py"):
            if file.is_file():
                return real(file)
    return None


def is_same(configured: str, told: str) -> bool:
    """Whether two target texts name one object, whatever their constructor arguments and the spelling of the path."""
    a, b = parse_target(configured), parse_target(told)
    if b.init or a.name != b.name or a.module != b.module:
        return False
    return a.path is None or b.path is None or real(a.path) == real(b.path)
