"""A mode of its own for a check inside somebody's notebook or test, and the process left as it was found."""

from __future__ import annotations

import gc
import logging
import os
import random
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch

from vaelint.core.paths import user_file
from vaelint.loading.placeholder import PlaceholderModule
from vaelint.trace import torch_private
from vaelint.trace.torch_private import distributions_validate, hooks_of_all_modules, print_options

_BACKENDS = torch.backends
_PRECISIONS: tuple[Any, ...] = (
    _BACKENDS,
    _BACKENDS.cuda.matmul,
    _BACKENDS.cudnn,
    *(getattr(_BACKENDS.cudnn, name, None) for name in ("conv", "rnn")),
    _BACKENDS.mkldnn,
    *(getattr(_BACKENDS.mkldnn, name, None) for name in ("conv", "rnn", "matmul")),
)
"""What has an `fp32_precision`, the newer way to say what `set_float32_matmul_precision` and `allow_tf32` say."""

_SWITCHES: tuple[tuple[Callable[[], Any], Callable[[Any], Any]], ...] = (
    (torch.get_default_dtype, torch.set_default_dtype),
    (torch.get_default_device, torch.set_default_device),
    (torch.is_grad_enabled, torch.set_grad_enabled),
    (torch.get_num_threads, torch.set_num_threads),
    (torch.is_anomaly_enabled, torch.autograd.set_detect_anomaly),
    (torch.get_deterministic_debug_mode, torch.set_deterministic_debug_mode),
    (distributions_validate, torch.distributions.Distribution.set_default_validate_args),
    (torch.get_float32_matmul_precision, torch.set_float32_matmul_precision),
    *((partial(getattr, _BACKENDS.cudnn, k), partial(setattr, _BACKENDS.cudnn, k)) for k in ("benchmark", "deterministic", "enabled")),
    *((partial(getattr, owner, "allow_tf32"), partial(setattr, owner, "allow_tf32")) for owner in (_BACKENDS.cuda.matmul, _BACKENDS.cudnn)),
    *((partial(getattr, owner, "fp32_precision"), partial(setattr, owner, "fp32_precision")) for owner in _PRECISIONS),
)
"""How each is read and set. The precisions stand last, in this order: the older ways to set one set the newer as well."""

_OF_PYTHON = ("dont_write_bytecode", "excepthook", "displayhook", "stdin", "stdout", "stderr")


_TIMERS = (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL, signal.ITIMER_PROF) if hasattr(signal, "setitimer") else ()


@contextmanager
def _plain_torch() -> Iterator[None]:
    """Inside, gradients are taken, new tensors are on the CPU, and no mode or autocast of the caller's is in force.

    The default dtype stays the caller's: the model was written for it.
    """
    with torch_private.without_modes(), torch.inference_mode(False), torch.enable_grad(), ExitStack() as off:
        for device in ("cpu", "cuda"):
            if torch.is_autocast_enabled(device):
                off.enter_context(torch.autocast(device, enabled=False))
        yield


@contextmanager
def undisturbed() -> Iterator[None]:
    """Runs what is inside in a mode of its own, whatever the caller's is, and puts back afterwards: torch's modes and switches, random
    states, Python's paths, handlers of signals, and the user's modules.

    Library modules that were imported for the first time stay: torch does not bear being imported twice.
    """
    with ExitStack() as kept:
        kept.enter_context(_plain_torch())
        kept.callback(_put_handlers, {n: signal.getsignal(n) for n in signal.valid_signals()})
        kept.callback(_stop_timers, [timer for timer in _TIMERS if signal.getitimer(timer) == (0.0, 0.0)])
        kept.enter_context(torch.random.fork_rng(devices=_devices()))
        kept.callback(random.setstate, random.getstate())
        if (numpy := sys.modules.get("numpy")) is not None:
            kept.callback(numpy.random.set_state, numpy.random.get_state())
            kept.callback(partial(numpy.seterr, **numpy.geterr()))
        kept.callback(_put_switches, [_value(get) for get, _ in _SWITCHES])
        for hooks in (print_options(), *hooks_of_all_modules()):
            kept.callback(_refill_table, hooks, dict(hooks))
        kept.enter_context(warnings.catch_warnings())
        for place in (sys.path, sys.argv, sys.meta_path):
            kept.callback(_refill, place, list(place))
        for name in _OF_PYTHON:
            kept.callback(setattr, sys, name, getattr(sys, name))
        root = logging.getLogger()
        kept.callback(root.setLevel, root.level)
        kept.callback(_refill, root.handlers, list(root.handlers))
        kept.callback(sys.setrecursionlimit, sys.getrecursionlimit())
        kept.callback(gc.enable if gc.isenabled() else gc.disable)
        kept.callback(os.chdir, os.getcwd())  # noqa: PTH109
        kept.callback(_restore_environment, dict(os.environ))
        kept.callback(_restore_modules, dict(sys.modules))
        yield


def _devices() -> list[int]:
    started: bool = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    return list(range(torch.cuda.device_count())) if started else []


def _value(get: Callable[[], Any]) -> Any:
    """What a switch says; None where this torch has no such switch, or has been told two things of it, which it refuses to say."""
    try:
        return get()
    except (AttributeError, RuntimeError):
        return None


def _put_switches(before: list[Any]) -> None:
    """Only what has changed: setting the default device, even to what it is, is a change of its own."""
    for (get, put), value in zip(_SWITCHES, before, strict=True):
        if value is not None and _value(get) != value:
            put(value)


def _put_handlers(before: dict[int, Any]) -> None:
    """Those that have changed. Only the main thread can set one; one that was not set from Python cannot be put back."""
    if threading.current_thread() is threading.main_thread():
        for number, handler in before.items():
            if handler is not None and signal.getsignal(number) != handler:
                signal.signal(number, handler)


def _stop_timers(idle: list[int]) -> None:
    """An alarm that user code has set would ring in the caller's process."""
    for timer in idle:
        signal.setitimer(timer, 0)


def _refill_table(table: dict[Any, Any], before: dict[Any, Any]) -> None:
    if dict(table) != before:
        table.clear()
        table.update(before)


def _refill(place: list[Any], before: list[Any]) -> None:
    place[:] = before


def _restore_environment(before: dict[str, str]) -> None:
    if dict(os.environ) != before:
        os.environ.clear()
        os.environ.update(before)


def _restore_modules(before: dict[str, Any]) -> None:
    """Users' modules that came go, and those that were replaced or thrown out come back."""
    for name in before.keys() - sys.modules.keys():
        sys.modules[name] = before[name]
    for name, module in list(sys.modules.items()):
        old = before.get(name)
        if old is not None and module is not old:
            sys.modules[name] = old
        elif old is None and (isinstance(module, PlaceholderModule) or user_file(_place_of(module))):
            del sys.modules[name]


def _place_of(module: Any) -> str:
    file = getattr(module, "__file__", None)
    first = next(iter(getattr(module, "__path__", None) or ()), None)
    return str(file or first or "<none>")
