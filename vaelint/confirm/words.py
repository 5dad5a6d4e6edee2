"""What torch raises, in words: the cause, and what to do."""

from __future__ import annotations

import re

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
