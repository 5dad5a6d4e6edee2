"""A mode of fake tensors that remembers what operations make. Private torch interfaces, as in torch_private.py."""

from __future__ import annotations

import contextlib
import functools
import logging
from collections.abc import Sequence
from typing import Any

import torch

from vaelint.late import dataclass
from vaelint.trace.fakes.small_kernels import is_like, made_of_ones
from vaelint.trace.fakes.unwatched import unwatched
from vaelint.trace.torch_private import FakeTensor, FakeTensorMode, lean_dynamo, no_torch_function

try:
    from torch._subclasses.fake_impls import constructors, op_implementations_checks
    from torch._subclasses.fake_tensor import in_kernel_invocation_manager

    _RULES: list[tuple[Any, Any]] | None = op_implementations_checks
except ImportError:  # another torch: what its kernels say is asked its own way
    _RULES = None


@dataclass(frozen=True)
class _Made:
    """A tensor that an operation makes, but for its values."""

    shape: tuple[int, ...]
    stride: tuple[int, ...]
    offset: int
    dtype: torch.dtype
    device: torch.device
    attributes: dict[str, Any]  # what torch's constructor of fake tensors leaves on it
    view_of: int | None  # the argument whose storage it shares


_PLAIN = (int, float, bool, str, type(None), torch.dtype, torch.device, torch.layout, torch.memory_format)
_LEFT_ALONE = (torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape, torch.Tag.inplace_view)
_SELF = ()  # an operation in place gives its first argument back
_made: dict[tuple[Any, ...], Sequence[_Made] | None] = {}  # by operation and arguments; None for what has to be asked each time
_plain: dict[Any, bool] = {}


class _QuickFakeMode(FakeTensorMode):  # type: ignore[no-untyped-call]
    """Remembers what an operation makes of arguments of such shapes, types and devices.

    Torch's own cache does the same with five times the work for each hit: it allows for symbolic sizes, sparse and quantised tensors, and
    for writes. Here these are left to it, as is all that is met for the first time.
    """

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.prim.device.default:
            return args[0].fake_device
        with no_torch_function():
            key = self._key(func, args, kwargs)
            known = _made.get(key) if key is not None else None
            if known is _SELF:
                return args[0]
            if known is not None:
                made = [self._make(m, args) for m in known]
                return made if type(known) is list else tuple(made) if len(made) > 1 else made[0]
            if key is not None and key not in _made and _asks_a_kernel(func):
                with unwatched():
                    result = self._asked(func, args, kwargs or {})
                if result is not None and (told := self._told(func, args, result)) is not None:
                    _made[key] = told
                    return result
        with unwatched() if key is not None else contextlib.nullcontext():  # another's operation may run the user's own function
            result = super().__torch_dispatch__(func, types, args, kwargs or {})
        if key is not None and key not in _made:
            with no_torch_function():
                _made[key] = self._told(func, args, result)
        return result

    def _key(self, func: Any, args: Any, kwargs: Any) -> tuple[Any, ...] | None:
        if not _is_plain(func) or torch.is_inference_mode_enabled():
            return None
        parts: list[Any] = [func, torch.get_default_dtype()]
        if all(self._add(parts, a) for a in args) and all(self._add(parts, a) for pair in (kwargs or {}).items() for a in pair):
            return tuple(parts)
        return None

    def _add(self, parts: list[Any], value: Any) -> bool:
        kind = type(value)
        if kind is FakeTensor:
            if value.fake_mode is not self or value.constant is not None or value.layout is not torch.strided or value.is_complex():
                return False
            parts += value.shape, value.stride(), value.storage_offset(), value.dtype, value.fake_device
            return True
        if kind in _PLAIN:
            parts += kind, value
            return True
        if kind in (list, tuple):
            parts += kind, len(value)
            return all(self._add(parts, v) for v in value)
        return False

    def _asked(self, func: Any, args: Any, kwargs: Any) -> Any:
        """What torch's kernel says; None where torch does more than to ask its kernel for shapes, and where it refuses.

        Torch itself goes through a decomposition in Python first, of a few milliseconds for a linear layer.
        """
        tensors = (t for a in (*args, *kwargs.values()) for t in (a if type(a) in (list, tuple) else [a]) if type(t) is FakeTensor)
        devices = {t.fake_device for t in tensors}
        given = kwargs.get("device")
        if len(devices) > 1 or (devices and given is not None):
            return None
        if not devices and not any(a.name == "device" for a in func._schema.arguments):
            return None
        device = next(iter(devices), given or torch.device("cpu"))
        if (small := made_of_ones(func, args, kwargs)) is not None:
            return FakeTensor(self, small, device)
        if is_like(func):
            return None
        try:
            with in_kernel_invocation_manager(self):
                made = func(*args, **(kwargs if devices else {**kwargs, "device": torch.device("meta")}))
        except Exception:  # noqa: BLE001 - torch's own way says it in its own words
            return None
        return FakeTensor(self, made, device) if type(made) is torch.Tensor else None

    def _told(self, func: Any, args: Any, result: Any) -> Sequence[_Made] | None:
        """How to make what an operation has made; None where the copy would not be the same."""
        if func._schema.is_mutable:
            return _SELF if result is args[0] else None
        tensors = [i for i, a in enumerate(args) if isinstance(a, torch.Tensor)]
        if func.is_view and len(tensors) != 1:
            return None
        found = []
        for out in result if type(result) in (tuple, list) else (result,):
            told = self._made_so(out, args, tensors)
            if told is None or (func.is_view and told.view_of is None):
                return None
            found.append(told)
        return (found if type(result) is list else tuple(found)) or None

    def _made_so(self, out: Any, args: Any, tensors: list[int]) -> _Made | None:
        if type(out) is not FakeTensor or out.constant is not None or out.layout is not torch.strided or out.is_complex():
            return None
        if out.requires_grad or any(out is a for a in args):
            return None
        attributes = {k: v for k, v in vars(out).items() if k != "fake_mode"}
        if any(v is not None for k, v in attributes.items() if not k.endswith("fake_device")):
            return None
        storage = out.untyped_storage()._cdata
        view_of = next((i for i in tensors if args[i].untyped_storage()._cdata == storage), None)
        told = _Made(tuple(out.shape), out.stride(), int(out.storage_offset()), out.dtype, out.fake_device, attributes, view_of)
        again = self._make(told, args)
        same = torch._C._dispatch_key_set(again) == torch._C._dispatch_key_set(out) and set(vars(again)) == set(vars(out))
        return told if same and again.storage_offset() == told.offset else None

    def _make(self, told: _Made, args: Any) -> FakeTensor:
        meta = torch.empty_strided(told.shape, told.stride, dtype=told.dtype, device="meta")
        if told.view_of is not None:
            meta.set_(args[told.view_of].untyped_storage(), told.offset, told.shape, told.stride)
        made: FakeTensor = torch.Tensor._make_subclass(FakeTensor, meta, False, dispatch_device=True, device_for_backend_keys=told.device)
        torch._C._set_throw_on_mutable_data_ptr(made)
        vars(made).update(told.attributes)
        made.fake_mode = self
        return made


