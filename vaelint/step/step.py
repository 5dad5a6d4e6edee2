"""One training step of a model: told, or found. A step is Python code; what is shown is what is run."""

from __future__ import annotations

import ast
import builtins
import contextlib
import copy
import importlib
import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from itertools import takewhile
from types import CodeType
from typing import Any

import torch
from torch import nn

from vaelint.core.errors import TargetError
from vaelint.core.finding import Span
from vaelint.core.inputs import InputSet
from vaelint.core.paths import relative
from vaelint.late import dataclass
from vaelint.loading.build import Loaded
from vaelint.step.candidates import is_whole_loss
from vaelint.step.input_arguments import bind_inputs
from vaelint.step.keras_steps import has_call, own_training, parameters_of, run_by, runs_by_call, written_call
from vaelint.step.meaning import LITERALS, kinds
from vaelint.step.other_values import Exchange
from vaelint.step.reading import batch_of, called_names
from vaelint.step.step_imports import import_for_step
from vaelint.step.unnamed import methods
from vaelint.step.whole import pick_loss
from vaelint.trace.keras_models import of_keras
from vaelint.trace.updates import Finished

STEP_FILE = "<step>"
_LIGHTNING = "training_step"  # gets a batch, whatever it is made of
_GIVEN = "the output of the model"  # no identifier: no user's name is in its way
_SAMPLERS = re.compile(r"_*(?:re-?param\w*|sample|sample_?(?:z|latent|posterior)|sampling|draw_?z?|latent)", re.IGNORECASE)


Tried = Callable[["Step", list[str]], bool]
"""Runs a step with inputs of these names."""


@dataclass(frozen=True)
class Outcome:
    """What a step gave: the model's output, and the loss (None when no loss is known); `fault` says why what it left is none.

    That is no fault of a step that has differentiated its loss by itself.
    """

    output: object
    loss: object
    fault: TargetError | None = None


