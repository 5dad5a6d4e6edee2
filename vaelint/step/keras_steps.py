"""How a Keras model is run and trained: `call`, `compile(loss=...)`, `compute_loss`, `add_loss`, a `train_step` of its own."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator, Sequence
from typing import Any

from torch import nn

from vaelint.core.inputs import InputSpec
from vaelint.late import dataclass
from vaelint.loading.build import Loaded
from vaelint.loading.keras_calls import calls_of, loss_of, target_of, tree_of
from vaelint.step.reading import batch_of
from vaelint.trace.keras_models import forward_of, is_keras, is_users, of_keras

_OF_KERAS = frozenset({"training", "mask"})  # arguments that Keras fills
_ROWS = (32, 24, 40, 36)  # of a batch: the first that no other axis has
_FREE = {4: (32, 64, 48, 96), 5: (16, 32, 24, 48)}  # of axes that an Input leaves open, by the number of axes; images are halved often
_FREE_ELSE = (20, 24, 28, 36)


def runs_by_call(model: nn.Module) -> bool:
    """Whether the model is a Keras model, whose code is in `call`."""
    return is_keras(model) and not is_users(model, "forward")


def run_by(model: nn.Module) -> Any:
    """The method that runs the model: `call` of a Keras model, `forward` of any other."""
    return model.call if runs_by_call(model) else model.forward


def parameters_of(model: nn.Module) -> list[inspect.Parameter]:
    """What a Keras model takes: its `keras.Input`s, else the arguments of its `call`."""
    if _of_inputs(model):
        names = [re.sub(r"\W", "_", str(getattr(t, "name", "") or "x")) for t in model.inputs]  # type: ignore[union-attr]
        usable = [n if n.isidentifier() and names.count(n) == 1 and not n.startswith("keras_tensor") else "" for n in names]
        alone = ["x"] if len(names) == 1 else [f"x{i + 1}" for i in range(len(names))]
        return [inspect.Parameter(n or other, inspect.Parameter.POSITIONAL_OR_KEYWORD) for n, other in zip(usable, alone, strict=True)]
    found = inspect.signature(run_by(model)).parameters.values()
    return [p for p in found if p.name not in _OF_KERAS and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]


def _of_inputs(model: nn.Module) -> bool:
    """Whether the model is a graph between `keras.Input`s and outputs."""
    return bool(getattr(model, "inputs", None)) and not is_users(model, "call")


def own_inputs(model: nn.Module) -> list[InputSpec]:
    """The inputs of a batch as a Keras model's own `Input`s say them; none where it has no such."""
    return [_spec_of(model, tensor) for tensor in model.inputs] if is_keras(model) and _of_inputs(model) else []  # type: ignore[union-attr]


def _spec_of(model: nn.Module, tensor: Any) -> InputSpec:
    rows, *rest = tensor.shape
    told = {n for n in rest if n}
    free = iter(n for n in _FREE.get(len(tensor.shape), _FREE_ELSE) if n not in told)
    sizes = [n or next(free) for n in rest]
    whole = (rows or next(n for n in _ROWS if n not in sizes), *sizes)
    kinds = [*_looked_up(model, tensor)]
    if kinds:
        return InputSpec(None, whole, ("",) * len(whole), "int64", 0.0, float(min(kinds) - 1))
    dtype = tensor.dtype if tensor.dtype.startswith(("float", "int", "uint", "bool")) else "float32"
    return InputSpec(None, whole, ("",) * len(whole), dtype)


def _looked_up(model: Any, tensor: Any) -> Iterator[int]:
    """How many entries the tables have in which a graph looks an input up, itself or by a graph within it."""
    for layer in getattr(model, "layers", ()):
        for node in layer._inbound_nodes:
            for i in (i for i, given in enumerate(node.input_tensors) if given is tensor):
                if type(layer).__name__ == "Embedding":
                    yield layer.input_dim
                elif i < len(inner := getattr(layer, "inputs", None) or ()):
                    yield from _looked_up(layer, inner[i])


def written_call(model: nn.Module, bound: Sequence[str]) -> str:
    """The call of the model as a training runs it. Keras has no mode of a model: `training` is handed on from call to call."""
    if not runs_by_call(model):
        return f"model({', '.join(bound)})"
    given = [f"[{', '.join(bound)}]"] if _of_inputs(model) and len(bound) > 1 else list(bound)
    if "training" in inspect.signature(forward_of(model)).parameters and _asks_for_mode(model):
        given.append("training=model.training")
    return f"model({', '.join(given)})"


def _asks_for_mode(model: nn.Module) -> bool:
    """Whether a layer does something else in training: a model without such a layer is called as it is written."""
    return any("training" in getattr(m, "call_signature_parameters", ()) and _has_mode(m) for m in model.modules())


def _has_mode(layer: nn.Module) -> bool:
    """Of Keras' layers many take `training`, and few do anything with it."""
    if hasattr(layer, "train_step") and not is_users(layer, "call"):
        return False  # a graph of layers, which are asked themselves
    own = "BatchNormalization" in type(layer).__name__ or any(getattr(layer, name, 0) for name in ("rate", "dropout", "stddev", "seed"))
    return own or not of_keras(type(layer))


@dataclass(frozen=True)
class Training:
    """How a Keras model trains: code that leaves its loss or runs a step of its own, and what a user should know of it."""

    code: str
    notes: tuple[str, ...]
    loss: ast.expr | None = None  # what `compile` gets, where Keras itself computes the loss
    partly: bool = False  # whether no `compile` was seen: what the layers add may be a part of the loss only


