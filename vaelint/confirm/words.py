"""What torch raises, in words: the cause, and what to do."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator

import torch

from vaelint.confirm.budget import free_memory, readable
from vaelint.confirm.of_batch import first_line


def is_memory(error: BaseException) -> bool:
    """Whether memory ran out, of the machine or of a device."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "DefaultCPUAllocator" in str(error)


def is_assertion(error: BaseException) -> bool:
    """Whether an assertion failed inside a kernel; the device answers this process no more."""
    return "device-side assert" in str(error)


def in_words(error: BaseException, device: str, estimated: int) -> str:
    """One sentence for an outcome of the real pass."""
    if is_memory(error):
        try:
            free = f", {readable(free_memory(device))} are free"
        except RuntimeError:
            free = ""
        who = "the GPU" if device.startswith("cuda") else "the machine"
        return f"{who} ran out of memory: estimated {readable(estimated)}{free}{_asked(error)}"
    if is_assertion(error):
        return (
            "an assertion failed on the GPU (device-side assert), which answers this process no more: an index out of range "
            "(an embedding, a class number), or a probability outside of [0, 1] in binary_cross_entropy"
        )
    return first_line(error)


def _asked(error: BaseException) -> str:
    """What the allocation that failed wanted, as torch's message tells it for the CPU (bytes) and for CUDA (MiB, GiB)."""
    plain, units = re.search(r"allocate (\d+) bytes", str(error)), re.search(r"allocate ([\d.]+ [KMG]iB)", str(error))
    return f", {readable(int(plain[1]))} were asked for at once" if plain else f", {units[1]} were asked for at once" if units else ""


@contextlib.contextmanager
def blocking_launches(device: str) -> Iterator[None]:
    """On CUDA, errors of kernels are raised by the call that made them and not by a later one. Must come before CUDA's first use."""
    name, kept = "CUDA_LAUNCH_BLOCKING", os.environ.get("CUDA_LAUNCH_BLOCKING")
    if device.startswith("cuda") and kept is None and not torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        os.environ[name] = "1"
    try:
        yield
    finally:
        if kept is None:
            os.environ.pop(name, None)


@contextlib.contextmanager
def steady_kernels(device: str) -> Iterator[None]:
    """On CUDA, convolutions by one algorithm that adds in one order: two runs that differ in nothing give the same then."""
    cudnn = torch.backends.cudnn
    kept = cudnn.deterministic, cudnn.benchmark
    if device.startswith("cuda"):
        cudnn.deterministic, cudnn.benchmark = True, False
    try:
        yield
    finally:
        cudnn.deterministic, cudnn.benchmark = kept