class Step:
    """Runs `code` in a copy of the module's names plus `model`, `torch` and the inputs; what it leaves in `loss` is the loss.

    `code` is the text for display, `call` the expression that runs the model, `notes` what a user should know of the choice, `made_up`
    the weights in it that are ours (so that nobody blames the user for them).
    """

    def __init__(
        self,
        code: str,
        loaded: Loaded,
        *,
        has_loss: bool,
        call: str = "",
        notes: Sequence[str] = (),
        extra: Mapping[str, Any] | None = None,
        tree: ast.Module | None = None,
        file: str = STEP_FILE,
    ) -> None:
        self.code, self.has_loss, self.call, self.notes = code, has_loss, call, list(notes)
        self.place = ""  # where it was cut out, "" for a step that was told or put together
        self.made_up: dict[str, str] = {}  # weights and counters that nobody gave and that got a value of ours
        self.told: frozenset[str] = frozenset()  # those of `made_up` that the repository says
        self.unknown_weights: tuple[str, ...] = ()  # those of `made_up` that may have any value there
        self.input_shapes: dict[str, tuple[int, ...]] = {}  # of the last run
        self.doubted = False  # whether there is training code that could not be read, and the loss was put together without it
        self.rivals: tuple[str, ...] = ()  # other losses that may be meant as well, of a loss from a file that nothing joins to the model
        self.partly = False  # whether another file may add to the loss: it counts where it compares something with an input
        self.tokens: frozenset[str] = frozenset()  # the inputs that are sequences of whole numbers
        self.bits: frozenset[str] = frozenset()  # the inputs of zeros and ones that may be classes, one at each place
        self.output_part: Callable[[object], tuple[object, str]] | None = None  # picks the loss out of a tuple or dict
        self._loaded, self._extra = loaded, dict(extra or {})
        self._tree = tree or _parse(code)
        # statements cut out of the user's file keep their lines in it
        self._file = file
        self._program = compile(self._tree, file, "exec")
        self._loads = {n.id for n in ast.walk(self._tree) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)}

    def __call__(self, model: nn.Module, inputs: Mapping[str, torch.Tensor]) -> Outcome:
        """Runs the step once. What user code raises passes through."""
        return self._run(self._program, model, inputs)

    def unread(self, names: Sequence[str]) -> list[str]:
        """Which of several inputs the step has no use for. A single input may go by another name."""
        return [name for name in names if name not in self._loads] if len(names) > 1 else []

    def rewritten(self, code: str, note: str) -> Step:
        """This step with other code, which says why in a note of its own."""
        made = Step(code, self._loaded, has_loss=True, call=self.call, notes=[*self.notes, note], extra=self._extra)
        made.made_up, made.told, made.output_part, made.rivals = self.made_up, self.told, self.output_part, self.rivals
        return made

    def varied(self, name: str, value: str | None) -> Step | None:
        """This step with another value for an argument that vaelint chose; None where that is no literal in it."""
        tree = copy.deepcopy(self._tree)
        exchange = Exchange(name, value, self._resolved)
        exchange.visit(tree)
        if not exchange.found:
            return None
        tree = ast.fix_missing_locations(tree)
        made = Step(self.code, self._loaded, has_loss=self.has_loss, call=self.call, extra=self._extra, tree=tree, file=self._file)
        made.made_up, made.told, made.output_part, made.place = self.made_up, self.told, self.output_part, self.place
        return made

    def place_of(self, name: str) -> Span | None:
        """The place that asks for an argument that vaelint chose: the function it is given to, else that of the training code."""
        exchange = Exchange(name, None, self._resolved)
        exchange.visit(copy.deepcopy(self._tree))
        if exchange.where.line:
            return exchange.where
        file, _, line = self.place.rpartition(":")
        return Span(file, int(line)) if line.isdigit() else None

    def _resolved(self, expression: str) -> Any:
        names = {**self._loaded.namespace, **self._extra, "torch": torch, "model": self._loaded.obj}
        found: Any = None
        for depth, part in enumerate(expression.split(".")):
            found = getattr(found, part, None) if depth else names.get(part)
        return found

    def continues(self, other: Step) -> bool:
        """Whether this step begins with all that the other does: runs the model, and then goes on."""
        return other._rest is not None and self._rest is not None and self.call == other.call and self._loaded is other._loaded

    def rest(self, model: nn.Module, inputs: Mapping[str, torch.Tensor], output: object) -> Outcome:
        """Runs what comes after the call of the model, which has given `output`. Only where it `continues` another step."""
        assert self._rest is not None
        return self._run(compile(self._rest, STEP_FILE, "exec"), model, inputs, {_GIVEN: output})

    @cached_property
    def _rest(self) -> ast.Module | None:
        """The step with the name of a given output in the place of its call of the model; None if it does not begin with that call."""
        first = self._tree.body[0] if self._tree.body else None
        if not self.call or not isinstance(first, ast.Assign) or ast.unparse(first.value) != ast.unparse(_parse(self.call)):
            return None
        given = ast.copy_location(ast.Assign(first.targets, ast.copy_location(ast.Name(_GIVEN, ast.Load()), first.value)), first)
        return ast.Module([given, *self._tree.body[1:]], [])

    def _run(
        self, program: CodeType, model: nn.Module, inputs: Mapping[str, torch.Tensor], given: Mapping[str, object] | None = None
    ) -> Outcome:
        self.input_shapes = {name: tuple(t.shape) for name, t in inputs.items()}
        names = {**_usual_names(self._loads), **self._loaded.namespace, **self._extra, "torch": torch, "model": model, **inputs}
        names.update(given or {})
        if (alias := self._alias(names, inputs)) is not None:
            names[alias] = next(iter(inputs.values()))
        seen: list[object] = list((given or {}).values())
        # the output is taken where the model hands it over, so that code which calls it inside another function is seen too
        hook = model.register_forward_hook(lambda module, args, output: seen.append(output))
        before = set(names)
        try:
            exec(program, names)
        except Finished:
            return Outcome(seen[-1] if seen else None, None)
        finally:
            hook.remove()
        if seen:
            output = seen[-1]
        else:
            output = names["out"] if "out" in names and "out" not in before else _new_tensors(names, before)
        try:
            return Outcome(output, self._loss(names))
        except TargetError as fault:
            return Outcome(output, None, fault)

    def _loss(self, names: Mapping[str, Any]) -> object:
        if not self.has_loss:
            return None
        if "loss" not in names:
            said = f"the step assigns nothing to loss, and runs no backward pass: {self.code.strip()}"
            raise TargetError("VAE004", said, "end it with loss = ...", self._span())
        loss = names["loss"]
        if self.output_part is not None:
            loss, path = self.output_part(loss)
            if path and not self.code.endswith(path):
                self.code += path
                self.notes.append(f"of what the loss returns, {path} is minimised")
        if not isinstance(loss, torch.Tensor):
            kind = "None" if loss is None else f"a {type(loss).__name__}"
            hint = (
                "take its part that is minimised: loss = result['loss']"
                if isinstance(loss, Mapping | tuple | list)
                else "it must be a tensor"
            )
            raise TargetError("VAE004", f"the step leaves {kind} in loss, not a tensor", hint, self._span())
        return loss

    def _span(self) -> Span:
        return Span(relative(self._loaded.file), self._loaded.span.line)

    def _alias(self, names: Mapping[str, Any], inputs: Mapping[str, torch.Tensor]) -> str | None:
        """The one name in a told step that nothing defines, when there is one input and the step does not use that by its own name."""
        if len(inputs) != 1:
            return None
        loads = self._loads
        stores = {n.id for n in ast.walk(self._tree) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
        if loads & set(inputs):
            return None
        unknown = [name for name in loads - stores if name not in names and not hasattr(builtins, name)]
        return unknown[0] if len(unknown) == 1 else None


def _usual_names(loads: set[str]) -> dict[str, Any]:
    """`nn`, `F`, `math` and `np` for a step that uses them; the file's own meaning of a name goes before."""
    usual = {"nn": "torch.nn", "F": "torch.nn.functional", "math": "math", "np": "numpy"}
    found: dict[str, Any] = {}
    for name in loads & set(usual):
        with contextlib.suppress(ImportError):
            found[name] = importlib.import_module(usual[name])
    return found


def _parse(code: str) -> ast.Module:
    try:
        return ast.parse(code, STEP_FILE)
    except SyntaxError as error:
        shown = (error.text or code).strip()
        raise TargetError(
            "VAE003", f"the step is not valid Python: {error.msg}: {shown}", "separate statements by ; or by line ends"
        ) from None


def _new_tensors(names: Mapping[str, Any], before: set[str]) -> dict[str, torch.Tensor]:
    return {k: v for k, v in names.items() if k not in before and k != "loss" and isinstance(v, torch.Tensor)}


def told_step(code: str, loaded: Loaded) -> Step:
    """The step that the user wrote: it leaves a `loss`, or runs backward itself. Raises TargetError VAE003 if it is not Python."""
    tree = _parse(code)
    tree, names = import_for_step(tree, loaded)
    return Step(code, loaded, has_loss=True, extra=names, tree=tree)


def forward_step(loaded: Loaded, model: nn.Module, inputs: InputSet, tried: Tried | None = None) -> tuple[Step, list[str]]:
    """A step that runs the model on the inputs, and the names of the inputs: those that `forward` takes first, in its order.

    A named input goes to the parameter of its name, the others go by position; an input that `forward` has no place for stays
    available to the loss. `tried` says of a step of a class without `forward`, given the names of the inputs, whether it leaves a loss.
    Raises TargetError VAE003 when `forward` wants more than there is, or when there is no way to run the model.
    """
    if (trains := own_training(loaded, model, input_names(model, inputs))) is not None:
        return Step(trains.code, loaded, has_loss=True, notes=trains.notes), input_names(model, inputs)
    if not _has_forward(model):
        return _pieces_step(loaded, model, inputs, tried)
    where = f"{type(model).__name__}.{'call' if runs_by_call(model) else 'forward'}"
    try:
        bound, names, notes = bind_inputs(_taken_by(model), inputs, where, run_by(model), loaded)
    except TargetError as error:
        own = own_loss_step(loaded, model, inputs, f"{where} takes more than the inputs given")
        if own is None:
            raise error from None
        return own
    call = written_call(model, bound)
    return Step(f"out = {call}", loaded, has_loss=False, call=call, notes=notes), names


def input_names(model: nn.Module, inputs: InputSet) -> list[str]:
    """A name for every input, in the order given: the user's, else that of `forward`'s parameter, else x, y, ...; raises nothing."""
    parameters = _taken_by(model) if _has_forward(model) else []
    free = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    taken = {spec.name for spec in inputs.specs if spec.name}
    waiting = [n for n in (*free, "x", "y", *(f"input{k}" for k in range(1, len(inputs.specs) + 2))) if n not in taken]
    fresh = iter(dict.fromkeys(waiting))
    return [spec.name or next(fresh) for spec in inputs.specs]


def _has_forward(model: nn.Module) -> bool:
    if runs_by_call(model):
        return has_call(model)
    forward = getattr(type(model), "forward", None)
    return forward is not None and getattr(forward, "__qualname__", "") != nn.Module.forward.__qualname__


def _taken_by(model: nn.Module) -> list[inspect.Parameter]:
    return parameters_of(model) if runs_by_call(model) else _parameters(model.forward)


def _parameters(function: Callable[..., Any]) -> list[inspect.Parameter]:
    try:
        return list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        return [inspect.Parameter("x", inspect.Parameter.POSITIONAL_OR_KEYWORD)]


def _pieces_step(loaded: Loaded, model: nn.Module, inputs: InputSet, tried: Tried | None) -> tuple[Step, list[str]]:
    """The step of a class without `forward`: encode, sample, decode; else one of its methods that computes the loss."""
    encode, decode = (getattr(model, name, None) for name in ("encode", "decode"))
    samplers = (n for n in _public_methods(model) if _SAMPLERS.fullmatch(n))
    sampler = next((n for n in samplers if len(_parameters(getattr(model, n))) == 2), None)
    where = type(model).__name__
    if callable(encode) and callable(decode) and sampler is not None:
        arguments, names, notes = bind_inputs(_parameters(encode), inputs, f"{where}.encode", encode)
        notes.append(f"{where} has no forward: encode, {sampler} and decode were called one after the other")
        encoded = f"mu, logvar = model.encode({', '.join(arguments)})"
        code = f"{encoded}; z = model.{sampler}(mu, logvar); recon = model.decode(z); out = (recon, mu, logvar)"
        return Step(code, loaded, has_loss=False, call="", notes=notes), names
    if (own := own_loss_step(loaded, model, inputs, f"{where} has no forward")) is not None:
        return own
    by_trial = [_method_step(loaded, model, inputs, name, f"{where} has no forward") for name in methods(model, len(inputs.specs))]
    that_run = [(step, names) for step, names in by_trial if tried is not None and tried(step, names)]
    if len(that_run) == 1:
        return that_run[0]
    has = ", ".join(_public_methods(model)) or "no methods"
    help = 'say what one step does: --step "mu, logvar = model.encode(x); ...; loss = ..."'
    raise TargetError(
        "VAE003", f"{where} has no forward, and no encode, sampling and decode to call instead", help, loaded.span, (f"it has {has}",)
    )


def own_loss_step(loaded: Loaded, model: nn.Module, inputs: InputSet, why: str) -> tuple[Step, list[str]] | None:
    """The step that is one method of the model which makes the loss from the inputs alone, if there is just one such method."""
    wanted = len(inputs.specs)
    losses = [n for n in _public_methods(model) if is_whole_loss(getattr(model, n), n)]
    found = [n for n in losses if n == _LIGHTNING or _needs(getattr(model, n)) == wanted]
    found = found or [n for n in losses if _needs(getattr(model, n)) - len(_chosen(getattr(model, n))) == wanted]
    calls = {name: called_names(getattr(model, name)) for name in found}
    found = [n for n in found if not any(n in called for name, called in calls.items() if name != n)]  # parts of another one
    return _method_step(loaded, model, inputs, found[0], why) if len(found) == 1 else None


def _needs(method: Callable[..., Any]) -> int:
    return sum(p.default is p.empty for p in _parameters(method))


def _chosen(method: Callable[..., Any]) -> dict[str, str]:
    """Values of vaelint's own for what a method wants after the data: a weight, a counter, a temperature."""
    wanted = [(p.name, kinds(p.name)) for p in _parameters(method) if p.default is p.empty]
    last = takewhile(lambda each: each[1] and each[1][0] in LITERALS, reversed(wanted))
    return {name: LITERALS[means[0]] for name, means in last}


def _method_step(loaded: Loaded, model: nn.Module, inputs: InputSet, name: str, why: str) -> tuple[Step, list[str]]:
    """The step that calls one method with the inputs."""
    method, notes, chosen = getattr(model, name), list[str](), dict[str, str]()
    if name == _LIGHTNING and (parameters := _parameters(method)):
        names = [spec.name or (f"input{i}" if i else "x") for i, spec in enumerate(inputs.specs)]
        arguments = [batch_of(getattr(type(model), name), parameters[0].name, names), *("0" for _ in parameters[1:])]
    else:
        chosen = _chosen(method) if _needs(method) > len(inputs.specs) else {}
        data = [p for p in _parameters(method) if p.name not in chosen]
        arguments, names, notes = bind_inputs(data, inputs, f"{type(model).__name__}.{name}", method)
        arguments = [*arguments, *(f"{key}={value}" for key, value in chosen.items())]
        notes = [*notes, *(f"{key}={value} was chosen for {name}: nothing says what it is" for key, value in chosen.items())]
    code = f"loss = model.{name}({', '.join(arguments)})"
    step = Step(code, loaded, has_loss=True, notes=[*notes, f"{why}: its method {name} is the step"])
    step.output_part, step.made_up = pick_loss, chosen
    return step, names


def _public_methods(model: nn.Module) -> list[str]:
    names = [
        n
        for base in type(model).__mro__
        if base not in nn.Module.__mro__ and not of_keras(base)
        for n, v in vars(base).items()
        if inspect.isfunction(v)
    ]
    return [n for n in dict.fromkeys(names) if not n.startswith("__")]