def _is_plain(func: Any) -> bool:
    """Whether what an operation makes follows from the shapes, types and devices of its arguments, and is new, or a view of one."""
    known = _plain.get(func)
    if known is None:
        known = _plain[func] = _looks_plain(func)
    return known


def _looks_plain(func: Any) -> bool:
    if not isinstance(func, torch._ops.OpOverload) or func.namespace != "aten":
        return False
    if any(tag in func.tags for tag in _LEFT_ALONE) or func._schema.name in ("aten::lift", "aten::lift_fresh", "aten::as_strided"):
        return False
    returns = func._schema.returns
    if not returns or any(str(r.type) not in ("Tensor", "List[Tensor]") for r in returns):
        return False
    if func._schema.is_mutable:
        return len(returns) == 1 and _writes_its_first_argument(func._schema)
    aliases = [r for r in returns if r.alias_info is not None]
    if not func.is_view:
        return not aliases and (len(returns) == 1 or all(str(r.type) == "Tensor" for r in returns))
    name: str = func._schema.name + (f".{func._schema.overload_name}" if func._schema.overload_name else "")
    implicit = torch._C._dispatch_has_kernel_for_dispatch_key(name, torch._C.DispatchKey.CompositeImplicitAutograd)
    return len(returns) == 1 and not implicit


def _writes_its_first_argument(schema: Any) -> bool:
    """Whether it is an operation in place that changes values alone: `add_`, `normal_`."""
    first, *others = schema.arguments
    written = first.alias_info is not None and first.alias_info.is_write
    return written and str(first.type) == "Tensor" and not any(a.alias_info for a in others) and bool(schema.returns[0].alias_info)


@functools.cache
def _asks_a_kernel(func: Any) -> bool:
    """Whether torch has a kernel for shapes of an operation with one result, and no rule of its own for fake tensors beside it."""
    if _RULES is None or func._schema.is_mutable or len(func._schema.returns) > 1:
        return False
    if not torch._C._dispatch_has_computed_kernel_for_dispatch_key(func.name(), "Meta"):
        return False
    if is_like(func):
        return True
    rules = [rule for applies, rule in _RULES if applies(func)]
    return all(rule is constructors for rule in rules) and not any(a.name == "self" for a in func._schema.arguments if rules)


@functools.cache
def _kind_of_mode() -> type[FakeTensorMode]:
    """The quick mode where this torch has all that it relies on, else torch's own."""
    try:
        with _QuickFakeMode(allow_non_fake_inputs=True) as mode, lean_dynamo():
            made = [torch.empty(2, 3).t() + 1 for _ in range(2)]
        good = all(type(t) is FakeTensor and t.fake_mode is mode and t.shape == (3, 2) and t.device.type == "cpu" for t in made)
        return _QuickFakeMode if good and any(_made.values()) else FakeTensorMode
    except (AttributeError, TypeError, RuntimeError):
        return FakeTensorMode


def fake_mode() -> FakeTensorMode:
    """A mode in which new tensors have shape, dtype and device, and no storage; real tensors met are turned into fakes."""
    log = logging.getLogger("torch._subclasses.fake_tensor")  # it logs what it then raises
    if log.level <= logging.CRITICAL:
        log.setLevel(logging.CRITICAL + 1)  # which goes through all loggers
    return _kind_of_mode()(allow_non_fake_inputs=True)
