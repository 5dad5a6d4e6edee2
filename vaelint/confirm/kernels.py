"""How CUDA computes during the real pass: errors where they happen, and sums that come out the same twice."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any

import torch


@contextlib.contextmanager
def blocking_launches(asked: str) -> Iterator[None]:
    """On CUDA, errors of kernels are raised by the call that made them and not by a later one. Must come before CUDA's first use.

    `asked` is the device as the user names it: "auto" may become CUDA.
    """
    name, kept = "CUDA_LAUNCH_BLOCKING", os.environ.get("CUDA_LAUNCH_BLOCKING")
    if asked.startswith(("auto", "cuda")) and kept is None and not torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        os.environ[name] = "1"
    try:
        yield
    finally:
        if kept is None:
            os.environ.pop(name, None)


@contextlib.contextmanager
def steady_kernels(device: str) -> Iterator[None]:
    """On CUDA, convolutions by one algorithm that adds in one order, and all products in float32.

    Two runs that differ in nothing give the same then. With TF32, torch's default for convolutions and recurrent layers, a row would
    change by a thousandth with the size of its batch (torch documentation, "CUDA semantics: TensorFloat-32").
    """
    cudnn = torch.backends.cudnn
    kept = cudnn.deterministic, cudnn.benchmark
    with _float32_products() if device.startswith("cuda") else contextlib.nullcontext():
        if device.startswith("cuda"):
            cudnn.deterministic, cudnn.benchmark = True, False
        try:
            yield
        finally:
            cudnn.deterministic, cudnn.benchmark = kept


@contextlib.contextmanager
def _float32_products() -> Iterator[None]:
    """No TF32. Torch has an old and a new set of switches for it, and refuses to read the old ones where the new ones say otherwise."""
    cudnn: Any = torch.backends.cudnn  # the type stubs know of half of the switches
    matmul: Any = torch.backends.cuda.matmul
    old = [(switch, value) for switch in (cudnn, matmul) if (value := _readable(switch)) is not None]
    precision = _matmul_precision()
    new = [(part, part.fp32_precision) for part in (cudnn.conv, cudnn.rnn, matmul)]
    torch.set_float32_matmul_precision("highest")
    cudnn.allow_tf32 = matmul.allow_tf32 = False
    for part, _ in new:
        if part.fp32_precision == "tf32":  # inherited from torch.backends.fp32_precision
            part.fp32_precision = "ieee"
    try:
        yield
    finally:
        if precision is not None:
            torch.set_float32_matmul_precision(precision)
        for switch, value in old:
            switch.allow_tf32 = value
        for part, value in new:
            part.fp32_precision = value


def _readable(switch: Any) -> bool | None:
    try:
        return bool(switch.allow_tf32)
    except RuntimeError:  # the new switches decide
        return None


def _matmul_precision() -> str | None:
    try:
        return torch.get_float32_matmul_precision()
    except RuntimeError:
        return None
