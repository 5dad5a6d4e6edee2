"""Out of memory, in words: whether it is what an error says, and how much was asked for. Imports no torch."""

from __future__ import annotations

import re

from vaelint.core.messages import message_of

SMALLER = "try a smaller batch in --input"


def ran_out(error: BaseException) -> bool:
    """Whether memory ran out, of the machine or of a device."""
    named = any(kind.__name__ == "OutOfMemoryError" for kind in type(error).__mro__)  # torch's, which is not imported here
    return named or isinstance(error, MemoryError) or "DefaultCPUAllocator" in message_of(error)


def asked_for(error: BaseException) -> str:
    """What the allocation that failed wanted, as torch's message tells it for the CPU (bytes) and for CUDA (MiB, GiB)."""
    text = message_of(error)
    plain, units = re.search(r"allocate (\d+) bytes", text), re.search(r"allocate ([\d.]+ [KMG]iB)", text)
    return f", {readable(int(plain[1]))} were asked for at once" if plain else f", {units[1]} were asked for at once" if units else ""


def readable(count: int | float) -> str:
    """`3.2 MB`."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"
