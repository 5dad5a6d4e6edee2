"""What torch raises, in words: the cause, and what to do."""

from __future__ import annotations

import torch

from vaelint.confirm.budget import free_memory
from vaelint.core.memory import asked_for, ran_out, readable
from vaelint.core.messages import message_of
from vaelint.faults.batch.batch_experiments import first_line


def is_assertion(error: BaseException) -> bool:
    """Whether an assertion failed inside a kernel; the device answers this process no more."""
    return "device-side assert" in message_of(error)


def answers(device: str) -> bool:
    """Whether a device still does what this process asks of it: after an assertion in a kernel a GPU does not."""
    if not device.startswith("cuda") or not torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        return True
    try:
        torch.cuda.synchronize(device)
    except RuntimeError as error:
        return not is_assertion(error)
    return True


def in_words(error: BaseException, device: str, estimated: int) -> str:
    """One sentence for an outcome of the real pass."""
    if ran_out(error):
        try:
            free = f", {readable(free_memory(device))} are free"
        except RuntimeError:
            free = ""
        who = "the GPU" if device.startswith("cuda") else "the machine"
        return f"{who} ran out of memory: estimated {readable(estimated)}{free}{asked_for(error)}"
    if is_assertion(error):
        return (
            "an assertion failed on the GPU (device-side assert), which answers this process no more: an index out of range "
            "(an embedding, a class number), or a probability outside of [0, 1] in binary_cross_entropy"
        )
    return first_line(error)
