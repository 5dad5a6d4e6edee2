"""In a notebook: `%load_ext vaelint`, then `%%vaelint` above a cell that trains, or `%%vaelint --input 32x784` above one with a model.

`%vaelint VAE(latent_dim=20) --input 32x784` checks what an expression makes.
"""

from __future__ import annotations

import argparse
import inspect
import re
import shlex
import sys
from types import FrameType
from typing import Any, NoReturn

from vaelint.api import Report, Seen, check, observe
from vaelint.config.options import TABLE
from vaelint.core.errors import UsageError

_FIRST = "%%vaelint --input 32x784 above a cell with a model, or %%vaelint above one that trains"


def load_ipython_extension(shell: Any) -> None:
    """What `%load_ext vaelint` calls: makes the magics known."""

    def magic(line: str, cell: str | None = None) -> Report | Seen | None:
        try:
            return vaelint(shell, line, cell)
        except UsageError as error:
            print(f"vaelint: {error.message}" + (f"\nhelp: {error.help}" if error.help else ""), file=sys.stderr)
            return None

    shell.register_magic_function(magic, magic_kind="line_cell", magic_name="vaelint")


def vaelint(shell: Any, line: str, cell: str | None = None) -> Report | Seen:
    """Checks an expression, or runs a cell and checks the model that it makes or the training that it does.

    Raises:
        UsageError: nothing to check.
    """
    target, how = _read(line)
    if cell is None:
        if not target:
            raise UsageError("nothing is named", f"write %vaelint VAE() --input 32x784, {_FIRST}")
        return _checked(shell, target, how)
    if not target and not how.get("input"):
        return _watched(shell, cell, how)
    before = dict(shell.user_ns)
    _run(shell, cell)
    return _checked(shell, target or _made(shell, before), how)


def _watched(shell: Any, cell: str, how: dict[str, Any]) -> Report | Seen:
    """The cell's training, observed; it ends after a few steps."""
    before = dict(shell.user_ns)
    with observe(**{k: v for k, v in how.items() if k in inspect.signature(observe).parameters}) as seen:
        _run(shell, cell)
    if not any(r.anatomy for r in seen.reports) and (made := _made(shell, before, must=False)):
        raise UsageError("the cell trains nothing", f"to check {made}, say the shape of a batch: %%vaelint --input 32x784")
    return seen.report if len(seen.reports) == 1 else seen


def _checked(shell: Any, target: str, how: dict[str, Any]) -> Report:
    """An expression of the notebook; what is none there is a target such as model.py:VAE."""
    loss = how.get("loss")
    if isinstance(loss, str) and loss in shell.user_ns:
        how = {**how, "loss": shell.user_ns[loss]}
    try:
        made = eval(target, shell.user_ns)
    except (NameError, SyntaxError):
        made = target
    return check(made, **how)


def _made(shell: Any, before: dict[str, Any], *, must: bool = True) -> str:
    """The name of the last model, or class of one, that a cell has made; an object is meant rather than its class."""
    import torch

    new = [k for k, v in shell.user_ns.items() if not k.startswith("_") and before.get(k) is not v]
    objects = [k for k in new if isinstance(shell.user_ns[k], torch.nn.Module)]
    classes = [k for k in new if inspect.isclass(shell.user_ns[k]) and issubclass(shell.user_ns[k], torch.nn.Module)]
    found = (objects or classes)[-1:]
    if must and not found:
        raise UsageError("the cell makes no model", f"name one: %%vaelint VAE() --input 32x784; {_FIRST}")
    return found[0] if found else ""


def _run(shell: Any, cell: str) -> None:
    """The cell, under the name and with the lines that IPython would give it: the magic is its first line."""
    code = "\n" + shell.transform_cell(cell)
    name = shell.compile.cache(code, _number(shell), raw_code="\n" + cell)
    exec(compile(code, name, "exec"), shell.user_ns)


def _number(shell: Any) -> int:
    """Of the running cell: the one whose code has called us."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        typed = re.search(r"In\s*\[(\d+)\]", " ".join(shell.compile.format_code_name(frame.f_code.co_filename) or ()))
        if typed is not None:
            return int(typed[1])
        frame = frame.f_back
    return int(shell.execution_count)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(message, _FIRST)


def _read(line: str) -> tuple[str, dict[str, Any]]:
    """The target, and the arguments of `check` or `observe`, out of the words of the magic."""
    parser = _Parser(prog="%vaelint", add_help=False)
    for entry in TABLE:
        option = next((o for o in entry.options if {"check", "run"} & {*o.commands.split()}), None)
        if option is None or option.argument or not {"check", "observe"} & {*entry.python}:
            continue
        name = option.name[2:].replace("-", "_")
        match option.kind:
            case "flag" | "switch":
                parser.add_argument(option.name, dest=name, action="store_true", default=None)
            case "texts":
                parser.add_argument(option.name, dest=name, action="append")
            case kind:
                parser.add_argument(option.name, dest=name, type=int if kind == "count" else str, choices=option.choices or None)
    try:
        words = shlex.split(line)
    except ValueError as error:
        raise UsageError(f"the line cannot be read: {error}", _FIRST) from None
    said, rest = parser.parse_known_args(words)
    if wrong := [w for w in rest if w.startswith("-")]:
        raise UsageError(f"there is no option {wrong[0]}", _FIRST)
    how = {k: v for k, v in vars(said).items() if v is not None}
    if "init" in how:
        from vaelint.source.target import parse_init

        how["init"] = parse_init(how["init"])
    return " ".join(rest), how
