"""How one option is declared: what commands take it, the key of the configuration, the functions of the Python API."""

from __future__ import annotations

from dataclasses import field
from typing import Any, Literal

from vaelint.config.readers import Value
from vaelint.late import dataclass

Kind = Literal["text", "texts", "flag", "switch", "number", "count", "file", "files", "choice"]
"""One text; several; named or not; `--x` and `--no-x`; a number; a whole number; a path; several; one of the `choices`."""


@dataclass(frozen=True)
class Option:
    """How commands take an option. Where commands differ in it, each group of them has an `Option` of its own."""

    name: str  # "--max-memory", "-m"; in capitals for an argument without a name
    commands: str  # the commands that take it, with spaces between
    help: str
    kind: Kind = "text"
    metavar: str | None = None
    short: str = ""
    least: int | None = None
    choices: tuple[str, ...] = ()
    default: str = ""  # of a choice; shown in the help
    variable: str = ""  # of the environment
    required: bool = False
    completes: tuple[str, ...] = ()  # the words that a shell offers; RULES and TARGETS for what there is of them

    @property
    def argument(self) -> bool:
        """Whether it stands without a name."""
        return not self.name.startswith("-")


@dataclass(frozen=True)
class Key:
    """A key of the configuration: what it says at the top and in the table of a target; empty where it may not stand."""

    name: str
    value: Value
    top: str = ""
    target: str = ""


@dataclass(frozen=True)
class Entry:
    """All that is known of an option. `field` is its name in `Options`, and in `Request` where the worker is told of it."""

    field: str
    options: tuple[Option, ...]
    key: Key | None
    python: tuple[str, ...]  # functions of `vaelint` that take an argument of this name, or of that of its key

    def option_of(self, command: str) -> Option | None:
        """How a command takes it; None if it does not."""
        return next((o for o in self.options if command in o.commands.split()), None)


def says(*options: Option, key: Key | None = None, python: str = "", default: Any = None) -> Any:
    """A field of `Options`, with all that is known of the option."""
    return field(default=default, metadata={"said": (options, key, tuple(python.split()))})
