"""One consistent set of dimension names: what each symbol and number of the trace is called in an annotation. Imports no torch."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

_NAMES = {
    "B": "batch", "D": "features", "F": "features", "L": "latent", "T": "time", "C": "channels", "H": "height", "W": "width",
    "K": "samples", "Lc": "latent_channels", "Lh": "latent_height", "Lw": "latent_width", "N": "nodes",
}  # fmt: skip
_KINDS = {"C": "channels", "H": "height", "W": "width", "Lc": "channels", "Lh": "height", "Lw": "width", "T": "time", "B": "batch"}
_MAPS = {3: ("channels", "length"), 4: ("channels", "height", "width"), 5: ("channels", "depth", "height", "width")}


class Names:
    """Hands out names: the same one for the same size in the same part, another one for anything else."""

    def __init__(self, symbols: Mapping[str, int]) -> None:
        """`symbols` are the sizes that the trace knows by a letter."""
        self._symbols = symbols
        self._given: dict[tuple[str, str], str] = {}

    def axes(self, calls: Sequence[Sequence[str]], maps: bool) -> str | None:
        """The axis string for the shapes that one value had at its calls; `...` where their number differs; None for no calls.

        Args:
            calls: the symbolic shape at each call.
            maps: whether axes after the batch are channels and places (of a convolution), not time and features.
        """
        if not calls:
            return None
        rank = len(calls[0])
        if any(len(c) != rank for c in calls):
            return "..."
        return " ".join(self._axis({c[i] for c in calls}, _kind(i, rank, calls[0], maps)) for i in range(rank))

    def _axis(self, texts: set[str], kind: str) -> str:
        if len(texts) != 1:
            return "_"  # of another size at each call: nothing that a name could stand for
        text = next(iter(texts))
        if text.isdigit():
            text = next((s for s, n in self._symbols.items() if str(n) == text and _kind_of(s) == kind), text)
        if text == "1":
            return "1"
        key = (text, "" if text in self._symbols else kind)
        if key not in self._given:
            self._given[key] = self._fresh(_wanted(text, kind))
        return self._given[key]

    def _fresh(self, wanted: str) -> str:
        taken = set(self._given.values())
        return next(n for i in range(1, len(taken) + 3) if (n := wanted if i == 1 else f"{wanted}_{i}") not in taken)


def _wanted(text: str, kind: str) -> str:
    base = re.sub(r"['\d]+$", "", text)
    if text in _NAMES or base in _NAMES:
        return _NAMES.get(text) or _NAMES[base]
    if text.isidentifier() and len(text) > 1:
        return text.lower()
    if "B" in text:
        return "rows"  # several for each sample
    return {"flat": "hidden"}.get(kind, kind)


def _kind_of(symbol: str) -> str:
    return _KINDS.get(symbol, "flat")


def _kind(position: int, rank: int, texts: Sequence[str], maps: bool) -> str:
    if position < next((i for i, t in enumerate(texts) if t == "B"), 0):
        return "samples"  # an axis before the batch: draws of one posterior, above all
    if maps and rank in _MAPS and position > 0:
        return _MAPS[rank][position - 1]
    return "time" if rank == 3 and position == 1 and "B" in texts[0] else "flat"
