"""The private torch interfaces that vaelint relies on; those that make fake tensors quick are in fakes, and nowhere else.

They have no promise of stability, so a torch of another version than those that were tried is refused, in words (`refuse_unknown`).
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.abc
import importlib.machinery
import re
import sys
import types
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch

from vaelint.core.errors import UsageError
from vaelint.core.version import __version__

KNOWN = ((2, 11), (2, 15))
"""The first and the last minor version of torch that the tests were run on; pyproject.toml asks for the same."""

OF_TENSORS = ("torch._tensor", "torch.overrides")  # modules of tensors' own methods, and of what these are handed on by
_CHANGED = "modified by an inplace operation"  # autograd's words


def refuse_unknown(version: str) -> None:
    """Raises UsageError for a version of torch outside of `KNOWN`."""
    numbers = re.match(r"(\d+)\.(\d+)", version)
    if numbers is None or not KNOWN[0] <= (int(numbers[1]), int(numbers[2])) <= KNOWN[1]:
        (a, b), (c, d) = KNOWN
        raise UsageError(
            f"vaelint {__version__} does not know torch {version}: it was tried with {a}.{b} to {c}.{d}",
            f'pip install "torch>={a}.{b},<{c}.{d + 1}", or a newer vaelint',
        )


refuse_unknown(torch.__version__)
try:
    from torch._subclasses.fake_tensor import (
        DataDependentOutputException,
        DynamicOutputShapeException,
        UnsupportedFakeTensorException,
        UnsupportedOperatorException,
    )
    from torch._subclasses.fake_tensor import FakeTensor as FakeTensor  # fakes has it from here
    from torch._subclasses.fake_tensor import FakeTensorMode as FakeTensorMode
    from torch.utils._pytree import tree_flatten, tree_unflatten
except ImportError as error:
    raise UsageError(f"torch {torch.__version__} is not as it was released: {error}", "install torch again") from error

FAKE_LIMITS: tuple[type[BaseException], ...] = (
    DataDependentOutputException,
    DynamicOutputShapeException,
    UnsupportedFakeTensorException,
    UnsupportedOperatorException,
)
"""What fake tensors raise where real ones would go on: never the user's fault."""

BatchNorm, Dropout = torch.nn.modules.batchnorm._BatchNorm, torch.nn.modules.dropout._DropoutNd
"""What the layers of their kinds have in common."""

FAKE_KERNELS = ("torch._subclasses", "torch._prims", "torch._refs", "torch._meta_registrations", "torch._decomp", "torch._ops")
"""Modules that run inside of fake operations: what they call is not the user's."""


DataLoaderIterator = torch.utils.data.dataloader._BaseDataLoaderIter
"""What iterates over a data loader."""


def changes_of(tensor: torch.Tensor) -> int:
    """How often a tensor was changed in place."""
    return tensor._version


class DynamoMissing(Exception):
    """Something in torch wanted more of `torch._dynamo` than the placeholder has."""


