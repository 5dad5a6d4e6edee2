"""Keras models on the torch backend: how they are recognised, copied, built and recorded. Imports no Keras by itself."""

from __future__ import annotations

import contextlib
import copy
import functools
import sys
import types
from collections.abc import Callable, Container, Iterator, Mapping
from typing import Any

import torch

from vaelint.trace import keras_places, torch_private

_LOSSES = "keras.src.losses.loss"
_RANDOM = "keras.src.backend.torch.random"
_LAYER, _DENSE = "keras.src.backend.torch.layer", "keras.src.layers.core.dense"
_NORMALISED = "keras.src.layers.normalization.batch_normalization.BatchNormalization"
_DROPOUT = "keras.src.layers.regularization.dropout.Dropout"


def is_keras(model: object) -> bool:
    """Whether a model, or a class, is a Keras layer of the torch backend."""
    kind = model if isinstance(model, type) else type(model)
    return "keras" in sys.modules and issubclass(kind, torch.nn.Module) and any(of_keras(base) for base in kind.__mro__)


def is_used_by(namespace: Mapping[str, Any]) -> bool:
    """Whether a module has imported Keras, or something of it, or the tensorflow that is Keras here."""
    if "keras" not in sys.modules:
        return False
    named = (v.__name__ if isinstance(v, types.ModuleType) else str(getattr(v, "__module__", "")) for v in namespace.values())
    return any(name.partition(".")[0] in ("keras", "tensorflow") for name in named)


def of_keras(base: type) -> bool:
    """Whether a class is one of Keras' own."""
    return base.__module__.startswith("keras.src.")


def is_users(model: object, name: str) -> bool:
    """Whether a class below Keras' own defines the method `name`."""
    owner = next((base for base in type(model).__mro__ if name in vars(base)), None)
    return owner is not None and not of_keras(owner) and owner not in torch.nn.Module.__mro__


def forward_of(model: torch.nn.Module) -> Callable[..., Any]:
    """The function of the class that runs the model: `call` of a Keras model, `forward` of any other."""
    kind: Any = type(model)
    found: Callable[..., Any] = kind.call if is_keras(model) and not is_users(model, "forward") else kind.forward
    return found


def is_unbuilt(model: torch.nn.Module) -> bool:
    """Whether a Keras layer in it makes its weights at its first call, and has not been called."""
    return "keras" in sys.modules and any(getattr(m, "built", True) is False for m in model.modules() if is_keras(m))


# --- what is settled once Keras is there ----------------------------------------------------------------------------


def settle() -> None:
    """Once user code has imported Keras: errors come as they are raised, draws are torch's own, a mean over all values is a mean.

    Keras seeds a `torch.Generator` from a state that it reads as a number for each draw. Drawing from torch's generator instead is the
    same distribution, needs no value, and follows torch's seed, as experiments want it. A seed given as an integer stays what it is.
    """
    keras = sys.modules.get("keras")
    if keras is None or not hasattr(keras, "backend") or keras.backend.backend() != "torch":  # a folder of that name has no backend
        return
    keras.config.disable_traceback_filtering()
    keras_places.keep_places()
    random, losses, layer = (sys.modules.get(name) for name in (_RANDOM, _LOSSES, _LAYER))
    if layer is not None:
        layer.TorchLayer._track_variables = _register
    if random is not None and not hasattr(random.torch_seed_generator, "settled"):
        random.torch_seed_generator = _generator  # type: ignore[attr-defined]
    if losses is not None and not hasattr(losses.reduce_values, "settled"):
        losses.reduce_values = _reducing(losses.reduce_values)  # type: ignore[attr-defined]
    dense: Any = sys.modules[_DENSE].Dense
    if not hasattr(dense.call, "settled"):
        dense.call = _linear(dense.call)
    for place, as_torch in ((_NORMALISED, _over_the_batch), (_DROPOUT, _dropping)):
        kind = _class_of(place)
        if not hasattr(kind.call, "settled"):
            kind.call = as_torch(kind.call)


def _generator(seed: object) -> torch.Generator | None:
    if not isinstance(seed, int):
        return None
    return torch.Generator().manual_seed(seed & 0xFFFFFFFF)


def _linear(original: Callable[..., Any]) -> Callable[..., Any]:
    """`Dense` as torch's own affine layer, which it is: a product and a sum say less."""

    @functools.wraps(original)
    def call(self: Any, inputs: Any, training: Any = None) -> Any:
        if getattr(self, "quantization_mode", None) or getattr(self, "lora_enabled", False) or not isinstance(inputs, torch.Tensor):
            return original(self, inputs, training)
        made = torch.nn.functional.linear(inputs, self.kernel.value.t(), self.bias.value if self.bias is not None else None)
        return self.activation(made) if self.activation is not None else made

    call.settled = True  # type: ignore[attr-defined]
    return call


