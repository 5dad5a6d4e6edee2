"""Loads a target and makes fresh models of it. Runs user code."""

from __future__ import annotations

import argparse
import copy
import difflib
import inspect
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import field
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn

from vaelint.core.errors import TargetError
from vaelint.core.finding import Span
from vaelint.core.inputs import InputSet
from vaelint.core.paths import class_file, relative, user_file
from vaelint.core.paths import package_of as package_named_by
from vaelint.late import dataclass
from vaelint.loading import construct
from vaelint.loading.arguments import Choice, choices
from vaelint.loading.imports import import_file, import_module, parsed, repository_of, within
from vaelint.loading.inherited import constructor_tree
from vaelint.loading.keras_calls import compiled_as, compiled_elsewhere, made_at
from vaelint.loading.keras_symbolic import Symbolic, extended
from vaelint.loading.lightning_modules import silence
from vaelint.loading.meta import with_values
from vaelint.loading.other_files import named
from vaelint.loading.placeholder import forget, installing, needed, package_of
from vaelint.repository.scopes import Repository
from vaelint.repository.values import Reader
from vaelint.source.blame import one_line, span_of
from vaelint.source.target import Expression, TargetSpec, module_classes
from vaelint.trace import keras_models


@dataclass
class Loaded:
    """A target's module and the object its name stands for: a class, a factory function or a model.

    `notes` collects what a user should know; `made_up` the constructor arguments that no size of the input speaks for.
    """

    module: ModuleType
    obj: Any
    file: str
    name: str
    package: str = ""  # the installed package the target lies in, "" for files
    notes: list[str] = field(default_factory=list)
    made_up: dict[str, object] = field(default_factory=dict)
    init: dict[str, object] = field(default_factory=dict)  # as written in the target's text
    arguments: dict[str, object] = field(default_factory=dict)  # what the model is built with, once that is resolved
    choice: Choice | None = None  # where these come from
    passed: set[str] = field(default_factory=set)  # notes of choices that were given up
    incomplete: Choice | None = None  # the best way to fill the constructor that leaves arguments open
    symbolic: Symbolic | None = None  # what the loss of a Keras model reads and nothing gives it
    _choices: Iterator[Choice] = field(default_factory=lambda: iter(()))  # other ways to fill the constructor

    @property
    def namespace(self) -> dict[str, Any]:
        """The names of the module, as its functions see them."""
        return vars(self.module)

    @cached_property
    def repository(self) -> Repository:
        """The Python files around the target, read when they are asked for; of an installed package, its own file."""
        home = Path(self.file)
        return Repository(home.parent if self.package else repository_of(home.parent), home)

    @cached_property
    def reader(self) -> Reader:
        """Reads values out of the repository's code."""
        return Reader(self.repository)

    @property
    def signature(self) -> inspect.Signature:
        """The arguments of the constructor or factory; none for an instance."""
        return inspect.Signature() if isinstance(self.obj, nn.Module) else construct.signature_of(self.obj)

    @property
    def span(self) -> Span:
        """Where the object is defined: what a finding about it as a whole points at."""
        target: Any = self.obj if inspect.isclass(self.obj) or inspect.isfunction(self.obj) else type(self.obj)
        if isinstance(self.obj, nn.Module) and keras_models.of_keras(target) and (made := made_at(parsed(Path(self.file)), self.name)):
            return Span(relative(self.file), made.lineno, made.col_offset + 1, made.end_lineno, (made.end_col_offset or 0) + 1)
        try:
            file, line = inspect.getsourcefile(target) or self.file, inspect.getsourcelines(target)[1]
        except (OSError, TypeError):
            return Span(relative(class_file(target) if inspect.isclass(target) else self.file) or relative(self.file), 1)
        return Span(relative(file), max(line, 1))

    def resolve_init(self, inputs: InputSet, init: Mapping[str, object]) -> dict[str, object]:
        """The arguments to build with: those of the target's text, those of `init`, and what can be inferred of the required rest.

        Raises TargetError VAE002 for arguments that do not exist or cannot be inferred. What was inferred is said in `notes`.
        """
        given = {**self.init, **init}
        if isinstance(self.obj, nn.Module):
            if given:
                raise TargetError("VAE002", f"{self.name} is a model already: it takes no arguments", "name its class instead", self.span)
            return {}
        self._refuse_unknown(given)
        parameters = self.signature.parameters
        given = {name: self.fitting(name, value) if name in parameters else value for name, value in given.items()}
        self._choices = choices(self, inputs, given)
        if not self.next_choice():
            raise self._missing()
        return self.arguments

    def next_choice(self) -> bool:
        """Goes on to the next way to fill the constructor; False, and all as it was, if there is none that is complete."""
        for choice in self._choices:
            if choice.missing:
                self.incomplete = choice
                continue
            self.take(choice)
            return True
        return False

    def take(self, choice: Choice) -> None:
        """Builds with these arguments from now on."""
        if self.choice is not None:
            self.notes[:] = [n for n in self.notes if n not in self.choice.notes]
            self.passed |= set(self.choice.notes) - set(choice.notes)
        self.passed -= set(choice.notes)
        self.choice = choice
        self.arguments.clear()
        self.arguments.update(choice.values)
        self.made_up = dict(choice.chosen)
        self.notes += choice.notes

    def _missing(self) -> TargetError:
        lacking, told = (self.incomplete.missing, self.incomplete.told) if self.incomplete is not None else ((), "")
        shown = {name: _example(name) or self._keys(name) for name in lacking}
        some = " ".join(f'--init "{name}={shown[name]}"' if shown[name] else f"--init {name}=..." for name in lacking)
        notes = (self._shown_signature(), *((told,) if told else ()))
        return TargetError("VAE002", f"{self.name} cannot be built without {', '.join(lacking)}", f"add {some}", self.span, notes)

    def _keys(self, name: str) -> str:
        """A configuration written as a dict of what the constructor reads from it, "" for another argument."""
        from vaelint.repository.constructions import keys_of

        tree = constructor_tree(self.obj) if inspect.isclass(self.obj) else None
        if tree is None or not construct.uses_of(self.obj, name, self.namespace) & {"keys", "attributes"}:
            return ""
        keys = [f"'{key}': ..." for key in keys_of(tree, name)]
        return f"{{{', '.join(keys)}}}" if keys else ""

    def _refuse_unknown(self, given: Mapping[str, object]) -> None:
        parameters = self.signature.parameters
        if any(p.kind is p.VAR_KEYWORD for p in parameters.values()) or (not parameters and not inspect.isclass(self.obj)):
            return
        for name in given:
            if name not in parameters:
                near = difflib.get_close_matches(name, parameters, 3, 0.5)
                help = f"did you mean {' or '.join(near)}?" if near else ""
                raise TargetError("VAE002", f"{self.name} has no argument {name}", help, self.span, (self._shown_signature(),))

    def fitting(self, name: str, value: object) -> object:
        """A dict given for a configuration becomes what the constructor reads: a dataclass by its annotation, else a namespace."""
        if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
            return value
        annotation = construct.annotation_of(self.signature.parameters[name], self.namespace)
        if isinstance(annotation, type) and hasattr(annotation, "__dataclass_fields__"):
            return annotation(**value)
        uses = construct.uses_of(self.obj, name, self.namespace)
        if "attributes" in uses and not uses & {"keys", "list"}:
            self.notes.append(f"{name} is read by attribute: the dict became a Namespace")
            return argparse.Namespace(**value)
        return value

    def _shown_signature(self) -> str:
        return f"signature: {self.name}{self.signature}"

    def build(self, init: Mapping[str, object]) -> nn.Module:
        """A fresh model. Arguments, and mutable defaults of the constructor, are copied: some constructors change them.

        Raises TargetError VAE002 with the user's line if the constructor raises (the exception is its `__cause__`), or if what it
        makes is not an nn.Module.
        """
        with self._as_script():
            if isinstance(self.obj, nn.Module) and self.symbolic is None:
                self.obj, self.symbolic = extended(self.obj, self.namespace)
            model: object = _copy_of(self.obj) if isinstance(self.obj, nn.Module) else self._construct(init)
        if isinstance(model, tuple | list):
            model = self._one_of(model)
        elif not isinstance(model, nn.Module):
            model = self._held_by(model)
        if isinstance(model, nn.Module) and not isinstance(self.obj, nn.Module):
            model, self.symbolic = extended(model, self.namespace)
        if not isinstance(model, nn.Module):
            raise TargetError(
                "VAE002",
                f"{self.name} makes an object of type {type(model).__name__}, not an nn.Module",
                "name a class or function that makes the model",
                self.span,
            )
        if isinstance(self.obj, nn.Module) and (note := with_values(model, self.span)) and note not in self.notes:
            self.notes.append(note)
        silence(model)
        if keras_models.is_keras(model) and not self.package:
            keras_models.register(model)
            if self.symbolic is None:  # else it gives more than what its loss is compared with
                self._compile(model)
        return model

    def _one_of(self, models: Sequence[object]) -> object:
        """The one of several Keras models that is compiled, else the one that is told a loss; all of them where that does not tell."""
        told, how = [m for m in models if getattr(m, "compiled", False) is True], "is compiled"
        if not told:
            told, how = [m for m in models if isinstance(m, nn.Module) and vars(m).get("symbolic_losses")], "add_loss is called on"
        if len(told) != 1:
            return models
        note = f"of the {len(models)} things that {self.name} makes, the one that {how} is checked"
        self.notes += [note] if note not in self.notes else []
        return told[0]

    def _held_by(self, owner: object) -> object:
        """The one Keras model that an object holds and has compiled; the object itself where there is none, or several."""
        compiled = {
            k: v for k, v in getattr(owner, "__dict__", {}).items() if isinstance(v, nn.Module) and getattr(v, "compiled", 0) is True
        }
        if len(compiled) != 1:
            return owner
        ((name, model),) = compiled.items()
        note = f"{self.name} holds a model: its {name}, which it compiles, is checked"
        self.notes += [note] if note not in self.notes else []
        return model

    def _compile(self, model: nn.Module) -> None:
        """Gives a Keras model the loss that its file compiles it with, or else another file of the repository."""
        said = compiled_as(parsed(Path(self.file)), self.name, self.file, self.namespace, model) or compiled_elsewhere(
            self.reader, self.file, self.name, model
        )
        if said and said not in self.notes:
            self.notes.append(said)

    def _construct(self, init: Mapping[str, object]) -> object:
        parameters = self.signature.parameters.values()
        defaults = {p.name: p.default for p in parameters if isinstance(p.default, list | dict | set) and p.name not in init}
        # symbolic sizes must pass as they are
        given = {name: self.evaluated(name, value) for name, value in init.items()}
        arguments = {k: v if isinstance(v, int | torch.SymInt) else _copied(v) for k, v in {**defaults, **given}.items()}
        positional = [arguments.pop(p.name) for p in parameters if p.kind is p.POSITIONAL_ONLY and p.name in arguments]
        try:
            return self.obj(*positional, **arguments)
        except TargetError as error:
            error.span = error.span or self.span
            raise
        except (Exception, SystemExit) as error:
            if (missing := needed()) is not None:
                raise missing from error
            span = span_of(error.__traceback__, self.is_user) or self.span
            shown = ", ".join(f"{k}={v!r}" for k, v in init.items())
            notes = tuple(f"{name}={value!r} was chosen for you" for name, value in self.made_up.items())
            empty = [p.name for p in parameters if p.default is None and arguments.get(p.name) is None]
            if empty and "None" in str(error):
                notes += (f"nothing says what {' and '.join(empty)} {'is' if len(empty) == 1 else 'are'}: None by default",)
                values = " ".join(f"--init {name}=..." for name in empty)
            else:
                values = "--init KEY=VALUE"
            help = f"fix it, or pass its constructor arguments: {values}"
            raise TargetError("VAE002", f"{self.name}({shown}) raises {one_line(error)}", help, span, notes) from error

    def evaluated(self, name: str, value: object) -> object:
        """An argument that is an expression, in the names of the module; anything else as it is."""
        if not isinstance(value, Expression):
            return value
        try:
            return eval(value.text, {"torch": torch, "nn": nn, **self.namespace, **named(self, value)})
        except TargetError:
            raise
        except Exception as error:
            raise TargetError(
                "VAE002", f"--init {name}={value} raises {one_line(error)}", "it is evaluated in the target's file", self.span
            ) from error

    @contextmanager
    def _as_script(self) -> Iterator[None]:
        """User code sees no command line but its own file's name."""
        argv, sys.argv = sys.argv, [self.file]
        try:
            yield
        finally:
            sys.argv = argv

    def is_user(self, file: str) -> bool:
        """Whether a code file is the user's, for this target."""
        return user_file(file, self.package)


