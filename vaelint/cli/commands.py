"""Makes the commands of the command line out of the one table of options. Imports no torch."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from vaelint.cli.completion import Rules, offered
from vaelint.config.declared import Option
from vaelint.config.options import TABLE, Options
from vaelint.process.front import Worker

Command = Callable[[Options, Worker | None], int | None]
"""What a command does with what was said, and with the worker that was started before; its docstring is the help."""

EXAMPLES = {
    "check": "vaelint check model.py:VAE --input 32x784",
    "discover": "vaelint discover src/ --write",
    "trace": "vaelint trace model.py:VAE --input 32x784 --output-format html:trace.html",
    "annotate": "vaelint annotate model.py:VAE --input 32x784 | git apply",
    "config": "vaelint config model.py:VAE --input 32x784",
    "rules": "vaelint rules --output-format markdown",
    "explain": "vaelint explain VAE201",
    "merge-sarif": "vaelint merge-sarif part-1.sarif part-2.sarif --output-file all.sarif",
    "run": "vaelint run train.py --epochs 1",
    "server": "vaelint server --stdio",
}
"""One line of each command, as the end of its help shows it."""


def command(app: typer.Typer, name: str, act: Command, known: Rules, **settings: Any) -> None:
    """Adds a command that takes all the options which the table gives to it; `known` are the rules that a shell offers."""
    takes = [(e.field, o) for e in TABLE if (o := e.option_of(name)) is not None]

    def called(context: typer.Context, **words: Any) -> int | None:
        return act(Options(**{field: _plain(words[field], option) for field, option in takes}), context.obj)

    context = inspect.Parameter("context", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)
    parameters = [context, *(_parameter(field, option, known) for field, option in takes)]
    called.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # typer reads it in place of the real one
    called.__annotations__ = {p.name: p.annotation for p in parameters}
    called.__doc__ = act.__doc__
    app.command(name, cls=_Named, context_settings=settings or None, epilog=f"Example: {EXAMPLES[name]}")(called)


class _Named(TyperCommand):
    """A command whose own options end with `-m MODULE`, as Python's do: what follows is the module's."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """As it is written, with `--` after the module where there is none."""
        takes = {name: p for p in self.params for name in (*p.opts, *p.secondary_opts)}
        place = 0
        while place < len(args) and args[place].startswith("-") and args[place] != "--":
            if args[place] == "-m" and "-m" in takes:
                args = [*args[: place + 2], "--", *args[place + 2 :]] if args[place + 2 : place + 3] != ["--"] else args
                break
            known = takes.get(args[place])
            alone = "=" in args[place] or known is None or getattr(known, "is_flag", False) or getattr(known, "count", False)
            place += 1 if alone else 2
        return super().parse_args(ctx, args)


def _parameter(field: str, option: Option, known: Rules) -> inspect.Parameter:
    """An option as typer reads it."""
    kind, default = _kind(field, option)
    how: dict[str, Any] = {"help": option.help, "metavar": option.metavar, "show_default": bool(option.default and option.kind == "choice")}
    if option.completes:

        def offers(ctx: typer.Context, incomplete: str) -> list[str]:
            read = (ctx.params.get("names") or [], [ctx.params.get("target")], ctx.args)
            return offered(option, known, [w for some in read for w in some if w], incomplete)

        how["autocompletion"] = offers
    if option.kind == "count":
        how["min"] = option.least
    said: Any
    if option.argument:
        said = typer.Argument(**{**how, "metavar": option.name})
    else:
        name = f"{option.name}/--no-{option.name[2:]}" if option.kind == "switch" else option.name
        said = typer.Option(*(n for n in (option.short, name) if n), envvar=option.variable or None, **how)
    default = inspect.Parameter.empty if option.required else default
    return inspect.Parameter(field, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, said])


def _kind(field: str, option: Option) -> tuple[Any, Any]:
    """The type that typer converts to, and the default."""
    default = getattr(Options, field)
    match option.kind:
        case "flag":
            return bool, default
        case "switch":
            return bool | None, default
        case "texts":
            return list[str] | None, default
        case "files":
            return list[Path], default
        case "choice":
            kinds = Enum(field, {c: c for c in option.choices})  # type: ignore[misc]  # its members are those of the table
            return (kinds, kinds(default)) if default is not None else (kinds | None, None)
        case "file":
            return (Path, Path(default)) if default is not None else (Path | None, None)
        case "count":
            return (int if default is not None else int | None), default
        case "number":
            return float | None, default
    return (str if option.required else str | None), default


def _plain(value: Any, option: Option) -> Any:
    """What typer read as a plain JSON value."""
    if value is None:
        return None
    match option.kind:
        case "file":
            return str(value)
        case "files":
            return [str(v) for v in value]
        case "choice":
            return value.value
    return value