class _Source:
    """Stands for the classes of `torch._dynamo.source`, which fake tensors only make and store."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.args = args


def _placeholder(missing: Callable[[str], Any]) -> dict[str, types.ModuleType]:
    """Modules with what most of torch asks of `torch._dynamo`; `missing` gives whatever else is asked of it."""
    dynamo, config, source = (types.ModuleType(n) for n in ("torch._dynamo", "torch._dynamo.config", "torch._dynamo.source"))
    dynamo.__path__ = []
    dynamo.config, dynamo.source = config, source  # type: ignore[attr-defined]
    dynamo.graph_break = lambda *a, **k: None  # type: ignore[attr-defined]  # optimizers call it around their step
    dynamo.disable = lambda fn=None, *a, **k: fn or (lambda of: of)  # type: ignore[attr-defined]  # Keras calls it without a function
    config.fake_tensor_cache_enabled, config.fake_tensor_cache_crosscheck_enabled = True, False  # type: ignore[attr-defined]
    config._custom_ops_profile = None  # type: ignore[attr-defined]

    def answer(kind: str) -> Any:
        def attribute(name: str) -> Any:
            if name.startswith("__"):  # inspect and importlib ask for these and must see them absent
                raise AttributeError(name)
            if kind == "source":
                return _Source
            if kind == "config":
                return False  # unknown switches are off
            return missing(name)

        return attribute

    for module, kind in ((dynamo, "dynamo"), (config, "config"), (source, "source")):
        module.__getattr__ = answer(kind)  # type: ignore[method-assign]
    return {m.__name__: m for m in (dynamo, config, source)}


@contextlib.contextmanager
def lean_dynamo(enabled: bool = True) -> Iterator[None]:
    """Keeps `torch._dynamo` (0.8 s with sympy) from being imported by fake tensors with concrete sizes.

    They read three settings of it and wrap a few functions with `disable`. Only where nothing imported it before.
    Raises `DynamoMissing` out of the block if torch wants more; the caller then retries with `enabled=False`.
    """
    if not enabled or "torch._dynamo" in sys.modules:
        with _copyable_fakes():
            yield
        return

    def missing(name: str) -> Any:
        raise DynamoMissing(f"torch._dynamo.{name}")

    with _in_place_of_dynamo(_placeholder(missing)), _copyable_fakes():
        yield


@contextlib.contextmanager
def _in_place_of_dynamo(stand_ins: dict[str, types.ModuleType]) -> Iterator[None]:
    had = "_dynamo" in vars(torch)
    sys.modules.update(stand_ins)
    torch._dynamo = stand_ins["torch._dynamo"]
    try:
        yield
    finally:
        left = _taken_out(stand_ins)
        if left and not had:
            del torch._dynamo


def _taken_out(stand_ins: dict[str, types.ModuleType]) -> bool:
    """Whether the modules that stood in were still there."""
    there = [name for name, module in stand_ins.items() if sys.modules.get(name) is module]
    for name in there:
        del sys.modules[name]
    return bool(there)


class _Submodules(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Gives the modules below `torch._dynamo`, once that has been imported after all."""

    def __init__(self, real: Callable[[], Any]) -> None:
        self._real = real

    def find_spec(self, name: str, path: Any, target: types.ModuleType | None = None) -> importlib.machinery.ModuleSpec | None:
        """Of a module below the one that stands in."""
        if not name.startswith("torch._dynamo.") or path:
            return None
        self._real()
        return importlib.machinery.ModuleSpec(name, self)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType:
        """The real one."""
        return importlib.import_module(spec.name)

    def exec_module(self, module: types.ModuleType) -> None:
        """It has run."""


@contextlib.contextmanager
def late_dynamo() -> Iterator[None]:
    """Within the block `torch._dynamo`, which optimizers import and which takes longer than torch itself, is imported when more is asked of
    it than to leave a function as it is. For the code of users: it gets all that it asks for.
    """
    if "torch._dynamo" in sys.modules:
        yield
        return

    def real(name: str = "") -> Any:
        if _taken_out(stand_ins):
            del torch._dynamo
        module = importlib.import_module("torch._dynamo")
        return getattr(module, name) if name else module

    stand_ins, finder = _placeholder(real), _Submodules(real)
    sys.meta_path.insert(0, finder)
    try:
        with _in_place_of_dynamo(stand_ins):
            yield
    finally:
        sys.meta_path.remove(finder)


@contextlib.contextmanager
def _copyable_fakes() -> Iterator[None]:
    """`copy.deepcopy` of a fake tensor makes another one; torch's own way copies bytes that are not there and corrupts memory."""
    original = torch.Tensor.__deepcopy__

    def deepcopy(self: torch.Tensor, memo: dict[int, Any]) -> Any:
        if not isinstance(self, FakeTensor):
            return original(self, memo)  # type: ignore[no-untyped-call]
        if id(self) not in memo:
            new = self.detach().clone()
            is_parameter = getattr(self, "_is_param", False)
            memo[id(self)] = torch.nn.Parameter(new, self.requires_grad) if is_parameter else new.requires_grad_(self.requires_grad)
        return memo[id(self)]

    torch.Tensor.__deepcopy__ = deepcopy  # type: ignore[method-assign]
    try:
        yield
    finally:
        torch.Tensor.__deepcopy__ = original  # type: ignore[method-assign]