def _copy_of(model: nn.Module) -> nn.Module:
    return keras_models.copied(model) if keras_models.is_keras(model) else copy.deepcopy(model)


def _copied(value: object) -> object:
    """A copy, as some constructors change their arguments; the value itself where it lets nobody copy it."""
    try:
        return copy.deepcopy(value)
    except Exception:  # noqa: BLE001  (users' objects raise anything: a dict read by attribute has no `__deepcopy__`, and says KeyError)
        return value


def load_target(spec: TargetSpec, request: object = None) -> Loaded:
    """Imports the target's module and finds its object.

    Raises TargetError VAE001 with the line that failed, if the file is missing or not Python, or if the name is not there.
    """
    notes: list[str] = []
    forget()
    within(getattr(request, "folder", ""))
    if spec.path is not None:
        path = _file(spec.path)
        module = import_file(path, spec.name, notes)
        file, package = str(path), ""
    else:
        assert spec.module is not None
        module = import_module(spec.module, notes)
        file, package = getattr(module, "__file__", None) or spec.module, package_named_by(spec.text)
    keras_models.settle()
    return Loaded(module, _object(module, spec.name, file), file, spec.name, package, notes, init=dict(spec.init))


def _example(name: str) -> str:
    """How a part of the model is written on the command line, "" for a plain value."""
    part = next((p for p in ("encoder", "decoder") if p in name.lower()), None)
    return f"{part.capitalize()}(...)" if part else ""