def own_training(loaded: Loaded, model: nn.Module, names: Sequence[str]) -> Training | None:
    """The training of a Keras model that has a `train_step` and no `call`; None for any other."""
    without = runs_by_call(model) and not has_call(model)
    return training_of(loaded, model, "", names) if without and is_users(model, "train_step") else None


def has_call(model: nn.Module) -> bool:
    """Whether a Keras model can be called: it is a graph of layers, or a `call` of the user's runs it."""
    return _of_inputs(model) or hasattr(model, "add") or is_users(model, "call") or not hasattr(model, "train_step")


def training_of(loaded: Loaded, model: nn.Module, prefix: str, names: Sequence[str]) -> Training | None:
    """The training of a Keras model, as its own methods, its `compile` or its layers say; None where nothing does.

    `prefix` runs the model and leaves its output in `out`.
    """
    if not is_keras(model) or not hasattr(model, "compute_loss") or not names:
        return None
    if is_users(model, "train_step"):
        own: Any = next(vars(base)["train_step"] for base in type(model).__mro__ if "train_step" in vars(base))
        parameter = list(inspect.signature(own).parameters)[1]
        return Training(f"model.train_step({batch_of(own, parameter, names)})", ("the step is the model's own train_step",))
    compiled = getattr(model, "_compile_loss", None) is not None
    own_loss = is_users(model, "compute_loss")
    if not (compiled or own_loss or getattr(model, "losses", None)):
        return None
    y, notes = _target(loaded, model, names, compiled or own_loss)
    how = "compute_loss" if own_loss else " and ".join(s for s, there in (("compile", compiled), ("add_loss", bool(model.losses))) if there)
    code = f"{prefix}; loss = model.compute_loss({names[0]}, {y}, out, None)"
    given = loss_of(tree_of(loaded.file), loaded.name) if compiled and not own_loss else None
    unseen = (
        not compiled and not own_loss and not calls_of(tree_of(loaded.file), loaded.name, "compile") and not getattr(model, "compiled", 0)
    )
    return Training(code, (*notes, f"the loss is that of the model's {how}"), given, unseen)


def _target(loaded: Loaded, model: nn.Module, names: Sequence[str], wanted: bool) -> tuple[str, list[str]]:
    """What the outputs are compared with, as Python; notes where nothing says."""
    told = target_of(tree_of(loaded.file), loaded.name)
    if told is None:
        note = f"nothing says what fit gets: the output is compared with {names[0]}"
        return (_each(model, names[0]), [note]) if wanted else ("None", [])
    x, y, line = ast.unparse(told[0]), told[1], told[2]
    if y is None:
        note = f"fit gets {x} alone (line {line}): the output is compared with {names[0]}"
        return (_each(model, names[0]), [note]) if wanted else ("None", [])
    if keys := _outputs(model):
        return _of_each_output(keys, x, y, line, names)
    if ast.unparse(y) == x:
        return names[0], []
    if len(names) > 1:
        return names[-1], []
    return names[0], [
        f"fit compares the output with {ast.unparse(y)} (line {line}); {names[0]} is in its place, as no --input is given for it"
    ]


def _outputs(model: Any) -> list[tuple[str, str]]:
    """For each of several outputs: how it is read off `out`, and its name; nothing for a model of one output."""
    names = list(getattr(model, "output_names", None) or ()) if _of_inputs(model) else []
    structure = getattr(model, "_outputs_struct", None) if _of_inputs(model) else getattr(model, "loss", None)
    if isinstance(structure, dict) and len(structure) > 1:
        return [(f"out[{key!r}]", str(key)) for key in structure]
    if not isinstance(structure, list | tuple) or len(structure) < 2:
        return []
    return [(f"out[{i}]", names[i] if i < len(names) else "") for i in range(len(structure))]


def _each(model: Any, value: str) -> str:
    """One value as the target of every output."""
    keys = _outputs(model)
    return _packed(keys, [value] * len(keys)) if keys else value


def _packed(keys: Sequence[tuple[str, str]], values: Sequence[str]) -> str:
    """One value for each output, in a list or dictionary as the outputs are."""
    if not keys[0][0].endswith("']"):
        return f"[{', '.join(values)}]"
    return "{" + ", ".join(f"{name!r}: {value}" for (_, name), value in zip(keys, values, strict=True)) + "}"


def _of_each_output(keys: Sequence[tuple[str, str]], x: str, y: ast.expr, line: int, names: Sequence[str]) -> tuple[str, list[str]]:
    """The targets of several outputs. One that is no input of the check is zeros like its output, and a note says so."""
    if isinstance(y, ast.Dict):
        written = {k.value: v for k, v in zip(y.keys, y.values, strict=True) if isinstance(k, ast.Constant)}
        given = [written.get(name) for _, name in keys]
    elif isinstance(y, ast.List | ast.Tuple) and len(y.elts) == len(keys):
        given = list(y.elts)
    else:
        given = [None] * len(keys)
    spare, values, notes = list(names[1:]), [], []
    for (output, _), target in zip(keys, given, strict=True):
        text = ast.unparse(target) if target is not None else ""
        if text == x or text in names:
            values.append(names[0] if text == x else text)
        elif target is not None and spare:
            values.append(spare.pop(0))
        else:
            values.append(f"({output} * 0).detach()")
            notes.append(
                f"fit compares {output} with {text or ast.unparse(y)} (line {line}); zeros are in its place, as no --input is given for it"
            )
    return _packed(keys, values), notes
