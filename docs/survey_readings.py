"""Two readings of each finding: what both hold it to be, how far the readers agree, and the interval of a share."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

KINDS = ("true", "arguable", "false")
_Z = 1.959964  # of the normal distribution, for 95 %


def first(finding: dict[str, Any]) -> str:
    """The first reader's verdict; "arguable" where a later look of the same reader ended otherwise, "" where it was not read."""
    verdict: str = finding.get("verdict", "")
    return verdict if finding.get("again", "") in ("", verdict) else "arguable"


def second(finding: dict[str, Any]) -> str:
    """The verdict of the second reader, who did not see the first one's; "" where there is none."""
    return str(finding.get("second", ""))


def differ(finding: dict[str, Any]) -> bool:
    """Whether both have read it and hold it to be different things."""
    return second(finding) not in ("", first(finding))


def verdict(finding: dict[str, Any]) -> str:
    """What both readers hold it to be; "arguable" where they differ, "" where it was not read."""
    return "arguable" if differ(finding) else first(finding)


def crossed(findings: Iterable[dict[str, Any]]) -> Counter[tuple[str, str]]:
    """How often the first reader says one thing and the second another, of those that both have read."""
    return Counter((first(f), second(f)) for f in findings if first(f) and second(f))


def kappa(pairs: Counter[tuple[str, str]]) -> float:
    """How far two readers agree beyond chance (Cohen 1960, "A coefficient of agreement for nominal scales"); 1 where nothing varies."""
    of = pairs.total()
    rows, columns = (Counter[str](), Counter[str]())
    for (one, other), n in pairs.items():
        rows[one] += n
        columns[other] += n
    same = sum(n for (one, other), n in pairs.items() if one == other)
    chance = sum(rows[kind] * columns[kind] for kind in rows)
    return 1.0 if chance == of * of else (of * same - chance) / (of * of - chance)


def wilson(right: int, of: int) -> tuple[float, float]:
    """The 95 % interval of a share (Wilson 1927, "Probable inference, the law of succession, and statistical inference")."""
    if of == 0:
        return 0.0, 1.0
    share, spread = right / of, _Z * _Z / of
    middle = (share + spread / 2) / (1 + spread)
    half = _Z / (1 + spread) * math.sqrt(share * (1 - share) / of + spread / (4 * of))
    return max(0.0, middle - half), min(1.0, middle + half)


def share(right: int, of: int) -> str:
    """A share with its interval, in words."""
    low, high = wilson(right, of)
    return f"{right} of {of}, {100 * right / max(of, 1):.0f} % ({100 * low:.0f} % to {100 * high:.0f} %)"


def of_readings(findings: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What the page says of precision and agreement."""
    counts = Counter(verdict(f) for f in findings if verdict(f))
    pairs, read = crossed(findings), counts.total()
    low, high = wilson(counts["true"], read)
    return {
        "read": read,
        "true": counts["true"],
        "arguable": counts["arguable"],
        "false": counts["false"],
        "precision": f"{100 * counts['true'] / max(read, 1):.0f} %",
        "interval": f"{100 * low:.0f} % to {100 * high:.0f} %",
        "without": share(counts["true"], counts["true"] + counts["false"]),
        "by_first": share(sum(first(f) == "true" for f in findings), read),
        "by_second": share(sum(second(f) == "true" for f in findings), pairs.total()),
        "twice": pairs.total(),
        "same": sum(n for (one, other), n in pairs.items() if one == other),
        "differ": sum(map(differ, findings)),
        "kappa": f"{kappa(pairs):.2f}",
        "opposed": pairs["true", "false"] + pairs["false", "true"] or "none",
        "crossed": _table(pairs),
    }


def _table(pairs: Counter[tuple[str, str]]) -> str:
    head = "| first reader | second: true | second: arguable | second: false |\n|---|---|---|---|\n"
    return head + "".join(f"| {one} | {' | '.join(str(pairs[one, other]) for other in KINDS)} |\n" for one in KINDS)


def words(finding: dict[str, Any]) -> str:
    """The first reader's words where both agree, and both readers' where they differ."""
    said: str = finding.get("why", "")
    if not differ(finding):
        return said
    return f"First reader, {first(finding)}: {said} Second reader, {second(finding)}: {finding.get('second_why', '')}"