def _file(text: str) -> Path:
    path = Path(text)
    shown = relative(text)
    if path.is_dir():
        raise TargetError("VAE001", f"{shown} is a folder", f"name a file in it: {shown.rstrip('/')}/model.py:VAE")
    if path.is_symlink() and not path.exists():
        raise TargetError("VAE001", f"{shown} is a broken link", f"it points to {path.readlink()}")
    if not path.exists():
        folder = path.parent if path.parent.is_dir() else Path()
        there = {p.stem: p for p in folder.glob("*.py") if p.is_file()}  # without the ending, which all have in common
        near = difflib.get_close_matches(path.stem, there, 3, 0.5)
        likely = " or ".join(there[stem].as_posix() for stem in near)
        help = f"did you mean {likely}?" if near else "the path starts at the working directory"
        raise TargetError("VAE001", f"there is no file {shown}", help)
    if path.suffix not in (".py", ".ipynb"):
        help = "name a .py file or a notebook"
        raise TargetError("VAE001", f"{shown} is not a Python file", help)
    if not path.is_file():
        raise TargetError("VAE001", f"{shown} is not a regular file", "name a .py file or a notebook")
    return path.resolve()


def _object(module: ModuleType, name: str, file: str) -> Any:
    """The class, function or model that `name` stands for."""
    found: Any = module
    for part in name.split("."):
        if not hasattr(found, part) and module.__spec__ is not None and module.__spec__.origin is None:
            folder = next(iter(module.__path__), file)
            raise TargetError("VAE001", f"{file} is a folder without __init__.py", f"name a file in it: {relative(folder)}/model.py:{name}")
        if not hasattr(found, part):
            raise _no_such_name(module, name, file)
        found = getattr(found, part)
    if package := package_of(found):
        raise TargetError(
            "VAE001",
            f"{name} comes from the package {package}, which is not installed",
            installing(package),
            Span(relative(file), 1),
        )
    if isinstance(found, nn.Module) or callable(found):
        return found
    raise TargetError(
        "VAE001",
        f"{name} in {relative(file)} is of type {type(found).__name__}, not a model",
        "name a class, a function or an nn.Module",
        Span(relative(file), 1),
    )


def _no_such_name(module: ModuleType, name: str, file: str) -> TargetError:
    classes = [k for k, v in vars(module).items() if inspect.isclass(v) and issubclass(v, nn.Module) and v.__module__ == module.__name__]
    classes = classes or module_classes(file)
    offered = [k for k in vars(module) if not k.startswith("_")]
    near = [k for k in offered if k.lower() == name.lower()] or difflib.get_close_matches(name, offered, 3, 0.6)
    help = f"did you mean {' or '.join(near)}?" if near else ""
    notes = (f"nn.Module classes in it: {', '.join(classes)}",) if classes else ("it defines no nn.Module class",)
    return TargetError("VAE001", f"{relative(file)} has no {name}", help, Span(relative(file), 1), notes)
