"""The one table of options, and all that follows it: commands, the request to the worker, the functions for Python."""

from __future__ import annotations

import dataclasses
import inspect

import pytest
import typer

from vaelint import api
from vaelint.cli.app import app
from vaelint.config.declared import Entry
from vaelint.config.options import TABLE, Options
from vaelint.core.result import Request

COMMANDS = {c for e in TABLE for o in e.options for c in o.commands.split()}
OF_PYTHON = {"seed": "check"}
"""What only Python takes: the command line and the configuration have one seed."""
OF_WORKER = {"seed", "fixes", "overlay", "fits", "trail", "folder", "environment", "guessed", "other_sizes", "ours", "unseen"}
"""What the front tells a worker beside what was said."""


def name_in_python(entry: Entry) -> str:
    return entry.key.name.replace("-", "_") if entry.key else entry.field


def test_each_command_takes_the_options_of_the_table_and_no_others() -> None:
    made = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    assert set(made) - {"cache"} == COMMANDS
    for name, command in made.items():
        if name == "cache":
            continue
        table = {s for e in TABLE if (o := e.option_of(name)) and not o.argument for s in (o.name, o.short) if s}
        assert {n for p in command.params for n in p.opts if n.startswith("-")} == table, name


@pytest.mark.parametrize("function", [api.check, api.observe, api.run])
def test_functions_for_python_take_the_options_of_the_table(function: object) -> None:
    name = function.__name__  # type: ignore[attr-defined]
    taken = {p.name for p in inspect.signature(function).parameters.values() if p.kind is not p.VAR_POSITIONAL}  # type: ignore[arg-type]
    extra = {n for n, of in OF_PYTHON.items() if of == name}
    assert taken == {name_in_python(e) for e in TABLE if name in e.python} | extra


def test_what_a_request_says_is_an_option_with_the_same_default() -> None:
    ours = {f.name: f.default for f in dataclasses.fields(Options)}
    for told in dataclasses.fields(Request):
        if told.name not in OF_WORKER:
            assert told.name in ours, told.name
            assert ours[told.name] in (None, told.default), told.name


def test_no_two_options_of_a_command_and_no_two_keys_have_one_name() -> None:
    for command in COMMANDS:
        names = [s for e in TABLE if (o := e.option_of(command)) for s in (o.name, o.short) if s]
        assert len(names) == len(set(names)), command
    keys = [e.key.name for e in TABLE if e.key]
    assert len(keys) == len(set(keys))
