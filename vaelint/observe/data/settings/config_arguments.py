"""`configargparse` where it is not installed: argparse, with options that are read from a file as well (https://pypi.org/project/ConfigArgParse)."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from vaelint.observe.data.stand_ins import lending

_OF_PARSERS = frozenset({
    "add_config_file_help", "add_env_var_help", "auto_env_var_prefix", "default_config_files", "ignore_unknown_config_file_keys",
    "config_file_parser_class", "args_for_setting_config_path", "config_arg_is_required", "config_arg_help_message",
    "args_for_writing_out_config_file", "write_out_config_file_arg_help_message", "config_file_open_func",
})  # fmt: skip
_OF_OPTIONS = ("is_config_file", "is_config_file_arg", "env_var", "is_write_out_config_file_arg")


class ArgumentParser(argparse.ArgumentParser):
    """A parser that takes options from configurations, and below these from the command line."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        own = {k: kwargs.pop(k) for k in list(kwargs) if k in _OF_PARSERS}
        self._files: list[str] = [str(f) for f in own.get("default_config_files") or ()]
        self._told: list[str] = list(own.get("args_for_setting_config_path") or ())
        self._variables: dict[str, str] = {}
        super().__init__(*args, **kwargs)
        _open_to_more(self, self)
        if self._told:
            argparse.ArgumentParser.add_argument(self, *self._told, default=argparse.SUPPRESS)

    def add_argument_group(self, *args: Any, **kwargs: Any) -> Any:
        """A group of options."""
        return _open_to_more(super().add_argument_group(*args, **kwargs), self)

    def add_mutually_exclusive_group(self, **kwargs: Any) -> Any:
        """Options of which one may be given."""
        return _open_to_more(super().add_mutually_exclusive_group(**kwargs), self)

    def note_option(self, names: Sequence[str], own: dict[str, Any]) -> None:
        """What an option says beside what argparse knows."""
        if own.get("is_config_file") or own.get("is_config_file_arg"):
            self._told += names
        if own.get("env_var"):
            self._variables[names[-1]] = own["env_var"]

    def parse_known_args(self, args: Any = None, namespace: Any = None, **_: Any) -> Any:
        """The options of the command line, above those of files and of the environment."""
        typed = list(sys.argv[1:] if args is None else args)
        named = [typed[n + 1] for n, word in enumerate(typed[:-1]) if word in self._told]
        named += [word.partition("=")[2] for word in typed if word.partition("=")[0] in self._told and "=" in word]
        default = [self.get_default(a.dest) for a in self._actions if set(a.option_strings) & {*self._told}]
        files = [f for f in (*self._files, *(named or [d for d in default if d])) if Path(f).is_file()]
        below = [word for f in files for word in self._words_of(Path(f).read_text(encoding="utf-8"), typed)]
        below += [w for name, v in self._variables.items() if v in os.environ and name not in typed for w in (name, os.environ[v])]
        return super().parse_known_args([*below, *typed], namespace)

    def _words_of(self, text: str, typed: Sequence[str]) -> list[str]:
        """The words of a configuration, as on a command line: `key = value`, `key: value`, or `key` alone."""
        known = {name.lstrip("-"): a for a in self._actions for name in a.option_strings}
        found: list[str] = []
        for line in text.splitlines():
            plain = line.partition(" #")[0].strip()
            if not plain or plain[0] in "#;[" or plain == "---":
                continue
            at = min((n for n in (plain.find("="), plain.find(":")) if n >= 0), default=len(plain))
            key, value = plain[:at].strip().lstrip("-"), plain[at + 1 :].strip().strip("\"'")
            action = known.get(key)
            if action is None or set(action.option_strings) & {*typed}:
                continue
            name = action.option_strings[-1]
            if action.nargs == 0:
                found += [name] if value.lower() in ("", "true", "yes", "1") else []
            elif value.startswith("["):
                found += [name, *(part.strip().strip("\"'") for part in value.strip("[]").split(",") if part.strip())]
            elif value.lower() not in ("", "none", "null"):
                found += [name, value]
        return found


def _open_to_more(group: Any, parser: ArgumentParser) -> Any:
    """A parser or group whose options may say more, and that is asked for them by other names as well."""
    original = group.add_argument

    def add(*names: Any, **kwargs: Any) -> Any:
        own = {k: kwargs.pop(k) for k in _OF_OPTIONS if k in kwargs}
        made = original(*names, **kwargs)
        parser.note_option(made.option_strings or names, own)
        return made

    vars(group).update(add_argument=add, add=add, add_arg=add)
    if group is not parser:
        exclusive = group.add_mutually_exclusive_group
        group.add_mutually_exclusive_group = lambda **kwargs: _open_to_more(exclusive(**kwargs), parser)
    return group


_parsers: dict[str, ArgumentParser] = {}


def _one(name: str = "default", **kwargs: Any) -> ArgumentParser:
    """The parser of a name, made where it is asked for first."""
    return _parsers.setdefault(name, ArgumentParser(**kwargs))


def config_arguments() -> dict[str, ModuleType]:
    """The module of the stand-in."""
    _parsers.clear()
    names = {k: v for k, v in vars(argparse).items() if k.endswith("HelpFormatter") or k in ("Namespace", "SUPPRESS", "ArgumentTypeError")}
    parsers = dict.fromkeys(("ArgumentParser", "ArgParser", "Parser"), ArgumentParser)
    readers = dict.fromkeys(("YAMLConfigFileParser", "DefaultConfigFileParser", "ConfigparserConfigFileParser"), object)
    got = dict.fromkeys(("get_argument_parser", "get_arg_parser", "getArgumentParser"), _one)
    return {"configargparse": lending("configargparse", {**names, **parsers, **readers, **got, "Action": argparse.Action})}