def _over_the_batch(original: Callable[..., Any]) -> Callable[..., Any]:
    """`BatchNormalization` as torch's own, which it is but for what it keeps of the spread: torch divides that by one less."""

    @functools.wraps(original)
    def call(self: Any, inputs: Any, training: Any = None, mask: Any = None) -> Any:
        training = bool(training) and self.trainable and self.training
        own = mask is not None or getattr(self, "renorm", False) or not isinstance(inputs, torch.Tensor) or inputs.dim() < 2
        if own or inputs.dtype is not self.moving_mean.value.dtype:
            return original(self, inputs, training=training, mask=mask)
        scale, offset = (v.value if v is not None else None for v in (self.gamma, self.beta))
        kept = self.moving_mean.value, self.moving_variance.value
        rate = {"momentum": 1 - self.momentum, "eps": self.epsilon}
        if self.axis in (1, 1 - inputs.dim()):
            return torch.nn.functional.batch_norm(inputs, *kept, scale, offset, training, **rate)
        return torch.nn.functional.batch_norm(inputs.movedim(self.axis, 1), *kept, scale, offset, training, **rate).movedim(1, self.axis)

    call.settled = True  # type: ignore[attr-defined]
    return call


def _dropping(original: Callable[..., Any]) -> Callable[..., Any]:
    """`Dropout`, which drops nothing in a layer that an experiment has put into evaluation mode."""

    @functools.wraps(original)
    def call(self: Any, inputs: Any, training: Any = False) -> Any:
        return original(self, inputs, training=bool(training) and self.training)

    call.settled = True  # type: ignore[attr-defined]
    return call


def has_mode(layer: torch.nn.Module) -> bool:
    """Whether a layer is one of Keras' that normalises over the batch, or drops values: `eval()` turns either off here."""
    return is_keras(layer) and isinstance(layer, tuple(k for k in map(_class_of, (_NORMALISED, _DROPOUT)) if k is not None))


def _class_of(place: str) -> Any:
    module, _, name = place.rpartition(".")
    return getattr(sys.modules.get(module), name, None)


def _register(layer: Any) -> None:
    """Registers a layer's own variables as its parameters, by their names: Keras keeps all those below it in a list, by their paths."""
    own: dict[str, Any] = {}
    for variable in (*layer._trainable_variables, *layer._non_trainable_variables):
        own[_free(variable.name, own)] = variable.value
    vars(layer)["_torch_params"] = {}
    torch_private.adopt(layer, own, {})


def _free(name: object, taken: Container[str]) -> str:
    """A name for a parameter or child, with none of the dots that part names in torch."""
    free = str(name).replace(".", "_")
    while free in taken:
        free += "_"
    return free


def register(model: torch.nn.Module) -> None:
    """Registers what the Keras layers of a model have made by now, and the layers that they keep in lists."""
    left, seen = [model] if "keras" in sys.modules else [], set[int]()
    while left:
        module = left.pop()
        if id(module) in seen:
            continue
        seen.add(id(module))
        if is_keras(module):
            _adopt(module)
            _register(module)
        left += module.children()


def _adopt(layer: Any) -> None:
    """Makes the layers that Keras keeps in a list of its own (all of a functional model) children of this one."""
    named, kept = dict(layer.named_children()), getattr(layer, "_layers", ())
    known = {id(m) for m in named.values()}
    for inner in kept:
        if isinstance(inner, torch.nn.Module) and id(inner) not in known and type(inner).__name__ != "InputLayer":
            taken = {*named, *dir(type(layer))}  # a layer named `output` is not what a model has under that name
            named[_free(getattr(inner, "name", "layer"), taken)] = inner
    torch_private.adopt(layer, {}, named)


_generator.settled = True  # type: ignore[attr-defined]