def no_torch_function() -> contextlib.AbstractContextManager[Any]:
    """Calls of torch within the block pass by all function modes and overridden tensors. Costs a fraction of a microsecond."""
    off: contextlib.AbstractContextManager[Any] = torch._C.DisableTorchFunction()
    return off


def is_wrapped(tensor: torch.Tensor) -> bool:
    """Whether a tensor is seen from inside a transform of `torch.func`, where it stands for another one."""
    wrapped: bool = torch._C._functorch.is_functorch_wrapped_tensor(tensor)
    return wrapped


@contextlib.contextmanager
def vmap_row_by_row() -> Iterator[None]:
    """`torch.vmap` calls the function for each row and stacks the results, so that modes see what it does. Where this torch lets it."""
    apis, inner = sys.modules.get("torch._functorch.apis"), sys.modules.get("torch._functorch.vmap")
    original, taken_apart = getattr(apis, "vmap_impl", None), getattr(inner, "_process_batched_inputs", None)
    if apis is None or original is None or taken_apart is None:
        yield
        return

    def looped(function: Any, in_dims: Any, out_dims: Any, randomness: Any, chunk_size: Any, *args: Any, **kwargs: Any) -> Any:
        count, dims, flat, spec = taken_apart(in_dims, args, function)
        rows = ([a if d is None else a.select(d, i) for a, d in zip(flat, dims, strict=True)] for i in range(int(count)))
        return _stacked([function(*spec.unflatten(row), **kwargs) for row in rows], out_dims)

    apis.vmap_impl = looped  # type: ignore[attr-defined]
    try:
        yield
    finally:
        apis.vmap_impl = original  # type: ignore[attr-defined]


def _stacked(results: list[Any], out_dims: Any) -> Any:
    """Results of all rows as one, along the axes that are asked for; None takes that of one row."""
    flat = [tree_flatten(r) for r in results]
    dims = [out_dims] * len(flat[0][0]) if isinstance(out_dims, int) else tree_flatten(out_dims)[0]
    parts = zip(*(leaves for leaves, _ in flat), strict=True)
    return tree_unflatten([p[0] if d is None else torch.stack(p, d) for p, d in zip(parts, dims, strict=True)], flat[0][1])


def fakes_active() -> bool:
    """Whether new tensors are fake."""
    return torch._C._get_dispatch_mode(torch._C._TorchDispatchModeKey.FAKE) is not None


def constant_of(tensor: torch.Tensor) -> torch.Tensor | None:
    """The value of a fake tensor that was made of plain numbers alone; None where it has none."""
    return tensor.constant if isinstance(tensor, FakeTensor) else None


def storage_of(tensor: torch.Tensor) -> int | None:
    """A number that two tensors share if they share memory; None for sparse and other layouts, which have no storage."""
    try:
        return int(tensor.untyped_storage()._cdata)
    except (NotImplementedError, RuntimeError):
        return None


def version_of(tensor: torch.Tensor) -> int:
    """How often a tensor was changed in place; 0 for those of inference mode, which do not count."""
    return 0 if tensor.is_inference() else int(tensor._version)


def own_tensors(module: torch.nn.Module, *, parameters: bool = True) -> Iterator[tuple[str, torch.Tensor]]:
    """The parameters (unless not asked for) and buffers that a module itself holds, whatever it makes of `named_parameters`."""
    held = (*module._parameters.items(), *module._buffers.items()) if parameters else module._buffers.items()
    return ((k, v) for k, v in held if v is not None)


def adopt(module: torch.nn.Module, parameters: Mapping[str, torch.nn.Parameter], modules: Mapping[str, torch.nn.Module]) -> None:
    """Makes these parameters and modules a module's own, also where it has attributes of these names, which then stay."""
    module._parameters.update(parameters)
    module._modules.update(modules)


def replace_own_tensors(module: torch.nn.Module, new: dict[str, torch.Tensor]) -> None:
    """Puts other parameters and buffers in the place of those of these names that a module itself holds."""
    for name, value in new.items():
        (module._parameters if name in module._parameters else module._buffers)[name] = value  # type: ignore[assignment]
    if isinstance(module, torch.nn.RNNBase):
        _relink(module)


