"""Runs a script, or a module, as Python runs it."""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import runpy
import sys
import types
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NoReturn

from vaelint.core.errors import UsageError
from vaelint.source.notebook import show, source_of_file


def file_of(command: Sequence[str]) -> str:
    """The file that a command runs: `train.py`, or that of `-m package.train`. Raises UsageError if there is none."""
    if command[0] != "-m":
        if not Path(command[0]).is_file():
            raise UsageError(f"there is no file {command[0]}", "vaelint run SCRIPT [ARGS...], or vaelint run -m MODULE [ARGS...]")
        return command[0]
    name = command[1]
    sys.path.insert(0, str(Path.cwd()))
    try:
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.submodule_search_locations:
            spec = importlib.util.find_spec(f"{name}.__main__")
    except ImportError as error:
        raise UsageError(f"-m {name}: {error}", "name the module as `python -m` takes it") from None
    finally:
        sys.path.pop(0)
    if spec is None or spec.origin is None:
        raise UsageError(f"-m {name}: there is no such module from here", "run it in the folder in which `python -m` finds it")
    return spec.origin


@contextlib.contextmanager
def noting_usage(said: list[str]) -> Iterator[None]:
    """While the block runs, `said` gets what argparse finds wrong with the command line."""
    original = argparse.ArgumentParser.error

    def error(self: argparse.ArgumentParser, message: str) -> NoReturn:
        said.append(message)
        original(self, message)

    argparse.ArgumentParser.error = error  # type: ignore[method-assign]
    try:
        yield
    finally:
        argparse.ArgumentParser.error = original  # type: ignore[method-assign]


def run_script(command: Sequence[str]) -> None:
    """Runs `script.py args` or `-m module args` as `__main__`. Whatever it raises passes through."""
    sys.dont_write_bytecode = True
    if command[0] == "-m":
        sys.argv = [file_of(command), *command[2:]]
        sys.path.insert(0, str(Path.cwd()))
        runpy.run_module(command[1], run_name="__main__", alter_sys=True)
        return
    path = command[0]
    sys.argv = list(command)
    sys.path.insert(0, str(Path(path).resolve().parent))
    main = types.ModuleType("__main__")
    main.__dict__.update(__file__=path, __builtins__=__builtins__, __cached__=None)
    sys.modules["__main__"] = main
    show(path)  # the lines of a notebook's cells are those of its file
    exec(compile(source_of_file(path), path, "exec", dont_inherit=True), main.__dict__)
