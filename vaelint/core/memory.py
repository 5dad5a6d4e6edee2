"""Memory: how much there is, how much a target may take, and in words what it means that it ran out. Imports no torch."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

from vaelint.core.messages import message_of

NO_ROOM = "not even a small batch fits"
SMALLER = "try a smaller batch in --input"
LARGER = "raise the limit with --max-memory SIZE, or try a smaller batch in --input"
SIZE = r"(?=[0-9.]*[1-9])[0-9]+(\.[0-9]+)? ?([kKMGT]i?)?B?"
_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}
_LEAST = 10**9  # bytes of the default limit: what torch and a small model need, even where nothing is free
_UNBOUNDED = 1 << 62


def size_of(text: str) -> int | None:
    """Bytes of `4GB` or `512 MiB`; 0 for `none`; None for what is no size."""
    if text == "none":
        return 0
    match = re.fullmatch(SIZE, text)
    if match is None:
        return None
    number = re.match("[0-9.]+", text)
    assert number is not None
    return max(1, int(float(number[0]) * _UNITS[(match[2] or "").lower()]))


def limit_for(said: str | None) -> int:
    """Bytes that a target may take by `--max-memory`, 0 for no limit: half of what is free where nothing is said."""
    told = size_of(said) if said else None
    return told if told is not None else max(_LEAST, free_bytes() // 2)


def free_bytes() -> int:
    """Bytes that this process may have: of the machine, its container, and the limits set on itself."""
    found = [_meminfo()]
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        text = _text(path)
        if text.isdigit():
            used = _text(path.replace("memory.max", "memory.current").replace("memory.limit_in_bytes", "memory.usage_in_bytes"))
            found.append(int(text) - (int(used) if used.isdigit() else 0))
    return max(0, min(*found, *_left_by_limits()))


def bound_data(limit: int) -> None:
    """Lets this process take so many bytes more than it has: an allocation beyond fails where it is made.

    What counts is memory of its own to write to (RLIMIT_DATA), not addresses: files may be mapped, and drivers reserve, far more.
    """
    if sys.platform != "linux":
        return
    import resource

    _, data = _pages()
    hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
    most = data + limit
    resource.setrlimit(resource.RLIMIT_DATA, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))


def _left_by_limits() -> list[int]:
    """Bytes of addresses and of data that `ulimit` leaves to this process."""
    if sys.platform == "win32":
        return [_UNBOUNDED]
    import resource  # there is none on Windows

    used = zip((resource.RLIMIT_AS, resource.RLIMIT_DATA), _pages(), strict=True)
    limits = [(resource.getrlimit(kind)[0], taken) for kind, taken in used]
    return [_UNBOUNDED if limit == resource.RLIM_INFINITY else limit - taken for limit, taken in limits]


def _pages() -> tuple[int, int]:
    """Bytes of addresses, and of data and stack, that this process has."""
    fields = _text("/proc/self/statm").split()
    size = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096
    return (int(fields[0]) * size, int(fields[5]) * size) if len(fields) > 5 else (0, 0)


def _meminfo() -> int:
    for line in _text("/proc/meminfo").splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return _UNBOUNDED


def _text(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""


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