def _reducing(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def reduce_values(values: torch.Tensor, sample_weight: Any = None, reduction: str | None = "sum_over_batch_size") -> torch.Tensor:
        if reduction in ("sum_over_batch_size", "mean") and values.dim() and values.numel():
            return values.mean()
        made: torch.Tensor = original(values, sample_weight, reduction)
        return made

    reduce_values.settled = True  # type: ignore[attr-defined]
    return reduce_values


# --- copies and fakes ------------------------------------------------------------------------------------------------


def copied(model: torch.nn.Module, memo: dict[int, Any] | None = None) -> torch.nn.Module:
    """A copy of a Keras model as it is; `copy.deepcopy` would write it to a file and read that again, without the user's classes."""
    saveable: Any = sys.modules["keras.src.saving.keras_saveable"].KerasSaveable
    scope: Any = sys.modules["keras.src.utils.tracking"].DotNotTrackScope
    register(model)
    memo = {id(module): module for module in sys.modules.values()} | (memo or {})
    for layer in model.modules():
        if isinstance(losses := vars(layer).get("_losses"), list):
            memo[id(losses)] = []  # of a call that is over
    reduce = saveable.__reduce__
    saveable.__reduce__ = object.__reduce__
    try:
        with scope():
            made: torch.nn.Module = copy.deepcopy(model, memo)
    finally:
        saveable.__reduce__ = reduce
    for layer in made.modules():
        for name in ("build", "quantize"):
            if isinstance(function := vars(layer).get(name), types.FunctionType):
                vars(layer)[name] = _rebound(function, memo)
    register(made)
    return made


def _rebound(function: types.FunctionType, memo: dict[int, Any]) -> types.FunctionType:
    """A wrapper that Keras puts on each layer, holding the copied layer in the place of the one that was copied."""

    def other(value: Any) -> Any:
        if isinstance(value, types.MethodType):
            return types.MethodType(value.__func__, memo.get(id(value.__self__), value.__self__))
        return memo.get(id(value), value)

    cells = tuple(types.CellType(other(cell.cell_contents)) for cell in function.__closure__ or ())
    made = types.FunctionType(function.__code__, function.__globals__, function.__name__, function.__defaults__, cells)
    made.__dict__.update({k: other(v) for k, v in function.__dict__.items()})
    return made


def relink(model: torch.nn.Module, exchanged: dict[int, torch.Tensor], fake: Callable[[torch.Tensor], torch.Tensor]) -> None:
    """Keras' variables hold the parameters that were exchanged, by id; what no module holds (an optimizer's state) is made fake as well."""
    for variable in _variables(model):
        value = variable._value
        if isinstance(value, torch.Tensor) and id(value) not in exchanged:
            exchanged[id(value)] = torch.nn.Parameter(fake(value.detach()), requires_grad=value.requires_grad)
        if isinstance(value, torch.Tensor):
            variable._value = exchanged[id(value)]


def _variables(model: torch.nn.Module) -> Iterator[Any]:
    if "keras" not in sys.modules:
        return
    seen: set[int] = set()
    owners = [m for m in model.modules() if is_keras(m)] + [o for m in model.modules() if (o := getattr(m, "optimizer", None)) is not None]
    for owner in owners:
        for metric in (owner, *getattr(owner, "_metrics", ()), *getattr(owner, "metrics", ())):
            for variable in getattr(metric, "variables", ()):
                if id(variable) not in seen and hasattr(variable, "_value"):
                    seen.add(id(variable))
                    yield variable


# --- while a step is recorded ----------------------------------------------------------------------------------------


@contextlib.contextmanager
def metrics_aside(recorder: Any) -> Iterator[None]:
    """Within the block what metrics add up is not recorded: it is no part of the loss."""
    metrics: Any = sys.modules.get("keras.src.metrics.metric")
    if metrics is None:
        yield
        return
    kinds: list[Any] = [k for k in _below(metrics.Metric) if "update_state" in vars(k)]
    kept = [(k, vars(k)["update_state"]) for k in kinds]

    def aside(original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def update_state(self: Any, *args: Any, **kwargs: Any) -> Any:
            was, recorder.paused = recorder.paused, True
            try:
                with torch.no_grad():
                    return original(self, *args, **kwargs)
            finally:
                recorder.paused = was

        return update_state

    for kind, original in kept:
        kind.update_state = aside(original)
    try:
        yield
    finally:
        for kind, original in kept:
            kind.update_state = original


def _below(kind: type) -> list[type]:
    found: dict[type, None] = {kind: None}
    kinds: list[type] = type.__subclasses__(kind)
    for inner in kinds:
        found.update(dict.fromkeys(_below(inner)))
    return list(found)


def optimizers() -> list[Any]:
    """Keras' classes of optimizers that define how gradients are applied."""
    module: Any = sys.modules.get("keras.src.optimizers.base_optimizer")
    return [k for k in _below(module.BaseOptimizer) if "apply" in vars(k)] if module is not None else []


def beside_the_loss() -> list[tuple[Any, str]]:
    """Keras' methods that are no part of a loss, as (class, name): what optimizers apply and metrics add up."""
    metrics: Any = sys.modules.get("keras.src.metrics.metric")
    if metrics is None:
        return []  # only Keras' data sets are there, stood in for
    return [(k, "apply") for k in optimizers()] + [(k, "update_state") for k in _below(metrics.Metric) if "update_state" in vars(k)]


def held_by(optimizer: Any, variables: Any) -> list[torch.Tensor]:
    """The parameters that a call of a Keras optimizer's `apply` changes: those it is given, else those it was built for."""
    return values_of(variables if variables is not None else getattr(optimizer, "_trainable_variables", ()))


def values_of(variables: Any) -> list[torch.Tensor]:
    """The parameters behind some of Keras' variables."""
    return [v.value if hasattr(v, "_value") else v for v in variables]