def own_layers(module: torch.nn.Module) -> Iterator[tuple[str, torch.nn.Module]]:
    """The modules that a module itself holds, each by every name it has there."""
    return ((k, v) for k, v in module._modules.items() if v is not None)


def distributions_validate() -> bool:
    """Whether torch's distributions check their arguments."""
    return bool(torch.distributions.Distribution._validate_args)


def print_options() -> dict[str, Any]:
    """How tensors are printed; changed in place it is changed for all."""
    return vars(torch._tensor_str.PRINT_OPTS)


def hooks_of_all_modules() -> list[dict[Any, Any]]:
    """The hooks that every module runs, and what is kept beside them."""
    known = vars(torch.nn.modules.module)
    return [v for k, v in known.items() if k.startswith("_global_") and isinstance(v, dict)]


@contextlib.contextmanager
def without_modes() -> Iterator[None]:
    """Inside, none of the caller's modes is in force: default devices, function and dispatch modes. All are as before afterwards."""
    from torch.overrides import _get_current_function_mode_stack, _pop_mode, _push_mode
    from torch.utils import _device
    from torch.utils._python_dispatch import _disable_current_modes

    def taken() -> list[Any]:
        return [_pop_mode() for _ in _get_current_function_mode_stack()]  # type: ignore[no-untyped-call]

    modes, holder, current = taken(), torch._GLOBAL_DEVICE_CONTEXT, _device.CURRENT_DEVICE
    default, holder.device_context, _device.CURRENT_DEVICE = getattr(holder, "device_context", None), None, None
    try:
        with _disable_current_modes():
            yield
    finally:
        taken()  # what user code set and left
        for mode in reversed(modes):
            _push_mode(mode)  # type: ignore[no-untyped-call]
        holder.device_context, _device.CURRENT_DEVICE = default, current


def saved_by(function: Any, within: FakeTensorMode | None = None) -> Iterator[tuple[str, Any]]:
    """What a backward function holds, by name: the `_saved_*` of torch's own, the `saved_tensors` of a user's.

    A RuntimeError stands for what was changed in place since, or freed: the backward pass would say the same. `within` is the mode of what
    it holds: each value is given as a view of itself, which a mode that remembers operations makes in a tenth of the time.
    """
    for name in dir(function):
        if name.startswith("_saved_") or name == "saved_tensors":
            try:
                with within or contextlib.nullcontext():
                    held = getattr(function, name)
                yield name, held
            except RuntimeError as error:
                yield name, error


def is_broken(function: Any) -> bool:
    """Whether something that a backward function holds has been changed in place since: asked for a gradient, it raises."""
    saved = saved_by(function)
    return any(isinstance(value, RuntimeError) and tells_of_change(value) for name, value in saved if name != "saved_tensors")


def tells_of_change(error: BaseException) -> bool:
    """Whether autograd refuses since a tensor that it kept has been changed in place."""
    return _CHANGED in str(error)


def to_fake(model: torch.nn.Module, mode: FakeTensorMode) -> dict[int, torch.Tensor]:
    """Replaces the parameters and buffers of a real model by fakes, for constructors that fake tensors cannot run.

    Returns the new parameters by the ids of those that they replace.
    """
    exchanged: dict[int, torch.Tensor] = {}  # a parameter that two modules share stays one
    for module in model.modules():
        for name, param in module._parameters.items():
            if param is not None and not torch.nn.parameter.is_lazy(param):
                if id(param) not in exchanged:
                    exchanged[id(param)] = torch.nn.Parameter(mode.from_tensor(param.detach()), requires_grad=param.requires_grad)
                module._parameters[name] = exchanged[id(param)]  # type: ignore[assignment]
        for name, buffer in module._buffers.items():
            if buffer is not None and not torch.nn.parameter.is_lazy(buffer):
                module._buffers[name] = mode.from_tensor(buffer)
        if isinstance(module, torch.nn.RNNBase):
            _relink(module)
    return exchanged


def _relink(module: torch.nn.RNNBase) -> None:
    """A recurrent layer keeps its parameters in a list of its own as well: after one was replaced, that is made again."""
    module._flat_weights = [getattr(module, n, None) for n in module._flat_weights_names]
