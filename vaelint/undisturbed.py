"""Leaves a process as it was found: for checks inside somebody's notebook or test."""

from __future__ import annotations

import os
import random
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch

from vaelint.loading.placeholder import PlaceholderModule
from vaelint.paths import user_file

_SWITCHES: tuple[tuple[Callable[[], Any], Callable[[Any], Any]], ...] = (
    (torch.get_default_dtype, torch.set_default_dtype),
    (torch.get_default_device, torch.set_default_device),
    (torch.is_grad_enabled, torch.set_grad_enabled),
    (torch.get_num_threads, torch.set_num_threads),
    (torch.is_anomaly_enabled, torch.autograd.set_detect_anomaly),
    (torch.get_deterministic_debug_mode, torch.set_deterministic_debug_mode),
    (torch.get_float32_matmul_precision, torch.set_float32_matmul_precision),
)


@contextmanager
def undisturbed() -> Iterator[None]:
    """Puts back, whatever happened inside: random states, torch's switches, Python's paths, and the user's modules.

    Library modules that were imported for the first time stay: torch does not bear being imported twice.
    """
    with ExitStack() as kept:
        kept.enter_context(torch.random.fork_rng(devices=_devices()))
        kept.callback(random.setstate, random.getstate())
        if (numpy := sys.modules.get("numpy")) is not None:
            kept.callback(numpy.random.set_state, numpy.random.get_state())
        for get, put in _SWITCHES:
            kept.callback(_put_back, get, put, get())
        kept.enter_context(warnings.catch_warnings())
        for place in (sys.path, sys.argv, sys.meta_path):
            kept.callback(_refill, place, list(place))
        kept.callback(setattr, sys, "dont_write_bytecode", sys.dont_write_bytecode)
        kept.callback(os.chdir, os.getcwd())  # noqa: PTH109
        kept.callback(_restore_environment, dict(os.environ))
        kept.callback(_restore_modules, dict(sys.modules))
        yield


def _devices() -> list[int]:
    started: bool = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    return list(range(torch.cuda.device_count())) if started else []


def _put_back(get: Callable[[], Any], put: Callable[[Any], Any], before: Any) -> None:
    """Only what has changed: setting the default device, even to what it is, is a change of its own."""
    if get() != before:
        put(before)


def _refill(place: list[Any], before: list[Any]) -> None:
    place[:] = before


def _restore_environment(before: dict[str, str]) -> None:
    if dict(os.environ) != before:
        os.environ.clear()
        os.environ.update(before)


def _restore_modules(before: dict[str, Any]) -> None:
    """Users' modules go, and those that were replaced come back."""
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
