"""The hash by which GitHub's code scanning knows the line of an alert across commits: `primaryLocationLineHash`.

It must be the one that github/codeql-action computes itself (`src/fingerprints.ts`), or none: a different one is kept, and
every alert is then closed and opened anew when the uploader changes. It is a rolling hash over the first 100 characters from
the start of a line on, spaces and tabs left out: base 37 modulo 2^64, in hexadecimal, and which of the equal ones it is.
"""

from __future__ import annotations

WINDOW, BASE, MODULUS = 100, 37, 1 << 64
_END = 0xFFFF


def line_hashes(text: str) -> list[str]:
    """The hash of each line, the empty one after the last line end included. Line ends of any kind count as one character."""
    units, starts = _units(text)
    top = pow(BASE, WINDOW, MODULUS)
    padded = [*units, *[0] * WINDOW]
    value = 0
    at: dict[int, int] = {}
    wanted = set(starts)
    for i, unit in enumerate(padded):  # value after unit i covers the WINDOW units up to and with it
        value = (value * BASE + unit - (padded[i - WINDOW] * top if i >= WINDOW else 0)) % MODULUS
        if (first := i - WINDOW + 1) in wanted:
            at[first] = value
    seen: dict[int, int] = {}
    found = []
    for start in starts:
        seen[at[start]] = seen.get(at[start], 0) + 1
        found.append(f"{at[start]:x}:{seen[at[start]]}")
    return found


def _units(text: str) -> tuple[list[int], list[int]]:
    """The UTF-16 units that count, with an end mark, and the index of each line's first."""
    plain = text.replace("\r\n", "\n").replace("\r", "\n")
    units: list[int] = []
    starts: list[int] = []
    new = True
    data = plain.encode("utf-16-le", "surrogatepass")
    for i in range(0, len(data), 2):
        unit = data[i] | data[i + 1] << 8
        if unit in (0x20, 0x09):
            continue
        if new:
            starts.append(len(units))
        new = unit == 0x0A
        units.append(unit)
    if new:
        starts.append(len(units))
    return [*units, _END], starts
